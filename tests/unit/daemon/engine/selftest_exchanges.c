/* SPDX-License-Identifier: Apache-2.0 */
/* What goes from card to card is compared: on the cpu backend, as it is and bent. */
#include <errno.h>
#include <string.h>

#include "daemon/engine/selftest_side.h"
#include "octarc/error.h"
#include "tests/check.h"

#define CARDS 3
#define ALL   (CARDS * (CARDS - 1) * SELFTEST_EXCHANGES)

static struct device_ops bent;
static struct selftest_kernel made[CARDS_MAX * CARDS_MAX * SELFTEST_EXCHANGES];
static uint32_t n_told, now, dropped = UINT32_MAX, wrong = UINT32_MAX, unwanted = UINT32_MAX;
static int step_rc;
static char said[SELFTEST_WHY_MAX];

static void begun(void *user, uint32_t i, bool built) {
    (void)user, (void)built;
    now = i;
}

static void told(void *user, uint32_t i, const struct selftest_kernel *k) {
    (void)user;
    CHECK_EQ(i, now);
    made[i] = *k;
    n_told++;
}

static void failed(void *user, uint32_t i, const char *why) {
    (void)user, (void)i;
    snprintf(said, sizeof said, "%s", why);
}

static bool wanted(void *user, uint32_t reader, uint32_t owner) {
    (void)user;
    return reader * CARDS_MAX + owner != unwanted;
}

static uint32_t number(uint32_t owner, uint32_t reader, uint32_t exchange) {
    return (reader * CARDS_MAX + owner) * SELFTEST_EXCHANGES + exchange;
}

/* In the place of an exchange what was before it is done once more, which changes nothing. */
static int load_without(struct device *d, const struct program *programs, struct err *err) {
    for (uint32_t card = 0, n = 0; card < CARDS_MAX; card++) {
        const struct op *before = programs[card].ops;
        for (size_t i = 0; i < programs[card].n_ops; i++) {
            struct op *op = (struct op *)&programs[card].ops[i];
            const uint32_t phase = op->phase;
            if (op->kind != OP_EXCHANGE || op->exchange.kind == EXCHANGE_LOGITS)
                continue;
            if (n++ == dropped)
                *op = *before;
            op->phase = phase;
            before = op;
        }
    }
    return device_backend("cpu")->load(d, programs, err);
}

static int bent_step(struct device *d, const struct step_params *p, uint32_t *card) {
    const int rc = device_backend("cpu")->step(d, p, card);
    if (now != wrong)
        return rc;
    p->logits[0] += 1e-4f;
    return step_rc ? step_rc : rc;
}

static int run(void) {
    const struct device_options o = {
        .n_cards = CARDS, .present = {true, true, true}, .n_threads = 1};
    const struct selftest_exchange_ears ears = {{begun, told, NULL, NULL}, failed, wanted};
    struct err err = {{0}};
    n_told = 0;
    memset(made, 0, sizeof made);
    bent = *device_backend("cpu");
    bent.load = load_without;
    bent.step = bent_step;
    const int rc = selftest_run_exchanges(&bent, &o, &ears, &err);
    if (rc && rc != -ENODEV)
        printf("# %s\n", err.text);
    return rc;
}

static uint32_t count(uint32_t verdict) {
    uint32_t n = 0;
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        n += made[i].verdict == verdict;
    return n;
}

static void each_ordered_pair_of_cards_has_the_bits_of_two(void) {
    CHECK_EQ(run(), 0);
    CHECK_EQ(n_told, ALL);
    CHECK_EQ(count(SELFTEST_SAME), ALL);
}

/* As many as there are kinds, and K and V of two heads: none is there for nothing. */
static void what_comes_by_each_exchange_counts(void) {
    struct trial_program pair[2];
    const struct trial_layer layer = {.type = TENSOR_Q8_0};
    uint32_t kinds = 0, n = 0;
    trial_pair_make(pair, device_backend("cpu"), &layer, 0, 1);
    for (uint32_t i = 0; i < pair[1].n_ops; i++)
        if (pair[1].ops[i].kind == OP_EXCHANGE) {
            kinds |= 1u << pair[1].ops[i].exchange.kind;
            n++;
        }
    CHECK_EQ(kinds, (1u << (EXCHANGE_LOGITS + 1)) - 1);
    for (dropped = 0; dropped < n - 1; dropped++) {
        CHECK_EQ(run(), 0);
        printf("# without exchange %u\n", dropped);
        CHECK_EQ(count(SELFTEST_SAME), 0);
    }
}

static void the_link_that_is_wrong_is_named(void) {
    wrong = number(2, 1, 1);
    CHECK_EQ(run(), 0);
    CHECK_EQ(count(SELFTEST_SAME), ALL - 1);
    CHECK_EQ(made[wrong].verdict, SELFTEST_DIFFERS);
}

static void a_lost_card_ends_it_at_its_link(void) {
    wrong = number(0, 1, 0);
    step_rc = -ENODEV;
    CHECK_EQ(run(), -ENODEV);
    CHECK_EQ(now, wrong);
    CHECK_EQ(made[wrong].verdict, SELFTEST_FAILED);
    CHECK(strstr(said, "exchange of f32, KV f16: a step failed: "));
    /* Whoever goes on leaves that one out. */
    unwanted = 1 * CARDS_MAX + 0;
    CHECK_EQ(run(), 0);
    CHECK_EQ(n_told, ALL - SELFTEST_EXCHANGES);
}

static void each_has_a_name_of_its_own(void) {
    char a[32], b[32];
    for (uint32_t i = 0; i < SELFTEST_EXCHANGES; i++)
        for (uint32_t k = 0; k < i; k++) {
            selftest_exchange_name(i, a);
            selftest_exchange_name(k, b);
            CHECK(strcmp(a, b) != 0 && !strchr(a, '?'));
        }
}

CHECK_MAIN(T(each_ordered_pair_of_cards_has_the_bits_of_two), T(what_comes_by_each_exchange_counts),
           T(the_link_that_is_wrong_is_named), T(a_lost_card_ends_it_at_its_link),
           T(each_has_a_name_of_its_own))
