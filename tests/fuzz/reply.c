/* SPDX-License-Identifier: Apache-2.0 */
/* Any text as a reply of any family: in pieces it is what it is whole, and no byte comes from
 * nowhere.  The first byte chooses the form, the second the size of the pieces. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "models/chat/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct said {
    struct buffer text, reasoning, calls;
};

static void check(bool holds) {
    if (!holds)
        abort();
}

static void on_text(void *user, enum reply_part part, const char *bytes, size_t n) {
    struct said *s = user;
    check(n > 0);
    check(!buffer_append(part == REPLY_REASONING ? &s->reasoning : &s->text, bytes, n));
}

static void on_call(void *user, const struct tool_call *call) {
    struct said *s = user;
    const char *begin;
    size_t length;
    check(calls_name(call->name, call->n_name));
    check(calls_arguments(call->arguments, call->n_arguments, &begin, &length));
    check(begin == call->arguments && length == call->n_arguments);
    check(!buffer_append(&s->calls, call->name, call->n_name));
    check(!buffer_append(&s->calls, call->arguments, call->n_arguments));
}

static bool knows(void *user, const struct tool_call *call) {
    (void)user;
    return call->n_name == 1;
}

static unsigned types(void *user, const struct tool_call *call, const char *key, size_t n) {
    (void)user, (void)call;
    return n ? (unsigned char)*key : 0; /* any mask */
}

static const struct reply_events events = {on_text, on_call, knows, types};

static void take_apart(struct said *s, uint8_t form, const char *text, size_t n, size_t size) {
    struct reply r;
    const struct reply_form f = {(enum reply_kind)(form % REPLY_KINDS), form & 64};
    reply_init(&r, f, form & 128, form & 32 && form & 64, &events, s);
    for (size_t at = 0; at < n; at += size)
        reply_push(&r, text + at, n - at < size ? n - at : size);
    reply_end(&r);
    check(!r.rc);
    reply_finish(&r);
}

static bool same(const struct buffer *a, const struct buffer *b) {
    return a->n == b->n && (!a->n || !memcmp(a->bytes, b->bytes, a->n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct said whole = {0}, pieces = {0};
    if (n < 2)
        return 0;
    const char *text = (const char *)data + 2;
    n -= 2;
    take_apart(&whole, data[0], text, n, n ? n : 1);
    take_apart(&pieces, data[0], text, n, data[1] % 16 + 1);
    check(same(&whole.text, &pieces.text) && same(&whole.reasoning, &pieces.reasoning));
    check(same(&whole.calls, &pieces.calls));
    check(whole.text.n + whole.reasoning.n <= n);
    check(data[0] & 192 || data[0] % REPLY_KINDS == REPLY_HARMONY || whole.text.n == n);
    buffer_finish(&whole.text), buffer_finish(&whole.reasoning), buffer_finish(&whole.calls);
    buffer_finish(&pieces.text), buffer_finish(&pieces.reasoning), buffer_finish(&pieces.calls);
    return 0;
}
