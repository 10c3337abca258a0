/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/level_zero/describe.h"

#include <string.h>

#include "daemon/device/level_zero/kernels/shared.h"
#include "daemon/device/level_zero/recordings.h"

#define ALIGN_TO 64

/* Where its parts lie behind struct ze_step. */
struct layout {
    uint64_t rows, outputs, pages, rope[ROPE_TABLES_MAX], q_scale, bytes;
};

static uint64_t take(uint64_t *end, uint64_t bytes) {
    const uint64_t at = *end;
    *end += (bytes + ALIGN_TO - 1) / ALIGN_TO * ALIGN_TO;
    return at;
}

static struct layout lay_out(const struct device *d, const struct step_params *p) {
    struct layout l;
    uint64_t end = (sizeof(struct ze_step) + ALIGN_TO - 1) / ALIGN_TO * ALIGN_TO, pages = 0;
    for (uint32_t s = 0; s < p->n_sequences; s++)
        pages += p->sequences[s].n_pages;
    l.rows = take(&end, p->n_rows * sizeof(struct ze_row));
    l.outputs = take(&end, p->n_outputs * sizeof(u32));
    l.pages = take(&end, pages * sizeof(u32));
    for (uint32_t t = 0; t < ROPE_TABLES_MAX; t++)
        l.rope[t] = take(&end, p->rope[t] ? (uint64_t)p->n_rows * d->rope_width[t] * 4 : 0);
    l.q_scale = take(&end, p->q_scale ? p->n_rows * 4 : 0);
    l.bytes = end;
    return l;
}

static void write_rows(const struct step_params *p, const struct layout *l, char *to) {
    struct ze_row *rows = (struct ze_row *)(void *)(to + l->rows);
    u32 *pages = (u32 *)(void *)(to + l->pages), first[STEP_SEQUENCES_MAX], end = 0;
    for (uint32_t s = 0; s < p->n_sequences; s++) {
        first[s] = end;
        memcpy(pages + end, p->sequences[s].pages, p->sequences[s].n_pages * sizeof *pages);
        end += p->sequences[s].n_pages;
    }
    for (uint32_t i = 0; i < p->n_rows; i++)
        rows[i] =
            (struct ze_row){p->rows[i].token, p->rows[i].position, first[p->rows[i].sequence]};
}

static u64 address(const void *p) {
    return (u64)(uintptr_t)p;
}

static void write_step(const struct device *d, const struct step_params *p, const struct layout *l,
                       uint32_t card, uint32_t id) {
    const struct ze_card *c = &d->cards[card];
    const u64 at = address(c->step);
    char *to = c->step_stage;
    struct ze_step step = {.rows = at + l->rows,
                           .outputs = at + l->outputs,
                           .pages = at + l->pages,
                           .q_scale = p->q_scale ? at + l->q_scale : 0,
                           .receipts = address(c->receipts),
                           .logits = address(d->logits),
                           .n_rows = p->n_rows,
                           .n_outputs = p->n_outputs,
                           .n_vocab = (u32)p->n_vocab,
                           .id = id};
    for (uint32_t t = 0; t < ROPE_TABLES_MAX; t++) {
        step.rope[t] = at + l->rope[t];
        if (p->rope[t])
            memcpy(to + l->rope[t], p->rope[t], (uint64_t)p->n_rows * d->rope_width[t] * 4);
    }
    memcpy(to, &step, sizeof step);
    memcpy(to + l->outputs, p->outputs, p->n_outputs * sizeof(u32));
    if (p->q_scale)
        memcpy(to + l->q_scale, p->q_scale, p->n_rows * 4);
    write_rows(p, l, to);
}

/* Twice as much, so that it is seldom made anew; what is recorded copies less than that. */
static int make_room(struct device *d, uint32_t card, uint64_t bytes) {
    struct ze_card *c = &d->cards[card];
    bytes = recordings_shape(1, 1, bytes, 0).bytes;
    if (c->step_bytes >= bytes)
        return 0;
    level_zero_free(d, c->step);
    level_zero_free(d, c->step_stage);
    c->step = c->step_stage = NULL;
    c->step_bytes = 0;
    int rc = level_zero_alloc_card(d, card, 2 * bytes, &c->step, NULL);
    if (!rc)
        rc = level_zero_alloc_host(d, 2 * bytes, &c->step_stage, NULL);
    if (!rc)
        c->step_bytes = 2 * bytes;
    return rc;
}

int describe_step(struct device *d, const struct step_params *params, uint32_t id, uint64_t *bytes,
                  uint32_t *card) {
    const struct layout l = lay_out(d, params);
    for (uint32_t i = 0; i < d->n_cards; i++) {
        if (!(d->needed >> i & 1))
            continue;
        *card = i;
        const int rc = make_room(d, i, l.bytes);
        if (rc)
            return rc;
        write_step(d, params, &l, i, id);
    }
    *bytes = l.bytes;
    return 0;
}
