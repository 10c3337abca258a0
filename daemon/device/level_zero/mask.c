/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/level_zero/mask.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/util/log.h"

#define MASK  "ZE_AFFINITY_MASK"
#define ORDER "ZE_ENABLE_PCI_ID_DEVICE_ORDER"

#define BEFORE_MAX                                                                                 \
    1u              /* devices before the first card that nobody told of: a processor's graphics */
#define LEFT_MAX 3u /* cards left out, of which some may be gone; of more all are, or none */
#define LOOK_NS  5000000

enum verdict { RIGHT, WRONG, SILENT };

/* Among those that the driver may show; addresses are written so that their texts are in order. */
static uint32_t rank_of(const struct device_options *o, uint32_t card, uint32_t there) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < o->n_cards; i++)
        n += there >> i & 1 && strcmp(o->slots[i], o->slots[card]) < 0;
    return n;
}

static void write_mask(const struct device_options *o, uint32_t there, uint32_t before,
                       char out[64]) {
    int n = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < o->n_cards; i++)
        if (o->present[i])
            n += snprintf(out + n, 64 - (size_t)n, "%s%u", n ? "," : "",
                          before + rank_of(o, i, there));
}

static _Noreturn void look(const struct device_options *o) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* One that cannot even be killed must hold nobody's channel open. */
    close_range(STDERR_FILENO + 1, ~0u, 0);
    _exit(!level_zero_shows(o));
}

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* What a process that has this environment sees; one that the driver ended sees too much. */
static enum verdict ask(const struct device_options *o) {
    const uint64_t until = now_ms() + MASK_TRIAL_S * UINT64_C(1000);
    const struct timespec pause = {.tv_nsec = LOOK_NS};
    int status = 0;
    const pid_t pid = fork();
    if (pid == 0)
        look(o);
    while (pid > 0 && now_ms() < until) {
        const pid_t ended = waitpid(pid, &status, WNOHANG);
        if (ended == pid)
            return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? RIGHT : WRONG;
        nanosleep(&pause, NULL);
    }
    if (pid > 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, WNOHANG); /* it may be stuck in the kernel */
    }
    return SILENT;
}

/* Beside those that are present, the cards of `left` are there. */
static enum verdict guess(const struct device_options *o, uint32_t left) {
    uint32_t there = left;
    enum verdict is = WRONG;
    for (uint32_t i = 0; i < o->n_cards; i++)
        there |= o->present[i] ? 1u << i : 0;
    for (uint32_t before = 0; before <= BEFORE_MAX && is == WRONG; before++) {
        char mask[64];
        write_mask(o, there, before, mask);
        setenv(MASK, mask, 1);
        is = ask(o);
    }
    return is;
}

/* All that are left out are there, or gone, or some of them are. */
static enum verdict guess_all(const struct device_options *o, uint32_t left) {
    enum verdict is = guess(o, left);
    if (is == WRONG)
        is = guess(o, 0);
    if (__builtin_popcount(left) > (int)LEFT_MAX)
        return is;
    for (uint32_t some = (left - 1) & left; some && is == WRONG; some = (some - 1) & left)
        is = guess(o, some);
    return is;
}

/* Nobody can tell where the address of a card is not known.  What an operator has set is left as it
 * is. */
void mask_hide(const struct device_options *o) {
    const bool ordered = getenv(ORDER);
    uint32_t left = 0;
    for (uint32_t i = 0; i < o->n_cards; i++) {
        left |= o->present[i] ? 0 : 1u << i;
        if (!o->slots[i][0])
            return;
    }
    if (!left || getenv(MASK))
        return;
    setenv(ORDER, "1", 1);
    if (guess_all(o, left) == RIGHT)
        return;
    unsetenv(MASK);
    if (!ordered)
        unsetenv(ORDER);
    log_warning("cards that are not used cannot be hidden from their driver, which may open them: "
                "it does not number its devices by their PCI addresses, or is silent");
}
