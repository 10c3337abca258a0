/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/util/log.h"
#include "octarc/error.h"

#define ENGINES_MAX       8 /* alive at once; a generation and those that are still dying */
#define ENGINE_CHANNEL_FD 3
#define PROBE_FILE_BYTES  (64u << 20)
#define PROBE_CPU_S       10    /* of processor time; it looks, and computes nothing */
#define ENGINE_OOM_SCORE  "500" /* the engine holds the memory: it goes before the front */

struct order {
    enum { ORDER_START, ORDER_KILL } what;
    uint64_t generation;
    pid_t pid;
};

/* --- in the spawner --- */

struct nursery {
    int fd, signals;
    char engine[PATH_MAX];
    struct {
        uint64_t generation;
        pid_t pid;
    } engines[ENGINES_MAX];
    uint32_t n;
};

/* Beside this program (a build folder), where `make install` puts it for whatever prefix, or where
 * the build was told that it would be. */
static void find_engine(char path[PATH_MAX]) {
    static const char *const near[] = {"octarc-engine", "../libexec/octarc/octarc-engine"};
    const char *named = getenv("OCTARC_ENGINE");
    if (named && *named) {
        snprintf(path, PATH_MAX, "%s", named);
        return;
    }
    const ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 48);
    path[n > 0 ? n : 0] = 0;
    char *slash = strrchr(path, '/');
    for (size_t i = 0; i < sizeof near / sizeof *near; i++) {
        strcpy(slash ? slash + 1 : path, near[i]);
        if (access(path, X_OK) == 0)
            return;
    }
#ifdef OCTARC_LIBEXECDIR
    snprintf(path, PATH_MAX, "%s/octarc-engine", OCTARC_LIBEXECDIR);
#endif
}

static void raise_oom_score(void) {
    const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (write(fd, ENGINE_OOM_SCORE, strlen(ENGINE_OOM_SCORE)) < 0)
        log_debug("the engine's OOM score stays as it is: %s", strerror(errno));
    close(fd);
}

static const char *option_of(uint64_t generation) {
    return generation == SPAWNER_PROBE      ? "--probe"
           : generation == SPAWNER_SELFTEST ? "--selftest"
           : generation == SPAWNER_LINKS    ? "--links"
                                            : "--channel";
}

/* Who looks writes to its pipe, and what it has to complain about to the log.  Only a probe
 * computes nothing. */
static void limit_errand(uint64_t generation) {
    const struct rlimit none = {0, 0}, cpu = {PROBE_CPU_S, PROBE_CPU_S};
    const struct rlimit file = {PROBE_FILE_BYTES, PROBE_FILE_BYTES};
    if (generation == SPAWNER_PROBE)
        setrlimit(RLIMIT_CPU, &cpu);
    setrlimit(RLIMIT_CORE, &none);
    setrlimit(RLIMIT_FSIZE, &file);
}

/* In the new process: become the engine, or end with 127. */
static void become_engine(const struct nursery *n, uint64_t generation, int channel_fd,
                          pid_t parent) {
    const char *option = option_of(generation);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    const int null = open("/dev/null", O_RDWR);
    if (null >= 0)
        dup2(null, STDIN_FILENO);
    if (channel_fd == ENGINE_CHANNEL_FD)
        fcntl(channel_fd, F_SETFD, 0);
    else
        dup2(channel_fd, ENGINE_CHANNEL_FD);
    close_range(ENGINE_CHANNEL_FD + 1, ~0u, 0);
    raise_oom_score();
    if (strcmp(option, "--channel") != 0)
        limit_errand(generation);
    execl(n->engine, "octarc-engine", option, "3", (char *)NULL);
    log_error("cannot start the engine %s: %s", n->engine, strerror(errno));
    _exit(127);
}

static void report(const struct nursery *n, const struct spawner_report *r) {
    if (send(n->fd, r, sizeof *r, MSG_NOSIGNAL) < 0)
        _exit(0); /* the front is gone; the engines follow this process */
}

static void start_one(struct nursery *n, uint64_t generation, int channel_fd) {
    struct spawner_report r = {.event = SPAWNER_FAILED, .generation = generation};
    const pid_t self = getpid();
    r.status = -EAGAIN;
    if (n->n < ENGINES_MAX) {
        const pid_t pid = fork();
        if (pid == 0)
            become_engine(n, generation, channel_fd, self);
        if (pid > 0) {
            n->engines[n->n].generation = generation;
            n->engines[n->n++].pid = pid;
            r.event = SPAWNER_STARTED;
            r.pid = pid;
        } else {
            r.status = -errno;
        }
    }
    report(n, &r);
}

