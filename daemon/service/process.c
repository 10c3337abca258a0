/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/util/log.h"
#include "octarc/error.h"

/* Of what an engine says, before everyone else has a turn: one request may ask for the logarithms
 * of a whole vocabulary at each token, and those take long to print. */
#define TURN_NS 5000000u

struct process {
    uint64_t number;
    struct spawner *spawner; /* borrowed */
    struct stream stream;
    uv_poll_t poll;
    uv_timer_t patience; /* with one that was killed */
    uint32_t waited_ms;  /* so far */
    uv_idle_t more;      /* runs while a turn ended before what was said: no poll tells of that */
    uint32_t n_handles;  /* not yet closed */
    int polled;          /* events */
    pid_t pid;
    bool kill_wanted, asked; /* to be killed; by the owner, not for a broken channel */
    bool broken, over;
    struct process_events events;
    void *user;
};

static void on_poll(uv_poll_t *poll, int status, int what);

static void set_poll(struct process *g) {
    const int want =
        g->broken ? 0 : UV_READABLE | (stream_wants_write(&g->stream) ? UV_WRITABLE : 0);
    if (want == g->polled)
        return;
    g->polled = want;
    if (want)
        uv_poll_start(&g->poll, want, on_poll);
    else
        uv_poll_stop(&g->poll);
    if (g->broken)
        uv_idle_stop(&g->more);
}

static void on_patience(uv_timer_t *timer) {
    struct process *g = timer->data;
    g->waited_ms += PROCESS_AGAIN_MS;
    if (g->waited_ms >= PROCESS_REAP_MS)
        process_leave(g, "was killed and does not end; it is left behind");
    else if (g->pid > 0)
        spawner_kill(g->spawner, g->pid);
}

static void kill_now(struct process *g) {
    if (g->over)
        return;
    if (!g->kill_wanted)
        uv_timer_start(&g->patience, on_patience, PROCESS_AGAIN_MS, PROCESS_AGAIN_MS);
    g->kill_wanted = true;
    if (g->pid > 0)
        spawner_kill(g->spawner, g->pid);
}

void process_kill(struct process *g) {
    g->asked = true;
    kill_now(g);
}

bool process_ending(const struct process *g) {
    return g->kill_wanted || g->broken || g->over;
}

/* Nothing more can be said over the channel. */
static void break_channel(struct process *g) {
    if (g->broken)
        return;
    g->broken = true;
    set_poll(g);
    kill_now(g);
}

static void on_more(uv_idle_t *idle);

/* What the engine has said so far, or as much of it as a turn takes. */
static void read_messages(struct process *g, uint64_t turn_ns) {
    const uint64_t begin = uv_hrtime();
    struct message msg;
    int rc = 0;
    while (!g->over && uv_hrtime() - begin < turn_ns && !(rc = stream_read(&g->stream, &msg))) {
        if (msg.type == MSG_HELLO && msg.hello.version != CHANNEL_VERSION) {
            log_error("generation %llu speaks version %u of the channel, this is version %u",
                      (unsigned long long)g->number, msg.hello.version, CHANNEL_VERSION);
            rc = -EPROTO;
        } else {
            g->events.message(g->user, &msg);
        }
        message_finish(&msg);
        if (rc)
            break;
    }
    if (g->over)
        return;
    if (rc == -EPROTO)
        log_error("generation %llu said something that is not of the channel",
                  (unsigned long long)g->number);
    if (rc == 0)
        uv_idle_start(&g->more, on_more);
    else
        uv_idle_stop(&g->more);
    if (rc && rc != -EAGAIN)
        break_channel(g);
}

static void on_more(uv_idle_t *idle) {
    struct process *g = idle->data;
    read_messages(g, TURN_NS);
    set_poll(g);
}

static void on_poll(uv_poll_t *poll, int status, int what) {
    struct process *g = poll->data;
    const int rc = status == 0 && (what & UV_WRITABLE) ? stream_flush(&g->stream) : status;
    if (rc < 0 && rc != -EAGAIN) {
        read_messages(g, UINT64_MAX); /* it is gone, but what it had said may not have been read */
        break_channel(g);
        return;
    }
    if ((what & UV_READABLE) && !uv_is_active((uv_handle_t *)&g->more))
        read_messages(g, TURN_NS);
    set_poll(g);
}

static bool was_not_said(int rc) {
    return rc == -ENOMEM || rc == -EMSGSIZE || rc == -EBUSY || rc == -EMFILE;
}

