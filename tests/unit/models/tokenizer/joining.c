/* SPDX-License-Identifier: Apache-2.0 */
/* Random vocabularies and words: joined as the definition says, by looking at all pairs each time.
 */
#include "models/gguf.h"
#include "models/tokenizer/tokenizer.h"
#include "octarc/error.h"
#include "tests/check.h"
#include "tests/vocabulary.h"

#define LETTERS   5
#define WORD_MAX  60
#define PIECE_MAX 24 /* bytes of a token */

struct part {
    char text[PIECE_MAX];
};

static uint32_t random_state;

static uint32_t random_below(uint32_t below) {
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)random_state * below >> 32);
}

static struct gguf_bytes b;
static struct vocabulary v;
static char merges[32][2 * PIECE_MAX + 2];

static struct tokenizer *made(void) {
    struct gguf *gguf;
    struct tokenizer *t;
    put_vocabulary(&b, &v);
    const int fd = bytes_file(b.data, b.n);
    CHECK_EQ(gguf_open(&gguf, fd, "test.gguf", NULL), 0);
    CHECK_EQ(tokenizer_create(&t, gguf, NULL), 0);
    gguf_close(gguf);
    close(fd);
    return t;
}

static int32_t id_of(const char *text) {
    for (uint32_t i = 0; i < v.n; i++)
        if (v.tokens[i].type == NORMAL && !strcmp(v.tokens[i].text, text))
            return (int32_t)i;
    return -1;
}

static void random_word(char *word) {
    const uint32_t n = 1 + random_below(WORD_MAX);
    for (uint32_t i = 0; i < n; i++)
        word[i] = (char)('a' + random_below(LETTERS));
    word[n] = 0;
}

/* Less is better; -1: the two are not to be joined. */
static double bpe_rank(const char *left, const char *right) {
    char merge[2 * PIECE_MAX + 2];
    snprintf(merge, sizeof merge, "%s %s", left, right);
    for (uint32_t i = 0; i < v.n_merges; i++)
        if (!strcmp(v.merges[i], merge))
            return i;
    return -1;
}

static double spm_rank(const char *left, const char *right) {
    char both[2 * PIECE_MAX + 2];
    snprintf(both, sizeof both, "%s%s", left, right);
    const int32_t id = id_of(both);
    return id < 0 ? -1 : -(double)v.tokens[id].score;
}

static size_t join(const char *word, double (*rank)(const char *, const char *),
                   struct part *parts) {
    size_t n = 0;
    for (; word[n]; n++)
        snprintf(parts[n].text, sizeof parts[n].text, "%c", word[n]);
    for (;;) {
        double best = -1;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            const double r = rank(parts[i].text, parts[i + 1].text);
            if (r >= 0 && (best < 0 || r < best)) {
                best = r;
                at = i;
            }
        }
        if (best < 0)
            return n;
        const size_t left = strlen(parts[at].text), right = strlen(parts[at + 1].text);
        CHECK(left + right < PIECE_MAX);
        memcpy(parts[at].text + left, parts[at + 1].text, right + 1);
        memmove(&parts[at + 1], &parts[at + 2], (n - at - 2) * sizeof *parts);
        n--;
    }
}

static void compare(const struct tokenizer *t, double (*rank)(const char *, const char *),
                    uint32_t seed) {
    char word[WORD_MAX + 1];
    struct part parts[WORD_MAX];
    int32_t *ids;
    size_t n;
    random_word(word);
    const size_t want = join(word, rank, parts);
    CHECK_EQ(tokenizer_encode(t, word, strlen(word), 0, &ids, &n, NULL), 0);
    bool same = n == want;
    for (size_t i = 0; i < n && same; i++)
        same = ids[i] == id_of(parts[i].text);
    if (!same) {
        printf("# seed %u: '%s' is to be", seed, word);
        for (size_t i = 0; i < want; i++)
            printf(" %s", parts[i].text);
        printf("\n");
        CHECK(false);
    }
    free(ids);
}

/* A token of the vocabulary made of letters. */
static const char *random_token(uint32_t first) {
    const uint32_t of = LETTERS + v.n - first, i = random_below(of);
    return i < LETTERS ? v.tokens[id_of((char[]){(char)('a' + (char)i), 0})].text
                       : v.tokens[first + i - LETTERS].text;
}

static void random_merges(uint32_t n) {
    const uint32_t first = v.n;
    while (v.n_merges < n) {
        char *merge = merges[v.n_merges], both[PIECE_MAX];
        const char *left = random_token(first), *right = random_token(first);
        if (snprintf(both, sizeof both, "%s%s", left, right) >= PIECE_MAX ||
            bpe_rank(left, right) >= 0)
            continue;
        snprintf(merge, sizeof merges[0], "%s %s", left, right);
        v.merges[v.n_merges++] = merge;
        if (id_of(both) < 0)
            add_token(&v, both, NORMAL, 0);
    }
}

static void merges_are_applied_in_their_order(void) {
    for (uint32_t seed = 1; seed <= 400; seed++) {
        random_state = seed;
        start_bpe(&v, "gpt-2");
        random_merges(1 + random_below(24));
        struct tokenizer *t = made();
        for (int i = 0; i < 10; i++)
            compare(t, bpe_rank, seed);
        tokenizer_destroy(t);
    }
}

/* Scores repeat, so that equal ones meet. */
static void tokens_of_a_higher_score_are_made_first(void) {
    for (uint32_t seed = 1; seed <= 400; seed++) {
        random_state = seed;
        start_spm(&v);
        v.flags[0].key = "tokenizer.ggml.add_space_prefix";
        for (char c = 'a'; c < 'a' + LETTERS; c++)
            add_token(&v, (char[]){c, 0}, NORMAL, -50);
        for (uint32_t n = random_below(40); n > 0; n--) {
            char text[8] = {0};
            for (uint32_t i = 0, length = 2 + random_below(4); i < length; i++)
                text[i] = (char)('a' + random_below(LETTERS));
            if (id_of(text) < 0)
                add_token(&v, text, NORMAL, -(float)random_below(12));
        }
        struct tokenizer *t = made();
        for (int i = 0; i < 10; i++)
            compare(t, spm_rank, seed);
        tokenizer_destroy(t);
    }
}

CHECK_MAIN(T(merges_are_applied_in_their_order), T(tokens_of_a_higher_score_are_made_first))
