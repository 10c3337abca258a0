/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/runner.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/advice.h"
#include "daemon/engine/program.h"
#include "daemon/engine/rotations.h"
#include "daemon/engine/stage.h"
#include "daemon/engine/traffic.h"
#include "daemon/engine/unused.h"
#include "daemon/engine/weights.h"
#include "daemon/placement/layout.h"
#include "octarc/error.h"

#define DRILL_BYTES 4096u /* in which a drill flips bits */

/* What is freed behind the steps. */
struct left_behind {
    struct runner *runner;
    struct plan *plan;
};

struct runner {
    struct runner_options options;
    struct device *device;
    struct file_identity memory[CARDS_MAX]; /* of the memfds; zero where weights are private */
    uint64_t *digests;                      /* [n_ranges] */
    struct left_behind left;
    bool leaves; /* the thread is there, and not yet joined */
    pthread_t leaver;
    struct program programs[CARDS_MAX];
    struct weights_origin origin[CARDS_MAX];
    struct advised_card advised[CARDS_MAX];
    struct traffic traffic; /* of a step */
    struct link_bytes carried;
    struct fetch_counts fetched_before; /* by the runners before */
    struct rotations *rotations;
};

/* --- the cards' memory --- */

/* The card of the runner before is there to be read, and has this area. */
static bool has_area(const struct runner *before, uint32_t card, enum area area) {
    const struct runner_options *o = before ? &before->options : NULL;
    return o && card < o->plan->n_cards && o->plan->cards[card].online &&
           o->backend->copy(before->device, card, area, 0, before->device, card, 0, 0) == 0;
}

static int identify_memory(struct runner *r, struct err *err) {
    for (uint32_t i = 0; i < r->options.plan->n_cards; i++) {
        const int fd = r->options.weight_fds[i];
        const int rc = fd < 0 ? 0 : identity_of(fd, &r->memory[i]);
        if (rc)
            return err_set(err, rc, "card %u: its weight memory cannot be looked at", i);
    }
    return 0;
}

/* The memory of weights is the one that the card has in the runner before, or both are private. */
static bool same_memory(const struct runner *r, uint32_t card) {
    const struct runner *before = r->options.before;
    return r->memory[card].inode == before->memory[card].inode &&
           r->memory[card].device == before->memory[card].device;
}

/* A card that has no room beside what it held does without that. */
static int reserve_held(struct runner *r, uint32_t card, struct err *err) {
    const struct device_ops *ops = r->options.backend;
    const struct runner_held *held = &r->options.held[card];
    const uint64_t end = layout_end(r->options.plan, card);
    const uint64_t bytes = r->options.plan->cards[card].weights_bytes;
    uint64_t room = held->bytes[0];
    int rc = ops->reserve(r->device, card, AREA_WEIGHTS, room, bytes < room ? bytes : room,
                          held->fds[0], err);
    for (uint32_t i = 1; i < held->n && !rc; i++) {
        rc = ops->extend(r->device, card, AREA_WEIGHTS, held->bytes[i], bytes, held->fds[i], err);
        room += held->bytes[i];
    }
    if (!rc && end > room)
        rc = ops->extend(r->device, card, AREA_WEIGHTS, end - room, bytes, -1, err);
    return rc == -ENOSPC || rc == -ENOTSUP ? -EREMOTE : rc;
}

