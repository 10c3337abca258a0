/* SPDX-License-Identifier: Apache-2.0 */
/* The rule by which memory is short, what is read for it, and where. */
#include "daemon/service/pressure.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/service/pressure_source.h"
#include "octarc/error.h"
#include "tests/check.h"

#define SECOND UINT64_C(1000000000)
#define MIB    (UINT64_C(1) << 20)

static const struct pressure_rules rules = {.stall_percent = 10,
                                            .least_bytes = 256 * MIB,
                                            .quiet_ns = 30 * SECOND,
                                            .wait_ns = 100 * SECOND};
static const struct pressure_sample calm = {.stall_percent = 9.99, .available_bytes = 256 * MIB};

/* --- the rule --- */

static void each_sign_alone_begins_it(void) {
    const struct pressure_sample signs[] = {
        {.stalled = true, .available_bytes = 256 * MIB},
        {.stall_percent = 10, .available_bytes = 256 * MIB},
        {.available_bytes = 256 * MIB - 1},
    };
    for (size_t i = 0; i < 3; i++) {
        struct pressure p = {0};
        CHECK_EQ(pressure_judge(&p, &calm, &rules, SECOND), PRESSURE_SAME);
        CHECK_EQ(pressure_judge(&p, &signs[i], &rules, 2 * SECOND), PRESSURE_BEGINS);
        CHECK(p.pressed && p.puts_off);
        CHECK_EQ(p.since_ns, 2 * SECOND);
        CHECK_EQ(pressure_judge(&p, &signs[i], &rules, 3 * SECOND), PRESSURE_SAME);
    }
}

static void it_ends_when_it_was_quiet_for_long_enough(void) {
    const struct pressure_sample sign = {.stalled = true, .available_bytes = UINT64_MAX};
    struct pressure p = {0};
    CHECK_EQ(pressure_judge(&p, &sign, &rules, SECOND), PRESSURE_BEGINS);
    CHECK_EQ(pressure_judge(&p, &calm, &rules, 30 * SECOND), PRESSURE_SAME);
    CHECK_EQ(pressure_judge(&p, &sign, &rules, 31 * SECOND), PRESSURE_SAME); /* anew */
    CHECK_EQ(pressure_judge(&p, &calm, &rules, 61 * SECOND - 1), PRESSURE_SAME);
    CHECK_EQ(pressure_judge(&p, &calm, &rules, 61 * SECOND), PRESSURE_ENDS);
    CHECK(!p.pressed && !p.puts_off);
    CHECK_EQ(pressure_judge(&p, &sign, &rules, 62 * SECOND), PRESSURE_BEGINS);
    CHECK_EQ(p.since_ns, 62 * SECOND);
}

static void work_is_not_put_off_for_ever(void) {
    const struct pressure_sample sign = {.available_bytes = 0};
    struct pressure p = {0};
    CHECK_EQ(pressure_judge(&p, &sign, &rules, SECOND), PRESSURE_BEGINS);
    CHECK_EQ(pressure_judge(&p, &sign, &rules, 101 * SECOND - 1), PRESSURE_SAME);
    CHECK(p.puts_off);
    CHECK_EQ(pressure_judge(&p, &sign, &rules, 101 * SECOND), PRESSURE_LASTS);
    CHECK(p.pressed && !p.puts_off);
    CHECK_EQ(pressure_judge(&p, &sign, &rules, 300 * SECOND), PRESSURE_SAME); /* once */
    CHECK_EQ(pressure_judge(&p, &calm, &rules, 330 * SECOND), PRESSURE_ENDS);

    struct pressure_rules never = rules;
    never.wait_ns = 0;
    CHECK_EQ(pressure_judge(&p, &sign, &never, 400 * SECOND), PRESSURE_BEGINS);
    CHECK(p.pressed && !p.puts_off);
    CHECK_EQ(pressure_judge(&p, &sign, &never, 900 * SECOND), PRESSURE_SAME);
}

/* --- what is read --- */

static double percent_of(const char *text) {
    double percent = -1;
    const int rc = pressure_read(text, strlen(text), &percent);
    CHECK(rc == 0 || (rc == -EBADMSG && percent == -1));
    return percent;
}

