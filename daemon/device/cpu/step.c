/* SPDX-License-Identifier: Apache-2.0 */
/* step.c - one pass over all phases of all cards.
 *
 * Phase p of every card is one parallel-for over the items of its operations, so the number of
 * meetings does not depend on the number of cards.  A phase ends when its items are done, not when
 * every thread has come: one that the kernel has put aside delays only what it has begun.  What is
 * too small to be worth a meeting is done by the member who ends the phase before it. */
#include <errno.h>
#include <stdatomic.h>

#include "daemon/device/cpu/ahead.h"
#include "daemon/device/cpu/strip.h"

/* Pieces of a member's part of a stage are at least its sixteenth, or its quarter where many rows
 * of input are made ready for each piece anew. */
#define PIECES_MAX      16
#define PIECES_OF_MANY  4
#define FEW_ROWS        4
#define EXCHANGES_ALONE 32          /* rows of a few KiB: copied in the time of a meeting or two */
#define ROTATIONS_ALONE 8           /* rows of a few heads, which are not copied */
#define NORMS_ALONE     4           /* rows */
#define CARRIED_ROWS    PAGE_TOKENS /* that are made and copied together */

struct pass {
    struct device *device;
    const struct step_params *params;
};

/* --- what a step of so many rows and outputs consists of --- */

/* Count the items of a phase.  True: it is small. */
static bool count_phase(struct device *d, struct cpu_phase *phase,
                        const struct step_params *params) {
    bool copies = true, rotations = true, norms = true, lists = true;
    const bool carried = phase->carried && !d->isolate;
    phase->items = 0;
    for (uint32_t i = 0; i < phase->n; i++) {
        struct cpu_task *task = &d->tasks[phase->first + i];
        task->begin = phase->items;
        const bool idle = carried || cpu_is_pulled(task, params->n_rows);
        phase->items += idle ? 0 : cpu_op_items(task->op, params);
        copies &= task->op->kind == OP_EXCHANGE;
        rotations &= task->op->kind == OP_ROPE_STORE && !task->n_copies;
        norms &= task->op->kind == OP_NORM || task->op->kind == OP_ADD_NORM;
        lists &= task->op->kind == OP_DISPATCH;
    }
    copies &= params->n_rows <= EXCHANGES_ALONE; /* else an item may be of many rows */
    return phase->items == 1 || lists || (copies && phase->items <= EXCHANGES_ALONE) ||
           (rotations && phase->items <= ROTATIONS_ALONE) || (norms && phase->items <= NORMS_ALONE);
}

/* Count phases whose tasks share each cell of their strips; returns the cells. */
static uint32_t count_strips(struct device *d, uint32_t first, uint32_t n_rows) {
    const uint32_t cells = strip_cells(d, first, n_rows);
    for (uint32_t p = first; p < first + d->phases[first].strips; p++) {
        struct cpu_phase *phase = &d->phases[p];
        for (uint32_t i = 0; i < phase->n; i++)
            d->tasks[phase->first + i].begin = i * cells;
        phase->items = phase->n * cells;
    }
    return cells;
}

static bool reads_weights(const struct device *d, const struct cpu_stage *stage) {
    struct cpu_run runs[2];
    const struct cpu_task *first = &d->tasks[d->phases[stage->first].first];
    return stage->shared == 1 && cpu_op_weights(d, first->card, first->op, 0, runs);
}

static void link_reads(struct device *d) {
    uint32_t next = d->n_stages;
    for (uint32_t i = d->n_stages; i-- > 0;) {
        d->stages[i].reads_next = next;
        if (reads_weights(d, &d->stages[i]))
            next = i;
    }
}

/* Steps of the same shape follow each other, mostly. */
static void shape_stages(struct device *d, const struct step_params *params) {
    const bool strips = strip_wanted(params->n_rows);
    if (d->shape.n_rows == params->n_rows && d->shape.n_outputs == params->n_outputs)
        return;
    d->n_stages = 0;
    for (uint32_t p = 0; p < d->n_phases; p++) {
        if (strips && d->phases[p].strips) {
            const uint32_t n = d->phases[p].strips, cells = count_strips(d, p, params->n_rows);
            d->stages[d->n_stages++] = (struct cpu_stage){p, n, n, cells, 0};
            p += n - 1;
            continue;
        }
        const bool small = count_phase(d, &d->phases[p], params);
        if (d->n_stages && (small || d->phases[p].items == 0))
            d->stages[d->n_stages - 1].n++;
        else if (d->phases[p].items)
            d->stages[d->n_stages++] = (struct cpu_stage){p, 1, 1, d->phases[p].items, 0};
    }
    link_reads(d);
    d->shape.n_rows = params->n_rows;
    d->shape.n_outputs = params->n_outputs;
}

