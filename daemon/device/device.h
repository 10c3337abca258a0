/* SPDX-License-Identifier: Apache-2.0 */
/* device.h - the contract between octarc and a backend that computes.
 *
 * A device is a group of 1 .. CARDS_MAX cards that one engine drives.  Cards are numbered from 0;
 * a number is never reused for another card while the device is open.
 *
 * Threads: all calls on one device come from one thread (the engine's); a backend may use threads
 * of its own inside.  Results are 0 or a negative errno; -ENODEV always means "a card is lost" and
 * *card (where there is one) says which. */
#ifndef OCTARC_DEVICE_DEVICE_H
#define OCTARC_DEVICE_DEVICE_H

#include "daemon/device/program.h"

#define NUMERICS_VERSION 1u /* of the order of every sum: docs/numerics.md */
#define LAYOUT_VERSION   1u /* of weights as a backend packs them: they may outlive the program */

struct err;
struct device; /* of the backend; its first member is `const struct device_ops *ops` */

enum instruction_set { ISA_AUTO, ISA_PORTABLE, ISA_AVX2, ISA_AVX512 };

/* How cards hold weights: in device allocations, or in the process's own memory (shared virtual
 * memory) that is kept on the card; auto takes that where a trial proves it. */
enum device_storage { DEVICE_USM, DEVICE_AUTO, DEVICE_SVM };
#define DEVICE_STORAGE_WHY 256u
#define DEVICE_XMX_WHY     128u
#define DEVICE_REFUSED_WHY 112u
#define DEVICE_NATIVE_WHY  160u

#define DEVICE_PIECES_MAX 4u /* of memory, in an area */

#define READER_HOST (1u << CARDS_MAX) /* beside the cards, which are bits too */

/* Who uses a stretch of a card's memory in a step. */
struct device_advice {
    uint32_t home; /* the card that holds it */
    enum area area;
    uint64_t offset, bytes;
    uint32_t readers; /* bit per card, the home as well where it uses it, and READER_HOST */
    bool read_mostly; /* steps only read it: it is written when it is loaded */
    bool in_host;     /* it stays in host memory, from where OP_FETCH takes it and nothing else */
};

/* Calls that wait for a card, for whoever watches a device that is opened and filled; from any
 * thread. */
struct device_calls {
    _Atomic uint32_t waits[CARDS_MAX]; /* under way, by card */
    _Atomic uint32_t builds;           /* of these, that have a driver build kernels */
    _Atomic uint64_t done;             /* that have ended */
};

struct device_options {
    uint32_t n_cards;
    bool present[CARDS_MAX];            /* a card that is not is never opened */
    uint64_t capacity_bytes[CARDS_MAX]; /* cpu: of the simulated card; 0 = the host's */
    char slots[CARDS_MAX][16]; /* level_zero: PCI addresses; empty: the card that is found as such
                                * a number */
    /* level_zero: by reader, a bit for each owner whose memory it must not read, whatever the
     * driver says: what it takes from there goes through host memory. */
    uint32_t staged[CARDS_MAX];
    /* level_zero: measure what each card takes from each other one, when it is opened; for eight
     * cards it takes a second or two.  Nothing else may use the cards meanwhile. */
    bool measure_links;
    /* The last of a card's weights that lie in host memory: they do not count against its capacity,
     * and in a step only OP_FETCH reads them. */
    uint64_t host_bytes[CARDS_MAX];
    uint32_t n_threads; /* cpu: of the team; 0 = one a usable core */
    bool pin; /* cpu: pin the team at the first load, where there are more cores than threads;
               * a refusal is not an error */
    enum instruction_set isa;    /* cpu: -ENOTSUP when the machine lacks it */
    enum device_storage storage; /* level_zero */
    bool hold;         /* level_zero: hold() will be asked for the memory of weights, K and V */
    uint32_t max_rows; /* rows a step may have */
    /* cpu: run each phase card by card; a card can reach only what was advised to be used by it:
     * of its own memory, and, to read it in an exchange, of the sender's.  Slow, for tests. */
    bool isolate;
    /* level_zero: the cards' memory is not tried when they are opened: for a driver without cards,
     * in tests. */
    bool untried;
    bool profile; /* count where a step's time goes: costs some percent of it */
    /* Where open fails with -ENODEV it says here which cards it is about, a bit each; may be NULL.
     * Of later failures properties() says so, card by card. */
    uint32_t *lost;
    /* level_zero: counted here, as long as the device is open; may be NULL.  Not those that try a
     * link: which of its two cards they wait for is not known. */
    struct device_calls *calls;
};

/* A peer link as the one who takes over it sees it: host to host, from when the command is given to
 * when all is there. */
struct device_link {
    uint64_t bytes_per_s, latency_ns; /* 0: not measured */
};

