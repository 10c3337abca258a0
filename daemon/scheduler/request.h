/* SPDX-License-Identifier: Apache-2.0 */
/* request.h - one accepted request and its sequences; private to scheduler/.
 *
 * A callback may do anything to any request, so nothing is freed while one runs: a request that is
 * over is marked gone, skipped from then on, and swept when the outermost call returns. */
#ifndef OCTARC_SCHEDULER_REQUEST_H
#define OCTARC_SCHEDULER_REQUEST_H

#include "daemon/scheduler/text.h"

enum sequence_state {
    SEQUENCE_READY,   /* to be admitted */
    SEQUENCE_RUNNING, /* in the engine */
    SEQUENCE_ENDING,  /* over by a stop string; the engine's last word on it is awaited */
    SEQUENCE_DONE,
};

struct sequence {
    struct request *request;
    uint32_t choice;
    enum sequence_state state;
    uint64_t id;        /* of this admission */
    int32_t *generated; /* all tokens taken, owned */
    uint32_t n_generated, generated_capacity;
    struct text text;
    uint32_t prompt_next; /* position of the next prompt log-probability */
    bool proven;          /* a token came in this generation */
    bool leaving;         /* in the engine that leaves, not in the one that serves */
    bool moved;           /* it was, and was given to the one that serves … */
    uint32_t n_cached;    /* … after that one had taken so much of its prompt from shared pages */
    bool admitted;        /* ever */
    bool was_inside;      /* when the engine died, while that is sorted out */
    uint64_t admitted_ns, first_ns, last_ns;
};

struct request {
    struct request *next, *prev;
    struct scheduler *scheduler;
    struct request_events events;
    void *user;
    uint64_t id, accepted_ns;
    struct request_spec spec; /* tokens, bias owned; stops lie in `stops` */
    int32_t *tokens;
    struct text_stops stops;
    struct sequence *sequences; /* spec.n */
    uint32_t n_done;
    uint32_t deaths;  /* of engines it was in, since its last token */
    uint32_t replays; /* engines it was in that died */
    bool waiting;     /* events->waiting(true) was sent */
    bool failed, cancelled;
    bool gone;
};

/* -ENOMEM.  Copies what the spec points to. */
int request_create(struct request **request, const struct request_spec *spec,
                   const struct tokenizer *tokenizer);
void request_free(struct request *request);

/* Each of these may call events; request->gone may be true afterwards. */
void request_resumed(struct request *request);
int request_take_token(struct sequence *sequence, const struct msg_token *msg, uint64_t now_ns);
void request_take_prompt(struct sequence *sequence, const struct msg_prompt *msg);
/* End one choice.  Text that is still held goes out, except where a stop string cut it. */
void request_end_choice(struct sequence *sequence, struct request_end *end, uint64_t now_ns);

#endif