/* --- a member's part --- */

/* Items of a task, and what is copied of them at once. */
static void run_task(const struct pass *pass, const struct cpu_task *task, uint32_t begin,
                     uint32_t end, struct cpu_work *work) {
    struct device *d = pass->device;
    const uint32_t step =
        task->n_copies && task->op->kind != OP_LOGITS ? CARRIED_ROWS : end - begin;
    const uint32_t first =
        task->op->kind == OP_NORM ? row_part_begin(task->op->norm.part, pass->params->n_rows) : 0;
    for (uint32_t from = begin, to; from < end; from = to) {
        to = end - from < step ? end : from + step;
        const uint64_t began = cpu_profile_now(d);
        cpu_op_run(d, task, pass->params, from, to, work);
        const uint64_t made = cpu_profile_now(d);
        for (uint32_t i = 0; i < task->n_copies; i++)
            if (!cpu_is_pulled(&d->tasks[task->copies + i], pass->params->n_rows))
                cpu_exchange_part(d, d->tasks[task->copies + i].op, pass->params, first + from,
                                  first + to);
        work->spent.ops[task->op->kind] += made - began;
        work->spent.ops[OP_EXCHANGE] += cpu_profile_now(d) - made;
    }
    work->spent.pieces[task->op->kind]++;
}

/* What follows the weights of the tasks before `i`, if items before `end` read any. */
static void set_next(const struct device *d, const struct cpu_phase *phase, uint32_t i,
                     uint32_t end, struct cpu_work *work) {
    const struct cpu_task *task = &d->tasks[phase->first + i];
    struct cpu_run runs[2] = {{NULL, 0}, {NULL, 0}};
    if (i < phase->n && task->begin < end)
        cpu_op_weights(d, task->card, task->op, 0, runs);
    for (int k = 0; k < 2; k++)
        work->next[k] = (const uint8_t *)runs[k].at;
}

/* Items [begin, end) of a phase, counted over its operations one after another.  Returns how many
 * were done: a hung card's are not, and so the phase never ends, but all else in it does. */
static uint32_t run_items(const struct pass *pass, const struct cpu_phase *phase, uint32_t begin,
                          uint32_t end, struct cpu_work *work) {
    uint32_t finished = 0;
    for (uint32_t i = 0; i < phase->n; i++) {
        const struct cpu_task *task = &pass->device->tasks[phase->first + i];
        const uint32_t at = task->begin;
        const uint32_t next = i + 1 < phase->n ? task[1].begin : phase->items;
        if (at >= end)
            break;
        if (next <= begin || at == next || cpu_is_hung(pass->device, task->card))
            continue;
        const uint32_t from = begin > at ? begin - at : 0, to = (end < next ? end : next) - at;
        set_next(pass->device, phase, i + 1, end, work);
        run_task(pass, task, from, to, work);
        cpu_count_done(work, task->card, to - from);
        finished += to - from;
    }
    return finished;
}

static uint32_t run_strips(const struct pass *pass, uint32_t phase, uint32_t begin, uint32_t end,
                           struct cpu_work *work, struct strip_place *place) {
    const uint64_t began = cpu_profile_now(pass->device);
    uint32_t finished;
    strip_run(pass->device, phase, pass->params, begin, end, work, place, &finished);
    work->spent.strips += cpu_profile_now(pass->device) - began;
    return finished;
}

/* Items of a member's part of a stage, from *begin on, that nobody has taken; 0: none are left.
 * Half of them at first, so that few inputs are made ready more than once, less towards the end, so
 * that nobody waits long for the last. */