static int reserve_weights(struct runner *r, uint32_t card, bool *in_place, struct err *err) {
    const struct plan *plan = r->options.plan;
    const struct device_ops *ops = r->options.backend;
    const struct plan_card *c = &plan->cards[card];
    const int fd = r->options.weight_fds[card];
    const bool used = has_area(r->options.before, card, AREA_WEIGHTS);
    *in_place = used && layout_in_place(r->options.before->options.plan, plan, card);
    if (used && fd >= 0 && *in_place != same_memory(r, card))
        return err_set(err, -EINVAL, "card %u: it has other memory in use", card);
    if (*in_place && !layout_is_beside(r->options.before->options.plan, plan, card))
        return err_set(err, -EINVAL, "card %u: the plan's ranges lie on those in use", card);
    if (r->options.held[card].n)
        return reserve_held(r, card, err);
    if (fd >= 0)
        return ops->reserve(r->device, card, AREA_WEIGHTS, layout_end(plan, card), c->weights_bytes,
                            fd, err);
    return *in_place ? ops->share(r->options.before->device, card, AREA_WEIGHTS, r->device, card,
                                  layout_end(plan, card), c->weights_bytes, err)
                     : ops->reserve(r->device, card, AREA_WEIGHTS, layout_room(plan, card),
                                    c->weights_bytes, -1, err);
}

static int reserve_kv(struct runner *r, uint32_t card, struct err *err) {
    const struct plan *plan = r->options.plan;
    const struct runner *before = r->options.before;
    const struct device_ops *ops = r->options.backend;
    const uint64_t room = layout_kv_room(plan, &r->options.model->params, card);
    const uint64_t bytes = plan->cards[card].kv_bytes, held = r->options.held_kv[card].bytes;
    if (held) {
        int rc = held == room ? ops->reserve(r->device, card, AREA_KV, room, bytes,
                                             r->options.held_kv[card].fd, err)
                              : err_set(err, -EREMOTE, "its K and V are as long as another plan's");
        rc = rc == -ENOSPC ? -EREMOTE : rc;
        if (rc == -EREMOTE && r->options.refused)
            *r->options.refused |= 1u << card;
        return rc;
    }
    return has_area(before, card, AREA_KV) && layout_keeps_kv(before->options.plan, plan, card)
               ? ops->share(before->device, card, AREA_KV, r->device, card, room, bytes, err)
               : ops->reserve(r->device, card, AREA_KV, room, bytes, -1, err);
}

/* Those of all cards, so that all that do not take over what they had are known at once. */
static int reserve_all_weights(struct runner *r, bool in_place[CARDS_MAX], struct err *err) {
    const struct plan *plan = r->options.plan;
    struct err why = {{0}};
    int refused = 0;
    for (uint32_t i = 0; i < plan->n_cards; i++) {
        in_place[i] = false;
        if (!plan->cards[i].weights_bytes)
            continue;
        const int rc = reserve_weights(r, i, &in_place[i], &why);
        if (rc == -EREMOTE && r->options.refused)
            *r->options.refused |= 1u << i;
        if (rc == -EREMOTE)
            refused = err_set(err, rc, "%s", why.text);
        else if (rc)
            return err_set(err, rc, "%s", why.text);
    }
    return refused;
}

static int reserve_areas(struct runner *r, bool in_place[CARDS_MAX], struct err *err) {
    const struct plan *plan = r->options.plan;
    int rc = identify_memory(r, err);
    if (!rc)
        rc = reserve_all_weights(r, in_place, err);
    for (uint32_t i = 0; i < plan->n_cards && !rc; i++) {
        const struct plan_card *c = &plan->cards[i];
        if (c->kv_bytes)
            rc = reserve_kv(r, i, err);
        if (!rc && c->scratch_bytes)
            rc = r->options.backend->reserve(r->device, i, AREA_SCRATCH, c->scratch_bytes,
                                             c->scratch_bytes, -1, err);
        if (!rc && c->landing_bytes)
            rc = r->options.backend->reserve(r->device, i, AREA_LANDING, c->landing_bytes,
                                             c->landing_bytes, -1, err);
    }
    return rc;
}

/* K and V of layers that the plan does not have on the card. */
static int trim_kv(struct runner *r, uint32_t card) {
    const struct plan *plan = r->options.plan;
    const struct plan_card *c = &plan->cards[card];
    const struct device_ops *ops = r->options.backend;
    const uint64_t room = layout_kv_room(plan, &r->options.model->params, card);
    const uint64_t begin = layout_kv_at(plan, &r->options.model->params, card, c->layer_begin);
    const uint64_t end = layout_kv_at(plan, &r->options.model->params, card, c->layer_end);
    const int rc = ops->clear(r->device, card, AREA_KV, 0, begin);
    return rc ? rc : ops->clear(r->device, card, AREA_KV, end, room - end);
}

