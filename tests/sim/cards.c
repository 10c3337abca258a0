/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cards.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/engine/program.h"
#include "daemon/engine/prove.h"
#include "daemon/engine/weights.h"
#include "daemon/placement/layout.h"
#include "octarc/error.h"
#include "tests/landed.h"
#include "tests/sim/sim.h"

#define WAIT_US  20
#define HELD     1        /* no result of loading is positive */
#define PROVE_NS (4 * MS) /* to take the digest of a range; a few of them are a slice */
#define READ_NS  (20 * MS)
/* The last slice has what is left of the full pages, a slice at most, and all open ones: with up to
 * 12 sequences that is no more than two steps of as many rows (generation.c). */
#define SLICE    2          /* pages */
#define SLICE_NS (900 * US) /* to copy so much */

/* K and V of a card, which two runners have while one follows the other. */
struct kv {
    uint32_t runners;
    uint64_t room;
    uint8_t bytes[];
};

struct device {
    const struct device_ops *ops;
    struct kv *kv[CARDS_MAX]; /* NULL: none, or lost */
    bool lost[CARDS_MAX];
    const struct plan *plan;
    struct harm {
        uint64_t bits; /* 0: whole */
        uint64_t at, since_ns;
    } * harm;          /* [n_ranges] */
    uint32_t n_harmed; /* of them */
};

struct runner {
    struct runner_options options;
    struct device device;
    uint64_t *digests; /* [n_ranges] */
};

static uint64_t *spent;

void cards_spend_on(uint64_t *ns) {
    spent = ns;
}

/* --- the backend --- */

static uint64_t packed_bytes(uint32_t type, bool vector, uint64_t rows, uint64_t cols) {
    (void)type, (void)vector;
    return (rows * cols + 63) / 64 * 64;
}

/* Of all cards together. */
static uint64_t slice_of(const struct plan *plan) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < plan->n_cards; i++)
        bytes += plan->cards[i].kv_bytes;
    return SLICE * bytes / plan->n_pages;
}

static int copy(struct device *from, uint32_t from_card, enum area area, uint64_t from_offset,
                struct device *to, uint32_t to_card, uint64_t to_offset, uint64_t bytes) {
    PROMISE(area == AREA_KV, "only K and V are copied here");
    if (from->lost[from_card] || to->lost[to_card])
        return -ENODEV;
    if (bytes == 0)
        return 0;
    struct kv *src = from->kv[from_card], *dst = to->kv[to_card];
    PROMISE(src && dst && from_offset + bytes <= src->room && to_offset + bytes <= dst->room,
            "a copy from card %u to card %u leaves their pages", from_card, to_card);
    memcpy(dst->bytes + to_offset, src->bytes + from_offset, bytes);
    *spent += SLICE_NS * bytes / slice_of(from->plan);
    return 0;
}

static int prefetch(struct device *device, uint32_t card, enum area area, uint64_t offset,
                    uint64_t bytes) {
    if (device->lost[card])
        return -ENODEV;
    PROMISE(area == AREA_KV && device->kv[card] && offset + bytes <= device->kv[card]->room,
            "a prefetch leaves the pages of card %u", card);
    return 0;
}

/* What a range's first leaf is worth in its digest; the others are worth nothing. */
static uint64_t content_of(const struct plan_range *r) {
    return mix(mix(mix(r->tensor, r->row_begin), mix(r->row_end, r->col_begin)), r->col_end);
}

static const struct plan_range *range_at(const struct device *d, uint32_t card, uint64_t offset) {
    for (size_t i = 0; i < d->plan->n_ranges; i++) {
        const struct plan_range *r = &d->plan->ranges[i];
        if (r->card == card && r->offset <= offset && offset < r->offset + r->bytes)
            return r;
    }
    broken("byte %lu of card %u is of no range", offset, card);
}

