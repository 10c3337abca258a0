/* SPDX-License-Identifier: Apache-2.0 */
/* octarc-engine: one generation.  Speaks the channel on an inherited descriptor and nothing else;
 * everything it needs comes with SETUP, and when the front is gone it ends. */
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "daemon/channel/stream.h"
#include "daemon/engine/engine.h"
#include "daemon/engine/errand.h"
#include "daemon/engine/held.h"
#include "daemon/engine/held_kv.h"
#include "daemon/engine/measure.h"
#include "daemon/engine/progress.h"
#include "daemon/engine/rebalance.h"
#include "daemon/engine/replan.h"
#include "daemon/engine/runner.h"
#include "daemon/engine/trial.h"
#include "daemon/engine/verify.h"
#include "daemon/engine/watch.h"
#include "daemon/util/log.h"
#include "models/gguf.h"
#include "octarc/error.h"

/* What comes with SETUP, in this order; those behind are of the cards' memory. */
enum { FD_SUMS, FD_PARTS };

#define FLUSH_BYTES 65536u               /* of one step, before its end: the front may begin */
#define UNSENT_STEP (STREAM_OUT_MAX / 8) /* with more than this unsent no step begins … */
#define UNSENT_MOST (STREAM_OUT_MAX / 2) /* … and one that is under way waits */

struct process {
    struct stream stream;
    struct msg_setup setup;
    int fds[STREAM_FDS_MAX];
    uint32_t n_fds;
    struct model model;
    struct plan *plan; /* in use; owned */
    struct runner *runner;
    struct engine *engine;
    struct replan *replan; /* under way, or NULL */
    bool beside;           /* another generation is at work */
    struct verify *verify;
    struct held_kv kv;
    bool lost; /* a card of the plan in use is */
    struct watch *watch;
    struct progress progress;
    struct device_calls calls; /* while the model is loaded */
    uint32_t hung;             /* bit per card: rehearsed */
    bool stop, measure;        /* asked for */
};

