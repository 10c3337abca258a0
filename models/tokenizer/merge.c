/* SPDX-License-Identifier: Apache-2.0 */
#include "models/tokenizer/merge.h"

#include <errno.h>
#include <stdlib.h>

/* A symbol and the next one.  Both only grow, so another length of the two means that the pair is
 * out of date. */
struct pair {
    uint64_t key; /* the order, then the left symbol: the least comes first */
    uint32_t n;   /* bytes of both when the pair was made */
    int32_t id;   /* of both */
};

#define CHILDREN   4   /* of a place in the heap: they share a line of the cache */
#define LANES_FROM 512 /* symbols; in a shorter word the heap is in the cache */

void merger_finish(struct merger *m) {
    free(m->symbols);
    free(m->heap);
    for (int i = 0; i < MERGER_LANES; i++)
        free(m->lanes[i].at);
    *m = (struct merger){0};
}

void merger_clear(struct merger *m) {
    m->n = m->n_pairs = 0;
    for (int i = 0; i < MERGER_LANES; i++)
        m->lanes[i].head = m->lanes[i].n = 0;
}

int merger_add(struct merger *m, size_t begin, size_t n, int32_t id) {
    if (m->n == INT32_MAX || begin > UINT32_MAX - n)
        return -E2BIG;
    if (m->n == m->capacity) {
        const size_t more = m->capacity ? 2 * m->capacity : 64;
        struct symbol *grown = realloc(m->symbols, more * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        m->symbols = grown;
        m->capacity = more;
    }
    const int32_t i = (int32_t)m->n++;
    m->symbols[i] = (struct symbol){(uint32_t)begin, (uint32_t)n, i - 1, -1, id};
    if (i)
        m->symbols[i - 1].next = i;
    return 0;
}

/* The lane that ends with pairs of the same order before this one, else an empty one; NULL: the
 * heap it is. */
static struct lane *find_lane(struct merger *m, uint64_t key) {
    struct lane *empty = NULL;
    for (int i = 0; i < MERGER_LANES && m->n >= LANES_FROM; i++) {
        struct lane *lane = &m->lanes[i];
        if (lane->head == lane->n) {
            lane->head = lane->n = 0;
            empty = lane;
        } else if (lane->at[lane->n - 1].key >> 32 == key >> 32 &&
                   lane->at[lane->n - 1].key <= key) {
            return lane;
        }
    }
    return empty;
}

static int push_lane(struct lane *lane, struct pair pair) {
    if (lane->n == lane->capacity) {
        const size_t more = lane->capacity ? 2 * lane->capacity : 1024;
        struct pair *grown = realloc(lane->at, more * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        lane->at = grown;
        lane->capacity = more;
    }
    lane->at[lane->n++] = pair;
    return 0;
}

static int push(struct merger *m, struct pair pair) {
    struct lane *lane = find_lane(m, pair.key);
    if (lane)
        return push_lane(lane, pair);
    if (m->n_pairs == m->pairs_capacity) {
        const size_t more = m->pairs_capacity ? 2 * m->pairs_capacity : 64;
        struct pair *grown = realloc(m->heap, more * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        m->heap = grown;
        m->pairs_capacity = more;
    }
    size_t i = m->n_pairs++;
    for (; i && pair.key < m->heap[(i - 1) / CHILDREN].key; i = (i - 1) / CHILDREN)
        m->heap[i] = m->heap[(i - 1) / CHILDREN];
    m->heap[i] = pair;
    return 0;
}

static struct pair pop_heap(struct merger *m) {
    const struct pair top = m->heap[0], last = m->heap[--m->n_pairs];
    size_t i = 0;
    for (;;) {
        const size_t begin = CHILDREN * i + 1;
        const size_t end = begin + CHILDREN < m->n_pairs ? begin + CHILDREN : m->n_pairs;
        size_t least = begin;
        for (size_t child = begin + 1; child < end; child++)
            if (m->heap[child].key < m->heap[least].key)
                least = child;
        if (begin >= end || m->heap[least].key >= last.key)
            break;
        m->heap[i] = m->heap[least];
        i = least;
    }
    m->heap[i] = last;
    return top;
}

/* The pair whose key is the least; false: there is none. */
static bool pop(struct merger *m, struct pair *pair) {
    struct lane *least = NULL;
    for (int i = 0; i < MERGER_LANES && m->n >= LANES_FROM; i++) {
        struct lane *lane = &m->lanes[i];
        if (lane->head < lane->n &&
            (!least || lane->at[lane->head].key < least->at[least->head].key))
            least = lane;
    }
    if (m->n_pairs && (!least || m->heap[0].key < least->at[least->head].key))
        *pair = pop_heap(m);
    else if (least)
        *pair = least->at[least->head++];
    else
        return false;
    return true;
}

static int offer(struct merger *m, const char *text, merge_rule rule, const void *user,
                 int32_t left, int32_t right) {
    struct joined joined;
    if (left < 0 || right < 0)
        return 0;
    const struct symbol *a = &m->symbols[left], *b = &m->symbols[right];
    if (!rule(user, text, a, b, &joined))
        return 0;
    return push(
        m, (struct pair){(uint64_t)joined.order << 32 | (uint32_t)left, a->n + b->n, joined.id});
}

int merger_run(struct merger *m, const char *text, merge_rule rule, const void *user) {
    int rc = 0;
    for (size_t i = 1; i < m->n && !rc; i++)
        rc = offer(m, text, rule, user, (int32_t)i - 1, (int32_t)i);
    for (struct pair pair; !rc && pop(m, &pair);) {
        const int32_t left = (int32_t)(uint32_t)pair.key;
        struct symbol *a = &m->symbols[left];
        if (a->n == 0 || a->next < 0)
            continue;
        struct symbol *b = &m->symbols[a->next];
        if (a->n + b->n != pair.n)
            continue;
        a->n += b->n;
        a->id = pair.id;
        b->n = 0;
        a->next = b->next;
        if (b->next >= 0)
            m->symbols[b->next].previous = left;
        rc = offer(m, text, rule, user, a->previous, left);
        if (!rc)
            rc = offer(m, text, rule, user, left, a->next);
    }
    return rc;
}
