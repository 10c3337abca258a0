/* SPDX-License-Identifier: Apache-2.0 */
/* host.h - what the protocol asks of the service around it.
 *
 * service/ fills these callbacks at init; protocol/ turns the plain values into JSON.  All pointers
 * in views are lent until the loop runs again.  Threads: one, the front's loop. */
#ifndef OCTARC_PROTOCOL_HOST_H
#define OCTARC_PROTOCOL_HOST_H

#include "daemon/placement/moves.h"
#include "daemon/placement/topology.h"
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

#define FAULT_KINDS_MAX 4

struct status_view {
    enum service_state state;
    const char *status_text; /* one line, as systemctl status shows it */
    const char *version, *backend, *split, *weights, *kv_type;
    const char *backend_why;  /* it takes the cards' place, because …; NULL: as configured */
    const char *storage;      /* "svm", "usm"; NULL: no card, or nothing serves */
    const char *products;     /* of quantised types: "xmx", "dp4a"; NULL as storage is */
    const char *products_why; /* dp4a, because …; NULL: as it should be */
    const char *kernels;      /* made beforehand: "native"; by the driver: "spirv" */
    const char *kernels_why;  /* spirv, because …; NULL: as it should be */
    const char *storage_why;  /* usm, because …; NULL: as configured */
    const char *model_path;   /* NULL: no model */
    uint64_t generation;      /* engines started for this model so far */
    uint64_t rebalances;      /* changes to another plan inside a running engine */
    uint64_t uptime_ns;
    uint32_t n_cards, cards_online;
    char cards_why[400]; /* of those that went by themselves: which, and why; empty: none did */
    uint32_t context, max_sequences;
    uint64_t weights_bytes; /* of all cards, actual */
    uint64_t reused_bytes;  /* of these, found whole in memory: not read from the file */
    uint64_t host_bytes;    /* of those in use, in host memory, as planned … */
    uint64_t host_spill;    /* … and as much as a plan may leave there now */
    int64_t huge_bytes;     /* of these, on huge pages when they were loaded; -1: not known */
    uint64_t load_done_bytes, load_total_bytes;
    const char *last_event; /* NULL, or the last recovery in words */
};

struct change_view {
    uint64_t ms; /* since 1970 */
    const char *from, *to, *why;
};

struct card_view {
    uint32_t card;
    const struct topology_card *described;
    const char *state;    /* "online", "lost" … */
    const char *identity; /* wherever it is plugged in */
    bool moving, used;    /* on its way to another state; a plan may use it */
    uint64_t since_ms;    /* since 1970; 0: since the service started */
    uint32_t n_faults;
    struct fault_view {
        const char *name;
        uint64_t count; /* ever */
    } faults[FAULT_KINDS_MAX];
    /* Changes of its state, the oldest first; false: no more. */
    bool (*change)(const void *history, uint32_t i, struct change_view *change);
    const void *history;
    uint64_t capacity_bytes;
    const struct plan_card *plan;                                   /* NULL: no model */
    uint64_t weights_bytes, kv_bytes, scratch_bytes, landing_bytes; /* actual */
    int64_t huge_bytes; /* of weights_bytes, on huge pages when they were loaded; -1: not known */
    bool reused;
    uint64_t advised_bytes, prefetched_bytes;
    int64_t resident_bytes; /* of those prefetched, at home after the load; -1: cannot be told */
    uint64_t fetched_bytes, fetch_faults; /* from host memory in steps, by all generations */
};

/* What would move, or moves, between the plan in use and the one for the cards there are now. */
struct rebalance_view {
    bool changes;       /* they differ */
    struct moves moves; /* the caller's: moves_finish() */
    const struct model *model;
    uint64_t reload_bytes; /* that this version reads from the file for it */
};

/* What no other view counts. */
struct metrics_view {
    uint64_t generations_failed, generations_replaced; /* that ended: by themselves, on purpose */
    uint64_t rebalances;                               /* inside a running engine */
    uint64_t kv_kept_tokens;                           /* K and V used again by another engine */
    uint64_t verified_bytes, scrubs, ranges_harmed, ranges_repaired; /* of weights in use */
    struct link_bytes carried; /* from card to card, by all generations */
    bool pressed;              /* memory is short on the host … */
    uint64_t pressures;        /* … and how often that began */
};

