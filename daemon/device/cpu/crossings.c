/* SPDX-License-Identifier: Apache-2.0 */
/* crossings.c - exchanges that need no phase of their own.
 *
 * What an EXCHANGE_PLANE brings is read once, by the COMBINE in the phase behind it: so that reads
 * the sender's plane where it lies, and nothing is copied.  Nobody writes a plane between the two
 * phases, and a sum has the same terms in the same order.
 *
 * What a NORM makes of some rows, or the K and V that a ROPE_STORE stored, is copied to the cards
 * that read it by whoever made it, while it is near; and logits to the host.  In isolation copies
 * stay in their phase.
 *
 * The normed row of a step that has no other is not even copied: the matrices behind it read it
 * where it lies, so that a core has it once for all its cards. */
#include "daemon/device/cpu/cpu.h"

static bool all_are(const struct device *d, const struct cpu_phase *phase, enum op_kind kind) {
    for (uint32_t i = 0; i < phase->n; i++)
        if (d->tasks[phase->first + i].op->kind != kind)
            return false;
    return phase->n > 0;
}

static bool same_part(struct row_part a, struct row_part b) {
    return a.index == b.index && a.count == b.count;
}

/* ---- planes that are read where they lie ---------------------------------------------------- */

/* The slot of a COMBINE that an exchange fills; NO_SLOT: none. */
static int slot_of(const struct device *d, const struct op *sum, const struct op *exchange) {
    const struct planes slots = sum->combine.slots;
    const uint64_t plane = (uint64_t)d->max_rows * slots.stride * sizeof(float);
    for (int i = 1; i < TREE_NODES; i++) {
        const int slot = sum->combine.slot[i];
        if (slot != NO_SLOT && exchange->exchange.dst_offset == slots.offset + slot * plane)
            return slot;
    }
    return NO_SLOT;
}

/* Whether a task reads what an exchange brings; if so, where it lies from then on. */
static bool pull(const struct device *d, struct cpu_task *task, const struct op *op) {
    const struct op *sum = task->op;
    const int slot = slot_of(d, sum, op);
    if (task->card != op->exchange.dst || slot == NO_SLOT ||
        op->exchange.row_bytes != sum->combine.slots.stride * sizeof(float) ||
        !same_part(sum->combine.part, op->exchange.to))
        return false;
    task->pulls[slot] = (struct cpu_pull){true, op->exchange.src, op->exchange.src_offset};
    task->senders |= 1u << op->exchange.src;
    return true;
}

static void pull_planes(struct device *d, const struct cpu_phase *exchanges) {
    const struct cpu_phase *sums = exchanges + 1;
    for (uint32_t i = 0; i < exchanges->n; i++) {
        struct cpu_task *task = &d->tasks[exchanges->first + i];
        for (uint32_t k = 0; k < sums->n && task->op->exchange.kind == EXCHANGE_PLANE; k++)
            if (pull(d, &d->tasks[sums->first + k], task->op))
                task->pulled_rows = UINT32_MAX;
    }
}

/* ---- copies by whoever made what is copied -------------------------------------------------- */

static bool carries_on(const struct op *made, const struct op *exchange) {
    if (made->kind == OP_NORM)
        return exchange->exchange.kind == EXCHANGE_ACTIVATION && !made->norm.outputs &&
               same_part(made->norm.part, exchange->exchange.from);
    if (made->kind == OP_LOGITS)
        return exchange->exchange.kind == EXCHANGE_LOGITS &&
               exchange->exchange.src_offset == made->logits.out.offset &&
               exchange->exchange.row_bytes == made->logits.w.rows * sizeof(float);
    return made->kind == OP_ROPE_STORE && exchange->exchange.kind == EXCHANGE_KV;
}

