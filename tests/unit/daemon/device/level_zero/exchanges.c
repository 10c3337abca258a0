/* SPDX-License-Identifier: Apache-2.0 */
/* The self-test's exchanges on simulated cards: right over direct links and staged ones, and a lie
 * that begins when links have been tried is found, at its link. */
#include <errno.h>
#include <sys/wait.h>

#include "daemon/engine/selftest.h"
#include "octarc/error.h"
#include "tests/on_cards.h"

#define CARDS 3
#define LINKS (CARDS * (CARDS - 1))
#define ALL   (LINKS * SELFTEST_EXCHANGES)

static struct selftest_kernel made[CARDS_MAX * CARDS_MAX * SELFTEST_EXCHANGES];
static uint32_t n_told, struck, last;
static char path[] = "/tmp/octarc-exchanges-XXXXXX";
static const char *lie; /* while the exchange `struck` runs */

static uint32_t number(uint32_t owner, uint32_t reader, uint32_t exchange) {
    return (reader * CARDS_MAX + owner) * SELFTEST_EXCHANGES + exchange;
}

static void strike(const char *words) {
    char new[PATH_MAX];
    snprintf(new, sizeof new, "%s.new", path);
    FILE *f = fopen(new, "w");
    CHECK(f && fputs(words, f) >= 0 && !fclose(f));
    CHECK_EQ(rename(new, path), 0);
}

static void begun(void *user, uint32_t i, bool built) {
    (void)user;
    last = i;
    if (i == struck && built && lie)
        strike(lie);
}

static void told(void *user, uint32_t i, const struct selftest_kernel *k) {
    (void)user;
    made[i] = *k;
    n_told++;
    if (k->verdict != SELFTEST_SAME)
        printf("# %u: verdict %u, %g\n", i, k->verdict, k->difference);
    if (i == struck && lie)
        strike("");
}

static void failed(void *user, uint32_t i, const char *why) {
    (void)user, (void)i;
    printf("# %s\n", why);
}

static bool wanted(void *user, uint32_t reader, uint32_t owner) {
    (void)user, (void)reader, (void)owner;
    return true;
}

static uint32_t count(uint32_t verdict) {
    uint32_t n = 0;
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        n += made[i].verdict == verdict;
    return n;
}

/* 0: nothing is wrong; 1: the struck one is, and nothing else; 2: anything else. */
static int tell(int rc) {
    const uint32_t wrong = count(SELFTEST_FAILED) + count(SELFTEST_DIFFERS);
    const bool is_struck = made[struck].verdict != SELFTEST_SAME;
    return wrong == 0 && rc == 0 ? 0 : wrong == 1 && is_struck ? 1 : 2;
}

static int run(const char *options) {
    static const struct selftest_exchange_ears ears = {{begun, told, NULL, NULL}, failed, wanted};
    const struct device_options o = {.n_cards = CARDS, .present = {true, true, true}};
    char words[PATH_MAX];
    struct err err = {{0}};
    const int fd = mkstemp(path);
    CHECK(fd >= 0);
    close(fd);
    snprintf(words, sizeof words, "%s faults=%s", options, path);
    begin(words);
    const int rc = selftest_run_exchanges(device_backend("level_zero"), &o, &ears, &err);
    unlink(path);
    if (rc && rc != -ENODEV)
        printf("# %s\n", err.text);
    return rc;
}

static void they_have_the_bits_of_the_cpu(void) {
    CHECK_EQ(run("cards=3 memory=64M seed=1"), 0);
    CHECK_EQ(count(SELFTEST_SAME), ALL);
}

static void so_they_have_through_host_memory(void) {
    CHECK_EQ(run("cards=3 memory=64M p2p=none seed=2"), 0);
    CHECK_EQ(count(SELFTEST_SAME), ALL);
}

/* In the exchange that is struck alone. */
static void is_found(const char *options, uint32_t owner, uint32_t reader, const char *words) {
    struck = number(owner, reader, 1);
    lie = words;
    CHECK_EQ(run(options), 0);
    CHECK_EQ(n_told, ALL);
    CHECK_EQ(count(SELFTEST_SAME), ALL - 1);
    CHECK_EQ(made[struck].verdict, SELFTEST_DIFFERS);
}

static void a_link_that_delivers_ones_is_found(void) {
    is_found("cards=3 memory=64M seed=3", 0, 1, "ones=0>1");
}

static void so_is_one_that_delivers_what_was_there(void) {
    is_found("cards=3 memory=64M seed=4", 2, 0, "stale=2>0");
}

/* What comes to card 2 by way of the host is not there: the step finds it, which loses that card.
 */
static void so_is_a_staged_one(void) {
    struck = number(1, 2, 1);
    lie = "stale=1>h";
    CHECK_EQ(run("cards=3 memory=64M p2p=none seed=5"), -ENODEV);
    CHECK_EQ(made[struck].verdict, SELFTEST_FAILED);
    CHECK_EQ(count(SELFTEST_FAILED) + count(SELFTEST_DIFFERS), 1);
    CHECK_EQ(last, struck);
}

/* A step may find it, or what it makes differs, or it ends whoever launches it: there, and nowhere
 * else. */
static void an_argument_that_is_not_taken_is_found_there(void) {
    uint32_t found = 0;
    struck = number(0, 1, 2);
    for (uint32_t call = 1; call < 16; call += 2) {
        char words[32];
        int status = 0;
        snprintf(words, sizeof words, "keep=1@%u", call);
        lie = words;
        last = UINT32_MAX;
        fflush(stdout);
        const pid_t child = fork();
        if (child == 0)
            _exit(tell(run("cards=3 memory=64M seed=6")));
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) <= 1);
        found += WIFSIGNALED(status) || WEXITSTATUS(status) == 1;
    }
    CHECK(found > 2);
}

CHECK_MAIN(T(they_have_the_bits_of_the_cpu), T(so_they_have_through_host_memory),
           T(a_link_that_delivers_ones_is_found), T(so_is_one_that_delivers_what_was_there),
           T(so_is_a_staged_one), T(an_argument_that_is_not_taken_is_found_there))
