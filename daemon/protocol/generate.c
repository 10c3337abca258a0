/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/protocol/generate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "models/tokenizer/tokenizer.h"
#include "octarc/error.h"

static void choice_finish(struct choice *choice) {
    struct buffer *buffers[] = {&choice->text,     &choice->tokens, &choice->entries,
                                &choice->logprobs, &choice->tops,   &choice->offsets};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        buffer_finish(buffers[i]);
    said_finish(choice);
}

static size_t choice_bytes(const struct choice *choice) {
    return choice->text.n + choice->tokens.n + choice->entries.n + choice->logprobs.n +
           choice->tops.n + choice->offsets.n + choice->reasoning.n + choice->calls.n;
}

static bool has_news(const struct choice *choice) {
    return choice->text.n || choice->reasoning.n || choice->calls.n;
}

static void generation_destroy(struct generation *g) {
    for (size_t r = 0; g->runs && r < g->set.n; r++) {
        if (g->runs[r].request)
            request_abandon(g->runs[r].request);
        for (int64_t c = 0; g->runs[r].choices && c < g->params.n; c++)
            choice_finish(&g->runs[r].choices[c]);
        free(g->runs[r].choices);
    }
    free(g->runs);
    prompt_set_finish(&g->set);
    params_finish(&g->params);
    json_finish(&g->doc);
    free(g->model_id);
    free(g);
}

void generation_bury(struct protocol *protocol) {
    while (protocol->dead) {
        struct generation *g = protocol->dead;
        protocol->dead = g->next_dead;
        generation_destroy(g);
    }
}

/* The call has ended or is gone. */
static void generation_end(struct generation *g) {
    g->call = NULL;
    if (g->away)
        return; /* its thread still reads it */
    g->next_dead = g->protocol->dead;
    g->protocol->dead = g;
}

static void generation_fail(struct generation *g, const struct failure *failure) {
    struct call *call = g->call;
    generation_end(g);
    call_fail(call, failure);
}

static void on_abandon(struct call *call) {
    generation_end(call->work);
}

static void on_cancel(struct call *call) {
    struct failure failure;
    failure_set(&failure, ERROR_CANCELLED, NULL, "the request was cancelled");
    generation_fail(call->work, &failure);
}

void generation_send(struct generation *g, struct buffer *json, int rc) {
    if (rc)
        g->no_memory = true;
    else
        call_chunk(g->call, json);
    buffer_finish(json);
}

struct choice *generation_choice(struct generation *g, uint32_t index) {
    const uint32_t n = (uint32_t)g->params.n;
    return &g->runs[index / n].choices[index % n];
}

static void send_chunk(struct generation *g, struct choice *choice, bool last) {
    struct buffer json = {0};
    struct writer w = {.out = &json};
    g->shape->chunk(g, choice, last, &w);
    generation_send(g, &json, w.rc);
    choice->text.n = choice->tokens.n = choice->entries.n = 0;
    choice->logprobs.n = choice->tops.n = choice->offsets.n = 0;
    choice->reasoning.n = choice->calls.n = 0;
}

/* Whether the answer is whole so far and not too big; else it fails. */
static bool check_answer(struct generation *g) {
    struct failure failure;
    if (g->no_memory)
        failure_set(&failure, ERROR_FAILED, NULL, "no memory for the answer");
    else if (!g->params.stream && g->bytes > REPLY_BYTES_MAX)
        failure_set(&failure, ERROR_TOO_BIG, NULL,
                    "the answer has more than %u bytes; stream it, or ask for fewer "
                    "log-probabilities",
                    REPLY_BYTES_MAX);
    else
        return true;
    generation_fail(g, &failure);
    return false;
}

