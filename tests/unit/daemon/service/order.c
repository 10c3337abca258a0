/* SPDX-License-Identifier: Apache-2.0 */
/* Orders to an engine that runs, and answers that cross them in the channel. */
#include "daemon/placement/layout.h"
#include "daemon/service/box.h"
#include "daemon/service/events.h"
#include "tests/unit/daemon/service/played_engine.h"

static void open_world(void) {
    prepare_world("tiny-f32.gguf", CARDS, 64u << 20);
    start_world();
}

/* The front has the memory that the engine uses, of all cards and of no other. */
static void front_holds(const struct told *used) {
    for (uint32_t i = 0; i < CARDS; i++) {
        const int fd = w.engines.cards[i].memory.fd;
        CHECK_EQ(w.engines.plan.cards[i].weights_bytes > 0, used->uses[i]);
        if (!used->uses[i])
            continue;
        CHECK(fd >= 0);
        CHECK_EQ(inode_of(fd), used->memory[i]);
    }
}

static void an_answered_order_leaves_its_memory_in_use(void) {
    open_world();
    front_holds(&played.start);
    drain(2);
    CHECK_EQ(played.n_orders, 1);
    front_holds(&played.start);
    answers(1, 0);
    front_holds(&played.orders[0]);
    CHECK_EQ(state_of(2), CARD_DRAINED);
    want(2);
    CHECK_EQ(played.orders[1].memory[2], played.start.memory[2]); /* what it held is there */
    answers(2, 0);
    front_holds(&played.orders[1]);
    CHECK_EQ(state_of(2), CARD_ONLINE);
    close_world();
}

/* The engine has gone over to a plan without the card; the order that has it back is on its way,
 * and lies in the card's memory. */
static void an_order_that_crosses_an_answer_keeps_the_memory_that_it_lies_in(void) {
    open_world();
    drain(2);
    want(2);
    CHECK_EQ(played.n_orders, 2);
    CHECK(!played.orders[0].uses[2] && played.orders[1].uses[2]);
    answers(1, 0);
    CHECK_EQ(inode_of(w.engines.cards[2].memory.fd), played.orders[1].memory[2]);
    answers(2, 0);
    front_holds(&played.orders[1]);
    CHECK_EQ(state_of(2), CARD_ONLINE);
    /* And so it goes on: another generation, or another order, finds it. */
    drain(1);
    CHECK_EQ(played.orders[2].memory[2], played.orders[1].memory[2]);
    answers(3, 0);
    front_holds(&played.orders[2]);
    close_world();
}

static void one_that_is_refused_for_it_is_given_again(void) {
    open_world();
    drain(2);
    want(2);
    answers(1, 0);
    answers(2, -EINVAL); /* it lies on what is in use by now */
    CHECK_EQ(played.n_orders, 3);
    CHECK_EQ(played.orders[2].memory[2], played.start.memory[2]);
    front_holds(&played.orders[0]);
    answers(3, 0);
    front_holds(&played.orders[2]);
    CHECK_EQ(state_of(2), CARD_ONLINE);
    CHECK_EQ(w.engines.number, 1);
    close_world();
}

static void one_whose_place_was_taken_leaves_no_trace(void) {
    open_world();
    drain(2);
    want(2);
    answers(1, -ECANCELED);
    front_holds(&played.start);
    answers(2, 0);
    front_holds(&played.orders[1]);
    CHECK_EQ(played.n_orders, 2);
    close_world();
}

/* Until the first is answered nobody knows what is in use. */
static void a_third_waits_for_the_answer_to_the_first(void) {
    open_world();
    drain(2);
    want(2);
    drain(1);
    CHECK_EQ(played.n_orders, 2);
    answers(1, 0);
    CHECK_EQ(played.n_orders, 3);
    CHECK(!played.orders[2].uses[1] && played.orders[2].uses[2]);
    CHECK(!strcmp(w.engines.order.why, "card 1 is drained"));
    answers(2, 0);
    front_holds(&played.orders[1]);
    answers(3, 0);
    front_holds(&played.orders[2]);
    CHECK_EQ(state_of(1), CARD_DRAINED);
    CHECK_EQ(state_of(2), CARD_ONLINE);
    close_world();
}

/* While a lost card is dealt with nothing else is begun, and what was asked for is done then. */
static void a_drain_during_a_loss_is_made_up_for(void) {
    open_world();
    hear(MSG_LOST, &(struct message){.lost = {.generation = 1, .card = 2}});
    CHECK_EQ(played.n_orders, 1);
    drain(0);
    CHECK_EQ(played.n_orders, 1);
    answers(1, 0);
    CHECK_EQ(played.n_orders, 2);
    CHECK(!played.orders[1].uses[0] && played.orders[1].uses[1] && !played.orders[1].uses[2]);
    CHECK(!strcmp(w.engines.order.why, "card 0 is drained"));
    answers(2, 0);
    front_holds(&played.orders[1]);
    CHECK_EQ(state_of(0), CARD_DRAINED);
    close_world();
}

