/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/moves.h"

#include <errno.h>
#include <stdlib.h>

struct rectangle {
    uint64_t row_begin, row_end, col_begin, col_end;
};

/* One range of the second plan, which is covered piece by piece. */
struct covering {
    struct moves *moves;
    size_t capacity;
    const bool *sources;
    const struct plan_range **known; /* of the first plan, by tensor … */
    size_t n_known;
    size_t first, end; /* … and of these, the tensor's */
    const struct plan_range *range;
    uint64_t area, covered; /* values of the range; of the pieces so far */
    int rc;
};

static uint64_t area_of(const struct rectangle *r) {
    return (r->row_end - r->row_begin) * (r->col_end - r->col_begin);
}

static bool is_empty(const struct rectangle *r) {
    return r->row_begin >= r->row_end || r->col_begin >= r->col_end;
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static struct rectangle common(const struct rectangle *r, const struct plan_range *range) {
    return (struct rectangle){
        larger(r->row_begin, range->row_begin), smaller(r->row_end, range->row_end),
        larger(r->col_begin, range->col_begin), smaller(r->col_end, range->col_end)};
}

static void append(struct covering *c, const struct move *move) {
    struct moves *m = c->moves;
    if (m->n == c->capacity) {
        const size_t more = c->capacity ? 2 * c->capacity : 64;
        struct move *grown = realloc(m->moves, more * sizeof *grown);
        if (!grown) {
            c->rc = -ENOMEM;
            return;
        }
        m->moves = grown;
        c->capacity = more;
    }
    m->moves[m->n++] = *move;
}

/* A piece is found on `from`.  Bytes are cut at the running share, so that they add up. */
static void take(struct covering *c, const struct rectangle *r, int32_t from) {
    const __uint128_t bytes = c->range->bytes;
    const uint64_t begin = (uint64_t)(bytes * c->covered / c->area);
    c->covered += area_of(r);
    const uint64_t n = (uint64_t)(bytes * c->covered / c->area) - begin;
    if (from == (int32_t)c->range->card) {
        c->moves->kept_bytes += n;
        return;
    }
    *(from == MOVE_FROM_FILE ? &c->moves->file_bytes : &c->moves->card_bytes) += n;
    const struct move move = {c->range->tensor, from,         c->range->card, r->row_begin,
                              r->row_end,       r->col_begin, r->col_end,     n};
    append(c, &move);
}

/* Candidate i: the card's own ranges come first, then those of the others.  NULL: it is none. */
static const struct plan_range *candidate(const struct covering *c, size_t i) {
    const size_t n = c->end - c->first;
    const struct plan_range *range = c->known[c->first + i % n];
    const bool own = range->card == c->range->card;
    return own == (i < n) && c->sources[range->card] ? range : NULL;
}

/* Cover what candidates from `i` on hold of it; the rest comes from the file. */
static void cover(struct covering *c, const struct rectangle *r, size_t i) {
    if (is_empty(r) || c->rc < 0)
        return;
    for (; i < 2 * (c->end - c->first); i++) {
        const struct plan_range *range = candidate(c, i);
        if (!range)
            continue;
        const struct rectangle found = common(r, range);
        if (is_empty(&found))
            continue;
        take(c, &found, (int32_t)range->card);
        /* What is above, below, left and right of it. */
        cover(c, &(struct rectangle){r->row_begin, found.row_begin, r->col_begin, r->col_end},
              i + 1);
        cover(c, &(struct rectangle){found.row_end, r->row_end, r->col_begin, r->col_end}, i + 1);
        cover(c, &(struct rectangle){found.row_begin, found.row_end, r->col_begin, found.col_begin},
              i + 1);
        cover(c, &(struct rectangle){found.row_begin, found.row_end, found.col_end, r->col_end},
              i + 1);
        return;
    }
    take(c, r, MOVE_FROM_FILE);
}

static int by_tensor(const void *a, const void *b) {
    const struct plan_range *x = *(const struct plan_range *const *)a;
    const struct plan_range *y = *(const struct plan_range *const *)b;
    if (x->tensor != y->tensor)
        return x->tensor < y->tensor ? -1 : 1;
    return x->card != y->card ? (x->card < y->card ? -1 : 1) : (x > y) - (x < y);
}

static int sort_known(struct covering *c, const struct plan *before) {
    c->known = malloc((before->n_ranges + 1) * sizeof *c->known);
    if (!c->known)
        return -ENOMEM;
    c->n_known = before->n_ranges;
    for (size_t i = 0; i < c->n_known; i++)
        c->known[i] = &before->ranges[i];
    qsort(c->known, c->n_known, sizeof *c->known, by_tensor);
    return 0;
}

/* Where ranges of this tensor, or of one behind it, begin. */
static size_t find_tensor(const struct covering *c, uint32_t tensor) {
    size_t low = 0, high = c->n_known;
    while (low < high) {
        const size_t mid = (low + high) / 2;
        if (c->known[mid]->tensor < tensor)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

int moves_between(struct moves *moves, const struct plan *before, const struct plan *after,
                  const bool sources[CARDS_MAX]) {
    struct moves made = {0};
    struct covering c = {.moves = &made, .sources = sources};
    c.rc = sort_known(&c, before);
    for (size_t i = 0; i < after->n_ranges && c.rc == 0; i++) {
        const struct plan_range *range = &after->ranges[i];
        const struct rectangle all = {range->row_begin, range->row_end, range->col_begin,
                                      range->col_end};
        if (is_empty(&all))
            continue;
        c.range = range;
        c.area = area_of(&all);
        c.covered = 0;
        c.first = find_tensor(&c, range->tensor);
        c.end = find_tensor(&c, range->tensor + 1);
        cover(&c, &all, 0);
    }
    free(c.known);
    if (c.rc < 0) {
        moves_finish(&made);
        return c.rc;
    }
    *moves = made;
    return 0;
}

void moves_finish(struct moves *moves) {
    free(moves->moves);
    *moves = (struct moves){0};
}
