/* SPDX-License-Identifier: Apache-2.0 */
/* takeover.c - sequences go from an engine that leaves to the one that serves, which has not seen
 * them, while both run.
 *
 * One after the other, the oldest first.  The engine that serves computes the pages of its tokens
 * so far, by prompts that nobody gets an answer to, a piece at a time so that no step is held for
 * long; the one that leaves goes on with it meanwhile.  When all pages that are full are there it
 * is called back, and what that engine had said until then counts; then it is replayed, and finds
 * its pages.  So it is without an engine for as long as a page takes, however long it is.  The next
 * one's turn comes with its next token: else what is left of many would be computed at a time.
 *
 * A page that is thrown out again, or could not be computed, is computed by the replay: that is
 * only slower. */
#include <errno.h>
#include <stdlib.h>

#include "daemon/device/program.h"
#include "daemon/scheduler/state.h"

#define PIECE_PAGES 2u /* that are computed at a time */

void scheduler_take_over(struct scheduler *s, uint64_t generation, uint64_t now_ns) {
    struct slot *empty = s->leaving.slots;
    s->leaving.there = true;
    s->leaving.emptied = false;
    s->leaving.generation = s->generation;
    s->leaving.slots = s->slots;
    s->leaving.n_slots = s->n_slots;
    for (uint32_t i = 0; i < s->n_slots; i++)
        if (s->slots[i].sequence)
            s->slots[i].sequence->leaving = true;
    s->slots = empty;
    s->n_slots = 0;
    s->generation = generation;
    s->serving = true;
    s->credit = s->options.max_sequences;
    s->now_ns = now_ns;
    scheduler_enter(s);
    takeover_go_on(s);
    scheduler_pump(s, now_ns);
    scheduler_leave(s);
}

/* Of one whose first token has not come nobody waits for the next, and what was computed of its
 * prompt would be lost. */
static struct sequence *next_to_move(const struct scheduler *s) {
    for (struct request *r = s->first; r; r = r->next)
        for (uint32_t i = 0; !r->gone && i < r->spec.n; i++) {
            struct sequence *sequence = &r->sequences[i];
            if (sequence->leaving && sequence->proven && sequence->state == SEQUENCE_RUNNING)
                return sequence;
        }
    return NULL;
}

/* Of its pages as far as they are full, and something follows them: the last token is computed
 * where it is moved to. */
static uint32_t full_tokens(const struct sequence *sequence) {
    const uint32_t n = sequence->request->spec.n_tokens + sequence->n_generated;
    return (n - 1) / PAGE_TOKENS * PAGE_TOKENS;
}

/* A prompt that shares what it computes, and wants no token. */
static int ask_for_pages(struct scheduler *s, const struct sequence *sequence, uint32_t n) {
    uint32_t all;
    int32_t *tokens = sequence_tokens(sequence, &all);
    if (!tokens)
        return -ENOMEM;
    const struct msg_admit admit = {.sequence = s->last_sequence + 1,
                                    .uid = sequence->request->spec.uid,
                                    .tokens = tokens,
                                    .n_tokens = n,
                                    .n_prompt = n,
                                    .cache_prompt = true};
    const int rc = s->ops->admit(s->user, &admit);
    free(tokens);
    if (rc < 0)
        return rc;
    s->moving.id = ++s->last_sequence;
    s->moving.n_asked = n;
    s->slots[s->n_slots++] = (struct slot){s->moving.id, NULL};
    return 0;
}

/* The next pages, or where there are none to wait for it is called back. */
static void move_on(struct scheduler *s) {
    struct sequence *sequence = s->moving.sequence;
    const uint32_t full = full_tokens(sequence);
    if (s->moving.n_warm < full) {
        const uint32_t next = s->moving.n_warm + PIECE_PAGES * PAGE_TOKENS;
        const int rc = ask_for_pages(s, sequence, next < full ? next : full);
        if (rc == 0)
            return;
        if (rc != -ENOMEM)
            s->serving = false; /* scheduler_engine_gone() follows */
        if (!s->serving)
            return;
    }
    s->moving.called = true;
    scheduler_cancel_there(s, sequence);
}

void takeover_go_on(struct scheduler *s) {
    if (!s->leaving.there)
        return;
    if (s->leaving.n_slots == 0 && !s->leaving.emptied) {
        s->leaving.emptied = true;
        s->ops->emptied(s->user, s->leaving.generation);
    }
    if (s->moving.given && s->moving.sequence->proven)
        takeover_forget(s->moving.sequence);
    if (s->moving.id || s->moving.called || s->moving.given || !s->serving)
        return;
    if (!s->moving.sequence) {
        s->moving.sequence = next_to_move(s);
        s->moving.n_warm = 0;
    }
    if (s->moving.sequence)
        move_on(s);
}

void takeover_forget(struct sequence *sequence) {
    struct scheduler *s = sequence->request->scheduler;
    if (s->moving.sequence != sequence)
        return;
    s->moving.sequence = NULL; /* pages that are under way are waited for */
    s->moving.called = s->moving.given = false;
}

bool takeover_end_of_pages(struct scheduler *s, uint64_t id, bool made) {
    if (!id || s->moving.id != id)
        return false;
    s->moving.id = 0;
    s->moving.n_warm = made ? s->moving.n_asked : UINT32_MAX; /* more will not be had: as it is */
    takeover_go_on(s);
    return true;
}

void takeover_move(struct sequence *sequence, uint32_t n_cached, uint64_t now_ns) {
    struct scheduler *s = sequence->request->scheduler;
    takeover_forget(sequence);
    sequence->leaving = false;
    sequence->state = SEQUENCE_READY;
    if (!sequence->moved)
        sequence->n_cached = n_cached;
    sequence->moved = true;
    if (!s->serving || scheduler_admit(s, sequence, now_ns) < 0)
        return; /* as any that is interrupted */
    s->moving.sequence = sequence;
    s->moving.given = true;
    s->counts.moved++;
}
