/* SPDX-License-Identifier: Apache-2.0 */
/* Figures and verdicts of peer links: from a report, to the file, and to the next start. */
#include "daemon/service/box_links.h"

#include <errno.h>

#include "daemon/service/card_file.h"
#include "daemon/util/buffer.h"
#include "octarc/error.h"
#include "tests/check.h"

#define NOW 1764444444000u

static struct topology box;
static struct device_found found;
static struct selftest_report report;
static struct cards_known known, got;
static const box_identities identities = {"slot:0000:03:00.0", "slot:0000:04:00.0",
                                          "slot:0000:05:00.0"};

static void make(void) {
    uint64_t memory[CARDS_MAX] = {1 << 30, 1 << 30, 1 << 30};
    topology_plain(&box, 3, memory, 0);
    memset(&found, 0, sizeof found);
    memset(&report, 0, sizeof report);
    found.n_cards = report.found.n_cards = 3;
    for (uint32_t i = 0; i < 3; i++) {
        snprintf(box.cards[i].slot, sizeof box.cards[i].slot, "%s", identities[i] + 5);
        found.cards[i].memory_bytes = memory[i];
        snprintf(found.cards[i].id, sizeof found.cards[i].id, "id%u", i);
        /* The report numbers them the other way round. */
        snprintf(report.found.cards[2 - i].slot, sizeof found.cards[0].slot, "%s",
                 identities[i] + 5);
    }
    for (uint32_t reader = 0; reader < 3; reader++)
        for (uint32_t owner = 0; owner < 3; owner++)
            if (reader != owner)
                report.links[reader][owner] = (struct selftest_link){
                    .tried = true,
                    .direct = true,
                    .speed = {1000 * (10 * (2 - owner) + 2 - reader) + 1, 100 + owner}};
}

static void what_was_measured_is_that_of_the_cards_in_these_slots(void) {
    make();
    struct selftest_link *bad = &report.links[2 - 1][2 - 0]; /* card 1 takes what card 0 has */
    bad->direct = false;
    snprintf(bad->why, sizeof bad->why, "wrong");
    report.links[0][1].tried = false; /* card 2 takes what card 1 has */
    CHECK_EQ(box_links_take(&box, &report, NOW), 5);
    CHECK_EQ(box.links[2][0].bytes_per_s, 20001);
    CHECK_EQ(box.links[0][2].bytes_per_s, 2001);
    CHECK_EQ(box.links[0][2].latency_ns, 102);
    CHECK_EQ(box.links[0][2].measured_ms, NOW);
    CHECK(box.links[0][2].mode == LINK_DIRECT && !box.links[0][2].judged);
    CHECK(box.links[0][1].mode == LINK_STAGED && box.links[0][1].judged);
    CHECK(!strcmp(box.links[0][1].reason, "wrong"));
    CHECK_EQ(box.links[1][2].measured_ms, 0);
    CHECK_EQ(box.links[1][2].bytes_per_s, 0);
}

/* By the file, and to cards that have other numbers by then. */
static void what_is_known_is_known_after_a_restart(void) {
    static const box_identities turned = {"slot:0000:05:00.0", "slot:0000:03:00.0",
                                          "slot:0000:04:00.0"};
    struct buffer out = {0};
    struct err err = {{0}};
    make();
    snprintf(report.links[1][2].why, sizeof report.links[1][2].why, "wrong");
    CHECK_EQ(box_links_take(&box, &report, NOW), 6);
    known.links.measured_ms = NOW;
    snprintf(known.links.box, sizeof known.links.box, "a box");
    box_links_note(&box, identities, &known.links);
    CHECK_EQ(card_file_write(&known, &out), 0);
    if (card_file_read(&got, out.bytes, out.n, &err))
        printf("# %s\n", err.text);
    buffer_finish(&out);
    CHECK(!strcmp(got.links.box, "a box"));
    CHECK_EQ(got.links.n, 6);
    const struct topology before = box;
    make();
    CHECK(box_links_apply(&box, turned, &got.links));
    for (uint32_t a = 0; a < 3; a++)
        for (uint32_t b = 0; b < 3; b++) {
            const struct peer_link *was = &before.links[a][b],
                                   *is = &box.links[(a + 1) % 3][(b + 1) % 3];
            if (a == b)
                continue;
            CHECK_EQ(is->bytes_per_s, was->bytes_per_s);
            CHECK_EQ(is->latency_ns, was->latency_ns);
            CHECK_EQ(is->measured_ms, NOW);
            CHECK_EQ(is->mode, was->mode);
            CHECK_EQ(is->judged, was->judged);
        }
    CHECK(before.links[0][1].judged);
}

static void of_cards_that_are_not_known_nothing_is(void) {
    static const box_identities others = {"slot:0000:03:00.0", "slot:0000:44:00.0",
                                          "slot:0000:05:00.0"};
    make();
    box_links_take(&box, &report, NOW);
    box_links_note(&box, identities, &known.links);
    make();
    CHECK(!box_links_apply(&box, others, &known.links));
    CHECK(box.links[0][2].latency_ns && !box.links[0][1].latency_ns);
}

static void a_link_that_is_demoted_is_half_as_good_and_not_measured(void) {
    make();
    box_links_take(&box, &report, NOW);
    box_links_demote(&box.links[2][0], "it ends engines");
    CHECK_EQ(box.links[2][0].bytes_per_s, 10000);
    CHECK_EQ(box.links[2][0].latency_ns, 200);
    CHECK_EQ(box.links[2][0].measured_ms, 0);
    box_links_note(&box, identities, &known.links);
    const struct link_known *l = links_known_find(&known.links, identities[2], identities[0]);
    CHECK(l && l->latency_ns == 0 && !strcmp(l->why, "it ends engines"));
}

static void another_box_has_another_key(void) {
    char was[LINKS_BOX_MAX], key[LINKS_BOX_MAX];
    make();
    box_links_key(&box, &found, was);
    box_links_key(&box, &found, key);
    CHECK(!strcmp(was, key));
    for (int what = 0; what < 5; what++) {
        make();
        if (what == 0)
            found.cards[1].id[0] = 'x';
        if (what == 1)
            found.cards[2].memory_bytes++;
        if (what == 2)
            found.direct[0][2] = true;
        if (what == 3)
            box.n_cards = 2;
        if (what == 4)
            box.cards[0].slot[8] = '7';
        box_links_key(&box, &found, key);
        CHECK(strcmp(was, key) != 0);
    }
}

static void what_is_no_such_list_is_refused_with_its_place(void) {
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"{\"version\": 1, \"cards\": [], \"links\": []}", "links"},
        {"{\"version\": 1, \"cards\": [], \"links\": {\"box\": \"a\"}}", "links.measured_ms"},
        {"{\"version\": 1, \"cards\": [], \"links\": {\"box\": \"a\", \"measured_ms\": 1, "
         "\"pairs\": [{\"from\": \"a\"}]}}",
         "links.pairs[0].to"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        struct err err = {{0}};
        snprintf(text, sizeof text, "%s", cases[i].text);
        CHECK_EQ(card_file_read(&got, text, strlen(text), &err), -EINVAL);
        if (!strstr(err.text, cases[i].words))
            printf("# %s\n", err.text);
        CHECK(strstr(err.text, cases[i].words));
    }
}

CHECK_MAIN(T(what_was_measured_is_that_of_the_cards_in_these_slots),
           T(what_is_known_is_known_after_a_restart), T(of_cards_that_are_not_known_nothing_is),
           T(a_link_that_is_demoted_is_half_as_good_and_not_measured),
           T(another_box_has_another_key), T(what_is_no_such_list_is_refused_with_its_place))
