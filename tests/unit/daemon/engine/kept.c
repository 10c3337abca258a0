/* SPDX-License-Identifier: Apache-2.0 */
/* What one engine leaves of K and V, and what the next one finds of it. */
#include "daemon/engine/kept.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/check.h"

#define PAGES 8u

/* What lies in each page, and what looking at it costs. */
static uint64_t memory[PAGES], clock_ns, digest_ns;
static uint32_t n_digests, lost_at;

static int digest(void *user, uint32_t page, uint64_t *out, uint32_t *card) {
    (void)user;
    clock_ns += digest_ns;
    *card = 1;
    if (++n_digests == lost_at)
        return -ENODEV;
    *out = memory[page] * 31 + 7;
    return 0;
}

static uint64_t now_ns(void *user) {
    (void)user;
    return clock_ns;
}

static const struct kept_memory looks = {NULL, digest, now_ns};

static struct ledger_site site_of(uint32_t n_pages) {
    struct ledger_site site = {.file = {1, 2, 3, 4}, .backend = "level_zero"};
    site.layout.n_pages = n_pages;
    site.layout.cards[0].layer_end = 2;
    site.layout.cards[0].bytes = 4096;
    return site;
}

static void begin(void) {
    for (uint32_t i = 0; i < PAGES; i++)
        memory[i] = i + 100;
    clock_ns = digest_ns = n_digests = lost_at = 0;
}

static void fill(int32_t *tokens, int32_t from) {
    for (int i = 0; i < PAGE_TOKENS; i++)
        tokens[i] = from + i;
}

/* An engine with a chain of full pages that a sequence uses, and one behind them that is open. */
struct one {
    struct kept *kept;
    struct pages *pages;
    uint32_t chain[PAGES];
};

static void chain_on(struct one *o, uint32_t n, uint32_t uid, int32_t first) {
    int32_t tokens[PAGE_TOKENS];
    for (uint32_t i = 0; i < n; i++) {
        fill(tokens, first + (int32_t)i * 1000);
        o->chain[i] = pages_take(o->pages);
        CHECK_EQ(pages_share(o->pages, o->chain[i], uid, i ? o->chain[i - 1] : NO_PAGE, tokens),
                 o->chain[i]);
    }
    o->chain[n] = pages_take(o->pages);
}

static void open_one(struct one *o, const struct ledger_site *site) {
    CHECK_EQ(kept_create(&o->kept, site, &looks), 0);
    CHECK_EQ(pages_create(&o->pages, PAGES), 0);
}

static void close_one(struct one *o) {
    kept_destroy(o->kept);
    pages_destroy(o->pages);
}

/* What it left, when it is killed: the descriptor is the front's. */
static int killed(struct one *o) {
    const int fd = dup(kept_fd(o->kept));
    close_one(o);
    return fd;
}

static void enter_all(struct one *o) {
    while (kept_waits(o->kept))
        CHECK_EQ(kept_advance(o->kept, o->pages, 0), 0);
}

/* One that has entered a chain of user 5's. */
static void begin_with(struct one *o, const struct ledger_site *site, uint32_t n) {
    begin();
    open_one(o, site);
    chain_on(o, n, 5, 0);
    enter_all(o);
}

static int next_with(struct one *o, const struct ledger_site *site, int fd) {
    open_one(o, site);
    const int rc = kept_take(o->kept, fd);
    close(fd);
    kept_seed(o->kept, o->pages);
    return rc;
}

/* How many pages of the chain are found, of that user and those tokens. */
static uint32_t found(struct one *o, uint32_t uid, int32_t first) {
    int32_t tokens[PAGE_TOKENS];
    uint32_t n = 0, parent = NO_PAGE;
    for (;; n++) {
        fill(tokens, first + (int32_t)n * 1000);
        const uint32_t page = pages_find(o->pages, uid, parent, tokens);
        if (page == NO_PAGE)
            return n;
        o->chain[n] = parent = page;
    }
}

static void full_pages_are_found_again(void) {
    struct one first, next;
    const struct ledger_site site = site_of(PAGES);
    begin_with(&first, &site, 3);
    CHECK_EQ(n_digests, 3); /* not of the open one */
    CHECK(!kept_waits(first.kept));
    CHECK_EQ(next_with(&next, &site, killed(&first)), 0);
    bool taken[PAGES];
    CHECK_EQ(kept_taken(next.kept, taken), 3);
    CHECK_EQ(n_digests, 6);
    CHECK_EQ(pages_free(next.pages), PAGES); /* found, and free */
    CHECK_EQ(found(&next, 6, 0), 0);         /* another user's */
    CHECK_EQ(found(&next, 5, 1), 0);
    CHECK_EQ(found(&next, 5, 0), 3);
    /* And so they are by the one after it, though it entered nothing. */
    CHECK_EQ(next_with(&first, &site, killed(&next)), 0);
    CHECK_EQ(kept_taken(first.kept, NULL), 3);
    CHECK_EQ(found(&first, 5, 0), 3);
    close_one(&first);
}

