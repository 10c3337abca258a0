/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/whatif.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/service/box.h"
#include "models/gguf.h"
#include "octarc/error.h"

#define EXIT_USAGE 2

static int read_model(struct model *model, const char *path, struct err *err) {
    struct gguf *gguf = NULL;
    int rc = gguf_open_path(&gguf, path, err);
    if (rc == 0)
        rc = model_read(model, gguf, err);
    gguf_close(gguf);
    return rc;
}

/* Take away the cards that are to be thought away. */
static int take_away(const struct options *options, struct plan_input *in, struct err *err) {
    for (uint32_t i = 0; i < in->n_cards; i++)
        in->online[i] = !(options->without >> i & 1);
    if (options->without >> in->n_cards)
        return err_set(err, -EINVAL, "--without %d: there are cards 0 to %u",
                       31 - __builtin_clz(options->without), in->n_cards - 1);
    return 0;
}

static int print_all(const struct buffer *out) {
    if (fwrite(out->bytes, 1, out->n, stdout) == out->n && fflush(stdout) == 0)
        return 0;
    fprintf(stderr, "octarcd: cannot write: %s\n", strerror(errno));
    return 1;
}

static int show(const struct options *options, const struct plan_view *view) {
    struct buffer out = {0};
    struct writer w = {.out = &out};
    int rc = 0;
    if (options->svg)
        rc = whatif_svg(view, &out);
    else if (!options->json)
        rc = whatif_text(view, &out);
    else
        write_plan(&w, view);
    if (rc == 0 && w.rc == 0 && options->json)
        rc = buffer_append(&out, "\n", 1);
    if (rc < 0 || w.rc < 0)
        fprintf(stderr, "octarcd: no memory to show the plan\n");
    const int status = rc < 0 || w.rc < 0 ? 1 : print_all(&out);
    buffer_finish(&out);
    return status;
}

/* Scripts read one object, whatever comes of it. */
static int refuse(const struct options *options, int rc, const struct err *err) {
    struct buffer out = {0};
    struct writer w = {.out = &out};
    fprintf(stderr, "octarcd: %s\n", err->text);
    if (options->json && rc == -ENOSPC) {
        write_open(&w, '{');
        write_key_bool(&w, "fits", false);
        write_key_string(&w, "reason", err->text);
        write_close(&w, '}');
        if (buffer_append(&out, "\n", 1) == 0 && w.rc == 0)
            print_all(&out);
    }
    buffer_finish(&out);
    return 1;
}

int whatif_run(const struct options *options, const struct config *config,
               const struct topology *topology) {
    struct model model = {0};
    struct plan_input in;
    struct plan plan = {0};
    struct prediction prediction;
    struct err err = {{0}};
    int rc = read_model(&model, options->plan, &err);
    if (rc < 0)
        return refuse(options, rc, &err);
    box_plan_input(config, device_backend("cpu"), topology, &model, &in);
    rc = take_away(options, &in, &err);
    const bool usage = rc < 0;
    if (rc == 0)
        rc = plan_build(&plan, &in, &err);
    if (rc == 0 && predict(&prediction, &plan, &model, topology) < 0)
        rc = err_set(&err, -ENOMEM, "no memory to predict the plan's speed");
    const struct plan_view view = {&model, &plan, topology, &prediction};
    const int status = rc == 0 ? show(options, &view) : refuse(options, rc, &err);
    plan_finish(&plan);
    model_finish(&model);
    return usage ? EXIT_USAGE : status;
}
