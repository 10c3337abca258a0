/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/notify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <time.h>

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

int notify_listen_fds(struct notify_fd fds[NOTIFY_FDS_MAX], struct err *err) {
    char **names = NULL;
    const int n = sd_listen_fds_with_names(1, &names);
    int rc = n;
    if (n > NOTIFY_FDS_MAX)
        rc = err_set(err, -EINVAL, "systemd passed %d sockets, %d are allowed", n, NOTIFY_FDS_MAX);
    for (int i = 0; i < n && rc >= 0; i++) {
        fds[i].fd = SD_LISTEN_FDS_START + i;
        fds[i].admin_allowed = !names || strcmp(names[i], "api");
        if (sd_is_socket(fds[i].fd, AF_UNIX, SOCK_STREAM, 1) <= 0)
            rc = err_set(err, -EINVAL,
                         "descriptor %d (%s) from systemd is not a listening Unix stream socket",
                         fds[i].fd, names ? names[i] : "");
    }
    for (int i = 0; names && i < n; i++)
        free(names[i]);
    free(names);
    return rc;
}
