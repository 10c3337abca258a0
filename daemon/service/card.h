/* SPDX-License-Identifier: Apache-2.0 */
/* card.h - the state of a card: what may happen to it, and what follows.
 *
 *                 drain              leave             release
 *     online ──────────► draining ──────────► drained ──────────► offline
 *       │ ▲                 │ keep: back to online                  ▲
 *  lose │ │ serve           │ lose, fence: an operator wanted it    │ drain
 * fence │ │                 ▼ out, so it stays out ────────────► offline
 *       │ └─ probing ◄── return (after a quiet time) ── lost, fenced
 *       │       ▲
 *       │       └─ online: an operator's word, from every state in which it is not used
 *       └────► lost | fenced; the n-th fault within a minute: quarantined, until an operator's word
 *     corrupt is a fault that changes no state by itself: the card was harmed and is repaired
 *     drain of one that is drained or offline, online of one that is online: it is so already, and
 *     nothing changes
 *     break: its driver gave it up, and only hands can mend it: quarantined, from every state
 *
 * A card is a plain value.  It has no clock: the time comes in.  Whether its memory is there, and
 * who computes on it, is engines.c's concern.  Threads: no shared state. */
#ifndef OCTARC_SERVICE_CARD_H
#define OCTARC_SERVICE_CARD_H

#include <stdbool.h>
#include <stdint.h>

struct err;

#define CARD_FAULTS_WINDOW_S 60
#define CARD_FAULTS_MOST     64 /* of key card_faults */
#define CARD_HISTORY_MAX     32 /* transitions that are remembered */
#define CARD_WHY_MAX         120
#define CARD_IDENTITY_MAX    64

enum card_state {
    CARD_ONLINE,
    CARD_DRAINING, /* used until the cards that are left have taken over */
    CARD_DRAINED,  /* not used; what it held is still there */
    CARD_LOST,     /* gone by itself */
    CARD_FENCED,   /* silent, no longer waited for */
    CARD_OFFLINE,  /* not used, nothing held; waits for an operator */
    CARD_PROBING,  /* back; quiet for a while, then the next plan uses it */
    CARD_QUARANTINED,
    CARD_STATE_COUNT
};

enum card_event {
    CARD_DRAIN,   /* an operator takes it out */
    CARD_LEAVE,   /* nothing runs on it any more */
    CARD_KEEP,    /* the drain is called off: the others cannot do without it */
    CARD_RELEASE, /* nothing is held on it any more */
    CARD_LOSE,
    CARD_FENCE,
    CARD_CORRUPT, /* what it holds was harmed, and is repaired; it is used on */
    CARD_BREAK,   /* it is gone, and nothing that could be waited for brings it back */
    CARD_RETURN,  /* it is there again, by itself */
    CARD_WANT,    /* an operator takes it back */
    CARD_SERVE,   /* it is used again */
    CARD_EVENT_COUNT
};

enum card_fault { CARD_FAULT_LOST, CARD_FAULT_SILENT, CARD_FAULT_CORRUPT, CARD_FAULT_COUNT };

/* What is known of it wherever it is plugged in: "uuid:…", "serial:…", else its slot. */
struct card_identity {
    char text[CARD_IDENTITY_MAX];
};

/* Both clocks of one moment. */
struct card_time {
    uint64_t ns; /* monotonic */
    uint64_t ms; /* since 1970 */
};

struct card_change {
    uint64_t ms; /* since 1970 */
    enum card_state from, to;
    bool fault; /* it went by itself, or was harmed */
    char why[CARD_WHY_MAX];
};

struct card_rules {
    uint64_t quiet_ns;   /* key card_quiet: without a fault before it is used again by itself */
    uint32_t faults_max; /* key card_faults: so many within CARD_FAULTS_WINDOW_S, quarantine */
};

struct card {
    struct card_identity identity;
    enum card_state state;
    uint64_t since_ms; /* 0: since the service started */
    uint64_t quiet_until_ns;
    bool release;                      /* what it holds goes as soon as it is drained */
    uint64_t faults[CARD_FAULT_COUNT]; /* ever */
    uint64_t recent_ns[CARD_FAULTS_MOST];
    uint32_t n_recent; /* the oldest first */
    struct card_change history[CARD_HISTORY_MAX];
    uint32_t n_history; /* the oldest first */
};

/* Online, without a history. */
void card_init(struct card *card, const char *identity);

/* `number` and `why` are for the texts.  0; -EINVAL: not in this state (err names card and state,
 * what is wrong and what helps); *card is untouched then. */
int card_apply(struct card *card, uint32_t number, enum card_event event, const char *why,
               const struct card_time *now, const struct card_rules *rules, struct err *err);

/* The next plan may use it. */
bool card_usable(const struct card *card, uint64_t now_ns);
/* It is on its way from one state to another. */
bool card_moving(const struct card *card);

/* What of a card outlives the service.  A card that was taken out by an operator or is quarantined
 * stays so; one that went by itself is tried again.  Faults of the last minute count on. */
void card_restore(struct card *card, const struct card *saved, const struct card_time *now);

const char *card_state_name(enum card_state state);
int card_state_find(const char *name); /* -EINVAL: none */
const char *card_fault_name(enum card_fault fault);

#endif
