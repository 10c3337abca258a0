/* SPDX-License-Identifier: Apache-2.0 */
/* exchange.cl - what one card takes from another, word by word: one work item a word and a row, in
 * the third dimension each exchange of the launch.  A direct one reads the other's memory; a staged
 * one is two of these with host memory between. */
#include "daemon/device/level_zero/kernels/numbers.clh"

enum { ROWS, TOKENS, OUTPUTS, PLANE, ACTIVATION, KV, LOGITS }; /* enum exchange_kind */

static bool wanted(global const struct ze_exchange *op, global const struct ze_step *step,
                   uint row) {
    const struct ze_row r = ((global const struct ze_row *)step->rows)[row];
    if (row < part_begin(op->from_part, step->n_rows) ||
        row >= part_end(op->from_part, step->n_rows) ||
        row < part_begin(op->to_part, step->n_rows) || row >= part_end(op->to_part, step->n_rows))
        return false;
    return op->kind != TOKENS || (r.token >= (int)op->vocab_begin && r.token < (int)op->vocab_end);
}

/* Where word i of a row lies, of K and V of one head: the K's places are a page's row apart. */
static ulong kv_place(global const struct ze_exchange *op, ulong at, ulong page_bytes, uint page,
                      uint position, uint i, uint half_words) {
    const uint p = position % PAGE_TOKENS, dim = op->head_dim;
    const ulong slot = at + page * page_bytes;
    const bool is_v = i >= half_words;
    const uint w = is_v ? i - half_words : i;
    const ulong base = slot + (is_v ? op->row_bytes / 2 : 0);
    if (op->size != 1)
        return base + (is_v ? (ulong)p * dim + w : (ulong)w * PAGE_TOKENS + p) * op->size;
    if (w < dim)
        return base + (is_v ? p * dim + w : w * PAGE_TOKENS + p);
    const uint k = (w - dim) / 2, byte = (w - dim) % 2; /* the scales, two bytes each */
    return base + dim * PAGE_TOKENS + byte +
           2 * (is_v ? p * (dim / ATOM) + k : k * PAGE_TOKENS + p);
}

static inline void copy_word(address to, address from, uint size) {
    if (size == 4)
        *(global uint *)to = *(global const uint *)from;
    else if (size == 2)
        *(global ushort *)to = *(global const ushort *)from;
    else
        *to = *from;
}

/* Where word i of the row lies on both sides; false: it is not copied. */
static bool find_word(global const struct ze_exchange *op, global const struct ze_step *step,
                      uint row, uint i, ulong *source, ulong *target) {
    *source = op->from;
    *target = op->to;
    if (op->kind == LOGITS) {
        *source += row * op->from_stride + (ulong)i * op->size;
        *target += ((ulong)row * step->n_vocab + i) * op->size;
        return true;
    }
    if (op->kind == OUTPUTS)
        row = ((global const uint *)step->outputs)[row];
    if (!wanted(op, step, row))
        return false;
    if (op->kind == KV) {
        const struct ze_row r = ((global const struct ze_row *)step->rows)[row];
        const uint page =
            ((global const uint *)step->pages)[r.first_page + r.position / PAGE_TOKENS];
        const uint half_words = op->words / 2;
        *source = kv_place(op, *source, op->page_bytes_from, page, r.position, i, half_words);
        *target = kv_place(op, *target, op->page_bytes_to, page, r.position, i, half_words);
    } else if (op->kind == PLANE) {
        const ulong at =
            (((ulong)(i / SUB_GROUP) * step->n_rows + row) * SUB_GROUP + i % SUB_GROUP) * 4;
        *source += at;
        *target += at;
    } else {
        *source += row * op->from_stride + (ulong)i * op->size;
        *target += row * op->to_stride + (ulong)i * op->size;
    }
    const ulong place = op->stage_at + ((ulong)row * op->words + i) * op->size;
    if (op->argument == IN_STAGE && op->outward)
        *target = place;
    else if (op->argument == IN_STAGE)
        *source = place;
    return true;
}

/* card0 .. card7: the areas of the cards that are read directly; stage: host memory. */
WHOLE_GROUPS kernel void exchange(global const struct ze_exchange *all,
                                  global const struct ze_step *step, address card0, address card1,
                                  address card2, address card3, address card4, address card5,
                                  address card6, address card7, address stage) {
    const uint i = get_global_id(0), row = get_global_id(1);
    if (!all || !step)
        return;
    global const struct ze_exchange *op = all + get_group_id(2);
    const uint a = op->argument;
    const address other = a == 0   ? card0
                          : a == 1 ? card1
                          : a == 2 ? card2
                          : a == 3 ? card3
                          : a == 4 ? card4
                          : a == 5 ? card5
                          : a == 6 ? card6
                          : a == 7 ? card7
                                   : stage;
    /* Another place than it is to be would be found by nobody. */
    if ((ulong)other != (op->kind == LOGITS ? step->logits : op->named) || !given(op, step))
        return;
    ulong source, target;
    const bool of_outputs = op->kind == OUTPUTS || op->kind == LOGITS;
    if (i >= op->words || row >= (of_outputs ? step->n_outputs : step->n_rows) ||
        !find_word(op, step, row, i, &source, &target))
        return;
    copy_word(op->outward ? other + target : (address)target,
              op->outward ? (address)source : other + source, op->size);
}

/* Words of one card's memory into another's: how a link is tried. */
WHOLE_GROUPS kernel void carry(address from, address to, uint words) {
    const uint i = get_global_id(0);
    if (from && to && i < words)
        ((global uint *)to)[i] = ((global const uint *)from)[i];
}
