/* SPDX-License-Identifier: Apache-2.0 */
/* step.c - one step: its description to every card, then the kernels, phase after phase.
 *
 * A card's list takes its commands at once and works on them in its own time; a barrier ends a
 * phase on it.  Where a phase crosses cards, all of those that take part have ended the phase
 * before when it begins, and have ended it when the next one begins: each signals an event of its
 * own (a mark), and waits for the others'.  The host waits once, at the end. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "daemon/device/level_zero/kernels/shared.h"
#include "daemon/device/level_zero/landing.h"
#include "daemon/device/level_zero/launches.h"
#include "daemon/device/level_zero/marks.h"

#define WAIT_NS    UINT64_C(20000000) /* at a time, so that a lost card is noticed */
#define ASK_ROUNDS 10                 /* of waiting, after which a card is asked how it is */
#define DRAIN_NS   UINT64_C(200000000)
#define ALIGN_TO   64

struct running {
    struct device *device;
    const struct step_params *params;
    uint32_t mark;
    uint32_t card; /* that was spoken to last: a failure is its */
    int rc;
};

static void check(struct running *r, uint32_t card, ze_result_t result, const char *call) {
    if (r->rc || result == ZE_RESULT_SUCCESS)
        return;
    r->card = card;
    r->rc = ze_failed(result, call, NULL);
}

/* ---- the step's description ----------------------------------------------------------------- */

/* Where its parts lie behind struct ze_step. */
struct layout {
    uint64_t rows, outputs, pages, rope[ROPE_TABLES_MAX], q_scale, bytes;
};

static uint64_t take(uint64_t *end, uint64_t bytes) {
    const uint64_t at = *end;
    *end += (bytes + ALIGN_TO - 1) / ALIGN_TO * ALIGN_TO;
    return at;
}

/* Values of a row of each rotation table that a kernel reads. */
static uint32_t table_width(const struct device *d, uint32_t table) {
    for (size_t i = 0; i < d->n_launches; i++) {
        const struct op *op = d->launches[i].op;
        if (op->kind == OP_ROPE_STORE && op->rope.rope_table == table)
            return op->rope.rope_dims;
    }
    return 0;
}

static struct layout lay_out(const struct device *d, const struct step_params *p) {
    struct layout l;
    uint64_t end = (sizeof(struct ze_step) + ALIGN_TO - 1) / ALIGN_TO * ALIGN_TO, pages = 0;
    for (uint32_t s = 0; s < p->n_sequences; s++)
        pages += p->sequences[s].n_pages;
    l.rows = take(&end, p->n_rows * sizeof(struct ze_row));
    l.outputs = take(&end, p->n_outputs * sizeof(u32));
    l.pages = take(&end, pages * sizeof(u32));
    for (uint32_t t = 0; t < ROPE_TABLES_MAX; t++)
        l.rope[t] = take(&end, p->rope[t] ? (uint64_t)p->n_rows * table_width(d, t) * 4 : 0);
    l.q_scale = take(&end, p->q_scale ? p->n_rows * 4 : 0);
    l.bytes = end;
    return l;
}

static void write_rows(const struct step_params *p, const struct layout *l, char *to) {
    struct ze_row *rows = (struct ze_row *)(void *)(to + l->rows);
    u32 *pages = (u32 *)(void *)(to + l->pages), first[STEP_SEQUENCES_MAX], end = 0;
    for (uint32_t s = 0; s < p->n_sequences; s++) {
        first[s] = end;
        memcpy(pages + end, p->sequences[s].pages, p->sequences[s].n_pages * sizeof *pages);
        end += p->sequences[s].n_pages;
    }
    for (uint32_t i = 0; i < p->n_rows; i++)
        rows[i] =
            (struct ze_row){p->rows[i].token, p->rows[i].position, first[p->rows[i].sequence]};
}

static void write_step(const struct device *d, const struct step_params *p, const struct layout *l,
                       const char *base, char *to) {
    const u64 at = (u64)(uintptr_t)base;
    struct ze_step step = {.rows = at + l->rows,
                           .outputs = at + l->outputs,
                           .pages = at + l->pages,
                           .q_scale = p->q_scale ? at + l->q_scale : 0,
                           .n_rows = p->n_rows,
                           .n_outputs = p->n_outputs};
    for (uint32_t t = 0; t < ROPE_TABLES_MAX; t++) {
        step.rope[t] = at + l->rope[t];
        if (p->rope[t])
            memcpy(to + l->rope[t], p->rope[t], (uint64_t)p->n_rows * table_width(d, t) * 4);
    }
    memcpy(to, &step, sizeof step);
    memcpy(to + l->outputs, p->outputs, p->n_outputs * sizeof(u32));
    if (p->q_scale)
        memcpy(to + l->q_scale, p->q_scale, p->n_rows * 4);
    write_rows(p, l, to);
}

