/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/kept.h"
#include "daemon/engine/weights.h"
#include "octarc/error.h"

#define ALL_CARDS   UINT32_MAX
#define PROGRESS_NS UINT64_C(500000000)
#define SECOND_NS   UINT64_C(1000000000)
#define CREDIT_MAX                                                                                 \
    (INT64_C(1000000000) / 10) /* of the scrub: what was not used is not saved up                  \
                                */

/* On its way through the plan's ranges. */
struct pass {
    bool on;
    uint32_t cards;    /* bit mask */
    uint32_t range;    /* under way … */
    uint64_t at, sum;  /* … so much of it, and what that contributes to its digest */
    uint64_t range_ns; /* when it was begun */
    struct msg_verified found;
};

struct verify {
    struct verify_site site;
    const struct plan *plan; /* of the runner whose digests these are; NULL: not yet taken */
    const uint64_t *digests; /* [n_ranges]; the runner's */
    uint64_t *whole_ns;      /* [n_ranges]: when it was last known whole */
    uint64_t scrub_bytes;
    uint32_t held; /* cards to be whole before the next step */
    uint32_t lost; /* cards that were lost while they were read */
    bool suspect;  /* something was harmed: what was computed may be wrong */
    struct pass holding, asked, scrub;
    uint64_t told_ns; /* when PROGRESS was sent last */
    int32_t asked_card;
    uint64_t scrub_due_ns; /* the next slice */
    bool put_off;          /* the scrub waits */
    int64_t credit_ns;     /* of the steps' time, for the scrub */
};

static uint64_t now_ns(const struct verify *v) {
    return v->site.output.now_ns(v->site.output.user);
}

static struct device *device(const struct verify *v) {
    return runner_device(*v->site.runner);
}

static const struct runner_options *options(const struct verify *v) {
    return runner_options(*v->site.runner);
}

int verify_create(struct verify **out, const struct verify_site *site) {
    struct verify *v = calloc(1, sizeof *v);
    if (!v)
        return -ENOMEM;
    v->site = *site;
    *out = v;
    return 0;
}

void verify_destroy(struct verify *v) {
    if (!v)
        return;
    free(v->whole_ns);
    free(v);
}

static void begin(struct verify *v, struct pass *p, enum verify_cause cause, uint64_t number,
                  uint32_t cards) {
    *p = (struct pass){.on = true, .cards = cards};
    p->found = (struct msg_verified){.generation = v->site.generation,
                                     .number = number,
                                     .cause = cause,
                                     .n_cards = v->plan ? v->plan->n_cards : 0};
}

static uint32_t mask_of(int32_t card) {
    return card < 0 ? ALL_CARDS : 1u << card;
}

int verify_ask(struct verify *v, uint64_t number, int32_t card) {
    v->asked_card = card;
    begin(v, &v->asked, VERIFY_ASKED, number, mask_of(card));
    return 0;
}

/* What a pass has passed by then may be what is reported: it goes from the beginning once more, and
 * what it found stays found. */
void verify_hold(struct verify *v, uint32_t card) {
    v->held |= 1u << card;
    if (!v->holding.on)
        return;
    v->holding.cards = v->held;
    v->holding.range = 0;
    v->holding.at = v->holding.sum = 0;
}

void verify_put_off(struct verify *v, bool put_off) {
    v->put_off = put_off;
}

bool verify_holds(const struct verify *v) {
    return v->held != 0;
}

void verify_runner_changed(struct verify *v) {
    v->plan = NULL; /* it went with the runner */
}

/* A runner that was not here before has just been proven, or read. */
static int attach(struct verify *v) {
    const struct plan *plan = options(v)->plan;
    if (v->plan)
        return 0;
    const uint64_t now = now_ns(v);
    uint64_t *whole_ns = calloc(plan->n_ranges + 1, sizeof *whole_ns);
    if (!whole_ns)
        return -ENOMEM;
    free(v->whole_ns);
    v->digests = runner_digests(*v->site.runner);
    v->whole_ns = whole_ns;
    v->plan = plan;
    v->scrub_bytes = 0;
    for (size_t i = 0; i < plan->n_ranges; i++) {
        whole_ns[i] = now;
        v->scrub_bytes += plan->ranges[i].bytes;
    }
    v->holding.on = false;
    if (v->asked.on)
        begin(v, &v->asked, VERIFY_ASKED, v->asked.found.number, mask_of(v->asked_card));
    begin(v, &v->scrub, VERIFY_SCRUB, 0, ALL_CARDS);
    v->scrub_due_ns = now;
    return 0;
}

/* --- a harmed range --- */

/* Nothing may be computed any more. */
static int give_up(struct verify *v, int rc, const struct err *err) {
    struct msg_failed failed = {.error = rc};
    snprintf(failed.text, sizeof failed.text, "%s", err->text);
    v->site.output.send(v->site.output.user, MSG_FAILED, &failed);
    return rc;
}

