/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim_level_zero/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim_level_zero/control.h"

#define WORD_MAX 4096

static const char blanks[] = " \t\n,";

bool sim_size_read(const char *text, char **end, uint64_t *out) {
    uint64_t n = strtoull(text, end, 0);
    if (*end == text)
        return false;
    for (unsigned shift = 0; shift <= 30; shift += 10)
        if (shift && **end == " KMG"[shift / 10]) {
            n <<= shift;
            (*end)++;
            break;
        }
    *out = n;
    return true;
}

/* One size for all cards, or one each parted by '/'. */
static bool set_memory(struct sim_options *o, const char *value) {
    char *end = NULL;
    for (unsigned i = 0; i < SIM_CARDS_MAX; i++) {
        if (!sim_size_read(value, &end, &o->memory_bytes[i]))
            return false;
        if (*end != '/') {
            for (unsigned k = i + 1; k < SIM_CARDS_MAX; k++)
                o->memory_bytes[k] = o->memory_bytes[i];
            return !*end;
        }
        value = end + 1;
    }
    return false;
}

/* all, none, or pairs A>B parted by '/': card A reaches the memory of card B. */
static bool set_p2p(struct sim_options *o, const char *value) {
    const bool all = !strcmp(value, "all");
    for (unsigned a = 0; a < SIM_CARDS_MAX; a++)
        for (unsigned b = 0; b < SIM_CARDS_MAX; b++)
            o->reaches[a][b] = all || a == b;
    if (all || !strcmp(value, "none"))
        return true;
    for (;; value += 4) {
        const unsigned a = (unsigned)(value[0] - '0');
        if (a >= SIM_CARDS_MAX || value[1] != '>')
            return false;
        const unsigned b = (unsigned)(value[2] - '0');
        if (b >= SIM_CARDS_MAX)
            return false;
        o->reaches[a][b] = true;
        if (value[3] != '/')
            return !value[3];
    }
}

static bool set_number(const char *value, uint64_t least, uint64_t most, uint64_t *out) {
    char *end = NULL;
    const uint64_t n = strtoull(value, &end, 0);
    if (!*value || *end || n < least || n > most)
        return false;
    *out = n;
    return true;
}

static bool set_choice(const char *value, const char *yes, const char *no, bool *out) {
    *out = !strcmp(value, yes);
    return *out || !strcmp(value, no);
}

static bool set_xmx(struct sim_options *o, const char *value) {
    static const char *const names[SIM_XMX_COUNT] = {"yes", "no", "narrow", "claimed", "refused"};
    for (int i = 0; i < SIM_XMX_COUNT; i++)
        if (!strcmp(value, names[i])) {
            o->xmx = (enum sim_xmx)i;
            return true;
        }
    return false;
}

/* Three numbers, of ten bits, eight and six. */
static bool set_ip(struct sim_options *o, const char *value) {
    unsigned family = 0, release = 0, revision = 0;
    char more = 0;
    if (sscanf(value, "%u.%u.%u%c", &family, &release, &revision, &more) != 3 || family > 1023 ||
        release > 255 || revision > 63)
        return false;
    o->ip = family << 22 | release << 14 | revision;
    return true;
}

static bool set_word(struct sim_options *o, const char *key, const char *value) {
    uint64_t n = 0;
    if (!strcmp(key, "cards")) {
        const bool ok = set_number(value, 0, SIM_CARDS_MAX, &n);
        o->n_cards = ok ? (unsigned)n : o->n_cards;
        return ok;
    }
    if (!strcmp(key, "version")) {
        const bool ok = !strncmp(value, "1.", 2) && set_number(value + 2, 0, 15, &n);
        o->minor = ok ? (unsigned)n : o->minor;
        return ok;
    }
    if (!strcmp(key, "system")) {
        const bool ok = set_number(value, 0, 15, &n);
        o->system = ok ? (unsigned)n : o->system;
        return ok;
    }
    if (!strcmp(key, "ordinal")) {
        const bool ok = set_number(value, 0, 9, &n);
        o->ordinal = ok ? (unsigned)n : o->ordinal;
        return ok;
    }
    if (!strcmp(key, "seed"))
        return set_number(value, 0, UINT64_MAX, &o->seed);
    if (!strcmp(key, "memory"))
        return set_memory(o, value);
    if (!strcmp(key, "p2p"))
        return set_p2p(o, value);
    if (!strcmp(key, "xmx"))
        return set_xmx(o, value);
    if (!strcmp(key, "ip"))
        return set_ip(o, value);
    if (!strcmp(key, "images"))
        return set_choice(value, "refused", "taken", &o->strange);
    if (!strcmp(key, "faults"))
        return snprintf(o->faults, sizeof o->faults, "%s", value) < SIM_PATH_MAX;
    if (!strcmp(key, "counters"))
        return snprintf(o->counters, sizeof o->counters, "%s", value) < SIM_PATH_MAX;
    if (!strcmp(key, "box"))
        return !strchr(value, '/') &&
               snprintf(o->box, sizeof o->box, "%s", value) < (int)sizeof o->box;
    if (!strcmp(key, "start"))
        return set_choice(value, "wait", "append", &o->lazy);
    if (!strcmp(key, "order"))
        return set_choice(value, "any", "append", &o->shuffled);
    return false;
}

int sim_options_read(struct sim_options *options, struct sim_control *control, const char *text,
                     const char **bad) {
    struct sim_options made = {.n_cards = 8, .minor = 4, .lazy = true, .shuffled = true};
    set_memory(&made, "1G");
    set_p2p(&made, "all");
    set_ip(&made, "20.1.0");
    char word[WORD_MAX];
    for (const char *p = text ? text : ""; *(p += strspn(p, blanks));) {
        const size_t length = strcspn(p, blanks);
        *bad = p;
        if (length >= sizeof word)
            return -EINVAL;
        memcpy(word, p, length);
        word[length] = '\0';
        char *equals = strchr(word, '=');
        if (!equals)
            return -EINVAL;
        *equals = '\0';
        if (!set_word(&made, word, equals + 1) && !sim_control_word(control, word, equals + 1))
            return -EINVAL;
        p += length;
    }
    *options = made;
    return 0;
}
