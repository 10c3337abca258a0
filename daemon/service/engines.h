/* SPDX-License-Identifier: Apache-2.0 */
/* engines.h - the line of generations that serves a model, and its cards.
 *
 * Recovery is one path: whatever ended an engine, its process is waited for, a plan is made for the
 * cards that may be used (card.h), the next generation starts, and the scheduler replays.  A card
 * keeps its number.  Weight memory is held here, over generations, while a card's ranges stay the
 * same, and where systemd keeps descriptors over the service too (store.h); with the key weights =
 * private there is none, and every generation reads the file.
 *
 *   idle -> starting -> serving -> (gone) -> starting ...
 *              \           \---> handing over -> (gone)  other cards are to be used
 *                                       \-> waiting   no plan fits the cards that are left
 *                                       \-> resting   the model file is not what it was; or five
 *                                                     deaths in a minute without a token; from then
 *                                                     until a token, any death
 *
 * Threads: one, the loop's. */
#ifndef OCTARC_SERVICE_ENGINES_H
#define OCTARC_SERVICE_ENGINES_H

#include <uv.h>

#include "daemon/channel/messages.h"
#include "daemon/placement/layout.h"
#include "daemon/placement/topology.h"
#include "daemon/scheduler/scheduler.h"
#include "daemon/service/card.h"
#include "daemon/service/config.h"
#include "daemon/service/loaded.h"
#include "daemon/service/process.h"

#define ENGINE_DEATHS_MAX      5
#define ENGINE_DEATHS_WINDOW_S 60
#define ENGINE_REST_S          30
#define ENGINE_STOP_MS         3000
#define ENGINE_SILENCE_S       60 /* while it starts; serving: key engine_silence */
#define ENGINE_SILENCE_TICKS   4

enum engines_state {
    ENGINES_IDLE,
    ENGINES_STARTING,
    ENGINES_SERVING,
    ENGINES_HANDING_OVER,
    ENGINES_WAITING,
    ENGINES_RESTING,
    ENGINES_STOPPING
};

/* What is known of a generation's end before it comes. */
enum ending {
    ENDING_UNSEEN, /* nothing: a request may be to blame for it */
    ENDING_ASKED,  /* it is explained */
    ENDING_DEAF    /* that too, and what it says from now on may be wrong, and does not count */
};

struct events;
struct rebalance_view;
struct store;

struct engines_events {
    void (*changed)(void *user); /* state or progress */
    /* The first generation cannot come to life: a plan that does not fit, a file that is cut. */
    void (*failed)(void *user, int error, const char *text);
    void (*stopped)(void *user);
    /* The answer to engines_measure(); limits NULL: there is none, why says it. */
    void (*measured)(void *user, const struct msg_limits *limits, const char *why);
    /* The answer to engines_check(); verified NULL: there is none, why says it. */
    void (*verified)(void *user, const struct msg_verified *verified, const char *why);
    void (*card)(void *user, const struct card *card); /* its state changed; may be NULL */
    void (*links)(void *user); /* one is judged otherwise than before; may be NULL */
};

/* The weights of a card, where they outlive an engine. */
struct card_memory {
    int fd;                    /* -1: none, or private; of several pieces the first */
    uint64_t bytes;            /* of addresses */
    struct plan_range *ranges; /* that it has, unless harmed; owned; all of one card */
    size_t n_ranges;
    uint32_t n_more; /* pieces behind the first, of real cards */
    int more_fds[DEVICE_PIECES_MAX - 1];
    uint64_t borders[DEVICE_PIECES_MAX]; /* where each piece ends, the first too */
    bool left; /* by a service before, and no engine has served with it yet */
    bool kept; /* in the store */
};

struct engines {
    uv_loop_t *loop; /* borrowed, as all of these */
    struct spawner *spawner;
    struct scheduler *scheduler;
    const struct config *config;
    struct topology *topology;        /* its links' modes are changed here */
    const struct device_ops *backend; /* its pure part; the engine opens it */
    const struct loaded *loaded;      /* NULL: no model */
    struct events *log;               /* NULL: none */
    struct store *store;              /* of memory that outlives the service; NULL: none */
    struct engines_events events;
    void *user;