int runner_trim(struct runner *r) {
    const struct plan *plan = r->options.plan;
    int rc = unused_clear(r->device, &r->options, NULL, NULL);
    for (uint32_t i = 0; i < plan->n_cards && !rc; i++) {
        rc = plan->cards[i].kv_bytes ? trim_kv(r, i) : 0;
        rc = rc == -ENODEV ? 0 : rc; /* a lost card has nothing to give back */
    }
    return rc;
}

static void *leave(void *arg) {
    struct runner *r = arg;
    runner_close(r->left.runner);
    plan_finish(r->left.plan);
    free(r->left.plan);
    runner_trim(r);
    return NULL;
}

/* Giving back gigabytes takes the kernel a while, in which steps can run. */
void runner_leave_behind(struct runner *r, struct runner *left, struct plan *left_plan) {
    runner_settle(r);
    r->left = (struct left_behind){left, left_plan};
    r->leaves = pthread_create(&r->leaver, NULL, leave, r) == 0;
    if (!r->leaves)
        leave(r);
}

void runner_settle(struct runner *r) {
    if (r->leaves)
        pthread_join(r->leaver, NULL);
    r->leaves = false;
}

static void note_copies(struct runner *r) {
    for (uint32_t to = 0; to < CARDS_MAX; to++)
        for (uint32_t from = 0; from < CARDS_MAX; from++)
            runner_note_carried(r, from, to, r->origin[to].from_bytes[from]);
}

static uint32_t staged_cards(const struct runner *r) {
    uint32_t cards = 0;
    for (uint32_t c = 0; c < CARDS_MAX; c++)
        cards |= (uint32_t)stage_has(r->options.stage, c) << c;
    return cards;
}

/* Fill the cards, between the advice that it needs and the prefetch that ends it. */
static int load_cards(struct runner *r, const bool in_place[CARDS_MAX], struct err *err) {
    const struct device_ops *ops = r->options.backend;
    struct hints hints = {0};
    int rc = hints_build(&hints, r->options.model, r->options.plan);
    if (rc)
        return err_set(err, rc, "no memory for the plan's hints");
    rc = advice_give(ops, r->device, &hints, r->advised, err);
    if (!rc)
        rc = weights_load(r->device, &r->options, in_place, r->digests, r->origin, err);
    if (!rc)
        note_copies(r);
    if (!rc)
        rc = advice_bring_home(ops, r->device, &hints, ~staged_cards(r), r->options.cancelled,
                               r->advised, err);
    hints_finish(&hints);
    return rc;
}

/* Which cards of the device it is that the failure is about, where it says so. */
static void find_lost(const struct runner *r) {
    struct device_properties p;
    for (uint32_t i = 0; r->device && i < r->options.plan->n_cards; i++)
        if (r->options.plan->cards[i].online &&
            r->options.backend->properties(r->device, i, &p) == -ENODEV)
            *r->options.lost |= 1u << i;
}

