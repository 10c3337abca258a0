/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/held.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "octarc/error.h"

/* Behind what comes of weights.  Returns how many. */
static uint32_t take_kv(const struct msg_setup *setup, const int *fds, uint32_t n,
                        struct runner_options *o, int *ledger_fd) {
    uint32_t next = 0;
    *ledger_fd = -1;
    for (uint32_t i = 0; i < CARDS_MAX; i++) {
        o->held_kv[i].bytes = setup->kv_bytes[i];
        if (setup->kv_bytes[i])
            o->held_kv[i].fd = next < n ? fds[next++] : -1;
    }
    if (next)
        *ledger_fd = next < n ? fds[next] : -1;
    return next + (*ledger_fd >= 0);
}

int held_take(const struct msg_setup *setup, const int *fds, uint32_t n, struct runner_options *o,
              int *ledger_fd) {
    uint32_t next = 0;
    for (uint32_t i = 0; i < CARDS_MAX; i++) {
        struct runner_held *held = &o->held[i];
        *held = (struct runner_held){.n = 0};
        o->weight_fds[i] = -1;
        for (uint32_t k = 0; k < DEVICE_PIECES_MAX && setup->memory_bytes[i][k]; k++, next++) {
            const int fd = next < n ? fds[next] : -1;
            if (!setup->hold) {
                o->weight_fds[i] = fd;
                continue;
            }
            held->fds[held->n] = fd;
            held->bytes[held->n++] = setup->memory_bytes[i][k];
        }
    }
    if (next > n)
        return -EPROTO;
    next += take_kv(setup, fds + next, n - next, o, ledger_fd);
    return next == n ? 0 : -EPROTO;
}

/* As many of the pieces as can be held, from the first. */
static uint32_t list_card(const struct runner *runner, uint32_t card, struct msg_ready *ready,
                          int *fds, struct err *err) {
    const struct device_ops *ops = runner_options(runner)->backend;
    uint64_t *bytes = ready->cards[card].held_bytes;
    struct err why = {{0}};
    uint32_t n = 0;
    int rc = 0;
    while (n < DEVICE_PIECES_MAX && !rc) {
        rc = ops->hold(runner_device(runner), card, AREA_WEIGHTS, n, &fds[n], &bytes[n], &why);
        n += rc == 0;
    }
    if (rc && rc != -ENOENT && !err->text[0]) /* one is told, of the first card */
        err_set(err, rc, "%s", why.text);
    return n;
}

uint32_t held_list(const struct runner *runner, struct msg_ready *ready, int fds[HELD_FDS_MAX]) {
    const struct plan *plan = runner_options(runner)->plan;
    struct err why = {{0}};
    uint32_t n = 0;
    for (uint32_t i = 0; i < ready->n_cards; i++)
        if (plan->cards[i].weights_bytes)
            n += list_card(runner, i, ready, fds + n, &why);
    snprintf(ready->unheld_why, sizeof ready->unheld_why, "%.*s", (int)sizeof ready->unheld_why - 1,
             why.text);
    return n;
}

void held_refuse(const struct msg_setup *setup, uint32_t cards, const char *why,
                 struct msg_tried *tried) {
    *tried = (struct msg_tried){.generation = setup->generation, .memory = cards};
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        if (cards >> i & 1)
            snprintf(tried->why[i], sizeof tried->why[i], "%.*s", TRIED_WHY_MAX - 1, why);
}
