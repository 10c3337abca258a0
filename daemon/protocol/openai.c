/* SPDX-License-Identifier: Apache-2.0 */
/* The answers of /v1/completions and /v1/chat/completions. */
#include <stdio.h>
#include <string.h>

#include "daemon/protocol/generate.h"
#include "daemon/util/utf8.h"
#include "models/tokenizer/tokenizer.h"

static const char *finish_reason(const struct choice *choice) {
    if (choice->n_calls && choice->end.finish != FINISH_LENGTH)
        return "tool_calls";
    return choice->end.finish == FINISH_LENGTH ? "length" : "stop";
}

static void write_head(const struct generation *g, struct writer *w, const char *object) {
    write_open(w, '{');
    write_key_string(w, "id", g->call->id);
    write_key_string(w, "object", object);
    write_key_int(w, "created", (int64_t)g->created);
    write_key_string(w, "model", g->model_id);
    write_key_string(w, "system_fingerprint", "b" OCTARC_VERSION);
}

static void write_usage(const struct generation *g, struct writer *w) {
    struct request_usage usage;
    generation_usage(g, &usage);
    write_key(w, "usage");
    write_open(w, '{');
    write_key_int(w, "prompt_tokens", usage.prompt_tokens);
    write_key_int(w, "completion_tokens", usage.completion_tokens);
    write_key_int(w, "total_tokens", (int64_t)usage.prompt_tokens + usage.completion_tokens);
    write_key(w, "prompt_tokens_details");
    write_open(w, '{');
    write_key_int(w, "cached_tokens", usage.cached_tokens);
    write_close(w, '}');
    write_close(w, '}');
    write_timings(w, g);
}

/* The last chunk of a stream that asked for it: no choices, the counts. */
static void send_usage(struct generation *g, const char *object) {
    struct buffer json = {0};
    struct writer w = {.out = &json};
    if (!g->params.include_usage)
        return;
    write_head(g, &w, object);
    write_key(&w, "choices");
    write_open(&w, '[');
    write_close(&w, ']');
    write_usage(g, &w);
    write_close(&w, '}');
    generation_send(g, &json, w.rc);
}

static void write_list(struct writer *w, const char *key, const struct buffer *items) {
    write_key(w, key);
    write_open(w, '[');
    write_raw(w, items->n ? items->bytes : "", items->n);
    write_close(w, ']');
}

/* Completions name a token by its text; one that is not whole UTF-8 by its bytes, so that two of
 * them stay two. */
static void write_name(struct writer *w, const struct generation *g, int32_t token) {
    const char *bytes = "";
    size_t n = 0;
    char escaped[6 + 4 * 64 + 1];
    tokenizer_piece(g->model.tokenizer, token, true, &bytes, &n);
    if (utf8_valid(bytes, n)) {
        write_text(w, bytes, n);
        return;
    }
    size_t at = (size_t)snprintf(escaped, sizeof escaped, "bytes:");
    for (size_t i = 0; i < n && i < 64; i++)
        at +=
            (size_t)snprintf(escaped + at, sizeof escaped - at, "\\x%02x", (unsigned char)bytes[i]);
    write_text(w, escaped, at);
}

static bool same_name(const struct generation *g, int32_t a, int32_t b) {
    const char *text_a = "", *text_b = "";
    size_t n_a = 0, n_b = 0;
    tokenizer_piece(g->model.tokenizer, a, true, &text_a, &n_a);
    tokenizer_piece(g->model.tokenizer, b, true, &text_b, &n_b);
    return n_a == n_b && !memcmp(text_a, text_b, n_a);
}

