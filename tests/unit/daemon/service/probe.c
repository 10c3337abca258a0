/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/probe.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>

#include "octarc/error.h"
#include "tests/check.h"

static char script[64];

/* A probe that is a shell script: it answers on its descriptor 3. */
static void fork_spawner(struct spawner *spawner, const char *body) {
    struct err err;
    snprintf(script, sizeof script, "/tmp/octarc-probe-%d", (int)getpid());
    FILE *file = fopen(script, "we");
    CHECK(file && fprintf(file, "#!/bin/sh\n%s\n", body) > 0 && fclose(file) == 0);
    CHECK_EQ(chmod(script, 0700), 0);
    setenv("OCTARC_ENGINE", script, 1);
    CHECK_EQ(spawner_fork(spawner, &err), 0);
}

static struct probe_report report;

static void make_report(void) {
    report = (struct probe_report){.magic = PROBE_MAGIC,
                                   .bytes = sizeof report,
                                   .version = OCTARC_VERSION,
                                   .driver.libraries = {.loader = true, .driver = true},
                                   .box = {.release = "7.2.13",
                                           .kernel_major = 7,
                                           .kernel_minor = 2,
                                           .has_dri = true,
                                           .n_cards = 2}};
    for (int i = 0; i < 2; i++) {
        struct drm_card *c = &report.box.cards[i];
        *c = (struct drm_card){.vendor = 0x8086,
                               .device = 0xe211,
                               .name = "Intel Arc Pro B60",
                               .driver = "xe",
                               .xe2 = true,
                               .numa = -1,
                               .iommu_group = -1,
                               .vram_bytes = UINT64_C(24) << 30,
                               .bar_bytes = UINT64_C(32) << 30,
                               .survivability = DRM_UNKNOWN,
                               .sensors = {.power_most_uw = -1, .energy_uj = -1}};
        snprintf(c->slot, sizeof c->slot, "0000:0%d:00.0", 3 + i);
        snprintf(c->render, sizeof c->render, "/dev/dri/renderD%d", 128 + i);
    }
}

/* The answer as a script would give it, out of a file. */
static int ask(const char *body, size_t n, struct probe_report *answer, struct err *err) {
    struct spawner spawner;
    char path[64], text[512];
    snprintf(path, sizeof path, "/tmp/octarc-report-%d", (int)getpid());
    FILE *file = fopen(path, "we");
    CHECK(file && fwrite(&report, 1, n, file) == n && fclose(file) == 0);
    snprintf(text, sizeof text, body, path);
    fork_spawner(&spawner, text);
    const int rc = probe_ask(&spawner, 60, answer, err);
    spawner_stop(&spawner);
    unlink(path);
    unlink(script);
    return rc;
}

static void an_answer_is_taken_as_it_was_given(void) {
    static struct probe_report answer;
    struct err err = {{0}};
    make_report();
    CHECK_EQ(ask("[ \"$1 $2\" = '--probe 3' ] && cat %s >&3", sizeof report, &answer, &err), 0);
    CHECK(!memcmp(&answer, &report, sizeof answer));
}

static void what_is_no_answer_is_refused_by_its_reason(void) {
    static const struct {
        const char *body;
        int rc;
        const char *why;
    } table[] = {
        {"exit 5 # %s", -EPIPE, "status 5"},
        {"kill -SEGV $$ # %s", -EPIPE, "signal 11"},
        {": # %s", -EPROTO, "(0 bytes)"},
        {"head -c 100 %s >&3", -EPROTO, "(100 bytes)"},
        {"cat %s >&3; exit 1", -EPIPE, "status 1"}, /* it said all, and fell over it */
        {"echo nonsense nonsense >&3 # %s", -EPROTO, "not a report"},
        {"cat %1$s %1$s >&3", -EPROTO, "more than a report"},
        {"while :; do cat %s || exit; done >&3", -EPROTO, "more than a report"},
    };
    static struct probe_report answer;
    make_report();
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct err err = {{0}};
        answer.magic = 7;
        CHECK_EQ(ask(table[i].body, sizeof report, &answer, &err), table[i].rc);
        CHECK(strstr(err.text, table[i].why));
        CHECK_EQ(answer.magic, 7);
    }
}

static void another_version_is_named(void) {
    static struct probe_report answer;
    struct err err = {{0}};
    make_report();
    snprintf(report.version, sizeof report.version, "0.0.1");
    CHECK_EQ(ask("cat %s >&3", sizeof report, &answer, &err), -EPROTO);
    CHECK(strstr(err.text, "version 0.0.1") && strstr(err.text, OCTARC_VERSION));
}

