/* SPDX-License-Identifier: Apache-2.0 */
/* Where cards meet: behind what one reads of another only if the other may write that too soon. */
#include "daemon/device/level_zero/marks.h"

#include "daemon/device/level_zero/launches.h"
#include "daemon/device/level_zero/writes.h"
#include "octarc/error.h"
#include "tests/check.h"

#define ROWS   4u
#define STRIDE 64u
#define HIDDEN (ROWS * STRIDE * 4) /* bytes */

static ze_result_t ZE_APICALL make_pool(ze_context_handle_t in, const ze_event_pool_desc_t *desc,
                                        uint32_t n, ze_device_handle_t *on,
                                        ze_event_pool_handle_t *out) {
    (void)in, (void)desc, (void)n, (void)on, (void)out;
    return ZE_RESULT_SUCCESS;
}

static ze_result_t ZE_APICALL make_event(ze_event_pool_handle_t in, const ze_event_desc_t *desc,
                                         ze_event_handle_t *out) {
    (void)in, (void)desc, (void)out;
    return ZE_RESULT_SUCCESS;
}

static const struct ze_api api = {.zeEventPoolCreate = make_pool, .zeEventCreate = make_event};

static const struct op exchange = {.kind = OP_EXCHANGE, .exchange.kind = EXCHANGE_ROWS};

/* Card `reader` reads the bytes from `begin` on of card `sender`. */
static struct ze_launch reading(uint32_t phase, uint32_t reader, uint32_t sender, uint64_t begin) {
    struct ze_launch l = {.phase = phase,
                          .card = reader,
                          .op = &exchange,
                          .area = AREA_SCRATCH,
                          .meets = 1u << reader | 1u << sender};
    l.reads[sender].begin = begin;
    l.reads[sender].end = begin + HIDDEN;
    return l;
}

static struct ze_launch of(uint32_t phase, uint32_t card, const struct op *op) {
    return (struct ze_launch){.phase = phase, .card = card, .op = op};
}

/* But for the last one, which all cards come to. */
static uint32_t marks_of(struct ze_launch *launches, size_t n) {
    struct device d = {.api = &api,
                       .n_cards = 3,
                       .max_rows = ROWS,
                       .needed = 7,
                       .launches = launches,
                       .n_launches = n};
    struct err err;
    CHECK_EQ(marks_make(&d, &err), 0);
    const uint32_t n_marks = d.n_marks;
    uint32_t all = 0;
    for (size_t i = 0; i < n; i++)
        all |= 1u << launches[i].card | launch_meets(&d, &launches[i]);
    CHECK_EQ(d.mark_cards[n_marks - 1], all);
    marks_free(&d);
    return n_marks - 1;
}

/* Card 1 reads of card 0, whose next operation is this one. */
static uint32_t marks_before(const struct op *op) {
    struct ze_launch l[] = {reading(0, 1, 0, HIDDEN), of(1, 0, op)};
    return marks_of(l, 2);
}

static void a_sender_that_writes_what_is_read_waits(void) {
    for (int i = 0; i < 4; i++) {
        const struct op op = {.kind = OP_EMBED, .embed.hidden = {(uint64_t)i * HIDDEN, STRIDE}};
        CHECK_EQ(marks_before(&op), i == 1 ? 2 : 1);
    }
    const struct op last = {.kind = OP_EMBED, .embed.hidden = {2 * HIDDEN - 4, STRIDE}};
    CHECK_EQ(marks_before(&last), 2);
}

static void so_does_one_of_which_nobody_knows(void) {
    const struct op op = {.kind = OP_EXPERT_DOWN};
    CHECK_EQ(marks_before(&op), 2);
}

/* It is the sender's own list that has to wait, not the reader's or another's. */
static void what_others_write_is_their_own(void) {
    const struct op op = {.kind = OP_EMBED, .embed.hidden = {HIDDEN, STRIDE}};
    for (uint32_t card = 0; card < 3; card++) {
        struct ze_launch l[] = {reading(0, 1, 0, HIDDEN), of(1, card, &op)};
        CHECK_EQ(marks_of(l, 2), card == 0 ? 2 : 1);
    }
}

