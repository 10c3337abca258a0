/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/spills.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/device/matrices.h"

void spills_list(struct spills *spills, const struct model *model, const struct plan *plan,
                 uint32_t card) {
    const uint64_t half = plan->cards[card].landing_bytes / 2;
    int32_t layer = -1;
    spills->n = 0;
    for (size_t i = 0; i < plan->n_ranges; i++) {
        const struct plan_range *r = &plan->ranges[i];
        if (r->card != card || !plan_spilled(plan, r))
            continue;
        if (model->tensors[r->tensor].layer != layer) {
            layer = model->tensors[r->tensor].layer;
            spills->of[spills->n] = (struct spill){.from = r->offset, .to = spills->n % 2 * half};
            spills->n++;
        }
        struct spill *s = &spills->of[spills->n - 1];
        s->bytes =
            (r->offset + r->bytes - s->from + LANDING_BLOCK - 1) / LANDING_BLOCK * LANDING_BLOCK;
    }
}

uint64_t spills_landing(const struct spills *spills, uint64_t offset) {
    for (uint32_t i = 0; i < spills->n; i++)
        if (offset >= spills->of[i].from && offset - spills->of[i].from < spills->of[i].bytes)
            return spills->of[i].to + offset - spills->of[i].from;
    return 0;
}

/* --- which phases read what --- */

static struct spill *spill_at(struct spills *spills, uint64_t offset) {
    for (uint32_t i = 0; i < spills->n; i++)
        if (offset >= spills->of[i].from && offset - spills->of[i].from < spills->of[i].bytes)
            return &spills->of[i];
    return NULL;
}

static uint32_t count_phases(const struct program programs[CARDS_MAX], uint32_t n_cards) {
    uint32_t n = 0;
    for (uint32_t c = 0; c < n_cards; c++)
        if (programs[c].n_ops && programs[c].ops[programs[c].n_ops - 1].phase >= n)
            n = programs[c].ops[programs[c].n_ops - 1].phase + 1;
    return n;
}

/* Note the phases in which a card reads each of its spilled layers, and add the values of all the
 * matrices that it reads to read[phase]. */
static void look_at(const struct program *program, struct spills *spills, uint64_t *read) {
    for (uint32_t i = 0; i < spills->n; i++)
        spills->of[i].first = UINT32_MAX;
    for (size_t i = 0; i < program->n_ops; i++) {
        const struct op *op = &program->ops[i];
        const struct matrix *matrices[OP_MATRICES_MAX];
        const uint32_t n = op_matrices(op, matrices);
        for (uint32_t k = 0; k < n; k++) {
            struct spill *s = matrices[k]->fetched ? spill_at(spills, matrices[k]->offset) : NULL;
            read[op->phase] += (uint64_t)matrices[k]->rows * matrices[k]->cols;
            if (!s)
                continue;
            s->first = s->first < op->phase ? s->first : op->phase;
            s->last = op->phase;
        }
    }
}

/* --- the fetches --- */

/* upto[p]: how much all cards read in the phases before p; the slowest of a phase decides, which is
 * the one that reads the most. */
struct timeline {
    uint32_t n_phases;
    uint64_t *upto; /* [n_phases + 1] */
};

/* How much of a spill is fetched by the end of a phase; the time for it begins behind phase
 * `before`, in this step or in the one before. */
static uint64_t fetched_by(const struct timeline *t, const struct spill *s, uint32_t before,
                           uint32_t phase) {
    const uint64_t *upto = t->upto;
    const bool wraps = before >= s->first;
    const uint64_t rest = wraps ? upto[t->n_phases] - upto[before + 1] : 0;
    const uint64_t whole = wraps ? rest + upto[s->first] : upto[s->first] - upto[before + 1];
    uint64_t done;
    if (!wraps)
        done = phase <= before ? 0 : upto[phase + 1] - upto[before + 1];
    else if (phase > before)
        done = upto[phase + 1] - upto[before + 1];
    else
        done = rest + upto[phase + 1];
    if (done >= whole)
        return s->bytes;
    return (uint64_t)((__uint128_t)s->bytes * done / whole) / LANDING_BLOCK * LANDING_BLOCK;
}