int runner_open(struct runner **runner, const struct runner_options *options, struct err *err) {
    struct runner *r = calloc(1, sizeof *r);
    struct device_options device = options->device;
    device.lost = options->lost;
    bool in_place[CARDS_MAX] = {false};
    int rc;
    if (!r)
        return err_set(err, -ENOMEM, "no memory for a runner");
    r->options = *options;
    r->options.stage = NULL;
    r->digests = calloc(options->plan->n_ranges + 1, sizeof *r->digests);
    if (options->before)
        runner_settle(options->before);

    device.n_cards = options->plan->n_cards;
    device.max_rows = options->plan->max_rows;
    for (uint32_t i = 0; i < device.n_cards; i++) {
        device.present[i] = options->plan->cards[i].online;
        device.capacity_bytes[i] = options->plan->cards[i].capacity_bytes;
        device.host_bytes[i] = options->plan->cards[i].spilled_bytes;
    }
    /* Before gigabytes are read. */
    rc = r->digests
             ? rotations_open(&r->rotations, options->model, options->plan, options->head_fds, err)
             : -ENOMEM;
    if (rc)
        goto fail;
    rc = options->backend->open(&r->device, &device, err);
    if (rc)
        goto fail;
    rc = stage_open(&r->options.stage, &r->options, err);
    if (!rc)
        rc = reserve_areas(r, in_place, err);
    if (rc)
        goto fail;
    rc = programs_compile(r->programs, options->model, options->plan, err);
    if (!rc)
        rc = options->backend->check(r->device, r->programs, err);
    if (rc)
        goto fail;
    rc = load_cards(r, in_place, err);
    if (rc)
        goto fail;
    rc = traffic_build(&r->traffic, r->programs);
    if (rc) {
        err_set(err, rc, "no memory to count what the cards exchange");
        goto fail;
    }
    rc = options->backend->load(r->device, r->programs, err);
    if (rc)
        goto fail;
    r->options.before = NULL; /* all six are of the loading */
    r->options.lost = NULL;
    r->options.refused = NULL;
    r->options.paused = NULL;
    r->options.cancelled = NULL;
    r->options.progress = NULL;
    *runner = r;
    return 0;

fail:
    if (rc == -ENODEV && options->lost)
        find_lost(r);
    runner_close(r);
    if (options->before)
        runner_trim(options->before);
    return rc;
}

/* --- full cards change over --- */

/* All that only the runner before used on the card. */
static int vacate(struct runner *r, struct runner *before, uint32_t card) {
    const struct device_ops *ops = r->options.backend;
    ops->release(before->device, card, AREA_SCRATCH);
    if (!layout_keeps_kv(before->options.plan, r->options.plan, card))
        ops->release(before->device, card, AREA_KV);
    const int rc = unused_clear_card(r->device, &r->options, card);
    return rc || !r->options.plan->cards[card].kv_bytes ? rc : trim_kv(r, card);
}

/* What does not arrive as it was proven in the stage is read from the file. */
static int bring_range(struct runner *r, size_t i, struct err *err) {
    const struct device_ops *ops = r->options.backend;
    const struct plan_range *to = &r->options.plan->ranges[i];
    struct plan_range from = *to;
    uint64_t digest = 0;
    if (!stage_place(r->options.stage, i, &from))
        return 0;
    int rc = ops->copy(stage_device(r->options.stage), from.card, AREA_WEIGHTS, from.offset,
                       r->device, to->card, to->offset, to->bytes);
    if (!rc)
        rc = ops->digest(r->device, to->card, AREA_WEIGHTS, to->offset, to->bytes, &digest);
    if (rc)
        return err_set(err, rc, "card %u: '%s' does not come from host memory: %s", to->card,
                       r->options.model->tensors[to->tensor].name, strerror(-rc));
    return digest == r->digests[i]
               ? 0
               : weights_restore(r->device, &r->options, (uint32_t)i, r->digests[i], err);
}

int runner_move_in(struct runner *r, struct runner *before, struct err *err) {
    struct hints hints = {0};
    int rc = 0;
    if (!r->options.stage)
        return 0;
    runner_settle(before);
    for (uint32_t c = 0; c < r->options.plan->n_cards && !rc; c++)
        if (stage_has(r->options.stage, c) && (rc = vacate(r, before, c)))
            err_set(err, rc, "card %u does not let go of what it had: %s", c, strerror(-rc));
    for (size_t i = 0; i < r->options.plan->n_ranges && !rc; i++)
        rc = bring_range(r, i, err);
    if (rc)
        return rc;
    rc = hints_build(&hints, r->options.model, r->options.plan);
    if (rc)
        return err_set(err, rc, "no memory for the plan's hints");
    rc = advice_bring_home(r->options.backend, r->device, &hints, staged_cards(r), NULL, r->advised,
                           err);
    hints_finish(&hints);
    return rc;
}

