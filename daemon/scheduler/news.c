/* SPDX-License-Identifier: Apache-2.0 */
/* What engines say, and what follows from it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/scheduler/state.h"

/* --- ends --- */

static void request_end(struct request *r) {
    struct scheduler *s = r->scheduler;
    if (r->failed)
        s->counts.failed++;
    else if (r->cancelled)
        s->counts.cancelled++;
    else
        s->counts.finished++;
    s->counts.recovered += !r->failed && !r->cancelled && r->replays > 0;
    r->events.end(r->user);
    r->gone = true;
}

void sequence_end(struct sequence *sequence, struct request_end *end, uint64_t now_ns) {
    struct request *r = sequence->request;
    if (r->gone || sequence->state == SEQUENCE_DONE)
        return;
    scheduler_release(sequence);
    request_resumed(r);
    if (!r->gone)
        request_end_choice(sequence, end, now_ns);
    if (!r->gone && r->n_done == r->spec.n)
        request_end(r);
}

void request_end_all(struct request *r, enum finish finish, int error, const char *text) {
    for (uint32_t i = 0; i < r->spec.n && !r->gone; i++) {
        struct request_end end = {.finish = finish, .error = error, .error_text = text};
        sequence_end(&r->sequences[i], &end, r->scheduler->now_ns);
    }
}

/* --- generations --- */

void scheduler_engine_ready(struct scheduler *s, uint64_t generation, uint64_t now_ns) {
    s->generation = generation;
    s->serving = true;
    s->n_slots = 0;
    s->credit = s->options.max_sequences;
    scheduler_pump(s, now_ns);
}

/* The engine had sequences of other requests too, be they over; any of them may be to blame. */
static bool had_company(const struct slot *slots, uint32_t n) {
    const struct sequence *first = n ? slots[0].sequence : NULL;
    for (uint32_t i = 0; i < n; i++)
        if (!first || !slots[i].sequence || slots[i].sequence->request != first->request)
            return true;
    return false;
}

/* The last death that a request may have counts only where it was alone: one that speaks before it
 * kills would take a suspect with it. */
static void blame_for_death(struct scheduler *s, struct request *r, bool company) {
    if (company && s->options.poison_deaths > 0 && r->deaths + 1 >= s->options.poison_deaths)
        return;
    r->deaths++;
}

/* Every request that was inside waits, and is marked once. */
static void take_back(struct scheduler *s, struct slot *slots, uint32_t *n, bool blame) {
    const bool company = had_company(slots, *n);
    for (uint32_t i = 0; i < *n; i++) {
        struct sequence *sequence = slots[i].sequence;
        if (!sequence || sequence->state != SEQUENCE_RUNNING)
            continue;
        takeover_forget(sequence);
        sequence->state = SEQUENCE_READY;
        sequence->was_inside = true;
        sequence->leaving = sequence->moved = false;
    }
    *n = 0;
    for (struct request *r = s->first; r; r = r->next) {
        bool inside = false;
        for (uint32_t i = 0; i < r->spec.n; i++) {
            inside |= r->sequences[i].was_inside;
            r->sequences[i].was_inside = false;
        }
        if (inside && blame)
            blame_for_death(s, r, company);
        r->replays += inside;
    }
}

static void give_up(struct request *r) {
    char text[160];
    snprintf(text, sizeof text,
             "req-%llu was running when %u engines died one after the other and is given up",
             (unsigned long long)r->id, r->deaths);
    request_end_all(r, FINISH_ERROR, -EIO, text);
}

static void tell_waiting(struct request *r) {
    if (r->replays == 0 || r->waiting)
        return;
    r->waiting = true;
    if (r->events.waiting)
        r->events.waiting(r->user, true);
}

/* A choice that a stop string ended has nothing left to wait for. */
static void end_stopped(struct request *r, bool leaving, uint64_t now_ns) {
    for (uint32_t i = 0; i < r->spec.n && !r->gone; i++)
        if (r->sequences[i].state == SEQUENCE_ENDING && r->sequences[i].leaving == leaving) {
            struct request_end end = {.finish = FINISH_WORD};
            sequence_end(&r->sequences[i], &end, now_ns);
        }
}