    enum engines_state state;
    bool ready_once;
    struct process *current;
    uint64_t number; /* of the current generation */
    uint64_t latest; /* that was given to one */
    uint64_t started_ns;
    uint32_t context;   /* tokens of one sequence */
    uint64_t n_ends[2]; /* of generations: by themselves; explained */
    struct plan plan;
    uint64_t told_places;   /* overrides of which was told that they are dropped, a bit each */
    struct msg_ready ready; /* actual bytes, by the latest generation that said so */
    struct engine_card {
        struct card card;
        uint64_t capacity_bytes;
        struct card_memory memory;
        uint64_t given_bytes; /* of weights in the memory that the current engine was given */
        bool given_left;      /* that is of a service before: they may be, for what is known */
    } cards[CARDS_MAX];
    /* K and V of the generation that served last, on real cards (held_kv.c). */
    struct {
        bool held;
        int fds[CARDS_MAX], ledger_fd;
        uint64_t bytes[CARDS_MAX]; /* 0: the card has none */
        struct kv_layout layout;
        uint32_t n_given; /* to engines, since one served */
    } kv;
    bool kv_given;           /* to the current generation */
    uint64_t kv_kept_tokens; /* of which K and V were used again, so far */
    /* The engine was told to go over to another plan while it runs (order.c). */
    struct {
        uint64_t number; /* of the latest */
        uint64_t n_done; /* that were carried out */
        bool under_way;
        bool called_off;  /* by the engine: what happened is said next */
        bool after_loss;  /* it computes nothing until then, and what it may say does not count */
        bool more;        /* it is a wave on the way to the plan that is wanted */
        struct plan plan; /* owned while it is under way … */
        struct card_memory next[CARDS_MAX]; /* … and so is memory that was made for it */
        uint64_t given_ns;
        char why[128];
        /* The one whose place it took, until that is answered: it may have been carried out. */
        struct {
            bool waits;
            uint64_t number, given_ns;
            struct plan plan;                   /* owned while it waits … */
            struct card_memory next[CARDS_MAX]; /* … and so are these */
        } before;
        bool crossed; /* that one was carried out: this one was made for another plan in use */
        /* When that one is answered, or the loss is over, what is to be done is looked at again,
         * because of this; empty: nothing was asked for meanwhile. */
        char again[128];
    } order;
    /* A second generation: one that is to take over and loads, or one that leaves (succession.c).
     */
    struct {
        struct process *process; /* NULL: there is none */
        uint64_t number, begun_ns;
        bool leaves;      /* it served before, and what it runs is moved from it */
        bool deaf;        /* it was ended, and what it says does not count */
        bool asked;       /* it leaves, and was told to end */
        struct plan plan; /* owned */
        struct card_memory next[CARDS_MAX]; /* that was made for it, until it takes over */
        uint32_t silent_s;                  /* since a message */
        uint32_t held, still_s;             /* sequences that are not moved; since that changed */
        uint64_t moved;                     /* of the scheduler's counts, when it began to leave */
        struct link_bytes carried;          /* before it */
        struct fetch_counts fetched;
        char why[128];   /* other cards are to be used */
        char again[128]; /* when it is gone that is looked at again, because of this; or empty */
    } beside;
    /* Memory is short: what nobody waits for with a request is put off (putoff.c). */
    struct {
        bool on;
        bool owed;     /* other cards are to be used then … */
        char why[128]; /* … because of this */
    } put_off;
    /* Of the weights in use (check.c). */
    struct {
        bool under_way;
        uint64_t number;                          /* of the latest that was asked for */
        int32_t card;                             /* -1: all */
        uint64_t bytes, scrubs, harmed, repaired; /* so far */
    } check;
    uint32_t n_cards;
    uint64_t host_room; /* bytes of host memory that weights may take beside what is there; what is
                         * not known is no limit */
    /* From card to card: by generations that are gone, by the current one. */
    struct link_bytes carried_before, carried;
    struct fetch_counts fetched_before, fetched; /* from host memory, the same way */
    struct msg_progress progress;
    uint32_t silent_ticks; /* since a message */

    enum ending ending;         /* of the current generation */
    bool lost_here[CARDS_MAX];  /* to the current generation: its report tells nothing new */
    bool report_due[CARDS_MAX]; /* it was told of that, and has not said so yet */
    int refused;    /* the error with which the current generation said that it cannot serve */
    bool demoted;   /* a link was: the split that is configured may have become impossible */
    bool puzzled;   /* by the last end: the next generation tries its cards first … */
    bool tries;     /* … which the current one was told */
    bool measuring; /* the current generation was asked for limits */
    bool orphaned;  /* no report of the spawner will come any more */
    char why[512];  /* what ends the current generation, where it is known */
    uint64_t gone_ns, deaths_ns[ENGINE_DEATHS_MAX];
    uint32_t n_deaths;                     /* since a token */
    bool rested;                           /* since a token */
    char storage_told[DEVICE_STORAGE_WHY]; /* why weights are not in shared virtual memory */
    char unheld_told[DEVICE_STORAGE_WHY];  /* why memory of a card is not held */
    char unkept_told[DEVICE_STORAGE_WHY];  /* why K and V are not */
    char last_event[640];                  /* the last recovery in words; empty: none */
    uv_timer_t timer;
};