static void the_kernels_text_is_read(void) {
    CHECK_EQ(100 * percent_of("some avg10=12.34 avg60=1.00 avg300=0.20 total=500\n"
                              "full avg10=99.00 avg60=0.00 avg300=0.00 total=100\n"),
             1234);
    CHECK_EQ(percent_of("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"), 0);
    CHECK_EQ(percent_of("some avg10=100.00 avg60="), 100);
    /* Of tasks that all stall it is not asked; and nothing is taken for it by chance. */
    static const char *const bad[] = {"",
                                      "some",
                                      "some avg10=",
                                      "some avg10=7",
                                      "some avg10=x.1",
                                      "some avg10=-1.0",
                                      "some avg10=100.01",
                                      "some avg60=1.00\nfull avg10=2.00",
                                      "full avg10=2.00",
                                      "some avg10=99999999999999999999999999999999999.0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_EQ(percent_of(bad[i]), -1);
    double percent = -1;
    CHECK_EQ(pressure_read("some avg10=1.00 ", 12, &percent), -EBADMSG); /* cut */
}

static void base64_is_decoded_or_refused(void) {
    char out[16];
    size_t n = 99;
    CHECK_EQ(pressure_decode("c29tZSAyMDAwMAA=", out, sizeof out, &n), 0);
    CHECK(n == 11 && !memcmp(out, "some 20000", 11));
    CHECK_EQ(pressure_decode("", out, sizeof out, &n), 0);
    CHECK_EQ(n, 0);
    CHECK_EQ(pressure_decode("/+8=", out, sizeof out, &n), 0);
    CHECK(n == 2 && !memcmp(out, "\xff\xef", 2));
    CHECK_EQ(pressure_decode("AAAA", out, 3, &n), 0);
    CHECK_EQ(pressure_decode("AAAA", out, 2, &n), -E2BIG);
    static const char *const bad[] = {"A", "AAA", "AA-A", "A===", "====", "AA=A", "AAAA\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_EQ(pressure_decode(bad[i], out, sizeof out, &n), -EBADMSG);
}

/* --- where --- */

static uv_loop_t loop;
static struct pressure_source source;
static uint32_t n_told;

static void on_told(void *user) {
    CHECK(user == &source);
    n_told++;
}

static int open_source(const char *where, struct err *err) {
    n_told = 0;
    CHECK_EQ(uv_loop_init(&loop), 0);
    return pressure_source_open(&source, &loop, where, 10, on_told, &source, err);
}

static void close_source(void) {
    if (source.fd >= 0)
        uv_close((uv_handle_t *)&source.poll, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    pressure_source_finish(&source);
    CHECK_EQ(uv_loop_close(&loop), 0);
}

static void put(const char *path, const char *text) {
    FILE *file = fopen(path, "we");
    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

static const char *folder_of(char *folder) {
    strcpy(folder, "/tmp/octarc-pressure-XXXXXX");
    CHECK(mkdtemp(folder));
    return folder;
}

/* As systemd does it with a socket or a fifo: it writes, whenever memory is short. */
static void a_fifo_is_watched_as_systemd_says(void) {
    char folder[64], path[128];
    struct pressure_sample sample;
    snprintf(path, sizeof path, "%s/watch", folder_of(folder));
    CHECK_EQ(mkfifo(path, 0600), 0);
    setenv("MEMORY_PRESSURE_WATCH", path, 1);
    CHECK_EQ(open_source("auto", NULL), 0);
    pressure_source_sample(&source, &sample);
    CHECK(!sample.stalled && sample.available_bytes > 0);
    for (uint32_t round = 1; round <= 2; round++) {
        const int fd = open(path, O_WRONLY | O_NONBLOCK); /* and closed again: no end is read */
        CHECK(fd >= 0 && write(fd, "pressed\n", 8) == 8 && close(fd) == 0);
        while (n_told < round)
            uv_run(&loop, UV_RUN_ONCE);
        pressure_source_sample(&source, &sample);
        CHECK(sample.stalled);
        CHECK_EQ(uv_run(&loop, UV_RUN_NOWAIT), 1);
        CHECK_EQ(n_told, round); /* all of it was taken */
        pressure_source_sample(&source, &sample);
        CHECK(!sample.stalled);
    }
    close_source();
    unlink(path);
    rmdir(folder);
}

static void what_systemd_wants_written_is_written(void) {
    char folder[64], path[128], text[64] = "";
    snprintf(path, sizeof path, "%s/watch", folder_of(folder));
    put(path, "some avg10=55.00 avg60=0.00 avg300=0.00 total=1\n");
    setenv("MEMORY_PRESSURE_WATCH", path, 1);
    setenv("MEMORY_PRESSURE_WRITE", "c29tZSAyMDAwMAA=", 1);
    CHECK_EQ(open_source("auto", NULL), 0);
    close_source();
    const int fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && read(fd, text, sizeof text) > 11 && close(fd) == 0);
    CHECK(!memcmp(text, "some 20000", 11));
    unlink(path);
    rmdir(folder);
}

static void a_file_that_is_named_is_read_each_time(void) {
    char folder[64], path[128], next[128];
    struct pressure_sample sample;
    snprintf(path, sizeof path, "%s/memory", folder_of(folder));
    snprintf(next, sizeof next, "%s/next", folder);
    put(path, "some avg10=3.00 avg60=0.00 avg300=0.00 total=1\n");
    CHECK_EQ(open_source(path, NULL), 0);
    pressure_source_sample(&source, &sample);
    CHECK_EQ(sample.stall_percent, 3);
    put(next, "some avg10=40.00 avg60=0.00 avg300=0.00 total=2\n");
    CHECK_EQ(rename(next, path), 0);
    pressure_source_sample(&source, &sample);
    CHECK_EQ(sample.stall_percent, 40);
    CHECK_EQ(unlink(path), 0); /* what says nothing is no sign */
    pressure_source_sample(&source, &sample);
    CHECK_EQ(sample.stall_percent, 0);
    close_source();
    rmdir(folder);
}

/* By an operator: what systemd names is left for the kernel's own. */
static void what_cannot_be_watched_is_refused_by_name(void) {
    struct err err = {{0}};
    CHECK_EQ(open_source("/nonexistent/memory", &err), -ENOENT);
    CHECK(strstr(err.text, "/nonexistent/memory"));
    close_source();
    setenv("MEMORY_PRESSURE_WATCH", "/nonexistent/watch", 1);
    CHECK_EQ(open_source("auto", &err), 0);
    CHECK(!source.off && strcmp(source.path, "/nonexistent/watch") != 0);
    close_source();
    setenv("MEMORY_PRESSURE_WATCH", "/proc/self/stat", 1);
    setenv("MEMORY_PRESSURE_WRITE", "x", 1);
    CHECK_EQ(open_source("auto", &err), 0);
    CHECK(strcmp(source.path, "/proc/self/stat") != 0);
    close_source();
    setenv("MEMORY_PRESSURE_WATCH", "/dev/null", 1);
    CHECK_EQ(open_source("auto", &err), 0);
    CHECK(source.off && source.fd < 0 && !source.path[0]);
    close_source();
}

static void the_kernels_own_file_is_found(void) {
    struct pressure_sample sample;
    if (access("/proc/pressure/memory", R_OK) < 0)
        SKIP("this kernel has no pressure stall information");
    unsetenv("MEMORY_PRESSURE_WATCH");
    CHECK_EQ(open_source("auto", NULL), 0);
    CHECK(strstr(source.path, "memory"));
    pressure_source_sample(&source, &sample);
    CHECK(sample.stall_percent >= 0 && sample.stall_percent <= 100);
    close_source();
}

CHECK_MAIN(T(each_sign_alone_begins_it), T(it_ends_when_it_was_quiet_for_long_enough),
           T(work_is_not_put_off_for_ever), T(the_kernels_text_is_read),
           T(base64_is_decoded_or_refused), T(a_fifo_is_watched_as_systemd_says),
           T(what_systemd_wants_written_is_written), T(a_file_that_is_named_is_read_each_time),
           T(what_cannot_be_watched_is_refused_by_name), T(the_kernels_own_file_is_found))
