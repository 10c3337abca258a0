/* SPDX-License-Identifier: Apache-2.0 */
/* fake_host.h - a service around the protocol that needs no model: one byte is one token, and the
 * scheduler speaks a text that the prompt chooses.  Include it in one file of a program; it defines
 * scheduler_*, and fake_model.h tokenizer_* and chat_*.
 *
 *   prompt begins with   a choice says
 *   "say "               what follows, up to a bar that is none of <|…|>, then ends
 *   "utf8"               "é€" in single bytes, again and again
 *   "fail"               one token, then -ENODEV
 *   "hang"               nothing
 *   "alien"              nothing, and the request is another uid's
 *   "flood"              4096 letters at each token, without end
 *   "block"              1 MiB of letters at each token, which hold the loop up for 300 ms
 *   "late"               as anything else, but nothing before the test says so
 *   "long"               -EINVAL, as a prompt that exceeds the context
 *   "full"               -EOVERFLOW, as a full queue
 *   anything else        "abcdefghij", again and again, 20 tokens, then ends (eos) */
#ifndef OCTARC_TESTS_FAKE_HOST_H
#define OCTARC_TESTS_FAKE_HOST_H

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "daemon/protocol/protocol.h"
#include "octarc/error.h"
#include "tests/unit/daemon/fake_model.h"

/* The scheduler: a timer makes one token of every choice of every request. */
struct request {
    struct scheduler *scheduler;
    struct request_spec spec;
    struct request_events events;
    void *user;
    uint64_t id;
    char script[8];
    char say[256];
    uint32_t made[CHOICES_MAX];
    bool over[CHOICES_MAX], cancelled;
    uint32_t n_over;
    char held[CHOICES_MAX][4];
    struct request_token held_tokens[CHOICES_MAX][4];
    size_t n_held[CHOICES_MAX];
    struct request *next;
};
struct scheduler {
    uv_timer_t timer;
    struct request *requests;
    uint64_t n;
    uint32_t ms;
    struct scheduler_counts counts;
    atomic_uint abandoned, submitted, ended, steps; /* read by the test's thread */
    atomic_bool late;                               /* set by it: the late ones may go on */
    struct request_spec last;
};

static const struct token_logprob fake_top[2] = {{'x', -0.5f}, {0xFF, -2.0f}};

static void fake_over(struct request *r, uint32_t c, enum finish finish) {
    struct request_end end = {.finish = finish,
                              .stop_word = finish == FINISH_WORD ? "stop" : NULL,
                              .stop_token = FAKE_EOS,
                              .error = -ENODEV,
                              .error_text = "no card is left",
                              .usage = {.prompt_tokens = r->spec.n_tokens,
                                        .cached_tokens = 1,
                                        .completion_tokens = r->made[c],
                                        .prompt_ms = 2,
                                        .predicted_ms = 4}};
    if (r->n_held[c]) { /* bytes that never became a character: their tokens are told all the same
                         */
        r->events.text(r->user, c, "", 0, r->held_tokens[c], (uint32_t)r->n_held[c]);
        r->n_held[c] = 0;
    }
    r->over[c] = true;
    r->n_over++;
    r->events.choice_end(r->user, c, &end);
}

static void fake_token(struct request *r, uint32_t c, unsigned char byte) {
    static char many[1 << 20];
    const size_t k = r->n_held[c]++;
    r->held[c][k] = (char)byte;
    r->held_tokens[c][k] =
        (struct request_token){.token = byte,
                               .logprob = -1.25f,
                               .top = fake_top,
                               .n_top = r->spec.n_logprobs > 2 ? 2 : r->spec.n_logprobs};
    r->made[c]++;
    const size_t want = (unsigned char)r->held[c][0] < 0x80   ? 1
                        : (unsigned char)r->held[c][0] < 0xE0 ? 2
                                                              : 3;
    if (k + 1 < want)
        return;
    memset(many, 'a', sizeof many);
    const bool flood = !strncmp(r->script, "flood", 5), block = !strncmp(r->script, "block", 5);
    if (block)
        usleep(1000000);
    r->events.text(r->user, c, flood || block ? many : r->held[c],
                   block   ? sizeof many
                   : flood ? 4096
                           : want,
                   r->held_tokens[c], (uint32_t)want);
    r->n_held[c] = 0;
}

