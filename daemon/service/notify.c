/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/notify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "daemon/util/log.h"
#include "octarc/error.h"

void notify_ready(const char *status) {
    sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

void notify_status(const char *status) {
    sd_notifyf(0, "STATUS=%s", status);
}

void notify_extend(uint64_t timeout_us) {
    sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%llu", (unsigned long long)timeout_us);
}

void notify_reloading(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
               (unsigned long long)t.tv_sec * 1000000 + (unsigned long long)t.tv_nsec / 1000);
}

void notify_stopping(void) {
    sd_notify(0, "STOPPING=1\nSTATUS=stopping");
}

uint64_t notify_watchdog_us(void) {
    uint64_t us = 0;
    return sd_watchdog_enabled(0, &us) > 0 ? us : 0;
}

void notify_alive(void) {
    sd_notify(0, "WATCHDOG=1");
}

/* FDPOLL=0: nothing that happens to the descriptor is a reason to close it. */
bool notify_keep(const char *name, int fd) {
    char text[128];
    snprintf(text, sizeof text, "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", name);
    return sd_pid_notify_with_fds(0, 0, text, &fd, 1) > 0;
}

void notify_remove(const char *name) {
    sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}

bool notify_settle(uint64_t timeout_us) {
    return sd_notify_barrier(0, timeout_us) >= 0;
}

/* 1: it is a socket to listen on.  0: it was closed; names are of no help, for systemd gives its
 * own to what has none. */
static int take_socket(struct notify_fd *out, int fd, const char *name, struct err *err) {
    struct stat st;
    if (sd_is_socket(fd, AF_UNIX, SOCK_STREAM, 1) > 0) {
        *out = (struct notify_fd){fd, strcmp(name, "api") != 0};
        return 1;
    }
    if (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode))
        return err_set(err, -EINVAL,
                       "descriptor %d (%s) from systemd is not a listening Unix stream socket", fd,
                       name);
    log_warning("descriptor %d (%s) from systemd is closed: it is nothing that is known here", fd,
                name);
    close(fd);
    notify_remove(name);
    return 0;
}

int notify_take_fds(struct notify_fd fds[NOTIFY_FDS_MAX],
                    bool (*offer)(void *user, const char *name, int fd), void *user,
                    struct err *err) {
    char **names = NULL;
    struct notify_fd one;
    const int n = sd_listen_fds_with_names(1, &names);
    int found = 0, rc = n < 0 ? n : 0;
    for (int i = 0; i < n && rc >= 0; i++) {
        const int fd = SD_LISTEN_FDS_START + i;
        const char *name = names ? names[i] : "";
        if (offer(user, name, fd))
            continue;
        rc = take_socket(&one, fd, name, err);
        if (rc > 0 && found == NOTIFY_FDS_MAX)
            rc = err_set(err, -EINVAL, "systemd passed more than %d sockets", NOTIFY_FDS_MAX);
        else if (rc > 0)
            fds[found++] = one;
    }
    for (int i = 0; names && i < n; i++)
        free(names[i]);
    free(names);
    if (n < 0)
        err_set(err, n, "cannot take the descriptors from systemd: %s", strerror(-n));
    return rc < 0 ? rc : found;
}
