/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/card_file.h"

#include <errno.h>

#include "daemon/util/buffer.h"
#include "octarc/error.h"
#include "tests/check.h"

static const struct card_rules rules = {.quiet_ns = 1, .faults_max = 10};
static uint64_t seed = 1;

static uint32_t draw(uint32_t n) {
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed >> 33) % n;
}

static struct card wander(const char *identity, int steps) {
    struct card card;
    card_init(&card, identity);
    for (int i = 0; i < steps; i++) {
        const struct card_time now = {.ns = 10u + (uint64_t)i, .ms = 1700000000000u + (uint64_t)i};
        char why[CARD_WHY_MAX];
        for (size_t k = 0; k < sizeof why - 1; k++)
            why[k] = (char)draw(256);
        why[draw(sizeof why)] = 0;
        why[sizeof why - 1] = 0;
        card_apply(&card, 0, (enum card_event)draw(CARD_EVENT_COUNT), why, &now, &rules, NULL);
    }
    return card;
}

static int read_text(struct cards_known *known, const char *text, struct err *err) {
    char *copy = strdup(text);
    const int rc = card_file_read(known, copy, strlen(copy), err);
    free(copy);
    return rc;
}

/* Whatever is in the texts: bytes that are none become '?', the rest comes back as it was. */
static void what_is_written_is_read_again(void) {
    static struct cards_known known, got;
    for (int round = 0; round < 200; round++) {
        struct buffer out = {0};
        struct err err = {{0}};
        known.n = 0;
        for (uint32_t i = draw(CARDS_KNOWN_MAX + 1); i > 0; i--) {
            char identity[32];
            snprintf(identity, sizeof identity, "uuid:%u", i);
            const struct card card = wander(identity, (int)draw(60));
            cards_known_put(&known, &card);
        }
        CHECK_EQ(card_file_write(&known, &out), 0);
        if (card_file_read(&got, out.bytes, out.n, &err) < 0)
            printf("# %s\n", err.text);
        CHECK(!err.text[0]);
        CHECK_EQ(got.n, known.n);
        for (uint32_t i = 0; i < known.n; i++) {
            const struct card *a = &known.cards[i], *b = &got.cards[i];
            CHECK(!strcmp(a->identity.text, b->identity.text));
            CHECK_EQ(a->state, b->state);
            CHECK_EQ(a->since_ms, b->since_ms);
            CHECK(!memcmp(a->faults, b->faults, sizeof a->faults));
            CHECK_EQ(a->n_history, b->n_history);
            for (uint32_t k = 0; k < a->n_history; k++) {
                const struct card_change *x = &a->history[k], *y = &b->history[k];
                CHECK(x->ms == y->ms && x->from == y->from && x->to == y->to);
                CHECK_EQ(x->fault, y->fault);
                CHECK_EQ(strlen(x->why), strlen(y->why));
                for (size_t c = 0; x->why[c]; c++)
                    CHECK(x->why[c] == y->why[c] || y->why[c] == '?');
            }
        }
        buffer_finish(&out);
    }
}

static void a_card_under_another_number_keeps_its_history(void) {
    static struct cards_known known, got;
    struct buffer out = {0};
    struct card card = wander("uuid:8086e211-0001", 40);
    card.faults[CARD_FAULT_LOST] = 77;
    cards_known_put(&known, &card);
    const struct card other = wander("slot:cpu-0", 10);
    cards_known_put(&known, &other);
    CHECK_EQ(card_file_write(&known, &out), 0);
    CHECK_EQ(card_file_read(&got, out.bytes, out.n, NULL), 0);
    buffer_finish(&out);
    /* It is found by what it is, wherever it is plugged in now. */
    const struct card *found = cards_known_find(&got, "uuid:8086e211-0001");
    CHECK(found);
    CHECK_EQ(found->faults[CARD_FAULT_LOST], 77);
    CHECK_EQ(found->n_history, card.n_history);
    CHECK(!cards_known_find(&got, "slot:cpu-1"));
}