static void fake_choice(struct request *r, uint32_t c) {
    static const char utf8[] = "\xC3\xA9\xE2\x82\xAC";
    if (r->cancelled) {
        fake_over(r, c, FINISH_CANCELLED);
        return;
    }
    if (!strncmp(r->script, "hang", 4) || !strncmp(r->script, "alien", 5) ||
        (!strncmp(r->script, "late", 4) && !r->scheduler->late))
        return;
    if (r->spec.prompt_logprobs && r->made[c] == 0) {
        float logprobs[256];
        struct token_logprob top[256];
        for (uint32_t i = 0; i + 1 < r->spec.n_tokens && i < 256; i++) {
            logprobs[i] = -(float)i - 0.5f;
            top[i] = fake_top[0];
        }
        const struct msg_prompt prompt = {
            .first = 1, .n = r->spec.n_tokens - 1, .logprobs = logprobs, .n_top = 1, .top = top};
        r->events.prompt(r->user, c, &prompt);
    }
    if (r->made[c] >= r->spec.max_tokens) {
        fake_over(r, c, FINISH_LENGTH);
        return;
    }
    if (!strncmp(r->script, "fail", 4) && r->made[c] == 1) {
        fake_over(r, c, FINISH_ERROR);
        return;
    }
    if (r->spec.n_stops && r->made[c] == 3) {
        fake_over(r, c, FINISH_WORD);
        return;
    }
    if (*r->say) {
        if (r->say[r->made[c]])
            fake_token(r, c, (unsigned char)r->say[r->made[c]]);
        else
            fake_over(r, c, FINISH_STOP);
        return;
    }
    if (r->made[c] >= 20 && strncmp(r->script, "flood", 5) != 0) {
        fake_over(r, c, FINISH_STOP);
        return;
    }
    fake_token(r, c,
               !strncmp(r->script, "utf8", 4) ? (unsigned char)utf8[r->made[c] % 5]
                                              : (unsigned char)('a' + (r->made[c] + c) % 10));
}

static void fake_remove(struct request *r) {
    struct request **at = &r->scheduler->requests;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    free(r);
}

static void fake_step(uv_timer_t *timer) {
    struct scheduler *s = timer->data;
    struct request *next;
    s->steps++;
    for (struct request *r = s->requests; r; r = next) {
        next = r->next;
        for (uint32_t c = 0; c < r->spec.n; c++)
            if (!r->over[c])
                fake_choice(r, c);
        if (r->n_over == r->spec.n) {
            r->events.end(r->user);
            s->counts.finished++;
            s->ended++;
            fake_remove(r);
        }
    }
    if (!s->requests)
        uv_timer_stop(timer);
}

static bool fake_ends(const struct request_spec *spec, size_t i) {
    const int32_t *t = spec->tokens;
    return t[i] == '|' && t[i - 1] != '<' && (i + 1 == spec->n_tokens || t[i + 1] != '>');
}

