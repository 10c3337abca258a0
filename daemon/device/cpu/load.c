/* SPDX-License-Identifier: Apache-2.0 */
/* load.c - programs -> phases: every operation checked once, so that a step checks nothing. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/device/cpu/cores.h"
#include "daemon/device/cpu/cpu.h"
#include "daemon/device/cpu/experts.h"
#include "daemon/device/cpu/strip.h"
#include "daemon/device/matrices.h"
#include "daemon/device/pack.h"
#include "octarc/error.h"

struct checker {
    const struct device *device;
    uint32_t card;
    bool bad;
};

static void inside(struct checker *c, uint32_t card, enum area area, uint64_t offset,
                   uint64_t bytes) {
    const struct cpu_area *a = &c->device->cards[card].areas[area];
    if (card >= c->device->n_cards || !a->base || offset > a->room || bytes > a->room - offset)
        c->bad = true;
}

/* Where what is not in host memory ends. */
static uint64_t on_card(const struct checker *c) {
    const struct cpu_card *card = &c->device->cards[c->card];
    const struct cpu_area *a = &card->areas[AREA_WEIGHTS];
    return card->host_bytes ? a->bytes - card->host_bytes : a->room;
}

static void check_matrix(struct checker *c, const struct matrix *w) {
    if (w->rows == 0)
        return;
    const uint64_t bytes = pack_bytes(w->type, false, w->rows, w->cols);
    if (pack_atom_bytes(w->type) == 0 || w->offset % 64)
        c->bad = true;
    inside(c, c->card, AREA_WEIGHTS, w->offset, bytes);
    if (w->fetched) {
        inside(c, c->card, AREA_LANDING, w->landing, bytes);
        if (w->landing > w->offset || (w->offset - w->landing) % LANDING_BLOCK)
            c->bad = true;
    } else if (w->offset + bytes > on_card(c)) {
        c->bad = true;
    }
}

static void check_fetch(struct checker *c, const struct op *op) {
    inside(c, c->card, AREA_WEIGHTS, op->fetch.from, op->fetch.bytes);
    inside(c, c->card, AREA_LANDING, op->fetch.to, op->fetch.bytes);
    if (op->fetch.from < on_card(c) || op->fetch.from % LANDING_BLOCK ||
        op->fetch.to % LANDING_BLOCK || op->fetch.bytes % LANDING_BLOCK)
        c->bad = true;
}

static void check_vector(struct checker *c, uint32_t card, struct vector v, uint64_t n) {
    if (v.offset)
        inside(c, card, AREA_WEIGHTS, v.offset, (v.begin + n) * sizeof(float));
}

static void check_rows(struct checker *c, struct rows rows, uint64_t n_rows, uint32_t width) {
    if (width > rows.stride)
        c->bad = true;
    inside(c, c->card, AREA_SCRATCH, rows.offset, n_rows * rows.stride * 4);
}

static void check_part(struct checker *c, struct row_part part) {
    if (part.index >= part.count || part.count > CARDS_MAX)
        c->bad = true;
}

static void check_act_rows(struct checker *c, uint32_t card, const struct activation *act,
                           uint32_t cols, uint64_t n_rows) {
    const uint64_t n = n_rows * act->cols;
    if (act->cols % ATOM || cols > act->cols || act->forms == 0)
        c->bad = true;
    if (act->forms & FORM_Q8) {
        inside(c, card, AREA_SCRATCH, act->q8, n);
        inside(c, card, AREA_SCRATCH, act->scale, n / ATOM * 4);
        inside(c, card, AREA_SCRATCH, act->sum, n / ATOM * 4);
    }
    if (act->forms & FORM_F32)
        inside(c, card, AREA_SCRATCH, act->f32, n * 4);
}

static void check_act(struct checker *c, uint32_t card, const struct activation *act,
                      uint32_t cols) {
    check_act_rows(c, card, act, cols, c->device->max_rows);
}

static void check_slots(struct checker *c, struct planes slots, const int8_t slot[TREE_NODES],
                        uint32_t n) {
    const struct rows rows = {slots.offset, slots.stride};
    c->bad |= slots.stride % TILE != 0;
    for (int i = 1; i < TREE_NODES; i++)
        if (slot[i] != NO_SLOT)
            check_rows(c, rows, ((uint64_t)slot[i] + 1) * c->device->max_rows, n);
}

