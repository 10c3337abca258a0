/* SPDX-License-Identifier: Apache-2.0 */
/* runner.h - a loaded model that computes steps: file + plan + device -> logits.
 *
 * Owns the device, the weights' loading and the programs.  Knows nothing of requests, sequences in
 * time, or the channel.  Threads: one (the engine's); loading uses a few of its own inside. */
#ifndef OCTARC_ENGINE_RUNNER_H
#define OCTARC_ENGINE_RUNNER_H

#include <stdatomic.h>

#include "daemon/placement/plan.h"
#include "daemon/util/identity.h"

struct err;
struct runner;

struct runner_options {
    const struct device_ops *backend;
    struct device_options device; /* cards, threads; max_rows is taken from the plan */
    const struct model *model;    /* borrowed for the runner's life */
    const struct plan *plan;      /* borrowed for the runner's life */
    /* The open files of the model, n_parts of them, and with the same indexes their headers and
     * small tensors as they were when they were opened first; these may be the files themselves.
     * Borrowed for the runner's life. */
    const int *part_fds, *head_fds;
    uint32_t n_parts;
    const char *file_name;     /* of the first, for messages */
    struct file_identity file; /* of them as one, when they were opened first */
    int sums_fd; /* borrowed: the checksums of its tensors, empty before the first load, or -1 */
    int weight_fds[CARDS_MAX]; /* borrowed memfds, as long as the card's ranges reach at least;
                                * -1: private */
    /* Or what device_ops.hold gave of a card's weights, piece by piece (borrowed); no range lies on
     * a border.  Where the ranges reach further there is one piece more. */
    struct runner_held {
        uint32_t n; /* 0: there is nothing */
        int fds[DEVICE_PIECES_MAX];
        uint64_t bytes[DEVICE_PIECES_MAX];
    } held[CARDS_MAX];
    /* The same of its K and V, in one piece as long as the plan's. */
    struct {
        int fd;
        uint64_t bytes; /* 0: there is nothing */
    } held_kv[CARDS_MAX];
    /* The runner that this one follows, serving meanwhile; or NULL.  The weight memory of a card
     * that has some there is the same, and so the descriptor is, or both are private; the plan's
     * ranges are beside those in use.  Its K and V are the same memory where they have the same
     * places.  Ranges that a
     * card of it holds whole are copied from there, after proof, and not read from the file.
     * Borrowed until runner_open() returns; none of its cards may be lost meanwhile. */
    struct runner *before;
    /* Bytes of host memory in which what is new on its full cards may wait until runner_move_in():
     * 0: none, every card has room for both. */
    uint64_t stage_most;
    struct stage *stage;           /* of the runner, that opens it */
    bool behind;                   /* load with what the computing leaves (behind.h) */
    const _Atomic bool *paused;    /* may be NULL; as long as it is true nothing is loaded */
    const _Atomic bool *cancelled; /* may be NULL; when it becomes true loading ends: -ECANCELED */
    uint32_t *lost;    /* may be NULL; where opening fails with -ENODEV: cards, a bit each */
    uint32_t *refused; /* may be NULL; where it fails with -EREMOTE: cards, a bit each, that do not
                        * take the memory of their descriptor over */
    /* Called now and then from the loading thread; may be NULL. */
    void (*progress)(void *user, uint64_t done_bytes, uint64_t total_bytes);
    void *user;
};

struct runner_card {
    uint64_t weights_bytes, kv_bytes, scratch_bytes, landing_bytes; /* actual */
    uint64_t fetched_bytes, faults; /* as in device_properties, since the runner was opened */
    uint64_t copied_bytes;          /* of its weights: from the runner before */
    uint64_t kept_bytes; /* of its weights: were there, and whole; weights_bytes: all of them */
    uint64_t advised_bytes, prefetched_bytes; /* as advice.h counts them … */
    int64_t resident_bytes; /* … and of those, at home after the load; -1: cannot be told */
    uint32_t misread;       /* as in device_properties, and these */
    bool svm, xmx, native;
    char storage_why[DEVICE_STORAGE_WHY], xmx_why[DEVICE_XMX_WHY], native_why[DEVICE_NATIVE_WHY];
};