int scheduler_submit(struct scheduler *s, const struct request_spec *spec,
                     const struct request_events *events, void *user, uint64_t now_ns,
                     struct request **request, struct err *err) {
    struct request *r = calloc(1, sizeof *r);
    (void)now_ns;
    r->scheduler = s;
    r->spec = s->last = *spec;
    r->events = *events;
    r->user = user;
    r->id = ++s->n;
    for (size_t i = 0; i < 7 && i < spec->n_tokens; i++)
        r->script[i] = (char)spec->tokens[i];
    for (size_t i = 4; !strncmp(r->script, "say ", 4) && i < spec->n_tokens &&
                       !fake_ends(spec, i) && i - 4 < sizeof r->say - 1;
         i++)
        r->say[i - 4] = (char)spec->tokens[i];
    const bool too_long = !strncmp(r->script, "long", 4), full = !strncmp(r->script, "full", 4);
    if (too_long || full) {
        free(r);
        return too_long ? err_set(err, -EINVAL, "the prompt has 9 tokens; the context holds 8")
                        : err_set(err, -EOVERFLOW, "1024 requests wait (max_queue)");
    }
    if (!strncmp(r->script, "alien", 5))
        r->spec.uid = spec->uid + 1;
    r->next = s->requests;
    s->requests = r;
    s->counts.accepted++;
    s->submitted++;
    uv_timer_start(&s->timer, fake_step, s->ms, s->ms);
    *request = r;
    return 0;
}
uint64_t request_id(const struct request *r) {
    return r->id;
}
void request_abandon(struct request *r) {
    r->scheduler->abandoned++;
    fake_remove(r);
}
int scheduler_cancel(struct scheduler *s, uint64_t id, uint32_t uid, bool anyone) {
    for (struct request *r = s->requests; r; r = r->next)
        if (r->id == id && (anyone || uid == r->spec.uid)) {
            r->cancelled = true;
            return 0;
        }
    return -ENOENT;
}
void scheduler_each(const struct scheduler *s, uint64_t now_ns,
                    void (*visit)(void *user, const struct request_view *view), void *user) {
    (void)now_ns;
    for (const struct request *r = s->requests; r; r = r->next) {
        const struct request_view view = {.id = r->id,
                                          .uid = r->spec.uid,
                                          .kind = r->spec.kind,
                                          .state = "decode",
                                          .n = r->spec.n,
                                          .prompt_tokens = r->spec.n_tokens,
                                          .age_ns = 1500000000};
        visit(user, &view);
    }
}
void scheduler_counts(const struct scheduler *s, struct scheduler_counts *counts) {
    *counts = s->counts;
}

/* The host. */
struct fake_host {
    uv_loop_t *loop;
    struct scheduler scheduler;
    struct model_params params;
    struct model_view view;
    enum service_state state;
    bool no_model, drills;
    unsigned offloaded;
    /* Card 1: what is known of it, and how often it was asked for. */
    const char *card_state;
    bool card_moving, card_used;
    unsigned moving_views; /* of the card, until it has arrived */
    const char *arrives;   /* in this state */
    uint64_t first_event, last_event;
    struct event event;
    unsigned events_taken; /* atomic: a test may look at it while the loop runs */
};