void runner_leave_stage(struct runner *r) {
    stage_close(r->options.stage);
    r->options.stage = NULL;
}

void runner_close(struct runner *r) {
    if (!r)
        return;
    runner_settle(r);
    stage_close(r->options.stage);
    if (r->device)
        r->options.backend->close(r->device);
    programs_finish(r->programs);
    traffic_finish(&r->traffic);
    free(r->digests);
    rotations_close(r->rotations);
    free(r);
}

void runner_card(const struct runner *r, uint32_t card, struct runner_card *out) {
    struct device_properties p = {0};
    r->options.backend->properties(r->device, card, &p);
    *out = (struct runner_card){.weights_bytes = p.used_bytes[AREA_WEIGHTS],
                                .kv_bytes = p.used_bytes[AREA_KV],
                                .scratch_bytes = p.used_bytes[AREA_SCRATCH],
                                .landing_bytes = p.used_bytes[AREA_LANDING],
                                .fetched_bytes = p.fetched_bytes,
                                .faults = p.faults,
                                .misread = p.misread,
                                .svm = p.svm,
                                .xmx = p.xmx,
                                .native = p.native,
                                .copied_bytes = r->origin[card].copied_bytes,
                                .advised_bytes = r->advised[card].advised_bytes,
                                .prefetched_bytes = r->advised[card].prefetched_bytes,
                                .resident_bytes = r->advised[card].resident_bytes,
                                .kept_bytes = r->origin[card].kept_bytes};
    memcpy(out->storage_why, p.storage_why, sizeof out->storage_why);
    memcpy(out->xmx_why, p.xmx_why, sizeof out->xmx_why);
    memcpy(out->native_why, p.native_why, sizeof out->native_why);
}

const struct runner_options *runner_options(const struct runner *r) {
    return &r->options;
}

const uint64_t *runner_digests(const struct runner *r) {
    return r->digests;
}

struct device *runner_device(const struct runner *r) {
    return r->device;
}

void runner_carried(const struct runner *r, struct link_bytes *bytes) {
    *bytes = r->carried;
}

void runner_fetched(const struct runner *r, struct fetch_counts *counts) {
    *counts = r->fetched_before;
    for (uint32_t i = 0; i < r->options.plan->n_cards; i++) {
        struct device_properties p = {0};
        r->options.backend->properties(r->device, i, &p);
        counts->bytes[i] += p.fetched_bytes;
        counts->faults[i] += p.faults;
    }
}

void runner_inherit(struct runner *r, const struct runner *before) {
    struct fetch_counts fetched;
    runner_fetched(before, &fetched);
    link_bytes_add(&r->carried, &before->carried);
    fetch_counts_add(&r->fetched_before, &fetched);
}

void runner_note_carried(struct runner *r, uint32_t from, uint32_t to, uint64_t bytes) {
    r->carried.n[from][to] += from == to ? 0 : bytes;
}

int runner_step(struct runner *r, struct step_params *params, uint32_t *card) {
    const struct plan *plan = r->options.plan;
    if (params->n_rows == 0 || params->n_rows > plan->max_rows ||
        params->n_outputs > plan->max_outputs)
        return -EINVAL;
    const int rc = rotations_fill(r->rotations, params);
    if (rc)
        return rc;
    params->n_vocab = r->options.model->params.n_vocab;
    const int ran = r->options.backend->step(r->device, params, card);
    if (ran == 0)
        traffic_add(&r->traffic, params, &r->carried);
    return ran;
}

int runner_lose(struct runner *r, uint32_t card) {
    runner_settle(r);
    return r->options.backend->lose(r->device, card);
}