/* One that is written again is none, nor is any behind it. */
static void what_is_written_is_struck_out(void) {
    struct one first, next;
    const struct ledger_site site = site_of(PAGES);
    begin_with(&first, &site, 3);
    const struct step_row rows[2] = {{1, PAGE_TOKENS - 1, 0}, {1, PAGE_TOKENS, 0}};
    const uint32_t pages[2] = {first.chain[3], first.chain[1]};
    const struct step_sequence sequence = {pages, 2};
    kept_written(
        first.kept,
        &(struct step_params){.rows = rows, .n_rows = 2, .sequences = &sequence, .n_sequences = 1});
    CHECK_EQ(next_with(&next, &site, killed(&first)), 0); /* though nothing of it has changed yet */
    CHECK_EQ(found(&next, 5, 0), 1);
    CHECK_EQ(kept_taken(next.kept, NULL), 1);
    close_one(&next);
}

/* A page that was given to another content is not what its entry said. */
static void what_is_given_away_is_struck_out(void) {
    struct one first, next;
    const struct ledger_site site = site_of(PAGES);
    bool idle[PAGES] = {false};
    begin_with(&first, &site, 3);
    for (uint32_t i = 0; i < 4; i++)
        pages_put(first.pages, first.chain[3 - i]);
    while (pages_free(first.pages) > 2)
        pages_take(first.pages);
    CHECK_EQ(kept_advance(first.kept, first.pages, 1000), 0);
    CHECK_EQ(next_with(&next, &site, killed(&first)), 0);
    CHECK_EQ(found(&next, 5, 0), 2);
    idle[next.chain[1]] = true;
    kept_strike(next.kept, idle);
    CHECK_EQ(next_with(&first, &site, killed(&next)), 0);
    CHECK_EQ(found(&first, 5, 0), 1);
    close_one(&first);
}

static void what_lies_there_is_not_believed(void) {
    struct one first, next;
    const struct ledger_site site = site_of(PAGES);
    begin_with(&first, &site, 4);
    memory[first.chain[2]]++;
    CHECK_EQ(next_with(&next, &site, killed(&first)), 0);
    CHECK_EQ(found(&next, 5, 0), 2);
    bool taken[PAGES];
    CHECK_EQ(kept_taken(next.kept, taken), 2);
    close_one(&next);
}

/* An entry of which some bytes were not written yet, or of another place. */
static void an_entry_in_parts_is_none(void) {
    struct one first, next;
    const struct ledger_site site = site_of(PAGES);
    for (uint64_t at = 0; at < sizeof(struct ledger_entry); at += 8) {
        uint64_t word;
        begin();
        open_one(&first, &site);
        chain_on(&first, 2, 5, 0);
        enter_all(&first);
        const int fd = killed(&first);
        const off_t end = lseek(fd, 0, SEEK_END);
        const off_t of_page = end - (PAGES - 1) * (off_t)sizeof(struct ledger_entry);
        CHECK_EQ(pread(fd, &word, 8, of_page + (off_t)at), 8);
        word++;
        CHECK_EQ(pwrite(fd, &word, 8, of_page + (off_t)at), 8);
        CHECK_EQ(next_with(&next, &site, fd), 0);
        CHECK_EQ(found(&next, 5, 0), 1);
        close_one(&next);
    }
}

static void refused(const struct ledger_site *other, int want) {
    struct one first, next;
    const struct ledger_site site = site_of(PAGES);
    begin_with(&first, &site, 2);
    CHECK_EQ(next_with(&next, other, killed(&first)), want);
    CHECK_EQ(kept_taken(next.kept, NULL), 0);
    CHECK_EQ(found(&next, 5, 0), 0);
    close_one(&next);
}

static void pages_of_another_plan_or_file_are_not_used(void) {
    struct ledger_site other = site_of(PAGES);
    other.layout.cards[0].layer_end = 3;
    refused(&other, -ESTALE);
    other = site_of(PAGES);
    other.layout.cards[0].kv_begin = 1;
    refused(&other, -ESTALE);
    other = site_of(PAGES);
    other.layout.cards[1].bytes = 64;
    refused(&other, -ESTALE);
    other = site_of(PAGES);
    other.layout.type = 2;
    refused(&other, -ESTALE);
    other = site_of(PAGES - 1);
    refused(&other, -ESTALE);
    other = site_of(PAGES);
    other.file.mtime_ns++;
    refused(&other, -ESTALE);
    other = site_of(PAGES);
    memcpy(other.backend, "cpu\0\0\0\0\0\0\0", 10);
    refused(&other, -ESTALE);
}