/* The engine had gone over before it heard of the loss: it uses the card that is gone. */
static void a_loss_that_crosses_an_answer_is_one(void) {
    struct err err;
    open_world();
    drain(1);
    CHECK_EQ(engines_lose(&w.engines, 2, &err), 0);
    answers(1, 0);
    CHECK(w.engines.plan.cards[2].online && w.engines.lost_here[2]);
    CHECK_EQ(played.n_orders, 1); /* its report comes next */
    hear(MSG_LOST, &(struct message){.lost = {.generation = 1, .card = 2}});
    CHECK_EQ(w.engines.cards[2].card.faults[CARD_FAULT_LOST], 1);
    CHECK_EQ(played.n_orders, 2);
    CHECK(w.engines.order.after_loss);
    CHECK(played.orders[1].uses[0] && !played.orders[1].uses[1] && !played.orders[1].uses[2]);
    answers(2, 0);
    CHECK(!w.engines.lost_here[2]);
    CHECK_EQ(w.engines.ending, ENDING_UNSEEN);
    front_holds(&played.orders[1]);
    close_world();
}

static void takes_back_a_card_that_is_lost_meanwhile(void) {
    struct err err;
    open_world();
    drain(2);
    answers(1, 0);
    want(2);
    CHECK_EQ(engines_lose(&w.engines, 2, &err), 0);
    CHECK_EQ(played.n_losses, 1); /* it does not use the card yet, and will soon */
    CHECK_EQ(state_of(2), CARD_LOST);
}

static void a_card_lost_while_it_is_taken_back_is_not_used(void) {
    takes_back_a_card_that_is_lost_meanwhile();
    answers(2, -ECANCELED);
    hear(MSG_LOST, &(struct message){.lost = {.generation = 1, .card = 2}});
    front_holds(&played.orders[0]);
    CHECK_EQ(played.n_orders, 2);
    CHECK(!w.engines.lost_here[2]);
    CHECK_EQ(w.engines.ending, ENDING_UNSEEN);
    CHECK_EQ(w.engines.cards[2].card.faults[CARD_FAULT_LOST], 1);
    close_world();
}

static void nor_where_the_answer_crosses_the_loss(void) {
    takes_back_a_card_that_is_lost_meanwhile();
    answers(2, 0);
    CHECK_EQ(played.n_orders, 2);
    hear(MSG_LOST, &(struct message){.lost = {.generation = 1, .card = 2}});
    CHECK_EQ(played.n_orders, 3);
    CHECK(!played.orders[2].uses[2]);
    answers(3, 0);
    front_holds(&played.orders[2]);
    CHECK_EQ(w.engines.cards[2].card.faults[CARD_FAULT_LOST], 1);
    close_world();
}

/* The engine lost the card in a step, with an order under way that does without it. */
static void an_order_that_needs_no_lost_card_ends_the_loss(void) {
    open_world();
    drain(2);
    hear(MSG_LOST, &(struct message){.lost = {.generation = 1, .card = 2}});
    CHECK_EQ(played.n_orders, 2);
    CHECK(w.engines.order.after_loss);
    answers(1, 0);
    CHECK(!w.engines.order.after_loss); /* it computes again, and is heard */
    front_holds(&played.orders[0]);
    answers(2, 0);
    front_holds(&played.orders[1]);
    CHECK(!w.engines.lost_here[2]);
    close_world();
}

/* It was lost while it was drained, and taken back before that was heard. */
static void an_order_with_a_card_that_was_lost_before_it_is_replaced(void) {
    open_world();
    drain(2);
    want(2);
    hear(MSG_LOST, &(struct message){.lost = {.generation = 1, .card = 2}});
    CHECK_EQ(played.n_orders, 2);
    answers(1, 0);
    CHECK(!w.engines.lost_here[2]);
    CHECK_EQ(played.n_orders, 3);
    CHECK(!played.orders[2].uses[2]);
    answers(2, -ECANCELED);
    answers(3, 0);
    front_holds(&played.orders[2]);
    CHECK_EQ(w.engines.cards[2].card.faults[CARD_FAULT_LOST], 1);
    close_world();
}

/* What an engine that is being killed says of an order leaves its end explained. */
static void an_answer_of_a_killed_engine_blames_nobody(void) {
    struct err err;
    open_world();
    drain(2);
    CHECK_EQ(engines_kill(&w.engines, &err), 0);
    answers(1, 0);
    CHECK_EQ(w.engines.ending, ENDING_ASKED);
    played.ending = false;
    close_world();
}