static int digest_part(struct device *device, uint32_t card, uint64_t offset, uint64_t bytes,
                       uint64_t first_leaf, uint64_t *sum) {
    if (device->lost[card])
        return -ENODEV;
    const struct plan_range *r = range_at(device, card, offset);
    const struct harm *harm = &device->harm[r - device->plan->ranges];
    const uint64_t at = offset - r->offset;
    PROMISE(at == first_leaf * DIGEST_LEAF_BYTES && at + bytes <= r->bytes,
            "bytes %lu to %lu of a range of %lu are not leaf %lu and those behind it", at,
            at + bytes, r->bytes, first_leaf);
    *sum = at == 0 ? content_of(r) : 0;
    if (harm->bits && harm->at >= at && harm->at < at + bytes)
        *sum += harm->bits;
    *spent += PROVE_NS;
    return 0;
}

static const struct device_ops simulated = {.name = "cpu",
                                            .packed_bytes = packed_bytes,
                                            .digest_part = digest_part,
                                            .copy = copy,
                                            .prefetch = prefetch};

const struct device_ops *device_backend(const char *name) {
    return strcmp(name, simulated.name) ? NULL : &simulated;
}

/* --- loading --- */

static _Atomic int loading;

void cards_hold_loading(void) {
    atomic_store(&loading, HELD);
}

void cards_end_loading(int rc) {
    atomic_store(&loading, rc);
}

static int wait_loaded(const struct runner_options *o) {
    while (atomic_load(&loading) == HELD) {
        if (o->cancelled && atomic_load(o->cancelled))
            return -ECANCELED;
        usleep(WAIT_US);
    }
    return atomic_load(&loading);
}

/* When the loading thread is let go, nobody else is at work. */
int prove_left(const struct runner_options *options, bool *whole) {
    if (wait_loaded(options) == -ECANCELED)
        return -ECANCELED;
    *whole = !cards_harmed(options->before, UINT32_MAX, NEVER);
    return 0;
}

/* What nobody was promised. */
static void fill_kv(struct kv *kv, uint64_t begin, uint64_t end) {
    memset(kv->bytes + begin, 0xA5, end - begin);
}

static struct kv *make_kv(const struct runner_options *o, uint32_t card) {
    const uint64_t room = layout_kv_room(o->plan, &o->model->params, card);
    struct kv *kv = malloc(sizeof *kv + room);
    PROMISE(kv, "no memory for card %u", card);
    *kv = (struct kv){1, room};
    fill_kv(kv, 0, room);
    return kv;
}

static void drop_kv(struct kv *kv) {
    if (kv && --kv->runners == 0)
        free(kv);
}

static struct kv *share_kv(struct runner *before, uint32_t card) {
    struct kv *kv = before->device.kv[card];
    kv->runners++;
    return kv;
}

/* No card ever holds more than it can, of which a lost one has nothing left; what has no room
 * beside what is in use waits elsewhere, where the order allows so much.  An order that crossed the
 * answer to the one before may lie on what is in use by now, and is refused. */
static int check_room(const struct runner *before, const struct runner_options *o) {
    const struct plan *now = before->options.plan;
    uint64_t host = 0;
    int rc = 0;
    for (uint32_t i = 0; i < o->plan->n_cards; i++) {
        if (before->device.lost[i])
            continue;
        const bool waits = o->stage_most && layout_is_staged(now, o->plan, i);
        PROMISE(waits || layout_peak_bytes(now, o->plan, i) <= sim.topology.cards[i].memory_bytes,
                "card %u overflows", i);
        sim_totals.staged += waits;
        host += now->cards[i].spilled_bytes + o->plan->cards[i].spilled_bytes;
        rc = layout_is_beside(now, o->plan, i) ? rc : -EINVAL;
    }
    PROMISE(host <= sim.topology.host.spill_bytes, "host memory overflows");
    return o->stage_most && layout_staged_bytes(now, o->plan) > o->stage_most ? -ENOSPC : rc;
}

/* The card has the range of the plan where the runner before it has it: in the same memory. */
static bool stays(const struct runner *before, const struct plan *plan, size_t range,
                  size_t *where) {
    const struct plan *now = before->options.plan;
    const struct plan_range *r = &plan->ranges[range];
    if (before->device.lost[r->card] || !layout_in_place(now, plan, r->card))
        return false;
    for (size_t i = 0; i < now->n_ranges; i++)
        if (now->ranges[i].card == r->card && plan_same_range(&now->ranges[i], r)) {
            *where = i;
            return true;
        }
    return false;
}

