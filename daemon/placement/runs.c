/* SPDX-License-Identifier: Apache-2.0 */
/* runs.c - the search for runs of layers, one after the other, each on a group of cards that have
 * lanes of it.
 *
 * What a set of cards is good for is one number: the layers that have a home there, which is as
 * many as can.  To have placed more of them is never worse, so nothing else need be remembered. How
 * the lanes lie within a group is a matter of bytes alone: the part that needs most goes to the
 * card with the most room, so of the ways to deal them out only the counts are looked at. */
#include <string.h>

#include "daemon/placement/search.h"

#define SETS     (1u << CARDS_MAX)
#define CUTTINGS 22 /* sums of counts that are LANES */

/* Lanes in runs, the longest first. */
struct cutting {
    uint8_t n, n_slots;
    uint8_t edge[LANES + 1];
};

/* The most layers, 0 .. layers - 1, that these cards hold, each with a part. */
struct state {
    uint16_t layers; /* 0: none */
    uint8_t group;   /* that has the last run … */
    uint8_t cutting; /* … in these lanes */
};

/* Cards are numbered by their room here, the one with the most first. */
struct search {
    const struct box *box;
    uint32_t n, n_layers, every;
    bool cut_head, cut_embd; /* like the lanes of the last group, of the first */
    uint8_t card[CARDS_MAX]; /* of the box */
    uint64_t room[CARDS_MAX];
    uint8_t direct[CARDS_MAX];
    uint8_t
        twins[SETS]; /* cards that are alike and come before: of a set, those to be taken first */
    bool clique[SETS];
    uint64_t useful[SETS]; /* room of a set, less what no use of it can do without */
    uint8_t n_cuttings;
    struct cutting cuttings[CUTTINGS];
    struct state of[SETS];
    uint16_t most[SETS];      /* of any of its subsets */
    uint16_t least_end[SETS]; /* a set that has fewer layers leaves too many */
    uint32_t last;            /* the set without its last group */
    struct state end;         /* what comes behind it */
};

/* --- what there is --- */

static void add_cutting(struct search *s, const uint8_t *edge, uint32_t n) {
    struct cutting *c = &s->cuttings[s->n_cuttings++];
    c->n = (uint8_t)n;
    c->n_slots = 0;
    memcpy(c->edge, edge, n + 1);
    for (uint32_t i = 0; i < n; i++)
        c->n_slots = (uint8_t)(c->n_slots + s->box->costs.nodes[edge[i]][edge[i + 1]]);
}

/* All ways to go on from n runs, none longer than `longest`. */
static void cut_lanes(struct search *s, uint8_t *edge, uint32_t n, uint32_t longest) {
    const uint32_t left = LANES - edge[n];
    if (left == 0)
        add_cutting(s, edge, n);
    for (uint32_t count = left < longest ? left : longest; count > 0 && n < s->n; count--) {
        edge[n + 1] = (uint8_t)(edge[n] + count);
        cut_lanes(s, edge, n + 1, count);
    }
}

/* Room for layers, beside what is bound to the card. */
static uint64_t room_of(const struct box *box, uint32_t card) {
    const struct costs *c = &box->costs;
    const struct bounds *b = &box->bounds;
    const bool tied = box->input->model->params.tied;
    const uint32_t head = b->head != BOUNDS_FREE && b->head >> card & 1 ? LANES : 0;
    const uint32_t embd = !tied && b->embd != BOUNDS_FREE && b->embd >> card & 1 ? LANES : 0;
    const uint64_t layers = c->scratch_lanes[0][LANES];
    const uint64_t bound =
        costs_beside(c, layers, 0, head, 0, embd) - costs_beside(c, layers, 0, 0, 0, 0);
    return box->limit[card] > bound ? box->limit[card] - bound : 0;
}

