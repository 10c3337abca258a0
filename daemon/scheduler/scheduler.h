/* SPDX-License-Identifier: Apache-2.0 */
/* scheduler.h - order: which request runs when, and what of it has been said.
 *
 * A request is its tokens and its parameters; it becomes n sequences.  The scheduler admits
 * sequences to the serving engine as credits allow (those that were interrupted first, oldest
 * request first; then fair between uids, oldest first inside one), takes only the next position of
 * the current generation, turns tokens into text (whole UTF-8, stop strings held back), and replays
 * every unfinished sequence when a generation ends: prompt and tokens so far go to the next engine,
 * which goes on.  The client sees a pause.
 *
 * Threads: one, the front's loop.  Time comes in as an argument, so a test can own it. */
#ifndef OCTARC_SCHEDULER_SCHEDULER_H
#define OCTARC_SCHEDULER_SCHEDULER_H

#include "daemon/channel/messages.h"

struct err;
struct scheduler;
struct tokenizer;
struct request; /* one accepted request */

#define REQUESTS_MAX_DEFAULT     1024 /* waiting and running, all users: key max_queue */
#define REQUESTS_PER_UID_DEFAULT 64   /* key max_queue_per_user */
#define CHOICES_MAX              16   /* n of a request */
#define STOP_STRINGS_MAX         16
#define STOP_STRING_BYTES_MAX    256

enum finish {
    FINISH_NONE,
    FINISH_STOP,
    FINISH_WORD,
    FINISH_LENGTH,
    FINISH_CANCELLED,
    FINISH_ERROR
};

struct request_spec {
    uint32_t uid;
    const char *kind;      /* "completion", "chat": shown by ps; static */
    const int32_t *tokens; /* prompt; copied */
    uint32_t n_tokens;
    uint32_t max_tokens; /* 0: score the prompt only; UINT32_MAX: until the context is full */
    uint32_t n;          /* choices, 1 .. CHOICES_MAX */
    bool logprobs;
    uint32_t n_logprobs;
    bool prompt_logprobs;
    bool cache_prompt;
    bool stream; /* deliver text as it comes; else on_text is called with the whole at the end
                  * of each choice (tokens are delivered the same way) */
    struct sampling
        sampling; /* seed fixed by the caller; choice is set per sequence; bias copied */
    const char *const *stops; /* copied */
    uint32_t n_stops;
    bool special; /* control tokens appear as text */
};

/* One token of a choice, for log-probabilities and return_tokens. */
struct request_token {
    int32_t token;
    float logprob;
    const struct token_logprob *top;
    uint32_t n_top;
    uint32_t text_offset; /* bytes of this choice's text before it */
};

struct request_usage {
    uint32_t prompt_tokens, cached_tokens, completion_tokens;
    double prompt_ms, predicted_ms;
};

struct request_end {
    enum finish finish;
    const char *stop_word;  /* FINISH_WORD */
    int32_t stop_token;     /* FINISH_STOP: the end-of-generation token */
    bool truncated;         /* the context was full */
    int error;              /* FINISH_ERROR: negative errno … */
    const char *error_text; /* … and its text */
    struct request_usage usage;
};

/* News of a request.  All pointers are lent for the call.  `choice` counts from 0. */
struct request_events {
    /* Log-probabilities of the prompt: entry i belongs to prompt token first + i. */
    void (*prompt)(void *user, uint32_t choice, const struct msg_prompt *prompt);
    /* Text that is final (whole UTF-8, no part of a stop string) and the tokens since the last
     * call.  Either may be empty. */
    void (*text)(void *user, uint32_t choice, const char *text, size_t n,
                 const struct request_token *tokens, uint32_t n_tokens);
    void (*choice_end)(void *user, uint32_t choice, const struct request_end *end);
    /* After the last choice; the request is gone when this returns. */
    void (*end)(void *user);
    /* The generation changed and the request waits (true) or runs again (false). */
    void (*waiting)(void *user, bool waiting);
};

/* Below: how the scheduler reaches engines. */
struct scheduler_engine_ops {
    /* 0, or negative: the engine is gone; scheduler_engine_gone() follows.  -ENOMEM of admit alone:
     * not now. */
    int (*admit)(void *user, const struct msg_admit *admit);
    int (*cancel)(void *user, uint64_t generation, uint64_t sequence);
    /* Nothing is left in the engine that leaves (scheduler_take_over); never from inside that. NULL
     * where none ever leaves. */
    void (*emptied)(void *user, uint64_t generation);
};

struct scheduler_options {
    uint32_t max_requests, max_requests_per_uid;
    uint32_t max_sequences; /* in the engine at once */
    uint32_t context;
    /* A request that was in this many engines that died, without a token of it in between, and
     * alone in the last of them, fails; after one less it is replayed beside none but requests that
     * have had a token from the new engine.  3. */
    uint32_t poison_deaths;
};

