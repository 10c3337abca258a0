/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/refuse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/placement/choose.h"
#include "daemon/placement/place.h"
#include "daemon/placement/spill.h"
#include "octarc/error.h"

#define MIB (UINT64_C(1) << 20)

struct shortage {
    uint32_t card; /* the one with the most missing */
    uint64_t missing, weights, kv, scratch, capacity;
    uint64_t missing_in_all;
};

static double mib(uint64_t bytes) {
    return (double)bytes / (double)MIB;
}

static uint64_t mib_up(uint64_t bytes) {
    return (bytes + MIB - 1) / MIB;
}

/* What every card lacks when the shares are those which fit the least enlarged cards. */
static struct shortage measure(struct box *box, struct plan *plan) {
    const struct plan_input *in = box->input;
    struct share shares[CARDS_MAX], best[CARDS_MAX];
    struct shortage worst = {0};
    enum way ways[WAY_COUNT];
    uint64_t least = UINT64_MAX;
    const uint32_t n = box_ways(in->split, ways);
    for (uint32_t i = 0; i < n; i++) {
        if (ways[i] == WAY_LAYERS || ways[i] == WAY_LANES)
            continue; /* the next way holds what this one does */
        const uint64_t factor = box_grow(box, ways[i], shares);
        if (factor < least) {
            least = factor;
            memcpy(best, shares, sizeof best);
        }
    }
    for (uint32_t i = 0; i < box->n; i++)
        share_apply(&plan->cards[box->card[i]], &in->model->params, &best[i]);
    for (uint32_t i = 0; i < box->n; i++) {
        struct shortage s = {.card = box->card[i], .capacity = box->capacity[i]};
        s.weights = share_weights_bytes(plan, in, s.card);
        s.scratch = share_scratch_bytes(plan, in->model, s.card);
        s.kv = share_context_pages(plan) * share_page_bytes(plan, &in->model->params, s.card);
        const uint64_t used = s.weights + s.kv + s.scratch;
        s.missing = used > s.capacity ? used - s.capacity : 0;
        s.missing_in_all = worst.missing_in_all + s.missing;
        if (s.missing > worst.missing)
            worst = s;
        worst.missing_in_all = s.missing_in_all;
    }
    return worst;
}

/* The largest context, in whole pages, with which it fits; 0: none. */
static uint32_t largest_context(struct box *box, struct plan *plan) {
    const uint32_t wanted = plan->context;
    uint32_t fits = 0, too_many = share_context_pages(plan);
    while (too_many - fits > 1) {
        const uint32_t pages = fits + (too_many - fits) / 2;
        share_context(plan, box->input, pages * PAGE_TOKENS);
        box_context(box);
        if (box_fits(box, box->input->split))
            fits = pages;
        else
            too_many = pages;
    }
    share_context(plan, box->input, wanted);
    box_context(box);
    return fits * PAGE_TOKENS;
}

/* The size of a further card, that of the largest, with which it fits; 0: one is not enough, or
 * there are as many as can be. */
static uint64_t another_card(struct box *box) {
    uint64_t size = 0;
    if (box->input->n_cards == CARDS_MAX)
        return 0;
    for (uint32_t i = 0; i < box->n; i++)
        size = box->capacity[i] > size ? box->capacity[i] : size;
    box_push_card(box, size);
    const bool fits = box_fits(box, box->input->split);
    box_pop_card(box);
    return fits ? size : 0;
}

__attribute__((format(printf, 3, 4))) static void add(char *text, size_t size, const char *fmt,
                                                      ...) {
    const size_t n = strlen(text);
    va_list args;
    va_start(args, fmt);
    vsnprintf(text + n, size - n, fmt, args);
    va_end(args);
}

/* How much host memory would do; split = tensor spills nothing. */
static void add_spill(const struct box *box, char *text, size_t size) {
    const uint64_t bytes = box->input->split == SPLIT_TENSOR ? UINT64_MAX : spill_least(box);
    if (bytes != UINT64_MAX)
        add(text, size, "%s with host_spill = %" PRIu64 "M instead of %" PRIu64 "M",
            text[0] ? " or" : "", mib_up(bytes), box->input->host_spill / MIB);
}

/* --- overrides --- */

static bool fits_without(const struct plan *start, const struct plan_input *in, uint32_t place) {
    struct plan plan = *start;
    const char *balance;
    plan.dropped_places |= UINT64_C(1) << place;
    return choose(&plan, in, &balance, NULL) == 0;
}

int refuse_places(const struct plan *start, const struct plan_input *in, struct err *err) {
    const struct places *places = in->places;
    char in_the_way[240] = "";
    uint32_t n = 0;
    for (uint32_t k = places->n; k-- > 0 && n < 2;)
        if (fits_without(start, in, k))
            add(in_the_way, sizeof in_the_way, "%splace = %s = card %u", n++ ? " or without " : "",
                places->of[k].pattern, places->of[k].card);
    if (n == 0)
        add(in_the_way, sizeof in_the_way, "any of the %u overrides, from place = %s = card %u on",
            places->n, places->of[0].pattern, places->of[0].card);
    return err_set(err, -ENOSPC, "model '%.60s' fits, but not as it is placed: it would without %s",
                   in->model->params.name, in_the_way);
}

/* --- bytes --- */

/* The first of the splits that were not looked at with which it fits; SPLIT_AUTO: none. */
static enum split other_split(struct box *box) {
    const enum split asked = box->input->split;
    for (int split = SPLIT_LAYER; split < SPLITS; split++)
        if ((asked == SPLIT_LAYER || asked == SPLIT_TENSOR) && split != (int)asked &&
            box_fits(box, (enum split)split))
            return (enum split)split;
    return SPLIT_AUTO;
}

int refuse(struct box *box, struct plan *plan, struct err *err) {
    const enum split other = other_split(box);
    const uint32_t wanted = plan->context, context = largest_context(box, plan);
    const uint64_t size = another_card(box);
    char advice[280] = "";
    if (other != SPLIT_AUTO)
        add(advice, sizeof advice, " with split = %s", plan_split_name(other));
    if (context)
        add(advice, sizeof advice, "%s with a context of %u tokens instead of %u",
            advice[0] ? " or" : "", context, wanted);
    if (size)
        add(advice, sizeof advice, "%s with another card of %" PRIu64 " MiB",
            advice[0] ? " or" : "", mib_up(size));
    add_spill(box, advice, sizeof advice);

    box->bounds.any = false; /* for they would not fit however large the cards were */
    box->bounds.head = box->bounds.embd = box->bounds.lanes = BOUNDS_FREE;
    const struct shortage s = measure(box, plan);
    char last[120];
    snprintf(last, sizeof last,
             "no smaller context would do; a smaller quantisation has to save %" PRIu64
             " MiB in all",
             mib_up(s.missing_in_all));
    return err_set(err, -ENOSPC,
                   "model '%.60s' does not fit: card %u is %" PRIu64
                   " MiB short (weights %.1f MiB, KV %.1f MiB, scratch %.1f MiB of %.1f MiB); %s%s",
                   box->input->model->params.name, s.card, mib_up(s.missing), mib(s.weights),
                   mib(s.kv), mib(s.scratch), mib(s.capacity), advice[0] ? "it would fit" : last,
                   advice);
}