/* The front knew of no loss when it gave the second order; the engine had dropped the first for it.
 */
static void an_order_given_before_a_loss_was_heard_is_replaced(void) {
    open_world();
    drain(0);
    want(0);
    hear(MSG_LOST, &(struct message){.lost = {.generation = 1, .card = 2}});
    CHECK_EQ(played.n_orders, 2); /* until the first is answered */
    CHECK(played.orders[1].uses[2]);
    answers(1, -ECANCELED);
    CHECK_EQ(played.n_orders, 3);
    CHECK(!played.orders[2].uses[2]);
    CHECK(w.engines.order.after_loss);
    answers(2, -ECANCELED);
    CHECK(w.engines.order.after_loss);
    answers(3, 0);
    CHECK(!w.engines.order.after_loss && !w.engines.lost_here[2]);
    front_holds(&played.orders[2]);
    close_world();
}

/* --- full cards --- */

static struct events told;

static bool holds(uint64_t size, uint32_t n_cards, struct plan *plan) {
    uint64_t bytes[CARDS] = {size, size, size};
    struct plan_input in;
    topology_plain(&w.topology, CARDS, bytes, 0);
    box_plan_input(&w.config, device_backend("cpu"), &w.topology, &w.loaded->model, &in);
    for (uint32_t i = n_cards; i < CARDS; i++)
        in.online[i] = false;
    return plan_build(plan, &in, NULL) == 0;
}

/* Three cards that share all layers, each with room for half of the model and no more. */
static void open_full(void) {
    uint64_t size = 64u << 10;
    struct plan three = {0}, two = {0};
    bool same = false;
    prepare_world("tiny-f32.gguf", CARDS, size);
    w.config.split = SPLIT_TENSOR;
    while (!same) {
        size += 4096;
        same = holds(size, 3, &three) && holds(size, 2, &two) && three.n_pages == two.n_pages &&
               three.max_rows == two.max_rows;
        if (same)
            CHECK(layout_staged_bytes(&three, &two) > 0);
        plan_finish(&three);
        plan_finish(&two);
    }
    CHECK_EQ(events_init(&told, 64), 0);
    w.engines.log = &told;
    start_world();
}

static const char *last_of(const char *kind) {
    const struct event *e;
    const char *text = "";
    for (uint64_t at = 1; (e = events_get(&told, at)); at++)
        text = strcmp(e->kind, kind) ? text : e->text;
    return text;
}

static void close_full(void) {
    w.engines.log = NULL;
    events_finish(&told);
    close_world();
}

static void full_cards_go_over_by_way_of_host_memory(void) {
    open_full();
    drain(2);
    CHECK_EQ(played.n_orders, 1);
    CHECK(played.orders[0].stage_bytes > 0);
    CHECK(strstr(last_of("rebalance"), "MiB by way of host memory"));
    answers(1, 0);
    CHECK_EQ(state_of(2), CARD_DRAINED);
    CHECK_EQ(w.engines.number, 1);
    close_full();
}

/* Another generation follows, and it is said what would have been enough. */
static void no_more_of_it_than_a_key_and_the_host_allow(void) {
    open_full();
    w.config.rebalance_stage = 0;
    drain(2);
    CHECK_EQ(played.n_orders, 0);
    CHECK(strstr(last_of("no_room"), "exchange 0 MiB at once by rebalance_stage, 1 would do"));
    ends();
    close_full();
    open_full();
    engines_note_room(&w.engines, 0);
    drain(2);
    CHECK_EQ(played.n_orders, 0);
    CHECK(strstr(last_of("no_room"), "the host has 0 MiB, of 1)"));
    ends();
    close_full();
}

CHECK_MAIN(
    T(full_cards_go_over_by_way_of_host_memory), T(no_more_of_it_than_a_key_and_the_host_allow),
    T(an_answered_order_leaves_its_memory_in_use),
    T(an_order_that_crosses_an_answer_keeps_the_memory_that_it_lies_in),
    T(one_that_is_refused_for_it_is_given_again), T(one_whose_place_was_taken_leaves_no_trace),
    T(a_third_waits_for_the_answer_to_the_first), T(a_drain_during_a_loss_is_made_up_for),
    T(a_loss_that_crosses_an_answer_is_one), T(a_card_lost_while_it_is_taken_back_is_not_used),
    T(nor_where_the_answer_crosses_the_loss), T(an_order_that_needs_no_lost_card_ends_the_loss),
    T(an_order_with_a_card_that_was_lost_before_it_is_replaced),
    T(an_answer_of_a_killed_engine_blames_nobody),
    T(an_order_given_before_a_loss_was_heard_is_replaced))