static void kill_one(const struct nursery *n, pid_t pid) {
    for (uint32_t i = 0; i < n->n; i++)
        if (n->engines[i].pid == pid)
            kill(pid, SIGKILL);
}

static void reap(struct nursery *n) {
    struct signalfd_siginfo info;
    while (read(n->signals, &info, sizeof info) > 0)
        ;
    struct spawner_report r = {.event = SPAWNER_EXITED};
    while ((r.pid = waitpid(-1, &r.status, WNOHANG)) > 0)
        for (uint32_t i = 0; i < n->n; i++)
            if (n->engines[i].pid == r.pid) {
                r.generation = n->engines[i].generation;
                n->engines[i] = n->engines[--n->n];
                report(n, &r);
                break;
            }
}

static void take_order(struct nursery *n) {
    struct order order;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {&order, sizeof order};
    struct msghdr hdr = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    const ssize_t got = recvmsg(n->fd, &hdr, MSG_CMSG_CLOEXEC);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (got != sizeof order)
        _exit(0);
    const struct cmsghdr *cmsg = CMSG_FIRSTHDR(&hdr);
    int fd = -1;
    if (cmsg && cmsg->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(cmsg), sizeof fd);
    if (order.what == ORDER_KILL)
        kill_one(n, order.pid);
    else if (fd >= 0)
        start_one(n, order.generation, fd);
    if (fd >= 0)
        close(fd);
}

/* What the front was given by systemd is not for engines. */
static void leave_front_behind(int fd) {
    static const char *const names[] = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
                                        "LISTEN_FDS",    "LISTEN_PID",    "LISTEN_FDNAMES"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    if (fd > STDERR_FILENO + 1)
        close_range(STDERR_FILENO + 1, (unsigned)fd - 1, 0);
    close_range((unsigned)fd + 1, ~0u, 0);
}

static _Noreturn void run_spawner(int fd, pid_t front) {
    struct nursery n = {.fd = fd};
    sigset_t mask;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != front)
        _exit(0);
    prctl(PR_SET_NAME, "octarc-spawner");
    leave_front_behind(fd);
    setpgid(0, 0); /* a terminal's Ctrl-C is for the front, which drains */
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    n.signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    find_engine(n.engine);
    for (;;) {
        struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = n.signals, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[1].revents)
            reap(&n);
        if (fds[0].revents)
            take_order(&n);
    }
}

/* --- in the front --- */

int spawner_fork(struct spawner *spawner, struct err *err) {
    int ends[2];
    const pid_t self = getpid();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return err_set(err, -errno, "cannot make the spawner's socket: %s", strerror(errno));
    const pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        run_spawner(ends[1], self);
    }
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return err_set(err, -EAGAIN, "cannot fork the spawner: %s", strerror(errno));
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    *spawner = (struct spawner){.fd = ends[0], .pid = pid};
    return 0;
}

void spawner_stop(struct spawner *spawner) {
    if (spawner->pid <= 0)
        return;
    close(spawner->fd);
    waitpid(spawner->pid, NULL, 0);
    *spawner = (struct spawner){.fd = -1};
}

static int send_order(struct spawner *spawner, const struct order *order, int fd) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {(void *)order, sizeof *order};
    struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        hdr.msg_control = control.bytes;
        hdr.msg_controllen = sizeof control.bytes;
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&hdr);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(cmsg), &fd, sizeof fd);
    }
    return sendmsg(spawner->fd, &hdr, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int spawner_start_engine(struct spawner *spawner, uint64_t generation, int channel_fd) {
    const struct order order = {.what = ORDER_START, .generation = generation};
    return send_order(spawner, &order, channel_fd);
}

int spawner_kill(struct spawner *spawner, pid_t pid) {
    const struct order order = {.what = ORDER_KILL, .pid = pid};
    return send_order(spawner, &order, -1);
}

int spawner_read(struct spawner *spawner, struct spawner_report *report_out) {
    struct spawner_report r;
    const ssize_t n = recv(spawner->fd, &r, sizeof r, 0);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? -EAGAIN : -errno;
    if (n != sizeof r)
        return -EPIPE;
    *report_out = r;
    return 0;
}