int process_send_fds(struct process *g, enum message_type type, const void *msg, const int *fds,
                     uint32_t n_fds) {
    if (g->broken || g->over)
        return -EPIPE;
    const int rc = n_fds ? stream_send_fds(&g->stream, type, msg, fds, n_fds)
                         : stream_send(&g->stream, type, msg);
    if (rc < 0 && !was_not_said(rc)) {
        kill_now(g);
        return rc;
    }
    set_poll(g);
    return rc;
}

int process_send(struct process *g, enum message_type type, const void *msg) {
    return process_send_fds(g, type, msg, NULL, 0);
}

uint32_t process_take_fds(struct process *g, int fds[STREAM_FDS_MAX]) {
    return stream_take_fds(&g->stream, fds);
}

void process_hear(struct process *g, const struct process_events *events, void *user) {
    g->events = *events;
    g->user = user;
}

pid_t process_pid(const struct process *g) {
    return g->pid;
}

static void closed(uv_handle_t *handle) {
    struct process *g = handle->data;
    if (--g->n_handles > 0)
        return;
    stream_finish(&g->stream);
    free(g);
}

static void describe(const struct process *g, const struct spawner_report *r, char *out,
                     size_t size) {
    if (r->event == SPAWNER_FAILED)
        snprintf(out, size, "could not be started: %s", strerror(-r->status));
    else if (WIFSIGNALED(r->status))
        snprintf(out, size, "%s by signal %d (%s)", g->asked ? "was ended" : "was killed",
                 WTERMSIG(r->status), strsignal(WTERMSIG(r->status)));
    else if (WEXITSTATUS(r->status) == 127)
        snprintf(out, size, "its program could not be run");
    else
        snprintf(out, size, "ended with status %d", WEXITSTATUS(r->status));
}

void process_report(struct process *g, const struct spawner_report *r) {
    char why[128];
    if (r->generation != g->number || g->over)
        return;
    if (r->event == SPAWNER_STARTED) {
        g->pid = r->pid;
        if (g->kill_wanted)
            kill_now(g);
        return;
    }
    if (!g->broken)
        read_messages(g, UINT64_MAX); /* its last words count */
    describe(g, r, why, sizeof why);
    process_leave(g, why);
}

void process_leave(struct process *g, const char *why) {
    if (g->over)
        return;
    g->over = true;
    g->broken = true;
    set_poll(g);
    shutdown(g->stream.fd, SHUT_RDWR); /* where it is alive after all, it ends by itself */
    uv_close((uv_handle_t *)&g->patience, closed);
    uv_close((uv_handle_t *)&g->more, closed);
    uv_close((uv_handle_t *)&g->poll, closed);
    g->events.gone(g->user, why);
}

/* HELLO and SETUP wait in the socket until the process is there. */
static int introduce(struct process *g, const struct msg_setup *setup, const int *fds,
                     uint32_t n_fds) {
    const struct msg_hello hello = {CHANNEL_VERSION, (uint32_t)getpid()};
    const int rc = stream_send(&g->stream, MSG_HELLO, &hello);
    return rc ? rc : stream_send_fds(&g->stream, MSG_SETUP, setup, fds, n_fds);
}

int process_start(struct process **process, uv_loop_t *loop, struct spawner *spawner,
                  const struct msg_setup *setup, const int *fds, uint32_t n_fds,
                  const struct process_events *events, void *user, struct err *err) {
    int ends[2];
    struct process *g = calloc(1, sizeof *g);
    if (!g)
        return err_set(err, -ENOMEM, "no memory for an engine");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        const int rc = -errno;
        free(g);
        return err_set(err, rc, "cannot make an engine's channel: %s", strerror(-rc));
    }
    stream_init(&g->stream, ends[0]);
    g->number = setup->generation;
    g->spawner = spawner;
    g->events = *events;
    g->user = user;
    int rc = introduce(g, setup, fds, n_fds);
    if (rc == 0 || rc == -EAGAIN)
        rc = spawner_start_engine(spawner, g->number, ends[1]);
    if (rc == 0)
        rc = uv_poll_init(loop, &g->poll, ends[0]);
    close(ends[1]);
    if (rc < 0) {
        stream_finish(&g->stream);
        free(g);
        return err_set(err, rc, "cannot start an engine: %s", strerror(-rc));
    }
    uv_timer_init(loop, &g->patience);
    uv_idle_init(loop, &g->more);
    g->poll.data = g->patience.data = g->more.data = g;
    g->n_handles = 3;
    set_poll(g);
    *process = g;
    return 0;
}