static uint64_t now_ns(void *user) {
    struct timespec t;
    (void)user;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Wait until less is unsent.  The front never waits for an engine, so it takes it in the end. */
static int wait_sent(struct process *p) {
    struct pollfd fd = {.fd = p->stream.fd, .events = POLLOUT};
    int rc = 0;
    while ((rc == 0 || rc == -EAGAIN) && stream_unsent(&p->stream) > UNSENT_MOST) {
        if (poll(&fd, 1, -1) < 0 && errno != EINTR)
            return -errno;
        rc = stream_flush(&p->stream);
    }
    return rc == -EAGAIN ? 0 : rc;
}

static int flush(struct process *p) {
    const int rc = stream_flush(&p->stream);
    return rc == -EAGAIN ? 0 : rc;
}

/* What the engine says in one piece of work goes out together, by flush(): before anything is
 * computed and before anything is waited for, so that no message is held up by either. */
static int say(void *user, enum message_type type, const void *msg) {
    struct process *p = user;
    int rc = wait_sent(p);
    if (!rc)
        rc = stream_queue(&p->stream, type, msg);
    return !rc && stream_unsent(&p->stream) >= FLUSH_BYTES ? flush(p) : rc;
}

static int step_model(void *user, struct step_params *params, uint32_t *card) {
    struct process *p = user;
    int rc = flush(p);
    if (rc)
        return rc;
    for (uint32_t i = 0; p->hung >> i; i++)
        if (p->hung >> i & 1)
            runner_hang(p->runner, i); /* it may be another than the one that was told */
    kept_written(p->kv.kept, params);
    watch_begin(p->watch, runner_options(p->runner)->backend, runner_device(p->runner),
                params->n_rows);
    rc = runner_step(p->runner, params, card);
    watch_end(p->watch);
    return rc;
}

static void say_carried(void *user, struct link_bytes *bytes) {
    runner_carried(((struct process *)user)->runner, bytes);
}

static void say_fetched(void *user, struct fetch_counts *counts) {
    runner_fetched(((struct process *)user)->runner, counts);
}

/* Wait until the channel can be read (or, with something to send, written). */
static int wait_channel(struct process *p, int timeout_ms) {
    struct pollfd fd = {.fd = p->stream.fd, .events = POLLIN};
    if (stream_wants_write(&p->stream))
        fd.events |= POLLOUT;
    const int n = poll(&fd, 1, timeout_ms);
    if (n < 0 && errno != EINTR)
        return -errno;
    if (fd.revents & POLLOUT) {
        const int rc = stream_flush(&p->stream);
        return rc == -EAGAIN ? 0 : rc;
    }
    return 0;
}

static int read_setup(struct process *p) {
    struct message msg;
    const struct msg_hello hello = {CHANNEL_VERSION, (uint32_t)getpid()};
    int rc = stream_send(&p->stream, MSG_HELLO, &hello);
    while (!rc) {
        rc = stream_read(&p->stream, &msg);
        if (rc == -EAGAIN) {
            rc = wait_channel(p, -1);
        } else if (!rc && msg.type == MSG_HELLO) {
            rc = msg.hello.version == CHANNEL_VERSION ? 0 : -EPROTO;
        } else if (!rc && msg.type == MSG_SETUP) {
            p->setup = msg.setup;
            p->beside = msg.setup.beside;
            p->n_fds = stream_take_fds(&p->stream, p->fds);
            p->progress.generation = p->setup.generation;
            return 0;
        } else if (!rc) {
            message_finish(&msg);
            rc = -EPROTO;
        }
    }
    return rc;
}

static const int *head_fds(const struct process *p) {
    return p->fds + FD_PARTS + p->setup.n_parts;
}

/* Of the first card; how many there are at least. */
static uint32_t fd_cards(const struct process *p) {
    return FD_PARTS + 2 * p->setup.n_parts;
}

static int open_model(struct process *p, struct err *err) {
    struct gguf *gguf = NULL;
    int rc = gguf_open_parts(&gguf, head_fds(p), p->setup.n_parts, p->setup.model_name, err);
    if (rc)
        return rc;
    rc = model_read(&p->model, gguf, err);
    gguf_close(gguf);
    return rc;
}

/* A plan lives as long as the runner that follows it, which SETUP need not. */
static int own_plan(struct process *p, struct err *err) {
    p->plan = malloc(sizeof *p->plan);
    if (!p->plan)
        return err_set(err, -ENOMEM, "no memory for the plan");
    *p->plan = p->setup.plan;
    p->setup.plan = (struct plan){.ranges = NULL};
    return 0;
}

static int open_watch(struct process *p, struct err *err) {
    const struct watch_options watch = {.first_ns = p->setup.card_silence_s * UINT64_C(1000000000),
                                        .fenced = progress_fenced,
                                        .alive = progress_alive,
                                        .user = &p->progress};
    const int rc = watch_create(&p->watch, &watch);
    return rc ? err_set(err, rc, "no thread to watch the cards: %s", strerror(-rc)) : 0;
}

static uint32_t cards_of(const struct plan *plan) {
    uint32_t cards = 0;
    for (uint32_t i = 0; i < plan->n_cards; i++)
        cards |= plan->cards[i].online ? 1u << i : 0;
    return cards;
}

static int open_runner(struct process *p, uint32_t *lost, uint32_t *refused, struct err *err) {
    struct runner_options o = {.backend = device_backend(p->setup.backend),
                               .model = &p->model,
                               .plan = p->plan,
                               .part_fds = p->fds + FD_PARTS,
                               .head_fds = head_fds(p),
                               .n_parts = p->setup.n_parts,
                               .file_name = p->setup.model_name,
                               .file = p->setup.file,
                               .sums_fd = p->fds[FD_SUMS],
                               .lost = lost,
                               .refused = refused,
                               .behind = p->setup.beside,
                               .progress = progress_report,
                               .user = &p->progress};
    int ledger_fd;
    if (!o.backend)
        return err_set(err, -ENOTSUP, "backend '%s' is not built in", p->setup.backend);
    if (held_take(&p->setup, p->fds + fd_cards(p), p->n_fds - fd_cards(p), &o, &ledger_fd))
        return err_set(err, -EPROTO, "SETUP came without the descriptors of all cards");
    o.device.hold = p->setup.hold;
    o.device.n_threads = p->setup.n_threads;
    o.device.pin = p->setup.pin;
    o.device.isa = (enum instruction_set)p->setup.isa;
    o.device.isolate = p->setup.isolate;
    o.device.storage = (enum device_storage)p->setup.storage;
    o.device.calls = &p->calls;
    memcpy(o.device.slots, p->setup.slots, sizeof o.device.slots);
    memcpy(o.device.staged, p->setup.staged, sizeof o.device.staged);
    watch_begin_calls(p->watch, &p->calls, cards_of(p->plan));
    int rc = runner_open(&p->runner, &o, err);
    if (!rc)
        rc = held_kv_open(&p->kv, &p->setup, p->runner, ledger_fd, lost, err);
    watch_end(p->watch);
    return rc;
}

static void say_last(struct process *p, enum message_type type, const void *msg) {
    stream_send(&p->stream, type, msg);
    while (stream_wants_write(&p->stream) && !wait_channel(p, 1000))
        ;
}

/* A driver that is asked nothing of a card may be ended by it all the same, if it opens it. */
static void hide_others(const struct process *p) {
    const struct device_ops *ops = device_backend(p->setup.backend);
    struct device_options o = {.n_cards = p->plan->n_cards};
    for (uint32_t i = 0; i < o.n_cards; i++)
        o.present[i] = p->plan->cards[i].online;
    memcpy(o.slots, p->setup.slots, sizeof o.slots);
    if (ops && ops->hide)
        ops->hide(&o);
}

/* True: some cannot be used, or a link.  The front plans without them, for another process. */
static bool try_cards(struct process *p, int *rc) {
    struct trial_options o = {.ops = device_backend(p->setup.backend),
                              .device.n_cards = p->plan->n_cards,
                              .silence_s = p->setup.card_silence_s,
                              .alive = progress_alive,
                              .user = &p->progress};
    struct msg_tried tried = {.generation = p->setup.generation};
    if (!o.ops)
        return false;
    for (uint32_t i = 0; i < p->plan->n_cards; i++)
        o.device.present[i] = p->plan->cards[i].online;
    memcpy(o.device.slots, p->setup.slots, sizeof o.device.slots);
    memcpy(o.device.staged, p->setup.staged, sizeof o.device.staged);
    trial_run(&o, &tried);
    uint32_t found = tried.cards;
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        found |= tried.links[i];
    if (found)
        say_last(p, MSG_TRIED, &tried);
    *rc = found ? -ENODEV : 0;
    return found;
}

static int open_engine(struct process *p, struct err *err) {
    const struct plan *plan = p->plan;
    struct engine_options o = {.generation = p->setup.generation,
                               .n_vocab = p->model.params.n_vocab,
                               .context = plan->context,
                               .max_rows = plan->max_rows,
                               .max_outputs = plan->max_outputs,
                               .max_sequences = plan->max_sequences,
                               .n_pages = plan->n_pages,
                               .n_eog = p->setup.n_eog};
    const struct engine_model model = {p, step_model, say_carried, say_fetched};
    const struct engine_output output = {p, say, now_ns};
    memcpy(o.eog, p->setup.eog, sizeof o.eog);
    if (engine_create(&p->engine, &o, &model, &output))
        return err_set(err, -ENOMEM, "no memory for %u sequences", plan->max_sequences);
    kept_seed(p->kv.kept, engine_page_table(p->engine));
    return 0;
}

static int open_verify(struct process *p, struct err *err) {
    const struct verify_site site = {.generation = p->setup.generation,
                                     .runner = &p->runner,
                                     .engine = p->engine,
                                     .replan = &p->replan,
                                     .output = {p, say, now_ns},
                                     .scrub_s = p->setup.scrub_s,
                                     .kept = p->kv.kept};
    if (verify_create(&p->verify, &site))
        return err_set(err, -ENOMEM, "no memory to verify weights");
    return 0;
}

static int send_ready(struct process *p) {
    struct msg_ready ready;
    int fds[HELD_FDS_MAX + HELD_KV_FDS_MAX];
    replan_fill_ready(p->runner, p->setup.generation, &ready);
    uint32_t n = p->setup.hold ? held_list(p->runner, &ready, fds) : 0;
    n += held_kv_list(&p->kv, p->runner, &ready, fds + n);
    const int rc = n ? stream_send_fds(&p->stream, MSG_READY, &ready, fds, n)
                     : stream_send(&p->stream, MSG_READY, &ready);
    return rc ? rc : engine_send_credit(p->engine);
}

static int start(struct process *p) {
    struct err err = {{0}};
    uint32_t lost = 0, refused = 0;
    int rc;
    if (p->n_fds < fd_cards(p))
        rc = err_set(&err, -EPROTO, "SETUP came without the model's descriptors");
    else
        rc = open_model(p, &err);
    if (!rc)
        rc = own_plan(p, &err);
    if (!rc)
        hide_others(p);
    if (!rc && p->setup.try_cards && try_cards(p, &rc))
        return rc;
    if (!rc)
        rc = open_watch(p, &err);
    if (!rc)
        rc = open_runner(p, &lost, &refused, &err);
    if (rc == -EREMOTE) {
        struct msg_tried tried;
        held_refuse(&p->setup, refused, err.text, &tried);
        say_last(p, MSG_TRIED, &tried);
        return rc;
    }
    if (!rc)
        rc = open_engine(p, &err);
    if (!rc)
        rc = open_verify(p, &err);
    if (rc) {
        struct msg_failed failed = {.error = rc, .lost = lost};
        snprintf(failed.text, sizeof failed.text, "%s", err.text);
        say_last(p, MSG_FAILED, &failed);
        return rc;
    }
    return send_ready(p);
}

/* A drill: the card is gone from now on.  Idle or not, the front is told at once, as a driver's
 * event would; a step that still needs the card fails by itself.  The front waits for the word also
 * where the card came without work, and so without this runner. */
static int lose(struct process *p, uint32_t card) {
    const struct msg_lost lost = {p->setup.generation, card};
    int rc = replan_cancel(&p->replan, "a card of the plan in use was lost");
    if (rc || card >= p->plan->n_cards)
        return rc;
    p->lost |= runner_lose(p->runner, card) == 0 && plan_uses(p->plan, card);
    return stream_send(&p->stream, MSG_LOST, &lost);
}

/* A drill: what the card reports by itself is verified before the next step. */
static int corrupt(struct process *p, const struct msg_corrupt *msg) {
    const int rc = msg->silent ? 0 : replan_cancel(&p->replan, "weights in use were harmed");
    if (runner_corrupt(p->runner, msg->card) == 0 && !msg->silent)
        verify_hold(p->verify, msg->card);
    return rc;
}

/* A drill: nothing is said, it is for the watch to find out. */
static int hang(struct process *p, uint32_t card) {
    if (card < CARDS_MAX)
        p->hung |= 1u << card;
    return 0;
}

static int replan(struct process *p, struct msg_replan *order) {
    const struct replan_site site = {.generation = p->setup.generation,
                                     .runner = &p->runner,
                                     .plan = &p->plan,
                                     .engine = p->engine,
                                     .output = {p, say, now_ns},
                                     .slice_bytes = REBALANCE_SLICE_BYTES};
    int fds[STREAM_FDS_MAX];
    const uint32_t n_fds = stream_take_fds(&p->stream, fds);
    return replan_begin(&p->replan, &site, order, fds, n_fds);
}

/* Memory under pages that no request uses, and what the allocator keeps. */
static int give_back(struct process *p) {
    bool *idle = calloc(p->plan->n_pages + 1, sizeof *idle);
    if (!idle)
        return 0; /* just when it is short; whoever asked asks again */
    engine_forget_idle(p->engine, idle);
    kept_strike(p->kv.kept, idle);
    const int rc = runner_discard(p->runner, idle);
    free(idle);
    malloc_trim(0);
    return rc == -ENODEV ? 0 : rc;
}

/* An order that is to replace a lost card is waited for. */
static int be_pressed(struct process *p, const struct msg_pressed *msg) {
    replan_pause(p->replan, msg->put_off && !p->lost);
    verify_put_off(p->verify, msg->put_off);
    return msg->give_back ? give_back(p) : 0;
}

static int handle(struct process *p, struct message *msg) {
    switch (msg->type) {
    case MSG_ADMIT:
        return engine_admit(p->engine, &msg->admit);
    case MSG_CANCEL:
        return engine_cancel(p->engine, msg->cancel.sequence);
    case MSG_LOSE:
        return lose(p, msg->lose.card);
    case MSG_HANG:
        return hang(p, msg->hang.card);
    case MSG_REPLAN:
        return replan(p, &msg->replan);
    case MSG_VERIFY:
        return verify_ask(p->verify, msg->verify.number, msg->verify.card);
    case MSG_CORRUPT:
        return corrupt(p, &msg->corrupt);
    case MSG_PRESSED:
        return be_pressed(p, &msg->pressed);
    case MSG_YIELD:
        p->beside = msg->yield.on;
        return 0;
    case MSG_STOP:
        p->stop = true;
        return 0;
    case MSG_MEASURE:
        p->measure = true;
        return 0;
    default:
        return -EPROTO;
    }
}

static int drain_channel(struct process *p) {
    struct message msg;
    int rc;
    while (!p->stop && !(rc = stream_read(&p->stream, &msg))) {
        rc = handle(p, &msg);
        message_finish(&msg);
        if (rc)
            return rc;
    }
    return p->stop || rc == -EAGAIN ? 0 : rc;
}

/* 1: something ran; *ns: how long.  -ENODEV is no error: the front was told, and another plan
 * follows, or another process. */
static int step(struct process *p, uint64_t *ns) {
    const uint64_t begin_ns = now_ns(NULL);
    engine_yield(p->engine, p->beside || p->replan);
    const int rc = verify_holds(p->verify) ? 0 : engine_step(p->engine);
    *ns = rc > 0 ? now_ns(NULL) - begin_ns : 0;
    if (rc == -ENODEV && !p->lost) {
        p->lost = true;
        return replan_cancel(&p->replan, "a card of the plan in use was lost in a step");
    }
    return rc == -ENODEV ? 0 : rc;
}

/* Weights of the plan in use are verified; while it is being left, what is copied is proven. */
static bool may_verify(const struct process *p) {
    return !p->lost && (!p->replan || verify_holds(p->verify));
}

/* What is computed now may be wrong, or be left: nothing is entered for the next engine. */
static int keep_kv(struct process *p, uint64_t step_ns) {
    uint32_t card;
    if (p->lost || p->replan || verify_holds(p->verify))
        return 0;
    const int rc = kept_advance(p->kv.kept, engine_page_table(p->engine), step_ns);
    return rc == -ENODEV && kept_lost_card(p->kv.kept, &card) ? lose(p, card) : rc;
}

/* Between two steps.  True (or *rc): there may be work at once. */
static bool tend(struct process *p, uint64_t step_ns, int *rc) {
    const bool replans = p->replan;
    const struct runner *runner = p->runner;
    uint32_t card;
    if (may_verify(p))
        *rc = verify_advance(p->verify, step_ns);
    if (*rc == -ENODEV && verify_lost_card(p->verify, &card))
        *rc = lose(p, card);
    if (!*rc)
        *rc = keep_kv(p, step_ns);
    if (!*rc)
        *rc = replan_advance(&p->replan);
    if (p->runner != runner) {
        kept_end(p->kv.kept); /* its pages lie elsewhere */
        p->lost = false;
        verify_runner_changed(p->verify);
    }
    return replans && !p->replan;
}

/* How long to wait while nothing runs. */
static int patience_ms(const struct process *p) {
    if (!p->lost && !p->replan && kept_waits(p->kv.kept))
        return 0;
    const int of_replan = replan_patience_ms(p->replan);
    const int of_verify = may_verify(p) ? verify_patience_ms(p->verify) : -1;
    return of_replan < 0 || (of_verify >= 0 && of_verify < of_replan) ? of_verify : of_replan;
}

static int serve(struct process *p) {
    int rc = 0;
    uint64_t step_ns;
    while (!rc && !p->stop) {
        rc = drain_channel(p);
        if (rc || p->stop)
            break;
        /* Tokens that the front does not take pile up to a limit; then computing waits, and what
         * is cancelled meanwhile is. */
        if (stream_unsent(&p->stream) > UNSENT_STEP) {
            rc = wait_channel(p, -1);
            continue;
        }
        rc = step(p, &step_ns);
        bool idle = rc == 0;
        if (rc >= 0) {
            rc = 0;
            idle &= !tend(p, step_ns, &rc);
        }
        if (!rc)
            rc = engine_send_credit(p->engine);
        if (!rc)
            rc = flush(p);
        /* An order writes to the memory that is measured, and given back where no plan has it. */
        if (!rc && idle && p->measure && !p->replan) {
            p->measure = false;
            rc = measure_send(p->runner, p->setup.generation, &p->stream);
        }
        if (!rc && (idle || stream_wants_write(&p->stream)))
            rc = wait_channel(p, idle ? patience_ms(p) : 0);
    }
    const int last = flush(p); /* what was said before the end */
    rc = rc ? rc : last;
    return rc == -EPIPE || rc == -ECONNRESET ? 0 : rc;
}

int main(int argc, char **argv) {
    struct process p = {0};
    log_init("octarc-engine", LOG_P_INFO);
    if (argc == 2 && !strcmp(argv[1], "--version")) {
        puts("octarc-engine " OCTARC_VERSION);
        return 0;
    }
    const int errand = errand_run(argc, argv), fd = errand_fd(argc, argv, "--channel");
    if (errand)
        return errand - 1;
    if (fd < 0) {
        fprintf(stderr,
                "usage: octarc-engine --channel FD | --probe FD | --selftest FD | --links FD\n"
                "octarcd starts this program; it is of no use alone.\n");
        return 2;
    }
    prctl(PR_SET_DUMPABLE, 0);
    stream_init(&p.stream, fd);
    progress_init(&p.progress, &p.stream);
    int rc = read_setup(&p);
    if (!rc)
        rc = start(&p);
    if (!rc)
        rc = serve(&p);
    if (rc)
        log_error("generation %llu ends: %s", (unsigned long long)p.setup.generation,
                  strerror(-rc));
    replan_cancel(&p.replan, "the engine ends");
    verify_destroy(p.verify);
    watch_destroy(p.watch);
    engine_destroy(p.engine);
    held_kv_close(&p.kv);
    runner_close(p.runner);
    model_finish(&p.model);
    if (p.plan)
        plan_finish(p.plan);
    free(p.plan);
    plan_finish(&p.setup.plan);
    for (uint32_t i = 0; i < p.n_fds; i++)
        close(p.fds[i]);
    progress_finish(&p.progress);
    stream_finish(&p.stream);
    return rc ? 1 : 0;
}