static void the_one_not_seen_for_the_longest_makes_room(void) {
    static struct cards_known known;
    char identity[32];
    for (int i = 0; i < CARDS_KNOWN_MAX; i++) {
        snprintf(identity, sizeof identity, "serial:%d", i);
        const struct card card = wander(identity, 0);
        cards_known_put(&known, &card);
    }
    const struct card again = wander("serial:0", 0), fresh = wander("serial:new", 0);
    cards_known_put(&known, &again); /* seen again: the oldest is now 1 */
    CHECK_EQ(known.n, CARDS_KNOWN_MAX);
    cards_known_put(&known, &fresh);
    CHECK_EQ(known.n, CARDS_KNOWN_MAX);
    CHECK(cards_known_find(&known, "serial:0") && cards_known_find(&known, "serial:new"));
    CHECK(!cards_known_find(&known, "serial:1") && cards_known_find(&known, "serial:2"));
}

#define CARD "{\"identity\": \"slot:cpu-0\", \"state\": \"lost\", \"since_ms\": 1, \"history\": []}"
#define CHANGE(x)                                                                                  \
    "{\"version\": 1, \"cards\": [{\"identity\": \"a\", \"state\": \"lost\", \"since_ms\": 1, "    \
    "\"history\": [" x "]}]}"

static void what_is_no_such_file_is_refused_with_its_place(void) {
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"", "byte"},
        {"[]", "object"},
        {"{\"cards\": []}", "version"},
        {"{\"version\": 2, \"cards\": []}", "version"},
        {"{\"version\": 1}", "cards"},
        {"{\"version\": 1, \"cards\": {}}", "cards"},
        {"{\"version\": 1, \"cards\": [7]}", "cards"},
        {"{\"version\": 1, \"cards\": [], \"more\": 1}", "more"},
        {"{\"version\": 1, \"cards\": [" CARD ", " CARD "]}", "second time"},
        {"{\"version\": 1, \"cards\": [{\"state\": \"lost\", \"since_ms\": 1, \"history\": []}]}",
         "cards[0].identity"},
        {"{\"version\": 1, \"cards\": [{\"identity\": \"a\", \"state\": \"asleep\", \"since_ms\": "
         "1, "
         "\"history\": []}]}",
         "cards[0].state"},
        {"{\"version\": 1, \"cards\": [{\"identity\": \"a\", \"state\": \"lost\", \"since_ms\": "
         "-1, "
         "\"history\": []}]}",
         "cards[0].since_ms"},
        {CHANGE("{\"at_ms\": 1, \"from\": \"lost\"}"), "cards[0].history[0].to"},
        {CHANGE("{\"at_ms\": \"x\", \"from\": \"lost\", \"to\": \"online\"}"),
         "cards[0].history[0].at_ms"},
        {"{\"version\": 1, \"cards\": [" CARD "]", "byte"},
    };
    static struct cards_known known, before;
    const struct card card = wander("slot:cpu-7", 5);
    cards_known_put(&known, &card);
    before = known;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {{0}};
        CHECK(read_text(&known, cases[i].text, &err) < 0);
        if (!strstr(err.text, cases[i].words))
            printf("# '%s': '%s' lacks '%s'\n", cases[i].text, err.text, cases[i].words);
        CHECK(strstr(err.text, cases[i].words));
        CHECK(!memcmp(&known, &before, sizeof known));
    }
    CHECK_EQ(read_text(&known, "{\"version\": 1, \"cards\": [" CARD "]}", NULL), 0);
    CHECK_EQ(known.n, 1);
    CHECK_EQ(known.cards[0].state, CARD_LOST);
}

CHECK_MAIN(T(what_is_written_is_read_again), T(a_card_under_another_number_keeps_its_history),
           T(the_one_not_seen_for_the_longest_makes_room),
           T(what_is_no_such_file_is_refused_with_its_place))