/* Cards 0 and 1 meet in phase 1; others do not count, nor does what comes before. */
static void once_they_have_met_again_it_may_be_written(void) {
    const struct op op = {.kind = OP_EMBED, .embed.hidden = {HIDDEN, STRIDE}};
    struct ze_launch again[] = {reading(0, 1, 0, HIDDEN), reading(1, 0, 1, 0), of(2, 0, &op)};
    CHECK_EQ(marks_of(again, 3), 2);
    struct ze_launch others[] = {reading(0, 1, 0, HIDDEN), reading(1, 2, 1, 0), of(2, 0, &op)};
    CHECK_EQ(marks_of(others, 3), 3);
    struct ze_launch before[] = {of(0, 0, &op), reading(1, 1, 0, HIDDEN)};
    CHECK_EQ(marks_of(before, 2), 1);
}

/* An exchange that the sender takes part in writes its own memory of that kind. */
static void an_exchange_of_another_kind_of_memory_does_not_matter(void) {
    struct ze_launch l[] = {reading(0, 1, 0, HIDDEN), reading(1, 0, 2, 0)};
    CHECK_EQ(marks_of(l, 2), 3);
    l[0].parts = l[1].parts = false;
    l[1].area = AREA_KV;
    CHECK_EQ(marks_of(l, 2), 2);
}

static void what_goes_through_host_memory_is_met_for(void) {
    struct ze_launch l[] = {reading(0, 1, 0, HIDDEN)};
    l[0].staged = true;
    CHECK_EQ(marks_of(l, 1), 2);
}

/* Each operation, in each place that it writes, and beside it. */
static void operations_write_what_they_are_said_to(void) {
    const struct activation act = {FORM_Q8 | FORM_F32, 64, 0x1000, 0x2000, 0x3000, 0x4000};
    const struct rows rows = {0x1000, STRIDE};
    const struct planes planes = {0x1000, STRIDE};
    struct op lanes = {.kind = OP_LANES, .lanes.slots = planes};
    for (int i = 0; i < TREE_NODES; i++)
        lanes.lanes.slot[i] = i == 9 ? 2 : NO_SLOT;
    const struct op of_rows[] = {{.kind = OP_EMBED, .embed.hidden = rows},
                                 {.kind = OP_ADD_NORM, .add_norm.hidden = rows},
                                 {.kind = OP_QKV, .qkv.out = rows},
                                 {.kind = OP_ROPE_STORE, .rope.qkv = rows},
                                 {.kind = OP_COMBINE, .combine.out = rows}};
    const struct op of_act[] = {{.kind = OP_NORM, .norm.act = act},
                                {.kind = OP_ATTENTION, .attention.act = act},
                                {.kind = OP_GATE_UP, .gate_up.out = act}};
    for (size_t i = 0; i < sizeof of_rows / sizeof *of_rows; i++) {
        CHECK(writes_any(&of_rows[i], ROWS, AREA_SCRATCH, 0x1000 + HIDDEN - 1, 0x9000));
        CHECK(!writes_any(&of_rows[i], ROWS, AREA_SCRATCH, 0x1000 + HIDDEN, 0x9000));
        CHECK(!writes_any(&of_rows[i], ROWS, AREA_SCRATCH, 0, 0x1000));
        CHECK_EQ(writes_any(&of_rows[i], ROWS, AREA_KV, 0, 0x1000),
                 of_rows[i].kind == OP_ROPE_STORE);
    }
    for (size_t i = 0; i < sizeof of_act / sizeof *of_act; i++) {
        for (uint64_t at = 0x1000; at <= 0x4000; at += 0x1000)
            CHECK(writes_any(&of_act[i], ROWS, AREA_SCRATCH, at, at + 1));
        CHECK(!writes_any(&of_act[i], ROWS, AREA_SCRATCH, 0x1000 + ROWS * 64, 0x2000));
        CHECK(!writes_any(&of_act[i], ROWS, AREA_SCRATCH, 0x4000 + ROWS * 64 * 4, 0x9000));
    }
    CHECK(writes_any(&lanes, ROWS, AREA_SCRATCH, 0x1000 + 2 * HIDDEN, 0x1001 + 2 * HIDDEN));
    CHECK(!writes_any(&lanes, ROWS, AREA_SCRATCH, 0x1000, 0x1000 + 2 * HIDDEN));
    const struct op apart = {.kind = OP_GATE_UP,
                             .gate_up = {.gate.type = 1, .up.type = 2, .out = act}};
    CHECK(writes_any(&apart, ROWS, AREA_SCRATCH, 0, 1));
}

CHECK_MAIN(T(a_sender_that_writes_what_is_read_waits), T(so_does_one_of_which_nobody_knows),
           T(what_others_write_is_their_own), T(once_they_have_met_again_it_may_be_written),
           T(an_exchange_of_another_kind_of_memory_does_not_matter),
           T(what_goes_through_host_memory_is_met_for), T(operations_write_what_they_are_said_to))
