/* SPDX-License-Identifier: Apache-2.0 */
/* fake_model.h - a tokenizer whose tokens are bytes and a chat format of one line a message, in the
 * place of the real ones.  Include it in one file of a program; it defines tokenizer_* and chat_*.
 */
#ifndef OCTARC_TESTS_FAKE_MODEL_H
#define OCTARC_TESTS_FAKE_MODEL_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/util/buffer.h"
#include "models/chat/chat.h"
#include "models/tokenizer/tokenizer.h"
#include "octarc/error.h"
#include "octarc/model.h"

#define FAKE_VOCAB 260
#define FAKE_EOS   257

struct tokenizer {
    char bytes[256];
    bool spm;
};
static struct tokenizer fake_tokenizer;

uint32_t tokenizer_n_vocab(const struct tokenizer *t) {
    (void)t;
    return FAKE_VOCAB;
}

bool tokenizer_is_byte_level(const struct tokenizer *t) {
    return !t->spm;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, unsigned flags,
                     int32_t **ids, size_t *n_ids, struct err *err) {
    (void)t;
    (void)flags;
    int32_t *made = malloc((n + 1) * sizeof *made);
    if (!made)
        return err_set(err, -ENOMEM, "no memory");
    for (size_t i = 0; i < n; i++)
        made[i] = (unsigned char)text[i];
    *ids = made;
    *n_ids = n;
    return 0;
}

int tokenizer_piece(const struct tokenizer *t, int32_t id, bool control, const char **bytes,
                    size_t *n) {
    if (id < 0 || id >= FAKE_VOCAB)
        return -EINVAL;
    *bytes = id < 256 ? &t->bytes[id] : control ? "<s>" : "";
    *n = id < 256 ? 1 : control ? 3 : 0;
    return 0;
}

int tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n_ids, bool control,
                     char **text, size_t *n, struct err *err) {
    struct buffer out = {0};
    (void)err;
    for (size_t i = 0; i < n_ids; i++) {
        const char *bytes;
        size_t length;
        if (tokenizer_piece(t, ids[i], control, &bytes, &length))
            return -EINVAL;
        buffer_append(&out, bytes, length);
    }
    buffer_append(&out, "", 1);
    *text = out.bytes;
    *n = out.n - 1;
    return 0;
}

/* Template values: enough for "role: content\n" of each message. */
struct chat_value {
    char *text;
    size_t n;
    struct chat_member {
        char *key;
        struct chat_value *value;
    } * members;
    size_t n_members;
};

static struct chat_value *fake_value(const char *bytes, size_t n) {
    struct chat_value *value = calloc(1, sizeof *value);
    value->text = malloc(n + 1);
    memcpy(value->text, bytes, n);
    value->text[n] = 0;
    value->n = n;
    return value;
}
struct chat_value *chat_none(void) {
    return fake_value("none", 4);
}
struct chat_value *chat_bool(bool value) {
    return fake_value(value ? "true" : "", value ? 4 : 0);
}
struct chat_value *chat_int(int64_t value) {
    (void)value;
    return fake_value("int", 3);
}
struct chat_value *chat_float(double value) {
    (void)value;
    return fake_value("float", 5);
}
struct chat_value *chat_string(const char *bytes, size_t n) {
    return fake_value(bytes, n);
}
struct chat_value *chat_list(void) {
    return fake_value("", 0);
}
struct chat_value *chat_dict(void) {
    return fake_value("", 0);
}
struct chat_value *chat_set(struct chat_value *dict, const char *key, struct chat_value *item) {
    dict->members = realloc(dict->members, (dict->n_members + 1) * sizeof *dict->members);
    dict->members[dict->n_members++] = (struct chat_member){strdup(key), item};
    return dict;
}
struct chat_value *chat_append(struct chat_value *list, struct chat_value *item) {
    return chat_set(list, "", item);
}
void chat_value_unref(struct chat_value *value) {
    for (size_t i = 0; value && i < value->n_members; i++) {
        free(value->members[i].key);
        chat_value_unref(value->members[i].value);
    }
    if (value) {
        free(value->members);
        free(value->text);
    }
    free(value);
}
static struct chat_value *fake_get(struct chat_value *dict, const char *key) {
    static struct chat_value none = {.text = (char *)"?", .n = 1};
    for (size_t i = 0; i < dict->n_members; i++)
        if (!strcmp(dict->members[i].key, key))
            return dict->members[i].value;
    return &none;
}
/* Of what the template would say. */
static struct reply_form fake_form = {REPLY_TAGGED, true};

struct reply_form chat_template_form(const struct chat_template *tmpl) {
    (void)tmpl;
    return fake_form;
}
int chat_template_render(const struct chat_template *tmpl, struct chat_value *globals, char **text,
                         size_t *n, struct err *err) {
    struct chat_value *messages = fake_get(globals, "messages");
    struct buffer out = {0};
    (void)tmpl;
    for (size_t i = 0; i < messages->n_members; i++) {
        struct chat_value *message = messages->members[i].value;
        const struct chat_value *content = fake_get(message, "content");
        if (!strcmp(fake_get(message, "role")->text, "raise")) {
            buffer_finish(&out);
            return err_set(err, -EINVAL, "line 1: roles must alternate");
        }
        const struct chat_value *thinking = fake_get(message, "thinking");
        if (strcmp(thinking->text, "?") != 0)
            buffer_printf(&out, "(%s)", thinking->text);
        buffer_append(&out, content->text, content->n);
        buffer_printf(&out, "|%s\n", fake_get(message, "role")->text);
    }
    if (fake_get(globals, "tools")->n_members)
        buffer_printf(&out, "%zu tools\n", fake_get(globals, "tools")->n_members);
    if (strcmp(fake_get(globals, "reasoning_effort")->text, "?") != 0)
        buffer_printf(&out, "effort %s\n", fake_get(globals, "reasoning_effort")->text);
    buffer_printf(&out, "%s", fake_get(globals, "add_generation_prompt")->n ? "assistant:" : "");
    buffer_append(&out, "", 1);
    *text = out.bytes;
    *n = out.n - 1;
    return 0;
}

#endif