struct device_properties {
    char name[64];
    uint64_t capacity_bytes;
    uint64_t used_bytes[AREA_COUNT]; /* reserved now; weights: those in host memory too */
    uint64_t room_bytes[AREA_COUNT]; /* of addresses */
    uint64_t fetched_bytes;          /* by OP_FETCH, since the device was opened */
    uint64_t faults;  /* blocks that an operation did not find in the landing and brought itself */
    uint32_t misread; /* a bit for each owner whose memory it should be able to read, and reads
                       * wrong bytes of: through host memory, then */
    bool svm;         /* its weights lie in shared virtual memory */
    char storage_why[DEVICE_STORAGE_WHY]; /* they do not, though they might: in words */
    bool xmx; /* level_zero: it multiplies quantised types by its matrix engine, */
    char xmx_why[DEVICE_XMX_WHY]; /* or not, in words */
    bool native; /* level_zero: its kernels are images that were made for it beforehand, */
    char native_why[DEVICE_NATIVE_WHY];  /* or its driver built them, in words */
    uint32_t direct;                     /* a bit for each owner whose memory it reads by itself */
    struct device_link links[CARDS_MAX]; /* by owner, in the mode that is used */
};

/* The cards of this machine that a backend knows of, by number; not all of them can be used. */
struct device_found {
    uint32_t n_cards;
    struct {
        char name[64];
        uint64_t memory_bytes;
        char slot[16];   /* its PCI address; empty: unknown */
        char id[33];     /* that its driver gives it, in hex; empty: unknown */
        char serial[24]; /* its own, wherever it is plugged in; empty: it shows none */
        /* As its maker states them, an upper bound; 0: not known. */
        uint64_t bytes_per_s, int8_ops_per_s;
        char why[DEVICE_REFUSED_WHY]; /* it cannot be used; empty: it can */
        /* As in its properties, as far as can be told before it is opened. */
        bool xmx, native;
        char xmx_why[DEVICE_XMX_WHY], native_why[DEVICE_NATIVE_WHY];
    } cards[CARDS_MAX];
    bool direct[CARDS_MAX][CARDS_MAX]; /* [reader][owner]: it can read the other's memory */
    uint32_t driver_version;           /* as the driver counts; 0: unknown */
    char api[16], loader[16]; /* of the calls it knows, and of what loads it; empty: unknown */
};

uint32_t device_usable(const struct device_found *found);

/* What the machine can do at most, with the device's own threads. */
struct device_limits {
    double read_bytes_per_s; /* a sweep over the weights of all cards; 0: there are none */
    double int8_ops_per_s;   /* multiplications and additions of bytes, in registers */
    uint64_t weights_bytes;  /* that the sweep reads */
    uint32_t weights_words;  /* level_zero: the sum of the words that it read, once over all */
    uint32_t n_threads;      /* level_zero: 0, for the cards have theirs */
    char isa[16];            /* the instruction set in use; level_zero: "xmx", "dot4", "mixed" */
};

/* Where the time of all steps went since the programs were loaded or the profile was read. */
struct device_profile {
    uint64_t steps;
    struct {
        double seconds;  /* of all threads or cards, added up */
        uint64_t pieces; /* of its work */
    } ops[OP_KINDS];
    double strips; /* seconds of lanes, exchanges and sums that run as one (cpu, many rows) */
    double wait;   /* seconds of waiting for the end of a phase */
    double whole;  /* seconds of the steps, times the threads */
    uint64_t weight_bytes[OP_KINDS]; /* that an operation of that kind reads in one step, in all:
                                      * matrices that are read whole */
};

/* Cards are bits. */
struct device_pending {
    uint32_t needed; /* by the programs */
    uint32_t cards;  /* whose operations of the phase under way have not all ended */
    uint64_t done;   /* of the step; it grows as long as anything ends */
};

struct device_ops {
    const char *name;
    bool dense; /* addresses take memory: an area is as long as what is used of it */
    bool apart; /* its operations need room for products (program.h) */

    /* Bytes of a [rows, cols] range of `type` as this backend packs it; a multiple of 64; pure.
     * 0: the backend cannot run the type.  A vector (a norm), or several, is kept as f32; a matrix
     * stays one, be it of one row only. */
    uint64_t (*packed_bytes)(uint32_t type, bool vector, uint64_t rows, uint64_t cols);

    /* Which cards there are; it may crash or block, so in a process that may be lost.  NULL: the
     * backend simulates as many as are wanted.  -ENOENT, -ENODEV ...: none can be used; err.
     * Else at least one can, and of those that cannot it is said why. */
    int (*probe)(struct device_found *found, struct err *err);