/* Fill the borrowed parts first.  Nothing runs yet. */
void engines_init(struct engines *engines);
/* Start serving a model.  0; or what the plan or starting failed with: nothing was started, and no
 * event was sent. */
int engines_load(struct engines *engines, const struct loaded *loaded, struct err *err);
/* A report of the spawner. */
void engines_report(struct engines *engines, const struct spawner_report *report);
uint32_t engines_online(const struct engines *engines);

/* What was known of a card before the service started.  Before engines_load(). */
void engines_restore(struct engines *engines, uint32_t card, const struct card *saved);

/* Operators.  -EINVAL: no such card, or not in its state; -ENOSPC and others of plan_build(): the
 * other cards cannot hold the model.  err says so, and nothing was changed.  It takes a while until
 * the card is drained (with `release`: offline), or online; card_moving() is true meanwhile.  Of a
 * card that is out, or online, already: 0, and nothing changes. */
int engines_drain(struct engines *engines, uint32_t card, bool release, struct err *err);
int engines_want(struct engines *engines, uint32_t card, struct err *err);

/* The cards to be used may have changed, because of `why`: where the plan for them differs from the
 * one in use, change over to it: inside the running engine, or by a new generation and a replay. */
void engines_use_cards(struct engines *engines, const char *why);
/* What differs between the plan in use and the one for the cards that may be used now.  As
 * plan_build(); -ENODEV: no model is served. */
int engines_compare(const struct engines *engines, struct rebalance_view *view, struct err *err);
/* Cards that came back by themselves are used when that disturbs nobody.  About once a second. */
void engines_tick(struct engines *engines);

/* Memory is short on the host, or not any more.  give_back: what is only kept for convenience is
 * dropped now, by the engine too; returns how many bytes of that the cards held.  put_off: from now
 * on changes that no loss makes necessary wait, as does the scrub; what waited is made up for when
 * it is false again. */
uint64_t engines_press(struct engines *engines, bool give_back, bool put_off);

/* What is known of a card from elsewhere than its engine: it is lost, broken, or there again.
 * -EINVAL: no such card, or not in its state. */
int engines_hear(struct engines *engines, uint32_t card, enum card_event event, const char *why,
                 struct err *err);

/* So many bytes of host memory are free for weights.  Plans from now on leave no more there, beside
 * what they have there already; requests that wait for that go on.  About once a second. */
void engines_note_room(struct engines *engines, uint64_t bytes);
/* As many as a plan may leave there now. */
uint64_t engines_spill_limit(const struct engines *engines);

/* Rehearsals.  -EINVAL: no such card, or not in its state; -ENODEV: no engine is there.  A card is
 * lost at once, and its engine at the latest when it has heard of it. */
int engines_lose(struct engines *engines, uint32_t card, struct err *err);
int engines_return(struct engines *engines, uint32_t card, struct err *err);
/* The card stops at its next operation; it is fenced when its deadline is over. */
int engines_hang(struct engines *engines, uint32_t card, struct err *err);
int engines_kill(struct engines *engines, struct err *err);

/* Ask for the limits; events.measured follows, never from inside this.  Who asks while one is under
 * way gets the same answer.  -ENODEV: no engine is there. */
int engines_measure(struct engines *engines, struct err *err);

/* Ask whether the weights in use, of a card or (-1) all, are whole; events.verified follows, never
 * from inside this.  Who asks the same while one is under way gets the same answer.  -EINVAL: no
 * such card, or it holds none; -EBUSY: another is under way; -ENODEV: no engine serves. */
int engines_check(struct engines *engines, int32_t card, struct err *err);
/* A rehearsal: bits of the card's weights flip, and it says so or not.  The same, and -EBUSY while
 * a loss is dealt with. */
int engines_corrupt(struct engines *engines, uint32_t card, bool silent, struct err *err);

/* End in good order; then events.stopped, never from inside this.  A second call does not wait for
 * the engine. */
void engines_stop(struct engines *engines);
/* The spawner is gone, and every engine with it: only engines_stop() is left to do. */
void engines_orphaned(struct engines *engines);
/* After stopped: free what is held.  The timer is closed by the caller's loop. */
void engines_finish(struct engines *engines);

extern const struct scheduler_engine_ops engines_ops; /* user: struct engines */

#endif
