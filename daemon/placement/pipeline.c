/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/pipeline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NEVER     1e300
#define LAST      CARDS_MAX /* the output matrix is where the last layers are */
#define FIRST     CARDS_MAX /* the embedding is where the first layers are */
#define LEVEL_MAX 64        /* rounds of evening out */

/* A state: these cards hold layers 0 .. l - 1, and the rows go on from card `from`. */
struct origin {
    uint16_t layer; /* where the last run begins */
    uint8_t group;  /* that has it */
    uint8_t from;   /* the card before */
};

struct run {
    uint8_t group;
    uint32_t begin, end;
};

struct pipeline {
    const struct times *t;
    uint32_t n, n_layers;
    bool tied, whole;
    uint32_t head; /* the card with the output matrix, or LAST */
    uint32_t embd; /* the card with the embedding, or FIRST; tied: FIRST, and not looked at */
    struct group groups[GROUPS];
    double *seconds;             /* [cards][from][layer]; least so far */
    struct origin *origins;      /* the same */
    double *sums;                /* [group][layer]: seconds of layers 0 .. layer - 1 */
    uint16_t *least_begin;       /* [group][end]: where a run may begin at the earliest … */
    uint16_t last_begin[GROUPS]; /* … with the last layer, and what is behind it */
    uint16_t first_end[GROUPS];  /* how far the first run may go, with what is before it */
    double *rest; /* [cards][layer]: less than it takes from there on, on the other cards */
    double least_layer[GROUPS];
    double least_head;               /* less than the output matrix takes where it is */
    bool reached[GROUPS][CARDS_MAX]; /* [cards][from]: with any layer, from … up to an end */
    uint16_t reached_first[GROUPS][CARDS_MAX], reached_end[GROUPS][CARDS_MAX];
    double best; /* none that takes longer is looked at */
    uint8_t best_cards;
    struct origin best_origin;
    struct run runs[CARDS_MAX];
    uint32_t n_runs;
};

static size_t at(const struct pipeline *p, uint32_t cards, uint32_t from, uint32_t layer) {
    return ((size_t)cards * CARDS_MAX + from) * (p->n_layers + 1) + layer;
}

/* --- bytes --- */

static struct share share_of(const struct pipeline *p, const struct group *g, uint32_t card,
                             uint32_t begin, uint32_t end) {
    struct share s = {begin, end, g->lane_begin[card], g->lane_end[card], 0, 0, 0, 0, 0};
    if (p->head == card)
        s.vocab_end = LANES;
    if (p->head == LAST && end == p->n_layers) {
        s.vocab_begin = s.lane_begin;
        s.vocab_end = s.lane_end;
    }
    if (p->embd == card)
        s.embd_end = LANES;
    if (!p->tied && p->embd == FIRST && begin == 0) {
        s.embd_begin = s.lane_begin;
        s.embd_end = s.lane_end;
    }
    return s;
}

/* Of a card that has no layers. */
static struct share share_beside(const struct pipeline *p, uint32_t card) {
    return (struct share){.vocab_end = p->head == card ? LANES : 0,
                          .embd_end = p->embd == card ? LANES : 0};
}

/* How full the fullest card of the group is; above 1: too full, or not allowed to hold that. */
static double fullest(const struct pipeline *p, uint32_t group, uint32_t begin, uint32_t end) {
    const struct group *g = &p->groups[group];
    const struct box *box = p->t->box;
    double most = 0;
    if (!bounds_allow(&box->bounds, group, begin, end))
        return 2;
    for (uint32_t i = 0; i < p->n; i++) {
        if (!(group >> i & 1))
            continue;
        const struct share s = share_of(p, g, i, begin, end);
        const uint64_t bytes = costs_of(&box->costs, &s, g->n_slots);
        const double full = (double)bytes / (double)box->limit[i];
        most = bytes > box->limit[i] ? 2 : full > most ? full : most;
    }
    return most;
}

