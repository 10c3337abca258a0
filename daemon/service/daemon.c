/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/daemon.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/service/listen.h"
#include "daemon/service/notify.h"
#include "daemon/util/log.h"
#include "octarc/error.h"

#define TICK_MS 1000

/* Connections are taken from here on.  Until the model is open they wait where they are, in the
 * kernel: a request cannot even be tokenized before, and nobody should be refused for coming early.
 */
static int accept_all(struct daemon *d, struct err *err) {
    int rc = 0;
    while (d->n_waiting > 0 && rc == 0) {
        const struct notify_fd *next = &d->waiting[d->n_waiting - 1];
        rc = server_listen(d->server, next->fd, next->admin_allowed, err);
        d->n_waiting -= rc == 0;
    }
    return rc;
}

/* --- the model, off the loop --- */

struct opening {
    uv_work_t work;
    struct daemon *daemon;
    char path[PATH_MAX];
    struct loaded *loaded;
    struct err err;
    int rc;
};

static void open_work(uv_work_t *work) {
    struct opening *o = work->data;
    o->rc = loaded_open(&o->loaded, o->path, &o->err);
}

/* What the machine lacks now it may have in a moment, and a file that changed is another file. */
static bool may_pass(int error) {
    return error == -ENOMEM || error == -EMFILE || error == -ENFILE || error == -EAGAIN ||
           error == -ESTALE;
}

/* The first model cannot be served: one line, and an exit code that says whether to try again. */
static void refuse_model(void *user, int error, const char *text) {
    struct daemon *d = user;
    log_error("%s", text);
    scheduler_refuse(d->scheduler, -ENODEV, text);
    d->loading = false;
    d->config.drain_timeout_s = 0;
    daemon_stop(d, may_pass(error) ? 1 : EXIT_CONFIG);
}

/* With the checksums of the service before, weights that it left may be used. */
static void take_sums(struct daemon *d) {
    const int fd = store_take_sums(&d->store, &d->loaded->model, &d->loaded->file);
    if (fd < 0)
        return;
    close(d->loaded->sums_fd);
    d->loaded->sums_fd = fd;
}

static void open_done(uv_work_t *work, int status) {
    struct opening *o = work->data;
    struct daemon *d = o->daemon;
    (void)status; /* never cancelled */
    d->loaded = o->loaded;
    d->loading = false;
    if (d->stopping) {
        free(o);
        return;
    }
    int rc = o->rc;
    if (rc == 0) {
        take_sums(d);
        rc = engines_load(&d->engines, o->loaded, &o->err);
    }
    if (rc == 0) {
        daemon_describe_model(d);
        log_info("%s: %s, %s", d->model.id, d->model.params->arch, d->engines.plan.reason);
        if (accept_all(d, &o->err) < 0) {
            log_error("%s", o->err.text);
            daemon_stop(d, 1);
        }
    } else {
        refuse_model(d, rc, o->err.text);
    }
    free(o);
}

static int begin_model(struct daemon *d, struct err *err) {
    if (!d->config.model[0])
        return 0;
    struct opening *o = calloc(1, sizeof *o);
    if (!o)
        return err_set(err, -ENOMEM, "no memory to open the model");
    o->daemon = d;
    o->work.data = o;
    snprintf(o->path, sizeof o->path, "%s", d->config.model);
    const int rc = uv_queue_work(&d->loop, &o->work, open_work, open_done);
    if (rc < 0) {
        free(o);
        return err_set(err, rc, "cannot start a thread: %s", uv_strerror(rc));
    }
    d->loading = true;
    return 0;
}

/* --- events of the loop --- */

static void on_changed(void *user) {
    daemon_changed(user);
}

static void on_reports(uv_poll_t *poll, int status, int what) {
    struct daemon *d = poll->data;
    struct spawner_report report;
    int rc;
    (void)what;
    while (!(rc = status < 0 ? -EPIPE : spawner_read(&d->spawner, &report)))
        engines_report(&d->engines, &report);
    if (rc != -EAGAIN) {
        uv_poll_stop(poll);
        if (!d->closing) {
            log_error("the process that starts engines is gone");
            d->config.drain_timeout_s = 0;
            engines_orphaned(&d->engines);
            daemon_stop(d, 1);
        }
    }
}