struct fake_work {
    uv_work_t work;
    void (*run)(void *arg);
    void (*done)(void *arg);
    void *arg;
};
static void fake_work_run(uv_work_t *work) {
    struct fake_work *w = work->data;
    w->run(w->arg);
}
static void fake_work_done(uv_work_t *work, int status) {
    struct fake_work *w = work->data;
    (void)status;
    w->done(w->arg);
    free(w);
}
static int fake_offload(void *user, void (*run)(void *), void (*done)(void *), void *arg) {
    struct fake_host *host = user;
    struct fake_work *w = calloc(1, sizeof *w);
    *w = (struct fake_work){.run = run, .done = done, .arg = arg};
    w->work.data = w;
    host->offloaded++;
    return uv_queue_work(host->loop, &w->work, fake_work_run, fake_work_done);
}
static uint64_t fake_now(void *user) {
    (void)user;
    return uv_hrtime();
}
static void fake_status(void *user, struct status_view *view) {
    const struct fake_host *host = user;
    *view = (struct status_view){.state = host->state,
                                 .status_text = "serving fake",
                                 .version = OCTARC_VERSION,
                                 .backend = "cpu",
                                 .split = "layer",
                                 .weights = "shared",
                                 .kv_type = "f16",
                                 .generation = 3,
                                 .n_cards = 2,
                                 .cards_online = 2,
                                 .weights_bytes = 100,
                                 .reused_bytes = 60,
                                 .huge_bytes = 30,
                                 .context = 4096};
}
static const struct topology *fake_topology(void *user) {
    static const uint64_t bytes[] = {1000, 1000};
    static struct topology topology;
    (void)user;
    topology_plain(&topology, 2, bytes, 0);
    return &topology;
}
static bool fake_change(const void *history, uint32_t i, struct change_view *change) {
    (void)history;
    *change = (struct change_view){1700000000000, "online", "lost", "it fell off"};
    return i == 0;
}
static uint32_t fake_cards(void *user, struct card_view views[CARDS_MAX]) {
    static const struct plan_card plan = {
        .layer_end = 15, .lane_end = 8, .weights_bytes = 100, .reason = "fits"};
    struct fake_host *host = user;
    if (host->card_moving && host->moving_views-- == 0) {
        host->card_moving = false;
        host->card_state = host->arrives;
        host->card_used = !strcmp(host->arrives, "online");
    }
    for (uint32_t i = 0; i < 2; i++)
        views[i] = (struct card_view){.card = i,
                                      .described = &fake_topology(user)->cards[i],
                                      .identity = "slot:cpu",
                                      .state = i && host->card_state ? host->card_state : "online",
                                      .moving = i && host->card_moving,
                                      .used = !i || host->card_used,
                                      .n_faults = 1,
                                      .faults = {{"lost", i}},
                                      .change = i ? fake_change : NULL,
                                      .capacity_bytes = 1000,
                                      .plan = i ? NULL : &plan,
                                      .weights_bytes = 100,
                                      .huge_bytes = i ? -1 : 30,
                                      .advised_bytes = 90,
                                      .prefetched_bytes = 80,
                                      .resident_bytes = i ? -1 : 70};
    return 2;
}
static const struct model_view *fake_model(void *user) {
    const struct fake_host *host = user;
    return host->no_model ? NULL : &host->view;
}
static struct scheduler *fake_scheduler(void *user) {
    struct fake_host *host = user;
    return &host->scheduler;
}
static int fake_drill_lose(void *user, uint32_t card, struct err *err) {
    const struct fake_host *host = user;
    if (!host->drills)
        return err_set(err, -EPERM, "drills are off (drill = yes)");
    return card < 2 ? 0 : err_set(err, -EINVAL, "no card %u", card);
}
static int fake_drill_kill(void *user, struct err *err) {
    return fake_drill_lose(user, 0, err);
}
static int fake_drill_corrupt(void *user, uint32_t card, bool silent, struct err *err) {
    return silent ? err_set(err, -ENODEV, "silent") : fake_drill_lose(user, card, err);
}
static int fake_move(struct fake_host *host, const char *by, const char *arrives) {
    host->card_state = by;
    host->arrives = host->arrives ? host->arrives : arrives;
    host->card_moving = true;
    host->moving_views = 3;
    host->last_event++;
    return 0;
}
static int fake_drain(void *user, uint32_t card, bool release, struct err *err) {
    if (card > 1)
        return err_set(err, -EINVAL, "there is no card %u; there are 2", card);
    if (card == 0)
        return err_set(err, -ENOSPC, "card 0 cannot be drained: the others are too small");
    return fake_move(user, "draining", release ? "offline" : "drained");
}
static int fake_online(void *user, uint32_t card, struct err *err) {
    if (card > 1)
        return err_set(err, -EINVAL, "there is no card %u; there are 2", card);
    if (card == 0)
        return 0; /* it is online already */
    return fake_move(user, "probing", "online");
}
static int fake_rebalance(void *user, bool dry_run, struct rebalance_view *view, struct err *err) {
    static struct model_tensor tensor = {.name = "blk.0.q"};
    static const struct model model = {.tensors = &tensor, .n_tensors = 1};
    struct fake_host *host = user;
    if (host->no_model)
        return err_set(err, -ENODEV, "no model is served");
    host->last_event += !dry_run;
    *view = (struct rebalance_view){.changes = true, .model = &model, .reload_bytes = 7};
    view->moves.moves = calloc(2, sizeof *view->moves.moves);
    view->moves.n = 2;
    view->moves.card_bytes = 64;
    view->moves.file_bytes = 32;
    view->moves.moves[0] = (struct move){.from = 1, .row_end = 4, .col_end = 16, .bytes = 64};
    view->moves.moves[1] =
        (struct move){.from = MOVE_FROM_FILE, .row_begin = 4, .row_end = 6, .col_end = 16};
    return 0;
}
static void fake_event_range(void *user, uint64_t *first, uint64_t *last) {
    const struct fake_host *host = user;
    *first = host->first_event;
    *last = host->last_event;
}
static const struct event *fake_event(void *user, uint64_t number) {
    struct fake_host *host = user;
    struct event *event = &host->event;
    __atomic_add_fetch(&host->events_taken, 1, __ATOMIC_RELAXED);
    *event = (struct event){.number = number,
                            .ms = 1700000000000,
                            .kind = "card",
                            .card = 1,
                            .from = "online",
                            .to = "lost",
                            .seconds = -1};
    snprintf(event->text, sizeof event->text, "%0200d", 7);
    return event;
}
static void fake_metrics(void *user, struct metrics_view *view) {
    (void)user;
    *view = (struct metrics_view){3, 4, 5, 64, 600, 7, 2, 1, {{{0, 8192}}}, true, 9};
}
static int fake_measure(void *user,
                        void (*done)(void *arg, const struct limits_view *limits, const char *why),
                        void *arg, struct err *err) {
    static const struct limits_view limits = {5, 6, 7, -1, 8, 9, 2, "avx2"};
    const struct fake_host *host = user;
    if (host->no_model)
        return err_set(err, -ENODEV, "no engine is serving now");
    done(arg, &limits, NULL);
    return 0;
}
static int fake_check(void *user, int64_t card,
                      void (*done)(void *arg, const struct check_view *view, const char *why),
                      void *arg, struct err *err) {
    static const struct check_view view = {2, {{0, 9, 0, 0, 640, 0.5}, {1, 8, 2, 1, 320, 0.25}}};
    const struct fake_host *host = user;
    if (card > 1)
        return err_set(err, -EINVAL, "there is no card %d; there are 2", (int)card);
    if (card == 1)
        return err_set(err, -EBUSY, "other cards are being checked");
    done(arg, host->drills ? &view : NULL, "the engine ended");
    return 0;
}
static int fake_reload(void *user, struct err *err) {
    (void)user;
    return err_set(err, -EINVAL, "octarc.conf:3: unknown key 'colour'");
}

