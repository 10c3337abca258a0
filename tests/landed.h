/* SPDX-License-Identifier: Apache-2.0 */
/* landed.h - the fetches of a plan that leaves weights in host memory, walked through: what of them
 * lies in a card's landing whenever it is read.  No byte is moved; only blocks are counted. */
#ifndef OCTARC_TESTS_LANDED_H
#define OCTARC_TESTS_LANDED_H

#include <stdlib.h>

#include "daemon/engine/program.h"

#define LANDED_STEPS 2 /* as every one is the same, the second shows what the first left */

struct landed {
    const struct plan *plan;
    uint32_t card;
    uint64_t *holds; /* [n]: which block of the weights each block of the landing has, or none */
    bool *read;      /* [n]: in this phase */
    uint64_t n;
};

#define LANDED_NOTHING UINT64_MAX

static inline uint32_t landed_matrices(const struct op *op, const struct matrix *out[3]) {
    switch (op->kind) {
    case OP_EMBED:
        return out[0] = &op->embed.embd, 1;
    case OP_QKV:
        return out[0] = &op->qkv.q, out[1] = &op->qkv.k, out[2] = &op->qkv.v, 3;
    case OP_LANES:
        return out[0] = &op->lanes.w, 1;
    case OP_GATE_UP:
        return out[0] = &op->gate_up.gate, out[1] = &op->gate_up.up, 2;
    case OP_ROUTE:
        return out[0] = &op->route.router, 1;
    case OP_EXPERT_GATE_UP:
        return out[0] = &op->expert_gate_up.gate, out[1] = &op->expert_gate_up.up, 2;
    case OP_EXPERT_DOWN:
        return out[0] = &op->expert_down.w, out[1] = &op->expert_down.shared, 2;
    case OP_LOGITS:
        return out[0] = &op->logits.w, 1;
    default:
        return 0;
    }
}

static inline const char *landed_read(struct landed *l, const struct matrix *m) {
    uint64_t bytes = 0;
    if (m->rows == 0)
        return NULL;
    for (size_t i = 0; i < l->plan->n_ranges; i++) {
        const struct plan_range *r = &l->plan->ranges[i];
        if (r->card != l->card || r->offset != m->offset)
            continue;
        bytes = r->bytes;
        if (plan_spilled(l->plan, r) != m->fetched)
            return "what lies in host memory is read there, or what does not is fetched";
    }
    if (bytes == 0)
        return "a matrix is read where no range lies";
    for (uint64_t at = 0; m->fetched && at < bytes; at += LANDING_BLOCK) {
        const uint64_t block = (m->landing + at) / LANDING_BLOCK;
        if (block >= l->n)
            return "a matrix is read behind the landing";
        if (l->holds[block] != (m->offset + at) / LANDING_BLOCK)
            return "a matrix is read that was not fetched";
        l->read[block] = true;
    }
    return NULL;
}

static inline const char *landed_fetch(struct landed *l, const struct op *op) {
    for (uint64_t at = 0; at < op->fetch.bytes; at += LANDING_BLOCK) {
        const uint64_t block = (op->fetch.to + at) / LANDING_BLOCK;
        if (block >= l->n)
            return "something is fetched to behind the landing";
        if (l->read[block])
            return "something is fetched to where a matrix is read meanwhile";
        l->holds[block] = (op->fetch.from + at) / LANDING_BLOCK;
    }
    return NULL;
}

/* One phase: reads find what was there before it. */
static inline const char *landed_phase(struct landed *l, const struct op *ops, size_t n) {
    const char *why = NULL;
    for (uint64_t i = 0; i < l->n; i++)
        l->read[i] = false;
    for (size_t i = 0; i < n && !why; i++) {
        const struct matrix *matrices[3];
        const uint32_t n_matrices = landed_matrices(&ops[i], matrices);
        for (uint32_t k = 0; k < n_matrices && !why; k++)
            why = landed_read(l, matrices[k]);
    }
    for (size_t i = 0; i < n && !why; i++)
        if (ops[i].kind == OP_FETCH)
            why = landed_fetch(l, &ops[i]);
    return why;
}

static inline const char *landed_step(struct landed *l, const struct program *program) {
    const char *why = NULL;
    uint64_t fetched = 0;
    for (size_t begin = 0, end; begin < program->n_ops && !why; begin = end) {
        for (end = begin; end < program->n_ops; end++) {
            if (program->ops[end].phase != program->ops[begin].phase)
                break;
            fetched += program->ops[end].kind == OP_FETCH ? program->ops[end].fetch.bytes : 0;
        }
        why = landed_phase(l, program->ops + begin, end - begin);
    }
    if (!why && fetched != l->plan->cards[l->card].spilled_bytes)
        why = "a step fetches another number of bytes than lie in host memory";
    return why;
}

static inline const char *landed_card(struct landed *l, const struct program *program) {
    const char *why = NULL;
    l->holds = malloc((l->n + 1) * sizeof *l->holds);
    l->read = calloc(l->n + 1, sizeof *l->read);
    if (!l->holds || !l->read)
        why = "no memory";
    for (uint64_t i = 0; i < l->n && !why; i++)
        l->holds[i] = LANDED_NOTHING;
    for (size_t i = 0; i < program->n_ops && !why; i++)
        if (program->ops[i].kind == OP_FETCH && program->ops[i].fetch.ahead)
            why = landed_fetch(l, &program->ops[i]);
    for (uint32_t i = 0; i < LANDED_STEPS && !why; i++)
        why = landed_step(l, program);
    free(l->holds);
    free(l->read);
    return why;
}

/* Whatever a step reads was fetched before, once, and to where nothing is read meanwhile.  NULL; or
 * what is wrong, in words. */
static inline const char *landed_check(const struct model *model, const struct plan *plan) {
    struct program programs[CARDS_MAX] = {{0}};
    const char *why = NULL;
    if (plan_host_bytes(plan) == 0)
        return NULL;
    if (programs_compile(programs, model, plan, NULL))
        return "a plan with weights in host memory cannot be compiled";
    for (uint32_t i = 0; i < plan->n_cards && !why; i++) {
        struct landed l = {
            .plan = plan, .card = i, .n = plan->cards[i].landing_bytes / LANDING_BLOCK};
        if (plan->cards[i].n_spilled)
            why = landed_card(&l, &programs[i]);
    }
    programs_finish(programs);
    return why;
}

#endif