static void on_prompt(void *user, uint32_t index, const struct msg_prompt *prompt) {
    struct run *run = user;
    struct generation *g = run->generation;
    struct choice *choice = &run->choices[index];
    if (!g->call)
        return;
    const size_t before = choice_bytes(choice);
    for (uint32_t i = 0; i < prompt->n; i++) {
        const uint32_t at = prompt->first + i;
        /* After a replay the beginning may come again. */
        if (at != choice->n_prompt_done || at >= run->prompt->n)
            continue;
        const struct request_token token = {.token = run->prompt->ids[at],
                                            .logprob = prompt->logprobs[i],
                                            .top = prompt->top + (size_t)i * prompt->n_top,
                                            .n_top = prompt->n_top};
        g->shape->token(g, choice, &token);
        choice->n_prompt_done++;
    }
    g->bytes += choice_bytes(choice) - before;
    check_answer(g);
}

static void on_text(void *user, uint32_t index, const char *text, size_t n,
                    const struct request_token *tokens, uint32_t n_tokens) {
    struct run *run = user;
    struct generation *g = run->generation;
    struct choice *choice = &run->choices[index];
    if (!g->call)
        return;
    const size_t before = choice_bytes(choice);
    for (uint32_t i = 0; i < n_tokens; i++) {
        choice->n_tokens++;
        if (g->params.return_tokens || g->params.kind == KIND_LLAMA)
            g->no_memory |= buffer_printf(&choice->tokens, choice->tokens.n ? ", %d" : "%d",
                                          (int)tokens[i].token) != 0;
        if (g->params.logprobs)
            g->shape->token(g, choice, &tokens[i]);
    }
    said_more(choice, text, n);
    choice->newline |= n && memchr(text, '\n', n) != NULL;
    g->bytes += choice_bytes(choice) - before;
    if (g->params.stream && has_news(choice))
        send_chunk(g, choice, false);
    check_answer(g);
}

static int end_failure(const struct request_end *end, struct failure *failure) {
    if (end->finish == FINISH_CANCELLED)
        return failure_set(failure, ERROR_CANCELLED, NULL, "the request was cancelled");
    if (end->finish != FINISH_ERROR)
        return 0;
    const enum error_id id = end->error == -ENODEV      ? ERROR_NO_DEVICE
                             : end->error == -ESHUTDOWN ? ERROR_DRAINING
                                                        : ERROR_FAILED;
    return failure_set(failure, id, NULL, "%s",
                       end->error_text ? end->error_text : strerror(-end->error));
}

static void generation_done(struct generation *g) {
    struct call *call = g->call;
    struct buffer json = {0};
    struct writer w = {.out = &json};
    if (g->params.stream) {
        if (g->shape->finish)
            g->shape->finish(g);
        generation_end(g);
        call_end(call);
        return;
    }
    g->shape->whole(g, &w);
    generation_end(g);
    call_answer(call, &json, w.rc);
}

static void on_choice_end(void *user, uint32_t index, const struct request_end *end) {
    struct run *run = user;
    struct generation *g = run->generation;
    struct choice *choice = &run->choices[index];
    struct failure failure;
    if (!g->call || choice->ended)
        return;
    if (end_failure(end, &failure)) {
        generation_fail(g, &failure);
        return;
    }
    said_all(choice);
    if (!check_answer(g))
        return;
    choice->ended = true;
    choice->end = *end;
    if (end->stop_word)
        snprintf(choice->stop_word, sizeof choice->stop_word, "%s", end->stop_word);
    if (g->params.stream) {
        if (has_news(choice))
            send_chunk(g, choice, false);
        send_chunk(g, choice, true);
    }
    if (!check_answer(g))
        return;
    if (--g->n_open == 0)
        generation_done(g);
}

static void on_end(void *user) {
    struct run *run = user;
    run->request = NULL;
}

static void on_waiting(void *user, bool waiting) {
    /* The socket's keep-alives go on meanwhile; there is nothing else to say. */
    (void)user;
    (void)waiting;
}

static const struct request_events events = {on_prompt, on_text, on_choice_end, on_end, on_waiting};

