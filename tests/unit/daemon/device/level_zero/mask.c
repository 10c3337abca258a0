/* SPDX-License-Identifier: Apache-2.0 */
/* Cards that are not used are not shown to the driver, by numbers that were tried; each test is a
 * process of its own, for a driver is initialised once in one. */
#include "daemon/device/level_zero/mask.h"

#include "tests/sim_level_zero/box.h"

/* Card i lies in the i-th slot, whether the box has it or not. */
static struct device_options options_of(uint32_t n, const char *present) {
    struct device_options o = {.n_cards = n};
    for (uint32_t i = 0; i < n; i++) {
        o.present[i] = present[i] == '1';
        snprintf(o.slots[i], sizeof o.slots[i], "0000:%02x:00.0", 3 + i);
    }
    return o;
}

static void hide(const char *box, const struct device_options *o) {
    box_environment(box);
    if (!device_backend("level_zero"))
        SKIP("the level_zero backend is not built in");
    unsetenv("ZE_AFFINITY_MASK");
    device_backend("level_zero")->hide(o);
}

static void expect(const char *box, uint32_t n, const char *present, const char *mask) {
    const struct device_options o = options_of(n, present);
    hide(box, &o);
    const char *is = getenv("ZE_AFFINITY_MASK");
    printf("# %s\n", is ? is : "no mask");
    CHECK(mask ? is && !strcmp(is, mask) : !is);
    CHECK_EQ(getenv("ZE_ENABLE_PCI_ID_DEVICE_ORDER") != NULL, mask != NULL);
    CHECK_EQ(level_zero_shows(&o), mask || !strchr(present, '0'));
}

static void where_all_are_used_there_is_no_mask(void) {
    expect("cards=3", 3, "111", NULL);
}

static void those_that_are_not_are_left_out(void) {
    expect("cards=4", 4, "1011", "0,2,3");
}

static void numbers_go_by_addresses_not_by_cards(void) {
    struct device_options o = options_of(3, "110");
    strcpy(o.slots[0], "0000:05:00.0"), strcpy(o.slots[2], "0000:03:00.0");
    hide("cards=3", &o);
    CHECK(!strcmp(getenv("ZE_AFFINITY_MASK"), "2,1"));
    CHECK(level_zero_shows(&o));
}

static void a_device_before_them_moves_the_numbers(void) {
    expect("cards=3 ordinal=1", 3, "101", "1,3");
}

/* The box has cards 0 and 1 of three; the third one is gone. */
static void so_does_one_that_is_gone(void) {
    struct device_options o = options_of(3, "011");
    strcpy(o.slots[0], "0000:01:00.0");
    strcpy(o.slots[1], "0000:03:00.0");
    strcpy(o.slots[2], "0000:04:00.0");
    hide("cards=2", &o);
    CHECK(!strcmp(getenv("ZE_AFFINITY_MASK"), "0,1"));
    CHECK(level_zero_shows(&o));
}

/* Of two that are left out the first is gone, and the other there. */
static void and_some_that_are(void) {
    struct device_options o = options_of(4, "0110");
    strcpy(o.slots[0], "0000:01:00.0");
    strcpy(o.slots[1], "0000:03:00.0");
    strcpy(o.slots[2], "0000:04:00.0");
    strcpy(o.slots[3], "0000:05:00.0");
    hide("cards=3", &o);
    CHECK(!strcmp(getenv("ZE_AFFINITY_MASK"), "0,1"));
    CHECK(level_zero_shows(&o));
}

/* A card too many is better than one too few. */
static void numbers_that_nobody_guesses_leave_all_of_them(void) {
    const struct device_options o = options_of(3, "101");
    hide("cards=3 ordinal=5", &o);
    CHECK(!getenv("ZE_AFFINITY_MASK"));
    const struct device_options all = options_of(3, "111");
    CHECK(level_zero_shows(&all));
}

static void what_an_operator_says_stays(void) {
    const struct device_options o = options_of(3, "110");
    box_environment("cards=3");
    setenv("ZE_AFFINITY_MASK", "1", 1);
    device_backend("level_zero")->hide(&o);
    CHECK(!strcmp(getenv("ZE_AFFINITY_MASK"), "1"));
}

/* Whoever opens card 1 is ended by it: what tried the numbers was, or saw the others only. */
static void a_card_that_ends_who_opens_it_is_not_opened(void) {
    expect("cards=3 touchy=1", 3, "101", "0,2");
}

static void not_even_where_the_first_guess_shows_it(void) {
    expect("cards=3 touchy=1 ordinal=1", 3, "101", "1,3");
}

CHECK_MAIN(T(where_all_are_used_there_is_no_mask), T(those_that_are_not_are_left_out),
           T(numbers_go_by_addresses_not_by_cards), T(a_device_before_them_moves_the_numbers),
           T(so_does_one_that_is_gone), T(and_some_that_are),
           T(numbers_that_nobody_guesses_leave_all_of_them), T(what_an_operator_says_stays),
           T(a_card_that_ends_who_opens_it_is_not_opened),
           T(not_even_where_the_first_guess_shows_it))
