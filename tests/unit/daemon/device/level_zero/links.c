/* SPDX-License-Identifier: Apache-2.0 */
/* Peer links are measured, in the mode in which they are used: over the simulated driver, which is
 * slow where it is told to be. */
#include "daemon/device/device.h"
#include "octarc/error.h"
#include "tests/sim_level_zero/box.h"

#define SLOW_LATENCY_NS 20000000u
#define SLOW_BYTES_S    20000000u /* at most: 400 ns for each four bytes */

static struct device_properties cards[CARDS_MAX];

/* What each of so many cards says. */
static void open_box(const char *options, uint32_t n, bool measure) {
    const struct device_ops *ops = device_backend("level_zero");
    struct device_options o = {.n_cards = n, .max_rows = 1, .measure_links = measure};
    struct device *d = NULL;
    struct err err = {{0}};
    box_environment(options);
    box_needs_kernels();
    for (uint32_t i = 0; i < n; i++)
        o.present[i] = true;
    if (ops->open(&d, &o, &err))
        printf("# %s\n", err.text);
    CHECK(d);
    for (uint32_t i = 0; i < n; i++)
        CHECK_EQ(ops->properties(d, i, &cards[i]), 0);
    ops->close(d);
}

static void each_pair_has_figures(uint32_t n) {
    for (uint32_t a = 0; a < n; a++)
        for (uint32_t b = 0; b < n; b++) {
            const struct device_link *l = &cards[a].links[b];
            CHECK_EQ(l->latency_ns > 0 && l->bytes_per_s > 0, a != b);
        }
}

static void each_ordered_pair_is_measured(void) {
    open_box("cards=3 memory=64M", 3, true);
    each_pair_has_figures(3);
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQ(cards[i].direct, 7 ^ 1u << i);
}

static void so_are_those_that_go_through_the_host(void) {
    open_box("cards=2 memory=64M p2p=0>1", 2, true);
    each_pair_has_figures(2);
    CHECK_EQ(cards[0].direct, 2);
    CHECK_EQ(cards[1].direct, 0);
}

static void nothing_is_measured_unasked(void) {
    open_box("cards=2 memory=64M", 2, false);
    CHECK_EQ(cards[0].links[1].latency_ns, 0);
    CHECK_EQ(cards[0].links[1].bytes_per_s, 0);
    CHECK_EQ(cards[0].direct, 2);
}

/* Only who reads over the slow path is slow, and by as much as the path is. */
static void a_slow_link_is_found_slow(void) {
    open_box("cards=2 memory=64M slow=0>1", 2, true);
    each_pair_has_figures(2);
    CHECK(cards[1].links[0].latency_ns >= SLOW_LATENCY_NS);
    CHECK(cards[1].links[0].bytes_per_s <= SLOW_BYTES_S);
    CHECK(cards[0].links[1].latency_ns < cards[1].links[0].latency_ns);
    CHECK(cards[0].links[1].bytes_per_s > cards[1].links[0].bytes_per_s);
}

/* What delivers something else is no link to be measured: its figures are those of the other way.
 */
static void a_link_that_lies_is_measured_through_the_host(void) {
    open_box("cards=2 memory=64M ones=0>1 slow=0>1", 2, true);
    each_pair_has_figures(2);
    CHECK_EQ(cards[1].misread, 1);
    CHECK_EQ(cards[1].direct, 0);
    CHECK(cards[1].links[0].bytes_per_s > SLOW_BYTES_S);
}

CHECK_MAIN(T(each_ordered_pair_is_measured), T(so_are_those_that_go_through_the_host),
           T(nothing_is_measured_unasked), T(a_slow_link_is_found_slow),
           T(a_link_that_lies_is_measured_through_the_host))