static void on_signal(uv_signal_t *handle, int number) {
    struct daemon *d = handle->data;
    struct err err;
    if (number == SIGHUP) {
        if (daemon_reload(d, &err) < 0)
            log_error("the old configuration stays: %s", err.text);
        return;
    }
    if (!d->stopping)
        log_notice("stopping: requests under way have %u s to end", d->config.drain_timeout_s);
    daemon_stop(d, 0);
}

static void on_watchdog(uv_timer_t *timer) {
    (void)timer;
    notify_alive();
}

static void on_tick(uv_timer_t *timer) {
    struct daemon *d = timer->data;
    scheduler_tick(d->scheduler, uv_hrtime());
    engines_tick(&d->engines);
    pressed_tick(d);
}

static void start_handles(struct daemon *d) {
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    for (int i = 0; i < 3; i++) {
        uv_signal_init(&d->loop, &d->signals[i]);
        d->signals[i].data = d;
        uv_signal_start(&d->signals[i], on_signal, numbers[i]);
    }
    uv_timer_init(&d->loop, &d->drain);
    uv_timer_init(&d->loop, &d->tick);
    uv_timer_init(&d->loop, &d->watchdog);
    d->drain.data = d->tick.data = d->watchdog.data = d;
    uv_timer_start(&d->tick, on_tick, TICK_MS, TICK_MS);
    const uint64_t watchdog_ms = notify_watchdog_us() / 3000;
    if (watchdog_ms > 0)
        uv_timer_start(&d->watchdog, on_watchdog, 0, watchdog_ms);
    uv_poll_init(&d->loop, &d->reports, d->spawner.fd);
    d->reports.data = d;
    uv_poll_start(&d->reports, UV_READABLE, on_reports);
}

/* --- wiring --- */

int daemon_inherit(struct daemon *d, struct err *err) {
    store_init(&d->store);
    const int n = notify_take_fds(d->waiting, store_offer, &d->store, err);
    d->n_waiting = n > 0 ? n : 0;
    return n < 0 ? n : 0;
}

static int listen_all(struct daemon *d, struct err *err) {
    char path[PATH_MAX];
    int rc = 0;
    if (d->n_waiting > 0)
        return 0;
    if (d->config.listen[0])
        snprintf(path, sizeof path, "%s", d->config.listen);
    else if ((rc = listen_default_path(path, err)) < 0)
        return rc;
    const int fd = listen_open(path, d->config.group, &d->listen_id, err);
    if (fd < 0)
        return fd;
    snprintf(d->listen_path, sizeof d->listen_path, "%s", path);
    log_info("listening on %s", path);
    d->waiting[d->n_waiting++] = (struct notify_fd){fd, true};
    return 0;
}

static int make_server(struct daemon *d, struct err *err) {
    struct protocol_host host;
    struct server_limits limits;
    daemon_fill_host(d, &host);
    if (protocol_create(&d->protocol, &host) < 0)
        return err_set(err, -ENOMEM, "no memory to start");
    server_limits_default(&limits);
    limits.max_connections = d->config.max_connections;
    limits.header_timeout_ms = d->config.header_timeout_s * 1000;
    limits.body_timeout_ms = d->config.body_timeout_s * 1000;
    limits.idle_timeout_ms = d->config.idle_timeout_s * 1000;
    limits.admin_group = d->config.admin_group[0] ? d->config.admin_group : NULL;
    return server_create(&d->server, &d->loop, d->protocol, &limits, err);
}

static int make_scheduler(struct daemon *d, struct err *err) {
    const struct scheduler_options options = {
        .max_requests = d->config.max_queue,
        .max_requests_per_uid = d->config.max_queue_per_user,
        .max_sequences = d->config.max_sequences,
        .poison_deaths = 3,
    };
    if (scheduler_create(&d->scheduler, &options, &engines_ops, &d->engines) < 0)
        return err_set(err, -ENOMEM, "no memory to start");
    return 0;
}

static void on_card(void *user, const struct card *card) {
    state_save(&((struct daemon *)user)->state_dir, card);
}