static void check_kv(struct checker *c, uint32_t card, const struct kv_place *kv, uint32_t slots) {
    if (slots * kv->slot_bytes > kv->page_bytes)
        c->bad = true;
    inside(c, card, AREA_KV, kv->offset, kv->page_bytes);
}

static void check_exchange(struct checker *c, const struct op *op) {
    const uint64_t n = c->device->max_rows;
    const uint8_t src = op->exchange.src, dst = op->exchange.dst;
    const bool to_host = op->exchange.kind == EXCHANGE_LOGITS;
    check_part(c, op->exchange.from);
    check_part(c, op->exchange.to);
    if (src >= c->device->n_cards || src == dst || (dst >= c->device->n_cards && !to_host)) {
        c->bad = true;
    } else if (op->exchange.kind == EXCHANGE_KV) {
        check_kv(c, src, &op->exchange.src_kv, op->exchange.src_slot + 1);
        check_kv(c, dst, &op->exchange.dst_kv, op->exchange.dst_slot + 1);
    } else if (op->exchange.kind == EXCHANGE_ACTIVATION) {
        const struct activation *from = &op->exchange.act_from, *to = &op->exchange.act_to;
        check_act(c, src, from, to->cols);
        check_act(c, dst, to, from->cols);
        c->bad |= (to->forms & ~from->forms) != 0;
    } else if (op->exchange.kind == EXCHANGE_PLANE) {
        inside(c, src, AREA_SCRATCH, op->exchange.src_offset, n * op->exchange.row_bytes);
        inside(c, dst, AREA_SCRATCH, op->exchange.dst_offset, n * op->exchange.row_bytes);
    } else {
        inside(c, src, AREA_SCRATCH, op->exchange.src_offset,
               (to_host ? 0 : (n - 1) * op->exchange.src_stride_bytes) + op->exchange.row_bytes);
        if (!to_host)
            inside(c, dst, AREA_SCRATCH, op->exchange.dst_offset,
                   (n - 1) * op->exchange.dst_stride_bytes + op->exchange.row_bytes);
    }
}

static void check_routes(struct checker *c, const struct routes *routes) {
    c->bad |= routes->n_used == 0 || routes->n_used > USED_MAX;
    check_rows(c, routes->rows, c->device->max_rows, routes_width(routes->n_used));
}

/* Rows of a matrix that holds those of each expert. */
static void check_experts(struct checker *c, const struct matrix *w, const struct hits *hits) {
    check_matrix(c, w);
    if (hits->n_experts == 0 || hits->n_experts > EXPERTS_MAX ||
        w->rows % ((uint64_t)hits->n_experts * TILE) || w->rows == 0)
        c->bad = true;
    inside(c, c->card, AREA_SCRATCH, hits->offset, hits_bytes(*hits));
}

static void check_route(struct checker *c, const struct op *op) {
    check_matrix(c, &op->route.router);
    check_act(c, c->card, &op->route.act, op->route.router.cols);
    check_part(c, op->route.part);
    check_routes(c, &op->route.routes);
    check_vector(c, c->card, op->route.shared, op->route.router.cols);
    check_vector(c, c->card, op->route.bias, op->route.router.rows);
    c->bad |= op->route.shared.offset && !(op->route.act.forms & FORM_F32);
    c->bad |=
        op->route.router.rows > EXPERTS_MAX || op->route.routes.n_used > op->route.router.rows;
}

static void check_expert_gate_up(struct checker *c, const struct op *op) {
    const struct hits *hits = &op->expert_gate_up.hits;
    check_experts(c, &op->expert_gate_up.gate, hits);
    check_experts(c, &op->expert_gate_up.up, hits);
    check_act(c, c->card, &op->expert_gate_up.act, op->expert_gate_up.gate.cols);
    check_vector(c, c->card, op->expert_gate_up.gate_bias, op->expert_gate_up.gate.rows);
    check_vector(c, c->card, op->expert_gate_up.up_bias, op->expert_gate_up.up.rows);
    c->bad |= op->expert_gate_up.function > GATE_LIMITED;
    if (!c->bad)
        check_act_rows(c, c->card, &op->expert_gate_up.out,
                       op->expert_gate_up.gate.rows / hits->n_experts, hits->n_rows);
}

