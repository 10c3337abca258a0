/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/scheduler/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int copy_stops(struct text_stops *stops, const struct request_spec *spec) {
    stops->strings = calloc(spec->n_stops + 1, sizeof *stops->strings);
    stops->lengths = calloc(spec->n_stops + 1, sizeof *stops->lengths);
    if (!stops->strings || !stops->lengths)
        return -ENOMEM;
    for (uint32_t i = 0; i < spec->n_stops; i++) {
        const size_t n = strlen(spec->stops[i]);
        if (n == 0)
            continue; /* nothing ends with nothing */
        stops->strings[stops->n] = strdup(spec->stops[i]);
        if (!stops->strings[stops->n])
            return -ENOMEM;
        stops->lengths[stops->n++] = n;
        if (n > stops->longest)
            stops->longest = n;
    }
    return 0;
}

/* A copy of n elements, or NULL; *ok becomes false when there is no memory for it. */
static void *copy_of(const void *from, size_t n, size_t size, bool *ok) {
    if (n == 0)
        return NULL;
    void *copy = calloc(n, size);
    if (copy)
        memcpy(copy, from, n * size);
    else
        *ok = false;
    return copy;
}

int request_create(struct request **request, const struct request_spec *spec,
                   const struct tokenizer *tokenizer) {
    struct request *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    bool ok = true;
    r->spec = *spec;
    r->tokens = copy_of(spec->tokens, spec->n_tokens, sizeof *spec->tokens, &ok);
    r->spec.tokens = r->tokens;
    r->spec.sampling.bias =
        copy_of(spec->sampling.bias, spec->sampling.n_bias, sizeof *spec->sampling.bias, &ok);
    r->sequences = calloc(spec->n, sizeof *r->sequences);
    if (!ok || !r->sequences || copy_stops(&r->stops, spec) < 0) {
        request_free(r);
        return -ENOMEM;
    }
    r->spec.stops = NULL;
    for (uint32_t i = 0; i < spec->n; i++) {
        r->sequences[i] = (struct sequence){.request = r, .choice = i, .prompt_next = 1};
        text_init(&r->sequences[i].text, tokenizer, &r->stops, spec->special);
    }
    *request = r;
    return 0;
}

void request_free(struct request *r) {
    for (uint32_t i = 0; r->sequences && i < r->spec.n; i++) {
        text_finish(&r->sequences[i].text);
        free(r->sequences[i].generated);
    }
    for (uint32_t i = 0; i < r->stops.n; i++)
        free(r->stops.strings[i]);
    free(r->stops.strings);
    free(r->stops.lengths);
    free(r->spec.sampling.bias);
    free(r->sequences);
    free(r->tokens);
    free(r);
}

void request_resumed(struct request *r) {
    if (!r->waiting || r->gone)
        return;
    r->waiting = false;
    if (r->events.waiting)
        r->events.waiting(r->user, false);
}

/* Give out what is final. */
static void deliver(struct sequence *sequence) {
    struct request *r = sequence->request;
    struct text *text = &sequence->text;
    if (text->n_final == 0 && text->tokens_final == 0)
        return;
    r->events.text(r->user, sequence->choice, text->n_final ? text->bytes.bytes : "", text->n_final,
                   text->tokens, text->tokens_final);
    text_take(text);
}

static int keep_generated(struct sequence *sequence, int32_t token) {
    if (sequence->n_generated == sequence->generated_capacity) {
        const uint32_t more = sequence->generated_capacity ? 2 * sequence->generated_capacity : 64;
        int32_t *grown = realloc(sequence->generated, more * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        sequence->generated = grown;
        sequence->generated_capacity = more;
    }
    sequence->generated[sequence->n_generated++] = token;
    return 0;
}

int request_take_token(struct sequence *sequence, const struct msg_token *msg, uint64_t now_ns) {
    struct request *r = sequence->request;
    int rc = keep_generated(sequence, msg->token);
    if (rc == 0)
        rc = text_push(&sequence->text, msg);
    if (rc < 0)
        return rc;
    if (sequence->n_generated == 1)
        sequence->first_ns = now_ns;
    sequence->last_ns = now_ns;
    if (r->spec.stream)
        deliver(sequence);
    return 0;
}

void request_take_prompt(struct sequence *sequence, const struct msg_prompt *msg) {
    struct request *r = sequence->request;
    if (msg->first > sequence->prompt_next || msg->first + msg->n <= sequence->prompt_next)
        return; /* a gap cannot be filled, and what a replay repeats is known */
    const uint32_t skip = sequence->prompt_next - msg->first;
    struct msg_prompt rest = *msg;
    rest.first += skip;
    rest.n -= skip;
    rest.logprobs += skip;
    if (rest.top)
        rest.top += (size_t)skip * rest.n_top;
    sequence->prompt_next += rest.n;
    if (r->events.prompt)
        r->events.prompt(r->user, sequence->choice, &rest);
}

static void fill_usage(struct sequence *sequence, struct request_usage *usage, uint64_t now_ns) {
    const uint64_t first = sequence->n_generated ? sequence->first_ns : now_ns;
    usage->prompt_tokens = sequence->request->spec.n_tokens;
    usage->completion_tokens = sequence->n_generated;
    if (!sequence->admitted)
        return;
    usage->prompt_ms = (double)(first - sequence->admitted_ns) * 1e-6;
    if (sequence->n_generated)
        usage->predicted_ms = (double)(sequence->last_ns - first) * 1e-6;
}

void request_end_choice(struct sequence *sequence, struct request_end *end, uint64_t now_ns) {
    struct request *r = sequence->request;
    sequence->state = SEQUENCE_DONE;
    r->n_done++;
    r->failed |= end->finish == FINISH_ERROR;
    r->cancelled |= end->finish == FINISH_CANCELLED;
    if (text_end(&sequence->text) < 0 && end->finish != FINISH_ERROR) {
        end->finish = FINISH_ERROR;
        end->error = -ENOMEM;
        end->error_text = "no memory for the end of the text";
    }
    if (sequence->text.stopped) {
        end->finish = FINISH_WORD;
        end->stop_word = r->stops.strings[sequence->text.stop];
    }
    fill_usage(sequence, &end->usage, now_ns);
    deliver(sequence);
    if (!r->gone && r->events.choice_end)
        r->events.choice_end(r->user, sequence->choice, end);
}
