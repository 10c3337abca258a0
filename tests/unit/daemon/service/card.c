/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/card.h"

#include <errno.h>

#include "octarc/error.h"
#include "tests/check.h"

#define S UINT64_C(1000000000)

static const struct card_rules rules = {.quiet_ns = 30 * S, .faults_max = 10};

static struct card_time at(uint64_t s) {
    return (struct card_time){.ns = 1000 * S + s * S, .ms = 5000000 + s * 1000};
}

static int apply(struct card *card, enum card_event event, uint64_t s, struct err *err) {
    const struct card_time now = at(s);
    return card_apply(card, 3, event, "a test", &now, &rules, err);
}

/* A card that got into a state by the way there. */
static struct card card_in(enum card_state state) {
    static const enum card_event ways[CARD_STATE_COUNT][4] = {
        [CARD_DRAINING] = {CARD_DRAIN, CARD_EVENT_COUNT},
        [CARD_DRAINED] = {CARD_DRAIN, CARD_LEAVE, CARD_EVENT_COUNT},
        [CARD_LOST] = {CARD_LOSE, CARD_EVENT_COUNT},
        [CARD_FENCED] = {CARD_FENCE, CARD_EVENT_COUNT},
        [CARD_OFFLINE] = {CARD_DRAIN, CARD_LEAVE, CARD_RELEASE, CARD_EVENT_COUNT},
        [CARD_PROBING] = {CARD_LOSE, CARD_RETURN, CARD_EVENT_COUNT},
    };
    struct card card;
    card_init(&card, "slot:cpu-3");
    if (state == CARD_QUARANTINED)
        for (int i = 0; i < 10; i++) {
            CHECK_EQ(apply(&card, CARD_LOSE, 0, NULL), 0);
            CHECK(i == 9 || apply(&card, CARD_RETURN, 0, NULL) == 0);
        }
    else if (state != CARD_ONLINE)
        for (int i = 0; ways[state][i] != CARD_EVENT_COUNT; i++)
            CHECK_EQ(apply(&card, ways[state][i], 0, NULL), 0);
    CHECK_EQ(card.state, state);
    return card;
}

static void every_transition_is_that_of_the_table(void) {
    static const struct {
        enum card_state from;
        /* drain, leave, keep, release, lose, fence, corrupt, break, return, want, serve; NULL:
         * refused */
        const char *to[CARD_EVENT_COUNT];
    } table[] = {
        {CARD_ONLINE,
         {"draining", NULL, NULL, NULL, "lost", "fenced", "online", "quarantined", NULL, "online",
          NULL}},
        {CARD_DRAINING,
         {"draining", "drained", "online", NULL, "offline", "offline", "draining", "quarantined",
          NULL, "probing", NULL}},
        {CARD_DRAINED,
         {"drained", NULL, NULL, "offline", "offline", "offline", "drained", "quarantined", NULL,
          "probing", NULL}},
        {CARD_LOST,
         {"offline", NULL, NULL, NULL, NULL, NULL, NULL, "quarantined", "probing", "probing",
          NULL}},
        {CARD_FENCED,
         {"offline", NULL, NULL, NULL, "lost", NULL, NULL, "quarantined", "probing", "probing",
          NULL}},
        {CARD_OFFLINE,
         {"offline", NULL, NULL, NULL, NULL, NULL, NULL, "quarantined", NULL, "probing", NULL}},
        {CARD_PROBING,
         {"draining", NULL, NULL, NULL, "lost", "fenced", "probing", "quarantined", NULL, "probing",
          "online"}},
        {CARD_QUARANTINED,
         {"offline", NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, "probing", NULL}},
    };
    CHECK_EQ(sizeof table / sizeof *table, CARD_STATE_COUNT);
    for (int i = 0; i < CARD_STATE_COUNT; i++)
        for (int event = 0; event < CARD_EVENT_COUNT; event++) {
            struct card card = card_in(table[i].from);
            const struct card before = card;
            struct err err = {{0}};
            const int rc = apply(&card, (enum card_event)event, 1, &err);
            if (table[i].to[event]) {
                CHECK_EQ(rc, 0);
                CHECK(!strcmp(card_state_name(card.state), table[i].to[event]));
                continue;
            }
            CHECK_EQ(rc, -EINVAL);
            CHECK(strstr(err.text, "card 3") && strstr(err.text, card_state_name(before.state)));
            CHECK(!memcmp(&card, &before, sizeof card));
        }
}

static void an_operators_word_needs_no_quiet_time_a_return_does(void) {
    struct card card = card_in(CARD_LOST);
    CHECK_EQ(apply(&card, CARD_RETURN, 5, NULL), 0);
    CHECK(!card_usable(&card, at(34).ns));
    CHECK(card_usable(&card, at(35).ns));
    CHECK_EQ(apply(&card, CARD_LOSE, 20, NULL), 0); /* begins anew */
    CHECK_EQ(apply(&card, CARD_RETURN, 21, NULL), 0);
    CHECK(!card_usable(&card, at(50).ns));
    CHECK_EQ(apply(&card, CARD_WANT, 22, NULL), 0);
    CHECK(card_usable(&card, at(22).ns));
}

