/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - inside the scheduler: what its files share.
 *
 * scheduler.c is the door for clients, admit.c decides what runs, news.c takes what engines say,
 * takeover.c moves sequences from an engine that leaves to the one that serves. */
#ifndef OCTARC_SCHEDULER_STATE_H
#define OCTARC_SCHEDULER_STATE_H

#include "daemon/scheduler/request.h"
#include "octarc/error.h"

struct scheduler {
    struct scheduler_options options;
    const struct scheduler_engine_ops *ops; /* borrowed */
    void *user;
    const struct tokenizer *tokenizer;
    struct request *first, *last; /* oldest first */
    uint64_t last_request, last_sequence;
    uint64_t now_ns; /* of the latest call that brought a time */

    uint64_t generation; /* of the engine that serves, or served last */
    bool serving;
    uint32_t credit;   /* sequences the engine said it has room for, less those sent since */
    uint32_t last_uid; /* the last one served */
    /* What the engine holds.  A slot whose sequence is NULL waits for the engine's last word. */
    struct slot {
        uint64_t id;
        struct sequence *sequence;
    } * slots;
    uint32_t n_slots, slots_capacity;
    /* The engine that served before, while what it holds is moved from it (takeover.c). */
    struct {
        bool there, emptied;
        uint64_t generation;
        struct slot *slots; /* no more are added */
        uint32_t n_slots;
    } leaving;
    struct {
        struct sequence *sequence; /* the next that is moved; NULL: none is */
        uint64_t id;              /* under which the engine that serves computes pages for it now */
        uint32_t n_asked, n_warm; /* tokens: of the pages under way; of those that are there */
        bool called;              /* it is called back from the engine that leaves */
        bool given;               /* to the one that serves; its next token is awaited */
    } moving;

    int refusal;
    struct err refusal_text;
    bool draining;
    void (*drained)(void *user);
    void *drained_user;
    unsigned depth; /* of calls that may run callbacks */
    struct scheduler_counts counts;
};

/* Around everything that may run callbacks; leaving the outermost frees what is gone. */
void scheduler_enter(struct scheduler *scheduler);
void scheduler_leave(struct scheduler *scheduler);

/* Admit what may run.  Sends no event. */
void scheduler_pump(struct scheduler *scheduler, uint64_t now_ns);
/* Send one to the engine that serves, whatever it said of its room.  -ENOMEM: not now; else the
 * engine is gone. */
int scheduler_admit(struct scheduler *scheduler, struct sequence *sequence, uint64_t now_ns);
/* Its tokens so far, copied, or NULL. */
int32_t *sequence_tokens(const struct sequence *sequence, uint32_t *n);
/* Tell the engine that has it to end it.  Negative: that engine is gone. */
int scheduler_cancel_there(struct scheduler *scheduler, const struct sequence *sequence);
/* The sequence is no longer the engine's concern: cancel it there; its slot stays until the engine
 * says so. */
void scheduler_release(struct sequence *sequence);

/* --- takeover.c --- */

/* Go on moving sequences, as far as that can be done without waiting. */
void takeover_go_on(struct scheduler *scheduler);
/* The sequence is not to be moved any more: it is over, or was given back. */
void takeover_forget(struct sequence *sequence);
/* What the engine that serves said of pages that it was asked for.  False: it is not of those. */
bool takeover_end_of_pages(struct scheduler *scheduler, uint64_t id, bool made);
/* The engine that leaves let go of it, as it was told: it is given to the one that serves. */
void takeover_move(struct sequence *sequence, uint32_t n_cached, uint64_t now_ns);

/* End one choice, and the request with its last one. */
void sequence_end(struct sequence *sequence, struct request_end *end, uint64_t now_ns);
void request_end_all(struct request *request, enum finish finish, int error, const char *text);

#endif
