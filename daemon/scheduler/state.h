/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - inside the scheduler: what its files share.
 *
 * scheduler.c is the door for clients, admit.c decides what runs, news.c takes what engines say. */
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
/* The sequence is no longer the engine's concern: cancel it there; its slot stays until the engine
 * says so. */
void scheduler_release(struct sequence *sequence);

/* End one choice, and the request with its last one. */
void sequence_end(struct sequence *sequence, struct request_end *end, uint64_t now_ns);
void request_end_all(struct request *request, enum finish finish, int error, const char *text);

#endif
