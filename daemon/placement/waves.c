/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/waves.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/placement/layout.h"
#include "daemon/placement/share.h"

enum part { PART_LAYERS, PART_VOCAB, PART_EMBD, PARTS };

/* Cards in the order in which they hold a part of the model; links of cards that share theirs. */
struct chain {
    bool jumps; /* no such order is both plans': the change is made at once */
    uint32_t n;
    uint8_t cards[CARDS_MAX];                      /* of each link, a bit each */
    uint32_t at[CARDS_MAX + 1], to[CARDS_MAX + 1]; /* link k has [at[k], at[k + 1]) */
};

struct stretch {
    uint32_t begin, end;
};

/* Where the parts are, and what the cards hold then. */
struct state {
    uint32_t at[PARTS][CARDS_MAX + 1];
    bool jumped[PARTS];
    struct plan plan; /* without ranges */
};

struct search {
    const struct plan *now, *then;
    const struct plan_input *in;
    struct share shares[2][CARDS_MAX]; /* of now and of then */
    struct chain chains[PARTS];
    struct state from;           /* where the wave begins */
    uint64_t weights[CARDS_MAX]; /* of both ends of the wave, of the latest that was tried */
    uint64_t stage_most;         /* bytes of host memory that a wave may take; 0: none does */
    uint64_t staged;             /* that the latest one takes that fits */
};

/* --- chains --- */

static struct stretch stretch_of(const struct share *s, enum part part) {
    switch (part) {
    case PART_LAYERS:
        return (struct stretch){s->layer_begin, s->layer_end};
    case PART_VOCAB:
        return (struct stretch){s->vocab_begin, s->vocab_end};
    case PART_EMBD:
        return (struct stretch){s->embd_begin, s->embd_end};
    case PARTS:
        break;
    }
    return (struct stretch){0, 0};
}

static bool is_empty(struct stretch s) {
    return s.begin == s.end;
}

static bool is_before(struct stretch a, struct stretch b) {
    return !is_empty(a) && !is_empty(b) && a.begin < b.begin;
}

static bool is_same(struct stretch a, struct stretch b) {
    return (is_empty(a) && is_empty(b)) || (a.begin == b.begin && a.end == b.end);
}

/* Cards that share layers in both plans, and as many lanes, are a link. */
static bool is_linked(const struct search *s, enum part part, uint32_t a, uint32_t b) {
    bool same = part == PART_LAYERS;
    for (int p = 0; p < 2; p++)
        same &= is_same(stretch_of(&s->shares[p][a], part), stretch_of(&s->shares[p][b], part));
    return same;
}

static bool is_held(const struct search *s, enum part part, uint32_t card) {
    return !is_empty(stretch_of(&s->shares[0][card], part)) ||
           !is_empty(stretch_of(&s->shares[1][card], part));
}

/* No card that is left has to come before it, in either plan. */
static bool is_next(const struct search *s, enum part part, uint32_t card, uint32_t left) {
    for (uint32_t c = 0; c < s->then->n_cards; c++)
        for (int p = 0; p < 2 && (left >> c & 1); p++)
            if (is_before(stretch_of(&s->shares[p][c], part),
                          stretch_of(&s->shares[p][card], part)))
                return false;
    return true;
}

/* The links in their order; false: there is none. */
static bool order_links(const struct search *s, enum part part, struct chain *chain) {
    uint32_t left = 0;
    chain->n = 0;
    for (uint32_t c = 0; c < s->then->n_cards; c++)
        left |= (uint32_t)is_held(s, part, c) << c;
    while (left) {
        uint32_t first = 0;
        while (first < s->then->n_cards && !((left >> first & 1) && is_next(s, part, first, left)))
            first++;
        if (first == s->then->n_cards)
            return false;
        uint8_t link = 0;
        for (uint32_t c = 0; c < s->then->n_cards; c++)
            if ((left >> c & 1) && (c == first || is_linked(s, part, first, c)))
                link |= (uint8_t)(1u << c);
        left &= ~(uint32_t)link;
        chain->cards[chain->n++] = link;
    }
    return true;
}

/* Where each link's stretch begins in one of the plans; false: it has gaps. */
static bool find_edges(const struct search *s, enum part part, int of, struct chain *chain,
                       uint32_t *edges) {
    edges[0] = 0;
    for (uint32_t k = 0; k < chain->n; k++) {
        const uint32_t card = (uint32_t)__builtin_ctz(chain->cards[k]);
        const struct stretch x = stretch_of(&s->shares[of][card], part);
        if (!is_empty(x) && x.begin != edges[k])
            return false;
        edges[k + 1] = is_empty(x) ? edges[k] : x.end;
    }
    return true;
}