static void what_is_no_ledger_is_refused(void) {
    struct one next;
    const struct ledger_site site = site_of(PAGES);
    int ends[2];
    begin();
    open_one(&next, &site);
    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(kept_take(next.kept, ends[0]), -EIO);
    close_one(&next);
    open_one(&next, &site);
    FILE *empty = tmpfile();
    CHECK_EQ(kept_take(next.kept, fileno(empty)), -EBADMSG);
    CHECK_EQ(kept_taken(next.kept, NULL), 0);
    kept_seed(next.kept, next.pages);
    close_one(&next);
    fclose(empty), close(ends[0]), close(ends[1]);
}

/* What harmed weights made is nobody's, and is entered anew only when it was made anew. */
static void nothing_is_entered_while_pages_are_not_trusted(void) {
    struct one first, next;
    const struct ledger_site site = site_of(PAGES);
    begin_with(&first, &site, 3);
    kept_distrust(first.kept);
    CHECK(!kept_waits(first.kept));
    CHECK_EQ(kept_advance(first.kept, first.pages, 1000), 0);
    CHECK_EQ(next_with(&next, &site, dup(kept_fd(first.kept))), 0);
    CHECK_EQ(found(&next, 5, 0), 0);
    close_one(&next);
    kept_trust(first.kept);
    CHECK_EQ(kept_advance(first.kept, first.pages, 1000000), 0);
    enter_all(&first);
    CHECK_EQ(next_with(&next, &site, dup(kept_fd(first.kept))), 0);
    CHECK_EQ(found(&next, 5, 0), 3);
    close_one(&next);
    kept_end(first.kept);
    kept_trust(first.kept);
    CHECK_EQ(kept_advance(first.kept, first.pages, 1000000), 0);
    CHECK_EQ(next_with(&next, &site, killed(&first)), 0);
    CHECK_EQ(found(&next, 5, 0), 0);
    close_one(&next);
}

/* Beside steps a twentieth of their time, which a page may overdraw. */
static void digests_take_a_share_of_the_steps_time(void) {
    struct one o;
    const struct ledger_site site = site_of(PAGES);
    begin();
    digest_ns = 2000000;
    open_one(&o, &site);
    chain_on(&o, 6, 5, 0);
    for (uint32_t step = 1; step <= 40; step++) {
        CHECK_EQ(kept_advance(o.kept, o.pages, 10000000), 0); /* half a millisecond of it */
        CHECK(n_digests <= step / 4 + 1);
    }
    CHECK_EQ(n_digests, 6);
    /* While nothing runs in slices, between which messages are heard. */
    close_one(&o);
    begin();
    digest_ns = 2000000;
    open_one(&o, &site);
    chain_on(&o, 6, 5, 0);
    CHECK_EQ(kept_advance(o.kept, o.pages, 0), 0);
    CHECK_EQ(n_digests, 3);
    CHECK(kept_waits(o.kept));
    enter_all(&o);
    CHECK_EQ(n_digests, 6);
    close_one(&o);
}

static void a_card_that_is_lost_is_named(void) {
    struct one first, next;
    const struct ledger_site site = site_of(PAGES);
    uint32_t card = 0;
    begin();
    open_one(&first, &site);
    chain_on(&first, 3, 5, 0);
    lost_at = 2;
    CHECK_EQ(kept_advance(first.kept, first.pages, 0), -ENODEV);
    CHECK(kept_lost_card(first.kept, &card));
    CHECK_EQ(card, 1);
    enter_all(&first);
    n_digests = 0;
    CHECK_EQ(next_with(&next, &site, killed(&first)), -ENODEV);
    CHECK(kept_lost_card(next.kept, &card));
    close_one(&next);
}

/* Where nothing is kept there is nothing to ask for. */
static void without_any_nothing_happens(void) {
    uint32_t card;
    kept_seed(NULL, NULL);
    kept_written(NULL, NULL);
    kept_distrust(NULL);
    kept_trust(NULL);
    kept_end(NULL);
    kept_strike(NULL, NULL);
    CHECK_EQ(kept_advance(NULL, NULL, 1), 0);
    CHECK(!kept_waits(NULL));
    CHECK(!kept_lost_card(NULL, &card));
    kept_destroy(NULL);
}

CHECK_MAIN(T(full_pages_are_found_again), T(what_is_written_is_struck_out),
           T(what_is_given_away_is_struck_out), T(what_lies_there_is_not_believed),
           T(an_entry_in_parts_is_none), T(pages_of_another_plan_or_file_are_not_used),
           T(what_is_no_ledger_is_refused), T(nothing_is_entered_while_pages_are_not_trusted),
           T(digests_take_a_share_of_the_steps_time), T(a_card_that_is_lost_is_named),
           T(without_any_nothing_happens))
