/* SPDX-License-Identifier: Apache-2.0 */
/* probe_cards.c - which cards the libraries cannot use, though the kernel has nothing against them.
 *
 * A driver opens every card that it sees, and one of them may end it, or keep it for ever: then
 * nothing is heard of the others.  So each is shown to a process that sees no other. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/device/drm/known.h"
#include "daemon/engine/probe.h"
#include "octarc/error.h"

#define CARD_S  (PROBE_LIBRARY_S + 2) /* to hide the others takes one that is silent the first */
#define LOOK_NS 5000000

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* What a driver says as it ends was heard once, when it was asked for all cards, and so was what is
 * to be seen in its core: the guesses at how a card is shown alone end it a dozen times. */
static void be_quiet(void) {
    const struct rlimit none = {0};
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (null >= 0)
        dup2(null, STDERR_FILENO);
    setrlimit(RLIMIT_CORE, &none);
}

/* A process that ends with 0 where it sees this card and can use it. */
static pid_t show(const struct device_options *o, uint32_t card) {
    const pid_t pid = fork();
    if (pid != 0)
        return pid;
    const struct device_ops *backend = device_backend("level_zero");
    struct device_options one = *o;
    struct device_found found = {0};
    struct err ignored;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* One that cannot even be killed must not hold the report's descriptor open. */
    close_range(STDERR_FILENO + 1, ~0u, 0);
    be_quiet();
    memset(one.present, 0, sizeof one.present);
    one.present[card] = true;
    backend->hide(&one);
    _exit(backend->probe(&found, &ignored) < 0 || found.n_cards != 1 ||
          strcasecmp(found.cards[0].slot, o->slots[card]) != 0);
}

/* Whether it has ended; why[0] then says what became of it, if it was not well. */
static bool has_ended(pid_t pid, char why[MISSING_REFUSED_MAX]) {
    int status = 0;
    const pid_t ended = waitpid(pid, &status, WNOHANG);
    if (ended == 0 || (ended < 0 && errno == EINTR))
        return false;
    if (ended == pid && WIFSIGNALED(status))
        snprintf(why, MISSING_REFUSED_MAX,
                 "the driver ended the process that it was shown to alone: %s",
                 strsignal(WTERMSIG(status)));
    else if (ended != pid || status)
        snprintf(why, MISSING_REFUSED_MAX, "the driver does not show it");
    return true;
}

static void show_each(const struct device_options *o, char why[][MISSING_REFUSED_MAX]) {
    const uint64_t until = now_ms() + CARD_S * UINT64_C(1000);
    const struct timespec pause = {.tv_nsec = LOOK_NS};
    pid_t pids[CARDS_MAX];
    uint32_t left = 0;
    for (uint32_t i = 0; i < o->n_cards; i++) {
        pids[i] = show(o, i);
        if (pids[i] > 0)
            left |= 1u << i;
        else
            snprintf(why[i], MISSING_REFUSED_MAX, "no process to show it to");
    }
    while (left && now_ms() < until) {
        for (uint32_t i = 0; i < o->n_cards; i++)
            if (left >> i & 1 && has_ended(pids[i], why[i]))
                left &= ~(1u << i);
        nanosleep(&pause, NULL);
    }
    for (uint32_t i = 0; i < o->n_cards; i++) {
        if (!(left >> i & 1))
            continue;
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, WNOHANG); /* it may be stuck in the kernel */
        snprintf(why[i], MISSING_REFUSED_MAX, "the driver was silent for %d s, shown it alone",
                 CARD_S);
    }
}

void probe_one_by_one(struct probe_driver *driver, const struct drm_box *box) {
    const struct device_ops *backend = device_backend("level_zero");
    char why[CARDS_MAX][MISSING_REFUSED_MAX] = {{0}};
    struct device_options o = {0};
    uint32_t of[CARDS_MAX], n_good = 0;
    for (uint32_t i = 0; i < box->n_cards && o.n_cards < CARDS_MAX; i++) {
        if (!missing_usable(&box->cards[i]))
            continue;
        of[o.n_cards] = i;
        snprintf(o.slots[o.n_cards++], sizeof o.slots[0], "%s", box->cards[i].slot);
    }
    if (!backend || !backend->hide || o.n_cards < 2)
        return; /* there is none to tell from another */
    show_each(&o, why);
    for (uint32_t i = 0; i < o.n_cards; i++)
        n_good += o.present[i] = !why[i][0];
    struct probe_driver made;
    if (n_good > 0)
        probe_libraries(&made, &o);
    if (n_good == 0 || device_usable(&made.cards) == 0)
        return;
    *driver = made;
    for (uint32_t i = 0; i < o.n_cards; i++)
        memcpy(driver->libraries.refused[of[i]], why[i], sizeof why[i]);
}

