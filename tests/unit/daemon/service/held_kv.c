/* SPDX-License-Identifier: Apache-2.0 */
/* K and V of cards, which the front holds over engines: what the next one is given, and when it is
 * given none. */
#include <sys/mman.h>

#include "tests/unit/daemon/service/played_engine.h"

static ino_t made[CARDS_MAX + 1]; /* by the engine that said so last */

/* The engine is ready, and has K and V on all cards of its plan. */
static void is_ready_with_kv(void) {
    struct message msg = {.ready = {.generation = w.engines.number, .n_cards = CARDS}};
    memset(made, 0, sizeof made);
    for (uint32_t i = 0; i < CARDS; i++) {
        msg.ready.cards[i].held_kv_bytes = w.engines.plan.cards[i].kv_bytes;
        if (!w.engines.plan.cards[i].kv_bytes)
            continue;
        played.fds[played.n_fds] = memfd_create("kv", 0);
        made[i] = inode_of(played.fds[played.n_fds++]);
    }
    played.fds[played.n_fds] = memfd_create("ledger", 0);
    made[CARDS_MAX] = inode_of(played.fds[played.n_fds++]);
    hear(MSG_READY, &msg);
    CHECK_EQ(w.engines.state, ENGINES_SERVING);
}

static void open_world(void) {
    struct err err;
    prepare_world("tiny-f32.gguf", CARDS, 64u << 20);
    w.config.weights = WEIGHTS_HELD;
    w.config.rebalance = REBALANCE_RESTART;
    CHECK_EQ(engines_load(&w.engines, w.loaded, &err), 0);
    CHECK_EQ(played.kv[CARDS_MAX], 0); /* there is nothing yet */
    is_ready_with_kv();
}

static bool is_given_all(void) {
    return !memcmp(played.kv, made, sizeof made);
}

static bool is_given_none(void) {
    static const ino_t none[CARDS_MAX + 1];
    return !memcmp(played.kv, none, sizeof none);
}

static void what_an_engine_leaves_the_next_is_given(void) {
    open_world();
    ends();
    CHECK(made[0] && is_given_all());
    is_ready_with_kv(); /* with other descriptors, which are held from now on */
    ends();
    CHECK(is_given_all());
    is_ready_with_kv();
    close_world();
}

/* Where engines that are given it come to nothing it may be the reason. */
static void not_for_ever(void) {
    open_world();
    ends();
    CHECK(is_given_all());
    ends();
    CHECK(is_given_all());
    ends();
    CHECK(is_given_none());
    is_ready_with_kv();
    ends();
    CHECK(is_given_all());
    close_world();
}

/* Even where it is there again before the next one is planned, which has the very same plan. */
static void nothing_of_it_once_a_card_was_lost(void) {
    struct err err;
    open_world();
    const struct kv_layout layout = w.engines.kv.layout;
    CHECK_EQ(engines_lose(&w.engines, 1, &err), 0);
    CHECK(!w.engines.kv.held);
    CHECK_EQ(engines_return(&w.engines, 1, &err), 0);
    want(1);
    ends();
    struct kv_layout next;
    layout_kv(&w.engines.plan, &next);
    CHECK(layout_same_kv(&layout, &next));
    CHECK(is_given_none());
    is_ready_with_kv();
    close_world();
}

static void nothing_for_a_plan_with_other_places(void) {
    open_world();
    drain(2); /* which ends the engine */
    ends();
    CHECK(!w.engines.plan.cards[2].online);
    CHECK(is_given_none());
    is_ready_with_kv();
    CHECK(!made[2]);
    ends();
    CHECK(is_given_all());
    close_world();
}

static void nothing_where_a_card_refuses_its_memory(void) {
    open_world();
    ends();
    CHECK(is_given_all());
    hear(MSG_TRIED, &(struct message){.tried = {.generation = w.engines.number, .memory = 2}});
    ends();
    CHECK(is_given_none());
    is_ready_with_kv();
    close_world();
}

/* An engine of real cards that cannot have its memory held brings none. */
static void nothing_where_the_engine_brings_none(void) {
    open_world();
    ends();
    says_ready();
    ends();
    CHECK(is_given_none());
    says_ready();
    close_world();
}

CHECK_MAIN(T(what_an_engine_leaves_the_next_is_given), T(not_for_ever),
           T(nothing_of_it_once_a_card_was_lost), T(nothing_for_a_plan_with_other_places),
           T(nothing_where_a_card_refuses_its_memory), T(nothing_where_the_engine_brings_none))