static uint32_t take_items(struct device *d, uint32_t stage, uint32_t member, uint32_t *begin) {
    const struct cpu_stage *s = &d->stages[stage];
    _Atomic uint32_t *taken = &d->taken[(size_t)stage * team_size(d->team) + member];
    const uint32_t first = cpu_part_begin(d, s, member),
                   n = cpu_part_begin(d, s, member + 1) - first;
    const uint32_t pieces = d->shape.n_rows > FEW_ROWS ? PIECES_OF_MANY : PIECES_MAX;
    const uint32_t least = (n + pieces - 1) / pieces;
    uint32_t at = atomic_load_explicit(taken, memory_order_relaxed), some;
    do {
        if (at == n)
            return 0;
        some = (n - at) / 2 > least ? (n - at) / 2 : n - at < least ? n - at : least;
    } while (!atomic_compare_exchange_weak_explicit(taken, &at, at + some, memory_order_relaxed,
                                                    memory_order_relaxed));
    *begin = first + at;
    return some;
}

/* The member's part of what a stage shares out, then what others have not begun of theirs; true: it
 * did the last of it.  A part lies in one piece, so a member reads weights as one stream. */
static bool share_stage(const struct pass *pass, uint32_t stage, uint32_t member,
                        struct cpu_work *work) {
    struct device *d = pass->device;
    const struct cpu_stage *s = &d->stages[stage];
    const uint32_t members = team_size(d->team);
    struct strip_place place = {0};
    uint32_t begin, n, finished = 0, some;
    for (uint32_t i = 0; i < members; i++)
        while ((n = take_items(d, stage, (member + i) % members, &begin))) {
            if (s->shared > 1) {
                some = run_strips(pass, s->first, begin, begin + n, work, &place);
            } else {
                ahead_stores(d, &d->phases[s->first], pass->params, begin, begin + n);
                some = run_items(pass, &d->phases[s->first], begin, begin + n, work);
            }
            finished += some;
        }
    return finished && atomic_fetch_add(&d->meters[stage].done, finished) + finished == s->items;
}

static void run_member(void *arg, uint32_t member) {
    const struct pass *pass = arg;
    struct device *d = pass->device;
    struct cpu_work *work = &d->work[member];
    for (uint32_t s = 0; s < d->n_stages; s++) {
        const struct cpu_stage *stage = &d->stages[s];
        const struct cpu_phase *phase = &d->phases[stage->first];
        struct cpu_meter *meter = &d->meters[s];
        bool last = share_stage(pass, s, member, work);
        for (uint32_t i = stage->shared; last && i < stage->n; i++)
            ahead_stores(d, phase + i, pass->params, 0, phase[i].items);
        for (uint32_t i = stage->shared; last && i < stage->n; i++)
            last = run_items(pass, phase + i, 0, phase[i].items, work) == phase[i].items;
        if (last) {
            team_open(d->team, &meter->over);
        } else {
            struct ahead ahead;
            const uint64_t began = cpu_profile_now(d);
            ahead_begin(&ahead, d, s, member);
            team_pass(d->team, &meter->over, ahead_some, &ahead);
            work->spent.wait += cpu_profile_now(d) - began;
        }
    }
}

static int protect_all(struct device *d, bool accessible) {
    int rc = 0;
    for (uint32_t c = 0; c < d->n_cards && !rc; c++)
        if (d->cards[c].present)
            rc = cpu_protect(d, c, accessible);
    return rc;
}

/* What an operation was advised to use: of its card's own memory, and of the senders'. */
int cpu_isolate(struct device *d, const struct cpu_task *task) {
    if (!task)
        return protect_all(d, true);
    const bool crosses = task->op->kind == OP_EXCHANGE;
    const uint32_t reader = crosses ? task->op->exchange.dst : task->card;
    const uint32_t senders = crosses ? 1u << task->op->exchange.src : task->senders;
    int rc = protect_all(d, false);
    for (uint32_t c = 0; c < d->n_cards && !rc; c++)
        if (senders >> c & 1)
            rc = cpu_admit(d, c, reader, false);
    if (!rc && reader != CARD_HOST)
        rc = cpu_admit(d, reader, reader, task->op->kind == OP_FETCH);
    return rc;
}

static int isolate_phase(struct device *d, uint32_t phase, const struct step_params *params) {
    const struct cpu_phase *of = &d->phases[phase];
    int rc = 0;
    for (uint32_t i = 0; i < of->n && !rc; i++) {
        const struct cpu_task *task = &d->tasks[of->first + (phase % 2 ? of->n - 1 - i : i)];
        if (cpu_is_pulled(task, params->n_rows))
            continue;
        rc = cpu_isolate(d, task);
        if (!rc && task->input && params->n_rows == 1)
            rc = cpu_admit(d, task->input->exchange.src, task->card, false);
        if (!rc)
            cpu_op_run(d, task, params, 0, cpu_op_items(task->op, params), &d->work[0]);
    }
    return rc;
}