static int by_slot(const void *a, const void *b) {
    const __typeof__(((struct device_found *)0)->cards[0]) *x = a, *y = b;
    return strcasecmp(x->slot, y->slot);
}

/* What the kernel knows of one that says nothing itself: of its memory a driver takes a share. */
static void describe(struct device_found *found, uint32_t at, const struct drm_card *c) {
    const struct known_card *known = known_find(c->device);
    __typeof__(&found->cards[0]) made = &found->cards[at];
    snprintf(made->name, sizeof made->name, "%s", c->name);
    snprintf(made->slot, sizeof made->slot, "%s", c->slot);
    made->memory_bytes = c->vram_bytes - c->vram_bytes / 16;
    made->bytes_per_s = known ? known->gb_s * UINT64_C(1000000000) : 0;
    made->int8_ops_per_s = known ? known->tops * UINT64_C(1000000000000) : 0;
}

static uint32_t find(const struct device_found *found, const char *slot) {
    uint32_t i = 0;
    while (i < found->n_cards && strcasecmp(found->cards[i].slot, slot) != 0)
        i++;
    return i;
}

/* Which card can read which is by number, and numbers change. */
static void sort(struct device_found *found) {
    const struct device_found before = *found;
    qsort(found->cards, found->n_cards, sizeof found->cards[0], by_slot);
    for (uint32_t i = 0; i < found->n_cards; i++)
        for (uint32_t k = 0; k < found->n_cards; k++)
            found->direct[i][k] = before.direct[find(&before, found->cards[i].slot)]
                                               [find(&before, found->cards[k].slot)];
}

/* What keeps a card from the libraries that octarc would have, as far as the kernel tells: its text
 * in `why`.  One that another driver has, or none that octarc knows, is none of its cards. */
static bool is_kept_back(const struct drm_box *box, uint32_t card, char why[MISSING_REFUSED_MAX]) {
    const struct drm_card *c = &box->cards[card];
    const struct missing_libraries both = {.loader = true, .driver = true};
    struct missing found[MISSING_MAX];
    const size_t n = missing_find(box, &both, found);
    if (c->vendor != DRM_VENDOR_INTEL || !c->name[0] || (c->driver[0] && strcmp(c->driver, "xe")))
        return false;
    for (size_t i = 0; i < n; i++)
        if (found[i].weight == MISSING_BLOCKS && found[i].card == (int32_t)card) {
            snprintf(why, MISSING_REFUSED_MAX, "%.*s", MISSING_REFUSED_MAX - 1, found[i].what);
            return true;
        }
    return false;
}

void probe_compare(struct probe_driver *driver, const struct drm_box *box) {
    struct device_found *found = &driver->cards;
    struct missing_libraries *l = &driver->libraries;
    for (uint32_t i = 0; i < box->n_cards; i++) {
        const struct drm_card *c = &box->cards[i];
        const uint32_t at = find(found, c->slot);
        char why[MISSING_REFUSED_MAX] = "";
        if (at < found->n_cards)
            memcpy(why, found->cards[at].why, sizeof why);
        else if (!missing_usable(c) && !is_kept_back(box, i, why))
            continue;
        else if (!why[0])
            snprintf(why, sizeof why, "%s",
                     l->refused[i][0] ? l->refused[i] : "the driver does not show it");
        if (!why[0] || at == CARDS_MAX)
            continue; /* it can be used; or there are more than octarc uses */
        memcpy(l->refused[i], why, sizeof why);
        if (at == found->n_cards)
            memset(&found->cards[found->n_cards++], 0, sizeof found->cards[0]);
        describe(found, at, c);
        memcpy(found->cards[at].why, why, sizeof why);
    }
    sort(found);
}