/* What does not lie on the cards is within the limit, and is fetched before any step reads it. */
static void check_spilled(const struct plan *plan) {
    const char *why = landed_check(&sim.loaded.model, plan);
    PROMISE(plan_host_bytes(plan) <= sim.topology.host.spill_bytes, "host memory overflows");
    PROMISE(!why, "%s", why);
    sim_totals.spilled += plan_host_bytes(plan) > 0;
}

/* What is in use and harmed cannot be read again beside steps that read it. */
static int check_whole(const struct runner *before, const struct plan *plan) {
    size_t at;
    for (size_t i = 0; i < plan->n_ranges; i++)
        if (stays(before, plan, i, &at) && before->device.harm[at].bits)
            return -EBADMSG;
    return 0;
}

/* Harm that came since. */
static void inherit_harm(struct runner *r, const struct runner *left) {
    size_t at;
    for (size_t i = 0; i < r->device.plan->n_ranges; i++)
        if (stays(left, r->device.plan, i, &at) && left->device.harm[at].bits) {
            r->device.n_harmed += r->device.harm[i].bits == 0;
            r->device.harm[i] = left->device.harm[at];
        }
}

static void make_weights(struct runner *r) {
    const struct plan *plan = r->options.plan;
    r->device.plan = plan;
    r->device.harm = calloc(plan->n_ranges + 1, sizeof *r->device.harm);
    r->digests = calloc(plan->n_ranges + 1, sizeof *r->digests);
    PROMISE(r->device.harm && r->digests, "no memory for a runner");
    for (size_t i = 0; i < plan->n_ranges; i++)
        r->digests[i] = device_digest_close(content_of(&plan->ranges[i]), plan->ranges[i].bytes);
}

int runner_open(struct runner **out, const struct runner_options *options, struct err *err) {
    struct runner *before = options->before;
    int rc = options->behind ? wait_loaded(options) : 0;
    if (rc)
        return err_set(err, rc, "the weights cannot be read");
    rc = before ? check_room(before, options) : 0;
    if (rc)
        return err_set(err, rc, "the plan's ranges lie on those in use");
    rc = before ? check_whole(before, options->plan) : 0;
    if (rc)
        return err_set(err, rc, "what stays was harmed");
    struct runner *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, -ENOMEM, "no memory for a runner");
    r->options = *options;
    r->device.ops = &simulated;
    r->options.before = NULL;
    make_weights(r);
    check_spilled(options->plan);
    for (uint32_t i = 0; i < options->plan->n_cards; i++)
        if (options->plan->cards[i].kv_bytes)
            r->device.kv[i] = before && before->device.kv[i] &&
                                      layout_keeps_kv(before->options.plan, options->plan, i)
                                  ? share_kv(before, i)
                                  : make_kv(options, i);
    *out = r;
    return 0;
}

void runner_close(struct runner *r) {
    if (!r)
        return;
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        drop_kv(r->device.kv[i]);
    free(r->device.harm);
    free(r->digests);
    free(r);
}

int runner_trim(struct runner *r) {
    const struct plan *plan = r->options.plan;
    for (uint32_t i = 0; i < plan->n_cards; i++) {
        struct kv *kv = r->device.kv[i];
        const uint64_t of_layer = kv ? kv->room / r->options.model->params.n_layers : 0;
        if (!kv)
            continue;
        fill_kv(kv, 0, plan->cards[i].layer_begin * of_layer);
        fill_kv(kv, plan->cards[i].layer_end * of_layer, kv->room);
    }
    return 0;
}

void runner_leave_behind(struct runner *r, struct runner *left, struct plan *left_plan) {
    inherit_harm(r, left);
    runner_close(left);
    plan_finish(left_plan);
    free(left_plan);
    runner_trim(r);
}

/* What waits is nowhere else here (engine/stage.h): its K and V are where they are wanted. */
int runner_move_in(struct runner *r, struct runner *before, struct err *err) {
    (void)r, (void)before, (void)err;
    return 0;
}

void runner_leave_stage(struct runner *r) {
    (void)r;
}

/* --- what is asked about it --- */

