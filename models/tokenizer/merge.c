/* SPDX-License-Identifier: Apache-2.0 */
#include "models/tokenizer/merge.h"

#include <errno.h>
#include <stdlib.h>

/* A symbol and the next one.  Both only grow, so another length of the two means that the pair is
 * out of date. */
struct pair {
    float rank;
    int32_t left;
    uint32_t n; /* bytes of both when the pair was made */
};

void merger_finish(struct merger *m) {
    free(m->symbols);
    free(m->heap);
    *m = (struct merger){0};
}

void merger_clear(struct merger *m) {
    m->n = m->n_pairs = 0;
}

int merger_add(struct merger *m, size_t begin, size_t n) {
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
    m->symbols[i] = (struct symbol){(uint32_t)begin, (uint32_t)n, i - 1, -1};
    if (i)
        m->symbols[i - 1].next = i;
    return 0;
}

static bool better(const struct pair *a, const struct pair *b) {
    return a->rank < b->rank || (a->rank == b->rank && a->left < b->left);
}

static int push(struct merger *m, struct pair pair) {
    if (m->n_pairs == m->pairs_capacity) {
        const size_t more = m->pairs_capacity ? 2 * m->pairs_capacity : 64;
        struct pair *grown = realloc(m->heap, more * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        m->heap = grown;
        m->pairs_capacity = more;
    }
    size_t i = m->n_pairs++;
    while (i && better(&pair, &m->heap[(i - 1) / 2])) {
        m->heap[i] = m->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    m->heap[i] = pair;
    return 0;
}

static struct pair pop(struct merger *m) {
    const struct pair top = m->heap[0], last = m->heap[--m->n_pairs];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= m->n_pairs)
            break;
        if (child + 1 < m->n_pairs && better(&m->heap[child + 1], &m->heap[child]))
            child++;
        if (!better(&m->heap[child], &last))
            break;
        m->heap[i] = m->heap[child];
        i = child;
    }
    m->heap[i] = last;
    return top;
}

static int offer(struct merger *m, const char *text, merge_rank rank, const void *user,
                 int32_t left, int32_t right) {
    if (left < 0 || right < 0)
        return 0;
    const struct symbol *a = &m->symbols[left], *b = &m->symbols[right];
    struct pair pair = {.left = left, .n = a->n + b->n};
    return rank(user, text, a->begin, a->n, b->n, &pair.rank) ? push(m, pair) : 0;
}

int merger_run(struct merger *m, const char *text, merge_rank rank, const void *user) {
    int rc = 0;
    for (size_t i = 1; i < m->n && !rc; i++)
        rc = offer(m, text, rank, user, (int32_t)i - 1, (int32_t)i);
    while (m->n_pairs && !rc) {
        const struct pair pair = pop(m);
        struct symbol *a = &m->symbols[pair.left];
        if (a->n == 0 || a->next < 0)
            continue;
        struct symbol *b = &m->symbols[a->next];
        if (a->n + b->n != pair.n)
            continue;
        a->n += b->n;
        b->n = 0;
        a->next = b->next;
        if (b->next >= 0)
            m->symbols[b->next].previous = pair.left;
        rc = offer(m, text, rank, user, a->previous, pair.left);
        if (!rc)
            rc = offer(m, text, rank, user, pair.left, a->next);
    }
    return rc;
}