/* One operation at a time, with only the memory it may touch accessible.  The operations of a phase
 * are independent of each other: every other phase runs them backwards, so that one which is not
 * changes the bits. */
static int run_isolated(struct device *d, const struct step_params *params) {
    int rc = 0;
    for (uint32_t p = 0; p < d->n_phases && !rc; p++) {
        const uint32_t strips = strip_wanted(params->n_rows) ? d->phases[p].strips : 0;
        struct strip_place place = {0};
        uint32_t finished;
        if (!strips) {
            rc = isolate_phase(d, p, params);
            continue;
        }
        rc = strip_run(d, p, params, 0, strip_cells(d, p, params->n_rows), &d->work[0], &place,
                       &finished);
        p += strips - 1;
    }
    const int open = cpu_isolate(d, NULL);
    return rc ? rc : open;
}

int cpu_step(struct device *d, const struct step_params *params, uint32_t *card) {
    struct pass pass = {d, params};
    if (params->n_rows == 0 || params->n_rows > d->max_rows)
        return -EINVAL;
    /* A card that is lost matters only as long as the loaded programs need it. */
    for (uint32_t c = 0; c < d->n_cards; c++)
        if (d->cards[c].lost && d->needed >> c & 1) {
            *card = c;
            return -ENODEV;
        }
    cpu_landing_ready(d);
    if (d->isolate)
        return run_isolated(d, params);
    shape_stages(d, params);
    for (uint32_t i = 0; i < team_size(d->team); i++)
        for (uint32_t c = 0; c < d->n_cards; c++)
            atomic_store_explicit(&d->work[i].done[c], 0, memory_order_relaxed);
    for (uint32_t i = 0; i < d->n_stages; i++) {
        atomic_store_explicit(&d->meters[i].done, 0, memory_order_relaxed);
        atomic_store_explicit(&d->meters[i].over, 0, memory_order_relaxed);
    }
    for (size_t i = 0; i < (size_t)d->n_stages * team_size(d->team); i++)
        atomic_store_explicit(&d->taken[i], 0, memory_order_relaxed);
    atomic_store_explicit(&d->stepping, true, memory_order_release);
    const uint64_t began = cpu_profile_now(d);
    team_run(d->team, run_member, &pass);
    d->whole_ns += cpu_profile_now(d) - began;
    d->steps++;
    atomic_store_explicit(&d->stepping, false, memory_order_relaxed);
    return 0;
}

/* --- what it waits for --- */

static uint32_t count_items(const struct cpu_phase *phase, const struct cpu_task *tasks,
                            uint32_t i) {
    return (i + 1 < phase->n ? tasks[i + 1].begin : phase->items) - tasks[i].begin;
}

/* Phases run one after another, but for strips, so the first of which a card has not done enough is
 * under way. */
void cpu_pending(struct device *d, struct device_pending *out) {
    uint32_t done[CARDS_MAX] = {0}, due[CARDS_MAX] = {0};
    *out = (struct device_pending){.needed = d->needed};
    if (!atomic_load_explicit(&d->stepping, memory_order_acquire))
        return;
    for (uint32_t i = 0; i < team_size(d->team); i++)
        for (uint32_t c = 0; c < d->n_cards; c++)
            done[c] += atomic_load_explicit(&d->work[i].done[c], memory_order_relaxed);
    for (uint32_t c = 0; c < d->n_cards; c++)
        out->done += done[c];
    for (uint32_t p = 0, n; p < d->n_phases && !out->cards; p += n) {
        const uint32_t strips = strip_wanted(d->shape.n_rows) ? d->phases[p].strips : 0;
        n = strips ? strips : 1;
        for (uint32_t k = p; k < p + n; k++) {
            const struct cpu_phase *phase = &d->phases[k];
            const struct cpu_task *tasks = &d->tasks[phase->first];
            for (uint32_t i = 0; i < phase->n; i++)
                due[tasks[i].card] += count_items(phase, tasks, i);
        }
        for (uint32_t c = 0; c < d->n_cards; c++)
            out->cards |= (uint32_t)(done[c] < due[c]) << c;
    }
}

int cpu_hang(struct device *d, uint32_t card) {
    if (card >= d->n_cards || !d->cards[card].present)
        return -EINVAL;
    if (d->isolate)
        return -ENOTSUP;
    d->hung |= 1u << card;
    return 0;
}