int scheduler_create(struct scheduler **scheduler, const struct scheduler_options *options,
                     const struct scheduler_engine_ops *ops, void *user);
void scheduler_destroy(struct scheduler *scheduler); /* ends every request with FINISH_CANCELLED */
/* A (new) model: the tokenizer is borrowed until the next call, NULL: no model.  Only while nothing
 * runs. */
void scheduler_set_model(struct scheduler *scheduler, const struct tokenizer *tokenizer,
                         uint32_t context, uint32_t max_sequences);

/* Accept a request.  *request stays valid until events->end.  No event is sent before this returns.
 *   -EINVAL    empty prompt, or longer than the context (err says both lengths)
 *   -EOVERFLOW the queue is full (err names the key); -EDQUOT: this uid's share of it
 *   -ESHUTDOWN draining
 *   or the error of scheduler_refuse(); -ENODEV without a model */
int scheduler_submit(struct scheduler *scheduler, const struct request_spec *spec,
                     const struct request_events *events, void *user, uint64_t now_ns,
                     struct request **request, struct err *err);
uint64_t request_id(const struct request *request); /* shown as "req-<id>" */
/* The client is gone: no further event is sent, not even end. */
void request_abandon(struct request *request);
/* Ends it as FINISH_CANCELLED, with events.  -ENOENT: none of this uid, or with `anyone` none. */
int scheduler_cancel(struct scheduler *scheduler, uint64_t id, uint32_t uid, bool anyone);

/* News from the engine of `generation` (service/ calls these). */
void scheduler_engine_ready(struct scheduler *scheduler, uint64_t generation, uint64_t now_ns);
/* The engine of `generation` takes over from the one that serves, which leaves: what is new goes to
 * the one, what the other holds is moved from it, one sequence after the other, each as soon as the
 * pages of its tokens are computed where it goes to.  Until its scheduler_engine_gone() the one
 * that leaves is heard, too; what it still holds then is replayed. */
void scheduler_take_over(struct scheduler *scheduler, uint64_t generation, uint64_t now_ns);
/* blame: nothing explains the end, so a request that was running may have caused it.  A card that
 * was lost or an engine that was told to end is no reason to suspect anyone. */
void scheduler_engine_gone(struct scheduler *scheduler, uint64_t generation, bool blame,
                           uint64_t now_ns);
void scheduler_on_token(struct scheduler *scheduler, const struct msg_token *msg, uint64_t now_ns);
void scheduler_on_prompt(struct scheduler *scheduler, const struct msg_prompt *msg);
void scheduler_on_end(struct scheduler *scheduler, const struct msg_end *msg, uint64_t now_ns);
void scheduler_on_preempted(struct scheduler *scheduler, const struct msg_preempted *msg);
void scheduler_on_credit(struct scheduler *scheduler, const struct msg_credit *msg);

/* No new request is accepted; calls drained (once) when the last one has ended. */
void scheduler_drain(struct scheduler *scheduler, void (*drained)(void *user), void *user);
/* Nothing will compute any more (no card, model gone): end all with this error. */
void scheduler_fail_all(struct scheduler *scheduler, int error, const char *text);

/* Accept nothing for this reason (copied) until it is called with 0. */
void scheduler_refuse(struct scheduler *scheduler, int error, const char *text);
/* Limits of a reloaded configuration; what was accepted stays. */
void scheduler_set_limits(struct scheduler *scheduler, uint32_t max_requests,
                          uint32_t max_requests_per_uid);
/* Try again what could not be done for want of memory.  Call it about once a second. */
void scheduler_tick(struct scheduler *scheduler, uint64_t now_ns);

struct request_view { /* a row of ps */
    uint64_t id;
    uint32_t uid;
    const char *kind;
    const char *state; /* "queued", "prefill", "decode", "replaying" */
    uint32_t n, prompt_tokens, completion_tokens, replays;
    uint64_t age_ns;
};
/* Calls visit for every request, oldest first. */
void scheduler_each(const struct scheduler *scheduler, uint64_t now_ns,
                    void (*visit)(void *user, const struct request_view *view), void *user);

struct scheduler_counts {
    uint32_t queued, running;
    uint32_t owed;    /* sequences whose last word is awaited from the engine, cancelled ones too */
    uint32_t leaving; /* the same of the engine that leaves */
    uint64_t accepted, finished, cancelled, failed, recovered; /* requests, since the start */
    uint64_t prompt_tokens, completion_tokens;
    /* Tokens of engines that were not taken: of another generation, of a sequence that is over, or
     * not at its next position. */
    uint64_t dropped_tokens;
    /* Prompts and answers so far that were given to an engine again, in tokens; and how often; of
     * these, how many were moved by scheduler_take_over(). */
    uint64_t replayed_tokens, replays, moved;
};
void scheduler_counts(const struct scheduler *scheduler, struct scheduler_counts *counts);

#endif