void runner_card(const struct runner *r, uint32_t card, struct runner_card *out) {
    const struct plan_card *c = &r->options.plan->cards[card];
    *out = (struct runner_card){.weights_bytes = c->weights_bytes,
                                .kv_bytes = c->kv_bytes,
                                .scratch_bytes = c->scratch_bytes};
}

const struct runner_options *runner_options(const struct runner *r) {
    return &r->options;
}

struct device *runner_device(const struct runner *r) {
    return (struct device *)&r->device;
}

/* The engine's process says what was carried, and here there is none. */
void runner_inherit(struct runner *r, const struct runner *before) {
    (void)r, (void)before;
}

void runner_note_carried(struct runner *r, uint32_t from, uint32_t to, uint64_t bytes) {
    (void)r, (void)from, (void)to, (void)bytes;
}

int runner_huge(struct runner *r, uint64_t bytes[CARDS_MAX]) {
    (void)r, (void)bytes;
    return -ENOTSUP;
}

int runner_lose(struct runner *r, uint32_t card) {
    if (card >= r->options.plan->n_cards || !r->options.plan->cards[card].online)
        return -EINVAL;
    drop_kv(r->device.kv[card]);
    r->device.kv[card] = NULL;
    r->device.lost[card] = true;
    return 0;
}

uint64_t cards_slice_bytes(const struct runner *r) {
    return slice_of(r->options.plan);
}

bool cards_lost(const struct runner *r, uint32_t card) {
    return r->device.lost[card];
}

/* --- harm --- */

/* One in the middle of those that the card has. */
bool cards_harm(struct runner *r, uint32_t card) {
    struct device *d = &r->device;
    uint32_t n = 0, which;
    for (size_t i = 0; i < d->plan->n_ranges; i++)
        n += d->plan->ranges[i].card == card;
    if (n == 0 || d->lost[card])
        return false;
    which = draw(&sim.random, n);
    for (size_t i = 0; i < d->plan->n_ranges; i++) {
        const struct plan_range *range = &d->plan->ranges[i];
        struct harm *harm = &d->harm[i];
        if (range->card != card || which-- > 0)
            continue;
        d->n_harmed += harm->bits == 0;
        if (!harm->bits)
            *harm = (struct harm){.at = mix(sim.now_ns, i) % range->bytes, .since_ns = sim.now_ns};
        harm->bits = mix(harm->bits, sim.now_ns + 1) | 1;
        trace("card %u: tensor %u is harmed", card, range->tensor);
        break;
    }
    harm_begins(r);
    return true;
}

bool cards_harmed(const struct runner *r, uint32_t cards, uint64_t before_ns) {
    const struct device *d = &r->device;
    for (size_t i = 0; i < d->plan->n_ranges; i++) {
        const uint32_t card = d->plan->ranges[i].card;
        if (d->harm[i].bits && d->harm[i].since_ns < before_ns && cards >> card & 1 &&
            !d->lost[card])
            return true;
    }
    return false;
}

int runner_corrupt(struct runner *r, uint32_t card) {
    return cards_harm(r, card) ? 0 : -ENODATA;
}

const uint64_t *runner_digests(const struct runner *r) {
    return r->digests;
}

static int restore_fails;

void cards_fail_restore(int rc) {
    restore_fails = rc;
}

int weights_restore(struct device *device, const struct runner_options *options, uint32_t range,
                    uint64_t digest, struct err *err) {
    const int rc = restore_fails;
    (void)options, (void)digest;
    restore_fails = 0;
    *spent += READ_NS;
    if (rc)
        return err_set(err, rc, "the weights cannot be read again");
    PROMISE(device->harm[range].bits, "a range that is whole is read again");
    device->harm[range] = (struct harm){.bits = 0};
    device->n_harmed--;
    return 0;
}

/* --- a step --- */

/* Where a card keeps what a layer left of the positions of a page, one u64 each; NULL: it keeps
 * nothing of this layer and head. */
