/* SPDX-License-Identifier: Apache-2.0 */
/* cards.h - inside the level_zero backend: its cards, their memory and their kernels.
 *
 * Storage is usm: device allocations, which no host instruction can read; or, of weights only, svm:
 * memory of this process that the kernel keeps on its card (svm.h).  What the host gives or takes
 * goes through a piece of pinned host memory (transfer.c). */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_CARDS_H
#define OCTARC_DEVICE_LEVEL_ZERO_CARDS_H

#include <pthread.h>
#include <stdatomic.h>

#include "daemon/device/device.h"
#include "daemon/device/drm/xe.h"
#include "daemon/device/level_zero/api.h"

#define STAGE_BYTES        (4u << 20) /* of pinned host memory, a card; for transfers */
#define MODULE_KERNELS     5          /* at most */
#define STEP_SEQUENCES_MAX 256        /* of a step */
#define KERNEL_ARGUMENTS   11         /* at most */
#define RECORDINGS         32         /* of steps, that are kept */

/* Of an area, from `begin` to where the next begins. */
struct ze_piece {
    char *at;
    uint64_t begin;
    int held; /* owned; its descriptor; 0: it has none */
};

struct ze_area {
    char *at; /* NULL: not reserved */
    uint64_t room, bytes;
    char *host; /* host memory of what lies from `split` on; NULL: nothing does */
    uint64_t split;
    /* svm (owned; NULL: a device allocation): of each chunk, whether its prefetch has not said that
     * it is at home; and in whose VMs the area is advised, a bit each. */
    uint8_t *away;
    uint32_t advised;
    int held; /* owned; the descriptor of what lies at `at`; 0: it has none */
    struct ze_piece more[DEVICE_PIECES_MAX - 1]; /* behind that */
    uint32_t n_more;
};

struct ze_kernel {
    ze_kernel_handle_t handle; /* NULL: not made */
    const void *given[KERNEL_ARGUMENTS];
    uint32_t set;   /* bit per argument: the driver has taken given[i] */
    uint64_t as_of; /* device.n_freed: memory at an address that is used again is other memory */
};

struct ze_module {
    ze_module_handle_t module; /* NULL: not built */
    struct ze_kernel kernels[MODULE_KERNELS];
};

struct ze_card {
    bool present, lost;
    bool exports, imports; /* its memory, as dma-bufs: so its driver says */
    uint32_t misread; /* bit per owner: the driver says it can read it, and it reads wrong bytes */
    struct device_link links[CARDS_MAX]; /* by owner */
    ze_device_handle_t handle;
    uint32_t ordinal;                  /* of its queues for kernels */
    ze_command_queue_handle_t queue;   /* of steps: asynchronous */
    ze_command_list_handle_t transfer; /* of all else: immediate, synchronous */
    char *stage;                       /* STAGE_BYTES of host memory */
    pthread_mutex_t transferring;      /* the stage and the transfer list are one caller's */
    uint64_t n_digests;                /* launches of that kernel, so far; under the same lock */
    uint64_t capacity_bytes;
    uint64_t host_bytes;    /* the last of its weights, which lie in host memory */
    uint64_t fetched_bytes; /* since the device was opened */
    _Atomic bool stale;     /* what the landing holds may not be right any more */
    struct ze_area areas[AREA_COUNT];
    struct ze_module *modules; /* owned; by enum kernel_module */
    /* Kernels for quantised types multiply by the matrix engine; or why they do not. */
    bool xmx;
    char xmx_why[DEVICE_XMX_WHY];
    /* Kernels come as images for its processor (images.h); or why as SPIR-V. */
    bool native;
    char native_why[DEVICE_NATIVE_WHY];
    char *descriptions;       /* device memory; of the loaded programs */
    char *receipts;           /* device memory: a u32 of each description */
    uint32_t *receipts_stage; /* host memory: the same, after a step */
    uint32_t n_receipts;
    char *step, *step_stage; /* device and host memory of step_bytes */
    uint64_t step_bytes, description_bytes;
    struct xe_card xe;     /* svm: the kernel's side of it */
    uint64_t others_bytes; /* svm: of its memory, in use and not by this device, at reserve */
};

struct ze_launch;
struct ze_recording;

struct device {
    const struct device_ops *ops;
    const struct ze_api *api;
    ze_driver_handle_t driver;
    ze_context_handle_t context;
    struct device_calls *calls; /* may be NULL */
    uint32_t n_cards, max_rows;
    struct ze_card cards[CARDS_MAX];
    bool direct[CARDS_MAX][CARDS_MAX]; /* [reader][owner] */
    struct ze_launch *launches;        /* owned; by phase, of all cards */
    size_t n_launches;
    uint32_t needed;                      /* bit per card: the launches read or write its memory */
    uint32_t rope_width[ROPE_TABLES_MAX]; /* values of a row that kernels read; 0: none does */
    ze_event_pool_handle_t pool;
    ze_event_handle_t *events; /* owned; of each turn: [n_marks][n_cards], then the step's end */
    uint32_t n_marks;
    uint32_t *mark_cards; /* owned; [n_marks]: a bit for each card that comes to it */
    char *exchange_stage; /* host memory that staged exchanges go through */
    uint64_t exchange_bytes;
    char *logits; /* host memory */
    uint64_t logits_bytes;
    struct ze_recording *recordings; /* owned; [RECORDINGS] */
    uint64_t n_freed;                /* pieces of memory, so far */
    uint64_t n_steps;                /* so far */
    bool unsettled;                  /* the last step failed: its events are as they happen to be */
    _Atomic uint32_t turn;           /* of the last step */
    _Atomic bool stepping;
    bool hold; /* weights, K and V lie in memory that is exported, where that can be */
    bool svm;
    char storage_why[DEVICE_STORAGE_WHY]; /* it is not; empty: not asked for, or it is */
};