static void count_harm(struct verify *v, uint32_t card, bool repaired) {
    struct pass *const passes[] = {&v->holding, &v->asked, &v->scrub};
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) {
        if (!passes[i]->on || !(passes[i]->cards >> card & 1))
            continue;
        struct verified_card *c = &passes[i]->found.cards[card];
        *(repaired ? &c->repaired : &c->harmed) += 1;
    }
}

static int restore(struct verify *v, uint32_t range) {
    const struct plan_range *r = &v->plan->ranges[range];
    struct msg_harmed msg = {.generation = v->site.generation,
                             .card = r->card,
                             .row_begin = r->row_begin,
                             .row_end = r->row_end,
                             .col_begin = r->col_begin,
                             .col_end = r->col_end,
                             .bytes = r->bytes};
    struct err err = {{0}};
    const uint64_t begin_ns = now_ns(v);
    snprintf(msg.tensor, sizeof msg.tensor, "%s", options(v)->model->tensors[r->tensor].name);
    count_harm(v, r->card, false);
    const int rc = weights_restore(device(v), options(v), range, v->digests[range], &err);
    if (rc)
        return give_up(v, rc, &err);
    count_harm(v, r->card, true);
    const uint64_t now = now_ns(v);
    msg.age_ns = begin_ns - v->whole_ns[range];
    msg.read_ns = now - begin_ns;
    v->whole_ns[range] = now;
    return v->site.output.send(v->site.output.user, MSG_HARMED, &msg);
}

/* Where one range is harmed others may be: all of the card is verified before the next step. */
static int on_harm(struct verify *v, const struct pass *p) {
    const uint32_t card = v->plan->ranges[p->range].card;
    /* While they are harmed: the next engine would find them whole. */
    kept_distrust(v->site.kept);
    int rc = replan_cancel(v->site.replan, "weights in use were harmed");
    if (!rc)
        rc = restore(v, p->range);
    v->suspect = true;
    if (p != &v->holding)
        verify_hold(v, card);
    return rc;
}

/* --- a slice --- */

static int end_range(struct verify *v, struct pass *p) {
    const struct plan_range *r = &v->plan->ranges[p->range];
    int rc = 0;
    p->found.cards[r->card].ranges++;
    if (device_digest_close(p->sum, r->bytes) == v->digests[p->range])
        v->whole_ns[p->range] = p->range_ns;
    else
        rc = on_harm(v, p);
    p->range++;
    p->at = p->sum = 0;
    return rc;
}

/* By a slice so far. */
struct taken {
    uint64_t bytes, ns;
};

/* Some of the range under way: at most `most` bytes, whole leaves unless it ends. */
static int digest_some(struct verify *v, struct pass *p, uint64_t most, struct taken *taken) {
    const struct plan_range *r = &v->plan->ranges[p->range];
    struct verified_card *found = &p->found.cards[r->card];
    const uint64_t n = r->bytes - p->at < most ? r->bytes - p->at : most;
    const uint64_t begin_ns = now_ns(v);
    uint64_t sum = 0;
    if (p->at == 0)
        p->range_ns = begin_ns;
    const int rc = options(v)->backend->digest_part(device(v), r->card, r->offset + p->at, n,
                                                    p->at / DIGEST_LEAF_BYTES, &sum);
    if (rc == -ENODEV)
        v->lost |= 1u << r->card;
    if (rc)
        return rc;
    p->sum += sum;
    p->at += n;
    found->bytes += n;
    const uint64_t ns = now_ns(v) - begin_ns;
    found->ns += ns;
    taken->bytes += n;
    taken->ns += ns;
    return p->at == r->bytes ? end_range(v, p) : 0;
}

/* 1: the pass is at its end.  A harmed range ends the slice: it was long enough. */
static int slice(struct verify *v, struct pass *p, uint64_t most, uint64_t *bytes) {
    struct taken taken = {0};
    const bool held = v->held;
    int rc = 0;
    while (p->range < v->plan->n_ranges && taken.bytes < most && taken.ns < VERIFY_SLICE_NS &&
           held == (v->held != 0) && !rc) {
        const uint64_t left = (most - taken.bytes + DIGEST_LEAF_BYTES - 1) / DIGEST_LEAF_BYTES;
        if (p->cards >> v->plan->ranges[p->range].card & 1)
            rc = digest_some(v, p, left * DIGEST_LEAF_BYTES, &taken);
        else
            p->range++;
    }
    *bytes = taken.bytes;
    return rc ? rc : p->range == v->plan->n_ranges;
}

/* --- the three kinds --- */