/* {"text": logprob, …}: the most likely ones, and the token itself where it is not of them. */
static void write_tops(struct writer *w, const struct generation *g,
                       const struct request_token *token) {
    bool own = false;
    write_open(w, '{');
    for (uint32_t i = 0; i < token->n_top; i++) {
        bool again = false; /* two tokens may spell the same; a key stands once */
        for (uint32_t k = 0; k < i && !again; k++)
            again = same_name(g, token->top[k].token, token->top[i].token);
        own |= same_name(g, token->top[i].token, token->token);
        if (again)
            continue;
        write_name(w, g, token->top[i].token);
        buffer_append(w->out, ": ", 2);
        w->comma = false;
        write_number(w, token->top[i].logprob);
    }
    if (!own) {
        write_name(w, g, token->token);
        buffer_append(w->out, ": ", 2);
        w->comma = false;
        write_number(w, token->logprob);
    }
    write_close(w, '}');
}

static uint32_t characters(const char *bytes, size_t n) {
    uint32_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)bytes[i] & 0xC0) != 0x80;
    return count;
}

static void completion_token(struct generation *g, struct choice *choice,
                             const struct request_token *token) {
    struct writer name = {.out = &choice->entries, .comma = choice->entries.n > 0};
    struct writer own = {.out = &choice->logprobs, .comma = choice->logprobs.n > 0};
    struct writer top = {.out = &choice->tops, .comma = choice->tops.n > 0};
    struct writer offset = {.out = &choice->offsets, .comma = choice->offsets.n > 0};
    /* Nothing precedes the first token of a prompt, so it has no probability. */
    const bool first = g->params.echo && choice->n_prompt_done == 0;
    const char *bytes = "";
    size_t n = 0;
    tokenizer_piece(g->model.tokenizer, token->token, true, &bytes, &n);
    write_name(&name, g, token->token);
    write_int(&offset, choice->chars);
    choice->chars += characters(bytes, n);
    if (first) {
        write_string(&own, NULL);
        write_string(&top, NULL);
    } else {
        write_number(&own, token->logprob);
        write_tops(&top, g, token);
    }
    g->no_memory |= name.rc || own.rc || top.rc || offset.rc;
}

static void write_completion_choice(const struct generation *g, const struct choice *choice,
                                    bool ended, struct writer *w) {
    write_open(w, '{');
    write_key_int(w, "index", choice->index);
    write_key(w, "text");
    write_text(w, choice->text.bytes, choice->text.n);
    write_key(w, "logprobs");
    if (g->params.logprobs && (choice->entries.n || !g->params.stream)) {
        write_open(w, '{');
        write_list(w, "tokens", &choice->entries);
        write_list(w, "token_logprobs", &choice->logprobs);
        write_list(w, "top_logprobs", &choice->tops);
        write_list(w, "text_offset", &choice->offsets);
        write_close(w, '}');
    } else {
        write_string(w, NULL);
    }
    write_key_string(w, "finish_reason", ended ? finish_reason(choice) : NULL);
    write_close(w, '}');
}

static void completion_chunk(struct generation *g, struct choice *choice, bool last,
                             struct writer *w) {
    write_head(g, w, "text_completion");
    write_key(w, "choices");
    write_open(w, '[');
    write_completion_choice(g, choice, last, w);
    write_close(w, ']');
    write_close(w, '}');
}

static void completion_finish(struct generation *g) {
    send_usage(g, "text_completion");
}

static void completion_whole(struct generation *g, struct writer *w) {
    write_head(g, w, "text_completion");
    write_key(w, "choices");
    write_open(w, '[');
    for (uint32_t i = 0; i < g->set.n * (uint32_t)g->params.n; i++)
        write_completion_choice(g, generation_choice(g, i), true, w);
    write_close(w, ']');
    write_usage(g, w);
    write_close(w, '}');
}

const struct shape completion_shape = {
    .kind = "completion",
    .id_prefix = "cmpl-",
    .done_line = true,
    .token = completion_token,
    .chunk = completion_chunk,
    .finish = completion_finish,
    .whole = completion_whole,
};

