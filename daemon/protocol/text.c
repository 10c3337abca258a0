/* SPDX-License-Identifier: Apache-2.0 */
/* Text and tokens: tokenize, detokenize, apply_template.  What is long is done off the loop. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/protocol/call.h"
#include "daemon/protocol/prompt.h"
#include "daemon/util/utf8.h"
#include "models/tokenizer/tokenizer.h"
#include "octarc/error.h"

/* A piece of work that may leave the loop: it reads its own copies and fills out or failure. */
struct job {
    struct call *call; /* NULL: the client is gone */
    struct json doc;
    struct params params;
    struct model_view model;
    int (*work)(struct job *job); /* 0 or -1 with failure filled */
    int rc;
    struct buffer out;
    struct failure failure;
};

static void job_work(void *arg) {
    struct job *job = arg;
    job->rc = job->work(job);
}

static void job_done(void *arg) {
    struct job *job = arg;
    struct call *call = job->call;
    if (call) {
        call->abandon = NULL;
        if (job->rc)
            call_fail(call, &job->failure);
        else
            call_answer(call, &job->out, 0);
    }
    buffer_finish(&job->out);
    params_finish(&job->params);
    json_finish(&job->doc);
    free(job);
}

static void job_abandon(struct call *call) {
    struct job *job = call->work;
    job->call = NULL;
}

static int no_memory(struct job *job) {
    return failure_set(&job->failure, ERROR_FAILED, NULL, "no memory for the answer");
}

static void job_start(struct call *call, int (*work)(struct job *job),
                      size_t (*size)(const struct params *params)) {
    const struct protocol_host *host = call_host(call);
    struct failure failure;
    struct job *job = calloc(1, sizeof *job);
    if (!job) {
        failure_set(&failure, ERROR_FAILED, NULL, "no memory");
        call_fail(call, &failure);
        return;
    }
    job->call = call;
    job->work = work;
    job->doc = call->doc; /* the call may end before the work does */
    call->doc = (struct json){0};
    const struct model_view *model = call_model(call, NULL, &job->failure);
    if (model && params_read(&job->params, call->method->kind, &job->doc, call->arguments,
                             model->tokenizer, &job->failure))
        model = NULL;
    if (model)
        model = call_model(call, job->params.model, &job->failure);
    if (!model) {
        job->rc = -1;
        job_done(job);
        return;
    }
    job->model = *model;
    call->work = job;
    call->abandon = job_abandon;
    if (size(&job->params) > OFFLOAD_BYTES && !host->offload(host->user, job_work, job_done, job))
        return;
    job_work(job);
    job_done(job);
}

static int write_pieces(const struct tokenizer *tokenizer, struct writer *w, const int32_t *ids,
                        size_t n) {
    for (size_t i = 0; i < n; i++) {
        const char *bytes;
        size_t length;
        if (tokenizer_piece(tokenizer, ids[i], true, &bytes, &length))
            return -EINVAL;
        write_open(w, '{');
        write_key_int(w, "id", ids[i]);
        write_key(w, "piece");
        if (utf8_valid(bytes, length))
            write_text(w, bytes, length);
        else
            write_bytes(w, bytes, length);
        write_close(w, '}');
    }
    return w->rc;
}

static int work_tokenize(struct job *job) {
    const struct params *params = &job->params;
    struct writer w = {.out = &job->out};
    struct err err;
    int32_t *ids = NULL;
    size_t n = 0;
    if (!params->content)
        return failure_set(&job->failure, ERROR_BAD_FIELD, "content", "'content' is missing");
    const unsigned flags =
        (params->add_special ? ENCODE_SPECIAL : 0) | (params->parse_special ? ENCODE_PARSE : 0);
    int rc = tokenizer_encode(job->model.tokenizer, params->content, strlen(params->content), flags,
                              &ids, &n, &err);
    if (rc)
        return failure_set(&job->failure, rc == -E2BIG ? ERROR_TOO_BIG : ERROR_FAILED, "content",
                           "%s", err.text);
    write_open(&w, '{');
    write_key(&w, "tokens");
    write_open(&w, '[');
    if (params->with_pieces)
        rc = write_pieces(job->model.tokenizer, &w, ids, n);
    for (size_t i = 0; i < n && !params->with_pieces; i++)
        write_int(&w, ids[i]);
    write_close(&w, ']');
    write_close(&w, '}');
    free(ids);
    return rc || w.rc ? no_memory(job) : 0;
}

static size_t content_size(const struct params *params) {
    return params->content ? strlen(params->content) : 0;
}

void run_tokenize(struct call *call) {
    job_start(call, work_tokenize, content_size);
}

/* The ids of 'tokens', which the caller frees. */
static int read_ids(struct job *job, int32_t **ids, size_t *n) {
    const cJSON *list = job->params.tokens;
    if (!cJSON_IsArray(list))
        return failure_set(&job->failure, ERROR_BAD_FIELD, "tokens",
                           list ? "'tokens' must be a list" : "'tokens' is missing");
    size_t count = 0, i = 0;
    const double *numbers = json_numbers(&job->doc, list, &count);
    for (const cJSON *item = list->child; item; item = item->next)
        count++;
    int32_t *made = malloc((count + 1) * sizeof *made);
    if (!made)
        return no_memory(job);
    const uint32_t n_vocab = tokenizer_n_vocab(job->model.tokenizer);
    for (const cJSON *item = list->child; i < count; i++, item = item ? item->next : NULL) {
        const double id = numbers ? numbers[i] : cJSON_IsNumber(item) ? item->valuedouble : -1;
        if (id != floor(id) || id < 0 || id >= n_vocab) {
            free(made);
            return failure_set(&job->failure, ERROR_BAD_FIELD, "tokens",
                               "tokens[%zu] is not a token id below %u", i, n_vocab);
        }
        made[i] = (int32_t)id;
    }
    *ids = made;
    *n = count;
    return 0;
}

static int work_detokenize(struct job *job) {
    struct writer w = {.out = &job->out};
    struct err err;
    int32_t *ids = NULL;
    char *text = NULL;
    size_t n = 0, n_text = 0;
    if (read_ids(job, &ids, &n))
        return -1;
    const int rc = tokenizer_decode(job->model.tokenizer, ids, n, true, &text, &n_text, &err);
    free(ids);
    if (rc)
        return failure_set(&job->failure, ERROR_BAD_FIELD, "tokens", "%s", err.text);
    write_open(&w, '{');
    write_key(&w, "content");
    write_text(&w, text, n_text);
    write_close(&w, '}');
    free(text);
    return w.rc ? no_memory(job) : 0;
}

static size_t tokens_size(const struct params *params) {
    size_t n;
    return params->tokens && json_numbers(params->doc, params->tokens, &n) ? n : 0;
}

void run_detokenize(struct call *call) {
    job_start(call, work_detokenize, tokens_size);
}

static int work_template(struct job *job) {
    struct writer w = {.out = &job->out};
    char *text;
    size_t n;
    if (chat_text(&job->params, &job->model, &text, &n, &job->failure))
        return -1;
    write_open(&w, '{');
    write_key(&w, "prompt");
    write_text(&w, text, n);
    write_close(&w, '}');
    free(text);
    return w.rc ? no_memory(job) : 0;
}

void run_apply_template(struct call *call) {
    job_start(call, work_template, prompt_weight);
}