/* Whether it can be fetched in a phase; *ahead: for the next step. */
static bool is_time(const struct spill *s, uint32_t before, uint32_t phase, bool *ahead) {
    const bool wraps = before >= s->first;
    *ahead = wraps && phase > before;
    return *ahead || (phase < s->first && (wraps || phase > before));
}

/* Its part in a phase; bytes 0: none. */
static struct op fetch_in(const struct timeline *t, const struct spills *spills, uint32_t i,
                          uint32_t phase) {
    const struct spill *s = &spills->of[i];
    /* The one that had the half before: of an odd number, the last and the first share one. */
    const uint32_t last = spills->n - 1;
    const uint32_t before = i >= 2 ? i - 2 : last % 2 == i ? last : last ? last - 1 : 0;
    const uint32_t begin = spills->of[before].last;
    struct op op = {.kind = OP_FETCH, .phase = phase, .layer = -1};
    bool ahead, earlier;
    if (!is_time(s, begin, phase, &ahead))
        return op;
    const uint32_t prior = phase ? phase - 1 : t->n_phases - 1;
    const uint64_t at =
        prior != begin && is_time(s, begin, prior, &earlier) ? fetched_by(t, s, begin, prior) : 0;
    op.fetch.from = s->from + at;
    op.fetch.to = s->to + at;
    op.fetch.bytes = fetched_by(t, s, begin, phase) - at;
    op.fetch.ahead = ahead;
    return op;
}

static size_t count_fetches(const struct timeline *t, const struct spills *spills) {
    size_t n = 0;
    for (uint32_t phase = 0; phase < t->n_phases; phase++)
        for (uint32_t i = 0; i < spills->n; i++)
            n += fetch_in(t, spills, i, phase).fetch.bytes > 0;
    return n;
}

/* The program with what it fetches, phase after phase. */
static int merge(struct program *program, const struct timeline *t, const struct spills *spills) {
    struct op *ops = malloc((program->n_ops + count_fetches(t, spills)) * sizeof *ops);
    size_t n = 0, next = 0;
    if (!ops)
        return -ENOMEM;
    for (uint32_t phase = 0; phase < t->n_phases; phase++) {
        for (; next < program->n_ops && program->ops[next].phase == phase; next++)
            ops[n++] = program->ops[next];
        for (uint32_t i = 0; i < spills->n; i++) {
            const struct op op = fetch_in(t, spills, i, phase);
            if (op.fetch.bytes)
                ops[n++] = op;
        }
    }
    free(program->ops);
    program->ops = ops;
    program->n_ops = n;
    return 0;
}

int spills_fetch(struct spills spills[CARDS_MAX], struct program programs[CARDS_MAX],
                 uint32_t n_cards) {
    struct timeline t = {.n_phases = count_phases(programs, n_cards)};
    uint64_t *read = calloc(t.n_phases + 1, sizeof *read);
    int rc = read ? 0 : -ENOMEM;
    t.upto = calloc(t.n_phases + 1, sizeof *t.upto);
    if (!t.upto)
        rc = -ENOMEM;
    for (uint32_t c = 0; c < n_cards && !rc; c++) {
        memset(read, 0, t.n_phases * sizeof *read);
        look_at(&programs[c], &spills[c], read);
        for (uint32_t p = 0; p < t.n_phases; p++)
            t.upto[p + 1] = read[p] > t.upto[p + 1] ? read[p] : t.upto[p + 1];
    }
    for (uint32_t p = 0; p < t.n_phases && !rc; p++)
        t.upto[p + 1] += t.upto[p];
    for (uint32_t c = 0; c < n_cards && !rc; c++)
        if (spills[c].n)
            rc = merge(&programs[c], &t, &spills[c]);
    free(read);
    free(t.upto);
    return rc;
}