/* level_zero.c: what a call returned that may have been any card's; where one is lost, that is
 * noted of it. */
int level_zero_failed(struct device *device, int rc);
/* The card's PCI address; empty: unknown. */
void level_zero_slot(const struct device *device, uint32_t card, char slot[16]);
/* Of the cards that are there; returns how many. */
uint32_t level_zero_handles(const struct device *device, ze_device_handle_t handles[CARDS_MAX]);

/* A call that waits for the card begins, and has ended. */
static inline void level_zero_waits(const struct device *d, uint32_t card) {
    if (d->calls)
        atomic_fetch_add(&d->calls->waits[card], 1);
}

static inline void level_zero_waited(const struct device *d, uint32_t card) {
    if (!d->calls)
        return;
    atomic_fetch_sub(&d->calls->waits[card], 1);
    atomic_fetch_add(&d->calls->done, 1);
}

/* memory.c */
int level_zero_reserve(struct device *device, uint32_t card, enum area area, uint64_t room,
                       uint64_t bytes, int fd, struct err *err);
int level_zero_extend(struct device *device, uint32_t card, enum area area, uint64_t room,
                      uint64_t bytes, int fd, struct err *err);
int level_zero_share(struct device *from, uint32_t from_card, enum area area, struct device *to,
                     uint32_t to_card, uint64_t room, uint64_t bytes, struct err *err);
void level_zero_release(struct device *device, uint32_t card, enum area area);
int level_zero_lose(struct device *device, uint32_t card);
/* There is such a stretch of one of a card's areas, wherever it lies.  -EINVAL: there is not;
 * -ENODEV. */
int level_zero_has(const struct device *device, uint32_t card, enum area area, uint64_t offset,
                   uint64_t bytes);
/* The same, and where it lies: -EINVAL, too, where it is on the card in part only. */
int level_zero_stretch(const struct device *device, uint32_t card, enum area area, uint64_t offset,
                       uint64_t bytes, char **at);
/* Where what lies beside the byte at `offset` ends: its piece, or what is on the card. */
uint64_t level_zero_border(const struct ze_area *area, uint64_t offset);
/* Host and device memory for the backend itself; NULL is fine to free. */
int level_zero_alloc_host(struct device *device, uint64_t bytes, char **at, struct err *err);
int level_zero_alloc_card(struct device *device, uint32_t card, uint64_t bytes, char **at,
                          struct err *err);
/* The same with a chain of wishes, at the end of which stands that it may be of any size: what is
 * allowed without asking is a driver's own affair, less than 4 GiB, or half of the card. */
extern const ze_relaxed_allocation_limits_exp_desc_t level_zero_relaxed;
int level_zero_alloc_as(struct device *device, uint32_t card, const void *how, uint64_t bytes,
                        char **at, struct err *err);
void level_zero_free(struct device *device, void *at);

/* held.c: memory of a card that outlives this process, as long as somebody holds a descriptor. */
void held_ask(struct device *device, uint32_t card);
/* New memory that is exported, if its card does that; else it is as level_zero_alloc_card()'s. */
int held_alloc(struct device *device, uint32_t card, uint64_t bytes, struct ze_area *area,
               struct err *err);
/* The memory that fd (borrowed) stands for, at least that long.  -EREMOTE: it is not to be had, or
 * other memory; err says why; -ENODEV. */
int held_import(struct device *device, uint32_t card, int fd, uint64_t bytes, struct ze_area *area,
                struct err *err);
void held_release(struct ze_area *area);
int held_hold(struct device *device, uint32_t card, enum area area, uint32_t piece, int *fd,
              uint64_t *bytes, struct err *err);

/* transfer.c: between host memory and a card's, through its stage; they return when it is done. */
int level_zero_put(struct device *device, uint32_t card, char *to, const void *from, uint64_t n);
int level_zero_get(struct device *device, uint32_t card, void *to, const char *from, uint64_t n);
int level_zero_fill(struct device *device, uint32_t card, char *to, uint64_t n);
int level_zero_copy(struct device *from, uint32_t from_card, enum area area, uint64_t from_offset,
                    struct device *to, uint32_t to_card, uint64_t to_offset, uint64_t bytes);
int level_zero_pack(struct device *device, uint32_t card, uint64_t offset, uint32_t type,
                    bool vector, uint64_t range_rows, uint64_t row_begin, uint64_t rows,
                    uint64_t cols, uint32_t col_skip, const void *blocks, uint64_t row_bytes);
int level_zero_peek(struct device *device, uint32_t card, uint64_t offset, void *out,
                    uint64_t bytes);
int level_zero_poke(struct device *device, uint32_t card, uint64_t offset, const void *in,
                    uint64_t bytes);
int level_zero_clear(struct device *device, uint32_t card, enum area area, uint64_t offset,
                     uint64_t bytes);

/* digest.c: by a kernel on the card; of what lies in host memory, by the host. */
int level_zero_digest(struct device *device, uint32_t card, enum area area, uint64_t offset,
                      uint64_t bytes, uint64_t *digest);
int level_zero_digest_part(struct device *device, uint32_t card, uint64_t offset, uint64_t bytes,
                           uint64_t first_leaf, uint64_t *sum);

/* load.c */
int level_zero_check(struct device *device, const struct program *programs, struct err *err);
int level_zero_load(struct device *device, const struct program *programs, struct err *err);
void level_zero_unload(struct device *device);

/* step.c */
int level_zero_step(struct device *device, const struct step_params *params, uint32_t *card);
void level_zero_pending(struct device *device, struct device_pending *out);

/* measure.c */
int level_zero_measure(struct device *device, struct device_limits *limits);

#endif
