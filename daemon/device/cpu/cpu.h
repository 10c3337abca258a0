/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.h - inside the cpu backend: its cards and their memory.
 *
 * A card is honest: each of its areas is memory of its own, mapped at an address of its own.
 * A lost card's areas are mapped inaccessible, so code that still reads them crashes. */
#ifndef OCTARC_DEVICE_CPU_CPU_H
#define OCTARC_DEVICE_CPU_CPU_H

#include <pthread.h>
#include <stdio.h>

#include "daemon/device/cpu/isa/kernels.h"
#include "daemon/device/cpu/team.h"
#include "daemon/device/device.h"

struct cpu_area {
    char *base;            /* NULL: not reserved */
    uint64_t bytes;        /* that count */
    uint64_t room;         /* asked for, or the memfd's */
    uint64_t mapped;       /* whole pages */
    int fd;                /* own duplicate of the memfd; -1: private */
    _Atomic uint32_t *own; /* cards of this process that have the memory; private only */
    struct cpu_huge *huge; /* owned; what is made huge before it is written; NULL: nothing */
};

/* Whole pages [begin, end) of an area, and who may use them. */
struct cpu_advice {
    enum area area;
    uint64_t begin, end;
    uint32_t readers;
    bool read_mostly, in_host;
};

struct cpu_card {
    bool present, lost;
    uint64_t capacity_bytes; /* 0: not limited */
    uint64_t host_bytes;     /* of AREA_WEIGHTS, at its end */
    struct cpu_area areas[AREA_COUNT];
    struct cpu_advice *advice; /* owned; of its memory, in the order in which it was given */
    size_t n_advice;
    _Atomic uint64_t *holds; /* owned; [blocks of AREA_LANDING]: where in AREA_WEIGHTS lies what a
                              * block holds; 0, where the header is: nothing */
    _Atomic uint64_t fetched_bytes, faults;
};

/* Where a plane of sums lies that another card made. */
struct cpu_pull {
    bool sent; /* false: it is the card's own */
    uint32_t card;
    uint64_t offset; /* in AREA_SCRATCH */
};

/* The operations of all cards in one phase. */
struct cpu_task {
    const struct op *op;
    uint32_t card;
    uint32_t begin;            /* its first item in the phase, in steps of device.shape */
    uint32_t senders;          /* bit per card: whose planes it reads */
    uint32_t copies, n_copies; /* of device.tasks: exchanges of what it makes */
    uint32_t pulled_rows;      /* an exchange: what it brings to steps of at most so many rows is
                                * read where it lies */
    const struct op *input;    /* the exchange whose sender it reads in steps of one row, or NULL */
    struct cpu_pull *pulls;    /* of a COMBINE: [TREE_NODES], by slot */
};
struct cpu_phase {
    uint32_t first, n; /* of device.tasks */
    uint32_t items;    /* in steps of device.shape */
    bool carried;      /* exchanges that the tasks of the phase before make, not in isolation */
    uint32_t strips;   /* phases from this one on that may run strip by strip (strip.h); 0: none */
};

/* Phases between two meetings of the team: one whose items are shared out, or a few that run strip
 * by strip, and those behind that are so small that the member who ends it does them by itself. */
struct cpu_stage {
    uint32_t first, n;   /* of device.phases */
    uint32_t shared;     /* of these, from the first on: more than one run strip by strip */
    uint32_t items;      /* shared out */
    uint32_t reads_next; /* the next stage whose items read weights; n_stages: none */
};

/* How far the team is with a stage, in this step; on a cache line of its own. */
struct cpu_meter {
    _Alignas(64) _Atomic uint32_t done; /* items */
    _Atomic uint32_t over;              /* a gate of the team */
};

/* Memory that lies in one piece. */
struct cpu_run {
    const char *at;
    uint64_t bytes;
};

/* Where a member's time went, in nanoseconds; counted where a profile is wanted. */
struct cpu_spent {
    uint64_t ops[OP_KINDS], pieces[OP_KINDS], strips, wait;
};

/* What a member of the team needs for itself, the same at any step: weights and inputs made ready
 * inside one item.  Owned by the device; sized by load. */