static void check_expert_down(struct checker *c, const struct op *op) {
    const struct hits *hits = &op->expert_down.hits;
    const uint32_t begin = op->expert_down.lane_begin, end = op->expert_down.lane_end;
    check_routes(c, &op->expert_down.routes);
    if (op->expert_down.w.rows) {
        check_experts(c, &op->expert_down.w, hits);
        check_act_rows(c, c->card, &op->expert_down.act, op->expert_down.w.cols, hits->n_rows);
        check_vector(c, c->card, op->expert_down.bias,
                     (uint64_t)hits->n_experts * op->expert_down.n);
    }
    if (op->expert_down.shared.rows) {
        check_matrix(c, &op->expert_down.shared);
        check_act(c, c->card, &op->expert_down.shared_act, op->expert_down.shared.cols);
    }
    c->bad |= begin >= end || end > LANES || op->expert_down.expert[end] != hits->n_experts ||
              (hits->n_experts == 0) != (op->expert_down.w.rows == 0);
    check_slots(c, op->expert_down.slots, op->expert_down.slot, op->expert_down.n);
}

static void check_expert_op(struct checker *c, const struct op *op) {
    if (op->kind == OP_ROUTE) {
        check_route(c, op);
    } else if (op->kind == OP_EXPERT_GATE_UP) {
        check_expert_gate_up(c, op);
    } else if (op->kind == OP_EXPERT_DOWN) {
        check_expert_down(c, op);
    } else {
        const struct hits *hits = &op->dispatch.hits;
        check_routes(c, &op->dispatch.routes);
        inside(c, c->card, AREA_SCRATCH, hits->offset, hits_bytes(*hits));
        c->bad |= hits->n_experts > EXPERTS_MAX;
    }
}

static bool op_is_sound(const struct device *device, uint32_t card, const struct op *op) {
    struct checker c = {.device = device, .card = card};
    const uint64_t n = device->max_rows;
    switch (op->kind) {
    case OP_EMBED:
        check_matrix(&c, &op->embed.embd);
        check_rows(&c, op->embed.hidden, n, op->embed.embd.cols);
        break;
    case OP_NORM:
        check_part(&c, op->norm.part);
        check_rows(&c, op->norm.hidden, n, op->norm.n);
        inside(&c, card, AREA_WEIGHTS, op->norm.weight, (uint64_t)op->norm.n * 4);
        check_act(&c, card, &op->norm.act, op->norm.n);
        break;
    case OP_QKV:
        check_matrix(&c, &op->qkv.q);
        check_matrix(&c, &op->qkv.k);
        check_matrix(&c, &op->qkv.v);
        check_act(&c, card, &op->qkv.act, op->qkv.q.cols);
        check_rows(&c, op->qkv.out, n, op->qkv.q.rows + op->qkv.k.rows + op->qkv.v.rows);
        break;
    case OP_ROPE_STORE:
        check_rows(&c, op->rope.qkv, n, (op->rope.n_heads + 2 * op->rope.n_kv) * op->rope.head_dim);
        check_kv(&c, card, &op->rope.kv, op->rope.kv_slot + op->rope.n_kv);
        check_vector(&c, card, op->rope.q_bias, op->rope.n_heads * op->rope.head_dim);
        check_vector(&c, card, op->rope.k_bias, op->rope.n_kv * op->rope.head_dim);
        check_vector(&c, card, op->rope.v_bias, op->rope.n_kv * op->rope.head_dim);
        check_vector(&c, card, op->rope.q_norm, op->rope.head_dim);
        check_vector(&c, card, op->rope.k_norm, op->rope.head_dim);
        c.bad |= op->rope.rope_dims > op->rope.head_dim || op->rope.rope_table >= ROPE_TABLES_MAX;
        break;
    case OP_ATTENTION:
        check_rows(&c, op->attention.q, n, op->attention.n_heads * op->attention.head_dim);
        check_act(&c, card, &op->attention.act, op->attention.n_heads * op->attention.head_dim);
        check_kv(&c, card, &op->attention.kv, 1);
        check_vector(&c, card, op->attention.sinks, op->attention.n_heads);
        c.bad |= op->attention.head_dim > CPU_HEAD_DIM_MAX ||
                 cpu_unit_heads(op->attention.head_dim) == 0;
        break;
    case OP_LANES:
        check_matrix(&c, &op->lanes.w);
        check_act(&c, card, &op->lanes.act, op->lanes.w.cols);
        check_slots(&c, op->lanes.slots, op->lanes.slot, op->lanes.w.rows);
        break;
    case OP_COMBINE:
        check_part(&c, op->combine.part);
        check_rows(&c, op->combine.out, n, op->combine.n);
        check_slots(&c, op->combine.slots, op->combine.slot, op->combine.n);
        check_vector(&c, card, op->combine.bias, op->combine.n);
        break;
    case OP_ADD_NORM:
        check_part(&c, op->add_norm.part);
        check_rows(&c, op->add_norm.hidden, n, op->add_norm.n);
        check_rows(&c, op->add_norm.sum, n, op->add_norm.n);
        inside(&c, card, AREA_WEIGHTS, op->add_norm.weight, (uint64_t)op->add_norm.n * 4);
        break;
    case OP_GATE_UP:
        check_matrix(&c, &op->gate_up.gate);
        check_matrix(&c, &op->gate_up.up);
        check_act(&c, card, &op->gate_up.act, op->gate_up.gate.cols);
        check_act(&c, card, &op->gate_up.out, op->gate_up.gate.rows);
        c.bad |= op->gate_up.function > GATE_LIMITED;
        break;
    case OP_LOGITS:
        check_matrix(&c, &op->logits.w);
        check_act(&c, card, &op->logits.act, op->logits.w.cols);
        check_rows(&c, op->logits.out, 1, op->logits.w.rows);
        break;
    case OP_ROUTE:
    case OP_DISPATCH:
    case OP_EXPERT_GATE_UP:
    case OP_EXPERT_DOWN:
        check_expert_op(&c, op);
        break;
    case OP_EXCHANGE:
        check_exchange(&c, op);
        break;
    case OP_FETCH:
        check_fetch(&c, op);
        break;
    }
    return !c.bad;
}

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

