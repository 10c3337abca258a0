/* SPDX-License-Identifier: Apache-2.0 */
/* random.h - all chance of a schedule comes out of one number, its seed. */
#ifndef OCTARC_TESTS_SIM_RANDOM_H
#define OCTARC_TESTS_SIM_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct random {
    uint64_t state;
};

static inline uint64_t mix(uint64_t h, uint64_t v) {
    h = (h ^ v) * UINT64_C(0x9e3779b97f4a7c15);
    h = (h ^ h >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
    return h ^ h >> 32;
}

/* [0, below); below > 0 */
static inline uint32_t draw(struct random *r, uint32_t below) {
    r->state += UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(mix(r->state, 1) >> 33) % below;
}

static inline bool one_in(struct random *r, uint32_t n) {
    return draw(r, n) == 0;
}

/* Mostly short, now and then `most_us`. */
static inline uint64_t draw_delay_ns(struct random *r, uint32_t most_us) {
    const uint32_t us = one_in(r, 8) ? draw(r, most_us + 1) : draw(r, most_us / 20 + 1);
    return us * UINT64_C(1000) + 1;
}

#endif
