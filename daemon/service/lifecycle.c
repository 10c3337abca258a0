/* SPDX-License-Identifier: Apache-2.0 */
/* The line of status, reloading, and stopping. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/service/daemon.h"
#include "daemon/service/listen.h"
#include "daemon/service/notify.h"
#include "daemon/util/log.h"
#include "octarc/error.h"

#define STATUS_EVERY_NS UINT64_C(200000000)
#define LOAD_EXTEND_US  UINT64_C(30000000) /* more time to start, while bytes still arrive */
#define CLOSE_GRACE_MS  2000

/* --- status --- */

static enum service_state state_of(const struct daemon *d) {
    if (d->stopping)
        return SERVICE_DRAINING;
    switch (d->engines.state) {
    case ENGINES_SERVING:
        return SERVICE_READY;
    case ENGINES_WAITING:
        return SERVICE_NO_DEVICE;
    case ENGINES_IDLE:
        return d->loading ? SERVICE_LOADING : SERVICE_NO_MODEL;
    default:
        return d->engines.ready_once ? SERVICE_RECOVERING : SERVICE_LOADING;
    }
}

static void write_status(const struct daemon *d, char *out, size_t size) {
    const struct engines *e = &d->engines;
    const uint32_t online = engines_online(e);
    const struct msg_progress *p = &e->progress;
    const unsigned percent =
        p->total_bytes ? (unsigned)((double)p->done_bytes * 100 / (double)p->total_bytes) : 0;
    switch (d->state) {
    case SERVICE_NO_MODEL:
        snprintf(out, size, "no model%s%.80s", d->backend.why[0] ? "; on the CPU: " : "",
                 d->backend.why);
        return;
    case SERVICE_DRAINING:
        snprintf(out, size, "stopping");
        return;
    case SERVICE_READY:
        snprintf(out, size, "serving %.120s on %u card%s (%s split)%s%.80s", d->model.id, online,
                 online == 1 ? "" : "s", plan_split_name(e->plan.split),
                 d->backend.why[0] ? "; on the CPU: " : "", d->backend.why);
        return;
    case SERVICE_LOADING:
        snprintf(out, size, "loading: %u %%", percent);
        return;
    case SERVICE_NO_DEVICE:
        snprintf(out, size, "no card can serve: %.200s", e->why);
        return;
    case SERVICE_RECOVERING:
        if (e->state == ENGINES_RESTING)
            snprintf(out, size, "not serving: %.200s", e->why);
        else
            snprintf(out, size, "recovering on %u card%s: %u %%", online, online == 1 ? "" : "s",
                     percent);
        return;
    }
}

void daemon_changed(struct daemon *d) {
    const enum service_state before = d->state;
    const uint64_t now = uv_hrtime();
    d->state = state_of(d);
    write_status(d, d->status, sizeof d->status);
    /* Where cards are held back from the start, an operator's word is waited for. */
    if (!d->ready_said && (d->state == SERVICE_READY || d->state == SERVICE_NO_MODEL ||
                           d->state == SERVICE_NO_DEVICE)) {
        d->ready_said = true;
        notify_ready(d->status);
        log_notice("ready: %s", d->status);
    } else if (d->state != before || now - d->status_ns > STATUS_EVERY_NS) {
        d->status_ns = now;
        notify_status(d->status);
        if (!d->ready_said)
            notify_extend(LOAD_EXTEND_US);
    }
}

/* --- reloading --- */

static void name_changes(const struct config *before, const struct config *after, char *out,
                         size_t size) {
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < config_n_keys() && n < size; i++)
        if (!config_key(i).live && !config_key_equal(i, before, after))
            n += (size_t)snprintf(out + n, size - n, "%s%s", n ? ", " : "", config_key(i).name);
}

int daemon_reload(struct daemon *d, struct err *err) {
    struct config after;
    char restart[300];
    bool usage;
    if (d->ready_said)
        notify_reloading();
    int rc = options_config(d->options, &after, &usage, err);
    if (d->ready_said)
        notify_ready(d->status);
    if (rc < 0)
        return rc;
    name_changes(&d->config, &after, restart, sizeof restart);
    if (restart[0])
        return err_set(err, -EINVAL, "a restart is needed to change %s; nothing was changed",
                       restart);
    config_take_live(&d->config, &after);
    log_init("octarcd", (enum log_priority)after.log_level);
    scheduler_set_limits(d->scheduler, after.max_queue, after.max_queue_per_user);
    log_notice("the configuration was read again");
    return 0;
}

/* --- stopping --- */

static void close_handle(uv_handle_t *handle, void *arg) {
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void on_server_closed(void *user) {
    struct daemon *d = user;
    d->server = NULL;
    uv_walk(&d->loop, close_handle, NULL); /* the loop ends when the last one is closed */
}

/* The engines are gone: say the last words to clients and close. */
void daemon_engines_stopped(void *user) {
    struct daemon *d = user;
    if (d->closing)
        return;
    d->closing = true;
    server_close(d->server, CLOSE_GRACE_MS, on_server_closed, d);
}

static void on_drained(void *user) {
    struct daemon *d = user;
    if (d->settled)
        return;
    d->settled = true;
    uv_timer_stop(&d->drain);
    engines_stop(&d->engines);
}

static void cut_off(struct daemon *d) {
    scheduler_fail_all(d->scheduler, -ESHUTDOWN, "the service is stopping");
}

static void on_drain_timeout(uv_timer_t *timer) {
    struct daemon *d = timer->data;
    log_warning("requests that still run after drain_timeout = %u s are ended",
                d->config.drain_timeout_s);
    cut_off(d);
}

void daemon_stop(struct daemon *d, int exit_code) {
    if (d->stopping) {
        cut_off(d);
        if (!d->closing)
            engines_stop(&d->engines);
        return;
    }
    d->stopping = true;
    d->exit_code = exit_code;
    notify_stopping();
    daemon_changed(d);
    server_stop_listening(d->server);
    if (d->listen_path[0])
        listen_remove(d->listen_path, &d->listen_id);
    uv_timer_start(&d->drain, on_drain_timeout, (uint64_t)d->config.drain_timeout_s * 1000, 0);
    scheduler_drain(d->scheduler, on_drained, d);
}