/* Cards with layers in both plans have the same lanes of them. */
static bool same_lanes(const struct search *s) {
    for (uint32_t c = 0; c < s->then->n_cards; c++) {
        const struct share *a = &s->shares[0][c], *b = &s->shares[1][c];
        if (a->layer_begin < a->layer_end && b->layer_begin < b->layer_end &&
            (a->lane_begin != b->lane_begin || a->lane_end != b->lane_end))
            return false;
    }
    return true;
}

static void make_chain(struct search *s, enum part part) {
    struct chain *chain = &s->chains[part];
    *chain = (struct chain){.n = 0};
    if (part == PART_EMBD && s->in->model->params.tied)
        return; /* it goes with the output matrix */
    chain->jumps = (part == PART_LAYERS && !same_lanes(s)) || !order_links(s, part, chain) ||
                   !find_edges(s, part, 0, chain, chain->at) ||
                   !find_edges(s, part, 1, chain, chain->to) ||
                   chain->at[chain->n] != chain->to[chain->n];
}

/* --- a state, and the plan that it is --- */

static void set_stretch(struct share *s, enum part part, uint32_t begin, uint32_t end) {
    uint32_t *const at[PARTS][2] = {{&s->layer_begin, &s->layer_end},
                                    {&s->vocab_begin, &s->vocab_end},
                                    {&s->embd_begin, &s->embd_end}};
    *at[part][0] = begin;
    *at[part][1] = end;
}

static void share_in(const struct search *s, const struct state *state, uint32_t card,
                     struct share *share) {
    const struct share *now = &s->shares[0][card], *then = &s->shares[1][card];
    const bool lanes_of_then = s->chains[PART_LAYERS].jumps ? state->jumped[PART_LAYERS]
                                                            : now->layer_begin == now->layer_end;
    *share = *now;
    share->lane_begin = lanes_of_then ? then->lane_begin : now->lane_begin;
    share->lane_end = lanes_of_then ? then->lane_end : now->lane_end;
    for (int part = 0; part < PARTS; part++) {
        const struct chain *chain = &s->chains[part];
        const struct stretch own =
            stretch_of(chain->jumps && state->jumped[part] ? then : now, (enum part)part);
        set_stretch(share, (enum part)part, chain->jumps ? own.begin : 0,
                    chain->jumps ? own.end : 0);
        for (uint32_t k = 0; k < chain->n && !chain->jumps; k++)
            if (chain->cards[k] >> card & 1)
                set_stretch(share, (enum part)part, state->at[part][k], state->at[part][k + 1]);
    }
}

/* What every card has then, but its ranges. */
static void make_cards(const struct search *s, struct state *state) {
    const struct model_params *p = &s->in->model->params;
    struct plan *plan = &state->plan;
    *plan = *s->then;
    if (s->chains[PART_LAYERS].jumps && !state->jumped[PART_LAYERS])
        plan->split = s->now->split;
    plan->ranges = NULL;
    plan->n_ranges = 0;
    for (uint32_t c = 0; c < plan->n_cards; c++) {
        struct share share;
        share_in(s, state, c, &share);
        plan->cards[c] =
            (struct plan_card){.online = s->now->cards[c].online || s->then->cards[c].online,
                               .capacity_bytes = s->in->capacity_bytes[c]};
        share_apply(&plan->cards[c], p, &share);
        plan->cards[c].kv_bytes = plan->n_pages * share_page_bytes(plan, p, c);
    }
    for (uint32_t c = 0; c < plan->n_cards; c++)
        plan->cards[c].scratch_bytes = share_scratch_bytes(plan, s->in->model, c);
}

static bool same_part(const struct plan_range *a, const struct plan_range *b) {
    return a->row_begin == b->row_begin && a->row_end == b->row_end &&
           a->col_begin == b->col_begin && a->col_end == b->col_end;
}

/* Of a card's ranges at both ends of a wave; what is the same in both counts once. */
static uint64_t weights_of_both(const struct search *s, const struct plan *a, const struct plan *b,
                                uint32_t card) {
    uint64_t bytes = 0;
    for (uint32_t t = 0; t < s->in->model->n_tensors; t++) {
        struct plan_range x, y;
        const bool in_a = share_range(a, s->in->model, card, t, &x);
        const bool in_b = share_range(b, s->in->model, card, t, &y);
        bytes += in_a ? share_packed_bytes(s->in, &x) : 0;
        bytes += in_b && !(in_a && same_part(&x, &y)) ? share_packed_bytes(s->in, &y) : 0;
    }
    return bytes ? PLAN_WEIGHTS_HEADER + bytes : 0;
}

/* What is new on a card that has no room for it beside `from` waits in host memory; UINT64_MAX:
 * that does not help, for `to` alone has no room.  both: of its weights, kv: of its K and V. */