static void fill_spec(const struct generation *g, const struct prompt *prompt,
                      struct request_spec *spec) {
    const struct params *p = &g->params;
    *spec = (struct request_spec){
        .uid = g->call->peer.uid,
        .kind = g->shape->kind,
        .tokens = prompt->ids,
        .n_tokens = (uint32_t)prompt->n,
        .max_tokens = p->max_tokens < 0 ? UINT32_MAX : (uint32_t)p->max_tokens,
        .n = (uint32_t)p->n,
        .logprobs = p->logprobs,
        .n_logprobs = p->logprobs ? (uint32_t)p->n_logprobs : 0,
        .prompt_logprobs = p->echo && p->logprobs,
        .cache_prompt = p->cache_prompt,
        /* Log-probabilities are written as they come, so that nobody keeps them twice. */
        .stream = p->stream || p->logprobs,
        .sampling = {.temperature = (float)p->temperature,
                     .top_k = p->top_k > 0 ? (uint32_t)p->top_k : 0,
                     .top_p = (float)p->top_p,
                     .min_p = (float)p->min_p,
                     .repeat_penalty = (float)p->repeat_penalty,
                     .frequency_penalty = (float)p->frequency_penalty,
                     .presence_penalty = (float)p->presence_penalty,
                     .penalty_last_n = (int32_t)p->repeat_last_n,
                     .seed = p->seed,
                     .min_keep = (uint32_t)p->min_keep,
                     .ignore_eos = p->ignore_eos,
                     .n_bias = p->n_bias,
                     .bias = p->bias},
        .stops = p->stops,
        .n_stops = p->n_stops,
        .special = said_control(g),
    };
}

static int submit_failure(int rc, const struct err *err, struct failure *failure) {
    const enum error_id id = rc == -EINVAL                       ? ERROR_PROMPT_TOO_LONG
                             : rc == -EOVERFLOW || rc == -EDQUOT ? ERROR_OVERLOADED
                             : rc == -ESHUTDOWN                  ? ERROR_DRAINING
                             : rc == -ENODEV                     ? ERROR_NO_DEVICE
                                                                 : ERROR_FAILED;
    return failure_set(failure, id, id == ERROR_PROMPT_TOO_LONG ? "prompt" : NULL, "%s",
                       err->text[0] ? err->text : strerror(-rc));
}

static int make_runs(struct generation *g, struct failure *failure) {
    const uint32_t n = (uint32_t)g->params.n;
    g->runs = calloc(g->set.n, sizeof *g->runs);
    if (!g->runs)
        return failure_set(failure, ERROR_FAILED, NULL, "no memory");
    for (size_t r = 0; r < g->set.n; r++) {
        struct run *run = &g->runs[r];
        *run = (struct run){.generation = g, .prompt = &g->set.prompts[r]};
        run->choices = calloc(n, sizeof *run->choices);
        if (!run->choices)
            return failure_set(failure, ERROR_FAILED, NULL, "no memory");
        for (uint32_t c = 0; c < n; c++) {
            run->choices[c] = (struct choice){.run = run, .index = (uint32_t)r * n + c};
            if (said_begin(&run->choices[c]))
                return failure_set(failure, ERROR_FAILED, NULL, "no memory");
        }
    }
    g->n_open = (uint32_t)g->set.n * n;
    return 0;
}

static void echo_prompt(struct generation *g, struct choice *choice) {
    const struct prompt *prompt = choice->run->prompt;
    const struct request_token first = {.token = prompt->ids[0]};
    char *text;
    size_t n;
    if (tokenizer_decode(g->model.tokenizer, prompt->ids, prompt->n, true, &text, &n, NULL)) {
        g->no_memory = true;
        return;
    }
    g->no_memory |= buffer_append(&choice->text, text, n) != 0;
    free(text);
    if (g->params.logprobs)
        g->shape->token(g, choice, &first);
    choice->n_prompt_done = 1;
}

