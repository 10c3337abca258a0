/* SPDX-License-Identifier: Apache-2.0 */
/* Plans that leave weights in host memory, when the host has less of it than it was said to have.
 */
#include "daemon/service/box.h"
#include "daemon/service/events.h"
#include "tests/unit/daemon/service/played_engine.h"

#define PLENTY (UINT64_C(1) << 30)
#define NONE   0

static struct events told;

static bool two_hold_it(uint64_t card_bytes) {
    const uint64_t bytes[] = {card_bytes, card_bytes};
    struct plan_input in;
    struct plan plan = {0};
    topology_plain(&w.topology, 2, bytes, 0);
    box_plan_input(&w.config, device_backend("cpu"), &w.topology, &w.loaded->model, &in);
    const bool fits = plan_build(&plan, &in, NULL) == 0;
    plan_finish(&plan);
    return fits;
}

/* Two cards that just hold the model, and host memory for all that one of them alone cannot. */
static void open_world(void) {
    uint64_t size = 128u << 10;
    prepare_world("tiny-deep.gguf", 2, size);
    w.config.split = SPLIT_LAYER;
    while (!two_hold_it(size))
        size += 64u << 10;
    w.topology.host.spill_bytes = PLENTY;
    CHECK_EQ(events_init(&told, 64), 0);
    w.engines.log = &told;
    start_world();
    CHECK_EQ(plan_host_bytes(&w.engines.plan), 0);
}

static void close_all(void) {
    w.engines.log = NULL;
    events_finish(&told);
    close_world();
}

/* By another generation: one card alone has room for fewer pages. */
static void go_on_without(uint32_t card) {
    drain(card);
    ends();
    says_ready();
    CHECK_EQ(state_of(card), CARD_DRAINED);
    CHECK(plan_host_bytes(&w.engines.plan) > 0);
}

static void drain_is_refused(void) {
    struct err err;
    CHECK_EQ(engines_drain(&w.engines, 1, false, &err), -ENOSPC);
    CHECK(strstr(err.text, "card 1 cannot be drained"));
    CHECK(strstr(err.text, "host memory has room for 0 MiB"));
    CHECK(strstr(err.text, "1024 MiB that host_spill allows"));
    CHECK_EQ(state_of(1), CARD_ONLINE);
    CHECK_EQ(played.n_orders, 0);
}

static void what_is_not_known_is_no_limit(void) {
    open_world();
    CHECK_EQ(engines_spill_limit(&w.engines), PLENTY);
    go_on_without(1);
    close_all();
}

static void a_drain_is_refused_where_the_host_has_no_room(void) {
    open_world();
    engines_note_room(&w.engines, NONE);
    CHECK_EQ(engines_spill_limit(&w.engines), NONE);
    drain_is_refused();
    engines_note_room(&w.engines, PLENTY);
    go_on_without(1);
    close_all();
}

static void what_a_plan_has_there_it_may_keep(void) {
    open_world();
    go_on_without(1);
    const uint64_t held = plan_host_bytes(&w.engines.plan);
    engines_note_room(&w.engines, NONE);
    CHECK_EQ(engines_spill_limit(&w.engines), held);
    engines_note_room(&w.engines, 100);
    CHECK_EQ(engines_spill_limit(&w.engines), held + 100);
    engines_note_room(&w.engines, UINT64_MAX - 1);
    CHECK_EQ(engines_spill_limit(&w.engines), PLENTY);
    /* The next generation has the same. */
    engines_note_room(&w.engines, NONE);
    CHECK_EQ(engines_kill(&w.engines, NULL), 0);
    ends();
    CHECK_EQ(w.engines.state, ENGINES_STARTING);
    CHECK_EQ(plan_host_bytes(&w.engines.plan), held);
    close_all();
}

static const char *last_of(const char *kind) {
    const struct event *last = events_get(&told, told.last);
    while (last && strcmp(last->kind, kind))
        last = events_get(&told, last->number - 1);
    return last ? last->text : "";
}

/* Whoever only follows the events hears that nothing serves, and what becomes of the requests. */
static void that_no_card_serves_is_an_event(void) {
    open_world();
    w.config.no_card_wait_s = 0;
    engines_note_room(&w.engines, NONE);
    hear(MSG_LOST, &(struct message){.lost = {.generation = 1, .card = 1}});
    ends();
    CHECK_EQ(w.engines.state, ENGINES_WAITING);
    CHECK(strstr(last_of("no_card"), "no card can serve the model, requests wait 0 s: "));
    const uint64_t said = told.last;
    engines_use_cards(&w.engines, "the test asks again");
    CHECK_EQ(told.last, said); /* and is not said again */
    uv_run(&w.loop, UV_RUN_NOWAIT);
    CHECK(strstr(last_of("no_card"), "no card can serve the model after 0 s: 0 requests end, and "
                                     "new ones are refused: "));
    engines_note_room(&w.engines, PLENTY);
    says_ready();
    CHECK_EQ(w.engines.state, ENGINES_SERVING);
    close_all();
}

/* It is said why, and goes on by itself. */
static void a_loss_waits_for_room(void) {
    open_world();
    engines_note_room(&w.engines, NONE);
    hear(MSG_LOST, &(struct message){.lost = {.generation = 1, .card = 1}});
    ends();
    CHECK_EQ(w.engines.state, ENGINES_WAITING);
    CHECK(strstr(w.engines.why, "host memory has room for 0 MiB"));
    const struct event *last = events_get(&told, told.last);
    while (strcmp(last->kind, "pressure"))
        last = events_get(&told, last->number - 1);
    CHECK(strstr(last->text, "of 1024 MiB that host_spill allows"));
    engines_note_room(&w.engines, 1);
    CHECK_EQ(w.engines.state, ENGINES_WAITING);
    engines_note_room(&w.engines, PLENTY);
    CHECK_EQ(w.engines.state, ENGINES_STARTING);
    CHECK(plan_host_bytes(&w.engines.plan) > 0);
    says_ready();
    CHECK_EQ(w.engines.state, ENGINES_SERVING);
    close_all();
}

CHECK_MAIN(T(what_is_not_known_is_no_limit), T(a_drain_is_refused_where_the_host_has_no_room),
           T(what_a_plan_has_there_it_may_keep), T(that_no_card_serves_is_an_event),
           T(a_loss_waits_for_room))
