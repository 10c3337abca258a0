/* SPDX-License-Identifier: Apache-2.0 */
/* daemon.h - octarcd as a whole: what is wired to what, and when it starts and stops. */
#ifndef OCTARC_SERVICE_DAEMON_H
#define OCTARC_SERVICE_DAEMON_H

#include "daemon/protocol/protocol.h"
#include "daemon/service/backend.h"
#include "daemon/service/engines.h"
#include "daemon/service/events.h"
#include "daemon/service/listen.h"
#include "daemon/service/notify.h"
#include "daemon/service/options.h"
#include "daemon/service/pressed.h"
#include "daemon/service/state.h"
#include "daemon/service/store.h"
#include "daemon/service/uevents.h"
#include "daemon/socket/server.h"

#define EXIT_CONFIG 78 /* EX_CONFIG: starting again would not help */

struct daemon {
    const struct options *options; /* borrowed */
    struct config config;
    struct topology topology; /* as it was at the start */
    struct backend backend;
    uv_loop_t loop;
    struct spawner spawner;
    struct scheduler *scheduler;
    struct protocol *protocol;
    struct server *server;
    struct engines engines;
    struct events events;
    struct state state_dir;
    struct store store;
    struct pressed pressed;
    struct uevents uevents;
    struct loaded *loaded; /* NULL: no model, or not yet */
    struct model_view model;
    void (*measured)(void *arg, const struct limits_view *limits, const char *why);
    void *measured_arg; /* protocol/'s, who asked for limits */

    void (*checked)(void *arg, const struct check_view *view, const char *why);
    void *checked_arg; /* the same, who asked for a check */

    enum service_state state;
    char status[256];
    bool ready_said, loading, stopping, settled, closing;
    int exit_code;
    uint64_t started_ns, status_ns;
    char listen_path[PATH_MAX]; /* bound here, to be removed; empty: by systemd */
    struct listen_id listen_id;
    struct notify_fd waiting[NOTIFY_FDS_MAX]; /* listening, where nobody accepts yet */
    int n_waiting;

    uv_signal_t signals[3];
    uv_timer_t watchdog, tick, drain;
    uv_poll_t reports;
};

/* The service's answers to protocol/ (host.c). */
void daemon_fill_host(struct daemon *daemon, struct protocol_host *host);
/* What the model is, for protocol/; after daemon->loaded was set. */
void daemon_describe_model(struct daemon *daemon);

/* The state and its line changed: tell systemd (lifecycle.c). */
void daemon_changed(struct daemon *daemon);
/* Begin to stop: drain, then end with this code; a second call does not wait any more. */
void daemon_stop(struct daemon *daemon, int exit_code);
/* Read the configuration again; keeps the old one on error. */
int daemon_reload(struct daemon *daemon, struct err *err);

/* events.measured of the engines (host.c). */
void daemon_measured(void *user, const struct msg_limits *limits, const char *why);

/* events.verified of the engines (host.c). */
void daemon_verified(void *user, const struct msg_verified *verified, const char *why);

/* What is known of the peer links, from before or by measuring, becomes the topology's; before the
 * first plan, and before the loop (learn.c). */
void daemon_learn_links(struct daemon *daemon);
/* events.links of the engines: it is kept for the next start (learn.c). */
void daemon_note_links(void *user);

/* events.stopped of the engines. */
void daemon_engines_stopped(void *user);

/* Take what systemd passed: sockets, and what it kept for the service.  -EINVAL. */
int daemon_inherit(struct daemon *daemon, struct err *err);
/* Serve until stopped; the exit code.  The spawner must have been forked, and what systemd passed
 * been taken. */
int daemon_run(struct daemon *daemon);

#endif
