/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/state.h"

#include <errno.h>
#include <sys/stat.h>

#include "octarc/error.h"
#include "tests/check.h"

static struct {
    uv_loop_t loop;
    char dir[64];
} w;

static char *file(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", w.dir, name);
    return path;
}

static void make_world(void) {
    snprintf(w.dir, sizeof w.dir, "/tmp/octarc-state-XXXXXX");
    CHECK(mkdtemp(w.dir));
    CHECK_EQ(uv_loop_init(&w.loop), 0);
    unsetenv("STATE_DIRECTORY");
}

static void remove_world(void) {
    static const char *const names[] = {STATE_FILE, STATE_FILE ".new", STATE_FILE ".damaged"};
    for (int i = 0; i < 3; i++)
        unlink(file(names[i]));
    CHECK_EQ(rmdir(w.dir), 0);
    CHECK_EQ(uv_loop_close(&w.loop), 0);
}

static struct card card_named(const char *identity, enum card_state state) {
    struct card card;
    card_init(&card, identity);
    card.state = state;
    return card;
}

static void write_text(const char *text) {
    FILE *f = fopen(file(STATE_FILE), "w");
    CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void what_was_saved_last_is_there_again(void) {
    struct state s;
    struct stat st;
    make_world();
    CHECK_EQ(state_open(&s, &w.loop, w.dir, NULL), 0);
    state_load(&s);
    CHECK(!state_find(&s, "slot:cpu-1"));
    for (int i = 0; i < 50; i++) { /* most of them while the first is being written */
        const struct card card = card_named(i % 2 ? "slot:cpu-1" : "slot:cpu-0",
                                            (enum card_state)(i % CARD_STATE_COUNT));
        state_save(&s, &card);
    }
    uv_run(&w.loop, UV_RUN_DEFAULT);
    state_finish(&s);
    CHECK_EQ(stat(file(STATE_FILE), &st), 0);
    CHECK_EQ(st.st_mode & 0777, 0600);
    CHECK(stat(file(STATE_FILE ".new"), &st) < 0);

    CHECK_EQ(state_open(&s, &w.loop, w.dir, NULL), 0);
    state_load(&s);
    CHECK_EQ(state_find(&s, "slot:cpu-0")->state, 48 % CARD_STATE_COUNT);
    CHECK_EQ(state_find(&s, "slot:cpu-1")->state, 49 % CARD_STATE_COUNT);
    state_finish(&s);
    remove_world();
}

static void a_damaged_file_is_moved_aside_and_the_next_one_is_good(void) {
    static const char *const damaged[] = {"", "{\"version\": 1, \"cards\": [", "\177ELF", "[1]"};
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        struct state s;
        struct stat st;
        make_world();
        write_text(damaged[i]);
        CHECK_EQ(state_open(&s, &w.loop, w.dir, NULL), 0);
        state_load(&s);
        CHECK(stat(file(STATE_FILE), &st) < 0);
        CHECK_EQ(stat(file(STATE_FILE ".damaged"), &st), 0);
        CHECK_EQ(st.st_size, strlen(damaged[i]));
        const struct card card = card_named("slot:cpu-0", CARD_QUARANTINED);
        state_save(&s, &card);
        uv_run(&w.loop, UV_RUN_DEFAULT);
        state_finish(&s);
        CHECK_EQ(state_open(&s, &w.loop, w.dir, NULL), 0);
        state_load(&s);
        CHECK_EQ(state_find(&s, "slot:cpu-0")->state, CARD_QUARANTINED);
        state_finish(&s);
        remove_world();
    }
}

static void the_key_goes_before_systemd_and_without_both_nothing_is_kept(void) {
    struct state s;
    struct err err = {{0}};
    char below[128];
    make_world();
    CHECK_EQ(state_open(&s, &w.loop, "", &err), 0);
    CHECK(!s.kept);
    const struct card card = card_named("slot:cpu-0", CARD_LOST);
    state_load(&s);
    state_save(&s, &card);
    CHECK_EQ(uv_run(&w.loop, UV_RUN_DEFAULT), 0);
    state_finish(&s);

    snprintf(below, sizeof below, "%s:/nonexistent", w.dir);
    setenv("STATE_DIRECTORY", below, 1);
    CHECK_EQ(state_open(&s, &w.loop, "", &err), 0);
    CHECK(s.kept && !strcmp(s.dir, w.dir));
    state_finish(&s);
    snprintf(below, sizeof below, "%s/made", w.dir);
    CHECK_EQ(state_open(&s, &w.loop, below, &err), 0);
    CHECK(!strcmp(s.dir, below));
    state_finish(&s);
    CHECK_EQ(rmdir(below), 0);
    CHECK_EQ(state_open(&s, &w.loop, "/nonexistent/dir", &err), -ENOENT);
    CHECK(strstr(err.text, "/nonexistent/dir"));
    state_finish(&s);
    write_text("x");
    CHECK_EQ(state_open(&s, &w.loop, file(STATE_FILE), &err), -ENOTDIR);
    state_finish(&s);
    remove_world();
}

static void a_file_that_cannot_be_written_stops_nothing(void) {
    struct state s;
    struct stat st;
    make_world();
    CHECK_EQ(state_open(&s, &w.loop, w.dir, NULL), 0);
    CHECK_EQ(mkdir(file(STATE_FILE ".new"), 0700), 0);
    const struct card card = card_named("slot:cpu-0", CARD_LOST);
    state_save(&s, &card);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    CHECK(s.failed && stat(file(STATE_FILE), &st) < 0);
    CHECK_EQ(rmdir(file(STATE_FILE ".new")), 0);
    state_save(&s, &card);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    CHECK(!s.failed && stat(file(STATE_FILE), &st) == 0);
    state_finish(&s);
    remove_world();
}

CHECK_MAIN(T(what_was_saved_last_is_there_again),
           T(a_damaged_file_is_moved_aside_and_the_next_one_is_good),
           T(the_key_goes_before_systemd_and_without_both_nothing_is_kept),
           T(a_file_that_cannot_be_written_stops_nothing))
