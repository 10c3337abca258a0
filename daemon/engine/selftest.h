/* SPDX-License-Identifier: Apache-2.0 */
/* selftest.h - do the cards of this machine compute what they should, and how fast are their links?
 *
 * The kernels of each card run programs with seeded weights and inputs, of every tensor type, and
 * what they make is compared with what the cpu backend makes of the same: it has to have the same
 * bits (docs/numerics.md).  The CPU's own kernels are compared in the same way, with the portable
 * ones. Links are tried and measured as an engine's are, and what one card of two makes of the
 * other's by exchanges over them is compared, too.  All of it happens in processes that may
 * crash or block; who does is named.
 *
 * The report is one plain value, as that of a probe (probe.h). */
#ifndef OCTARC_ENGINE_SELFTEST_H
#define OCTARC_ENGINE_SELFTEST_H

#include "daemon/device/device.h"

#define SELFTEST_MAGIC       0x74736c66u
#define SELFTEST_KERNELS_MAX 40
#define SELFTEST_BUILD_S                                                                           \
    180 /* that building what one program needs may take; or opening a card, or all links */
#define SELFTEST_SILENCE_S 30  /* that running it may take */
#define SELFTEST_CARD_S    900 /* that all kernels of a card may take */
#define SELFTEST_WHY_MAX   160

enum selftest_verdict {
    SELFTEST_UNTRIED,
    SELFTEST_SAME,    /* as on the cpu backend, bit for bit */
    SELFTEST_DIFFERS, /* it is not */
    SELFTEST_FAILED,  /* it could not be run */
};

struct selftest_kernel {
    uint32_t verdict; /* enum selftest_verdict */
    double
        difference; /* the largest, as a part of the largest value; infinite: not even a number */
};

struct selftest_kernels {
    uint32_t n; /* as many as there are, once they were begun with */
    struct selftest_kernel of[SELFTEST_KERNELS_MAX]; /* selftest_kernel_name() */
    char why[SELFTEST_WHY_MAX];                      /* they were not all tried; empty: they were */
};

#define SELFTEST_EXCHANGES 3

struct selftest_link {
    bool tried;  /* both cards can be used */
    bool direct; /* else through host memory */
    struct device_link speed;
    char
        why[SELFTEST_WHY_MAX]; /* the driver calls it direct, and it is not; empty: no such thing */
    /* What the reader computes with what it takes from the owner by every kind of exchange, in the
     * mode that is used. */
    uint32_t n_exchanges; /* as many as there are, once they were begun with */
    struct selftest_kernel exchanges[SELFTEST_EXCHANGES]; /* selftest_exchange_name() */
    char exchanges_why[SELFTEST_WHY_MAX]; /* one could not be run; empty: all could */
};

struct selftest_report {
    uint32_t magic, bytes; /* SELFTEST_MAGIC; of all of this */
    char version[32];
    char isa[16];                 /* that the CPU's kernels use */
    struct selftest_kernels cpu;  /* against the portable ones */
    struct device_found found;    /* by the level_zero backend */
    char error[SELFTEST_WHY_MAX]; /* it finds none, or cannot be asked; empty: they are below */
    struct selftest_card {
        char why[SELFTEST_WHY_MAX];   /* it cannot be used at all; empty: it can */
        bool xmx;                     /* quantised types were multiplied by its matrix engine, */
        char xmx_why[DEVICE_XMX_WHY]; /* or not, in words */
        bool native;                  /* the kernels were images made beforehand, */
        char native_why[DEVICE_NATIVE_WHY]; /* or not, in words */
        struct selftest_kernels kernels;
    } cards[CARDS_MAX];
    /* Whether shared virtual memory is what an engine would use, with all cards that are well: each
     * wrote to a chunk of its own, had it moved and counted, and read it. */
    enum selftest_storage { SELFTEST_STORAGE_UNTRIED, SELFTEST_USM, SELFTEST_SVM } storage;
    char usm_why[DEVICE_STORAGE_WHY];                 /* why not */
    char storage_why[SELFTEST_WHY_MAX];               /* it could not be tried; empty: it was */
    struct selftest_link links[CARDS_MAX][CARDS_MAX]; /* [reader][owner] */
    char links_why[SELFTEST_WHY_MAX];     /* they could not be measured; empty: they were */
    char exchanges_why[SELFTEST_WHY_MAX]; /* not all were tried; empty: they were */
};

/* How many kernels are tried, and what number i is. */
uint32_t selftest_kernels_count(void);
void selftest_kernel_name(uint32_t i, char out[32]);

/* Run them all on card 0 of a device of that backend, and compare.  The process may be lost.
 * -errno, of what could not be set up or run; err. */
struct selftest_ears {
    void (*begun)(void *user, uint32_t i, bool built); /* that one: it is built; then it is run */
    void (*told)(void *user, uint32_t i, const struct selftest_kernel *kernel);
    void (*knows)(void *user, const struct device_properties *card); /* after all; may be NULL */
    void *user;
};
int selftest_run_kernels(const struct device_ops *ops, const struct device_options *options,
                         enum instruction_set reference, const struct selftest_ears *ears,
                         struct err *err);

/* The same for exchanges: of each ordered pair of cards that are present, and not to be left out,
 * programs run on the two, against the cpu backend's on two simulated ones.  Number i is that of
 * the link, reader * CARDS_MAX + owner, times SELFTEST_EXCHANGES, and of the exchange.  -ENODEV: a
 * card was lost by the last that was begun; of those that fail else the rest is tried, and
 * `failed` says why. */
void selftest_exchange_name(uint32_t exchange, char out[32]);
struct selftest_exchange_ears {
    struct selftest_ears ears; /* `knows` is not asked */
    void (*failed)(void *user, uint32_t i, const char *why);
    bool (*wanted)(void *user, uint32_t reader, uint32_t owner);
};
int selftest_run_exchanges(const struct device_ops *ops, const struct device_options *options,
                           const struct selftest_exchange_ears *ears, struct err *err);

/* Try all, and write the report.  0 or -errno of writing it. */
int selftest_answer(int fd);
/* Only what links there are, and how fast: kernels are not tried. */
int selftest_answer_links(int fd);

/* As probe_accept(). */
int selftest_accept(struct selftest_report *report, size_t n, struct err *err);

/* All that was tried is well: every card, kernel, link and exchange. */
bool selftest_is_well(const struct selftest_report *report);

#endif
