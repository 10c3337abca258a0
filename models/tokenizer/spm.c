/* SPDX-License-Identifier: Apache-2.0 */
#include "models/tokenizer/spm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/util/utf8.h"

#define SPACE "\xe2\x96\x81" /* U+2581 */

/* The higher the score, the earlier a pair is joined. */
static bool score_rank(const void *user, const char *text, size_t begin, size_t left, size_t right,
                       float *rank) {
    const struct vocab *v = user;
    const int32_t id = vocab_find(v, text + begin, left + right);
    if (id == NO_TOKEN)
        return false;
    *rank = -v->tokens[id].score;
    return true;
}

static char *escape(const char *text, size_t n, bool prefix, size_t *escaped_n) {
    char *out = malloc(3 * n + 4);
    size_t at = 0;
    if (!out)
        return NULL;
    if (prefix) {
        memcpy(out, SPACE, 3);
        at = 3;
    }
    for (size_t i = 0; i < n; i++) {
        if (text[i] == ' ') {
            memcpy(out + at, SPACE, 3);
            at += 3;
        } else {
            out[at++] = text[i];
        }
    }
    *escaped_n = at;
    return out;
}

static int add_symbol(const struct vocab *v, const char *p, size_t n, int32_t unknown,
                      struct ids *ids) {
    const int32_t id = vocab_find(v, p, n);
    int rc = 0;
    if (id != NO_TOKEN)
        return ids_add(ids, id);
    for (size_t i = 0; i < n && !rc; i++) {
        const int32_t byte = v->byte_token[(unsigned char)p[i]];
        if (byte == NO_TOKEN)
            return unknown == NO_TOKEN ? 0 : ids_add(ids, unknown);
        rc = ids_add(ids, byte);
    }
    return rc;
}

int spm_encode(const struct vocab *v, struct merger *m, const char *text, size_t n, bool prefix,
               int32_t unknown, struct ids *ids) {
    size_t escaped_n;
    char *escaped = escape(text, n, prefix, &escaped_n);
    int rc = escaped ? 0 : -ENOMEM;
    merger_clear(m);
    for (size_t i = 0; !rc && i < escaped_n;) {
        const size_t length = utf8_length(escaped + i, escaped_n - i);
        const size_t used = length > 0 ? length : 1;
        rc = merger_add(m, i, used);
        i += used;
    }
    if (!rc)
        rc = merger_run(m, escaped, score_rank, v);
    for (int32_t i = m->n ? 0 : -1; i >= 0 && !rc; i = m->symbols[i].next)
        rc = add_symbol(v, escaped + m->symbols[i].begin, m->symbols[i].n, unknown, ids);
    free(escaped);
    return rc;
}