static uint64_t staged_on(const struct search *s, const struct plan *to, uint32_t card,
                          uint64_t both, uint64_t kv) {
    const struct plan *from = &s->from.plan;
    const struct plan_card *a = &from->cards[card], *b = &to->cards[card];
    if (s->stage_most == 0 || weights_of_both(s, to, to, card) + b->kv_bytes + b->scratch_bytes >
                                  s->in->capacity_bytes[card])
        return UINT64_MAX;
    return layout_staged_of(both - weights_of_both(s, from, from, card)) + kv - a->kv_bytes;
}

/* Whether the wave to a plan overflows no card, nor the stage.  changed: cards whose weights are
 * others than when it was asked last; all: what both have of them. */
static bool has_room(struct search *s, const struct plan *to, uint32_t changed,
                     uint64_t all[CARDS_MAX]) {
    const struct plan *from = &s->from.plan;
    uint64_t staged = 0;
    for (uint32_t c = 0; c < to->n_cards; c++) {
        const struct plan_card *a = &from->cards[c], *b = &to->cards[c];
        const uint64_t kv = layout_kv_bytes(from, to, c);
        all[c] = changed >> c & 1 ? weights_of_both(s, from, to, c) : s->weights[c];
        if (all[c] + kv + a->scratch_bytes + b->scratch_bytes <= s->in->capacity_bytes[c])
            continue;
        const uint64_t on_card = staged_on(s, to, c, all[c], kv);
        if (on_card == UINT64_MAX)
            return false;
        staged += on_card;
    }
    if (staged > s->stage_most)
        return false;
    s->staged = staged;
    return true;
}

/* The same of the wave to a state. */
static bool fits(struct search *s, struct state *to, uint32_t changed) {
    uint64_t weights[CARDS_MAX];
    make_cards(s, to);
    if (!has_room(s, &to->plan, changed, weights))
        return false;
    memcpy(s->weights, weights, to->plan.n_cards * sizeof *weights);
    return true;
}

/* --- a wave --- */

#define ALL_CARDS ((1u << CARDS_MAX) - 1)

static bool try_jump(struct search *s, enum part part, struct state *to) {
    if (!s->chains[part].jumps || to->jumped[part])
        return false;
    to->jumped[part] = true;
    if (fits(s, to, ALL_CARDS))
        return true;
    to->jumped[part] = false;
    fits(s, to, 0); /* the plan is that of this state again */
    return false;
}

/* Move edge k of a chain towards its place, as far as there is room and the neighbours let it. */
static bool shift_edge(struct search *s, enum part part, uint32_t k, struct state *to) {
    const struct chain *chain = &s->chains[part];
    uint32_t *at = to->at[part];
    const uint32_t begin = at[k], cards = chain->cards[k - 1] | chain->cards[k];
    uint32_t wanted = chain->to[k];
    wanted = wanted < at[k - 1] ? at[k - 1] : wanted > at[k + 1] ? at[k + 1] : wanted;
    uint32_t good = begin, least = 1,
             most = wanted > begin ? wanted - begin : begin - wanted; /* steps */
    while (least <= most) {
        const uint32_t steps = most == least ? most : least + (most - least + 1) / 2;
        at[k] = wanted > begin ? begin + steps : begin - steps;
        if (fits(s, to, cards)) {
            good = at[k];
            least = steps + 1;
        } else {
            most = steps - 1;
        }
    }
    at[k] = good;
    fits(s, to, begin == wanted ? 0 : cards); /* the plan is that of this state again */
    return good != begin;
}

#define PARTS_OF_WAY 16u

/* All edges at once by the same part of their ways, as far as that has room: where cards are full
 * none can take before it gives, so that no edge may move alone. */
static bool shift_all(struct search *s, struct state *to) {
    for (uint32_t part = PARTS_OF_WAY - 1; part > 0; part--) {
        bool any = false;
        for (int p = 0; p < PARTS; p++) {
            const struct chain *chain = &s->chains[p];
            for (uint32_t k = 1; k < chain->n && !chain->jumps; k++) {
                const int64_t begin = s->from.at[p][k], way = (int64_t)chain->to[k] - begin;
                to->at[p][k] = (uint32_t)(begin + way * part / PARTS_OF_WAY);
                any |= to->at[p][k] != s->from.at[p][k];
            }
        }
        if (any && fits(s, to, ALL_CARDS))
            return true;
    }
    memcpy(to->at, s->from.at, sizeof to->at);
    fits(s, to, ALL_CARDS); /* the plan is that of this state again */
    return false;
}

