/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/trial.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "octarc/error.h"

#define PATTERN_BYTES (64u << 10)

struct trial {
    pid_t pid; /* 0: none runs */
    int fd;    /* what it says why the card cannot be used, until it ends */
    size_t n;  /* of that, so far */
};

/* ---- in the process that may be lost -------------------------------------------------------- */

static int write_and_read(const struct device_ops *ops, struct device *d, uint32_t card,
                          struct err *err) {
    static unsigned char wrote[PATTERN_BYTES], read_back[PATTERN_BYTES];
    for (uint32_t i = 0; i < PATTERN_BYTES; i++)
        wrote[i] = (unsigned char)(i * 2654435761u >> 24);
    int rc = ops->poke(d, card, 0, wrote, PATTERN_BYTES);
    if (!rc)
        rc = ops->peek(d, card, 0, read_back, PATTERN_BYTES);
    if (rc)
        return err_set(err, rc, "its memory cannot be used: %s", strerror(-rc));
    return memcmp(wrote, read_back, PATTERN_BYTES)
               ? err_set(err, -EIO, "what is written to its memory is not what is read from it")
               : 0;
}

static int try_card(const struct device_ops *ops, const struct device_options *all, uint32_t card,
                    struct err *err) {
    struct device_options o = *all;
    struct device *d = NULL;
    memset(o.present, 0, sizeof o.present);
    memset(o.host_bytes, 0, sizeof o.host_bytes);
    o.present[card] = true;
    o.max_rows = 1;
    int rc = ops->open(&d, &o, err);
    if (!rc)
        rc = ops->reserve(d, card, AREA_WEIGHTS, PATTERN_BYTES, PATTERN_BYTES, -1, err);
    if (!rc)
        rc = write_and_read(ops, d, card, err);
    if (d)
        ops->close(d);
    return rc;
}

static _Noreturn void run_trial(const struct device_ops *ops, const struct device_options *options,
                                uint32_t card, int fd) {
    struct err err = {{0}};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* One that cannot even be killed must hold nobody's channel open. */
    if (fd > STDERR_FILENO + 1)
        close_range(STDERR_FILENO + 1, (unsigned)fd - 1, 0);
    close_range((unsigned)fd + 1, ~0u, 0);
    const int rc = try_card(ops, options, card, &err);
    if (rc && write(fd, err.text, strlen(err.text)) < 0)
        _exit(2);
    _exit(rc != 0);
}

/* ---- in the engine -------------------------------------------------------------------------- */

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void start_trial(struct trial *t, const struct device_ops *ops,
                        const struct device_options *options, uint32_t card) {
    int ends[2];
    if (pipe(ends) < 0)
        return;
    const pid_t pid = fork();
    if (pid == 0)
        run_trial(ops, options, card, ends[1]);
    close(ends[1]);
    if (pid < 0)
        close(ends[0]);
    else
        *t = (struct trial){.pid = pid, .fd = ends[0]};
}

static void condemn(struct msg_tried *out, uint32_t card, const char *why) {
    out->cards |= 1u << card;
    snprintf(out->why[card], sizeof out->why[card], "%s", why);
}

/* It has closed its end, so it has ended, or will at once. */
static void take_end(struct trial *t, uint32_t card, struct msg_tried *out) {
    char text[TRIED_WHY_MAX];
    int status = 0;
    close(t->fd);
    while (waitpid(t->pid, &status, 0) < 0 && errno == EINTR)
        ;
    t->pid = 0;
    if (WIFSIGNALED(status))
        snprintf(text, sizeof text, "the driver ended the process that tried it: %s",
                 strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status))
        snprintf(text, sizeof text, "%s", out->why[card][0] ? out->why[card] : "it failed");
    else
        return;
    condemn(out, card, text);
}

static void hear(struct trial *t, uint32_t card, struct msg_tried *out) {
    char beyond[TRIED_WHY_MAX];
    char *const at = out->why[card] + t->n;
    const size_t room = sizeof out->why[card] - 1 - t->n;
    const ssize_t n = read(t->fd, room ? at : beyond, room ? room : sizeof beyond);
    if (n > 0 && room)
        t->n += (size_t)n;
    else if (n == 0 || (n < 0 && errno != EINTR))
        take_end(t, card, out);
}

/* Until all have ended, or for so long.  What was said so far ends with a NUL. */
static void hear_all(struct trial trials[CARDS_MAX], uint64_t until_ms, struct msg_tried *out) {
    for (uint64_t now = now_ms(); now < until_ms; now = now_ms()) {
        struct pollfd fds[CARDS_MAX];
        uint32_t running = 0;
        for (uint32_t i = 0; i < CARDS_MAX; i++) {
            fds[i] = (struct pollfd){.fd = trials[i].pid ? trials[i].fd : -1, .events = POLLIN};
            running += trials[i].pid != 0;
        }
        if (running == 0)
            return;
        const int n = poll(fds, CARDS_MAX, (int)(until_ms - now));
        for (uint32_t i = 0; n > 0 && i < CARDS_MAX; i++)
            if (fds[i].revents)
                hear(&trials[i], i, out);
    }
}

void trial_run(const struct device_ops *ops, const struct device_options *options,
               uint32_t silence_s, struct msg_tried *out) {
    struct trial trials[CARDS_MAX] = {{0}};
    const uint32_t limit_s = silence_s < TRIAL_S_MAX ? silence_s : TRIAL_S_MAX;
    for (uint32_t i = 0; i < options->n_cards; i++)
        if (options->present[i])
            start_trial(&trials[i], ops, options, i);
    hear_all(trials, now_ms() + (uint64_t)limit_s * 1000, out);
    for (uint32_t i = 0; i < CARDS_MAX; i++) {
        char why[TRIED_WHY_MAX];
        if (!trials[i].pid)
            continue;
        kill(trials[i].pid, SIGKILL);
        close(trials[i].fd);
        waitpid(trials[i].pid, NULL, WNOHANG); /* it may be stuck in the kernel */
        snprintf(why, sizeof why, "it was silent for %u s when it was tried", limit_s);
        condemn(out, i, why);
    }
}
