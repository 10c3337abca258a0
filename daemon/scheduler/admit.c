/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/scheduler/state.h"

void scheduler_enter(struct scheduler *s) {
    s->depth++;
}

static void unlink_request(struct scheduler *s, struct request *r) {
    *(r->prev ? &r->prev->next : &s->first) = r->next;
    *(r->next ? &r->next->prev : &s->last) = r->prev;
}

void scheduler_leave(struct scheduler *s) {
    if (--s->depth > 0)
        return;
    struct request *next;
    for (struct request *r = s->first; r; r = next) {
        next = r->next;
        if (r->gone) {
            unlink_request(s, r);
            request_free(r);
        }
    }
    if (s->draining && s->drained && !s->first) {
        void (*drained)(void *) = s->drained;
        s->drained = NULL;
        drained(s->drained_user);
    }
}

/* --- which one --- */

static bool is_suspect(const struct scheduler *s, const struct request *r) {
    return s->options.poison_deaths > 0 && r->deaths + 1 >= s->options.poison_deaths;
}

/* Somebody runs whose first token from this engine has not come, other than `but`. */
static bool unproven_runs(const struct scheduler *s, const struct request *but) {
    for (uint32_t i = 0; i < s->n_slots; i++) {
        const struct sequence *sequence = s->slots[i].sequence;
        if (sequence && sequence->request != but && !sequence->proven)
            return true;
    }
    return false;
}

static struct sequence *ready_of(const struct request *r) {
    for (uint32_t i = 0; !r->gone && i < r->spec.n; i++)
        if (r->sequences[i].state == SEQUENCE_READY)
            return &r->sequences[i];
    return NULL;
}

/* The next suspect, if one has work left; *hold: nobody else may start now. */
static struct sequence *next_suspect(const struct scheduler *s, bool *hold) {
    *hold = false;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        const struct sequence *sequence = s->slots[i].sequence;
        if (sequence && !sequence->request->gone && is_suspect(s, sequence->request)) {
            *hold = true;
            return ready_of(sequence->request); /* its other choices are its own company */
        }
    }
    for (struct request *r = s->first; r; r = r->next)
        if (is_suspect(s, r) && ready_of(r)) {
            *hold = true;
            return unproven_runs(s, r) ? NULL : ready_of(r);
        }
    return NULL;
}

/* The oldest that an engine took back or left behind: its client has waited for its turn once. */
static struct sequence *next_interrupted(const struct scheduler *s) {
    for (struct request *r = s->first; r; r = r->next) {
        struct sequence *ready = ready_of(r); /* choices are admitted in order */
        if (ready && ready->admitted)
            return ready;
    }
    return NULL;
}

/* The oldest of the next uid in turn. */
static struct sequence *next_in_turn(const struct scheduler *s) {
    struct sequence *after = NULL, *lowest = NULL;
    for (struct request *r = s->first; r; r = r->next) {
        struct sequence *ready = ready_of(r);
        if (!ready)
            continue;
        const uint32_t uid = r->spec.uid;
        if (!lowest || uid < lowest->request->spec.uid)
            lowest = ready;
        if (uid > s->last_uid && (!after || uid < after->request->spec.uid))
            after = ready;
    }
    return after ? after : lowest;
}

/* --- sending it --- */

int32_t *sequence_tokens(const struct sequence *sequence, uint32_t *n) {
    const struct request *r = sequence->request;
    *n = r->spec.n_tokens + sequence->n_generated;
    int32_t *tokens = malloc(*n * sizeof *tokens);
    if (!tokens)
        return NULL;
    memcpy(tokens, r->tokens, r->spec.n_tokens * sizeof *tokens);
    if (sequence->n_generated)
        memcpy(tokens + r->spec.n_tokens, sequence->generated,
               sequence->n_generated * sizeof *tokens);
    return tokens;
}

/* One that was moved finds the pages that were computed for it, whatever it said of others'. */
static int send_admit(struct scheduler *s, struct sequence *sequence) {
    struct request *r = sequence->request;
    uint32_t n;
    int32_t *tokens = sequence_tokens(sequence, &n);
    if (!tokens)
        return -ENOMEM;
    struct msg_admit admit = {
        .sequence = s->last_sequence + 1,
        .uid = r->spec.uid,
        .tokens = tokens,
        .n_tokens = n,
        .n_prompt = r->spec.n_tokens,
        .max_tokens = r->spec.max_tokens,
        .n_logprobs = r->spec.n_logprobs,
        .logprobs = r->spec.logprobs,
        .prompt_logprobs = r->spec.prompt_logprobs && sequence->prompt_next < r->spec.n_tokens,
        .cache_prompt = r->spec.cache_prompt || sequence->moved,
        .sampling = r->spec.sampling,
    };
    admit.sampling.choice = sequence->choice;
    const int rc = s->ops->admit(s->user, &admit);
    free(tokens);
    return rc;
}

int scheduler_admit(struct scheduler *s, struct sequence *sequence, uint64_t now_ns) {
    const int rc = send_admit(s, sequence);
    if (rc == -ENOMEM)
        return rc; /* tried again later */
    if (rc < 0) {
        s->serving = false; /* scheduler_engine_gone() follows */
        return rc;
    }
    sequence->id = ++s->last_sequence;
    sequence->state = SEQUENCE_RUNNING;
    sequence->proven = sequence->leaving = false;
    if (sequence->admitted) {
        s->counts.replays++;
        s->counts.replayed_tokens += sequence->request->spec.n_tokens + sequence->n_generated;
    } else {
        sequence->admitted = true;
        sequence->admitted_ns = now_ns;
        s->last_uid = sequence->request->spec.uid; /* going on is nobody's turn */
    }
    s->slots[s->n_slots++] = (struct slot){sequence->id, sequence};
    if (s->credit > 0)
        s->credit--;
    return 0;
}

void scheduler_pump(struct scheduler *s, uint64_t now_ns) {
    s->now_ns = now_ns;
    /* With nothing inside, the engine has room for one whatever it said last.  What is still in one
     * that leaves is to have room. */
    while (s->serving && s->n_slots + s->leaving.n_slots < s->options.max_sequences &&
           (s->credit > 0 || s->n_slots == 0)) {
        bool hold;
        struct sequence *sequence = next_suspect(s, &hold);
        if (!hold)
            sequence = next_interrupted(s);
        if (!hold && !sequence)
            sequence = next_in_turn(s);
        if (!sequence || scheduler_admit(s, sequence, now_ns) < 0)
            return;
    }
}

int scheduler_cancel_there(struct scheduler *s, const struct sequence *sequence) {
    if (sequence->leaving)
        return s->ops->cancel(s->user, s->leaving.generation, sequence->id);
    const int rc = s->ops->cancel(s->user, s->generation, sequence->id);
    if (rc < 0)
        s->serving = false;
    return rc;
}

void scheduler_release(struct sequence *sequence) {
    struct scheduler *s = sequence->request->scheduler;
    struct slot *slots = sequence->leaving ? s->leaving.slots : s->slots;
    const uint32_t n = sequence->leaving ? s->leaving.n_slots : s->n_slots;
    const bool heard = sequence->leaving ? s->leaving.there : s->serving;
    takeover_forget(sequence);
    for (uint32_t i = 0; i < n; i++)
        if (slots[i].sequence == sequence) {
            slots[i].sequence = NULL;
            if (heard && sequence->state == SEQUENCE_RUNNING)
                scheduler_cancel_there(s, sequence);
        }
}
