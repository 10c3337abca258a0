/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to engines and cards, and the operator who takes cards out and puts them back. */
#include "octarc/error.h"
#include "tests/sim/cards.h"
#include "tests/sim/client.h"
#include "tests/sim/generation.h"

#define FAULTS_MOST 24
#define PATIENCE_NS (2 * S) /* of the operator with a service that has no card; < no_card_wait */

static struct actor fault, each_second;
static uint32_t faults_left;
static uint64_t waiting_since_ns, last_ns, squeezed_until_ns;
static bool crosses; /* the next one crosses an engine's answer to an order */

/* --- engines --- */

/* Nobody will know why it died. */
static bool may_die(void) {
    if (!sim.generation || !sim.deaths_left)
        return false;
    sim.deaths_left--;
    return true;
}

/* Where there are two, any of them. */
static struct generation *any_generation(void) {
    return sim.elder && one_in(&sim.random, 2) ? sim.elder : sim.generation;
}

static void die(void) {
    if (may_die())
        generation_die(any_generation());
}

static void die_while_it_speaks(void) {
    if (may_die())
        any_generation()->dies_after = 1 + draw(&sim.random, 12);
}

static void hang(void) {
    if (!may_die())
        return;
    struct generation *g = any_generation();
    trace("engine %lu hangs", g->setup.generation);
    g->hangs = true;
}

static void kill_rehearsed(void) {
    trace("drill: kill");
    engines_kill(&sim.engines, NULL);
}

static void fail_next_load(void) {
    if (sim.generation)
        sim.generation->load_error = -5;
}

/* --- cards --- */

static uint32_t any_card(void) {
    return draw(&sim.random, sim.engines.n_cards);
}

static void lose_rehearsed(void) {
    struct err err = {{0}};
    const uint32_t card = any_card();
    const int rc = engines_lose(&sim.engines, card, &err);
    trace("drill: card %u is lost: %s", card, rc ? err.text : "yes");
}

static void lose_inside_a_step(void) {
    const uint32_t card = any_card();
    struct generation *g = sim.generation ? any_generation() : NULL;
    if (!g || g->state != SERVING || !g->plan->cards[card].weights_bytes)
        return;
    g->loses = card;
    g->loses_row = draw(&sim.random, 200);
}

static void drain_card(uint32_t card, bool release) {
    struct err err = {{0}};
    const int rc = engines_drain(&sim.engines, card, release, &err);
    trace("operator: drain%s card %u: %s", release ? " --release" : "", card,
          rc ? err.text : "yes");
}

static void drain(bool release) {
    drain_card(any_card(), release);
}

static void want(uint32_t card) {
    struct err err = {{0}};
    const int rc = engines_want(&sim.engines, card, &err);
    trace("operator: online card %u: %s", card, rc ? err.text : "yes");
}

static void come_back(void) {
    const uint32_t card = any_card();
    trace("card %u is there again: %s", card,
          engines_return(&sim.engines, card, NULL) ? "no" : "yes");
}

/* Whose card is on its way has it the other way round. */
static void change_mind(void) {
    const uint32_t first = any_card();
    for (uint32_t i = 0; i < sim.engines.n_cards; i++) {
        const uint32_t card = (first + i) % sim.engines.n_cards;
        const struct card *c = &sim.engines.cards[card].card;
        if (c->state == CARD_DRAINING) {
            want(card);
            return;
        }
        if (c->state == CARD_PROBING) {
            drain_card(card, false);
            return;
        }
    }
    drain(false);
}

void faults_answer_under_way(void) {
    if (!faults_left || !one_in(&sim.random, 3))
        return;
    crosses = true;
    clock_at(&fault, sim.now_ns + 1);
}

/* --- weights --- */

void harm_begins(const struct runner *runner) {
    struct generation *g = sim.elder && sim.elder->runner == runner ? sim.elder : sim.generation;
    g->suspect = sim.harmed = true;
    sim_totals.harms++;
    for (uint32_t i = 0; i < sim.n_clients; i++)
        if (sim.clients[i].submitted && !client_done(&sim.clients[i]))
            sim.clients[i].disturbed = true;
}

/* By itself, at any moment. */
static void harm(void) {
    const struct generation *g = sim.generation ? any_generation() : NULL;
    if (g && g->state == SERVING && !g->hangs)
        cards_harm(g->runner, any_card());
}