/* What is bound to cards has room there, where these have no layer. */
static bool bound_fit(const struct box *box) {
    const struct bounds *b = &box->bounds;
    const bool tied = box->input->model->params.tied;
    for (uint32_t i = 0; i < box->n; i++) {
        const uint32_t head = b->head != BOUNDS_FREE && b->head >> i & 1 ? LANES : 0;
        const uint32_t embd = !tied && b->embd != BOUNDS_FREE && b->embd >> i & 1 ? LANES : 0;
        if (costs_beside(&box->costs, 0, 0, head, 0, embd) > box->limit[i])
            return false;
    }
    return true;
}

static void sort_cards(struct search *s) {
    for (uint32_t i = 0; i < s->n; i++) {
        const uint64_t room = room_of(s->box, i);
        uint32_t at = i;
        for (; at > 0 && s->room[at - 1] < room; at--) {
            s->room[at] = s->room[at - 1];
            s->card[at] = s->card[at - 1];
        }
        s->room[at] = room;
        s->card[at] = (uint8_t)i;
    }
    for (uint32_t i = 0; i < s->n; i++) {
        s->direct[i] = 0;
        for (uint32_t k = 0; k < s->n; k++)
            s->direct[i] |= (uint8_t)((s->box->direct[s->card[i]] >> s->card[k] & 1u) << k);
    }
}

/* The last card before this one that is like it, as a bit. */
static uint8_t twin_of(const struct search *s, uint32_t card) {
    for (uint32_t i = card; i-- > 0 && !s->box->bounds.any;)
        if (s->room[i] == s->room[card] &&
            (s->direct[i] | 1u << i) == (s->direct[card] | 1u << card))
            return (uint8_t)(1u << i);
    return 0;
}

/* Header, and the least scratch that lanes can have. */
static uint64_t least_beside(const struct costs *c) {
    uint64_t least = UINT64_MAX;
    for (uint32_t b = 0; b < LANES; b++)
        for (uint32_t e = b + 1; e <= LANES; e++)
            least = c->scratch_lanes[b][e] < least ? c->scratch_lanes[b][e] : least;
    return PLAN_WEIGHTS_HEADER + least + c->scratch_slot;
}

static void fill_sets(struct search *s) {
    const uint64_t beside = least_beside(&s->box->costs);
    s->twins[0] = 0;
    s->useful[0] = 0;
    s->clique[0] = true;
    for (uint32_t cards = 1; cards <= s->every; cards++) {
        const uint32_t rest = cards & (cards - 1), i = (uint32_t)__builtin_ctz(cards);
        const uint64_t useful = s->room[i] > beside ? s->room[i] - beside : 0;
        s->twins[cards] = s->twins[rest] | (rest ? s->twins[1u << i] : twin_of(s, i));
        s->useful[cards] = s->useful[rest] + useful;
        s->clique[cards] = s->clique[rest] && (rest & ~(uint32_t)s->direct[i]) == 0 && useful > 0;
    }
}

/* Bytes of layers and the matrices that go with them, were they not cut: a cut saves nothing. */
static uint64_t whole_bytes(const struct search *s, uint32_t begin, uint32_t end) {
    const struct costs *c = &s->box->costs;
    return c->layers[end] - c->layers[begin] + (end - begin) * c->layer_kv +
           (begin == 0 && s->cut_embd ? c->embd[0][LANES] : 0) +
           (end == s->n_layers && s->cut_head ? c->head[0][LANES] : 0);
}

/* With fewer cards left there must be more layers placed. */
static void fill_least_ends(struct search *s) {
    for (uint32_t cards = 1; cards <= s->every; cards++) {
        const uint64_t left = s->useful[s->every & ~cards];
        uint32_t least = 1, most = s->n_layers;
        while (least < most) {
            const uint32_t middle = (least + most) / 2;
            if (whole_bytes(s, middle, s->n_layers) <= left)
                most = middle;
            else
                least = middle + 1;
        }
        s->least_end[cards] = (uint16_t)least;
    }
}