/* The exchanges of a phase in the order of their senders. */
static void by_sender(struct device *d, const struct cpu_phase *exchanges) {
    struct cpu_task *tasks = &d->tasks[exchanges->first];
    for (uint32_t i = 1; i < exchanges->n; i++) {
        const struct cpu_task task = tasks[i];
        uint32_t at = i;
        for (; at && tasks[at - 1].op->exchange.src > task.op->exchange.src; at--)
            tasks[at] = tasks[at - 1];
        tasks[at] = task;
    }
}

static void copy_at_once(struct device *d, struct cpu_phase *exchanges) {
    const struct cpu_phase *makers = exchanges - 1;
    uint32_t n = 0;
    by_sender(d, exchanges);
    for (uint32_t i = 0; i < makers->n; i++) {
        struct cpu_task *maker = &d->tasks[makers->first + i];
        for (uint32_t k = 0; k < exchanges->n; k++) {
            struct cpu_task *copy = &d->tasks[exchanges->first + k];
            if (copy->op->exchange.src != maker->card || !carries_on(maker->op, copy->op))
                continue;
            maker->copies = maker->n_copies ? maker->copies : exchanges->first + k;
            maker->n_copies++;
            n++;
        }
    }
    exchanges->carried = n == exchanges->n;
    for (uint32_t i = 0; i < makers->n && !exchanges->carried; i++)
        d->tasks[makers->first + i].n_copies = 0;
}

/* ---- a row that is read where it lies ------------------------------------------------------- */

static const struct activation *input_of(const struct op *op) {
    return op->kind == OP_QKV ? &op->qkv.act : &op->gate_up.act;
}

/* The task of a phase of matrices that reads an activation of a card, NULL: there is none. */
static struct cpu_task *reader_of(struct device *d, const struct cpu_phase *matrices, uint32_t card,
                                  const struct activation *act) {
    for (uint32_t i = 0; i < matrices->n; i++) {
        struct cpu_task *task = &d->tasks[matrices->first + i];
        const struct activation *input = input_of(task->op);
        if (task->card == card && input->q8 == act->q8 && input->f32 == act->f32)
            return task;
    }
    return NULL;
}

static bool has_the_row(struct row_part part) {
    return row_part_begin(part, 1) < row_part_end(part, 1);
}

/* What a norm in front of these matrices makes is read by them alone, and as long as the card that
 * normed it reads it too, nothing else is written there. */
static void pull_row(struct device *d, const struct cpu_phase *exchanges) {
    const struct cpu_phase *matrices = exchanges + 1;
    for (uint32_t i = 0; i < exchanges->n; i++) {
        struct cpu_task *task = &d->tasks[exchanges->first + i];
        const struct op *op = task->op;
        if (op->exchange.kind != EXCHANGE_ACTIVATION || !has_the_row(op->exchange.from))
            continue;
        struct cpu_task *reader = reader_of(d, matrices, op->exchange.dst, &op->exchange.act_to);
        if (reader && reader_of(d, matrices, op->exchange.src, &op->exchange.act_from)) {
            reader->input = op;
            task->pulled_rows = 1;
        }
    }
}

void cpu_find_crossings(struct device *d) {
    size_t n = 0;
    for (size_t i = 0; i < d->n_tasks; i++)
        if (d->tasks[i].op->kind == OP_COMBINE)
            d->tasks[i].pulls = d->pulls[n++];
    for (uint32_t p = 0; p < d->n_phases; p++) {
        struct cpu_phase *phase = &d->phases[p];
        if (!all_are(d, phase, OP_EXCHANGE))
            continue;
        if (p + 1 < d->n_phases && all_are(d, phase + 1, OP_COMBINE))
            pull_planes(d, phase);
        if (p && (all_are(d, phase - 1, OP_NORM) || all_are(d, phase - 1, OP_ROPE_STORE) ||
                  all_are(d, phase - 1, OP_LOGITS)))
            copy_at_once(d, phase);
        if (p + 1 < d->n_phases &&
            (all_are(d, phase + 1, OP_QKV) || all_are(d, phase + 1, OP_GATE_UP)))
            pull_row(d, phase);
    }
}
