/* SPDX-License-Identifier: Apache-2.0 */
/* The answers of /completion, in llama-server's shape. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/protocol/generate.h"
#include "models/tokenizer/tokenizer.h"

static void llama_token(struct generation *g, struct choice *choice,
                        const struct request_token *token) {
    struct writer w = {.out = &choice->entries, .comma = choice->entries.n > 0};
    write_open(&w, '{');
    write_key_int(&w, "id", token->token);
    write_piece(&w, g, token->token);
    write_key_number(&w, "logprob", token->logprob);
    write_key(&w, "top_logprobs");
    write_open(&w, '[');
    for (uint32_t i = 0; i < token->n_top; i++) {
        write_open(&w, '{');
        write_key_int(&w, "id", token->top[i].token);
        write_piece(&w, g, token->top[i].token);
        write_key_number(&w, "logprob", token->top[i].logprob);
        write_close(&w, '}');
    }
    write_close(&w, ']');
    write_close(&w, '}');
    g->no_memory |= w.rc != 0;
}

static void write_settings(const struct generation *g, struct writer *w) {
    const struct params *p = &g->params;
    write_key(w, "generation_settings");
    write_open(w, '{');
    write_key_int(w, "n_predict", p->max_tokens);
    write_key_int(w, "max_tokens", p->max_tokens);
    write_key(w, "seed");
    if (p->seed <= 1ull << 53) {
        write_int(w, (int64_t)p->seed);
    } else { /* as it was sent: a string */
        char text[24];
        snprintf(text, sizeof text, "%llu", (unsigned long long)p->seed);
        write_string(w, text);
    }
    write_key_number(w, "temperature", p->temperature);
    write_key_int(w, "top_k", p->top_k);
    write_key_number(w, "top_p", p->top_p);
    write_key_number(w, "min_p", p->min_p);
    write_key_int(w, "min_keep", p->min_keep);
    write_key_number(w, "repeat_penalty", p->repeat_penalty);
    write_key_int(w, "repeat_last_n", p->repeat_last_n);
    write_key_number(w, "presence_penalty", p->presence_penalty);
    write_key_number(w, "frequency_penalty", p->frequency_penalty);
    write_key(w, "stop");
    write_open(w, '[');
    for (uint32_t i = 0; i < p->n_stops; i++)
        write_string(w, p->stops[i]);
    write_close(w, ']');
    write_key_bool(w, "ignore_eos", p->ignore_eos);
    write_key_bool(w, "stream", p->stream);
    write_key_int(w, "n_probs", p->n_logprobs);
    write_key(w, "logit_bias");
    write_open(w, '[');
    for (uint32_t i = 0; i < p->n_bias; i++) {
        write_open(w, '[');
        write_int(w, p->bias[i].token);
        if (isfinite(p->bias[i].bias))
            write_number(w, p->bias[i].bias);
        else
            write_bool(w, false);
        write_close(w, ']');
    }
    write_close(w, ']');
    write_close(w, '}');
}

static void write_prompt(const struct generation *g, const struct prompt *prompt,
                         struct writer *w) {
    char *text;
    size_t n;
    write_key(w, "prompt");
    if (tokenizer_decode(g->model.tokenizer, prompt->ids, prompt->n, true, &text, &n, NULL)) {
        write_string(w, NULL);
        return;
    }
    write_text(w, text, n);
    free(text);
}

/* What every piece of a stream and a whole answer begin with. */
static void write_front(const struct generation *g, const struct choice *choice, bool stop,
                        struct writer *w) {
    const bool stream = g->params.stream;
    write_open(w, '{');
    write_key_int(w, "index", choice->index);
    write_key(w, "content");
    write_text(w, choice->text.bytes, choice->text.n);
    write_key(w, "tokens");
    write_open(w, '[');
    if (g->params.return_tokens || (stream && !stop))
        write_raw(w, choice->tokens.bytes ? choice->tokens.bytes : "", choice->tokens.n);
    write_close(w, ']');
    write_key_int(w, "id_slot", choice->index);
    write_key_bool(w, "stop", stop);
    write_key_int(w, "tokens_predicted", choice->n_tokens);
    write_key_int(w, "tokens_evaluated", (int64_t)choice->run->prompt->n);
    if (g->params.n_logprobs > 0 && (choice->entries.n || !stream)) {
        write_key(w, "completion_probabilities");
        write_open(w, '[');
        write_raw(w, choice->entries.bytes ? choice->entries.bytes : "", choice->entries.n);
        write_close(w, ']');
    }
}

static void write_whole(const struct generation *g, const struct choice *choice, struct writer *w) {
    static const char *const types[] = {
        [FINISH_STOP] = "eos", [FINISH_WORD] = "word", [FINISH_LENGTH] = "limit"};
    const char *type = choice->end.finish <= FINISH_LENGTH ? types[choice->end.finish] : NULL;
    write_front(g, choice, true, w);
    write_key_string(w, "model", g->model_id);
    write_settings(g, w);
    write_prompt(g, choice->run->prompt, w);
    write_key_bool(w, "has_new_line", choice->newline);
    write_key_bool(w, "truncated", choice->end.truncated);
    write_key_string(w, "stop_type", type ? type : "none");
    write_key_string(w, "stopping_word", choice->stop_word);
    write_key_int(w, "tokens_cached", choice->end.usage.cached_tokens);
    write_timings(w, g);
    write_close(w, '}');
}

static void llama_chunk(struct generation *g, struct choice *choice, bool last, struct writer *w) {
    if (last) {
        write_whole(g, choice, w);
        return;
    }
    write_front(g, choice, false, w);
    write_close(w, '}');
}

static void llama_whole(struct generation *g, struct writer *w) {
    const uint32_t n = (uint32_t)g->set.n * (uint32_t)g->params.n;
    const bool list = g->set.list || n > 1;
    if (list)
        write_open(w, '[');
    for (uint32_t i = 0; i < n; i++)
        write_whole(g, generation_choice(g, i), w);
    if (list)
        write_close(w, ']');
}

const struct shape llama_shape = {
    .kind = "completion",
    .id_prefix = "cmpl-",
    .done_line = false,
    .token = llama_token,
    .chunk = llama_chunk,
    .whole = llama_whole,
};
