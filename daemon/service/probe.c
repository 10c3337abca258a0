/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
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
    size_t n; /* of the report, so far */
};

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void take_report(struct asking *a, const struct spawner_report *r) {
    if (r->generation != SPAWNER_PROBE)
        return;
    if (r->event == SPAWNER_STARTED)
        a->pid = r->pid;
    a->over |= r->event != SPAWNER_STARTED;
    if (r->event != SPAWNER_STARTED)
        a->status = r->status;
}

/* 0 or, where there is more than a report, -EMSGSIZE. */
static int read_more(struct asking *a, struct probe_report *report) {
    char beyond;
    const size_t room = sizeof *report - a->n;
    const ssize_t n =
        room ? read(a->fd, (char *)report + a->n, room) : read(a->fd, &beyond, sizeof beyond);
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
static int take_news(struct asking *a, struct probe_report *report, int timeout_ms) {
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
    rc = fds[0].revents ? read_more(a, report) : 0;
    return rc < 0 ? rc : a->over && a->fd < 0;
}

static int explain(const struct asking *a, int rc, uint32_t silence_s, struct err *err) {
    if (rc == -ETIMEDOUT)
        return err_set(
            err, rc,
            "octarc-engine --probe said nothing for %u s (key probe_silence) and was ended; "
            "a card may be stuck: journalctl -k",
            silence_s);
    if (rc == -EMSGSIZE)
        return err_set(err, -EPROTO, "octarc-engine --probe said more than a report");
    if (rc < 0)
        return err_set(err, rc, "octarc-engine --probe cannot be asked: %s", strerror(-rc));
    if (a->pid == 0)
        return err_set(err, a->status, "octarc-engine --probe cannot be started: %s",
                       strerror(-a->status));
    if (WIFSIGNALED(a->status))
        return err_set(err, -EPIPE, "octarc-engine --probe was ended by signal %d (%s)",
                       WTERMSIG(a->status), strsignal(WTERMSIG(a->status)));
    return err_set(err, -EPIPE,
                   "octarc-engine --probe ended with status %d, and said nothing of use",
                   WEXITSTATUS(a->status));
}

/* Start it; the pipe's other end is its own from then on. */
static int start(struct asking *a) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    fcntl(ends[1], F_SETFL, 0);
    const int rc = spawner_start_probe(a->spawner, ends[1]);
    close(ends[1]);
    if (rc < 0)
        close(ends[0]);
    a->fd = rc < 0 ? -1 : ends[0];
    return rc;
}

int probe_ask(struct spawner *spawner, uint32_t silence_s, struct probe_report *report,
              struct err *err) {
    struct asking a = {
        .spawner = spawner, .fd = -1, .until_ms = now_ms() + (uint64_t)silence_s * 1000};
    struct probe_report *made = calloc(1, sizeof *made);
    if (!made)
        return err_set(err, -ENOMEM, "no memory for what octarc-engine --probe says");
    int rc = start(&a);
    while (rc == 0) {
        const uint64_t now = now_ms();
        rc = now < a.until_ms ? take_news(&a, made, (int)(a.until_ms - now)) : -ETIMEDOUT;
    }
    if (a.pid > 0 && !a.over)
        spawner_kill(spawner, a.pid);
    if (a.fd >= 0)
        close(a.fd);
    const bool ended_well = rc > 0 && a.pid > 0 && WIFEXITED(a.status) && !WEXITSTATUS(a.status);
    rc = ended_well ? probe_accept(made, a.n, err) : explain(&a, rc, silence_s, err);
    if (rc == 0)
        *report = *made;
    free(made);
    return rc;
}

static int print(const struct buffer *out) {
    if (fwrite(out->bytes, 1, out->n, stdout) == out->n && fflush(stdout) == 0)
        return 0;
    fprintf(stderr, "octarcd: cannot write: %s\n", strerror(errno));
    return 1;
}

int probe_run(const struct options *options, const struct config *config, struct spawner *spawner) {
    struct buffer out = {0};
    struct err err;
    struct probe_report *report = calloc(1, sizeof *report);
    int status = 1;
    const int rc = report ? probe_ask(spawner, config->probe_silence_s, report, &err)
                          : err_set(&err, -ENOMEM, "no memory for a report");
    if (rc < 0)
        fprintf(stderr, "octarcd: %s\n", err.text);
    else if ((options->json ? probe_json : probe_text)(report, &out) < 0)
        fprintf(stderr, "octarcd: no memory to show the report\n");
    else
        status = print(&out);
    if (status == 0 && report->error[0]) {
        fprintf(stderr, "octarcd: %s\n", report->error);
        status = 1;
    } else if (status == 0 && missing_count_usable(&report->box, &report->driver.libraries) == 0) {
        status = EXIT_NO_CARD;
    }
    buffer_finish(&out);
    free(report);
    return status;
}
