/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/scheduler/scheduler.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/scheduler/state.h"
#include "octarc/error.h"

int scheduler_create(struct scheduler **scheduler, const struct scheduler_options *options,
                     const struct scheduler_engine_ops *ops, void *user) {
    struct scheduler *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->slots = calloc(options->max_sequences + 1, sizeof *s->slots);
    s->leaving.slots = calloc(options->max_sequences + 1, sizeof *s->slots);
    if (!s->slots || !s->leaving.slots) {
        free(s->slots);
        free(s->leaving.slots);
        free(s);
        return -ENOMEM;
    }
    s->options = *options;
    s->slots_capacity = options->max_sequences;
    s->ops = ops;
    s->user = user;
    *scheduler = s;
    return 0;
}

void scheduler_destroy(struct scheduler *s) {
    if (!s)
        return;
    s->draining = true;
    s->serving = s->leaving.there = false; /* nobody is told */
    scheduler_enter(s);
    for (struct request *r = s->first; r; r = r->next)
        request_end_all(r, FINISH_CANCELLED, 0, NULL);
    s->drained = NULL;
    scheduler_leave(s);
    free(s->slots);
    free(s->leaving.slots);
    free(s);
}

void scheduler_set_model(struct scheduler *s, const struct tokenizer *tokenizer, uint32_t context,
                         uint32_t max_sequences) {
    s->tokenizer = tokenizer;
    s->options.context = context;
    s->options.max_sequences =
        max_sequences < s->slots_capacity ? max_sequences : s->slots_capacity;
}

void scheduler_set_limits(struct scheduler *s, uint32_t max_requests,
                          uint32_t max_requests_per_uid) {
    s->options.max_requests = max_requests;
    s->options.max_requests_per_uid = max_requests_per_uid;
}

void scheduler_refuse(struct scheduler *s, int error, const char *text) {
    s->refusal = error;
    err_set(&s->refusal_text, 0, "%s", text ? text : "");
}

static int check_spec(const struct scheduler *s, const struct request_spec *spec, struct err *err) {
    if (spec->n_tokens == 0)
        return err_set(err, -EINVAL, "the prompt is empty");
    if (spec->n_tokens > s->options.context)
        return err_set(err, -EINVAL, "the prompt has %u tokens, the context has room for %u",
                       spec->n_tokens, s->options.context);
    if (spec->n == 0 || spec->n > CHOICES_MAX)
        return err_set(err, -EINVAL, "n is %u, it may be 1 to %d", spec->n, CHOICES_MAX);
    if (spec->n_stops > STOP_STRINGS_MAX)
        return err_set(err, -EINVAL, "%u stop strings, there may be %d", spec->n_stops,
                       STOP_STRINGS_MAX);
    for (uint32_t i = 0; i < spec->n_stops; i++)
        if (strlen(spec->stops[i]) > STOP_STRING_BYTES_MAX)
            return err_set(err, -EINVAL, "stop string %u has more than %d bytes", i + 1,
                           STOP_STRING_BYTES_MAX);
    return 0;
}

static int check_room(const struct scheduler *s, uint32_t uid, struct err *err) {
    uint32_t all = 0, of_uid = 0;
    for (const struct request *r = s->first; r; r = r->next) {
        all += !r->gone;
        of_uid += !r->gone && r->spec.uid == uid;
    }
    if (all >= s->options.max_requests)
        return err_set(err, -EOVERFLOW, "%u requests are waiting or running (key max_queue)", all);
    if (of_uid >= s->options.max_requests_per_uid)
        return err_set(err, -EDQUOT,
                       "user %u has %u requests waiting or running (key max_queue_per_user)", uid,
                       of_uid);
    return 0;
}