static uint8_t *slot_of(struct runner *r, uint32_t card, uint32_t layer, uint32_t head,
                        uint32_t page) {
    const struct plan *plan = r->options.plan;
    const struct plan_card *c = &plan->cards[card];
    if (layer < c->layer_begin || layer >= c->layer_end || head < c->kv_begin || head >= c->kv_end)
        return NULL;
    const struct kv_place at = program_kv_place(r->options.model, plan, card, layer);
    const uint64_t offset = page * at.page_bytes + at.offset + (head - c->kv_begin) * at.slot_bytes;
    PROMISE(offset + at.slot_bytes <= r->device.kv[card]->room,
            "page %u lies beyond the pages of card %u", page, card);
    return r->device.kv[card]->bytes + offset;
}

/* One head's view of positions [0, position], after it has left its own mark.  K and V of a head
 * may lie on several cards; then all of them must have the same. */
static uint64_t attend(struct runner *r, const struct step_sequence *s, uint32_t position,
                       uint32_t layer, uint32_t head, uint64_t x) {
    uint64_t seen = 0;
    bool any = false;
    for (uint32_t card = 0; card < r->options.plan->n_cards; card++) {
        uint64_t h = 0;
        uint8_t *slot = NULL;
        for (uint32_t p = 0; p <= position; p++) {
            if (p % PAGE_TOKENS == 0)
                slot = slot_of(r, card, layer, head, s->pages[p / PAGE_TOKENS]);
            if (!slot)
                break;
            uint64_t *at = (uint64_t *)(void *)slot + p % PAGE_TOKENS;
            if (p == position)
                *at = mix(x, layer * 131 + head);
            h = h * UINT64_C(0x9e3779b97f4a7c15) + *at;
            h ^= h >> 31;
        }
        if (!slot)
            continue;
        PROMISE(!any || h == seen, "cards hold different K and V of layer %u, head %u", layer,
                head);
        seen = h;
        any = true;
    }
    PROMISE(any, "no card holds layer %u, head %u", layer, head);
    return seen;
}

/* Of what is computed with a layer's tensors (-1: with those of none), whichever card does. */
static uint64_t spoil(const struct runner *r, int32_t layer, uint64_t x) {
    const struct device *d = &r->device;
    for (size_t i = 0; d->n_harmed && i < d->plan->n_ranges; i++)
        if (d->harm[i].bits && !d->lost[d->plan->ranges[i].card] &&
            r->options.model->tensors[d->plan->ranges[i].tensor].layer == layer)
            x = mix(x, d->harm[i].bits);
    return x;
}

static uint64_t compute(struct runner *r, const struct step_sequence *s,
                        const struct step_row *row) {
    const struct model_params *p = &r->options.model->params;
    uint64_t x = mix((uint64_t)row->token + 1, row->position);
    PROMISE(row->position / PAGE_TOKENS < s->n_pages, "position %u has no page", row->position);
    for (uint32_t layer = 0; layer < p->n_layers; layer++) {
        uint64_t all = x;
        for (uint32_t head = 0; head < p->n_kv_heads; head++)
            all = mix(all, attend(r, s, row->position, layer, head, x));
        x = spoil(r, (int32_t)layer, all);
    }
    return spoil(r, -1, x);
}

static void fill_logits(float *logits, uint64_t x) {
    for (uint32_t v = 0; v < VOCAB; v++)
        logits[v] = (float)(mix(x, v) % 1000) / 100.0f;
    logits[T_EOG] = x % 64 == 0 ? 20 : -5;
    logits[T_POISON] = -60; /* a bias asks for it */
}

int runner_step(struct runner *r, struct step_params *params, uint32_t *card) {
    const struct plan *plan = r->options.plan;
    uint32_t out = 0;
    for (uint32_t i = 0; i < plan->n_cards; i++)
        if (r->device.lost[i] && plan->cards[i].weights_bytes) {
            *card = i;
            return -ENODEV;
        }
    for (uint32_t i = 0; i < params->n_rows; i++) {
        const struct step_row *row = &params->rows[i];
        const uint64_t x = compute(r, &params->sequences[row->sequence], row);
        if (out < params->n_outputs && params->outputs[out] == i)
            fill_logits(params->logits + out++ * VOCAB, x);
    }
    PROMISE(out == params->n_outputs, "a step wants logits of rows that it does not have");
    return 0;
}
