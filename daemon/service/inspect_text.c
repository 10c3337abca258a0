/* SPDX-License-Identifier: Apache-2.0 */
/* A model file for people: what it needs, its tensors by type, its metadata, its chat template. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/service/inspect.h"
#include "daemon/service/whatif.h"
#include "models/shown.h"
#include "octarc/model.h"

#define VALUE_TEXT 72 /* columns of a value */
#define SHORT_LIST 4

/* A list of strings shows a few; the text of each is cut. */
static void value_text(char *out, size_t size, const struct gguf_value *value) {
    char text[VALUE_TEXT - 8];
    switch (value->type) {
    case GGUF_STRING:
        shown_text(text, sizeof text, value->string.bytes, value->string.n);
        snprintf(out, size, "%s%s", text, value->string.n >= sizeof text ? "…" : "");
        break;
    case GGUF_BOOL:
        snprintf(out, size, "%s", value->yes ? "true" : "false");
        break;
    case GGUF_F32:
    case GGUF_F64:
        snprintf(out, size, "%.9g", value->f);
        break;
    case GGUF_U64:
        snprintf(out, size, "%" PRIu64, value->u);
        break;
    default:
        snprintf(out, size, "%" PRId64, value->i);
    }
}

static int say_field(struct buffer *out, const struct gguf *gguf, size_t i) {
    struct gguf_field field;
    struct gguf_value value;
    char text[VALUE_TEXT + 8];
    gguf_field(gguf, i, &field);
    const uint64_t n = field.count > INSPECT_ELEMENTS_MAX ? SHORT_LIST : field.count;
    int rc = buffer_printf(out, "  %.*s = %s", (int)field.name.n, field.name.bytes,
                           field.is_array ? "[" : "");
    for (uint64_t at = 0; at < n && !rc; at++) {
        gguf_field_value(gguf, i, at, &value);
        value_text(text, sizeof text, &value);
        const char *quote = field.is_array && value.type == GGUF_STRING ? "'" : "";
        rc = buffer_printf(out, "%s%s%s%s", at ? ", " : "", quote, text, quote);
    }
    if (!rc && n < field.count)
        rc = buffer_printf(out, ", … %" PRIu64 " in all", field.count);
    return rc ? rc : buffer_printf(out, "%s\n", field.is_array ? "]" : "");
}

static int say_types(struct buffer *out, const struct inspection *in) {
    char size[16];
    int rc = buffer_printf(out, "\nTYPE    TENSORS        VALUES       SIZE\n");
    for (size_t i = 0; i < in->n_types && !rc; i++)
        rc = buffer_printf(out, "%-7s %7" PRIu64 " %13" PRIu64 " %10s\n",
                           tensor_type_info(in->types[i].type)->name, in->types[i].n_tensors,
                           in->types[i].n_values, whatif_size(size, in->types[i].bytes));
    return rc;
}

static int say_needs(struct buffer *out, const struct inspection *in) {
    char least[16], full[16];
    int rc = buffer_printf(out,
                           "\nmemory of each card, for contexts of %u tokens, KV %s; LEAST: for "
                           "one, FULL: for %u at once\n"
                           "CARDS  SPLIT        LEAST       FULL\n",
                           in->context, kv_type_name(in->kv_type), in->max_sequences);
    for (uint32_t n = 1; n <= CARDS_MAX && !rc; n++) {
        const struct inspect_need *need = &in->needs[n - 1];
        if (need->least_bytes)
            rc = buffer_printf(out, "%5u  %-7s %10s %10s\n", n, plan_split_name(need->split),
                               whatif_size(least, need->least_bytes),
                               whatif_size(full, need->full_bytes));
    }
    return rc;
}

/* Line ends and tabs stay. */
static int say_template(struct buffer *out, const struct gguf_string *text) {
    int rc = buffer_printf(out, "\nchat template:\n");
    for (size_t at = 0; at < text->n && !rc;) {
        size_t n = 0;
        char piece[256];
        while (at + n < text->n && n < sizeof piece / 2 && text->bytes[at + n] != '\n' &&
               text->bytes[at + n] != '\t')
            n++;
        while (n > 1 && at + n < text->n && ((unsigned char)text->bytes[at + n] & 0xc0) == 0x80)
            n--; /* no character is cut */
        shown_text(piece, sizeof piece, text->bytes + at, n);
        at += n;
        rc = buffer_append(out, piece, strlen(piece));
        if (!rc && at < text->n && (text->bytes[at] == '\n' || text->bytes[at] == '\t'))
            rc = buffer_append(out, &text->bytes[at++], 1);
    }
    return rc ? rc : buffer_append(out, "\n", 1);
}

static int say_chat(struct buffer *out, const struct inspection *in) {
    if (in->chat.n == 0)
        return buffer_printf(out, "chat template: none\n");
    return buffer_printf(
        out, "chat template: %zu bytes, %s%s\n", in->chat.n,
        in->chat_served ? "usable" : "NOT usable: ", in->chat_served ? "" : in->why_chat.text);
}

int inspect_text(const struct inspection *in, struct buffer *out) {
    char size[16];
    int rc = buffer_printf(out, "%s: %s, %zu tensors", gguf_name(in->gguf),
                           whatif_size(size, gguf_file_bytes(in->gguf)), gguf_n_tensors(in->gguf));
    if (!rc && gguf_n_parts(in->gguf) > 1)
        rc = buffer_printf(out, " in %u parts", gguf_n_parts(in->gguf));
    if (!rc)
        rc = buffer_append(out, "\n", 1);
    if (!rc)
        rc = buffer_printf(out, "served here: %s%s\n",
                           in->served ? "yes" : "NO: ", in->served ? "" : in->why.text);
    if (!rc && in->n_vocab)
        rc = buffer_printf(out, "vocabulary: %u tokens\n", in->n_vocab);
    if (!rc)
        rc = say_chat(out, in);
    if (!rc && in->served)
        rc = say_needs(out, in);
    if (!rc)
        rc = say_types(out, in);
    if (!rc)
        rc = buffer_printf(out, "\nmetadata:\n");
    for (size_t i = 0; i < gguf_n_fields(in->gguf) && !rc; i++)
        rc = say_field(out, in->gguf, i);
    return !rc && in->chat.n ? say_template(out, &in->chat) : rc;
}