static bool fits(const struct pipeline *p, uint32_t group, uint32_t begin, uint32_t end) {
    const struct group *g = &p->groups[group];
    const struct box *box = p->t->box;
    if (!bounds_allow(&box->bounds, group, begin, end))
        return false;
    for (uint32_t cards = group; cards; cards &= cards - 1) {
        const uint32_t i = (uint32_t)__builtin_ctz(cards);
        const struct share s = share_of(p, g, i, begin, end);
        if (costs_of(&box->costs, &s, g->n_slots) > box->limit[i])
            return false;
    }
    return true;
}

/* A run that begins at 0 or ends with the last layer has more to hold; those between are looked at
 * as if neither were so, by a begin of 1 at least. */
static void bound_runs(struct pipeline *p, uint32_t group) {
    const uint32_t n = p->n_layers;
    uint16_t *least = p->least_begin + (size_t)group * (n + 1);
    uint32_t begin = 1;
    for (uint32_t end = 2; end < n; end++) {
        while (begin < end && !fits(p, group, begin, end))
            begin++;
        least[end] = (uint16_t)begin;
    }
    for (begin = 1; begin < n && !fits(p, group, begin, n);)
        begin++;
    p->last_begin[group] = (uint16_t)begin;
    uint32_t end = n - 1;
    while (end > 0 && !fits(p, group, 0, end))
        end--;
    p->first_end[group] = (uint16_t)end;
}

/* --- the search --- */

static double end_seconds(const struct pipeline *p, uint32_t group) {
    if (p->head == LAST)
        return p->groups[group].head;
    const uint32_t from = (uint32_t)__builtin_ctz(group);
    return p->t->head[p->head][0][LANES] +
           (group >> p->head & 1 ? 0 : times_hop(p->t, from, 1u << p->head));
}

static double begin_seconds(const struct pipeline *p, uint32_t group) {
    if (!p->tied)
        return times_embed(p->t, p->embd == FIRST ? group : 1u << p->embd, group);
    /* On the last group, of which nothing is known yet: the same for every first one. */
    return p->head == LAST ? 0 : times_hop(p->t, p->head, group);
}

static const double *sums_of(const struct pipeline *p, uint32_t group) {
    return p->sums + (size_t)group * (p->n_layers + 1);
}

static void reach(struct pipeline *p, uint32_t cards, uint32_t from, uint32_t layer) {
    uint16_t *first = &p->reached_first[cards][from], *end = &p->reached_end[cards][from];
    if (!p->reached[cards][from]) {
        double *seconds = p->seconds + at(p, cards, from, 0);
        for (uint32_t l = 0; l <= p->n_layers; l++)
            seconds[l] = NEVER;
        *first = (uint16_t)layer;
        *end = 0;
        p->reached[cards][from] = true;
    }
    *first = layer < *first ? (uint16_t)layer : *first;
    *end = layer >= *end ? (uint16_t)(layer + 1) : *end;
}

static void offer(struct pipeline *p, uint32_t cards, uint32_t group, uint32_t end, double seconds,
                  struct origin origin) {
    const uint32_t from = (uint32_t)__builtin_ctz(group);
    const size_t i = at(p, cards, from, end);
    if (end == p->n_layers) {
        if (seconds < p->best) {
            p->best = seconds;
            p->best_cards = (uint8_t)cards;
            p->best_origin = origin;
        }
    } else if (seconds + p->rest[(size_t)cards * (p->n_layers + 1) + end] < p->best) {
        reach(p, cards, from, end);
        if (seconds >= p->seconds[i])
            return;
        p->seconds[i] = seconds;
        p->origins[i] = origin;
    }
}

static void first_run(struct pipeline *p, uint32_t group) {
    const double begin = begin_seconds(p, group);
    const struct origin origin = {0, (uint8_t)group, 0};
    for (uint32_t end = 1; end <= p->first_end[group]; end++)
        offer(p, group, group, end, begin + sums_of(p, group)[end], origin);
    if (fits(p, group, 0, p->n_layers))
        offer(p, group, group, p->n_layers,
              begin + sums_of(p, group)[p->n_layers] + end_seconds(p, group), origin);
}

/* The least that it takes until the group has the rows behind each layer, less its own sum there.
 */
struct arrivals {
    double seconds[LAYERS_MAX + 1];
    uint8_t from[LAYERS_MAX + 1];
};