static int make_step_room(struct device *d, uint32_t card, uint64_t bytes) {
    struct ze_card *c = &d->cards[card];
    if (c->step_bytes >= bytes)
        return 0;
    level_zero_free(d, c->step);
    level_zero_free(d, c->step_stage);
    c->step = c->step_stage = NULL;
    c->step_bytes = 0;
    int rc = level_zero_alloc_card(d, card, 2 * bytes, &c->step, NULL);
    if (!rc)
        rc = level_zero_alloc_host(d, 2 * bytes, &c->step_stage, NULL);
    if (!rc)
        c->step_bytes = 2 * bytes;
    return rc;
}

static void describe_step(struct running *r) {
    struct device *d = r->device;
    const struct layout l = lay_out(d, r->params);
    for (uint32_t i = 0; i < d->n_cards && !r->rc; i++) {
        struct ze_card *c = &d->cards[i];
        if (!(d->needed >> i & 1))
            continue;
        r->card = i;
        r->rc = make_step_room(d, i, l.bytes);
        if (r->rc)
            return;
        write_step(d, r->params, &l, c->step, c->step_stage);
        check(r, i,
              d->api->zeCommandListAppendMemoryCopy(c->list, c->step, c->step_stage, l.bytes, NULL,
                                                    0, NULL),
              "zeCommandListAppendMemoryCopy");
        check(r, i, d->api->zeCommandListAppendBarrier(c->list, NULL, 0, NULL),
              "zeCommandListAppendBarrier");
    }
}

/* ---- kernels -------------------------------------------------------------------------------- */

static ze_group_count_t groups_of(const struct ze_launch *l, const struct step_params *p) {
    const uint32_t n_rows = p->n_rows, n_outputs = p->n_outputs;
    const uint32_t of_part =
        l->part.count ? row_part_end(l->part, n_rows) - row_part_begin(l->part, n_rows) : 0;
    const uint32_t of_hits = l->n_used < l->n_experts ? l->n_used : l->n_experts;
    const uint64_t routed = (uint64_t)l->n_used * n_rows;
    const uint32_t counts[] = {
        [BY_ROW] = n_rows,
        [BY_ROW_BLOCK] = (n_rows + ROW_BLOCK - 1) / ROW_BLOCK,
        [BY_OUTPUT] = n_outputs,
        [BY_OUTPUT_BLOCK] = (n_outputs + ROW_BLOCK - 1) / ROW_BLOCK,
        [BY_PART] = of_part,
        [BY_PART_BLOCK] = (of_part + ROW_BLOCK - 1) / ROW_BLOCK,
        [BY_HIT] = routed < l->n_experts ? (uint32_t)routed : l->n_experts,
        [BY_HIT_ROW] = n_rows * of_hits,
        [BY_ONE] = 1,
    };
    const uint32_t n = counts[l->by];
    return l->groups ? (ze_group_count_t){l->groups, n, 1} : (ze_group_count_t){n, 1, 1};
}

static void set_pointer(struct running *r, uint32_t card, ze_kernel_handle_t kernel, uint32_t index,
                        const void *pointer) {
    check(r, card,
          r->device->api->zeKernelSetArgumentValue(kernel, index, sizeof pointer, &pointer),
          "zeKernelSetArgumentValue");
}

static void run_kernel(struct running *r, const struct ze_launch *l, uint32_t card,
                       ze_kernel_handle_t kernel, uint64_t description) {
    const ze_group_count_t groups = groups_of(l, r->params);
    const struct ze_card *c = &r->device->cards[card];
    if (groups.groupCountX == 0 || groups.groupCountY == 0)
        return;
    set_pointer(r, card, kernel, 0, c->descriptions + description);
    set_pointer(r, card, kernel, 1, c->step);
    check(r, card,
          r->device->api->zeCommandListAppendLaunchKernel(c->list, kernel, &groups, NULL, 0, NULL),
          "zeCommandListAppendLaunchKernel");
}

static void set_exchange(struct running *r, const struct ze_launch *l, uint32_t card,
                         ze_kernel_handle_t kernel, bool reads, bool writes) {
    const struct device *d = r->device;
    const bool staged = l->send != NULL;
    set_pointer(r, card, kernel, 2, reads ? d->cards[l->sender].areas[l->area].at : NULL);
    set_pointer(r, card, kernel, 3, writes ? d->cards[l->card].areas[l->area].at : NULL);
    set_pointer(r, card, kernel, 4, staged ? d->exchange_stage + l->stage_at : NULL);
    check(r, card, d->api->zeKernelSetArgumentValue(kernel, 5, sizeof l->words, &l->words),
          "zeKernelSetArgumentValue");
}

