/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/errand.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "octarc/error.h"

struct asking {
    struct spawner *spawner;
    int fd; /* what it writes to is read here */
    pid_t pid;
    bool over; /* its end was reported */
    int status;
    uint64_t until_ms;
    const struct errand *errand;
    char *answer; /* errand->bytes */
    size_t n;     /* of that, so far */
};

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void take_report(struct asking *a, const struct spawner_report *r) {
    if (r->generation != a->errand->generation)
        return;
    if (r->event == SPAWNER_STARTED)
        a->pid = r->pid;
    a->over |= r->event != SPAWNER_STARTED;
    if (r->event != SPAWNER_STARTED)
        a->status = r->status;
}

/* 0 or, where there is more than a report, -EMSGSIZE. */
static int read_more(struct asking *a) {
    char beyond;
    const size_t room = a->errand->bytes - a->n;
    const ssize_t n =
        room ? read(a->fd, a->answer + a->n, room) : read(a->fd, &beyond, sizeof beyond);
    if (n == 0) {
        close(a->fd);
        a->fd = -1;
    }
    if (n > 0 && room == 0)
        return -EMSGSIZE;
    a->n += n > 0 ? (size_t)n : 0;
    return 0;
}

/* 1: all was read, and its end was seen; 0: go on; or what failed. */
static int take_news(struct asking *a, int timeout_ms) {
    struct pollfd fds[2] = {{.fd = a->fd, .events = POLLIN},
                            {.fd = a->over ? -1 : a->spawner->fd, .events = POLLIN}};
    struct spawner_report r;
    int rc = poll(fds, 2, timeout_ms);
    if (rc < 0)
        return errno == EINTR ? 0 : -errno;
    while (fds[1].revents && (rc = spawner_read(a->spawner, &r)) == 0)
        take_report(a, &r);
    if (fds[1].revents && rc != -EAGAIN)
        return rc;
    rc = fds[0].revents ? read_more(a) : 0;
    return rc < 0 ? rc : a->over && a->fd < 0;
}

static int explain(const struct asking *a, int rc, uint32_t silence_s, struct err *err) {
    const char *what = a->errand->option;
    if (rc == -ETIMEDOUT)
        return err_set(err, rc,
                       "octarc-engine %s said nothing for %u s%s and was ended; a card may be "
                       "stuck: journalctl -k",
                       what, silence_s, a->errand->limit);
    if (rc == -EMSGSIZE)
        return err_set(err, -EPROTO, "octarc-engine %s said more than a report", what);
    if (rc < 0)
        return err_set(err, rc, "octarc-engine %s cannot be asked: %s", what, strerror(-rc));
    if (a->pid == 0)
        return err_set(err, a->status, "octarc-engine %s cannot be started: %s", what,
                       strerror(-a->status));
    if (WIFSIGNALED(a->status))
        return err_set(err, -EPIPE, "octarc-engine %s was ended by signal %d (%s)", what,
                       WTERMSIG(a->status), strsignal(WTERMSIG(a->status)));
    return err_set(err, -EPIPE, "octarc-engine %s ended with status %d, and said nothing of use",
                   what, WEXITSTATUS(a->status));
}

/* Start it; the pipe's other end is its own from then on. */
static int start(struct asking *a) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    fcntl(ends[1], F_SETFL, 0);
    const int rc = spawner_start_engine(a->spawner, a->errand->generation, ends[1]);
    close(ends[1]);
    if (rc < 0)
        close(ends[0]);
    a->fd = rc < 0 ? -1 : ends[0];
    return rc;
}

int errand_ask(struct spawner *spawner, const struct errand *errand, uint32_t silence_s,
               void *answer, size_t *n, struct err *err) {
    struct asking a = {.spawner = spawner,
                       .fd = -1,
                       .until_ms = now_ms() + (uint64_t)silence_s * 1000,
                       .errand = errand,
                       .answer = answer};
    int rc = start(&a);
    while (rc == 0) {
        const uint64_t now = now_ms();
        rc = now < a.until_ms ? take_news(&a, (int)(a.until_ms - now)) : -ETIMEDOUT;
    }
    if (a.pid > 0 && !a.over)
        spawner_kill(spawner, a.pid);
    if (a.fd >= 0)
        close(a.fd);
    *n = a.n;
    const bool ended_well = rc > 0 && a.pid > 0 && WIFEXITED(a.status) && !WEXITSTATUS(a.status);
    return ended_well ? 0 : explain(&a, rc, silence_s, err);
}