/* The first layer that the rows reach, and in *end the one behind the last; 0: none. */
static uint32_t arrive(const struct pipeline *p, uint32_t cards, uint32_t group, struct arrivals *a,
                       uint32_t *end) {
    const double *sums = sums_of(p, group);
    uint32_t first = p->n_layers;
    *end = 0;
    for (uint32_t from = 0; from < p->n; from++)
        if (cards >> from & 1 && p->reached[cards][from]) {
            first = p->reached_first[cards][from] < first ? p->reached_first[cards][from] : first;
            *end = p->reached_end[cards][from] > *end ? p->reached_end[cards][from] : *end;
        }
    for (uint32_t l = first; l < *end; l++)
        a->seconds[l] = NEVER;
    for (uint32_t from = 0; from < p->n; from++) {
        if (!(cards >> from & 1) || !p->reached[cards][from])
            continue;
        const double *before = p->seconds + at(p, cards, from, 0);
        const double hop = times_hop(p->t, from, group);
        for (uint32_t l = p->reached_first[cards][from]; l < p->reached_end[cards][from]; l++)
            if (before[l] + hop - sums[l] < a->seconds[l]) {
                a->seconds[l] = before[l] + hop - sums[l];
                a->from[l] = (uint8_t)from;
            }
    }
    return *end ? first : 0;
}

/* Give runs behind those of `cards` to the group.  The begins that an end allows grow with it, so
 * the least of them is found with a queue of those that may still become it. */
static void further_run(struct pipeline *p, uint32_t cards, uint32_t group) {
    const uint32_t n = p->n_layers, all = cards | group;
    const double *sums = sums_of(p, group);
    const uint16_t *least = p->least_begin + (size_t)group * (n + 1);
    struct arrivals a;
    uint16_t queue[LAYERS_MAX + 1];
    uint32_t head = 0, tail = 0, behind_last = 0;
    const uint32_t first = arrive(p, cards, group, &a, &behind_last);
    if (!first)
        return;
    for (uint32_t end = first + 1; end <= n; end++) {
        const uint32_t begin = end - 1;
        const uint32_t from = end == n ? p->last_begin[group] : least[end];
        if (from >= behind_last)
            break; /* no run to here, or further, may begin where the rows are */
        while (begin < behind_last && tail > head && a.seconds[queue[tail - 1]] > a.seconds[begin])
            tail--;
        if (begin < behind_last)
            queue[tail++] = (uint16_t)begin;
        while (head < tail && queue[head] < from)
            head++;
        if (head == tail || a.seconds[queue[head]] >= NEVER / 2)
            continue;
        const double behind = end == n ? end_seconds(p, group) : 0;
        offer(p, all, group, end, a.seconds[queue[head]] + sums[end] + behind,
              (struct origin){queue[head], (uint8_t)group, a.from[queue[head]]});
    }
}

static bool is_reached(const struct pipeline *p, uint32_t cards) {
    for (uint32_t from = 0; from < p->n; from++)
        if (p->reached[cards][from])
            return true;
    return false;
}

/* As many layers as a card might hold, were each as small as the smallest. */
static uint32_t most_layers(const struct pipeline *p, uint32_t card) {
    const struct costs *c = &p->t->box->costs;
    uint64_t least = UINT64_MAX;
    for (uint32_t l = 0; l < p->n_layers; l++)
        if (c->layers[l + 1] - c->layers[l] < least)
            least = c->layers[l + 1] - c->layers[l];
    return (uint32_t)(p->t->box->limit[card] / (least + c->layer_kv + 1));
}

static double least_layer(const struct pipeline *p, uint32_t group) {
    double least = NEVER;
    for (uint32_t k = 0; k < p->t->n_kinds && p->groups[group].cards; k++)
        if (p->groups[group].layer[k] < least)
            least = p->groups[group].layer[k];
    return least;
}

/* Layers one by one, each where it takes least; cards of their own are full some time, groups are
 * taken to hold whatever comes. */