static int check_programs(const struct device *device, const struct program *programs, size_t *n,
                          uint32_t *n_phases, struct err *err) {
    *n = 0;
    *n_phases = 0;
    for (uint32_t card = 0; card < device->n_cards; card++)
        for (size_t i = 0; i < programs[card].n_ops; i++) {
            const struct op *op = &programs[card].ops[i];
            if (!device->cards[card].present || !op_is_sound(device, card, op) ||
                (i && op->phase < op[-1].phase))
                return err_set(err, -EINVAL,
                               "program of card %u: operation %zu (kind %d, layer %d) is not sound",
                               card, i, (int)op->kind, op->layer);
            *n_phases = op->phase + 1 > *n_phases ? op->phase + 1 : *n_phases;
            ++*n;
        }
    return 0;
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
    size_t n, next[CARDS_MAX] = {0}, at = 0;
    uint32_t n_phases;
    int rc = check_programs(device, programs, &n, &n_phases, err);
    if (rc)
        return rc;
    rc = make_work(device, programs, err);
    if (rc)
        return rc;
    struct cpu_task *tasks = calloc(n + 1, sizeof *tasks);
    struct cpu_phase *phases = calloc(n_phases + 1, sizeof *phases);
    struct cpu_stage *stages = calloc(n_phases + 1, sizeof *stages);
    struct cpu_meter *meters = aligned_alloc(64, (n_phases + 1) * sizeof *meters);
    _Atomic uint32_t *taken =
        calloc((size_t)(n_phases + 1) * team_size(device->team), sizeof *taken);
    if (!tasks || !phases || !stages || !meters || !taken) {
        free(tasks);
        free(phases);
        free(stages);
        free(meters);
        free((void *)taken);
        return err_set(err, -ENOMEM, "no memory for %zu operations", n);
    }
    for (uint32_t phase = 0; phase < n_phases; phase++) {
        phases[phase].first = (uint32_t)at;
        for (uint32_t card = 0; card < device->n_cards; card++)
            for (;
                 next[card] < programs[card].n_ops && programs[card].ops[next[card]].phase == phase;
                 next[card]++)
                tasks[at++] = (struct cpu_task){&programs[card].ops[next[card]], card, 0};
        phases[phase].n = (uint32_t)at - phases[phase].first;
    }
    free(device->tasks);
    free(device->phases);
    free(device->stages);
    free(device->meters);
    free((void *)device->taken);
    device->tasks = tasks;
    device->n_tasks = n;
    device->needed = 0;
    for (size_t i = 0; i < n; i++) {
        device->needed |= 1u << tasks[i].card;
        if (tasks[i].op->kind == OP_EXCHANGE)
            device->needed |= 1u << tasks[i].op->exchange.src;
    }
    device->phases = phases;
    device->n_phases = n_phases;
    for (uint32_t phase = 0; phase < n_phases; phase++)
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
