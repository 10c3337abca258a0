/* SPDX-License-Identifier: Apache-2.0 */
#include "models/chat/chat.h"

#include <errno.h>
#include <stdlib.h>

#include "models/chat/eval.h"
#include "octarc/error.h"

int chat_template_create(struct chat_template **out, const char *source, size_t n,
                         struct err *err) {
    if (n > CHAT_SOURCE_MAX)
        return err_set(err, -E2BIG, "a chat template of %zu bytes, at most %u are read", n,
                       CHAT_SOURCE_MAX);
    struct chat_template *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(err, -ENOMEM, "no memory for the chat template");
    const int rc = template_parse(t, source, n, err);
    if (rc) {
        free(t);
        return rc;
    }
    t->form = reply_form_of(source, n);
    *out = t;
    return 0;
}

struct reply_form chat_template_form(const struct chat_template *t) {
    return t->form;
}

void chat_template_destroy(struct chat_template *t) {
    if (!t)
        return;
    template_free_nodes(t->all);
    free(t);
}

int chat_template_render(const struct chat_template *t, struct chat_value *globals, char **text,
                         size_t *n, struct err *err) {
    struct text out = {0};
    struct scope scope = {.names = chat_dict()};
    struct eval e = {
        .err = err, .scope = &scope, .latest = &scope, .globals = globals, .out = &out};
    if (!scope.names || !globals || globals->kind != V_DICT)
        e.rc = -ENOMEM;
    if (!e.rc)
        eval_body(&e, t->root);
    text_add(&e, &out, "", 0);
    chat_value_unref(scope.names);
    if (!e.rc && !out.bytes && !(out.bytes = calloc(1, 1)))
        e.rc = -ENOMEM;
    if (e.rc) {
        free(out.bytes);
        return e.rc == -ENOMEM ? err_set(err, e.rc, "no memory to render the chat template") : e.rc;
    }
    *text = out.bytes;
    *n = out.n;
    return 0;
}