static void open_search(struct search *s, const struct box *box) {
    const bool tied = box->input->model->params.tied;
    uint8_t edge[LANES + 1] = {0};
    s->box = box;
    s->n = box->n;
    s->n_layers = box->costs.n_layers;
    s->every = (1u << box->n) - 1;
    s->cut_head = box->bounds.head == BOUNDS_FREE;
    s->cut_embd = !tied && box->bounds.embd == BOUNDS_FREE;
    s->n_cuttings = 0;
    cut_lanes(s, edge, 0, LANES);
    sort_cards(s);
    fill_sets(s);
    fill_least_ends(s);
    memset(s->of, 0, (s->every + 1) * sizeof *s->of);
    memset(s->most, 0, (s->every + 1) * sizeof *s->most);
}

/* --- a run --- */

static uint64_t part_bytes(const struct search *s, const struct cutting *cut, uint32_t i,
                           uint32_t begin, uint32_t end) {
    const struct costs *c = &s->box->costs;
    const uint32_t b = cut->edge[i], e = cut->edge[i + 1];
    const bool head = end == s->n_layers && s->cut_head, embd = begin == 0 && s->cut_embd;
    return c->lanes[b][e][end] - c->lanes[b][e][begin] + (end - begin) * c->lanes_kv[b][e] +
           costs_beside(c, c->scratch_lanes[b][e] + cut->n_slots * c->scratch_slot, head ? b : 0,
                        head ? e : 0, embd ? b : 0, embd ? e : 0);
}

/* The parts of a run by what they need, the one that needs most first.  False: it is more than the
 * group has room for. */
static bool deal(const struct search *s, uint32_t group, const struct cutting *cut, uint32_t begin,
                 uint32_t end, uint8_t part[CARDS_MAX]) {
    const uint64_t largest = s->room[__builtin_ctz(group)];
    uint64_t bytes[CARDS_MAX];
    for (uint32_t i = 0; i < cut->n; i++) {
        const uint64_t mine = part_bytes(s, cut, i, begin, end);
        uint32_t at = i;
        if (mine > largest)
            return false;
        for (; at > 0 && bytes[at - 1] < mine; at--) {
            bytes[at] = bytes[at - 1];
            part[at] = part[at - 1];
        }
        bytes[at] = mine;
        part[at] = (uint8_t)i;
    }
    for (uint32_t i = 0; i < cut->n; i++, group &= group - 1)
        if (bytes[i] > s->room[__builtin_ctz(group)])
            return false;
    return true;
}

static bool holds(const struct search *s, uint32_t group, const struct cutting *cut, uint32_t begin,
                  uint32_t end) {
    uint8_t part[CARDS_MAX];
    return deal(s, group, cut, begin, end, part);
}

/* How far the group goes from `begin` on in these lanes, up to `stop`; it gets to `end`. */
static uint32_t furthest(const struct search *s, uint32_t group, const struct cutting *cut,
                         uint32_t begin, uint32_t end, uint32_t stop) {
    while (end < stop) {
        const uint32_t middle = (end + stop + 1) / 2;
        if (holds(s, group, cut, begin, middle))
            end = middle;
        else
            stop = middle - 1;
    }
    return end;
}

/* The first layer from `begin` on that one of the cards may not have. */
static uint32_t stop_of(const struct search *s, uint32_t group, uint32_t begin) {
    uint32_t stop = s->n_layers;
    for (uint32_t rest = group; rest && s->box->bounds.any; rest &= rest - 1) {
        const uint32_t mine = s->box->bounds.stop[s->card[__builtin_ctz(rest)]][begin];
        stop = mine < stop ? mine : stop;
    }
    return stop;
}

/* --- all of them --- */

/* Go on from a set with a run for a group of the other cards; true: with all layers that are left.
 */