/* As much of what is left of the way as fits; false: nothing does. */
static bool make_wave(struct search *s, struct state *to) {
    bool any = false, more = true;
    if (!fits(s, to, ALL_CARDS))
        return false;
    any = s->stage_most && shift_all(s, to);
    while (more) {
        more = false;
        for (int part = 0; part < PARTS; part++) {
            more |= try_jump(s, (enum part)part, to);
            for (uint32_t k = 1; k < s->chains[part].n && !s->chains[part].jumps; k++)
                more |= shift_edge(s, (enum part)part, k, to);
        }
        any |= more;
    }
    return any;
}

static bool is_there(const struct search *s, const struct state *state) {
    for (int part = 0; part < PARTS; part++) {
        const struct chain *chain = &s->chains[part];
        if (chain->jumps ? !state->jumped[part]
                         : memcmp(state->at[part], chain->to, (chain->n + 1) * sizeof *chain->to))
            return false;
    }
    return true;
}

/* --- all of them --- */

static bool fits_beside(struct search *s) {
    uint64_t weights[CARDS_MAX];
    return has_room(s, s->then, ALL_CARDS, weights);
}

/* The wave's plan as others are: with ranges, and what they take. */
static int complete(const struct search *s, struct state *state) {
    struct plan *plan = &state->plan;
    const int rc = share_ranges(plan, s->in);
    for (uint32_t c = 0; c < plan->n_cards && !rc; c++)
        snprintf(plan->cards[c].reason, sizeof plan->cards[c].reason,
                 plan_uses(plan, c) ? "on the way to another plan" : "nothing");
    snprintf(plan->reason, sizeof plan->reason, "on the way to: %.140s", s->then->reason);
    return rc;
}

static void begin(struct search *s, struct state *state) {
    *state = (struct state){.jumped = {false}};
    for (int part = 0; part < PARTS; part++) {
        make_chain(s, (enum part)part);
        memcpy(state->at[part], s->chains[part].at, sizeof state->at[part]);
    }
    make_cards(s, state);
}

/* From s->from.  first: the state after the first wave, where there are more; returns how many, 0:
 * no way. */
static uint32_t count_waves(struct search *s, struct state *first) {
    struct state to;
    for (uint32_t n = 1; n <= WAVES_MAX; n++) {
        if (fits_beside(s))
            return n;
        to = s->from;
        if (!make_wave(s, &to) || is_there(s, &to))
            return 0;
        if (n == 1)
            *first = to;
        s->from = to;
    }
    return 0;
}

/* Of the stage, where the way is made at once; 0: that would not help. */
static uint64_t staged_at_once(struct search *s) {
    begin(s, &s->from);
    s->stage_most = s->then->dense ? 0 : UINT64_MAX;
    return fits_beside(s) ? s->staged : 0;
}

/* With as many staged waves as have to be, before the way goes on without.  staged: what the first
 * one takes of the stage. */
static uint32_t count_staged(struct search *s, uint64_t stage_most, struct state *first,
                             uint64_t *staged) {
    struct state at, to;
    begin(s, &at);
    *staged = 0;
    for (uint32_t n = 1; n <= WAVES_MAX; n++) {
        s->from = at;
        s->stage_most = 0;
        const uint32_t rest = count_waves(s, n == 1 ? first : &to);
        if (rest)
            return n - 1 + rest;
        s->from = to = at;
        s->stage_most = stage_most;
        const bool last = stage_most && fits_beside(s);
        if (!last && (!stage_most || !make_wave(s, &to) || is_there(s, &to)))
            return 0;
        if (n == 1) {
            *first = to;
            *staged = s->staged;
        }
        if (last)
            return n;
        at = to;
    }
    return 0;
}

int waves_find(struct waves *waves, const struct plan *now, const struct plan *then,
               const struct plan_input *input, uint64_t stage_most, uint64_t *wanted) {
    struct search s = {.now = now, .then = then, .in = input};
    struct state first;
    uint64_t staged;
    *wanted = 0;
    if (now->n_pages != then->n_pages || now->n_cards != then->n_cards || plan_host_bytes(now) ||
        plan_host_bytes(then)) /* what is spilled has to lie together */
        return -ENOSPC;
    for (uint32_t c = 0; c < then->n_cards; c++) {
        share_taken(&s.shares[0][c], &now->cards[c], &input->model->params);
        share_taken(&s.shares[1][c], &then->cards[c], &input->model->params);
    }
    const uint32_t n = count_staged(&s, then->dense ? 0 : stage_most, &first, &staged);
    if (n == 0) {
        *wanted = staged_at_once(&s);
        return -ENOSPC;
    }
    const int rc = n > 1 ? complete(&s, &first) : 0;
    if (rc)
        return rc;
    *waves = (struct waves){.n = n, .staged_bytes = staged};
    if (n > 1)
        waves->first = first.plan;
    return 0;
}

void waves_finish(struct waves *waves) {
    plan_finish(&waves->first);
}
