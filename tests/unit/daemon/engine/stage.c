/* SPDX-License-Identifier: Apache-2.0 */
/* Full cards change over to another plan by way of host memory: no card ever holds more than it has
 * room for, whatever is written where; and every sequence goes on with the same tokens. */
#include "daemon/engine/stage.h"

#include <pthread.h>

#include "tests/unit/daemon/engine/moving.h"

#define BLOCK 64u
#define ROOM  (32u << 20) /* of addresses that are watched, of an area */
#define STAGE UINT32_MAX

/* --- a backend that counts what every card holds --- */

struct memory {
    uint32_t card; /* STAGE: host memory */
    uint64_t used; /* bytes */
    uint8_t blocks[ROOM / BLOCK];
};

struct area_of {
    struct device *device;
    uint32_t card;
    enum area area;
    uint32_t memory;
};

static struct watched {
    struct device_ops ops;
    struct memory *memories[256];
    uint32_t n_memories, n_areas, overflows, dies_at, touches;
    struct area_of areas[256];
    uint64_t capacity[CARDS_MAX], most[CARDS_MAX], stage_most;
    uint64_t flip_at; /* the n-th copy out of the stage comes with a bit that flipped; 0: none */
} watched;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const struct device_ops *cpu(void) {
    return device_backend("cpu");
}

static struct memory *find(struct device *device, uint32_t card, enum area area) {
    for (uint32_t i = 0; i < watched.n_areas; i++) {
        const struct area_of *a = &watched.areas[i];
        if (a->device == device && a->card == card && a->area == area)
            return watched.memories[a->memory];
    }
    return NULL;
}

static uint64_t held_on(uint32_t card) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < watched.n_memories; i++)
        if (watched.memories[i] && watched.memories[i]->card == card)
            bytes += watched.memories[i]->used;
    return bytes;
}

static void mark(struct device *device, uint32_t card, enum area area, uint64_t offset,
                 uint64_t bytes, bool used) {
    pthread_mutex_lock(&lock);
    struct memory *m = find(device, card, area);
    for (uint64_t b = offset / BLOCK; m && b < (offset + bytes + BLOCK - 1) / BLOCK; b++) {
        if (b >= ROOM / BLOCK)
            break;
        m->used += used && !m->blocks[b] ? BLOCK : 0;
        m->used -= !used && m->blocks[b] ? BLOCK : 0;
        m->blocks[b] = used;
    }
    if (m && m->card == STAGE && held_on(STAGE) > watched.stage_most)
        watched.stage_most = held_on(STAGE);
    if (m && m->card != STAGE) {
        const uint64_t held = held_on(m->card);
        watched.most[m->card] = held > watched.most[m->card] ? held : watched.most[m->card];
        watched.overflows += watched.capacity[m->card] && held > watched.capacity[m->card];
    }
    pthread_mutex_unlock(&lock);
}

static void add_area(struct device *device, uint32_t card, enum area area, uint32_t memory) {
    CHECK(watched.n_areas < 256);
    watched.areas[watched.n_areas++] = (struct area_of){device, card, area, memory};
}

static struct device *stage_of_test;

static int on_open(struct device **device, const struct device_options *o, struct err *err) {
    const int rc = cpu()->open(device, o, err);
    if (!rc && o->n_cards == 1 && o->host_bytes[0])
        stage_of_test = *device;
    return rc;
}

static int on_reserve(struct device *device, uint32_t card, enum area area, uint64_t room,
                      uint64_t bytes, int fd, struct err *err) {
    const int rc = cpu()->reserve(device, card, area, room, bytes, fd, err);
    if (rc)
        return rc;
    struct memory *m = calloc(1, sizeof *m);
    m->card = device == stage_of_test ? STAGE : card;
    pthread_mutex_lock(&lock);
    CHECK(watched.n_memories < 256);
    add_area(device, card, area, watched.n_memories);
    watched.memories[watched.n_memories++] = m;
    pthread_mutex_unlock(&lock);
    return 0;
}

