/* SPDX-License-Identifier: Apache-2.0 */
/* A model file for scripts: one object on one line. */
#include <stdlib.h>
#include <string.h>

#include "daemon/protocol/plan.h"
#include "daemon/protocol/writer.h"
#include "daemon/service/inspect.h"
#include "octarc/model.h"

static void write_value(struct writer *w, const struct gguf_value *value) {
    switch (value->type) {
    case GGUF_STRING:
        write_text(w, value->string.bytes, value->string.n);
        break;
    case GGUF_BOOL:
        write_bool(w, value->yes);
        break;
    case GGUF_F32:
    case GGUF_F64:
        write_number(w, value->f);
        break;
    case GGUF_U64: /* what a reader of JSON holds exactly */
        value->u < UINT64_C(1) << 53 ? write_int(w, value->i) : write_number(w, (double)value->u);
        break;
    default:
        write_int(w, value->i);
    }
}

/* A long list is told by its length. */
static void write_field(struct writer *w, const struct gguf *gguf, size_t i) {
    struct gguf_field field;
    struct gguf_value value;
    gguf_field(gguf, i, &field);
    char *key = strndup(field.name.bytes, field.name.n);
    if (!key)
        w->rc = -1;
    write_key(w, key ? key : "");
    free(key);
    if (field.is_array && field.count > INSPECT_ELEMENTS_MAX) {
        write_open(w, '{');
        write_key_int(w, "elements", (int64_t)field.count);
        write_close(w, '}');
        return;
    }
    if (field.is_array)
        write_open(w, '[');
    for (uint64_t at = 0; at < field.count; at++) {
        gguf_field_value(gguf, i, at, &value);
        write_value(w, &value);
    }
    if (field.is_array)
        write_close(w, ']');
}

static void write_tensor(struct writer *w, const struct gguf_tensor *t) {
    write_open(w, '{');
    write_key_string(w, "name", t->name);
    write_key_string(w, "type", tensor_type_info(t->type)->name);
    write_key(w, "shape");
    write_open(w, '[');
    for (uint32_t d = t->n_dims; d-- > 0;)
        write_int(w, (int64_t)t->ne[d]);
    write_close(w, ']');
    write_key_int(w, "part", t->part + 1);
    write_key_int(w, "offset", (int64_t)t->offset);
    write_key_int(w, "bytes", (int64_t)t->bytes);
    write_close(w, '}');
}

static void write_types(struct writer *w, const struct inspection *in) {
    write_key(w, "types");
    write_open(w, '[');
    for (size_t i = 0; i < in->n_types; i++) {
        write_open(w, '{');
        write_key_string(w, "type", tensor_type_info(in->types[i].type)->name);
        write_key_int(w, "tensors", (int64_t)in->types[i].n_tensors);
        write_key_int(w, "values", (int64_t)in->types[i].n_values);
        write_key_int(w, "bytes", (int64_t)in->types[i].bytes);
        write_close(w, '}');
    }
    write_close(w, ']');
}

static void write_needs(struct writer *w, const struct inspection *in) {
    write_key_int(w, "context", in->context);
    write_key_int(w, "max_sequences", in->max_sequences);
    write_key_string(w, "kv_type", kv_type_name(in->kv_type));
    write_key(w, "needs");
    write_open(w, '[');
    for (uint32_t n = 1; n <= CARDS_MAX; n++) {
        const struct inspect_need *need = &in->needs[n - 1];
        if (!need->least_bytes)
            continue;
        write_open(w, '{');
        write_key_int(w, "cards", n);
        write_key_string(w, "split", plan_split_name(need->split));
        write_key_int(w, "least_bytes", (int64_t)need->least_bytes);
        write_key_int(w, "full_bytes", (int64_t)need->full_bytes);
        write_close(w, '}');
    }
    write_close(w, ']');
}

int inspect_json(const struct inspection *in, struct buffer *out) {
    struct writer w = {.out = out};
    write_open(&w, '{');
    write_key_string(&w, "file", gguf_name(in->gguf));
    write_key_int(&w, "bytes", (int64_t)gguf_file_bytes(in->gguf));
    write_key_int(&w, "parts", gguf_n_parts(in->gguf));
    write_key_bool(&w, "served", in->served);
    write_key_string(&w, "reason", in->served ? NULL : in->why.text);
    if (in->served)
        write_needs(&w, in);
    write_key(&w, "metadata");
    write_open(&w, '{');
    for (size_t i = 0; i < gguf_n_fields(in->gguf); i++)
        write_field(&w, in->gguf, i);
    write_close(&w, '}');
    write_types(&w, in);
    write_key(&w, "tensors");
    write_open(&w, '[');
    for (size_t i = 0; i < gguf_n_tensors(in->gguf); i++)
        write_tensor(&w, gguf_tensor(in->gguf, i));
    write_close(&w, ']');
    write_key_bool(&w, "chat_template_served", in->chat_served);
    write_key_string(&w, "chat_template_reason",
                     in->chat.n && !in->chat_served ? in->why_chat.text : NULL);
    write_close(&w, '}');
    return w.rc ? w.rc : buffer_append(out, "\n", 1);
}