/* In the middle, where a matrix has its values. */
int runner_corrupt(struct runner *r, uint32_t card) {
    const struct plan *plan = r->options.plan;
    const struct plan_range *largest = NULL;
    uint8_t bytes[DRILL_BYTES];
    for (size_t i = 0; i < plan->n_ranges; i++)
        if (plan->ranges[i].card == card && (!largest || plan->ranges[i].bytes > largest->bytes))
            largest = &plan->ranges[i];
    if (!largest)
        return -ENODATA;
    const uint64_t n = largest->bytes < sizeof bytes ? largest->bytes : sizeof bytes;
    const uint64_t at = largest->offset + (largest->bytes - n) / 2;
    int rc = r->options.backend->peek(r->device, card, at, bytes, n);
    for (uint64_t i = 0; i < n; i++)
        bytes[i] ^= 0x15;
    if (!rc)
        rc = r->options.backend->poke(r->device, card, at, bytes, n);
    return rc;
}

int runner_hang(struct runner *r, uint32_t card) {
    return r->options.backend->hang(r->device, card);
}

/* The sweep may have gone over holes, which take memory then. */
int runner_measure(struct runner *r, struct device_limits *limits) {
    runner_settle(r);
    const int rc = r->options.backend->measure(r->device, limits);
    return rc ? rc : runner_trim(r);
}

int runner_huge(struct runner *r, uint64_t bytes[CARDS_MAX]) {
    return r->options.backend->huge(r->device, bytes);
}

/* discard or clear, of device_ops. */
typedef int empty_fn(struct device *device, uint32_t card, enum area area, uint64_t offset,
                     uint64_t bytes);

/* Neighbours together: a page alone may hold no whole page of the host. */
static int empty_pages(struct runner *r, empty_fn *empty, uint32_t card, uint32_t begin,
                       uint32_t end) {
    const struct plan_card *c = &r->options.plan->cards[card];
    int rc = 0;
    for (uint32_t layer = c->layer_begin; layer < c->layer_end && !rc; layer++) {
        const struct kv_place at = program_kv_place(r->options.model, r->options.plan, card, layer);
        rc = empty(r->device, card, AREA_KV, at.offset + begin * at.page_bytes,
                   (end - begin) * at.page_bytes);
    }
    return rc;
}

/* All those of which which[] says `what`. */
static int empty_card(struct runner *r, empty_fn *empty, uint32_t card, const bool *which,
                      bool what) {
    const uint32_t n = r->options.plan->cards[card].kv_bytes ? r->options.plan->n_pages : 0;
    int rc = 0;
    for (uint32_t begin = 0, end; begin < n && !rc; begin = end + 1) {
        for (end = begin; end < n && which[end] == what;)
            end++;
        if (end > begin)
            rc = empty_pages(r, empty, card, begin, end);
    }
    return rc;
}

int runner_discard(struct runner *r, const bool *idle) {
    int rc = 0;
    for (uint32_t c = 0; c < r->options.plan->n_cards; c++) {
        const int of_card = empty_card(r, r->options.backend->discard, c, idle, true);
        rc = rc ? rc : of_card;
    }
    return rc;
}

int runner_kv_clear(struct runner *r, const bool *keep, uint32_t *card) {
    int rc = 0;
    for (uint32_t c = 0; c < r->options.plan->n_cards && !rc; c++) {
        *card = c;
        rc = empty_card(r, r->options.backend->clear, c, keep, false);
    }
    return rc;
}

int runner_kv_digest(struct runner *r, uint32_t page, uint64_t *digest, uint32_t *card) {
    const struct plan *plan = r->options.plan;
    uint64_t all[2] = {0}; /* so far, and what comes to it */
    for (uint32_t c = 0; c < plan->n_cards; c++)
        for (uint32_t layer = plan->cards[c].layer_begin;
             plan->cards[c].kv_bytes && layer < plan->cards[c].layer_end; layer++) {
            const struct kv_place at = program_kv_place(r->options.model, plan, c, layer);
            const int rc = r->options.backend->digest(
                r->device, c, AREA_KV, at.offset + page * at.page_bytes, at.page_bytes, &all[1]);
            *card = c;
            if (rc)
                return rc;
            all[0] = device_digest(all, sizeof all);
        }
    *digest = all[0];
    return 0;
}
