/* SPDX-License-Identifier: Apache-2.0 */
/* notify.h - what octarcd tells systemd, and what it is given by it.  Without systemd nothing
 * happens.  Threads: the loop's. */
#ifndef OCTARC_SERVICE_NOTIFY_H
#define OCTARC_SERVICE_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

#define NOTIFY_FDS_MAX 8 /* listening sockets passed to the service */

struct err;

void notify_ready(const char *status);
void notify_status(const char *status);
/* Starting takes longer: this much from now on. */
void notify_extend(uint64_t timeout_us);
void notify_reloading(void); /* notify_ready() ends it */
void notify_stopping(void);
/* Microseconds after which systemd ends a service that is silent; 0: it does not watch. */
uint64_t notify_watchdog_us(void);
void notify_alive(void);

struct notify_fd {
    int fd;
    bool admin_allowed; /* false for descriptors named "api" */
};
/* The sockets systemd listens on for the service; how many, or -EINVAL: one is not a listening Unix
 * stream socket. */
int notify_listen_fds(struct notify_fd fds[NOTIFY_FDS_MAX], struct err *err);

#endif
