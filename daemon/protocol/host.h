/* SPDX-License-Identifier: Apache-2.0 */
/* host.h - what the protocol asks of the service around it.
 *
 * service/ fills these callbacks at init; protocol/ turns the plain values into JSON.  All pointers
 * in views are lent until the loop runs again.  Threads: one, the front's loop. */
#ifndef OCTARC_PROTOCOL_HOST_H
#define OCTARC_PROTOCOL_HOST_H

#include "daemon/scheduler/scheduler.h"

struct tokenizer;
struct chat_template;

enum service_state {
    SERVICE_NO_MODEL,
    SERVICE_LOADING,
    SERVICE_READY,
    SERVICE_RECOVERING,
    SERVICE_NO_DEVICE, /* no card is left that could serve */
    SERVICE_DRAINING
};

enum role { ROLE_USER, ROLE_ADMIN };

struct peer {
    uint32_t uid, gid, pid;
    enum role role;
};

struct status_view {
    enum service_state state;
    const char *status_text; /* one line, as systemctl status shows it */
    const char *version, *backend, *split, *weights, *kv_type;
    const char *model_path; /* NULL: no model */
    uint64_t generation;    /* engines started for this model so far */
    uint64_t uptime_ns;
    uint32_t n_cards, cards_online;
    uint32_t context, max_sequences;
    uint64_t weights_bytes; /* of all cards, actual */
    int64_t huge_bytes;     /* of these, on huge pages when they were loaded; -1: not known */
    uint64_t load_done_bytes, load_total_bytes;
    const char *last_event; /* NULL, or the last recovery in words */
};

struct card_view {
    uint32_t card;
    const char *name, *state; /* "online", "lost" … */
    uint64_t capacity_bytes;
    const struct plan_card *plan;                    /* NULL: no model */
    uint64_t weights_bytes, kv_bytes, scratch_bytes; /* actual */
    int64_t huge_bytes; /* of weights_bytes, on huge pages when they were loaded; -1: not known */
    bool reused;
};

/* Something that happened to a card or a generation. */
struct event {
    uint64_t number;       /* from 1 on */
    uint64_t ms;           /* since 1970 */
    const char *kind;      /* "card", "start", "ready", "end", "plan"; static */
    int32_t card;          /* -1: none */
    const char *from, *to; /* states of the card; NULL: none; static */
    uint64_t generation;   /* 0: none */
    double seconds;        /* it took, or lived; negative: says nothing of it */
    uint32_t requests;     /* that are replayed */
    bool has_bytes;        /* of the plan, and what becomes of them: */
    uint64_t moved_bytes, reloaded_bytes, reused_bytes;
    char text[240]; /* for people */
};

struct model_view {
    const char *id; /* file name without its .gguf */
    const struct model_params *params;
    const struct tokenizer *tokenizer;
    const struct chat_template *chat; /* NULL: the file has none … */
    const char *chat_error;           /* … or why it cannot be used */
    const char *bos_text, *eos_text;
    uint64_t created; /* seconds since 1970: when it was loaded */
    uint64_t file_bytes;
    uint64_t n_params;
    uint32_t context;
};

/* What the machine can do at most, and what the model asks of it. */
struct limits_view {
    uint64_t read_bytes_per_s, int8_ops_per_s; /* measured by the engine */
    uint64_t weights_bytes;                    /* of all cards */
    int64_t huge_bytes;                        /* of these, on huge pages; -1: not known */
    uint64_t token_bytes;                      /* weights that are read for one decoded token */
    uint64_t layer_params;                     /* a token is multiplied with */
    uint32_t n_threads;
    const char *isa;
};

struct protocol_host {
    void *user;
    uint64_t (*now_ns)(void *user); /* monotonic */
    void (*status)(void *user, struct status_view *view);
    uint32_t (*cards)(void *user, struct card_view views[CARDS_MAX]); /* how many */
    const struct model_view *(*model)(void *user);                    /* NULL: none */
    struct scheduler *(*scheduler)(void *user);
    /* Rehearse a fault.  -EPERM: not switched on (err names the key), -EINVAL: no such card. */
    int (*drill_lose)(void *user, uint32_t card, struct err *err);
    int (*drill_kill_engine)(void *user, struct err *err);
    /* Then done once, perhaps from inside this: with limits, or NULL and why there are none.  Only
     * one is remembered: pass the same each time.  -ENODEV: no engine serves; done is not called.
     */
    int (*measure)(void *user,
                   void (*done)(void *arg, const struct limits_view *limits, const char *why),
                   void *arg, struct err *err);
    int (*reload)(void *user, struct err *err); /* keeps the old configuration on error */
    /* Run work off the loop (a thread of the pool), then done on the loop. */
    int (*offload)(void *user, void (*work)(void *arg), void (*done)(void *arg), void *arg);
    uint32_t max_request_bytes; /* key max_request_bytes */
};

#endif
