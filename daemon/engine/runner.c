/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/runner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/advice.h"
#include "daemon/engine/program.h"
#include "daemon/engine/rotations.h"
#include "daemon/engine/traffic.h"
#include "daemon/engine/weights.h"
#include "octarc/error.h"

#define DRILL_BYTES 4096u /* in which a drill flips bits */

struct runner {
    struct runner_options options;
    struct device *device;
    struct program programs[CARDS_MAX];
    struct weights_origin origin[CARDS_MAX];
    struct advised_card advised[CARDS_MAX];
    struct traffic traffic; /* of a step */
    struct link_bytes carried;
    struct fetch_counts fetched_before; /* by the runners before */
    struct rotations *rotations;
};

static int reserve_areas(struct runner *r, struct err *err) {
    const struct plan *plan = r->options.plan;
    const struct device_ops *ops = r->options.backend;
    for (uint32_t i = 0; i < plan->n_cards; i++) {
        const struct plan_card *c = &plan->cards[i];
        if (!c->online)
            continue;
        int rc = 0;
        if (c->weights_bytes)
            rc = ops->reserve(r->device, i, AREA_WEIGHTS, c->weights_bytes,
                              r->options.weight_fds[i], err);
        if (!rc && c->kv_bytes)
            rc = ops->reserve(r->device, i, AREA_KV, c->kv_bytes, -1, err);
        if (!rc && c->scratch_bytes)
            rc = ops->reserve(r->device, i, AREA_SCRATCH, c->scratch_bytes, -1, err);
        if (!rc && c->landing_bytes)
            rc = ops->reserve(r->device, i, AREA_LANDING, c->landing_bytes, -1, err);
        if (rc)
            return rc;
    }
    return 0;
}

static void note_copies(struct runner *r) {
    for (uint32_t to = 0; to < CARDS_MAX; to++)
        for (uint32_t from = 0; from < CARDS_MAX; from++)
            runner_note_carried(r, from, to, r->origin[to].from_bytes[from]);
}

/* Fill the cards, between the advice that it needs and the prefetch that ends it. */
static int load_cards(struct runner *r, struct err *err) {
    const struct device_ops *ops = r->options.backend;
    struct hints hints = {0};
    int rc = hints_build(&hints, r->options.model, r->options.plan);
    if (rc)
        return err_set(err, rc, "no memory for the plan's hints");
    rc = advice_give(ops, r->device, &hints, r->advised, err);
    if (!rc)
        rc = weights_load(r->device, &r->options, r->origin, err);
    if (!rc)
        note_copies(r);
    if (!rc)
        rc = advice_bring_home(ops, r->device, &hints, r->options.cancelled, r->advised, err);
    hints_finish(&hints);
    return rc;
}

int runner_open(struct runner **runner, const struct runner_options *options, struct err *err) {
    struct runner *r = calloc(1, sizeof *r);
    struct device_options device = options->device;
    int rc;
    if (!r)
        return err_set(err, -ENOMEM, "no memory for a runner");
    r->options = *options;

    device.n_cards = options->plan->n_cards;
    device.max_rows = options->plan->max_rows;
    for (uint32_t i = 0; i < device.n_cards; i++) {
        device.present[i] = options->plan->cards[i].online;
        device.capacity_bytes[i] = options->plan->cards[i].capacity_bytes;
        device.host_bytes[i] = options->plan->cards[i].spilled_bytes;
    }
    /* Before gigabytes are read. */
    rc = rotations_open(&r->rotations, options->model, options->plan, options->head_fd, err);
    if (rc)
        goto fail;
    rc = options->backend->open(&r->device, &device, err);
    if (rc)
        goto fail;
    rc = reserve_areas(r, err);
    if (rc)
        goto fail;
    rc = load_cards(r, err);
    if (rc)
        goto fail;
    rc = programs_compile(r->programs, options->model, options->plan, err);
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
    r->options.before = NULL; /* all four are of the loading */
    r->options.paused = NULL;
    r->options.cancelled = NULL;
    r->options.progress = NULL;
    *runner = r;
    return 0;

fail:
    runner_close(r);
    return rc;
}

void runner_close(struct runner *r) {
    if (!r)
        return;
    if (r->device)
        r->options.backend->close(r->device);
    programs_finish(r->programs);
    traffic_finish(&r->traffic);
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
                                .copied_bytes = r->origin[card].copied_bytes,
                                .advised_bytes = r->advised[card].advised_bytes,
                                .prefetched_bytes = r->advised[card].prefetched_bytes,
                                .resident_bytes = r->advised[card].resident_bytes,
                                .reused = r->origin[card].reused};
}

const struct runner_options *runner_options(const struct runner *r) {
    return &r->options;
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

int runner_measure(struct runner *r, struct device_limits *limits) {
    return r->options.backend->measure(r->device, limits);
}

int runner_huge(struct runner *r, uint64_t bytes[CARDS_MAX]) {
    return r->options.backend->huge(r->device, bytes);
}

/* Neighbours together: a page alone may hold no whole page of the host. */
static int discard_card(struct runner *r, uint32_t card, const bool *idle) {
    const uint32_t n = r->options.plan->n_pages;
    const uint64_t bytes = n ? r->options.plan->cards[card].kv_bytes / n : 0;
    int rc = 0;
    for (uint32_t begin = 0, end; bytes && begin < n && !rc; begin = end + 1) {
        for (end = begin; end < n && idle[end];)
            end++;
        if (end > begin)
            rc = r->options.backend->discard(r->device, card, AREA_KV, begin * bytes,
                                             (end - begin) * bytes);
    }
    return rc;
}

int runner_discard(struct runner *r, const bool *idle) {
    int rc = 0;
    for (uint32_t c = 0; c < r->options.plan->n_cards; c++) {
        const int of_card = discard_card(r, c, idle);
        rc = rc ? rc : of_card;
    }
    return rc;
}
