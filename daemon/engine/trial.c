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
#define AT_ONCE       CARDS_MAX /* processes */

/* One process: a card by itself, or a reader and the owner of what it reads. */
struct trial {
    uint32_t reader, owner; /* the same: a card by itself */
    pid_t pid;              /* 0: none runs */
    int fd;                 /* what it says why not, until it ends */
    size_t n;               /* of that, so far */
    bool failed;
    char why[TRIED_WHY_MAX];
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

/* Of all links only the one that is tried is direct. */
static int try_it(const struct trial_options *options, const struct trial *t, struct err *err) {
    const struct device_ops *ops = options->ops;
    struct device_options o = options->device;
    struct device *d = NULL;
    memset(o.present, 0, sizeof o.present);
    memset(o.host_bytes, 0, sizeof o.host_bytes);
    memset(o.staged, 0xff, sizeof o.staged);
    o.present[t->reader] = o.present[t->owner] = true;
    o.max_rows = 1;
    if (t->reader != t->owner)
        o.staged[t->reader] &= ~(1u << t->owner);
    int rc = ops->open(&d, &o, err);
    if (!rc && t->reader == t->owner)
        rc = ops->reserve(d, t->reader, AREA_WEIGHTS, PATTERN_BYTES, PATTERN_BYTES, -1, err);
    if (!rc && t->reader == t->owner)
        rc = write_and_read(ops, d, t->reader, err);
    if (d)
        ops->close(d);
    return rc;
}

static _Noreturn void run_trial(const struct trial_options *options, const struct trial *t,
                                int fd) {
    struct err err = {{0}};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* One that cannot even be killed must hold nobody's channel open. */
    if (fd > STDERR_FILENO + 1)
        close_range(STDERR_FILENO + 1, (unsigned)fd - 1, 0);
    close_range((unsigned)fd + 1, ~0u, 0);
    const int rc = try_it(options, t, &err);
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

static void start_trial(struct trial *t, const struct trial_options *options) {
    int ends[2];
    if (pipe(ends) < 0)
        return;
    const pid_t pid = fork();
    if (pid == 0)
        run_trial(options, t, ends[1]);
    close(ends[1]);
    t->pid = pid > 0 ? pid : 0;
    t->fd = ends[0];
    if (pid < 0)
        close(ends[0]);
}

/* It has closed its end, so it has ended, or will at once. */
static void take_end(struct trial *t) {
    int status = 0;
    close(t->fd);
    while (waitpid(t->pid, &status, 0) < 0 && errno == EINTR)
        ;
    t->pid = 0;
    t->failed = status != 0;
    if (WIFSIGNALED(status))
        snprintf(t->why, sizeof t->why, "the driver ended the process that tried it: %s",
                 strsignal(WTERMSIG(status)));
    else if (t->failed && !t->why[0])
        snprintf(t->why, sizeof t->why, "it failed, and did not say why");
}

static void hear(struct trial *t) {
    char beyond[TRIED_WHY_MAX];
    const size_t room = sizeof t->why - 1 - t->n;
    const ssize_t n = read(t->fd, room ? t->why + t->n : beyond, room ? room : sizeof beyond);
    if (n > 0 && room)
        t->n += (size_t)n;
    else if (n == 0 || (n < 0 && errno != EINTR))
        take_end(t);
}

/* Until all have ended, or until then. */
static void hear_all(struct trial trials[AT_ONCE], uint64_t until_ms) {
    for (uint64_t now = now_ms(); now < until_ms; now = now_ms()) {
        struct pollfd fds[AT_ONCE];
        uint32_t running = 0;
        for (uint32_t i = 0; i < AT_ONCE; i++) {
            fds[i] = (struct pollfd){.fd = trials[i].pid ? trials[i].fd : -1, .events = POLLIN};
            running += trials[i].pid != 0;
        }
        if (running == 0)
            return;
        const int n = poll(fds, AT_ONCE, (int)(until_ms - now));
        for (uint32_t i = 0; n > 0 && i < AT_ONCE; i++)
            if (fds[i].revents)
                hear(&trials[i]);
    }
}

static void end_silent(struct trial *t, uint32_t limit_s) {
    if (!t->pid)
        return;
    kill(t->pid, SIGKILL);
    close(t->fd);
    waitpid(t->pid, NULL, WNOHANG); /* it may be stuck in the kernel */
    t->failed = true;
    snprintf(t->why, sizeof t->why, "it was silent for %u s when it was tried", limit_s);
}

static void tell(const struct trial *t, struct msg_tried *out) {
    if (!t->failed)
        return;
    if (t->reader == t->owner)
        out->cards |= 1u << t->reader;
    else
        out->links[t->reader] |= 1u << t->owner;
    snprintf(out->why[t->reader], sizeof out->why[t->reader], "%s", t->why);
}

static void run_some(const struct trial_options *options, struct trial trials[AT_ONCE], uint32_t n,
                     struct msg_tried *out) {
    const uint32_t limit_s = options->silence_s < TRIAL_S_MAX ? options->silence_s : TRIAL_S_MAX;
    if (options->alive)
        options->alive(options->user);
    for (uint32_t i = 0; i < n; i++)
        start_trial(&trials[i], options);
    hear_all(trials, now_ms() + (uint64_t)limit_s * 1000);
    for (uint32_t i = 0; i < n; i++) {
        end_silent(&trials[i], limit_s);
        tell(&trials[i], out);
    }
}

/* Cards by themselves, or all links between them. */
static void try_all(const struct trial_options *options, bool links, struct msg_tried *out) {
    const struct device_options *o = &options->device;
    struct trial trials[AT_ONCE] = {{0}};
    uint32_t n = 0;
    for (uint32_t a = 0; a < o->n_cards; a++)
        for (uint32_t b = 0; b < o->n_cards; b++) {
            if ((a != b) != links || !o->present[a] || !o->present[b] ||
                (links && o->staged[a] >> b & 1))
                continue;
            trials[n++] = (struct trial){.reader = a, .owner = b};
            if (n < AT_ONCE)
                continue;
            run_some(options, trials, n, out);
            memset(trials, 0, sizeof trials);
            n = 0;
        }
    run_some(options, trials, n, out);
}

void trial_run(const struct trial_options *options, struct msg_tried *out) {
    try_all(options, false, out);
    if (!out->cards)
        try_all(options, true, out);
}