    /* Have the driver show this process, and what it starts, no cards but those that are present,
     * where that can be had: those that are not are not opened by it.  Before all else of the
     * backend in this process; of the options n_cards, present and slots count.  It may take some
     * seconds, and starts processes.  NULL: there is nothing to hide. */
    void (*hide)(const struct device_options *options);

    int (*open)(struct device **device, const struct device_options *options, struct err *err);
    void (*close)(struct device *device); /* NULL is fine */

    int (*properties)(struct device *device, uint32_t card, struct device_properties *out);

    /* Give a card the memory of one area, once: `room` bytes of addresses, of which `bytes` are
     * used at any time and count.  With fd >= 0 the area is all of that memfd (weights), or of that
     * memory of the card's own that hold() gave a descriptor of, at least `room` long, shared with
     * whoever else holds it; the descriptor stays the caller's.  Else it is private and reads as
     * zero.  -ENOSPC: beyond the card's capacity; err names the bytes.  -EREMOTE: the card does not
     * take that memory over; err says why. */
    int (*reserve)(struct device *device, uint32_t card, enum area area, uint64_t room,
                   uint64_t bytes, int fd, struct err *err);
    /* The same, but the memory is a private one that a card of another device of this backend in
     * the same process has: it is both's from then on, and whoever is the last frees it.  Of each
     * device `bytes` count.  -EINVAL: there is none, or it has less room. */
    int (*share)(struct device *from, uint32_t from_card, enum area area, struct device *to,
                 uint32_t to_card, uint64_t room, uint64_t bytes, struct err *err);
    void (*release)(struct device *device, uint32_t card, enum area area);
    /* So much more room behind what the area has (weights), in a piece of memory of its own, given
     * as for reserve() or new; a stretch that is packed, read or copied lies in one piece.  Of all
     * of it `bytes` count.  -ENOTSUP; -ENOSPC, -EREMOTE as there. */
    int (*extend)(struct device *device, uint32_t card, enum area area, uint64_t room,
                  uint64_t bytes, int fd, struct err *err);
    /* A descriptor that keeps a piece of the area's memory, with what is in it, alive, and that
     * reserve() or extend() takes in another process: *fd, borrowed until the area is released, and
     * how long the piece is.  -ENOENT: there is no such piece; -ENOTSUP: the descriptor cannot be
     * had; err says why. */
    int (*hold)(struct device *device, uint32_t card, enum area area, uint32_t piece, int *fd,
                uint64_t *bytes, struct err *err);
    /* A stretch of an area reads as zero from then on, and takes memory again when it is written:
     * whole pages of the host are given back (of the cpu's private weights whole huge ones).
     * Nothing beside it is touched, and a step may run that does not use it.  -EINVAL, -ENODEV. */
    int (*clear)(struct device *device, uint32_t card, enum area area, uint64_t offset,
                 uint64_t bytes);

    /* Say in the space of every reader, its home's too, where a stretch lies and how it is used:
     * before it is filled, for what is filled first may have to be moved else.  It adds to what was
     * said before; release() forgets it.  Without it a card may find its own memory and what
     * exchanges bring it, but elsewhere, and late: by faults.  An isolated cpu card finds
     * nothing.  -EINVAL: no such stretch or reader; -ENODEV; -ENOMEM. */
    int (*advise)(struct device *device, const struct device_advice *advice);

    /* Repack `rows` rows and `cols` columns, given as the file holds them (row after row, whole
     * blocks, row_bytes apart), into AREA_WEIGHTS at `offset`.  Row 0 of the call is row
     * `row_begin` of the range; row_begin is a multiple of 16 and so is rows unless the range ends.
     * range_rows is the whole range's.  col_skip (a multiple of ATOM) columns of the first block
     * are left out: a lane may begin inside a 256-wide block.  May be called for many slices of a
     * range, in any order; safe to call from several threads for different slices. */
    int (*pack)(struct device *device, uint32_t card, uint64_t offset, uint32_t type, bool vector,
                uint64_t range_rows, uint64_t row_begin, uint64_t rows, uint64_t cols,
                uint32_t col_skip, const void *blocks, uint64_t row_bytes);

    /* 64-bit digest of a stretch, version 1 (docs/numerics.md); -ENODEV. */
    int (*digest)(struct device *device, uint32_t card, enum area area, uint64_t offset,
                  uint64_t bytes, uint64_t *digest);

    /* What a stretch of AREA_WEIGHTS contributes to the digest of a longer one: it begins at leaf
     * `first_leaf` of that and ends at the end of a leaf or of all.  The sum of all parts, in any
     * order, becomes the digest by device_digest_close().  Bounds the work of one call.  -ENODEV.
     */
    int (*digest_part)(struct device *device, uint32_t card, uint64_t offset, uint64_t bytes,
                       uint64_t first_leaf, uint64_t *sum);