static void bound_rest(struct pipeline *p, uint32_t cards, const uint32_t *most) {
    double *rest = p->rest + (size_t)cards * (p->n_layers + 1);
    const uint32_t others = ((1u << p->n) - 1) & ~cards;
    uint32_t room[CARDS_MAX], best = 0;
    double least = NEVER;
    memcpy(room, most, sizeof room);
    rest[p->n_layers] = 0;
    for (uint32_t group = others; group && !p->whole; group = (group - 1) & others)
        if (p->least_layer[group] < least)
            least = p->least_layer[group];
    for (uint32_t l = p->n_layers; l-- > 0;) {
        if (p->whole && (least >= NEVER || room[best] == 0)) {
            least = NEVER;
            for (uint32_t i = 0; i < p->n; i++)
                if (others >> i & 1 && room[i] && p->least_layer[1u << i] < least) {
                    least = p->least_layer[1u << i];
                    best = i;
                }
        }
        if (p->whole && least < NEVER)
            room[best]--;
        rest[l] = rest[l + 1] + least;
    }
}

static void bound_all(struct pipeline *p) {
    uint32_t most[CARDS_MAX] = {0};
    for (uint32_t i = 0; i < p->n && p->whole; i++)
        most[i] = most_layers(p, i);
    for (uint32_t group = 1; group < 1u << p->n; group++)
        p->least_layer[group] = least_layer(p, group);
    for (uint32_t cards = 0; cards < 1u << p->n; cards++)
        bound_rest(p, cards, most);
}

static double least_head(const struct pipeline *p) {
    double least = NEVER;
    if (p->head != LAST)
        return p->t->head[p->head][0][LANES];
    for (uint32_t group = 1; group < 1u << p->n; group++)
        if (p->groups[group].cards && p->groups[group].head < least)
            least = p->groups[group].head;
    return least;
}

static void search(struct pipeline *p) {
    const uint32_t every = (1u << p->n) - 1;
    p->least_head = least_head(p);
    memset(p->reached, 0, sizeof p->reached);
    for (uint32_t group = 1; group <= every; group++)
        if (p->groups[group].cards) {
            bound_runs(p, group);
            first_run(p, group);
        }
    for (uint32_t cards = 1; cards < every; cards++) {
        if (!is_reached(p, cards))
            continue;
        const uint32_t free_cards = every & ~cards;
        for (uint32_t group = free_cards; group; group = (group - 1) & free_cards)
            if (p->groups[group].cards)
                further_run(p, cards, group);
    }
}

/* --- the runs --- */

static void collect_runs(struct pipeline *p) {
    struct origin o = p->best_origin;
    struct run back[CARDS_MAX];
    uint32_t cards = p->best_cards, end = p->n_layers, n = 0;
    for (;;) {
        back[n++] = (struct run){o.group, o.layer, end};
        cards &= ~(uint32_t)o.group;
        if (o.layer == 0)
            break;
        end = o.layer;
        o = p->origins[at(p, cards, o.from, end)];
    }
    p->n_runs = n;
    for (uint32_t i = 0; i < n; i++)
        p->runs[i] = back[n - 1 - i];
}

static bool same_speed(const struct pipeline *p, uint32_t a, uint32_t b) {
    for (uint32_t k = 0; k < p->t->n_kinds; k++)
        if (p->groups[a].layer[k] != p->groups[b].layer[k])
            return false;
    return true;
}

static double fuller(const struct pipeline *p, const struct run *a, const struct run *b,
                     uint32_t edge) {
    const double x = fullest(p, a->group, a->begin, edge), y = fullest(p, b->group, edge, b->end);
    return x > y ? x : y;
}

/* Where a layer takes as long in one run as in the next, both may be as full: no time is lost, and
 * what is left free lets a running engine go over to another plan. */
static bool level_pair(const struct pipeline *p, struct run *a, struct run *b) {
    uint32_t best = a->end;
    double least = fuller(p, a, b, best);
    if (!same_speed(p, a->group, b->group))
        return false;
    for (uint32_t edge = a->begin + 1; edge < b->end; edge++) {
        const double full = fuller(p, a, b, edge);
        if (full < least) {
            least = full;
            best = edge;
        }
    }
    const bool moved = best != a->end;
    a->end = b->begin = best;
    return moved;
}

static void level_runs(struct pipeline *p) {
    bool moved = true;
    for (uint32_t round = 0; round < LEVEL_MAX && moved; round++) {
        moved = false;
        for (uint32_t i = 0; i + 1 < p->n_runs; i++)
            moved |= level_pair(p, &p->runs[i], &p->runs[i + 1]);
    }
}

