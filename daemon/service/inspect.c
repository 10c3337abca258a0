/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/inspect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/placement/topology.h"
#include "daemon/service/box.h"
#include "models/chat/chat.h"
#include "models/tokenizer/tokenizer.h"

#define CARD_BYTES_MAX (UINT64_C(1) << 42) /* more than any card has */
#define NEED_STEP      (UINT64_C(1) << 20) /* how exactly the least is told */

static void count_types(struct inspection *in) {
    for (size_t i = 0; i < gguf_n_tensors(in->gguf); i++) {
        const struct gguf_tensor *t = gguf_tensor(in->gguf, i);
        size_t k = 0;
        while (k < in->n_types && in->types[k].type != t->type)
            k++;
        if (k == sizeof in->types / sizeof *in->types)
            continue; /* the format has fewer */
        in->n_types += k == in->n_types;
        in->types[k].type = t->type;
        in->types[k].n_tensors++;
        in->types[k].n_values += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
        in->types[k].bytes += t->bytes;
    }
}

static void read_chat(struct inspection *in) {
    struct chat_template *chat = NULL;
    if (!gguf_has(in->gguf, "tokenizer.chat_template"))
        return;
    int rc = gguf_string(in->gguf, "tokenizer.chat_template", &in->chat, &in->why_chat);
    if (rc == 0)
        rc = chat_template_create(&chat, in->chat.bytes, in->chat.n, &in->why_chat);
    in->chat_served = rc == 0;
    chat_template_destroy(chat);
}

/* --- what is needed --- */

/* The pages of K and V there are where each card has `bytes`; 0: it does not fit. */
static uint32_t pages_with(const struct plan_input *base, uint32_t n_cards, uint64_t bytes,
                           enum split *split) {
    struct topology box;
    struct plan_input input = *base;
    struct plan plan = {0};
    uint64_t capacities[CARDS_MAX];
    for (uint32_t i = 0; i < n_cards; i++)
        capacities[i] = bytes;
    topology_plain(&box, n_cards, capacities, 0);
    input.n_cards = n_cards;
    input.topology = &box;
    for (uint32_t i = 0; i < n_cards; i++) {
        input.online[i] = true;
        input.capacity_bytes[i] = bytes;
    }
    if (plan_build(&plan, &input, NULL))
        return 0;
    *split = plan.split;
    const uint32_t n_pages = plan.n_pages;
    plan_finish(&plan);
    return n_pages;
}

/* The least memory of each card that gives so many pages; 0: none does. */
static uint64_t least_with(const struct plan_input *base, uint32_t n_cards, uint32_t n_pages,
                           enum split *split) {
    uint64_t low = 0, high = CARD_BYTES_MAX;
    enum split of;
    if (n_pages == 0 || pages_with(base, n_cards, high, split) < n_pages)
        return 0;
    while (high - low > NEED_STEP) {
        const uint64_t middle = low + (high - low) / 2;
        if (pages_with(base, n_cards, middle, &of) >= n_pages) {
            high = middle;
            *split = of;
        } else {
            low = middle;
        }
    }
    return high;
}

static int find_needs(struct inspection *in, const struct model *model, const struct config *config,
                      struct err *err) {
    struct topology one;
    struct plan_input input;
    struct plan plan = {0};
    topology_plain(&one, 1, &(uint64_t){CARD_BYTES_MAX}, 0);
    box_plan_input(config, device_backend("cpu"), &one, model, &input);
    input.host_spill = 0;
    input.places = NULL;
    const int rc = plan_build(&plan, &input, err);
    if (rc < 0)
        return rc;
    in->context = plan.context;
    in->max_sequences = plan.max_sequences;
    in->kv_type = plan.kv_type;
    const uint32_t n_pages = plan.n_pages;
    plan_finish(&plan);
    for (uint32_t n = 1; n <= CARDS_MAX; n++) {
        struct inspect_need *need = &in->needs[n - 1];
        enum split split;
        need->full_bytes = least_with(&input, n, n_pages, &split);
        need->least_bytes = least_with(&input, n, 1, &need->split);
    }
    return 0;
}

/* As a service would open it, one step after the other, until one refuses. */
static void try_serving(struct inspection *in, const struct config *config) {
    struct tokenizer *tokenizer = NULL;
    struct model model = {0};
    struct err err;
    if (tokenizer_create(&tokenizer, in->gguf, &err) == 0)
        in->n_vocab = tokenizer_n_vocab(tokenizer);
    int rc = model_read(&model, in->gguf, &in->why);
    if (rc == 0 && !tokenizer)
        rc = err_set(&in->why, -EINVAL, "%s", err.text);
    if (rc == 0 && in->n_vocab > model.params.n_vocab)
        rc = err_set(&in->why, -EINVAL, "the tokenizer has %u tokens, the embedding %u rows",
                     in->n_vocab, model.params.n_vocab);
    if (rc == 0)
        rc = find_needs(in, &model, config, &in->why);
    in->served = rc == 0;
    tokenizer_destroy(tokenizer);
    model_finish(&model);
}

static int print_all(const struct buffer *out) {
    if (fwrite(out->bytes, 1, out->n, stdout) == out->n && fflush(stdout) == 0)
        return 0;
    fprintf(stderr, "octarcd: cannot write: %s\n", strerror(errno));
    return 1;
}

int inspect_run(const struct options *options, const struct config *config) {
    struct gguf *gguf = NULL;
    struct buffer out = {0};
    struct err err;
    if (gguf_open_path(&gguf, options->inspect, &err) < 0) {
        fprintf(stderr, "octarcd: %s\n", err.text);
        return 1;
    }
    struct inspection in = {.gguf = gguf};
    count_types(&in);
    read_chat(&in);
    try_serving(&in, config);
    int status = 1;
    if ((options->json ? inspect_json : inspect_text)(&in, &out) < 0)
        fprintf(stderr, "octarcd: no memory to show the model\n");
    else
        status = print_all(&out);
    buffer_finish(&out);
    gguf_close(gguf);
    return status;
}
