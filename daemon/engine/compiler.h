/* SPDX-License-Identifier: Apache-2.0 */
/* compiler.h - inside the compilation of programs: what every operation of a model needs.
 *
 * Operations are emitted phase by phase.  The first failure stays in the compiler, and what is
 * emitted after it is forgotten, so that callers need no check. */
#ifndef OCTARC_ENGINE_COMPILER_H
#define OCTARC_ENGINE_COMPILER_H

#include "daemon/engine/spills.h"
#include "daemon/placement/scratch.h"

struct err;

struct compiler {
    const struct model *model;
    const struct plan *plan;
    struct program *programs;
    size_t capacity[CARDS_MAX];
    struct scratch scratch[CARDS_MAX];
    const struct plan_range **ranges; /* [card][tensor], NULL: nothing held */
    struct spills spills[CARDS_MAX];
    uint32_t phase;
    bool phase_used;
    uint32_t holders; /* bit per card: each has its part of the hidden rows up to date */
    uint32_t attention_lanes[LANES + 1], ffn_lanes[LANES + 1];
    struct err *err;
    int rc; /* the first failure */
};

static const struct row_part all_rows = {0, 1};

/* Add an operation to a card's program in the current phase. */
struct op *compiler_emit(struct compiler *c, uint32_t card, enum op_kind kind, int32_t layer);
/* What follows waits for what was emitted so far. */
void compiler_next_phase(struct compiler *c);

/* What a card holds of a tensor: anything; as a matrix, rows 0 when nothing; the offset of a small
 * one that it must have whole. */
bool compiler_has(const struct compiler *c, uint32_t card, uint32_t tensor);
struct matrix compiler_matrix_of(const struct compiler *c, uint32_t card, uint32_t tensor);
uint64_t compiler_vector_of(struct compiler *c, uint32_t card, uint32_t tensor);
/* One that there may not be (NO_TENSOR), from value `begin` of it on. */
struct vector compiler_vector_from(struct compiler *c, uint32_t card, uint32_t tensor,
                                   uint32_t begin);

/* The form of its input that a tensor reads, and an activation in such forms only. */
uint32_t compiler_form_of(const struct compiler *c, uint32_t tensor);
struct activation compiler_with_forms(struct activation act, uint32_t forms);

/* The cards of a layer, a bit each, and the rows that one of them works on where the work is a
 * row's own. */
uint32_t compiler_group_of(const struct compiler *c, int32_t layer);
struct row_part compiler_part_of(uint32_t group, uint32_t card);

/* Of all rows; or of rows of n_embd values. */
struct op *compiler_emit_exchange(struct compiler *c, enum exchange_kind kind, uint32_t src,
                                  uint32_t dst, int32_t layer);
struct op *compiler_emit_exchange_rows(struct compiler *c, enum exchange_kind kind, uint32_t src,
                                       uint32_t dst, int32_t layer, struct rows from,
                                       struct rows to);

/* Bring to every card of the group the hidden rows of its part; a phase. */
void compiler_move_hidden(struct compiler *c, uint32_t group, int32_t layer);
/* The norm in front of a layer's operation: of each card's part, then of all; two phases. */
void compiler_emit_norm(struct compiler *c, uint32_t card, int32_t layer, uint32_t tensor,
                        uint32_t forms, struct row_part part, bool outputs);
void compiler_emit_shared_norm(struct compiler *c, uint32_t group, int32_t layer, uint32_t forms);
void compiler_norm_group(struct compiler *c, uint32_t group, int32_t layer, uint32_t tensor,
                         uint32_t forms);

/* The slots that each card of a group fills: slot_of[card][node], NO_SLOT elsewhere; all[] is their
 * union.  A node none of whose lanes holds a value is absent: lane l where edges[l] is edges[l +
 * 1].
 */
void compiler_assign_slots(const struct compiler *c, uint32_t group, const uint32_t *edges,
                           int8_t slot_of[CARDS_MAX][TREE_NODES], int8_t all[TREE_NODES]);
/* The sums of lanes, which fill the slots, meet on the card whose part a row is in, which adds the
 * tree to the hidden row, and then `bias`; with a norm, `post`, of both before, where those are not
 * NO_TENSOR. */
void compiler_add_lanes(struct compiler *c, uint32_t group, int32_t layer,
                        int8_t slot_of[CARDS_MAX][TREE_NODES], const int8_t all[TREE_NODES],
                        uint32_t bias, uint32_t post);

#endif
