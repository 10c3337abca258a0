/* SPDX-License-Identifier: Apache-2.0 */
/* load.c - programs -> phases. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/device/check.h"
#include "daemon/device/cpu/cores.h"
#include "daemon/device/cpu/cpu.h"
#include "daemon/device/cpu/experts.h"
#include "daemon/device/cpu/strip.h"
#include "daemon/device/matrices.h"
#include "daemon/device/pack.h"
#include "octarc/error.h"

/* What the largest panel, the longest opened tile and the most sums of experts of any operation
 * need, and each card's largest panel of lanes. */
struct needs {
    uint64_t panel, opened, sums, lanes[CARDS_MAX];
};

static void need_matrix(struct needs *needs, uint64_t *to, const struct matrix *w) {
    const uint64_t panel = (panel_bytes(w->type, w->cols) + 63) / 64 * 64;
    const uint64_t opened = opened_bytes(w->type, w->cols);
    *to = panel > *to ? panel : *to;
    needs->opened = opened > needs->opened ? opened : needs->opened;
}

static struct needs needs_of(const struct program *programs, uint32_t n_cards, uint32_t max_rows) {
    struct needs needs = {.panel = 64, .opened = 64};
    for (uint32_t card = 0; card < n_cards; card++)
        for (size_t i = 0; i < programs[card].n_ops; i++) {
            const struct op *op = &programs[card].ops[i];
            const struct matrix *of[OP_MATRICES_MAX];
            const uint32_t n = op_matrices(op, of);
            for (uint32_t k = 0; k < n; k++)
                need_matrix(&needs, &needs.panel, of[k]);
            const uint64_t sums = (experts_sums_bytes(op, max_rows) + 63) / 64 * 64;
            needs.sums = sums > needs.sums ? sums : needs.sums;
            if (op->kind == OP_LANES)
                need_matrix(&needs, &needs.lanes[card], of[0]);
        }
    return needs;
}

/* A member's panels, from `at` on. */
static void set_panels(struct cpu_work *work, const struct needs *needs, char *at) {
    char *opened = at;
    at += needs->opened;
    work->sums = (float *)(void *)at;
    at += needs->sums;
    for (int k = 0; k < 2; k++, at += needs->panel)
        work->panels[k] = (struct panel){.x = (uint8_t *)at, .opened = opened};
    for (int card = 0; card < CARDS_MAX; at += needs->lanes[card++])
        work->lanes[card] = (struct panel){.x = (uint8_t *)at, .opened = opened};
}

/* Each member's panels, on pages of their own. */
static int make_work(struct device *device, const struct program *programs, struct err *err) {
    const struct needs needs = needs_of(programs, device->n_cards, device->max_rows);
    const uint32_t n = team_size(device->team);
    uint64_t bytes = 2 * needs.panel + needs.opened + needs.sums;
    for (int card = 0; card < CARDS_MAX; card++)
        bytes += needs.lanes[card];
    bytes = (bytes + 4095) / 4096 * 4096;
    struct cpu_work *work = aligned_alloc(_Alignof(struct cpu_work), n * sizeof *work);
    char *memory = aligned_alloc(4096, bytes * n);
    if (!work || !memory) {
        free(work);
        free(memory);
        return err_set(err, -ENOMEM, "no memory for %u threads", n);
    }
    memset(work, 0, n * sizeof *work);
    for (uint32_t i = 0; i < n; i++)
        set_panels(&work[i], &needs, memory + i * bytes);
    free(device->work);
    free(device->work_memory);
    device->work = work;
    device->work_memory = memory;
    return 0;
}

struct counts {
    size_t ops, sums;
    uint32_t phases;
};

static struct counts count_programs(const struct device *device, const struct program *programs) {
    struct counts n = {0};
    for (uint32_t card = 0; card < device->n_cards; card++)
        for (size_t i = 0; i < programs[card].n_ops; i++) {
            const struct op *op = &programs[card].ops[i];
            n.ops++;
            n.sums += op->kind == OP_COMBINE;
            if (op->phase >= n.phases)
                n.phases = op->phase + 1;
        }
    return n;
}