static void what_an_operator_took_out_does_not_come_back_by_itself(void) {
    static const enum card_state out[] = {CARD_DRAINED, CARD_OFFLINE, CARD_QUARANTINED};
    for (int i = 0; i < 3; i++) {
        struct card card = card_in(out[i]);
        struct err err;
        CHECK_EQ(apply(&card, CARD_RETURN, 1, &err), -EINVAL);
        CHECK(strstr(err.text, "octarc online"));
    }
    struct card lost = card_in(CARD_DRAINING);
    CHECK_EQ(apply(&lost, CARD_LOSE, 1, NULL), 0);
    CHECK_EQ(lost.state, CARD_OFFLINE);
    CHECK_EQ(lost.faults[CARD_FAULT_LOST], 1);
}

static void what_is_so_already_changes_nothing(void) {
    static const struct {
        enum card_state state;
        enum card_event event;
    } said[] = {{CARD_DRAINED, CARD_DRAIN}, {CARD_OFFLINE, CARD_DRAIN}, {CARD_ONLINE, CARD_WANT}};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        struct card card = card_in(said[i].state);
        CHECK_EQ(apply(&card, CARD_CORRUPT, 0, NULL), i == 1 ? -EINVAL : 0); /* a fault counts */
        const struct card before = card;
        CHECK_EQ(apply(&card, said[i].event, 1, NULL), 0);
        CHECK(!memcmp(&card, &before, sizeof card));
    }
}

static void ten_faults_in_a_minute_are_too_many_and_nine_are_not(void) {
    struct card card;
    card_init(&card, "slot:cpu-3");
    for (uint64_t i = 0; i < 9; i++) { /* at 0, 6 … 48 */
        CHECK_EQ(apply(&card, i % 2 ? CARD_FENCE : CARD_LOSE, i * 6, NULL), 0);
        CHECK_EQ(apply(&card, CARD_RETURN, i * 6 + 1, NULL), 0);
    }
    struct card later = card;
    CHECK_EQ(apply(&later, CARD_LOSE, 60, NULL), 0); /* the first one is a minute old */
    CHECK_EQ(later.state, CARD_LOST);
    CHECK_EQ(apply(&card, CARD_LOSE, 59, NULL), 0);
    CHECK_EQ(card.state, CARD_QUARANTINED);
    CHECK_EQ(card.faults[CARD_FAULT_LOST] + card.faults[CARD_FAULT_SILENT], 10);

    CHECK_EQ(apply(&card, CARD_WANT, 59, NULL), 0);
    CHECK_EQ(apply(&card, CARD_SERVE, 59, NULL), 0);
    CHECK_EQ(apply(&card, CARD_LOSE, 59, NULL), 0); /* the count began anew */
    CHECK_EQ(card.state, CARD_LOST);
}

static void a_harmed_card_is_used_on_until_it_was_harmed_too_often(void) {
    struct card card;
    card_init(&card, "slot:cpu-3");
    for (uint64_t i = 0; i < 9; i++)
        CHECK_EQ(apply(&card, CARD_CORRUPT, i, NULL), 0);
    CHECK_EQ(card.state, CARD_ONLINE);
    CHECK_EQ(card.since_ms, 0); /* it never was in another state */
    CHECK_EQ(card.n_history, 9);
    CHECK(card.history[8].fault && card.history[8].to == CARD_ONLINE);
    CHECK_EQ(card.faults[CARD_FAULT_CORRUPT], 9);
    struct card later;
    const struct card_time now = at(10);
    card_restore(&later, &card, &now);
    CHECK_EQ(apply(&later, CARD_CORRUPT, 11, NULL), 0); /* also over a restart */
    CHECK_EQ(later.state, CARD_QUARANTINED);
    CHECK_EQ(apply(&card, CARD_LOSE, 11, NULL), 0); /* with faults of other kinds */
    CHECK_EQ(card.state, CARD_QUARANTINED);
}

static void a_restart_keeps_what_was_decided_and_tries_the_rest_again(void) {
    static const enum card_state want[CARD_STATE_COUNT] = {
        [CARD_DRAINING] = CARD_OFFLINE, [CARD_DRAINED] = CARD_OFFLINE,
        [CARD_OFFLINE] = CARD_OFFLINE,  [CARD_QUARANTINED] = CARD_QUARANTINED,
        [CARD_ONLINE] = CARD_ONLINE,    [CARD_LOST] = CARD_ONLINE,
        [CARD_FENCED] = CARD_ONLINE,    [CARD_PROBING] = CARD_ONLINE,
    };
    for (int i = 0; i < CARD_STATE_COUNT; i++) {
        const struct card saved = card_in((enum card_state)i);
        const struct card_time now = at(10);
        struct card card;
        card_restore(&card, &saved, &now);
        CHECK_EQ(card.state, want[i]);
        CHECK(!strcmp(card.identity.text, "slot:cpu-3"));
        CHECK(!memcmp(card.faults, saved.faults, sizeof card.faults));
    }
}