static bool is_waiting(const struct request *r) {
    for (uint32_t i = 0; i < r->spec.n; i++)
        if (r->sequences[i].state == SEQUENCE_READY)
            return true;
    return false;
}

/* What is still in an engine that leaves goes to the one that serves at once. */
void scheduler_engine_gone(struct scheduler *s, uint64_t generation, bool blame, uint64_t now_ns) {
    const bool leaves = s->leaving.there && generation == s->leaving.generation;
    if (!leaves && generation != s->generation)
        return;
    s->now_ns = now_ns;
    scheduler_enter(s);
    if (leaves) {
        s->leaving.there = false;
        take_back(s, s->leaving.slots, &s->leaving.n_slots, blame);
    } else {
        s->serving = false;
        s->moving.id = 0;
        take_back(s, s->slots, &s->n_slots, blame);
    }
    for (struct request *r = s->first; r; r = r->next) {
        end_stopped(r, leaves, now_ns);
        if (r->gone)
            continue;
        if (s->options.poison_deaths > 0 && r->deaths >= s->options.poison_deaths)
            give_up(r);
        else if (is_waiting(r))
            tell_waiting(r);
    }
    if (leaves)
        scheduler_pump(s, now_ns);
    scheduler_leave(s);
}

/* --- messages of the engine --- */

static bool has_left(const struct scheduler *s, uint64_t generation) {
    return s->leaving.there && generation == s->leaving.generation;
}

static struct slot *find_slot(struct scheduler *s, uint64_t generation, uint64_t id) {
    const bool leaves = has_left(s, generation);
    struct slot *slots = leaves ? s->leaving.slots : s->slots;
    const uint32_t n = leaves ? s->leaving.n_slots : s->n_slots;
    if (!leaves && (!s->serving || generation != s->generation))
        return NULL;
    for (uint32_t i = 0; i < n; i++)
        if (slots[i].id == id)
            return &slots[i];
    return NULL;
}

/* The engine's last word on it: the slot is free. */
static struct sequence *free_slot(struct scheduler *s, uint64_t generation, struct slot *slot) {
    struct sequence *sequence = slot->sequence;
    if (has_left(s, generation)) {
        *slot = s->leaving.slots[--s->leaving.n_slots];
    } else {
        *slot = s->slots[--s->n_slots];
        s->credit++;
    }
    return sequence;
}

static struct sequence *running(const struct slot *slot) {
    struct sequence *sequence = slot ? slot->sequence : NULL;
    return sequence && !sequence->request->gone && sequence->state == SEQUENCE_RUNNING ? sequence
                                                                                       : NULL;
}

static void fail_sequence(struct sequence *sequence, int error, uint64_t now_ns) {
    struct request_end end = {.finish = FINISH_ERROR, .error = error};
    end.error_text = error == -EMSGSIZE ? "more log-probabilities than an answer may hold"
                     : error == -EINVAL ? "the engine sent a token that is not of the vocabulary"
                                        : "no memory for the answer";
    sequence_end(sequence, &end, now_ns);
}

/* A token is missing: nothing after it can be trusted, so the sequence is replayed. */
static void replay(struct sequence *sequence) {
    scheduler_release(sequence);
    sequence->state = SEQUENCE_READY;
}

static void take_token(struct scheduler *s, struct sequence *sequence, const struct msg_token *msg,
                       uint64_t now_ns) {
    struct request *r = sequence->request;
    sequence->proven = true;
    r->deaths = 0;
    request_resumed(r);
    if (r->gone)
        return;
    const int rc = request_take_token(sequence, msg, now_ns);
    if (r->gone || sequence->state != SEQUENCE_RUNNING)
        return;
    if (rc < 0) {
        fail_sequence(sequence, rc, now_ns);
        return;
    }
    s->counts.completion_tokens++;
    if (sequence->text.stopped) {
        sequence->state = SEQUENCE_ENDING;
        scheduler_cancel_there(s, sequence);
    }
}

