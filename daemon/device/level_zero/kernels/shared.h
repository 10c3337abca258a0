/* SPDX-License-Identifier: Apache-2.0 */
/* shared.h - what the host tells a card's kernels: one description an operation, written when the
 * programs are loaded, and one of the step, written before each.
 *
 * Read by the C compiler and by the OpenCL one, so it has fixed widths only, the wide members
 * first. Addresses are the card's own.  A description begins with its number, which no other of the
 * card has. */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_KERNELS_SHARED_H
#define OCTARC_DEVICE_LEVEL_ZERO_KERNELS_SHARED_H

#ifdef __OPENCL_C_VERSION__
typedef char i8;
typedef int i32;
typedef uint u32;
typedef ulong u64;
#else
#include <stdint.h>
typedef int8_t i8;
typedef int32_t i32;
typedef uint32_t u32;
typedef uint64_t u64;
#endif

#define SUB_GROUP 16 /* lanes; a tile's rows, and partial sums of a row */
#define IN_STAGE  8  /* the argument of an exchange that is no card's area */

/* A row of the step; its sequence's pages begin at step.pages[first_page]. */
struct ze_row {
    i32 token;
    u32 position, first_page;
};

struct ze_step {
    u64 rows, outputs, pages; /* struct ze_row [n_rows], u32 [n_outputs], u32 */
    u64 rope[2], q_scale;     /* as step_params; 0: none */
    u64 receipts;             /* u32 of each description; a launch writes `id` to its own */
    u64 logits;               /* float [n_outputs][n_vocab] */
    u32 n_rows, n_outputs, n_vocab, id;
};

struct ze_rows {
    u64 at;
    u64 stride; /* values */
};

struct ze_act {
    u64 q8, scale, sum, f32;
    u32 forms, cols;
};

struct ze_matrix {
    u64 at;
    u32 rows, cols;
};

/* Planes of sums, as struct planes. */
struct ze_planes {
    u64 at, plane_bytes;
};

struct ze_part {
    u32 index, count;
};

struct ze_kv {
    u64 at; /* of the layer's first page */
    u64 page_bytes, slot_bytes;
    u32 type, pad;
};

struct ze_embed {
    u64 number;
    struct ze_matrix w;
    struct ze_rows hidden;
    u32 vocab_begin, vocab_end;
    float scale;
    u32 pad;
};

struct ze_norm {
    u64 number;
    struct ze_rows hidden, sum; /* sum: of ADD_NORM */
    struct ze_act act;
    struct ze_part part;
    u64 weight;
    u32 n, outputs;
    float eps;
    u32 pad;
};

/* W . act into rows. */
struct ze_matmul {
    u64 number;
    struct ze_act act;
    struct ze_matrix w;
    struct ze_rows out;
    struct ze_part part; /* of the rows */
    u32 outputs;         /* the rows are the step's outputs */
    float soft_cap;
};

struct ze_rope {
    u64 number;
    struct ze_rows qkv;
    struct ze_kv kv;
    u64 q_bias, k_bias, v_bias, q_norm, k_norm; /* of the card's first head; 0: none */
    u32 n_heads, n_kv, head_dim, rope_dims, neox, rope_table, kv_slot;
    float eps;
};

struct ze_attention {
    u64 number;
    struct ze_rows q;
    struct ze_kv kv;
    struct ze_act act;
    u64 sinks; /* of the card's first head; 0: none */
    u32 n_heads, head_dim, head_begin, heads_per_kv, kv_begin, window, unit;
    float scale, soft_cap;
    u32 pad;
};

struct ze_lanes {
    u64 number;
    struct ze_act act;
    struct ze_matrix w;
    struct ze_planes slots;
    u32 col[9];
    u32 pad;
    i8 slot[16];
};

struct ze_combine {
    u64 number;
    struct ze_rows out;
    struct ze_planes slots;
    struct ze_part part;
    u64 bias; /* 0: none */
    u32 n, alone;
    i8 slot[16];
};

struct ze_gate_up {
    u64 number;
    struct ze_act act, out;
    struct ze_matrix gate, up;
    u32 function, pad;
};

/* Which rows use which of the card's experts: struct hits. */
struct ze_hits {
    u64 at;
    u32 n_experts, n_rows;
};

/* out = function(gate) * up, where the two were multiplied one after the other; of the step's rows,
 * or with hits of theirs. */
struct ze_apart {
    u64 number;
    struct ze_rows gate, up;
    struct ze_act out;
    struct ze_hits hits; /* at 0: none */
    u32 n, function;
};

struct ze_route {
    u64 number;
    struct ze_rows logits, routes;
    struct ze_act act;
    struct ze_part part;
    u64 shared; /* the shared expert's gate; 0: none */
    u64 bias;   /* 0: none */
    u32 n, n_used, normed;
    u32 cols; /* of the gate */
};

struct ze_dispatch {
    u64 number;
    struct ze_rows routes;
    struct ze_hits hits;
    u64 places;
    u32 n_used, expert_begin;
};

/* Matrices of all experts of the card, n rows each. */
struct ze_expert_matmul {
    u64 number;
    struct ze_act act;
    struct ze_matrix w;
    struct ze_rows out; /* a row for each hit */
    struct ze_hits hits;
    u64 bias;      /* of all experts; 0: none */
    u32 n, picked; /* the input has the step's rows, not the hits' */
};

struct ze_expert_gate_up {
    u64 number;
    struct ze_act act, out;
    struct ze_matrix gate, up;
    struct ze_hits hits;
    u64 gate_bias, up_bias; /* of all experts; 0: none */
    u32 n, function;
};

struct ze_expert_sum {
    u64 number;
    struct ze_rows routes, products; /* a product for each hit */
    struct ze_planes slots;
    struct ze_act shared_act;
    struct ze_matrix shared; /* no rows: there is none */
    u64 places;
    u32 n_used, expert_begin;
    u32 expert[9], col[9]; /* of each lane: as op.expert_down */
    i8 slot[16];
};

/* What an exchange copies, in words of `size` bytes.  One side of it is the kernel's own card's, by
 * addresses; the other is in the memory of one of its arguments, by offsets. */
struct ze_exchange {
    u64 number;
    u64 named;                  /* what that argument has to be; of logits the step says it */
    u64 from, to;               /* the place of row 0 */
    u64 from_stride, to_stride; /* bytes */
    u64 page_bytes_from, page_bytes_to, row_bytes;
    u64 stage_at; /* the rows' place in the stage: words of a row stand together there */
    struct ze_part from_part, to_part;
    u32 argument; /* a card's number, or IN_STAGE */
    u32 outward;  /* it is written to the argument, not read from it */
    u32 kind, size, words;
    u32 vocab_begin, vocab_end;
    u32 head_dim;
};

/* A stretch of a card's memory whose digest is to be taken.  Behind it in memory: of each group of
 * leaves what it found. */
struct ze_digest {
    u64 number;          /* no other digest of the card has it */
    u64 at, bytes, leaf; /* which leaf of a longer stretch the first one is */
};
struct ze_digested {
    u64 sum;    /* of the leaves' digests */
    u64 number; /* of the digest */
};

#endif