static void a_restart_does_not_hide_a_flapping_card(void) {
    struct card card;
    card_init(&card, "slot:cpu-3");
    for (uint64_t i = 0; i < 9; i++) {
        CHECK_EQ(apply(&card, CARD_LOSE, i, NULL), 0);
        CHECK_EQ(apply(&card, CARD_RETURN, i, NULL), 0);
    }
    const struct card saved = card;
    struct card_time now = at(20);
    card_restore(&card, &saved, &now);
    CHECK_EQ(apply(&card, CARD_LOSE, 21, NULL), 0);
    CHECK_EQ(card.state, CARD_QUARANTINED);
    now = at(100);
    card_restore(&card, &saved, &now);
    CHECK_EQ(apply(&card, CARD_LOSE, 101, NULL), 0);
    CHECK_EQ(card.state, CARD_LOST);
    now.ms = 1; /* the wall clock was set back: what is in the future counts as long ago */
    card_restore(&card, &saved, &now);
    CHECK_EQ(card.n_recent, 0);
}

static void names_are_found_again(void) {
    for (int i = 0; i < CARD_STATE_COUNT; i++)
        CHECK_EQ(card_state_find(card_state_name((enum card_state)i)), i);
    CHECK_EQ(card_state_find("asleep"), -EINVAL);
}

/* --- a long walk --- */

static uint64_t seed;

static uint32_t draw(uint32_t n) {
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed >> 33) % n;
}

/* What must hold, kept by other means than the card's own. */
struct shadow {
    bool out; /* an operator took it out, and none has taken it back */
    uint64_t faults[4096];
    uint32_t n;
};

static uint32_t within_a_minute(const struct shadow *s, uint64_t now) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n; i++)
        n += now - s->faults[i] < 60;
    return n;
}

static void take_step(struct card *card, struct shadow *s, uint64_t now) {
    const enum card_event event = (enum card_event)draw(CARD_EVENT_COUNT);
    const struct card before = *card;
    if (apply(card, event, now, NULL) < 0) {
        CHECK(!memcmp(card, &before, sizeof before));
        return;
    }
    const bool broken = event == CARD_BREAK;
    const bool fault = event == CARD_LOSE || event == CARD_FENCE || event == CARD_CORRUPT || broken;
    if (fault)
        s->faults[s->n++] = now;
    if (event == CARD_WANT && before.state != CARD_ONLINE)
        s->n = 0;
    s->out = event == CARD_DRAIN || (s->out && event != CARD_WANT && event != CARD_KEEP);
    CHECK_EQ(broken || (fault && within_a_minute(s, now) >= 10),
             fault && card->state == CARD_QUARANTINED);
    CHECK(before.state != CARD_QUARANTINED || event == CARD_WANT || event == CARD_DRAIN);
    CHECK(!s->out || !card_usable(card, UINT64_MAX));
    CHECK(card->n_history <= CARD_HISTORY_MAX && card->n_recent <= CARD_FAULTS_MOST);
    if (card->state == before.state)
        return;
    const struct card_change *last = &card->history[card->n_history - 1];
    CHECK_EQ(last->from, before.state);
    CHECK_EQ(last->to, card->state);
    CHECK_EQ(last->fault, fault);
    CHECK_EQ(card->since_ms, at(now).ms);
}

static void invariants_hold_on_a_long_walk(void) {
    for (uint32_t walk = 0; walk < 400; walk++) {
        struct shadow shadow = {0};
        struct card card;
        uint64_t now = 0;
        seed = walk;
        card_init(&card, "slot:cpu-3");
        for (int step = 0; step < 1000; step++) {
            now += draw(4) ? 0 : draw(walk % 2 ? 40 : 4);
            take_step(&card, &shadow, now);
        }
    }
}

CHECK_MAIN(T(every_transition_is_that_of_the_table),
           T(an_operators_word_needs_no_quiet_time_a_return_does),
           T(what_an_operator_took_out_does_not_come_back_by_itself),
           T(what_is_so_already_changes_nothing),
           T(ten_faults_in_a_minute_are_too_many_and_nine_are_not),
           T(a_harmed_card_is_used_on_until_it_was_harmed_too_often),
           T(a_restart_keeps_what_was_decided_and_tries_the_rest_again),
           T(a_restart_does_not_hide_a_flapping_card), T(names_are_found_again),
           T(invariants_hold_on_a_long_walk))