/* Whatever it does, it is waited for only so long, and ended. */
static void one_that_does_not_answer_is_ended(void) {
    static const char *const bodies[] = {
        "trap '' TERM INT; echo $$ > %s; exec sleep 1000",
        "echo $$ > %s; exec 3>&-; exec sleep 1000", /* it says nothing more */
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        static struct probe_report answer;
        struct spawner spawner;
        struct err err = {{0}};
        char path[64], text[256];
        int pid = 0;
        snprintf(path, sizeof path, "/tmp/octarc-pid-%d", (int)getpid());
        snprintf(text, sizeof text, bodies[i], path);
        fork_spawner(&spawner, text);
        CHECK_EQ(probe_ask(&spawner, 3, &answer, &err), -ETIMEDOUT);
        CHECK(strstr(err.text, "3 s (key probe_silence)"));
        FILE *file = fopen(path, "re");
        CHECK(!file || (fscanf(file, "%d", &pid) == 1 && fclose(file) == 0));
        /* Without a pid the machine was too busy to run it at all. */
        for (int wait = 0; pid && kill(pid, 0) == 0; wait++) {
            CHECK(wait < 6000);
            usleep(10000);
        }
        spawner_stop(&spawner);
        unlink(path);
        unlink(script);
    }
}

static void one_that_cannot_be_started_is_told(void) {
    static struct probe_report answer;
    struct spawner spawner;
    struct err err = {{0}};
    setenv("OCTARC_ENGINE", "/nonexistent/octarc-engine", 1);
    CHECK_EQ(spawner_fork(&spawner, &err), 0);
    CHECK_EQ(probe_ask(&spawner, 60, &answer, &err), -EPIPE);
    CHECK(strstr(err.text, "status 127"));
    spawner_stop(&spawner);
}

static void a_report_that_was_tampered_with_stays_within_bounds(void) {
    struct err err;
    struct buffer out = {0};
    make_report();
    memset(&report.box, 0xff, sizeof report.box); /* no text ends, no count is true */
    memset(&report.driver.libraries.why, 'x', sizeof report.driver.libraries.why);
    report.driver.libraries.loader = report.driver.libraries.driver = true;
    for (int i = 0; i < DRM_CARDS_MAX; i++)
        report.box.cards[i].xe2 = true;
    report.box.has_dri = report.box.more = true;
    CHECK_EQ(probe_accept(&report, sizeof report, &err), 0);
    CHECK_EQ(report.box.n_cards, DRM_CARDS_MAX);
    CHECK_EQ(probe_text(&report, &out), 0);
    CHECK_EQ(probe_json(&report, &out), 0);
    buffer_finish(&out);
}

static bool says(const struct buffer *out, const char *text) {
    return memmem(out->bytes, out->n, text, strlen(text));
}

static void people_read_each_card_and_what_to_do(void) {
    struct buffer out = {0};
    make_report();
    report.box.cards[0].numa = 1;
    report.box.cards[0].link = (struct drm_link){.generation = 5, .lanes = 8};
    report.box.cards[0].sensors =
        (struct drm_sensors){1, {{"pkg", 46000}}, 200000000, 5}; /* and energy */
    report.box.cards[1].render_error = -EACCES;
    snprintf(report.box.cards[1].render_group, 32, "render");
    CHECK_EQ(probe_text(&report, &out), 0);
    CHECK(says(&out, "kernel 7.2.13, Level Zero: loader found, driver found\n"));
    CHECK(says(&out, "   0  0000:03:00.0  Intel Arc Pro B60  xe         24.0 GiB  5.0 x8      1  "
                     "/dev/dri/renderD128   usable\n"));
    CHECK(says(&out, "card 0: pkg 46.0 °C, at most 200 W\n"));
    CHECK(says(&out, "missing: card 1 (0000:04:00.0): no permission on /dev/dri/renderD129\n"
                     "         usermod -aG render octarc"));
    CHECK(says(&out, "1 of 2 cards can be used.\n"));
    buffer_finish(&out);
}

