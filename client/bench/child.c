/* SPDX-License-Identifier: Apache-2.0 */
#include "client/bench/child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "octarc/error.h"

#define STOP_S 5.0 /* until a child that was asked to end is killed */

static volatile sig_atomic_t pids[CHILDREN_MAX]; /* 0: free */
static volatile sig_atomic_t interrupted;

double clock_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void sleep_ms(unsigned ms) {
    const struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* --- signals --- */

static void on_signal(int number) {
    const int error = errno;
    (void)number;
    interrupted = 1;
    for (int i = 0; i < CHILDREN_MAX; i++)
        if (pids[i] > 0) /* -1: one is about to be started, and to kill() that is everybody */
            kill((pid_t)pids[i], SIGTERM);
    errno = error;
}

static void all_signals(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGHUP);
}

void children_catch_signals(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    all_signals(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    /* A reader that is gone must not leave the folder behind. */
    signal(SIGPIPE, SIG_IGN);
}

bool children_interrupted(void) {
    return interrupted;
}

static int take_slot(pid_t before, pid_t after) {
    for (int i = 0; i < CHILDREN_MAX; i++)
        if (pids[i] == before) {
            pids[i] = after;
            return 0;
        }
    return -EAGAIN;
}

/* --- finding --- */

static bool is_program(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static bool join(char path[PATH_MAX], const char *folder, size_t n, const char *name) {
    const int wrote = snprintf(path, PATH_MAX, "%.*s/%s", (int)n, folder, name);
    return wrote > 0 && wrote < PATH_MAX && is_program(path);
}

int child_find(const char *name, char path[PATH_MAX], struct err *err) {
    char self[PATH_MAX];
    const char *at = getenv("PATH");
    if (strchr(name, '/')) {
        snprintf(path, PATH_MAX, "%s", name);
        return is_program(path) ? 0 : err_set(err, -ENOENT, "%s is no program", name);
    }
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = '\0';
        char *slash = strrchr(self, '/');
        if (slash && join(path, self, (size_t)(slash - self), name))
            return 0;
    }
    for (; at && *at; at += *at == ':') {
        const size_t length = strcspn(at, ":");
        if (length && join(path, at, length, name))
            return 0;
        at += length;
    }
    return err_set(err, -ENOENT, "there is no %s beside this program or in PATH", name);
}

/* --- starting --- */

static void become(char *const argv[], const char *out, const char *log, pid_t parent,
                   const sigset_t *mask) {
    const int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const int to = open(out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    const int say = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent || dup2(in, 0) < 0 || dup2(to, 1) < 0 || dup2(say, 2) < 0)
        _exit(127);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    sigprocmask(SIG_SETMASK, mask, NULL);
    execv(argv[0], argv);
    dprintf(2, "cannot start %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

int child_start(struct child *child, char *const argv[], const char *out, const char *log,
                struct err *err) {
    const char *slash = strrchr(argv[0], '/');
    sigset_t signals, before;
    int rc = 0;
    *child = (struct child){0};
    snprintf(child->name, sizeof child->name, "%s", slash ? slash + 1 : argv[0]);
    snprintf(child->log, sizeof child->log, "%s", log);
    /* No signal may come between the start and the list that the handler looks at. */
    all_signals(&signals);
    pthread_sigmask(SIG_BLOCK, &signals, &before);
    const pid_t parent = getpid();
    if (interrupted)
        rc = err_set(err, -EINTR, "interrupted");
    else if (take_slot(0, -1))
        rc = err_set(err, -EAGAIN, "more than %d programs at once", CHILDREN_MAX);
    const pid_t pid = rc ? -1 : fork();
    if (pid == 0)
        become(argv, out, log, parent, &before);
    if (!rc)
        take_slot(-1, pid < 0 ? 0 : pid);
    if (!rc && pid < 0)
        rc = err_set(err, -errno, "cannot start %s: %s", child->name, strerror(errno));
    if (!rc) {
        setpgid(pid, pid); /* whoever of the two is first */
        child->pid = pid;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

/* --- ending --- */

bool child_ended(struct child *child, int *status) {
    siginfo_t info = {0};
    if (waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) || !info.si_pid)
        return false;
    /* What it left behind, while its number still belongs to it. */
    kill(-child->pid, SIGKILL);
    take_slot(child->pid, 0);
    waitpid(child->pid, status, 0);
    child->pid = 0;
    return true;
}

static void last_line(const char *path, char *out, size_t size) {
    char line[300];
    FILE *f = fopen(path, "re");
    out[0] = '\0';
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0])
            snprintf(out, size, "%s", line);
    }
    if (f)
        fclose(f);
}

int child_fail(const struct child *child, int status, struct err *err) {
    char line[300];
    last_line(child->log, line, sizeof line);
    return err_set(err, -ECHILD, "%s ended with %s %d: %s", child->name,
                   WIFSIGNALED(status) ? "signal" : "status",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
                   line[0] ? line : "it said nothing");
}

int child_wait(struct child *child, double seconds, struct err *err) {
    const double end = clock_s() + seconds;
    int status = 0;
    while (!child_ended(child, &status)) {
        if (clock_s() > end) {
            child_stop(child);
            return err_set(err, -ETIMEDOUT, "%s did not end within %.0f s", child->name, seconds);
        }
        sleep_ms(5);
    }
    return status ? child_fail(child, status, err) : 0;
}

void child_stop(struct child *child) {
    const double begin = clock_s();
    int status;
    if (!child->pid)
        return;
    kill(child->pid, SIGTERM);
    for (bool killed = false; !child_ended(child, &status); sleep_ms(1))
        if (!killed && clock_s() - begin > STOP_S) {
            kill(-child->pid, SIGKILL);
            killed = true;
        }
}

/* --- memory --- */

static uint64_t rss_below(pid_t pid) {
    char path[64];
    unsigned long long pages = 0;
    int below;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    if (fscanf(f, "%*u %llu", &pages) != 1)
        pages = 0;
    fclose(f);
    uint64_t sum = pages * (uint64_t)sysconf(_SC_PAGESIZE);
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    f = fopen(path, "re");
    while (f && fscanf(f, "%d", &below) == 1)
        sum += rss_below(below);
    if (f)
        fclose(f);
    return sum;
}

uint64_t child_rss(const struct child *child) {
    return child->pid ? rss_below(child->pid) : 0;
}

/* --- the folder --- */

int folder_make(char path[PATH_MAX], struct err *err) {
    const char *base = getenv("TMPDIR");
    snprintf(path, PATH_MAX, "%s/octarc-bench-XXXXXX", base && *base ? base : "/tmp");
    if (mkdtemp(path))
        return 0;
    const int error = errno;
    err_set(err, -error, "cannot make %s: %s", path, strerror(error));
    path[0] = '\0';
    return -error;
}

void folder_remove(const char *path) {
    DIR *folder = path[0] ? opendir(path) : NULL;
    if (!folder)
        return;
    for (const struct dirent *entry; (entry = readdir(folder));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(dirfd(folder), entry->d_name, 0);
    closedir(folder);
    rmdir(path);
}
