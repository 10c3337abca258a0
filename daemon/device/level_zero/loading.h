/* SPDX-License-Identifier: Apache-2.0 */
/* loading.h - inside the loading of programs: what every operation needs to become launches.
 *
 * The first failure stays in the loading, and what is added after it is forgotten, so that callers
 * need no check. */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_LOADING_H
#define OCTARC_DEVICE_LEVEL_ZERO_LOADING_H

#include "daemon/device/level_zero/kernels/shared.h"
#include "daemon/device/level_zero/launches.h"

struct err;

/* By what an exchange goes. */
enum ze_way { WAY_DIRECT, WAY_STAGED, WAY_HOST };

struct ze_taking {
    struct ze_exchange x; /* both places in their areas */
    const struct op *op;
    uint32_t phase, card, sender, order;
    enum area area;
    enum ze_way way;
    bool sends; /* the half of a staged one that its sender does, whose card is `card` then */
};

/* What grows while the programs are translated; the first failure stays. */
struct loading {
    struct device *device;
    struct ze_launch *launches;
    size_t n, room;
    struct ze_taking *exchanges; /* that are not launches yet */
    size_t n_exchanges, exchange_room;
    uint32_t numbers[CARDS_MAX]; /* of descriptions, so far */
    char *described[CARDS_MAX];  /* host memory */
    uint64_t bytes[CARDS_MAX], capacity[CARDS_MAX];
    struct err *err;
    int rc;
};

/* What an operation names by offsets, as addresses of its card; a stretch that its area has not is
 * a failure. */
u64 loading_at(struct loading *l, uint32_t card, enum area area, uint64_t offset, uint64_t bytes);
struct ze_rows loading_rows(struct loading *l, uint32_t card, struct rows rows);
/* The logits have rows of their own, fewer of them: the end of the scratch memory bounds them. */
struct ze_rows loading_some_rows(struct loading *l, uint32_t card, struct rows rows);
struct ze_act loading_act(struct loading *l, uint32_t card, const struct activation *a);
struct ze_act loading_act_rows(struct loading *l, uint32_t card, const struct activation *a,
                               uint64_t n_rows);
struct ze_matrix loading_matrix(struct loading *l, uint32_t card, const struct matrix *w);
u64 loading_floats(struct loading *l, uint32_t card, uint64_t offset, uint64_t n);
/* From the card's first head on; 0: the layer has none. */
u64 loading_vector(struct loading *l, uint32_t card, struct vector v, uint64_t n);
struct ze_planes loading_planes(struct loading *l, uint32_t card, struct planes p);
struct ze_part loading_part(struct row_part part);
struct ze_kv loading_kv(struct loading *l, uint32_t card, const struct kv_place *kv);
/* Rows of whole tiles in the room for products that are kept apart. */
struct ze_rows loading_apart(struct loading *l, uint32_t card, uint64_t offset, uint64_t n_rows,
                             uint32_t cols);

/* Add n descriptions to a card's, side by side, and return their offset and the first one's number;
 * a launch, NULL after a failure; and a launch of a kernel with its description. */
uint64_t loading_describe(struct loading *l, uint32_t card, const void *what, uint32_t n,
                          size_t each, uint32_t *number);
struct ze_launch *loading_add(struct loading *l, const struct ze_launch *launch);
void loading_launch(struct loading *l, uint32_t card, const struct op *op, enum kernel_name name,
                    uint32_t type, const void *what, size_t bytes, uint32_t groups, enum ze_by by);
void loading_launch_part(struct loading *l, uint32_t card, const struct op *op,
                         enum kernel_name name, const void *what, size_t bytes, uint32_t groups,
                         struct row_part part);
/* The launch added last waits for those of its phase and card before it. */
void loading_waits(struct loading *l);
/* It has a group for each expert of the card, or each row of one, that the step may use. */
void loading_by_hits(struct loading *l, const struct hits *hits, uint32_t n_used);

/* operations.c */
void load_embed(struct loading *l, uint32_t card, const struct op *op);
void load_norm(struct loading *l, uint32_t card, const struct op *op);
void load_add_norm(struct loading *l, uint32_t card, const struct op *op);
void load_qkv(struct loading *l, uint32_t card, const struct op *op);
void load_rope(struct loading *l, uint32_t card, const struct op *op);
void load_attention(struct loading *l, uint32_t card, const struct op *op);
void load_lanes(struct loading *l, uint32_t card, const struct op *op);
void load_combine(struct loading *l, uint32_t card, const struct op *op);
void load_gate_up(struct loading *l, uint32_t card, const struct op *op);
void load_logits(struct loading *l, uint32_t card, const struct op *op);

/* exchanges.c; they become launches when all operations are loaded. */
void load_exchange(struct loading *l, uint32_t card, const struct op *op);
void exchanges_launch(struct loading *l);

/* experts.c */
void load_route(struct loading *l, uint32_t card, const struct op *op);
void load_dispatch(struct loading *l, uint32_t card, const struct op *op);
void load_expert_gate_up(struct loading *l, uint32_t card, const struct op *op);
void load_expert_down(struct loading *l, uint32_t card, const struct op *op);

#endif