static bool extend(struct search *s, uint32_t cards, uint32_t group) {
    const uint32_t all = cards | group, begin = s->of[cards].layers;
    const uint32_t stop = stop_of(s, group, begin), n = (uint32_t)__builtin_popcount(group);
    const uint64_t useful = s->useful[group], slots = n * (n - 1) * s->box->costs.scratch_slot;
    uint32_t end = (s->of[all].layers > begin ? s->of[all].layers : begin) + 1;
    end = s->least_end[all] > end ? s->least_end[all] : end;
    const bool may_end = stop == s->n_layers && whole_bytes(s, begin, stop) + slots <= useful;
    const uint32_t last = stop < s->n_layers ? stop : stop - 1; /* the last run has a layer, too */
    if (!may_end && (end > last || whole_bytes(s, begin, end) + slots > useful))
        return false;
    for (uint32_t k = 0; k < s->n_cuttings; k++) {
        const struct cutting *cut = &s->cuttings[k];
        if (cut->n != n)
            continue;
        if (may_end && holds(s, group, cut, begin, s->n_layers)) {
            s->end = (struct state){(uint16_t)s->n_layers, (uint8_t)group, (uint8_t)k};
            return true;
        }
        if (end > last || !holds(s, group, cut, begin, end))
            continue;
        const uint32_t far = furthest(s, group, cut, begin, end, last);
        s->of[all] = (struct state){(uint16_t)far, (uint8_t)group, (uint8_t)k};
        end = far + 1;
    }
    return false;
}

/* Whether a set has more layers than any part of it. */
static bool is_of_use(struct search *s, uint32_t cards) {
    uint16_t most = 0;
    for (uint32_t rest = cards; rest; rest &= rest - 1) {
        const uint16_t part = s->most[cards & ~(rest & -rest)];
        most = part > most ? part : most;
    }
    const bool more = s->of[cards].layers > most;
    s->most[cards] = more ? s->of[cards].layers : most;
    return more || cards == 0;
}

static bool search(struct search *s) {
    for (uint32_t cards = 0; cards < s->every; cards++) {
        if (!is_of_use(s, cards))
            continue;
        const uint32_t rest = s->every & ~cards;
        for (uint32_t group = rest; group; group = (group - 1) & rest) {
            if (!s->clique[group] || s->twins[group] & ~(cards | group))
                continue;
            s->last = cards;
            if (extend(s, cards, group))
                return true;
        }
    }
    return false;
}

/* --- the shares --- */

static void write_run(const struct search *s, const struct state *run, uint32_t begin,
                      struct share shares[CARDS_MAX]) {
    const struct cutting *cut = &s->cuttings[run->cutting];
    const bool head = run->layers == s->n_layers && s->cut_head, embd = begin == 0 && s->cut_embd;
    uint8_t part[CARDS_MAX];
    deal(s, run->group, cut, begin, run->layers, part);
    uint32_t group = run->group;
    for (uint32_t i = 0; i < cut->n; i++, group &= group - 1) {
        const uint32_t b = cut->edge[part[i]], e = cut->edge[part[i] + 1];
        struct share *share = &shares[s->card[__builtin_ctz(group)]];
        *share = (struct share){begin,        run->layers,  b, e, head ? b : 0, head ? e : 0,
                                embd ? b : 0, embd ? e : 0, 0};
    }
}

static void write_bound(const struct search *s, struct share shares[CARDS_MAX]) {
    const struct bounds *b = &s->box->bounds;
    for (uint32_t i = 0; i < s->n; i++) {
        if (!s->cut_head && b->head >> i & 1)
            shares[i].vocab_end = LANES;
        if (b->embd != BOUNDS_FREE && !s->box->input->model->params.tied && b->embd >> i & 1)
            shares[i].embd_end = LANES;
    }
}

bool runs_find(const struct box *box, struct share shares[CARDS_MAX]) {
    struct search s;
    if (!bound_fit(box))
        return false;
    open_search(&s, box);
    if (whole_bytes(&s, 0, s.n_layers) > s.useful[s.every] || !search(&s))
        return false;
    if (!shares)
        return true;
    memset(shares, 0, CARDS_MAX * sizeof *shares);
    struct state run = s.end;
    for (uint32_t cards = s.last;; cards &= ~(uint32_t)run.group) {
        write_run(&s, &run, s.of[cards].layers, shares);
        run = s.of[cards];
        if (cards == 0)
            break;
    }
    write_bound(&s, shares);
    return true;
}