static void versions_are_named_where_they_are_known(void) {
    struct buffer out = {0}, json = {0};
    struct device_found *d = &report.driver.cards;
    make_report();
    d->driver_version = 1u << 24 | 6u << 16 | 33578;
    snprintf(d->api, sizeof d->api, "1.13");
    snprintf(d->loader, sizeof d->loader, "1.22.4");
    snprintf(report.box.cards[1].firmware.guc, DRM_VERSION_MAX, "70.44.1");
    snprintf(report.box.cards[1].firmware.fan, DRM_VERSION_MAX, "203.0.0.0");
    CHECK_EQ(probe_text(&report, &out), 0);
    CHECK(says(&out, "driver 1.6.33578 (17204010), Level Zero 1.13, loader 1.22.4; xe ?\n"));
    CHECK(says(&out, "card 0: firmware GuC ?, HuC ? (root is shown it, in debugfs)\n"));
    CHECK(says(&out, "card 1: firmware GuC 70.44.1, HuC ?, fan 203.0.0.0\n"));
    CHECK_EQ(probe_json(&report, &json), 0);
    CHECK(says(&json, "\"driver_version\": 17204010") && says(&json, "\"api\": \"1.13\""));
    CHECK(says(&json, "\"loader_version\": \"1.22.4\"") && says(&json, "\"xe\": null"));
    CHECK(says(&json, "\"firmware\": {\"guc\": null, \"huc\": null"));
    CHECK(says(&json, "\"firmware\": {\"guc\": \"70.44.1\", \"huc\": null, \"fan_control\": "
                      "\"203.0.0.0\", \"voltage_regulator\": null}"));
    buffer_finish(&out);
    buffer_finish(&json);
}

/* Of what Level Zero finds, in whatever order, each by its slot. */
static void what_kernels_a_card_would_have_is_told(void) {
    struct buffer out = {0}, json = {0};
    struct device_found *d = &report.driver.cards;
    make_report();
    *d = (struct device_found){
        .n_cards = 2,
        .cards = {{.slot = "0000:09:00.0", .xmx = true, .native = true},
                  {.slot = "0000:04:00.0", .xmx_why = "no engine", .native_why = "no images"}}};
    CHECK_EQ(probe_text(&report, &out), 0);
    CHECK(says(&out, "card 1: products dp4a: no engine, kernels spirv: no images\n"));
    CHECK(!says(&out, "card 0: products"));
    CHECK_EQ(probe_json(&report, &json), 0);
    CHECK(says(&json, "\"products\": null, \"products_why\": null, \"kernels\": null, "
                      "\"kernels_why\": null"));
    CHECK(says(&json, "\"products\": \"dp4a\", \"products_why\": \"no engine\", \"kernels\": "
                      "\"spirv\", \"kernels_why\": \"no images\""));
    snprintf(d->cards[0].slot, sizeof d->cards[0].slot, "0000:03:00.0");
    CHECK_EQ(probe_text(&report, &out), 0);
    CHECK(says(&out, "card 0: products xmx, kernels native\n"));
    CHECK_EQ(probe_json(&report, &json), 0);
    CHECK(says(&json, "\"products\": \"xmx\", \"products_why\": null, \"kernels\": \"native\", "
                      "\"kernels_why\": null"));
    memset(d->cards[0].xmx_why, 'x', sizeof d->cards[0].xmx_why); /* no text ends */
    memset(d->cards[0].native_why, 'x', sizeof d->cards[0].native_why);
    struct err err;
    CHECK_EQ(probe_accept(&report, sizeof report, &err), 0);
    CHECK_EQ(strlen(d->cards[0].xmx_why), DEVICE_XMX_WHY - 1);
    CHECK_EQ(strlen(d->cards[0].native_why), DEVICE_NATIVE_WHY - 1);
    buffer_finish(&out);
    buffer_finish(&json);
}

static void scripts_read_null_where_something_is_unknown(void) {
    struct buffer out = {0};
    make_report();
    CHECK_EQ(probe_json(&report, &out), 0);
    CHECK(says(&out, "\"numa\": null") && says(&out, "\"survivability\": null"));
    CHECK(says(&out, "\"generation\": null") && says(&out, "\"power_most_w\": null"));
    CHECK(says(&out, "\"usable\": 2") && says(&out, "\"memory_bytes\": 25769803776"));
    CHECK(out.bytes[out.n - 1] == '\n' && !memchr(out.bytes, '\n', out.n - 1));
    buffer_finish(&out);
}

CHECK_MAIN(T(an_answer_is_taken_as_it_was_given), T(what_is_no_answer_is_refused_by_its_reason),
           T(another_version_is_named), T(one_that_does_not_answer_is_ended),
           T(one_that_cannot_be_started_is_told),
           T(a_report_that_was_tampered_with_stays_within_bounds),
           T(people_read_each_card_and_what_to_do), T(versions_are_named_where_they_are_known),
           T(what_kernels_a_card_would_have_is_told),
           T(scripts_read_null_where_something_is_unknown))