static int tell(struct verify *v, struct pass *p) {
    p->on = false;
    return v->site.output.send(v->site.output.user, MSG_VERIFIED, &p->found);
}

/* What the sequences hold may be wrong. */
static int start_over(struct verify *v) {
    v->suspect = false;
    const int rc = engine_start_over(v->site.engine);
    kept_trust(v->site.kept);
    return rc;
}

/* While steps wait, or none run, an engine has nothing else to say. */
static int report_progress(struct verify *v, const struct pass *p) {
    const uint64_t now = now_ns(v);
    struct msg_progress msg = {0};
    if (now - v->told_ns < PROGRESS_NS)
        return 0;
    v->told_ns = now;
    for (size_t i = 0; i < v->plan->n_ranges; i++)
        if (p->cards >> v->plan->ranges[i].card & 1)
            msg.total_bytes += v->plan->ranges[i].bytes;
    for (uint32_t i = 0; i < v->plan->n_cards; i++)
        msg.done_bytes += p->found.cards[i].bytes;
    return v->site.output.send(v->site.output.user, MSG_PROGRESS, &msg);
}

static int advance_holding(struct verify *v) {
    uint64_t bytes;
    if (!v->holding.on)
        begin(v, &v->holding, VERIFY_REPORTED, 0, v->held);
    int rc = slice(v, &v->holding, VERIFY_SLICE_BYTES, &bytes);
    if (rc == 0)
        return report_progress(v, &v->holding);
    if (rc < 0)
        return rc;
    v->held &= ~v->holding.cards;
    rc = v->suspect ? start_over(v) : 0;
    return rc ? rc : tell(v, &v->holding);
}

static int advance_asked(struct verify *v) {
    uint64_t bytes;
    const int rc = slice(v, &v->asked, VERIFY_SLICE_BYTES, &bytes);
    if (rc == 0)
        return report_progress(v, &v->asked);
    /* With harm in its last range it ends when that card was looked at. */
    return rc != 1 ? rc : v->held ? 0 : tell(v, &v->asked);
}

static int advance_scrub(struct verify *v, uint64_t now, uint64_t step_ns) {
    uint64_t bytes = 0;
    const uint64_t period_ns = v->site.scrub_s * SECOND_NS;
    int rc = slice(v, &v->scrub, SCRUB_SLICE_BYTES, &bytes);
    if (step_ns)
        v->credit_ns -= (int64_t)(now_ns(v) - now);
    const double share = v->scrub_bytes ? (double)bytes / (double)v->scrub_bytes : 1;
    v->scrub_due_ns += (uint64_t)(share * (double)period_ns);
    if (now > v->scrub_due_ns && now - v->scrub_due_ns > period_ns)
        v->scrub_due_ns = now; /* it cannot keep up, and need not make up for it */
    if (rc != 1)
        return rc;
    rc = v->held ? 0 : tell(v, &v->scrub);
    if (!v->scrub.on)
        begin(v, &v->scrub, VERIFY_SCRUB, 0, ALL_CARDS);
    return rc;
}

/* Beside steps it has its share of their time, which it may overdraw by one slice; else none is
 * taken from anybody. */
static bool scrub_may(struct verify *v, uint64_t step_ns) {
    if (step_ns == 0)
        return true;
    v->credit_ns += (int64_t)(step_ns / SCRUB_SHARE);
    v->credit_ns = v->credit_ns < CREDIT_MAX ? v->credit_ns : CREDIT_MAX;
    return v->credit_ns > 0;
}

bool verify_lost_card(const struct verify *v, uint32_t *card) {
    if (v->lost)
        *card = (uint32_t)__builtin_ctz(v->lost);
    return v->lost;
}

int verify_advance(struct verify *v, uint64_t step_ns) {
    const int rc = attach(v);
    if (rc == -EBADMSG) { /* a header went with the harm: the next engine proves all anew */
        const struct err err = {.text = "the header of a card's weights is not whole any more"};
        return give_up(v, rc, &err);
    }
    if (rc)
        return rc;
    if (v->held)
        return advance_holding(v);
    if (v->asked.on)
        return advance_asked(v);
    const uint64_t now = now_ns(v);
    const bool may = scrub_may(v, step_ns); /* every step counts */
    if (!v->site.scrub_s || v->put_off || now < v->scrub_due_ns || !may)
        return 0;
    return advance_scrub(v, now, step_ns);
}

int verify_patience_ms(const struct verify *v) {
    const uint64_t now = now_ns(v);
    if (v->held || v->asked.on || !v->plan)
        return 0;
    if (!v->site.scrub_s || v->put_off)
        return -1;
    if (now >= v->scrub_due_ns)
        return 0;
    const uint64_t ms = (v->scrub_due_ns - now + 999999) / 1000000;
    return ms > 60000 ? 60000 : (int)ms;
}
