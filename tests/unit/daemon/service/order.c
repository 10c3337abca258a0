/* SPDX-License-Identifier: Apache-2.0 */
/* Orders to an engine that runs, and answers that cross them in the channel.  The engine's process
 * is played here: a test says when its answer arrives, so no clock and no thread decides. */
#include <errno.h>
#include <sys/stat.h>

#include "daemon/service/engines.h"
#include "octarc/error.h"
#include "tests/check.h"

#define CARDS       3
#define ORDERS_MOST 8

/* An order, with the memory of each card as the engine would map it; 0: none. */
struct told {
    uint64_t number;
    ino_t memory[CARDS_MAX];
    bool uses[CARDS_MAX];
};

struct process {
    struct process_events events;
    void *user;
    struct told start, orders[ORDERS_MOST];
    uint32_t n_orders, n_losses; /* that it was told of */
    bool ending;
};

static struct process played; /* one at a time */

static ino_t inode_of(int fd) {
    struct stat st;
    CHECK_EQ(fstat(fd, &st), 0);
    return st.st_ino;
}

static struct told note(uint64_t number, const struct plan *plan, const int *fds, uint32_t n_fds) {
    struct told told = {.number = number};
    uint32_t next = 0;
    for (uint32_t i = 0; i < plan->n_cards; i++) {
        told.uses[i] = plan->cards[i].weights_bytes > 0;
        if (told.uses[i] && next < n_fds)
            told.memory[i] = inode_of(fds[next++]);
    }
    CHECK_EQ(next, n_fds);
    return told;
}

/* --- process.h, in the place of service/process.c --- */

int process_start(struct process **process, uv_loop_t *loop, struct spawner *spawner,
                  const struct msg_setup *setup, const int *fds, uint32_t n_fds,
                  const struct process_events *events, void *user, struct err *err) {
    (void)loop, (void)spawner, (void)err;
    played = (struct process){.events = *events, .user = user};
    played.start = note(0, &setup->plan, fds + 3, n_fds - 3); /* behind the model's */
    *process = &played;
    return 0;
}

int process_send_fds(struct process *p, enum message_type type, const void *msg, const int *fds,
                     uint32_t n_fds) {
    const struct msg_replan *order = msg;
    p->n_losses += type == MSG_LOSE;
    if (type != MSG_REPLAN)
        return 0;
    CHECK(p->n_orders < ORDERS_MOST);
    p->orders[p->n_orders++] = note(order->number, &order->plan, fds, n_fds);
    return 0;
}

int process_send(struct process *p, enum message_type type, const void *msg) {
    return process_send_fds(p, type, msg, NULL, 0);
}

void process_kill(struct process *p) {
    p->ending = true;
}

bool process_ending(const struct process *p) {
    return p->ending;
}

void process_leave(struct process *p, const char *why) {
    (void)p, (void)why;
}

void process_report(struct process *p, const struct spawner_report *report) {
    (void)p, (void)report;
}

pid_t process_pid(const struct process *p) {
    (void)p;
    return 1;
}

/* --- the front --- */

static struct world {
    uv_loop_t loop;
    struct config config;
    struct topology topology;
    struct scheduler *scheduler;
    struct loaded *loaded;
    struct engines engines;
} w;

static void on_changed(void *user) {
    (void)user;
}

static void on_failed(void *user, int error, const char *text) {
    (void)user, (void)error, (void)text;
    CHECK(!"an engine is given up");
}

static void hear(enum message_type type, const struct message *msg) {
    struct message heard = *msg;
    heard.type = type;
    played.events.message(played.user, &heard);
}

static void says_ready(void) {
    hear(MSG_READY, &(struct message){.ready = {.generation = w.engines.number, .n_cards = CARDS}});
}

/* The answer to the order of that number arrives. */
static void answers(uint64_t number, int error) {
    struct message msg = {.replanned = {.generation = w.engines.number,
                                        .number = number,
                                        .error = error,
                                        .kept = true,
                                        .ready = {.n_cards = CARDS}}};
    hear(MSG_REPLANNED, &msg);
}

static void open_world(void) {
    const struct scheduler_options options = {8, 8, 4, 0, 3};
    char path[512];
    uint64_t bytes[CARDS];
    struct err err = {{0}};
    if (!getenv("OCTARC_TINY"))
        SKIP("OCTARC_TINY does not name the folder of the tiny models (make tiny)");
    snprintf(path, sizeof path, "%s/tiny-f32.gguf", getenv("OCTARC_TINY"));
    config_default(&w.config);
    w.config.max_sequences = 4;
    w.config.context = 64;
    w.config.rebalance = REBALANCE_RUNNING;
    w.config.weights = WEIGHTS_SHARED;
    for (uint32_t i = 0; i < CARDS; i++)
        bytes[i] = 64u << 20;
    topology_plain(&w.topology, CARDS, bytes, 0);
    CHECK_EQ(uv_loop_init(&w.loop), 0);
    CHECK_EQ(scheduler_create(&w.scheduler, &options, &engines_ops, &w.engines), 0);
    w.engines = (struct engines){.loop = &w.loop,
                                 .scheduler = w.scheduler,
                                 .config = &w.config,
                                 .topology = &w.topology,
                                 .events = {.changed = on_changed, .failed = on_failed}};
    engines_init(&w.engines);
    CHECK_EQ(loaded_open(&w.loaded, path, &err), 0);
    CHECK_EQ(engines_load(&w.engines, w.loaded, &err), 0);
    says_ready();
    CHECK_EQ(w.engines.state, ENGINES_SERVING);
}

static void close_world(void) {
    CHECK(!played.ending);
    scheduler_destroy(w.scheduler);
    engines_finish(&w.engines);
    loaded_close(w.loaded);
    uv_close((uv_handle_t *)&w.engines.timer, NULL);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&w.loop), 0);
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

static void drain(uint32_t card) {
    struct err err;
    CHECK_EQ(engines_drain(&w.engines, card, false, &err), 0);
}

static void want(uint32_t card) {
    struct err err;
    CHECK_EQ(engines_want(&w.engines, card, &err), 0);
}

static enum card_state state_of(uint32_t card) {
    return w.engines.cards[card].card.state;
}

/* --- the tests --- */

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

CHECK_MAIN(T(an_answered_order_leaves_its_memory_in_use),
           T(an_order_that_crosses_an_answer_keeps_the_memory_that_it_lies_in),
           T(one_that_is_refused_for_it_is_given_again),
           T(one_whose_place_was_taken_leaves_no_trace),
           T(a_third_waits_for_the_answer_to_the_first), T(a_drain_during_a_loss_is_made_up_for),
           T(a_loss_that_crosses_an_answer_is_one),
           T(a_card_lost_while_it_is_taken_back_is_not_used),
           T(nor_where_the_answer_crosses_the_loss),
           T(an_order_that_needs_no_lost_card_ends_the_loss),
           T(an_order_with_a_card_that_was_lost_before_it_is_replaced),
           T(an_answer_of_a_killed_engine_blames_nobody))
