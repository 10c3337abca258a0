/* SPDX-License-Identifier: Apache-2.0 */
/* A driver that reports an argument as set and leaves the one before: no step that it was in gives
 * logits. */
#include <sys/wait.h>

#include "tests/on_cards.h"

#define MODEL "tiny-f32.gguf"

enum outcome { SAME_BITS, NAMED, UNOPENED, WRONG };

static uint64_t want;

/* Prompts in steps of several shapes, then token by token: what was recorded with the lie is used
 * again.  The first failure ends it. */
static int run_some(struct loaded *l, uint64_t *digest, uint32_t *card) {
    struct step_row rows[MAX_ROWS];
    uint32_t pages[4] = {3, 1, 2, 0}, outputs[MAX_ROWS];
    const struct step_sequence sequence = {pages, 4};
    const uint32_t n_vocab = l->model.params.n_vocab;
    *digest = 0;
    for (uint32_t at = 0, n; at < 44; at += n) {
        n = at < 8 ? 7 : at < 40 ? (40 - at < 11 ? 40 - at : 11) : 1;
        for (uint32_t i = 0; i < n; i++) {
            rows[i] = (struct step_row){(int32_t)((at + i) * 37 % n_vocab), at + i, 0};
            outputs[i] = i;
        }
        struct step_params p = {.rows = rows,
                                .n_rows = n,
                                .sequences = &sequence,
                                .n_sequences = 1,
                                .outputs = outputs,
                                .n_outputs = n,
                                .logits = logits};
        const int rc = runner_step(l->runner, &p, card);
        if (rc)
            return rc;
        for (uint32_t i = 0; i < n; i++)
            *digest = *digest * 31 + device_digest(logits + (size_t)i * n_vocab, n_vocab * 4);
    }
    return 0;
}

/* In a process of its own, for a driver is initialised once in one. */
static enum outcome outcome_of(const char *options, uint32_t n_cards, enum split split) {
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        struct loaded l;
        struct err err = {{0}};
        uint32_t card = 9, lost = 0;
        uint64_t digest = 0;
        begin(options);
        const struct setup s = {.n_cards = n_cards,
                                .split = split,
                                .backend = device_backend("level_zero"),
                                .lost = &lost};
        CHECK_EQ(plan_model(&l, MODEL, &s), 0);
        if (try_runner(&l, &s, &err))
            _exit(UNOPENED);
        const int rc = run_some(&l, &digest, &card);
        _exit(rc == 0 && digest == want ? SAME_BITS : rc == -ENODEV && card == 1 ? NAMED : WRONG);
    }
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    return (enum outcome)WEXITSTATUS(status);
}

static void find_want(void) {
    struct loaded l;
    uint32_t card = 0;
    begin("cards=1");
    load(&l, MODEL, &(struct setup){.n_cards = 1});
    CHECK_EQ(run_some(&l, &want, &card), 0);
    unload(&l);
}

/* Whichever argument it is. */
static void is_found(const char *options, uint32_t n_cards, enum split split) {
    uint32_t n[WRONG + 1] = {0};
    find_want();
    for (uint32_t call = 1; call < 150; call += 1 + call / 10) {
        char words[96];
        snprintf(words, sizeof words, "%s keep=1@%u", options, call);
        const enum outcome one = outcome_of(words, n_cards, split);
        n[one]++;
        if (one == WRONG)
            printf("# %s\n", words);
    }
    printf("# %u had the same bits, %u were named, %u not opened\n", n[SAME_BITS], n[NAMED],
           n[UNOPENED]);
    CHECK_EQ(n[WRONG], 0);
    CHECK(n[NAMED] > 8);
}

static void an_argument_that_is_not_taken_is_found(void) {
    is_found("cards=2 memory=64M", 2, SPLIT_TENSOR);
}

static void so_it_is_where_links_are_staged(void) {
    is_found("cards=2 memory=64M p2p=none", 2, SPLIT_TENSOR);
}

static void and_in_a_pipeline(void) {
    is_found("cards=2 memory=64M", 2, SPLIT_LAYER);
}

static void write_faults(const char *path, const char *words) {
    char made[PATH_MAX];
    snprintf(made, sizeof made, "%s.new", path);
    FILE *f = fopen(made, "w");
    CHECK(f && fputs(words, f) >= 0 && fclose(f) == 0);
    CHECK_EQ(rename(made, path), 0);
}

/* From the middle of a run on a step's description does not come to the card, or what its launches
 * say of it does not come back. */
static void so_is_a_way_to_the_host_that_delivers_nothing(void) {
    static const char *const lies[] = {"stale=h>1", "stale=1>h"};
    char path[] = "/tmp/octarc-lies-XXXXXX", options[PATH_MAX];
    const int fd = mkstemp(path);
    CHECK(fd >= 0);
    close(fd);
    snprintf(options, sizeof options, "cards=2 memory=64M faults=%s", path);
    begin(options);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct loaded l;
        uint64_t digest;
        uint32_t card = 9;
        const struct setup s = {
            .n_cards = 2, .split = SPLIT_TENSOR, .backend = device_backend("level_zero")};
        write_faults(path, "");
        load(&l, MODEL, &s);
        CHECK_EQ(run_some(&l, &digest, &card), 0);
        write_faults(path, lies[i]);
        CHECK_EQ(run_some(&l, &digest, &card), -ENODEV);
        CHECK_EQ(card, 1);
        write_faults(path, "");
        unload(&l);
    }
    unlink(path);
}

CHECK_MAIN(T(an_argument_that_is_not_taken_is_found), T(so_it_is_where_links_are_staged),
           T(and_in_a_pipeline), T(so_is_a_way_to_the_host_that_delivers_nothing))
