/* SPDX-License-Identifier: Apache-2.0 */
/* Random rules over long words: joined as by looking at all pairs each time. */
#include "models/tokenizer/merge.h"

#include "tests/check.h"

#define KINDS    6u /* of symbols: the number is the id */
#define WORD_MAX 1400u

struct rules {
    int32_t id[KINDS][KINDS]; /* of two together; -1: they are not joined */
    uint32_t order[KINDS][KINDS];
};

static uint32_t random_state;

static uint32_t random_below(uint32_t below) {
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)random_state * below >> 32);
}

/* Some orders are those of several pairs, as scores may be. */
static void random_rules(struct rules *r) {
    const uint32_t orders = 1 + random_below(40);
    for (uint32_t a = 0; a < KINDS; a++)
        for (uint32_t c = 0; c < KINDS; c++) {
            r->id[a][c] = random_below(3) ? (int32_t)random_below(KINDS) : -1;
            r->order[a][c] = random_below(orders);
        }
}

static bool rule(const void *user, const char *text, const struct symbol *left,
                 const struct symbol *right, struct joined *joined) {
    const struct rules *r = user;
    (void)text;
    *joined = (struct joined){r->order[left->id][right->id], r->id[left->id][right->id]};
    return joined->id >= 0;
}

static uint32_t join(const struct rules *r, int32_t *ids, uint32_t n) {
    for (;;) {
        uint32_t best = n;
        for (uint32_t i = 0; i + 1 < n; i++)
            if (r->id[ids[i]][ids[i + 1]] >= 0 &&
                (best == n || r->order[ids[i]][ids[i + 1]] < r->order[ids[best]][ids[best + 1]]))
                best = i;
        if (best == n)
            return n;
        ids[best] = r->id[ids[best]][ids[best + 1]];
        memmove(&ids[best + 1], &ids[best + 2], (n - best - 2) * sizeof *ids);
        n--;
    }
}

/* Runs of one kind, runs of a few, or anything. */
static void random_word(int32_t *ids, uint32_t n) {
    const uint32_t kinds = 1 + random_below(KINDS), length = 1 + random_below(300);
    for (uint32_t i = 0; i < n; i++)
        ids[i] = i % length ? ids[i - 1] : (int32_t)random_below(kinds);
}

static void long_words_are_joined_as_short_ones(void) {
    static int32_t ids[WORD_MAX];
    struct merger m = {0};
    struct rules rules;
    for (uint32_t seed = 1; seed <= 300; seed++) {
        random_state = seed;
        const uint32_t n = random_below(4) ? 1 + random_below(WORD_MAX) : 1 + random_below(20);
        random_rules(&rules);
        random_word(ids, n);
        merger_clear(&m);
        for (uint32_t i = 0; i < n; i++)
            CHECK_EQ(merger_add(&m, i, 1, ids[i]), 0);
        CHECK_EQ(merger_run(&m, "", rule, &rules), 0);
        const uint32_t want = join(&rules, ids, n);
        uint32_t seen = 0;
        for (int32_t i = 0; i >= 0; i = m.symbols[i].next, seen++)
            if (seen >= want || m.symbols[i].id != ids[seen]) {
                printf("# seed %u: symbol %u of %u\n", seed, seen, want);
                CHECK(false);
            }
        CHECK_EQ(seen, want);
    }
    merger_finish(&m);
}

CHECK_MAIN(T(long_words_are_joined_as_short_ones))