static int on_share(struct device *from, uint32_t from_card, enum area area, struct device *to,
                    uint32_t to_card, uint64_t room, uint64_t bytes, struct err *err) {
    const int rc = cpu()->share(from, from_card, area, to, to_card, room, bytes, err);
    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < watched.n_areas && !rc; i++) {
        const struct area_of *a = &watched.areas[i];
        if (a->device == from && a->card == from_card && a->area == area) {
            add_area(to, to_card, area, a->memory);
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

/* Memory is gone with the last device that has it. */
static void drop_area(uint32_t i) {
    const uint32_t memory = watched.areas[i].memory;
    bool others = false;
    watched.areas[i] = watched.areas[--watched.n_areas];
    for (uint32_t k = 0; k < watched.n_areas; k++)
        others |= watched.areas[k].memory == memory;
    if (!others) {
        free(watched.memories[memory]);
        watched.memories[memory] = NULL;
    }
}

static void on_release(struct device *device, uint32_t card, enum area area) {
    pthread_mutex_lock(&lock);
    for (uint32_t i = watched.n_areas; i-- > 0;)
        if (watched.areas[i].device == device && watched.areas[i].card == card &&
            watched.areas[i].area == area)
            drop_area(i);
    pthread_mutex_unlock(&lock);
    cpu()->release(device, card, area);
}

static void on_close(struct device *device) {
    pthread_mutex_lock(&lock);
    for (uint32_t i = watched.n_areas; i-- > 0;)
        if (watched.areas[i].device == device)
            drop_area(i);
    pthread_mutex_unlock(&lock);
    if (device == stage_of_test)
        stage_of_test = NULL;
    cpu()->close(device);
}

static int on_pack(struct device *d, uint32_t card, uint64_t offset, uint32_t type, bool vector,
                   uint64_t range_rows, uint64_t row_begin, uint64_t rows, uint64_t cols,
                   uint32_t col_skip, const void *blocks, uint64_t row_bytes) {
    mark(d, card, AREA_WEIGHTS, offset, cpu()->packed_bytes(type, vector, range_rows, cols), true);
    return cpu()->pack(d, card, offset, type, vector, range_rows, row_begin, rows, cols, col_skip,
                       blocks, row_bytes);
}

static int on_poke(struct device *d, uint32_t card, uint64_t offset, const void *in,
                   uint64_t bytes) {
    mark(d, card, AREA_WEIGHTS, offset, bytes, true);
    return cpu()->poke(d, card, offset, in, bytes);
}

static int on_copy(struct device *from, uint32_t from_card, enum area area, uint64_t from_offset,
                   struct device *to, uint32_t to_card, uint64_t to_offset, uint64_t bytes) {
    pthread_mutex_lock(&lock);
    const struct memory *m = find(from, from_card, area);
    const bool staged = m && m->card == STAGE;
    pthread_mutex_unlock(&lock);
    if (bytes)
        mark(to, to_card, area, to_offset, bytes, true);
    const int rc = cpu()->copy(from, from_card, area, from_offset, to, to_card, to_offset, bytes);
    if (!rc && bytes && staged && area == AREA_WEIGHTS && watched.flip_at &&
        --watched.flip_at == 0) {
        uint8_t byte;
        CHECK_EQ(cpu()->peek(to, to_card, to_offset, &byte, 1), 0);
        byte ^= 4;
        CHECK_EQ(cpu()->poke(to, to_card, to_offset, &byte, 1), 0);
    }
    return rc;
}

static int on_prefetch(struct device *d, uint32_t card, enum area area, uint64_t offset,
                       uint64_t bytes) {
    mark(d, card, area, offset, bytes, true);
    return cpu()->prefetch(d, card, area, offset, bytes);
}

static int on_clear(struct device *d, uint32_t card, enum area area, uint64_t offset,
                    uint64_t bytes) {
    mark(d, card, area, offset, bytes, false);
    return cpu()->clear(d, card, area, offset, bytes);
}

static void watch_cards(void) {
    for (uint32_t i = 0; i < watched.n_memories; i++)
        free(watched.memories[i]);
    watched = (struct watched){.ops = *cpu()};
    watched.ops.open = on_open;
    watched.ops.close = on_close;
    watched.ops.reserve = on_reserve;
    watched.ops.share = on_share;
    watched.ops.release = on_release;
    watched.ops.pack = on_pack;
    watched.ops.poke = on_poke;
    watched.ops.copy = on_copy;
    watched.ops.prefetch = on_prefetch;
    watched.ops.clear = on_clear;
}

/* --- full cards --- */

static uint64_t own_bytes(const struct plan_card *c) {
    return c->weights_bytes + c->kv_bytes + c->scratch_bytes;
}

/* Every card has room for the larger of its shares, and for no byte more. */
static void fill_cards(struct world *w) {
    for (uint32_t c = 0; c < w->plans[1].n_cards; c++) {
        const uint64_t a = own_bytes(&w->plans[0].cards[c]), b = own_bytes(&w->plans[1].cards[c]);
        w->plans[0].cards[c].capacity_bytes = w->plans[1].cards[c].capacity_bytes = a > b ? a : b;
        /* Areas are counted in whole blocks. */
        watched.capacity[c] = (a > b ? a : b) + 3 * BLOCK;
    }
}

static struct runner_options staged_options(struct world *w, uint64_t stage_most) {
    struct runner_options o = options_for(w, &w->plans[1]);
    o.before = w->runner;
    o.stage_most = stage_most;
    return o;
}

/* What a step writes: buffers, K and V. */
static void mark_step(struct world *w, const struct plan *plan) {
    for (uint32_t c = 0; c < plan->n_cards; c++) {
        const struct plan_card *card = &plan->cards[c];
        const struct model_params *p = &w->l.model.params;
        if (card->scratch_bytes)
            mark(runner_device(w->runner), c, AREA_SCRATCH, 0, card->scratch_bytes, true);
        if (card->kv_bytes)
            mark(runner_device(w->runner), c, AREA_KV, layout_kv_at(plan, p, c, card->layer_begin),
                 card->kv_bytes, true);
    }
}

static void step_watched(struct world *w, const struct plan *plan, uint32_t n) {
    mark_step(w, plan);
    run_steps(w, n);
}

static void take_runner(struct world *w, const struct rebalance_result *result) {
    runner_close(w->runner);
    w->runner = result->runner;
    CHECK_EQ(runner_trim(w->runner), 0);
    CHECK(result->kept);
    engine_continue(w->engine);
}

static void open_full(struct world *w, const char *file, const struct layout *from,
                      const struct layout *to) {
    watch_cards();
    backend_of_worlds = &watched.ops;
    open_world(w, file, from);
    make_next(w, to);
    fill_cards(w);
    watched.overflows = 0;
}

static void close_full(struct world *w) {
    close_world(w);
    backend_of_worlds = NULL;
}

/* Returns whether cards were staged. */
static bool change_over(const struct world *calm, const char *file, const struct layout *from,
                        const struct layout *to, uint32_t before, uint64_t flip_at) {
    struct world w;
    struct rebalance *r;
    struct rebalance_result result;
    struct err err = {{0}};
    open_full(&w, file, from, to);
    const uint64_t staged = layout_staged_bytes(&w.plans[0], &w.plans[1]);
    const struct runner_options o = staged_options(&w, staged ? staged : 1);
    step_watched(&w, &w.plans[0], before);
    watched.flip_at = flip_at;
    must(rebalance_start(&r, &o, w.engine, true, REBALANCE_SLICE_BYTES, &err), &err);
    while (!rebalance_advance(r, w.engine, &result, &err))
        if (w.n[0] + 4 < GENERATED)
            step_watched(&w, &w.plans[0], 1);
    must(result.broken || !result.runner ? -EIO : 0, &err);
    rebalance_drop(r);
    take_runner(&w, &result);
    step_watched(&w, &w.plans[1], 1000);
    CHECK_EQ(w.preempted, 0);
    same_tokens(calm, &w);
    if (watched.overflows)
        for (uint32_t c = 0; c < w.plans[1].n_cards; c++)
            printf("# card %u: %llu bytes, of %llu\n", c, (unsigned long long)watched.most[c],
                   (unsigned long long)watched.capacity[c]);
    CHECK_EQ(watched.overflows, 0);
    CHECK(watched.stage_most <= staged);
    CHECK(watched.stage_most > 0 || staged <= CARDS_MAX * LAYOUT_STAGED_LEAST);
    close_full(&w);
    return staged;
}

static const char file[] = "tiny-mixed.gguf";

/* Whole layers and lanes, with a card more or less. */
static void full_cards_change_over_and_none_overflows(void) {
    static struct world calm;
    uint32_t staged = 0, all = 0;
    open_world(&calm, file, &one);
    run_steps(&calm, 1000);
    for (size_t i = 0; i < LAYOUTS; i++)
        for (size_t j = 0; j < LAYOUTS; j++) {
            staged +=
                change_over(&calm, file, &layouts[i], &layouts[j], 2 + (uint32_t)(i + j) % 9, 0);
            all++;
        }
    printf("# staged in %u of %u changes\n", staged, all);
    CHECK(staged > all / 2);
    close_world(&calm);
}

static void what_arrives_harmed_is_read_again(void) {
    static struct world calm;
    open_world(&calm, file, &one);
    run_steps(&calm, 1000);
    for (uint64_t flip = 1; flip < 20; flip += 3)
        CHECK(change_over(&calm, file, &layouts[2], &layouts[3], 4, flip));
    close_world(&calm);
}

/* Whenever it is: until the change nothing was written to a full card. */
static void one_that_is_dropped_before_the_change_leaves_no_trace(void) {
    static struct world calm, w;
    struct err err = {{0}};
    uint32_t dropped = 0;
    open_world(&calm, file, &one);
    run_steps(&calm, 1000);
    open_full(&w, file, &layouts[2], &layouts[3]);
    for (uint32_t i = 0; i < 12; i++) {
        struct rebalance *r;
        struct rebalance_result result;
        const struct runner_options o =
            staged_options(&w, layout_staged_bytes(&w.plans[0], &w.plans[1]));
        must(rebalance_start(&r, &o, w.engine, true, 1, &err), &err);
        for (uint32_t k = 0; k < 1000 * i && rebalance_loading(r); k++)
            usleep(10);
        step_watched(&w, &w.plans[0], 1);
        if (i >= 8 && !rebalance_loading(r)) /* a slice of K and V waits, too */
            CHECK_EQ(rebalance_advance(r, w.engine, &result, &err), 0);
        rebalance_drop(r);
        dropped++;
        CHECK_EQ(held_on(STAGE), 0);
    }
    step_watched(&w, &w.plans[0], 1000);
    same_tokens(&calm, &w);
    CHECK_EQ(watched.overflows, 0);
    CHECK(dropped == 12);
    close_full(&w);
    close_world(&calm);
}

static void a_stage_that_is_too_small_is_refused_with_both_figures(void) {
    struct world w;
    struct runner *runner = NULL;
    struct err err = {{0}};
    char want[64];
    open_full(&w, file, &layouts[2], &layouts[3]);
    const uint64_t bytes = layout_staged_bytes(&w.plans[0], &w.plans[1]);
    const struct runner_options o = staged_options(&w, bytes - 1);
    CHECK_EQ(runner_open(&runner, &o, &err), -ENOSPC);
    snprintf(want, sizeof want, "%llu bytes of what", (unsigned long long)bytes);
    CHECK(strstr(err.text, want));
    snprintf(want, sizeof want, "at most %llu may", (unsigned long long)bytes - 1);
    CHECK(strstr(err.text, want));
    CHECK(!runner);
    close_full(&w);
}

CHECK_MAIN(T(full_cards_change_over_and_none_overflows), T(what_arrives_harmed_is_read_again),
           T(one_that_is_dropped_before_the_change_leaves_no_trace),
           T(a_stage_that_is_too_small_is_refused_with_both_figures))