struct cpu_work {
    struct panel panels[2];
    struct panel lanes[CARDS_MAX]; /* of a block of rows, of each card */
    float *sums; /* of experts.c: the lanes of some tiles; and what one expert adds to them */
    /* The weights that it reads after those of its items; NULL: not known. */
    const uint8_t *next[2];
    struct cpu_spent spent;
    _Alignas(64) _Atomic uint32_t done[CARDS_MAX]; /* items of each card, in this step */
};

struct device {
    const struct device_ops *ops;
    uint32_t n_cards, max_rows;
    bool isolate, pin; /* pin: at the next load */
    bool profile;
    uint64_t steps, whole_ns; /* with a profile */
    struct cpu_card cards[CARDS_MAX];
    const struct kernels *kernels;
    struct team *team;
    struct cpu_task *tasks; /* owned; by phase */
    size_t n_tasks;
    struct cpu_pull (*pulls)[TREE_NODES]; /* owned; of each COMBINE */
    uint32_t needed;                      /* bit per card: the tasks read or write its memory */
    uint32_t hung;                        /* bit per card: its items are never done any more */
    _Atomic bool stepping;                /* the counts of items are of the step under way */
    _Atomic uint32_t stale;   /* bit per card: what its landing holds may not be right any more */
    pthread_mutex_t faulting; /* one brings a missing block at a time */
    struct cpu_phase *phases; /* owned */
    uint32_t n_phases;
    struct cpu_stage *stages; /* owned; [n_phases] */
    uint32_t n_stages;
    struct cpu_meter *meters; /* owned; [n_phases] */
    _Atomic uint32_t *taken;  /* owned; [n_phases][team_size]: of a member's part of a stage, items
                               * that were taken, by it or by others who had none left */
    struct {
        uint32_t n_rows, n_outputs;
    } shape;               /* that the counts of items are for */
    struct cpu_work *work; /* owned; [team_size] */
    char *work_memory;     /* owned; what the panels point into */
};

/* memory.c */
int cpu_reserve(struct device *device, uint32_t card, enum area area, uint64_t room, uint64_t bytes,
                int fd, struct err *err);
int cpu_share(struct device *from, uint32_t from_card, enum area area, struct device *to,
              uint32_t to_card, uint64_t room, uint64_t bytes, struct err *err);
void cpu_release(struct device *device, uint32_t card, enum area area);
int cpu_extend(struct device *device, uint32_t card, enum area area, uint64_t room, uint64_t bytes,
               int fd, struct err *err);
int cpu_hold(struct device *device, uint32_t card, enum area area, uint32_t piece, int *fd,
             uint64_t *bytes, struct err *err);
int cpu_clear(struct device *device, uint32_t card, enum area area, uint64_t offset,
              uint64_t bytes);
int cpu_lose(struct device *device, uint32_t card);
/* A stretch of one of a card's areas.  -EINVAL: there is no such; -ENODEV. */
int cpu_stretch(const struct device *device, uint32_t card, enum area area, uint64_t offset,
                uint64_t bytes, char **at);
/* Make all areas of a card accessible or not (isolate). */
int cpu_protect(struct device *device, uint32_t card, bool accessible);
/* The same of that part of its weights which lies in host memory. */
int cpu_protect_host(struct device *device, uint32_t card, bool accessible);

/* advice.c */
int cpu_advise(struct device *device, const struct device_advice *advice);
void cpu_forget_advice(struct cpu_card *card, enum area area);
/* Of a card whose areas are inaccessible: make accessible what `reader`, a card or CARD_HOST, was
 * advised to use; to be written too where it is its own and not read-mostly; what stays in host
 * memory only where it fetches (isolate). */
int cpu_admit(struct device *device, uint32_t card, uint32_t reader, bool fetches);
int cpu_residency(struct device *device, uint32_t card, enum area area, uint64_t offset,
                  uint64_t bytes, uint64_t *resident);

/* load.c: checks the programs and sorts their operations into phases. */
int cpu_check(struct device *device, const struct program *programs, struct err *err);
int cpu_load(struct device *device, const struct program *programs, struct err *err);

/* step.c */
/* Make only that accessible which a task was advised to use; NULL: all areas of all cards. */
int cpu_isolate(struct device *device, const struct cpu_task *task);
int cpu_step(struct device *device, const struct step_params *params, uint32_t *card);
void cpu_pending(struct device *device, struct device_pending *out);
int cpu_hang(struct device *device, uint32_t card);

/* profile.c */
int cpu_profile(struct device *device, struct device_profile *profile);
/* Nanoseconds of a clock that never goes back; 0 without a profile. */
uint64_t cpu_profile_now(const struct device *device);