/* Tokens are there: submit, and begin the answer. */
static void generation_start(struct generation *g) {
    struct scheduler *scheduler = g->protocol->host.scheduler(g->protocol->host.user);
    const uint64_t now = g->protocol->host.now_ns(g->protocol->host.user);
    struct failure failure;
    if (!scheduler) {
        failure_set(&failure, ERROR_NO_MODEL, NULL, "no model is loaded");
        generation_fail(g, &failure);
        return;
    }
    if (make_runs(g, &failure)) {
        generation_fail(g, &failure);
        return;
    }
    for (size_t r = 0; r < g->set.n; r++) {
        struct request_spec spec;
        struct err err = {{0}};
        fill_spec(g, g->runs[r].prompt, &spec);
        const int rc = scheduler_submit(scheduler, &spec, &events, &g->runs[r], now,
                                        &g->runs[r].request, &err);
        if (rc) {
            g->runs[r].request = NULL;
            submit_failure(rc, &err, &failure);
            generation_fail(g, &failure);
            return;
        }
    }
    if (g->params.stream)
        call_stream(g->call);
    for (uint32_t i = 0; i < g->n_open; i++) {
        struct choice *choice = generation_choice(g, i);
        if (g->params.echo)
            echo_prompt(g, choice);
        if (g->params.stream && g->shape->begin)
            g->shape->begin(g, choice);
    }
}

static void prompt_work(void *arg) {
    struct generation *g = arg;
    g->rc = prompt_build(&g->set, &g->params, &g->model, &g->failure);
}

static void prompt_done(void *arg) {
    struct generation *g = arg;
    g->away = false;
    if (!g->call)
        generation_end(g);
    else if (g->rc)
        generation_fail(g, &g->failure);
    else
        generation_start(g);
}

/* Read the fields and find the model.  -1 with *failure filled. */
static int generation_read(struct generation *g, struct failure *failure) {
    struct call *call = g->call;
    /* Before the fields: some of them are read by the model's vocabulary. */
    const struct model_view *model = call_model(call, NULL, failure);
    if (!model)
        return -1;
    g->doc = call->doc; /* the call may end while a thread reads it */
    call->doc = (struct json){0};
    if (params_read(&g->params, call->method->kind, &g->doc, call->arguments, model->tokenizer,
                    failure))
        return -1;
    model = call_model(call, g->params.model, failure);
    if (!model)
        return -1;
    g->model = *model;
    g->model_id = strdup(model->id);
    if (!g->model_id)
        return failure_set(failure, ERROR_FAILED, NULL, "no memory");
    return 0;
}

void run_generate(struct call *call) {
    const struct protocol_host *host = call_host(call);
    struct failure failure;
    struct generation *g = calloc(1, sizeof *g);
    if (!g) {
        failure_set(&failure, ERROR_FAILED, NULL, "no memory");
        call_fail(call, &failure);
        return;
    }
    g->call = call;
    g->protocol = call->protocol;
    g->shape = call->method->kind == KIND_CHAT    ? &chat_shape
               : call->method->kind == KIND_LLAMA ? &llama_shape
                                                  : &completion_shape;
    g->created = (uint64_t)time(NULL);
    call->work = g;
    call->abandon = on_abandon;
    call->cancel = on_cancel;
    call->done_line = g->shape->done_line;
    snprintf(call->id, sizeof call->id, "%s%s%" PRIx64, g->shape->id_prefix, g->protocol->nonce,
             g->protocol->n_calls);
    if (generation_read(g, &failure)) {
        generation_fail(g, &failure);
        return;
    }
    if (prompt_weight(&g->params) > OFFLOAD_BYTES) {
        g->away = true;
        if (!host->offload(host->user, prompt_work, prompt_done, g))
            return;
        g->away = false;
    }
    prompt_work(g);
    prompt_done(g);
}