/* Ranges that a previous engine left in weight memory for the same file are verified by their
 * digests and used as they are, whatever became of the file.  What has to be read must be what was
 * read first: -ESTALE when the file changed (err names it, and the tensor where one is known).
 * -EINVAL: the memory is another than the runner before uses, or a range would lie on one of its.
 * -ENODEV: a card cannot be opened, or is lost: *options->lost.  -EREMOTE: *options->refused.
 * -ENOSPC, -EIO, -ENOMEM … */
int runner_open(struct runner **runner, const struct runner_options *options, struct err *err);
void runner_close(struct runner *runner); /* NULL is fine */

/* Give back what the cards' memory holds beside what the runner uses: what another one left there
 * that was made in place, and is closed. */
int runner_trim(struct runner *runner);
/* The change, where cards are staged: no step runs on `before` any more, and what only it used on
 * those cards is given back; then they are filled out of the stage.  Where that fails neither of
 * the two can serve.  Nothing where no card is staged. */
int runner_move_in(struct runner *runner, struct runner *before, struct err *err);
/* What waited there has arrived. */
void runner_leave_stage(struct runner *runner);
/* The runner serves now; the one it followed, and its plan (malloc'ed), are freed behind the steps,
 * and so is what only they used.  Both are gone for the caller. */
void runner_leave_behind(struct runner *runner, struct runner *left, struct plan *left_plan);
/* Wait until what was left behind is gone: before a card is lost, or the next runner is made. */
void runner_settle(struct runner *runner);

void runner_card(const struct runner *runner, uint32_t card, struct runner_card *out);

/* Bytes carried from card to card so far, by steps and to fill the cards; with those of the runner
 * that it took the place of, where runner_inherit() said so. */
void runner_carried(const struct runner *runner, struct link_bytes *bytes);
/* The same of what was fetched from host memory. */
void runner_fetched(const struct runner *runner, struct fetch_counts *counts);
void runner_inherit(struct runner *runner, const struct runner *before);
/* Something else was carried to a card of it.  Nothing where it is the same card. */
void runner_note_carried(struct runner *runner, uint32_t from, uint32_t to, uint64_t bytes);

/* Run one step.  params->rope and q_scale are filled in here (leave them zero).  As
 * device_ops.step. */
int runner_step(struct runner *runner, struct step_params *params, uint32_t *card);
/* What it is made of, for the runner that follows it. */
const struct runner_options *runner_options(const struct runner *runner);
struct device *runner_device(const struct runner *runner);
/* The digest of every range of its plan, when it was opened: [n_ranges]. */
const uint64_t *runner_digests(const struct runner *runner);
int runner_lose(struct runner *runner, uint32_t card);
/* A drill: bits of the card's largest range flip, and nothing tells of it.  -ENODATA: it holds
 * none. */
int runner_corrupt(struct runner *runner, uint32_t card);
/* As device_ops.hang. */
int runner_hang(struct runner *runner, uint32_t card);
/* As device_ops.measure. */
int runner_measure(struct runner *runner, struct device_limits *limits);
/* Give back the host's memory of KV pages, idle[n_pages], on all cards.  -ENODEV: a card is lost,
 * the others are done. */
int runner_discard(struct runner *runner, const bool *idle);
/* The digest of all that a KV page holds, on all cards.  -ENODEV: *card is lost. */
int runner_kv_digest(struct runner *runner, uint32_t page, uint64_t *digest, uint32_t *card);
/* All KV pages but keep[n_pages] read as zero.  As above. */
int runner_kv_clear(struct runner *runner, const bool *keep, uint32_t *card);
/* As device_ops.huge. */
int runner_huge(struct runner *runner, uint64_t bytes[CARDS_MAX]);

#endif