int cpu_check(struct device *device, const struct program *programs, struct err *err) {
    struct check_box box = {.n_cards = device->n_cards, .max_rows = device->max_rows};
    for (uint32_t i = 0; i < device->n_cards; i++) {
        const struct cpu_card *card = &device->cards[i];
        const struct cpu_area *weights = &card->areas[AREA_WEIGHTS];
        box.cards[i].present = card->present;
        for (int a = 0; a < AREA_COUNT; a++)
            box.cards[i].room[a] = card->areas[a].base ? card->areas[a].room : 0;
        box.cards[i].on_card = card->host_bytes ? weights->bytes - card->host_bytes : weights->room;
    }
    return programs_check(&box, programs, err);
}

/* With a thread for every core nothing is bound: whatever else runs, the front first of all, would
 * hold up the thread whose core it takes, and with it the step, while another core may be idle
 * (docs/performance.md). */
static void pin_once(struct device *device) {
    if (device->pin && team_size(device->team) < cores_usable())
        team_pin(device->team);
    device->pin = false;
}

int cpu_load(struct device *device, const struct program *programs, struct err *err) {
    size_t next[CARDS_MAX] = {0}, at = 0;
    int rc = cpu_check(device, programs, err);
    if (rc)
        return rc;
    const struct counts n = count_programs(device, programs);
    rc = make_work(device, programs, err);
    if (rc)
        return rc;
    struct cpu_task *tasks = calloc(n.ops + 1, sizeof *tasks);
    struct cpu_pull(*pulls)[TREE_NODES] = calloc(n.sums + 1, sizeof *pulls);
    struct cpu_phase *phases = calloc(n.phases + 1, sizeof *phases);
    struct cpu_stage *stages = calloc(n.phases + 1, sizeof *stages);
    struct cpu_meter *meters = aligned_alloc(64, (n.phases + 1) * sizeof *meters);
    _Atomic uint32_t *taken =
        calloc((size_t)(n.phases + 1) * team_size(device->team), sizeof *taken);
    if (!tasks || !pulls || !phases || !stages || !meters || !taken) {
        free(tasks);
        free(pulls);
        free(phases);
        free(stages);
        free(meters);
        free((void *)taken);
        return err_set(err, -ENOMEM, "no memory for %zu operations", n.ops);
    }
    for (uint32_t phase = 0; phase < n.phases; phase++) {
        phases[phase].first = (uint32_t)at;
        for (uint32_t card = 0; card < device->n_cards; card++)
            for (;
                 next[card] < programs[card].n_ops && programs[card].ops[next[card]].phase == phase;
                 next[card]++)
                tasks[at++] =
                    (struct cpu_task){.op = &programs[card].ops[next[card]], .card = card};
        phases[phase].n = (uint32_t)at - phases[phase].first;
    }
    free(device->tasks);
    free(device->pulls);
    free(device->phases);
    free(device->stages);
    free(device->meters);
    free((void *)device->taken);
    device->tasks = tasks;
    device->pulls = pulls;
    device->n_tasks = n.ops;
    device->needed = 0;
    for (size_t i = 0; i < n.ops; i++) {
        device->needed |= 1u << tasks[i].card;
        if (tasks[i].op->kind == OP_EXCHANGE)
            device->needed |= 1u << tasks[i].op->exchange.src;
    }
    device->phases = phases;
    device->n_phases = n.phases;
    cpu_find_crossings(device);
    for (uint32_t phase = 0; phase < n.phases; phase++)
        phases[phase].strips = strip_phases(device, phase);
    device->stages = stages;
    device->meters = meters;
    device->taken = taken;
    device->shape.n_rows = 0; /* nothing is counted yet */
    for (uint32_t card = 0; card < device->n_cards; card++)
        cpu_landing_stale(device, card);
    pin_once(device);
    return 0;
}