int scheduler_submit(struct scheduler *s, const struct request_spec *spec,
                     const struct request_events *events, void *user, uint64_t now_ns,
                     struct request **request, struct err *err) {
    if (s->draining)
        return err_set(err, -ESHUTDOWN, "the service is stopping");
    if (s->refusal < 0)
        return err_set(err, s->refusal, "%s", s->refusal_text.text);
    if (!s->tokenizer)
        return err_set(err, -ENODEV, "no model is loaded");
    int rc = check_spec(s, spec, err);
    if (rc == 0)
        rc = check_room(s, spec->uid, err);
    if (rc < 0)
        return rc;
    struct request *r;
    rc = request_create(&r, spec, s->tokenizer);
    if (rc < 0)
        return err_set(err, rc, "no memory for the request");
    r->scheduler = s;
    r->events = *events;
    r->user = user;
    r->id = ++s->last_request;
    r->accepted_ns = now_ns;
    r->prev = s->last;
    *(s->last ? &s->last->next : &s->first) = r;
    s->last = r;
    s->counts.accepted++;
    *request = r;
    scheduler_pump(s, now_ns);
    return 0;
}

uint64_t request_id(const struct request *request) {
    return request->id;
}

void request_abandon(struct request *r) {
    struct scheduler *s = r->scheduler;
    if (r->gone)
        return;
    scheduler_enter(s);
    r->gone = true;
    s->counts.cancelled++;
    for (uint32_t i = 0; i < r->spec.n; i++)
        scheduler_release(&r->sequences[i]);
    scheduler_pump(s, s->now_ns);
    scheduler_leave(s);
}

int scheduler_cancel(struct scheduler *s, uint64_t id, uint32_t uid, bool anyone) {
    for (struct request *r = s->first; r; r = r->next)
        if (!r->gone && r->id == id && (anyone || uid == r->spec.uid)) {
            scheduler_enter(s);
            request_end_all(r, FINISH_CANCELLED, 0, NULL);
            scheduler_pump(s, s->now_ns);
            scheduler_leave(s);
            return 0;
        }
    return -ENOENT;
}

void scheduler_drain(struct scheduler *s, void (*drained)(void *user), void *user) {
    scheduler_enter(s);
    s->draining = true;
    s->drained = drained;
    s->drained_user = user;
    scheduler_leave(s);
}

void scheduler_fail_all(struct scheduler *s, int error, const char *text) {
    scheduler_enter(s);
    for (struct request *r = s->first; r; r = r->next)
        request_end_all(r, FINISH_ERROR, error, text);
    scheduler_leave(s);
}

void scheduler_tick(struct scheduler *s, uint64_t now_ns) {
    scheduler_pump(s, now_ns);
}

static const char *state_name(const struct request *r) {
    bool prefill = false;
    for (uint32_t i = 0; i < r->spec.n; i++) {
        const struct sequence *sequence = &r->sequences[i];
        if (sequence->state == SEQUENCE_RUNNING && sequence->proven)
            return "decode";
        prefill |= sequence->state == SEQUENCE_RUNNING;
    }
    if (prefill)
        return r->replays ? "replaying" : "prefill";
    return r->sequences[0].admitted ? "replaying" : "queued";
}

void scheduler_each(const struct scheduler *s, uint64_t now_ns,
                    void (*visit)(void *user, const struct request_view *view), void *user) {
    for (const struct request *r = s->first; r; r = r->next) {
        if (r->gone)
            continue;
        struct request_view view = {
            .id = r->id,
            .uid = r->spec.uid,
            .kind = r->spec.kind,
            .state = state_name(r),
            .n = r->spec.n,
            .prompt_tokens = r->spec.n_tokens,
            .replays = r->replays,
            .age_ns = now_ns - r->accepted_ns,
        };
        for (uint32_t i = 0; i < r->spec.n; i++)
            view.completion_tokens += r->sequences[i].n_generated;
        visit(user, &view);
    }
}

void scheduler_counts(const struct scheduler *s, struct scheduler_counts *counts) {
    *counts = s->counts;
    counts->leaving = s->leaving.n_slots;
    counts->owed = s->n_slots;
    for (const struct request *r = s->first; r; r = r->next) {
        if (r->gone)
            continue;
        bool running = false;
        for (uint32_t i = 0; i < r->spec.n; i++)
            running |= r->sequences[i].state == SEQUENCE_RUNNING ||
                       r->sequences[i].state == SEQUENCE_ENDING;
        counts->running += running;
        counts->queued += !running;
    }
}