static void corrupt(bool silent) {
    struct err err = {{0}};
    const uint32_t card = any_card();
    const int rc = engines_corrupt(&sim.engines, card, silent, &err);
    trace("drill: weights of card %u are harmed%s: %s", card, silent ? " silently" : "",
          rc ? err.text : "yes");
}

static void check(int32_t card) {
    struct err err = {{0}};
    const int rc = engines_check(&sim.engines, card, &err);
    trace("operator: check %d: %s", card, rc ? err.text : "yes");
}

/* What is harmed next cannot be read again: the engine says so, and ends.  That is nobody's fault.
 */
static void fail_restore(void) {
    cards_fail_restore(-5);
}

static void any_harm(void) {
    switch (draw(&sim.random, 8)) {
    case 0:
    case 1:
        harm();
        return;
    case 2:
        corrupt(true);
        return;
    case 3:
        corrupt(false);
        return;
    case 4:
        fail_restore();
        harm();
        return;
    case 5:
        check((int32_t)any_card());
        return;
    default:
        check(-1);
    }
}

static void any_fault(void) {
    if (crosses) {
        crosses = false;
        change_mind();
        return;
    }
    if (!sim.calm && one_in(&sim.random, 3)) {
        any_harm();
        return;
    }
    const bool only = sim.calm || (sim.tight && !one_in(&sim.random, 3));
    const uint32_t first = only ? 9 : 0; /* the operator's */
    switch (first + draw(&sim.random, 16 - first)) {
    case 0:
        die();
        return;
    case 1:
        die_while_it_speaks();
        return;
    case 2:
        hang();
        return;
    case 3:
        kill_rehearsed();
        return;
    case 4:
        fail_next_load();
        return;
    case 5:
    case 6:
        lose_rehearsed();
        return;
    case 7:
    case 8:
        lose_inside_a_step();
        return;
    case 9:
    case 10:
        drain(false);
        return;
    case 11:
        drain(true);
        return;
    case 12:
        come_back();
        return;
    default:
        want(any_card());
    }
}

static void on_fault(void *user) {
    struct random *r = &sim.random;
    (void)user;
    any_fault();
    last_ns = sim.now_ns;
    if (--faults_left == 0)
        return;
    const uint64_t gap_ns = one_in(r, 3)   ? draw(r, 3000) * US
                            : one_in(r, 6) ? draw(r, 8000) * MS
                                           : draw(r, 100) * MS;
    fault.due_ns = sim.now_ns + gap_ns + 1;
}

/* --- the front's own second, and who looks after it --- */

/* The host has less room for weights than it was said to have, for a while that no request has to
 * wait too long for. */
static void squeeze(void) {
    const uint64_t most = sim.topology.host.spill_bytes;
    if (!sim.spills)
        return;
    if (squeezed_until_ns <= sim.now_ns && one_in(&sim.random, 6)) {
        squeezed_until_ns = sim.now_ns + (1 + draw(&sim.random, 3)) * S;
        engines_note_room(&sim.engines, draw(&sim.random, (uint32_t)most));
    } else if (squeezed_until_ns <= sim.now_ns) {
        engines_note_room(&sim.engines, UINT64_MAX);
    }
}

static void on_second(void *user) {
    (void)user;
    each_second.due_ns = sim.now_ns + S;
    if (sim.stopped)
        return;
    scheduler_tick(sim.scheduler, sim.now_ns);
    squeeze();
    engines_tick(&sim.engines);
    if (sim.engines.state != ENGINES_WAITING) {
        waiting_since_ns = NEVER;
    } else if (waiting_since_ns == NEVER) {
        waiting_since_ns = sim.now_ns;
    } else if (sim.now_ns - waiting_since_ns >= PATIENCE_NS) {
        for (uint32_t i = 0; i < sim.engines.n_cards; i++)
            want(i);
        waiting_since_ns = NEVER;
    }
}

void faults_start(void) {
    faults_left = draw(&sim.random, FAULTS_MOST + 1);
    last_ns = squeezed_until_ns = 0;
    crosses = false;
    cards_fail_restore(0);
    waiting_since_ns = NEVER;
    fault = (struct actor){faults_left ? 1 + draw(&sim.random, sim.busy_ms) * MS : NEVER, on_fault,
                           NULL};
    each_second = (struct actor){S, on_second, NULL};
    clock_add(&fault);
    clock_add(&each_second);
}

uint64_t faults_last_ns(void) {
    return faults_left ? NEVER : last_ns;
}
