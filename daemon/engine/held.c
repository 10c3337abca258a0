/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/held.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "octarc/error.h"

int held_take(const struct msg_setup *setup, const int *fds, uint32_t n, struct runner_options *o) {
    uint32_t next = 0;
    for (uint32_t i = 0; i < CARDS_MAX; i++) {
        const bool has = setup->memory_bytes[i] > 0;
        o->weight_fds[i] = has && next < n ? fds[next] : -1;
        o->weight_bytes[i] = setup->memory_bytes[i];
        next += has;
    }
    return next == n ? 0 : -EPROTO;
}

uint32_t held_list(const struct runner *runner, struct msg_ready *ready, int fds[CARDS_MAX]) {
    const struct runner_options *o = runner_options(runner);
    struct err why = {{0}};
    uint32_t n = 0;
    for (uint32_t i = 0; i < ready->n_cards; i++) {
        struct device_properties p;
        if (!o->plan->cards[i].weights_bytes)
            continue;
        if (o->backend->properties(runner_device(runner), i, &p) == 0 &&
            o->backend->hold(runner_device(runner), i, AREA_WEIGHTS, &fds[n], &why) == 0) {
            ready->cards[i].held_bytes = p.room_bytes[AREA_WEIGHTS];
            n++;
        } else if (!ready->unheld_why[0]) {
            snprintf(ready->unheld_why, sizeof ready->unheld_why, "%.*s",
                     (int)sizeof ready->unheld_why - 1, why.text);
        }
    }
    return n;
}

void held_refuse(const struct msg_setup *setup, uint32_t cards, const char *why,
                 struct msg_tried *tried) {
    *tried = (struct msg_tried){.generation = setup->generation, .memory = cards};
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        if (cards >> i & 1)
            snprintf(tried->why[i], sizeof tried->why[i], "%.*s", TRIED_WHY_MAX - 1, why);
}