static void write_shares(const struct pipeline *p, struct share shares[CARDS_MAX]) {
    memset(shares, 0, CARDS_MAX * sizeof *shares);
    for (uint32_t r = 0; r < p->n_runs; r++)
        for (uint32_t i = 0; i < p->n; i++)
            if (p->runs[r].group >> i & 1)
                shares[i] =
                    share_of(p, &p->groups[p->runs[r].group], i, p->runs[r].begin, p->runs[r].end);
    for (uint32_t i = 0; i < p->n; i++)
        if (!(p->best_cards >> i & 1))
            shares[i] = share_beside(p, i);
}

/* --- all of it --- */

/* The card that is the only one allowed; `none`: all are. */
static uint32_t bound_card(uint8_t cards, uint32_t none) {
    return cards == BOUNDS_FREE ? none : (uint32_t)__builtin_ctz(cards);
}

/* Whether the output matrix may be there, and both matrices find room beside no layer. */
static bool is_home(const struct pipeline *p, uint32_t home) {
    const struct box *box = p->t->box;
    const uint32_t bound = bound_card(box->bounds.head, LAST);
    if (home != bound && !(p->whole && bound == LAST && home < p->n))
        return false;
    if (p->whole && home == LAST)
        return false;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct share s = share_beside(p, i);
        if (costs_of(&box->costs, &s, 0) > box->limit[i])
            return false;
    }
    return true;
}

static void sum_layers(struct pipeline *p) {
    for (uint32_t group = 1; group < 1u << p->n; group++) {
        double *sums = p->sums + (size_t)group * (p->n_layers + 1);
        sums[0] = 0;
        for (uint32_t l = 0; l < p->n_layers && p->groups[group].cards; l++)
            sums[l + 1] = sums[l] + p->groups[group].layer[p->t->kind_of[l]];
    }
}

static int allocate(struct pipeline *p) {
    const size_t n_states = (size_t)GROUPS * CARDS_MAX * (p->n_layers + 1);
    const size_t n_runs = (size_t)GROUPS * (p->n_layers + 1);
    p->seconds = malloc(n_states * sizeof *p->seconds);
    p->origins = malloc(n_states * sizeof *p->origins);
    p->sums = malloc(n_runs * sizeof *p->sums);
    p->rest = malloc(n_runs * sizeof *p->rest);
    p->least_begin = malloc(n_runs * sizeof *p->least_begin);
    return p->seconds && p->origins && p->sums && p->rest && p->least_begin ? 0 : -ENOMEM;
}

static void finish(struct pipeline *p) {
    free(p->seconds);
    free(p->origins);
    free(p->sums);
    free(p->rest);
    free(p->least_begin);
    free(p);
}

/* Search with each home of the output matrix that is allowed, and keep the fastest. */
static bool search_homes(struct pipeline *p, struct share shares[CARDS_MAX]) {
    double least = p->best;
    bool found = false;
    for (uint32_t home = 0; home <= LAST; home++) {
        p->head = home;
        if (!is_home(p, home))
            continue;
        search(p);
        if (p->best >= least)
            continue;
        least = p->best;
        found = true;
        collect_runs(p);
        level_runs(p);
        write_shares(p, shares);
    }
    return found;
}

int pipeline_find(const struct times *t, bool whole_layers, double seconds,
                  struct share shares[CARDS_MAX]) {
    struct pipeline *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->t = t;
    p->n = t->box->n;
    p->n_layers = t->box->input->model->params.n_layers;
    p->tied = t->box->input->model->params.tied;
    p->whole = whole_layers;
    p->embd = p->tied ? FIRST : bound_card(t->box->bounds.embd, FIRST);
    p->best = seconds < NEVER ? seconds : NEVER;
    int rc = allocate(p);
    if (rc == 0) {
        if (whole_layers)
            groups_fill_single(t, p->groups);
        else
            groups_fill(t, p->groups);
        sum_layers(p);
        bound_all(p);
        rc = search_homes(p, shares);
    }
    finish(p);
    return rc;
}