static void fake_host_init(struct fake_host *fake, uv_loop_t *loop, struct protocol_host *host) {
    memset(fake, 0, sizeof *fake);
    for (int i = 0; i < 256; i++)
        fake_tokenizer.bytes[i] = (char)i;
    fake->loop = loop;
    fake->first_event = 1;
    fake->state = SERVICE_READY;
    fake->params.n_ctx_train = 8192;
    fake->view = (struct model_view){.id = "fake",
                                     .params = &fake->params,
                                     .tokenizer = &fake_tokenizer,
                                     .chat = (const struct chat_template *)&fake_tokenizer,
                                     .bos_text = "<s>",
                                     .eos_text = "</s>",
                                     .created = 1700000000,
                                     .context = 4096};
    fake->scheduler.ms = 1;
    fake->scheduler.timer.data = &fake->scheduler;
    uv_timer_init(loop, &fake->scheduler.timer);
    *host = (struct protocol_host){.user = fake,
                                   .now_ns = fake_now,
                                   .status = fake_status,
                                   .cards = fake_cards,
                                   .topology = fake_topology,
                                   .model = fake_model,
                                   .scheduler = fake_scheduler,
                                   .drill_lose = fake_drill_lose,
                                   .drill_kill_engine = fake_drill_kill,
                                   .drill_return = fake_drill_lose,
                                   .drill_corrupt = fake_drill_corrupt,
                                   .drill_hang = fake_drill_lose,
                                   .drain = fake_drain,
                                   .online = fake_online,
                                   .rebalance = fake_rebalance,
                                   .event_range = fake_event_range,
                                   .event = fake_event,
                                   .metrics = fake_metrics,
                                   .measure = fake_measure,
                                   .check = fake_check,
                                   .reload = fake_reload,
                                   .offload = fake_offload,
                                   .max_request_bytes = 1u << 20};
}

#endif
