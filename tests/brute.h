/* SPDX-License-Identifier: Apache-2.0 */
/* brute.h - the best plan, by looking at every way to share a box's model out. */
#ifndef OCTARC_TESTS_BRUTE_H
#define OCTARC_TESTS_BRUTE_H

#include "daemon/placement/share.h"
#include "tests/boxes.h"

struct brute {
    struct plan plan;
    struct share shares[CARDS_MAX];
    double best; /* tokens per second */
};

/* The way that t->shares describes: is it the best so far? */
static inline void brute_look(struct brute *t, const struct boxed *b) {
    struct prediction p;
    struct plan *plan = &t->plan;
    bool fits = true;
    for (uint32_t i = 0; i < plan->n_cards; i++)
        share_apply(&plan->cards[i], &b->model.params, &t->shares[i]);
    CHECK_EQ(share_ranges(plan, &b->in), 0);
    for (uint32_t i = 0; i < plan->n_cards; i++)
        fits &= plan->cards[i].weights_bytes + plan->cards[i].scratch_bytes +
                    share_context_pages(plan) * share_page_bytes(plan, &b->model.params, i) <=
                b->in.capacity_bytes[i];
    if (fits) {
        CHECK_EQ(predict(&p, plan, &b->model, &b->box), 0);
        t->best = p.decode_tokens_per_s > t->best ? p.decode_tokens_per_s : t->best;
    }
    free(plan->ranges);
    plan->ranges = NULL;
}

#endif
