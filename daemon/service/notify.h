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
/* Takes the descriptors that systemd passed, once: offers each with its name to `offer`, and has
 * the sockets it listens on for the service in fds.  How many of these; or -EINVAL: one is not a
 * listening Unix stream socket.  What is no socket at all and was not taken is closed, with a line
 * in the log. */
int notify_take_fds(struct notify_fd fds[NOTIFY_FDS_MAX],
                    bool (*offer)(void *user, const char *name, int fd), void *user,
                    struct err *err);

/* Systemd holds a descriptor too, under that name, and passes it back when the service starts
 * again. False: there is no systemd, or it could not be told. */
bool notify_keep(const char *name, int fd);
/* What it holds under that name it closes. */
void notify_remove(const char *name);
/* Waits until systemd has done all that it was told; false: it has not by then. */
bool notify_settle(uint64_t timeout_us);

#endif