void scheduler_on_token(struct scheduler *s, const struct msg_token *msg, uint64_t now_ns) {
    struct sequence *sequence = running(find_slot(s, msg->generation, msg->sequence));
    const uint32_t next =
        sequence ? sequence->request->spec.n_tokens + sequence->n_generated : UINT32_MAX;
    s->counts.dropped_tokens += msg->position != next;
    if (!sequence || msg->position < next)
        return; /* nobody's, or known */
    scheduler_enter(s);
    if (msg->position > next)
        replay(sequence);
    else
        take_token(s, sequence, msg, now_ns);
    takeover_go_on(s); /* it may be the first that was waited for */
    scheduler_pump(s, now_ns);
    scheduler_leave(s);
}

void scheduler_on_prompt(struct scheduler *s, const struct msg_prompt *msg) {
    struct sequence *sequence = running(find_slot(s, msg->generation, msg->sequence));
    if (!sequence)
        return;
    scheduler_enter(s);
    request_resumed(sequence->request);
    if (!sequence->request->gone)
        request_take_prompt(sequence, msg);
    scheduler_leave(s);
}

static void end_of(const struct msg_end *msg, const struct sequence *sequence,
                   struct request_end *end) {
    const bool stopped = sequence->state == SEQUENCE_ENDING;
    *end = (struct request_end){.stop_token = -1};
    end->usage.cached_tokens = sequence->moved ? sequence->n_cached : msg->n_cached;
    switch (stopped ? END_CANCELLED : msg->reason) {
    case END_EOG:
        end->finish = FINISH_STOP;
        end->stop_token = msg->token;
        return;
    case END_LENGTH:
    case END_CONTEXT:
        end->finish = FINISH_LENGTH;
        end->truncated = msg->reason == END_CONTEXT;
        return;
    case END_CANCELLED:
        end->finish = stopped ? FINISH_WORD : FINISH_CANCELLED;
        return;
    default:
        end->finish = FINISH_ERROR;
        end->error = -EIO;
        end->error_text = msg->text;
    }
}

static bool is_called_back(const struct scheduler *s, const struct sequence *sequence,
                           const struct msg_end *msg) {
    return s->moving.called && s->moving.sequence == sequence && msg->reason == END_CANCELLED &&
           sequence->state == SEQUENCE_RUNNING && !sequence->request->gone;
}

void scheduler_on_end(struct scheduler *s, const struct msg_end *msg, uint64_t now_ns) {
    struct slot *slot = find_slot(s, msg->generation, msg->sequence);
    if (!slot)
        return;
    scheduler_enter(s);
    s->now_ns = now_ns;
    struct sequence *sequence = free_slot(s, msg->generation, slot);
    if (!sequence) {
        takeover_end_of_pages(s, msg->sequence, msg->reason == END_LENGTH);
    } else if (is_called_back(s, sequence, msg)) {
        takeover_move(sequence, msg->n_cached, now_ns);
    } else if (!sequence->request->gone) {
        struct request_end end;
        end_of(msg, sequence, &end);
        s->counts.prompt_tokens += sequence->request->spec.n_tokens;
        sequence_end(sequence, &end, now_ns);
    }
    takeover_go_on(s);
    scheduler_pump(s, now_ns);
    scheduler_leave(s);
}

void scheduler_on_preempted(struct scheduler *s, const struct msg_preempted *msg) {
    struct slot *slot = find_slot(s, msg->generation, msg->sequence);
    if (!slot)
        return;
    scheduler_enter(s);
    struct sequence *sequence = free_slot(s, msg->generation, slot);
    if (!has_left(s, msg->generation))
        s->credit = 0; /* until the engine says, or something ends */
    if (!sequence)
        takeover_end_of_pages(s, msg->sequence, false);
    if (sequence)
        takeover_forget(sequence);
    if (sequence && sequence->state == SEQUENCE_ENDING) {
        struct request_end end = {.finish = FINISH_WORD};
        sequence_end(sequence, &end, s->now_ns);
    } else if (sequence) {
        sequence->state = SEQUENCE_READY;
    }
    takeover_go_on(s);
    scheduler_pump(s, s->now_ns);
    scheduler_leave(s);
}

void scheduler_on_credit(struct scheduler *s, const struct msg_credit *msg) {
    s->credit = msg->free_sequences;
    scheduler_pump(s, s->now_ns);
}
