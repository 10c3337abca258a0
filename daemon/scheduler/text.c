/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/scheduler/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "models/tokenizer/tokenizer.h"

void text_init(struct text *text, const struct tokenizer *tokenizer, const struct text_stops *stops,
               bool special) {
    *text = (struct text){.tokenizer = tokenizer, .stops = stops, .special = special};
}

static void drop_tokens(struct text *text, uint32_t begin, uint32_t end) {
    for (uint32_t i = begin; i < end; i++) {
        text->top_bytes -= text->tokens[i].n_top * sizeof *text->tokens[i].top;
        free((void *)text->tokens[i].top);
    }
    if (end > begin)
        memmove(text->tokens + begin, text->tokens + end,
                (text->n_tokens - end) * sizeof *text->tokens);
    text->n_tokens -= end - begin;
}

void text_finish(struct text *text) {
    drop_tokens(text, 0, text->n_tokens);
    free(text->tokens);
    buffer_finish(&text->bytes);
    *text = (struct text){0};
}

static int keep_token(struct text *text, const struct msg_token *msg) {
    const size_t top_bytes = msg->n_top * sizeof *msg->top;
    if (top_bytes > TEXT_TOP_BYTES_MAX - text->top_bytes)
        return -EMSGSIZE;
    if (text->n_tokens == text->tokens_capacity) {
        const uint32_t more = text->tokens_capacity ? 2 * text->tokens_capacity : 8;
        struct request_token *grown = realloc(text->tokens, more * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        text->tokens = grown;
        text->tokens_capacity = more;
    }
    struct token_logprob *top = NULL;
    if (top_bytes > 0) {
        top = malloc(top_bytes);
        if (!top)
            return -ENOMEM;
        memcpy(top, msg->top, top_bytes);
    }
    text->top_bytes += top_bytes;
    text->tokens[text->n_tokens++] = (struct request_token){
        .token = msg->token,
        .logprob = msg->logprob,
        .top = top,
        .n_top = msg->n_top,
        .text_offset = (uint32_t)(text->n_taken + text->bytes.n),
    };
    return 0;
}

/* Does stop string i end just before byte `end`? */
static bool ends_at(const struct text *text, uint32_t i, size_t end) {
    const size_t n = text->stops->lengths[i];
    return n <= end - text->n_final &&
           !memcmp(text->bytes.bytes + end - n, text->stops->strings[i], n);
}

/* The first place from byte `from` on where a stop string is complete; cuts there. */
static void find_stop(struct text *text, size_t from) {
    for (size_t end = from + 1; end <= text->bytes.n; end++) {
        size_t longest = 0;
        for (uint32_t i = 0; i < text->stops->n; i++)
            if (text->stops->lengths[i] > longest && ends_at(text, i, end)) {
                longest = text->stops->lengths[i];
                text->stop = i;
            }
        if (longest > 0) {
            text->stopped = true;
            text->bytes.n = end - longest;
            return;
        }
    }
}

/* Bytes at the end that may be the front of a stop string. */
static size_t held_bytes(const struct text *text) {
    size_t n = text->bytes.n - text->n_final;
    if (text->stops->longest == 0)
        return 0;
    if (n > text->stops->longest - 1)
        n = text->stops->longest - 1;
    for (; n > 0; n--)
        for (uint32_t i = 0; i < text->stops->n; i++)
            if (text->stops->lengths[i] > n &&
                !memcmp(text->bytes.bytes + text->bytes.n - n, text->stops->strings[i], n))
                return n;
    return 0;
}

/* A token goes out with the first byte of its text; one without text with what is before it.  Of a
 * stop string, and of what comes after it, nothing goes out. */
static void settle_tokens(struct text *text, bool all) {
    const uint64_t final = text->n_taken + text->n_final;
    const bool waits = text->n_final < text->bytes.n || text->utf8.n > 0;
    if (text->stopped) {
        uint32_t keep = text->n_tokens;
        while (keep > 0 && text->tokens[keep - 1].text_offset >= final)
            keep--;
        drop_tokens(text, keep, text->n_tokens);
        text->tokens_final = keep;
        return;
    }
    if (all || !waits) {
        text->tokens_final = text->n_tokens;
        return;
    }
    while (text->tokens_final < text->n_tokens &&
           text->tokens[text->tokens_final].text_offset < final)
        text->tokens_final++;
}

static void settle(struct text *text, size_t from, bool all) {
    find_stop(text, from);
    text->n_final = text->bytes.n - (text->stopped || all ? 0 : held_bytes(text));
    settle_tokens(text, all);
}

int text_push(struct text *text, const struct msg_token *msg) {
    const char *piece;
    size_t n;
    int rc = tokenizer_piece(text->tokenizer, msg->token, text->special, &piece, &n);
    if (rc < 0)
        return rc;
    rc = buffer_reserve(&text->bytes, utf8_stream_room(n));
    if (rc < 0)
        return rc;
    rc = keep_token(text, msg);
    if (rc < 0)
        return rc;
    const size_t from = text->bytes.n;
    text->bytes.n += utf8_stream_push(&text->utf8, piece, n, text->bytes.bytes + from);
    settle(text, from, false);
    return 0;
}

int text_end(struct text *text) {
    if (text->stopped)
        return 0;
    const int rc = buffer_reserve(&text->bytes, utf8_stream_room(0));
    if (rc < 0)
        return rc;
    const size_t from = text->bytes.n;
    text->bytes.n += utf8_stream_finish(&text->utf8, text->bytes.bytes + from);
    settle(text, from, true);
    return 0;
}

void text_take(struct text *text) {
    text->n_taken += text->n_final;
    buffer_drop(&text->bytes, text->n_final);
    text->n_final = 0;
    drop_tokens(text, 0, text->tokens_final);
    text->tokens_final = 0;
}