/* The half of a staged exchange that its sender does. */
static void run_send(struct running *r, const struct ze_launch *l) {
    set_exchange(r, l, l->sender, l->send, true, false);
    run_kernel(r, l, l->sender, l->send, l->send_description);
}

static void copy_logits(struct running *r, const struct ze_launch *l) {
    const struct op *op = l->op;
    struct device *d = r->device;
    for (uint32_t i = 0; i < r->params->n_outputs; i++)
        check(r, l->card,
              d->api->zeCommandListAppendMemoryCopy(
                  d->cards[l->card].list,
                  d->logits + ((uint64_t)i * r->params->n_vocab + op->exchange.vocab_begin) * 4,
                  d->cards[l->card].areas[AREA_SCRATCH].at + op->exchange.src_offset +
                      i * op->exchange.src_stride_bytes,
                  op->exchange.row_bytes, NULL, 0, NULL),
              "zeCommandListAppendMemoryCopy");
}

/* What follows on the cards waits for what came before. */
static void end_phase(struct running *r, uint32_t cards) {
    for (uint32_t i = 0; i < r->device->n_cards; i++)
        if (cards >> i & 1)
            check(
                r, i,
                r->device->api->zeCommandListAppendBarrier(r->device->cards[i].list, NULL, 0, NULL),
                "zeCommandListAppendBarrier");
}

static void run_launch(struct running *r, const struct ze_launch *l) {
    if (l->op->kind == OP_FETCH) {
        const int rc = landing_fetch(r->device, l->card, l->op);
        if (rc && !r->rc) {
            r->card = l->card;
            r->rc = rc;
        }
        return;
    }
    if (l->op->kind == OP_EXCHANGE && l->op->exchange.kind == EXCHANGE_LOGITS) {
        copy_logits(r, l);
        return;
    }
    if (launch_crosses(l))
        set_exchange(r, l, l->card, l->kernel, !l->send, true);
    if (l->waits)
        end_phase(r, 1u << l->card);
    run_kernel(r, l, l->card, l->kernel, l->description);
}

/* ---- phases --------------------------------------------------------------------------------- */

/* Every one of the cards goes on when all of them have come here. */
static void meet(struct running *r, uint32_t cards) {
    const struct device *d = r->device;
    ze_event_handle_t others[CARDS_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->n_cards; i++)
        if (cards >> i & 1) {
            others[n++] = marks_event(d, r->mark, i);
            check(r, i,
                  d->api->zeCommandListAppendBarrier(d->cards[i].list, marks_event(d, r->mark, i),
                                                     0, NULL),
                  "zeCommandListAppendBarrier");
        }
    for (uint32_t i = 0; i < d->n_cards; i++)
        if (cards >> i & 1)
            check(r, i, d->api->zeCommandListAppendBarrier(d->cards[i].list, NULL, n, others),
                  "zeCommandListAppendBarrier");
    r->mark++;
}

static void run_phase(struct running *r, const struct ze_launch *l, size_t n) {
    uint32_t cards = 0, meeting = 0;
    bool staged = false;
    for (size_t i = 0; i < n; i++) {
        cards |= 1u << l[i].card;
        meeting |= launch_meets(r->device, &l[i]);
        staged |= l[i].send != NULL;
    }
    for (size_t i = 0; i < n && !r->rc && staged; i++)
        if (l[i].send)
            run_send(r, &l[i]);
    if (meeting)
        meet(r, meeting);
    for (size_t i = 0; i < n && !r->rc; i++)
        run_launch(r, &l[i]);
    if (meeting)
        meet(r, meeting);
    end_phase(r, cards & ~meeting);
}

static void run_phases(struct running *r) {
    const struct device *d = r->device;
    for (size_t i = 0, n; i < d->n_launches && !r->rc; i += n) {
        for (n = 1; i + n < d->n_launches && d->launches[i + n].phase == d->launches[i].phase; n++)
            ;
        run_phase(r, &d->launches[i], n);
    }
    for (uint32_t i = 0; i < d->n_cards; i++)
        if (d->needed >> i & 1)
            check(r, i,
                  d->api->zeCommandListAppendBarrier(d->cards[i].list,
                                                     marks_event(d, d->n_marks, i), 0, NULL),
                  "zeCommandListAppendBarrier");
}

/* By turns: a lost card says so only to who waits for itself, and others wait for it; and Intel's
 * driver only to who waits for half a second at once, or asks. */