/* measure.c */
int cpu_measure(struct device *device, struct device_limits *limits);

/* huge.c */
int cpu_huge(struct device *device, uint64_t bytes[CARDS_MAX]);
/* Add what `smaps`, a text as /proc/self/smaps is one, says of the cards' weights; -ENOTSUP: it has
 * no such figures. */
int cpu_huge_read(const struct device *device, FILE *smaps, uint64_t bytes[CARDS_MAX]);
/* For an area whose first `bytes` will all be used; NULL: no memory, or not a huge page's bytes.
 * Freed with free(). */
struct cpu_huge *cpu_huge_create(uint64_t bytes);
/* Put on huge pages what of the area lies around [offset, offset + bytes), which is about to be
 * written: once, and as far as the kernel will.  What was written stays.  Any thread. */
void cpu_huge_make(struct cpu_area *area, uint64_t offset, uint64_t bytes);

/* ops.c: an operation is cut into items that may run in any order and on any thread. */
uint32_t cpu_op_items(const struct op *op, const struct step_params *params);
void cpu_op_run(struct device *device, const struct cpu_task *task,
                const struct step_params *params, uint32_t begin, uint32_t end,
                struct cpu_work *work);

/* The weights that an item reads: of how many runs, up to two, the others empty. */
uint32_t cpu_op_weights(const struct device *device, uint32_t card, const struct op *op,
                        uint32_t item, struct cpu_run runs[2]);

/* crossings.c: once tasks and phases are known, find the exchanges that need no phase. */
void cpu_find_crossings(struct device *device);

/* exchange.c: items of OP_EXCHANGE, as above. */
uint32_t cpu_exchange_items(const struct op *op, const struct step_params *params);
void cpu_exchange_run(struct device *device, const struct op *op, const struct step_params *params,
                      uint32_t item);
/* Of an EXCHANGE_ACTIVATION or EXCHANGE_KV, what it copies of rows [begin, end) of the step; of an
 * EXCHANGE_LOGITS, of tiles [begin, end) of the sender's logits. */
void cpu_exchange_part(struct device *device, const struct op *op, const struct step_params *params,
                       uint32_t begin, uint32_t end);

/* landing.c: items of OP_FETCH, as above. */
uint32_t cpu_fetch_items(const struct op *op);
void cpu_fetch_run(struct device *device, uint32_t card, const struct op *op, uint32_t item);
/* Before tiles [begin, end) of a matrix are read: what of them is not in the landing is brought,
 * and counted as a fault. */
void cpu_landing_need(struct device *device, uint32_t card, const struct matrix *w, uint32_t begin,
                      uint32_t end);
/* Before a step: fetch anew what is fetched ahead, for cards whose weights were written. */
void cpu_landing_ready(struct device *device);
/* Something was written to the card's weights, or its programs are new. */
void cpu_landing_stale(struct device *device, uint32_t card);

static inline char *cpu_at(const struct device *device, uint32_t card, enum area area,
                           uint64_t offset) {
    return device->cards[card].areas[area].base + offset;
}

/* The K of a slot in a page. */
static inline char *cpu_kv_at(const struct device *device, uint32_t card, const struct kv_place *kv,
                              uint32_t slot, uint32_t page) {
    return cpu_at(device, card, AREA_KV,
                  page * kv->page_bytes + kv->offset + slot * kv->slot_bytes);
}

/* The first item of a member's part of a stage; the end of the part before. */
static inline uint32_t cpu_part_begin(const struct device *device, const struct cpu_stage *stage,
                                      uint32_t member) {
    return (uint32_t)((uint64_t)stage->items * member / team_size(device->team));
}

/* Whether an exchange has nothing to do in a step of so many rows. */
static inline bool cpu_is_pulled(const struct cpu_task *task, uint32_t n_rows) {
    return task->pulled_rows >= n_rows;
}

static inline bool cpu_is_hung(const struct device *device, uint32_t card) {
    return device->hung >> card & 1;
}

/* Only the member itself writes its counts, so an addition need not be whole. */
static inline void cpu_count_done(struct cpu_work *work, uint32_t card, uint32_t n) {
    _Atomic uint32_t *done = &work->done[card];
    atomic_store_explicit(done, atomic_load_explicit(done, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

#endif
