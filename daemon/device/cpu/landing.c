/* SPDX-License-Identifier: Apache-2.0 */
/* landing.c - weights that lie in host memory, on their way to the card that computes with them.
 *
 * The program says what is fetched when, and an operation trusts it; but it looks whether each
 * block it reads is there.  One that is not is a fault: it is counted and brought, so that a
 * program that plans badly is slow, and seen to be, but never wrong. */
#include <stdatomic.h>
#include <string.h>

#include "daemon/device/cpu/cpu.h"
#include "daemon/device/pack.h"

#define ITEM_BYTES (16 * LANDING_BLOCK) /* about as much as a tile of a matrix has */

static void bring(struct device *d, uint32_t card, uint64_t from, uint64_t to, uint64_t bytes) {
    _Atomic uint64_t *holds = d->cards[card].holds + to / LANDING_BLOCK;
    memcpy(cpu_at(d, card, AREA_LANDING, to), cpu_at(d, card, AREA_WEIGHTS, from), bytes);
    for (uint64_t at = 0; at < bytes; at += LANDING_BLOCK)
        atomic_store_explicit(&holds[at / LANDING_BLOCK], from + at, memory_order_release);
}

uint32_t cpu_fetch_items(const struct op *op) {
    return (uint32_t)((op->fetch.bytes + ITEM_BYTES - 1) / ITEM_BYTES);
}

void cpu_fetch_run(struct device *d, uint32_t card, const struct op *op, uint32_t item) {
    const uint64_t at = (uint64_t)item * ITEM_BYTES, left = op->fetch.bytes - at;
    const uint64_t bytes = left < ITEM_BYTES ? left : ITEM_BYTES;
    bring(d, card, op->fetch.from + at, op->fetch.to + at, bytes);
    atomic_fetch_add_explicit(&d->cards[card].fetched_bytes, bytes, memory_order_relaxed);
}

/* Others may want the same block. */
static void fault(struct device *d, uint32_t card, uint64_t from, uint64_t to) {
    pthread_mutex_lock(&d->faulting);
    if (atomic_load(&d->cards[card].holds[to / LANDING_BLOCK]) != from) {
        if (d->isolate)
            cpu_protect_host(d, card, true);
        bring(d, card, from, to, LANDING_BLOCK);
        if (d->isolate)
            cpu_protect_host(d, card, false);
        atomic_fetch_add(&d->cards[card].faults, 1);
    }
    pthread_mutex_unlock(&d->faulting);
}

void cpu_landing_need(struct device *d, uint32_t card, const struct matrix *w, uint32_t begin,
                      uint32_t end) {
    const uint32_t tiles = (w->rows + TILE - 1) / TILE;
    if (!w->fetched || begin >= tiles || begin >= end)
        return;
    const uint64_t tile = (w->cols + ATOM - 1) / ATOM * pack_atom_bytes(w->type);
    const uint64_t away = w->offset - w->landing;
    uint64_t at = (w->landing + begin * tile) / LANDING_BLOCK * LANDING_BLOCK;
    for (; at < w->landing + (end < tiles ? end : tiles) * tile; at += LANDING_BLOCK)
        if (atomic_load_explicit(&d->cards[card].holds[at / LANDING_BLOCK], memory_order_acquire) !=
            at + away)
            fault(d, card, at + away, at);
}

void cpu_landing_stale(struct device *d, uint32_t card) {
    if (d->cards[card].host_bytes)
        atomic_fetch_or(&d->stale, 1u << card);
}

static void forget(struct cpu_card *card) {
    const uint64_t blocks = (card->areas[AREA_LANDING].bytes + LANDING_BLOCK - 1) / LANDING_BLOCK;
    for (uint64_t i = 0; i < blocks; i++)
        atomic_store_explicit(&card->holds[i], 0, memory_order_relaxed);
}

void cpu_landing_ready(struct device *d) {
    const uint32_t stale = d->stale & d->needed;
    if (!stale)
        return;
    for (uint32_t c = 0; c < d->n_cards; c++)
        if (stale >> c & 1 && d->cards[c].holds)
            forget(&d->cards[c]);
    for (size_t i = 0; i < d->n_tasks; i++) {
        const struct cpu_task *task = &d->tasks[i];
        if (!(stale >> task->card & 1) || task->op->kind != OP_FETCH || !task->op->fetch.ahead)
            continue;
        for (uint32_t item = 0; item < cpu_fetch_items(task->op); item++)
            cpu_fetch_run(d, task->card, task->op, item);
    }
    atomic_fetch_and(&d->stale, ~stale);
}
