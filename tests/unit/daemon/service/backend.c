/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/backend.h"

#include <errno.h>

#include "octarc/error.h"
#include "tests/check.h"

static struct probe_report report;
static struct config config;
static struct backend backend;
static struct err err;

/* A machine with one card, of which nothing is missing. */
static void make(enum backend_choice choice) {
    config_default(&config);
    config.backend = choice;
    report = (struct probe_report){.driver.libraries = {.loader = true, .driver = true},
                                   .box = {.n_cards = 1, .has_dri = true}};
    report.box.cards[0] = (struct drm_card){
        .slot = "0000:03:00.0", .vendor = 0x8086, .driver = "xe", .render = "/dev/dri/renderD128"};
    report.driver.cards.n_cards = 1;
    snprintf(report.driver.cards.cards[0].slot, sizeof report.driver.cards.cards[0].slot,
             "0000:03:00.0");
    backend = (struct backend){.name = "none"};
}

static int judge(const struct probe_report *known) {
    return backend_judge(&backend, &config, known, "nobody answered", &err);
}

static void simulated_cards_are_wanted_and_no_fallback(void) {
    make(BACKEND_AUTO);
    CHECK(backend_asks(&config));
    config.cards_given = true;
    CHECK(!backend_asks(&config));
    CHECK_EQ(judge(NULL), 0);
    CHECK(!strcmp(backend.name, "cpu") && !backend.why[0]);
    make(BACKEND_AUTO);
    snprintf(config.topology, sizeof config.topology, "box.json");
    CHECK(!backend_asks(&config));
    make(BACKEND_AUTO);
    config.card_memory.n = 1;
    CHECK(!backend_asks(&config));
    make(BACKEND_CPU);
    CHECK(!backend_asks(&config));
    CHECK_EQ(judge(NULL), 0);
    CHECK(!backend.why[0]);
    make(BACKEND_LEVEL_ZERO);
    config.cards_given = true;
    CHECK(backend_asks(&config));
}

static void the_cpu_takes_the_place_of_cards_that_cannot_be_used_and_says_why(void) {
    make(BACKEND_AUTO);
    report.box.cards[0].render_error = -EACCES;
    report.driver.cards.n_cards = 0;
    CHECK_EQ(judge(&report), 0);
    CHECK(!strcmp(backend.name, "cpu"));
    CHECK(
        !strncmp(backend.why, "0000:03:00.0: no permission on /dev/dri/renderD128 (no group", 60));
    make(BACKEND_AUTO);
    report.box.n_cards = report.driver.cards.n_cards = 0;
    CHECK_EQ(judge(&report), 0);
    CHECK(!strcmp(backend.why, "there is no graphics card"));
    make(BACKEND_AUTO);
    CHECK_EQ(judge(NULL), 0);
    CHECK(!strcmp(backend.why, "nobody answered"));
    make(BACKEND_AUTO);
    snprintf(report.error, sizeof report.error, "cannot read /sys");
    report.driver.cards.n_cards = 0;
    CHECK_EQ(judge(&report), 0);
    CHECK(!strcmp(backend.why, "cannot read /sys"));
}

static void cards_that_are_insisted_on_are_an_error_that_names_what_is_missing(void) {
    make(BACKEND_LEVEL_ZERO);
    report.driver.libraries =
        (struct missing_libraries){.why = "libze_loader.so.1: cannot open shared object file"};
    report.driver.cards.n_cards = 0;
    CHECK_EQ(judge(&report), -ENOTSUP);
    CHECK(strstr(err.text, "backend = level_zero") && strstr(err.text, "libze_loader.so.1"));
    CHECK(!strcmp(backend.name, "none"));
    CHECK(judge(NULL) < 0 && strstr(err.text, "nobody answered"));
}

static void cards_that_could_be_used_are_not_passed_over_in_silence(void) {
    make(BACKEND_AUTO);
    CHECK_EQ(judge(&report), 0);
    CHECK(!strcmp(backend.name, "cpu"));
    CHECK(!strncmp(backend.why, "1 card could be used, but ", 26));
}

static void cards_that_are_insisted_on_are_taken(void) {
    if (!device_backend("level_zero"))
        SKIP("the level_zero backend is not built in");
    make(BACKEND_LEVEL_ZERO);
    CHECK_EQ(judge(&report), 0);
    CHECK(!strcmp(backend.name, "level_zero") && backend.ops == device_backend("level_zero"));
    CHECK_EQ(backend.cards.n_cards, 1);
    CHECK(!strcmp(backend.cards.cards[0].slot, "0000:03:00.0"));
    report.driver.cards.n_cards = 0;
    snprintf(report.driver.libraries.none, sizeof report.driver.libraries.none,
             "zeDeviceGet: the card is lost");
    CHECK_EQ(judge(&report), -ENOTSUP);
    CHECK(strstr(err.text, "zeDeviceGet: the card is lost"));
    /* One of several that can be used is enough. */
    make(BACKEND_LEVEL_ZERO);
    report.driver.cards.n_cards = 2;
    snprintf(report.driver.cards.cards[0].why, DEVICE_REFUSED_WHY, "it is gone");
    CHECK_EQ(judge(&report), 0);
    CHECK_EQ(backend.cards.n_cards, 2);
    snprintf(report.driver.cards.cards[1].why, DEVICE_REFUSED_WHY, "it is gone, too");
    CHECK_EQ(judge(&report), -ENOTSUP);
}

CHECK_MAIN(T(simulated_cards_are_wanted_and_no_fallback),
           T(the_cpu_takes_the_place_of_cards_that_cannot_be_used_and_says_why),
           T(cards_that_are_insisted_on_are_an_error_that_names_what_is_missing),
           T(cards_that_could_be_used_are_not_passed_over_in_silence),
           T(cards_that_are_insisted_on_are_taken))
