/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim_level_zero/control.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/sim_level_zero/sim.h"

#define FILE_MAX 65536

/* CARD, or CARD@COUNT. */
static bool read_count(const char *value, uint64_t *counts, uint64_t otherwise) {
    const unsigned card = (unsigned)(value[0] - '0');
    char *end = NULL;
    uint64_t n = otherwise;
    if (card >= SIM_CARDS_MAX || (value[1] && value[1] != '@'))
        return false;
    if (value[1]) {
        if (!sim_size_read(value + 2, &end, &n) || *end)
            return false;
    }
    counts[card] = n;
    return n != 0;
}

static bool read_card(const char *value, bool *which) {
    const unsigned card = (unsigned)(value[0] - '0');
    if (card >= SIM_CARDS_MAX || value[1])
        return false;
    which[card] = true;
    return true;
}

/* An end of a path: a card, or h for the host. */
static unsigned end_of(char c) {
    return c == 'h' ? SIM_HOST : (unsigned)(c - '0');
}

static bool read_path(const char *value, unsigned *from, unsigned *to) {
    *from = end_of(value[0]);
    if (*from > SIM_HOST || value[1] != '>')
        return false;
    *to = end_of(value[2]);
    return *to <= SIM_HOST && !value[3];
}

static bool set_path(struct sim_control *c, const char *key, const char *value) {
    unsigned from = 0, to = 0;
    if (!read_path(value, &from, &to))
        return false;
    const bool lies = !strcmp(key, "ones") || !strcmp(key, "stale");
    if (lies)
        c->lies[from][to] = !strcmp(key, "ones") ? SIM_ONES : SIM_STALE;
    if (lies || from == SIM_HOST || to == SIM_HOST)
        return lies;
    (strcmp(key, "claim") ? c->slow : c->claimed)[from][to] = true;
    return true;
}

static bool set_import(struct sim_control *c, const char *key, const char *value) {
    bool which[SIM_CARDS_MAX] = {false};
    if (!read_card(value, which))
        return false;
    c->imports[value[0] - '0'] = !strcmp(key, "wiped") ? SIM_ONES : SIM_STALE;
    return true;
}

bool sim_control_word(struct sim_control *c, const char *key, const char *value) {
    if (!strcmp(key, "lose"))
        return read_count(value, c->lose_in, SIM_NOW);
    if (!strcmp(key, "hang"))
        return read_count(value, c->hang_in, SIM_NOW);
    if (!strcmp(key, "keep"))
        return read_count(value, c->keep_in, 1);
    if (!strcmp(key, "limit"))
        return read_count(value, c->memory_bytes, 0);
    if (!strcmp(key, "degrees"))
        return read_count(value, c->degrees, 0);
    if (!strcmp(key, "abort"))
        return read_card(value, c->polled_aborts);
    if (!strcmp(key, "touchy"))
        return read_card(value, c->opened_aborts);
    if (!strcmp(key, "sleepy"))
        return read_card(value, c->opened_hangs);
    if (!strcmp(key, "broken"))
        return read_card(value, c->broken);
    if (!strcmp(key, "deaf"))
        return read_card(value, c->deaf);
    if (!strcmp(key, "noexport"))
        return read_card(value, c->keeps_in);
    if (!strcmp(key, "noimport"))
        return read_card(value, c->keeps_out);
    if (!strcmp(key, "leaves"))
        return read_card(value, c->leaves);
    if (!strcmp(key, "wiped") || !strcmp(key, "old"))
        return set_import(c, key, value);
    if (!strcmp(key, "ones") || !strcmp(key, "stale") || !strcmp(key, "claim") ||
        !strcmp(key, "slow"))
        return set_path(c, key, value);
    static const char *const starts[] = {"", "error", "crash", "hang"};
    for (int i = SIM_START_FAILS; i <= SIM_START_HANGS; i++)
        if (!strcmp(key, "init") && !strcmp(value, starts[i])) {
            c->start = (enum sim_start)i;
            return true;
        }
    return false;
}

static void read_words(char *text) {
    char *rest = NULL;
    for (char *word = strtok_r(text, " \t\n,", &rest); word;
         word = strtok_r(NULL, " \t\n,", &rest)) {
        char *equals = strchr(word, '=');
        if (equals)
            *equals = '\0';
        if (!equals || !sim_control_word(&sim.control, word, equals + 1))
            sim_misuse("%s: '%s' is not understood", sim.options.faults, word);
    }
}

void sim_control_apply(void) {
    for (unsigned i = 0; i < sim.options.n_cards; i++) {
        if (sim.control.lose_in[i] == SIM_NOW) {
            sim.control.lose_in[i] = 0;
            sim_lose(&sim.cards[i], "it fell off the bus", true);
        }
        if (sim.control.hang_in[i] == SIM_NOW) {
            sim.control.hang_in[i] = 0;
            sim.cards[i].hung = true;
        }
    }
}

bool sim_control_count(uint64_t *count) {
    return *count && *count != SIM_NOW && !--*count;
}

void sim_control_poll(void) {
    static struct stat before;
    struct stat now = {0};
    char text[FILE_MAX];
    if (!*sim.options.faults)
        return;
    const bool there = !stat(sim.options.faults, &now);
    if (now.st_ino == before.st_ino && now.st_size == before.st_size &&
        now.st_mtim.tv_sec == before.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == before.st_mtim.tv_nsec)
        return;
    before = now;
    sim.control = sim.base;
    const int fd = there ? open(sim.options.faults, O_RDONLY | O_CLOEXEC) : -1;
    const ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    read_words(text);
    sim_control_apply();
    pthread_cond_broadcast(&sim.changed);
}