static void wait_for_all(struct running *r) {
    const struct device *d = r->device;
    uint32_t left = d->needed;
    for (uint32_t round = 1; left && !r->rc; round++)
        for (uint32_t i = 0; i < d->n_cards && !r->rc; i++) {
            if (!(left >> i & 1))
                continue;
            const ze_result_t result =
                d->api->zeEventHostSynchronize(marks_event(d, d->n_marks, i), WAIT_NS);
            if (result != ZE_RESULT_NOT_READY) {
                left &= ~(1u << i);
                check(r, i, result, "zeEventHostSynchronize");
            } else if (round % ASK_ROUNDS == 0) {
                check(r, i, d->api->zeDeviceGetStatus(d->cards[i].handle), "zeDeviceGetStatus");
            }
        }
}

/* After a failure: the others wait for what will not come.  They are let go, and waited for, so
 * that nothing is in use when it is freed. */
static void let_go(struct device *d) {
    uint64_t waits = DRAIN_NS / WAIT_NS; /* of all of them together */
    for (uint32_t i = 0; i < (d->n_marks + 1) * d->n_cards; i++)
        d->api->zeEventHostSignal(d->events[i]);
    for (uint32_t i = 0; i < d->n_cards; i++) {
        const ze_event_handle_t empty = marks_event(d, d->n_marks + 1, i);
        if (!(d->needed >> i & 1) || d->cards[i].lost ||
            d->api->zeCommandListAppendBarrier(d->cards[i].list, empty, 0, NULL))
            continue;
        while (waits && d->api->zeEventHostSynchronize(empty, WAIT_NS) == ZE_RESULT_NOT_READY)
            waits--;
    }
}

static int make_logits_room(struct device *d, const struct step_params *p) {
    const uint64_t bytes = (uint64_t)p->n_outputs * p->n_vocab * 4;
    if (d->logits_bytes >= bytes)
        return 0;
    level_zero_free(d, d->logits);
    d->logits = NULL;
    d->logits_bytes = 0;
    const int rc = level_zero_alloc_host(d, bytes, &d->logits, NULL);
    if (!rc)
        d->logits_bytes = bytes;
    return rc;
}

static int reset_events(struct device *d) {
    int rc = 0;
    for (uint32_t i = 0; i < (d->n_marks + 2) * d->n_cards && !rc; i++)
        rc = ze_failed(d->api->zeEventHostReset(d->events[i]), "zeEventHostReset", NULL);
    return rc;
}

int level_zero_step(struct device *d, const struct step_params *params, uint32_t *card) {
    struct running r = {.device = d, .params = params};
    if (params->n_rows == 0 || params->n_rows > d->max_rows ||
        params->n_sequences > STEP_SEQUENCES_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < d->n_cards; i++)
        if (d->needed >> i & 1 && d->cards[i].lost) {
            *card = i;
            return -ENODEV;
        }
    int rc = make_logits_room(d, params);
    if (!rc)
        rc = reset_events(d);
    if (rc)
        return rc == -ENODEV ? -EIO : rc; /* no card's own */
    rc = landing_ready(d, card);
    if (rc) {
        d->cards[*card].lost |= rc == -ENODEV;
        return rc;
    }
    atomic_store(&d->stepping, true);
    describe_step(&r);
    run_phases(&r);
    if (!r.rc)
        wait_for_all(&r);
    atomic_store(&d->stepping, false);
    if (r.rc == -ENODEV) {
        d->cards[r.card].lost = true;
        *card = r.card;
    }
    if (r.rc)
        let_go(d);
    for (uint32_t i = 0; i < d->n_cards && r.rc; i++)
        landing_stale(d, i);
    if (!r.rc && params->n_outputs)
        memcpy(params->logits, d->logits, (uint64_t)params->n_outputs * params->n_vocab * 4);
    return r.rc;
}

/* ---- what it waits for ---------------------------------------------------------------------- */

/* Cards that have not come to the first mark that not all of those which go there have come to.  A
 * card that takes no part in a mark never signals it: only the end is everyone's. */
void level_zero_pending(struct device *d, struct device_pending *out) {
    *out = (struct device_pending){.needed = d->needed};
    if (!atomic_load(&d->stepping) || !d->events)
        return;
    for (uint32_t mark = 0; mark <= d->n_marks; mark++) {
        uint32_t come = 0, missing = 0;
        for (uint32_t i = 0; i < d->n_cards; i++) {
            if (!(d->needed >> i & 1))
                continue;
            if (d->api->zeEventQueryStatus(marks_event(d, mark, i)) == ZE_RESULT_SUCCESS)
                come |= 1u << i;
            else if (mark == d->n_marks || d->mark_cards[mark] >> i & 1)
                missing |= 1u << i;
        }
        out->done += (uint64_t)__builtin_popcount(come);
        if (missing && !out->cards)
            out->cards = missing;
    }
}