/* Something that happened to a card or a generation. */
struct event {
    uint64_t number;       /* from 1 on */
    uint64_t ms;           /* since 1970 */
    const char *kind;      /* card, start, ready, end, plan, rebalance, rebalanced, no_room, harmed,
                            * residency, pressure, backend …; static */
    int32_t card;          /* -1: none */
    const char *from, *to; /* states of the card; NULL: none; static */
    uint64_t generation;   /* 0: none */
    double seconds;        /* it took, or lived; negative: says nothing of it */
    uint32_t requests;     /* that are replayed */
    bool has_bytes;        /* of the plan, and what becomes of them: */
    uint64_t moved_bytes, reloaded_bytes, reused_bytes;
    bool has_tokens; /* says something of: */
    uint64_t tokens;
    char tensor[64]; /* that was harmed; empty: none */
    char text[240];  /* for people */
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

/* What was found of the weights in use. */
struct check_view {
    uint32_t n_cards; /* that were checked */
    struct checked_card {
        uint32_t card, ranges, harmed, repaired;
        uint64_t bytes;
        double seconds; /* of verifying alone */
    } cards[CARDS_MAX];
};

struct protocol_host {
    void *user;
    uint64_t (*now_ns)(void *user); /* monotonic */
    void (*status)(void *user, struct status_view *view);
    uint32_t (*cards)(void *user, struct card_view views[CARDS_MAX]); /* how many */
    const struct topology *(*topology)(void *user);
    const struct model_view *(*model)(void *user); /* NULL: none */
    struct scheduler *(*scheduler)(void *user);
    /* Rehearse a fault.  -EPERM: not switched on (err names the key), -EINVAL: no such card. */
    int (*drill_lose)(void *user, uint32_t card, struct err *err);
    int (*drill_kill_engine)(void *user, struct err *err);
    int (*drill_return)(void *user, uint32_t card, struct err *err);
    int (*drill_corrupt)(void *user, uint32_t card, bool silent, struct err *err);
    int (*drill_hang)(void *user, uint32_t card, struct err *err); /* -ENODEV: nothing serves */
    /* Take a card out, back.  0: it is on its way.  -EINVAL, -ENOSPC: it cannot, err says why, and
     * nothing was changed. */
    int (*drain)(void *user, uint32_t card, bool release, struct err *err);
    int (*online)(void *user, uint32_t card, struct err *err);
    /* -ENODEV: no model, or no plan in use. */
    int (*rebalance)(void *user, bool dry_run, struct rebalance_view *view, struct err *err);
    /* The numbers of the events that are kept (last < first: none), and each of them. */
    void (*event_range)(void *user, uint64_t *first, uint64_t *last);
    const struct event *(*event)(void *user, uint64_t number);
    void (*metrics)(void *user, struct metrics_view *view);
    /* Then done once, perhaps from inside this: with limits, or NULL and why there are none.  Only
     * one is remembered: pass the same each time.  -ENODEV: no engine serves; done is not called.
     */
    int (*measure)(void *user,
                   void (*done)(void *arg, const struct limits_view *limits, const char *why),
                   void *arg, struct err *err);
    /* The same for the weights in use, of a card or (-1) all.  -EINVAL: no such card, or it holds
     * none; -EBUSY: others are being checked. */
    int (*check)(void *user, int64_t card,
                 void (*done)(void *arg, const struct check_view *view, const char *why), void *arg,
                 struct err *err);
    int (*reload)(void *user, struct err *err); /* keeps the old configuration on error */
    /* Run work off the loop (a thread of the pool), then done on the loop. */
    int (*offload)(void *user, void (*work)(void *arg), void (*done)(void *arg), void *arg);
    uint32_t max_request_bytes; /* key max_request_bytes */
};

#endif
