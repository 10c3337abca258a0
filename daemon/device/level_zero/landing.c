/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/level_zero/landing.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "daemon/device/level_zero/launches.h"
#include "daemon/device/matrices.h"
#include "daemon/device/pack.h"
#include "octarc/error.h"

/* ---- what the landing holds, phase after phase ---------------------------------------------- */

#define IN_FLIGHT UINT64_MAX

/* Of each block of the landing, where in the weights it is from; 0: from nowhere. */
struct proof {
    const struct program *program;
    uint64_t *holds;
    uint64_t n_blocks;
};

static int bring(const struct proof *p, const struct op *op, bool ended) {
    const uint64_t first = op->fetch.to / LANDING_BLOCK, n = op->fetch.bytes / LANDING_BLOCK;
    if (op->fetch.to % LANDING_BLOCK || op->fetch.from % LANDING_BLOCK ||
        op->fetch.bytes % LANDING_BLOCK || first > p->n_blocks || n > p->n_blocks - first)
        return -EINVAL;
    for (uint64_t i = 0; i < n; i++)
        p->holds[first + i] = ended ? op->fetch.from + i * LANDING_BLOCK : IN_FLIGHT;
    return 0;
}

static bool is_there(const struct proof *p, const struct matrix *w) {
    const uint64_t end = w->landing + pack_bytes(w->type, false, w->rows, w->cols);
    uint64_t at = w->landing / LANDING_BLOCK * LANDING_BLOCK;
    if (w->landing > w->offset || (w->offset - w->landing) % LANDING_BLOCK ||
        (end + LANDING_BLOCK - 1) / LANDING_BLOCK > p->n_blocks)
        return false;
    for (; at < end; at += LANDING_BLOCK)
        if (p->holds[at / LANDING_BLOCK] != at + w->offset - w->landing)
            return false;
    return true;
}

static bool finds_all(const struct proof *p, const struct op *op) {
    const struct matrix *w[OP_MATRICES_MAX];
    const uint32_t n = op_matrices(op, w);
    for (uint32_t k = 0; k < n; k++)
        if (w[k]->rows && w[k]->fetched && !is_there(p, w[k]))
            return false;
    return true;
}

/* A step; returns the operation that it goes wrong at, or NULL. */
static const struct op *walk(const struct proof *p) {
    const struct op *ops = p->program->ops;
    for (size_t i = 0, n; i < p->program->n_ops; i += n) {
        for (n = 0; i + n < p->program->n_ops && ops[i + n].phase == ops[i].phase; n++)
            if (ops[i + n].kind == OP_FETCH && bring(p, &ops[i + n], false))
                return &ops[i + n];
        for (size_t k = i; k < i + n; k++)
            if (!finds_all(p, &ops[k]))
                return &ops[k];
        for (size_t k = i; k < i + n; k++)
            if (ops[k].kind == OP_FETCH)
                bring(p, &ops[k], true);
    }
    return NULL;
}

/* The first step, which finds what is fetched ahead, and one behind it. */
static int prove_card(const struct device *d, uint32_t card, const struct program *program,
                      struct err *err) {
    struct proof p = {.program = program,
                      .n_blocks = d->cards[card].areas[AREA_LANDING].bytes / LANDING_BLOCK};
    const struct op *wrong = NULL;
    p.holds = calloc(p.n_blocks + 1, sizeof *p.holds);
    if (!p.holds)
        return err_set(err, -ENOMEM, "no memory to look at what card %u fetches", card);
    for (size_t i = 0; i < program->n_ops && !wrong; i++)
        if (program->ops[i].kind == OP_FETCH && program->ops[i].fetch.ahead &&
            bring(&p, &program->ops[i], true))
            wrong = &program->ops[i];
    for (int step = 0; step < 2 && !wrong; step++)
        wrong = walk(&p);
    free(p.holds);
    return wrong ? err_set(err, -EINVAL,
                           "program of card %u: what operation %zu (kind %d, layer %d) reads is "
                           "not fetched in time",
                           card, (size_t)(wrong - program->ops), (int)wrong->kind, wrong->layer)
                 : 0;
}

int landing_prove(const struct device *d, const struct program *programs, struct err *err) {
    int rc = 0;
    for (uint32_t card = 0; card < d->n_cards && !rc; card++)
        rc = prove_card(d, card, &programs[card], err);
    return rc;
}

/* ---- fetches -------------------------------------------------------------------------------- */

int landing_fetch(struct device *d, uint32_t card, const struct op *op,
                  ze_command_list_handle_t list) {
    char *from, *to;
    int rc = level_zero_stretch(d, card, AREA_WEIGHTS, op->fetch.from, op->fetch.bytes, &from);
    if (!rc)
        rc = level_zero_stretch(d, card, AREA_LANDING, op->fetch.to, op->fetch.bytes, &to);
    if (!rc)
        rc = ze_failed(
            d->api->zeCommandListAppendMemoryCopy(list, to, from, op->fetch.bytes, NULL, 0, NULL),
            "zeCommandListAppendMemoryCopy", NULL);
    return rc;
}

void landing_stale(struct device *d, uint32_t card) {
    atomic_store(&d->cards[card].stale, true);
}

int landing_ready(struct device *d, uint32_t *card) {
    int rc = 0;
    bool any = false;
    for (uint32_t i = 0; i < d->n_cards; i++)
        any |= d->needed >> i & 1 && atomic_load(&d->cards[i].stale);
    for (size_t i = 0; i < d->n_launches && any && !rc; i++) {
        const struct ze_launch *l = &d->launches[i];
        if (l->op->kind != OP_FETCH || !l->op->fetch.ahead ||
            !atomic_load(&d->cards[l->card].stale))
            continue;
        *card = l->card;
        rc = landing_fetch(d, l->card, l->op, d->cards[l->card].transfer);
        d->cards[l->card].fetched_bytes += rc ? 0 : l->op->fetch.bytes;
    }
    for (uint32_t i = 0; i < d->n_cards && !rc; i++)
        if (d->needed >> i & 1)
            atomic_store(&d->cards[i].stale, false);
    return rc;
}