/* What is known of the cards that are there. */
static int restore_cards(struct daemon *d, struct err *err) {
    const int rc = state_open(&d->state_dir, &d->loop, d->config.state_dir, err);
    if (rc < 0)
        return rc;
    state_load(&d->state_dir);
    for (uint32_t i = 0; i < d->engines.n_cards; i++) {
        const struct card *saved =
            state_find(&d->state_dir, d->engines.cards[i].card.identity.text);
        if (saved)
            engines_restore(&d->engines, i, saved);
    }
    return 0;
}

/* Of real cards some may not be usable from the start: they are lost, before anything used them. */
static void lose_refused(struct daemon *d) {
    char why[CARD_WHY_MAX];
    for (uint32_t i = 0; i < d->backend.cards.n_cards && i < d->engines.n_cards; i++) {
        if (!d->backend.cards.cards[i].why[0])
            continue;
        snprintf(why, sizeof why, "%s", d->backend.cards.cards[i].why);
        if (engines_hear(&d->engines, i, CARD_LOSE, why, NULL) == 0)
            log_notice(
                "to bring card %u back: octarcd --probe names the remedy; then octarc online "
                "%u, or start again",
                i, i);
    }
}

static void make_engines(struct daemon *d) {
    d->engines = (struct engines){
        .backend = d->backend.ops,
        .loop = &d->loop,
        .spawner = &d->spawner,
        .scheduler = d->scheduler,
        .config = &d->config,
        .topology = &d->topology,
        .log = &d->events,
        .store = &d->store,
        .events = {on_changed, refuse_model, daemon_engines_stopped, daemon_measured,
                   daemon_verified, on_card, daemon_note_links},
        .user = d,
    };
    engines_init(&d->engines);
}

static void tell_backend(struct daemon *d) {
    struct event told = {.kind = "backend", .card = -1, .seconds = -1};
    if (!d->backend.why[0])
        return;
    snprintf(told.text, sizeof told.text, "the CPU computes, for no card is used: %.200s",
             d->backend.why);
    events_add(&d->events, &told);
}

static int start(struct daemon *d, struct err *err) {
    d->started_ns = uv_hrtime();
    int rc = make_scheduler(d, err);
    if (rc < 0)
        return rc;
    if (events_init(&d->events, d->config.max_events) < 0)
        return err_set(err, -ENOMEM, "no memory for %u events (key max_events)",
                       d->config.max_events);
    tell_backend(d);
    make_engines(d);
    store_start(&d->store,
                d->config.warm_restart && d->config.model[0] &&
                    d->config.weights != WEIGHTS_PRIVATE,
                d->config.weights == WEIGHTS_HELD);
    rc = make_server(d, err);
    if (rc < 0)
        return rc;
    start_handles(d);
    rc = restore_cards(d, err);
    if (rc == 0)
        daemon_learn_links(d);
    if (rc == 0)
        rc = pressed_start(d, err);
    uevents_start(&d->uevents, &d->loop, &d->engines, "");
    if (rc == 0)
        rc = listen_all(d, err);
    if (rc == 0)
        rc = begin_model(d, err);
    lose_refused(d); /* what is told of it is told of a service that loads a model */
    return rc < 0 || d->loading ? rc : accept_all(d, err);
}

static void finish(struct daemon *d) {
    if (d->protocol)
        protocol_destroy(d->protocol);
    scheduler_destroy(d->scheduler);
    engines_finish(&d->engines);
    events_finish(&d->events);
    state_finish(&d->state_dir);
    pressed_finish(d);
    uevents_finish(&d->uevents);
    loaded_close(d->loaded);
    store_finish(&d->store);
    while (d->n_waiting > 0)
        close(d->waiting[--d->n_waiting].fd);
}

int daemon_run(struct daemon *d) {
    struct err err = {{0}};
    signal(SIGPIPE, SIG_IGN);
    if (uv_loop_init(&d->loop) < 0) {
        log_error("no memory for the event loop");
        return 1;
    }
    if (start(d, &err) < 0) {
        log_error("%s", err.text);
        if (!d->server)
            return 1;
        d->ready_said = true; /* it never was, and is not said now */
        daemon_stop(d, 1);
    } else {
        daemon_changed(d);
    }
    uv_run(&d->loop, UV_RUN_DEFAULT);
    finish(d);
    uv_loop_close(&d->loop);
    return d->exit_code;
}
