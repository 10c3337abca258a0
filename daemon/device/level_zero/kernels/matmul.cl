/* SPDX-License-Identifier: Apache-2.0 */
/* matmul.cl - matrices of a layer's own. */
#include "daemon/device/level_zero/kernels/tiles.clh"

WHOLE_GROUPS kernel void matmul(global const struct ze_matmul *op,
                                global const struct ze_step *step) {
    if (!given(op, step))
        return;
    const uint of = op->outputs ? step->n_outputs : step->n_rows;
    const uint tile = get_group_id(0);
    const uint row = part_begin(op->part, of) + get_group_id(1) * ROWS;
    const uint n = rows_left(row, part_end(op->part, of));
    const uint col = tile * SUB_GROUP + get_sub_group_local_id();
    float acc[ROWS];
    if (n == 0)
        return;
    chain(&op->w, &op->act, 0, tile, row, n, 0, atoms_of(op->w.cols), acc);
    for (uint r = 0; r < n && col < op->w.rows; r++) {
        global float *out = (global float *)op->out.at + (ulong)(row + r) * op->out.stride;
        out[col] = op->soft_cap > 0 ? soft_capped(acc[r], op->soft_cap) : acc[r];
    }
}

#define LEAF(lane, sum)                                                                            \
    (op->col[lane] < op->col[lane + 1] &&                                                          \
     (chain(&op->w, &op->act, 0, tile, row, n, op->col[lane] / ATOM, atoms_of(op->col[lane + 1]),  \
            sum),                                                                                  \
      put_slot(&op->slots, op->slot, step->n_rows, LANES + lane, tile, row, n, sum), true))

/* The sums of the card's lanes, then up the tree; what has a slot goes to its plane. */
WHOLE_GROUPS kernel void lanes(global const struct ze_lanes *op,
                               global const struct ze_step *step) {
    if (!given(op, step))
        return;
    const uint tile = get_group_id(0), row = get_group_id(1) * ROWS;
    const uint n = rows_left(row, step->n_rows);
    if (n)
        ADD_LANES();
}

/* An atom of the output; gate and up are of one type. */
WHOLE_GROUPS kernel void gate_up(global const struct ze_gate_up *op,
                                 global const struct ze_step *step) {
    if (!given(op, step))
        return;
    const uint atom = get_group_id(0), row = get_group_id(1) * ROWS;
    const uint n = rows_left(row, step->n_rows);
    float low[ROWS], high[ROWS];
    if (n == 0)
        return;
    const struct gated_half both = {&op->gate,    &op->up, &op->act,     0, 0, 0,
                                    op->function, 0,       op->gate.rows};
    gated_atom(&both, atom, row, n, low, high);
    for (uint r = 0; r < n; r++)
        store_atom(&op->out, row + r, atom, low[r], high[r]);
}

/* A token's row of the table. */
WHOLE_GROUPS kernel void embed(global const struct ze_embed *op,
                               global const struct ze_step *step) {
    if (!given(op, step))
        return;
    const uint row = get_group_id(0), lane = get_sub_group_local_id();
    if (row >= step->n_rows)
        return;
    const int token = ((global const struct ze_row *)step->rows)[row].token;
    if (token < (int)op->vocab_begin || token >= (int)op->vocab_end)
        return;
    const uint of = token - op->vocab_begin, t = of % SUB_GROUP, atoms = atoms_of(op->w.cols);
    global const uchar *p = (address)op->w.at + (ulong)(of / SUB_GROUP) * atoms * ATOM_BYTES;
    global float *hidden = (global float *)op->hidden.at + row * op->hidden.stride;
    for (uint k = 0; k < atoms; k++, p += ATOM_BYTES) {
        const float d = IS_FLOAT ? 1.0f : sub_group_broadcast(scale_at(p), t);
        const float m = HAS_MIN || HAS_LEAST ? sub_group_broadcast(min_at(p), t) : 0.0f;
        UNROLLED for (uint g = 0; g < ATOM / 4; g++) {
            const int mine = IS_FLOAT ? 0 : as_int(codes_at(p, g));
            const char4 q = as_char4(sub_group_broadcast(mine, t));
            const char code[4] = {q.s0, q.s1, q.s2, q.s3};
            const uint h = g / 4;
            const int f = IN_HALVES ? sub_group_broadcast(factor_at(p, h), t) : 1;
            const int least = HAS_LEAST ? sub_group_broadcast(factor_at(p, 2 + h), t) : 0;
            UNROLLED for (uint c = 0; c < 4; c++) {
                const uint col = k * ATOM + 4 * g + c;
                const float w = IS_FLOAT ? sub_group_broadcast(float_column(p, 4 * g + c), t) : 0;
                const float v = (float)code[c];
                const float df = d * (float)f, low = m * (float)least;
                const float y = IS_FLOAT    ? w
                                : HAS_MIN   ? fma(v, d, m)
                                : HAS_LEAST ? fma(v, df, low)
                                            : df * v;
                if (lane == 0 && col < op->w.cols)
                    hidden[col] = op->scale > 0 ? y * op->scale : y;
            }
        }
    }
}
