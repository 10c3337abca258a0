/* SPDX-License-Identifier: Apache-2.0 */
/* cards.h - what tests of a cpu device have in common. */
#ifndef OCTARC_TESTS_DEVICE_CARDS_H
#define OCTARC_TESTS_DEVICE_CARDS_H

#include <time.h>

#include "daemon/device/cpu/cpu.h"
#include "tests/check.h"

#define AREA_BYTES (UINT64_C(1) << 16)

/* The whole of an area is for these readers. */
static inline int advise(struct device *d, uint32_t home, enum area area, uint32_t readers) {
    const struct device_advice advice = {.home = home,
                                         .area = area,
                                         .bytes = AREA_BYTES,
                                         .readers = readers,
                                         .read_mostly = area == AREA_WEIGHTS};
    return d->ops->advise(d, &advice);
}

/* Each card is to use its own memory. */
static inline void advise_own(struct device *d) {
    for (uint32_t c = 0; c < d->n_cards; c++)
        for (int a = 0; a <= AREA_SCRATCH; a++)
            CHECK_EQ(advise(d, c, (enum area)a, 1u << c), 0);
}

/* Whether fn crashes: in a child, so that it may. */
static inline bool crashes(void (*fn)(struct device *d), struct device *d) {
    int status = 0;
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        fclose(stderr);
        fn(d);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

/* The step is waited for as the watch waits: until nothing is done any more. */
static inline struct device_pending wait_silent(struct device *d, uint64_t done) {
    const struct timespec moment = {0, 1000000};
    struct device_pending p;
    do {
        nanosleep(&moment, NULL);
        d->ops->pending(d, &p);
    } while (p.done < done);
    return p;
}

#endif