    /* Raw access to AREA_WEIGHTS by the host, for its header and for drills: copies in or out. */
    int (*peek)(struct device *device, uint32_t card, uint64_t offset, void *out, uint64_t bytes);
    int (*poke)(struct device *device, uint32_t card, uint64_t offset, const void *in,
                uint64_t bytes);

    /* Copy a stretch of an area into one of another device of this backend in the same process: how
     * a device that follows another takes over what that one holds.  The source is only read, and
     * may be computed on meanwhile.  -ENODEV: one of the cards is lost. */
    int (*copy)(struct device *from, uint32_t from_card, enum area area, uint64_t from_offset,
                struct device *to, uint32_t to_card, uint64_t to_offset, uint64_t bytes);

    /* Have a stretch of an area ready on its card before it is used: what would otherwise be done
     * at its first use, in the middle of a step.  A hint: it changes no content, and is no error
     * where it cannot be done.  Not while a step of this device runs.  -EINVAL, -ENODEV. */
    int (*prefetch)(struct device *device, uint32_t card, enum area area, uint64_t offset,
                    uint64_t bytes);

    /* What a stretch holds is of no more use: the host's memory under it is given back, as far as
     * that can be done by whole pages of the host.  It may hold anything then, and is used again
     * as before.  -EINVAL, -ENODEV. */
    int (*discard)(struct device *device, uint32_t card, enum area area, uint64_t offset,
                   uint64_t bytes);

    /* How many bytes of a stretch lie at their home now, without touching them.  -ENOTSUP: it
     * cannot be told; -EINVAL, -ENODEV. */
    int (*residency)(struct device *device, uint32_t card, enum area area, uint64_t offset,
                     uint64_t bytes, uint64_t *resident);

    /* Whether load would take the programs, once the areas are reserved: asked before gigabytes are
     * read.  -EINVAL: an offset outside its area, phases not ascending; -ENOTSUP: more than a
     * limit, which err names. */
    int (*check)(struct device *device, const struct program *programs, struct err *err);

    /* Take the programs of all cards (programs[card]; absent cards: n_ops 0); borrowed until the
     * next call or close.  As check, and what else fails; err. */
    int (*load)(struct device *device, const struct program *programs, struct err *err);

    /* Run one step to its end.  -ENODEV, *card: that card is lost, nothing of the step counts.  It
     * never ends where a card is silent: whoever waits counts how long, and asks pending(). */
    int (*step)(struct device *device, const struct step_params *params, uint32_t *card);

    /* Rehearse a loss (drill), or drop a card that is lost: its weights are punched out of the
     * memfd, KV and scratch are freed, its windows become inaccessible. */
    int (*lose)(struct device *device, uint32_t card);

    /* What the step under way waits for.  From any thread, and only while the caller keeps the
     * step's own thread from beginning another one. */
    void (*pending)(struct device *device, struct device_pending *out);

    /* Rehearse silence (drill): the card stops at its next operation of a step, for ever; whoever
     * runs the step waits.  Nothing else that is done with its memory stops.  -ENOTSUP: isolated.
     */
    int (*hang)(struct device *device, uint32_t card);

    /* Of the sweep the median of several tries, in the shape where that is the fastest; of the
     * products the best try.  Not while a step runs; takes some tenths of a second.  Lost cards are
     * left out.
     * level_zero: of each card by itself, of the weights that lie on it; the limits are of the
     * loaded programs: the cards work at once in a phase, and phase after phase.  So cards that
     * pass layers on have the rate of one, and those that share them of all.  -ENODEV; -EIO: what
     * came out is not what was asked for. */
    int (*measure)(struct device *device, struct device_limits *limits);

    /* Read the profile and begin anew; not while a step runs.  -ENOTSUP: the device was opened
     * without one. */
    int (*profile)(struct device *device, struct device_profile *profile);

    /* How much of each card's AREA_WEIGHTS lies on huge pages of the host now; 0 for a card without
     * any.  Takes a walk over all its pages.  -ENOTSUP: the kernel does not tell. */
    int (*huge)(struct device *device, uint64_t bytes[CARDS_MAX]);
};

/* The backend of that name ("cpu", "level_zero" where it is built in), or NULL. */
const struct device_ops *device_backend(const char *name);

#define DIGEST_LEAF_BYTES 4096u

/* Digest of bytes in host memory, the same as device_ops.digest: a 64-bit multiply tree. */
uint64_t device_digest(const void *bytes, uint64_t n);
/* The same in parts, as device_ops.digest_part; n: of all parts together. */
uint64_t device_digest_part(const void *bytes, uint64_t n, uint64_t first_leaf);
uint64_t device_digest_close(uint64_t sum, uint64_t n);

#endif