static void chat_token(struct generation *g, struct choice *choice,
                       const struct request_token *token) {
    struct writer w = {.out = &choice->entries, .comma = choice->entries.n > 0};
    write_open(&w, '{');
    write_piece(&w, g, token->token);
    write_key_number(&w, "logprob", token->logprob);
    write_key(&w, "top_logprobs");
    write_open(&w, '[');
    for (uint32_t i = 0; i < token->n_top; i++) {
        write_open(&w, '{');
        write_piece(&w, g, token->top[i].token);
        write_key_number(&w, "logprob", token->top[i].logprob);
        write_close(&w, '}');
    }
    write_close(&w, ']');
    write_close(&w, '}');
    g->no_memory |= w.rc != 0;
}

static void write_chat_logprobs(const struct generation *g, const struct choice *choice,
                                struct writer *w) {
    write_key(w, "logprobs");
    if (g->params.logprobs && (choice->entries.n || !g->params.stream)) {
        write_open(w, '{');
        write_list(w, "content", &choice->entries);
        write_key_string(w, "refusal", NULL);
        write_close(w, '}');
    } else {
        write_string(w, NULL);
    }
}

static void write_member(struct writer *w, const char *key, const struct buffer *text) {
    if (text->n) {
        write_key(w, key);
        write_text(w, text->bytes, text->n);
    }
}

/* What there is of it. */
static void write_said(const struct choice *choice, struct writer *w) {
    write_member(w, "reasoning_content", &choice->reasoning);
    write_member(w, "content", &choice->text);
    if (choice->calls.n)
        write_list(w, "tool_calls", &choice->calls);
}

static void write_delta(const struct generation *g, const struct choice *choice, const char *role,
                        bool last, struct writer *w) {
    write_head(g, w, "chat.completion.chunk");
    write_key(w, "choices");
    write_open(w, '[');
    write_open(w, '{');
    write_key_int(w, "index", choice->index);
    write_key(w, "delta");
    write_open(w, '{');
    if (role)
        write_key_string(w, "role", role);
    if (!role)
        write_said(choice, w);
    write_close(w, '}');
    write_chat_logprobs(g, choice, w);
    write_key_string(w, "finish_reason", last ? finish_reason(choice) : NULL);
    write_close(w, '}');
    write_close(w, ']');
    write_close(w, '}');
}

static void chat_begin(struct generation *g, struct choice *choice) {
    struct buffer json = {0};
    struct writer w = {.out = &json};
    write_delta(g, choice, "assistant", false, &w);
    generation_send(g, &json, w.rc);
}

static void chat_chunk(struct generation *g, struct choice *choice, bool last, struct writer *w) {
    write_delta(g, choice, NULL, last, w);
}

static void chat_finish(struct generation *g) {
    send_usage(g, "chat.completion.chunk");
}

static void chat_whole(struct generation *g, struct writer *w) {
    write_head(g, w, "chat.completion");
    write_key(w, "choices");
    write_open(w, '[');
    for (uint32_t i = 0; i < (uint32_t)g->params.n; i++) {
        const struct choice *choice = generation_choice(g, i);
        write_open(w, '{');
        write_key_int(w, "index", choice->index);
        write_key(w, "message");
        write_open(w, '{');
        write_key_string(w, "role", "assistant");
        if (!choice->text.n && choice->calls.n)
            write_key_string(w, "content", NULL);
        else if (!choice->text.n)
            write_key_string(w, "content", "");
        write_said(choice, w);
        write_key_string(w, "refusal", NULL);
        write_close(w, '}');
        write_chat_logprobs(g, choice, w);
        write_key_string(w, "finish_reason", finish_reason(choice));
        write_close(w, '}');
    }
    write_close(w, ']');
    write_usage(g, w);
    write_close(w, '}');
}

const struct shape chat_shape = {
    .kind = "chat",
    .id_prefix = "chatcmpl-",
    .done_line = true,
    .begin = chat_begin,
    .token = chat_token,
    .chunk = chat_chunk,
    .finish = chat_finish,
    .whole = chat_whole,
};
