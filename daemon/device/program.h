/* SPDX-License-Identifier: Apache-2.0 */
/* program.h - what one card computes in a step, as data.
 *
 * The engine compiles model + plan into one program per card, once.  A step fills only struct
 * step_params, so a backend may record a program and replay it.  The operations of all cards
 * advance in numbered phases: operations of one phase are independent of each other, and a phase
 * begins when the phase before has ended on every card.  A card reads and writes its own areas
 * only; the one operation that crosses a border is OP_EXCHANGE.  A backend may leave a plane where
 * it is and have the OP_COMBINE of the next phase read it there.
 *
 * Buffers of rows have a fixed stride and room for max_rows rows.  Offsets are bytes into an area
 * of the card and multiples of 64.  docs/numerics.md fixes the order of every sum. */
#ifndef OCTARC_DEVICE_PROGRAM_H
#define OCTARC_DEVICE_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "octarc/model.h"

#define PAGE_TOKENS 32  /* positions of one KV page */
#define CARD_HOST   255 /* as an exchange's destination: the step's logits in host memory */
#define TREE_NODES  16  /* the lane tree as a heap: root 1, lanes 8 .. 15; entry 0 unused */
#define NO_SLOT     (-1)

/* Bytes carried from card to card, and so over each ordered peer link: [sender][receiver]. */
struct link_bytes {
    uint64_t n[CARDS_MAX][CARDS_MAX];
};

static inline void link_bytes_add(struct link_bytes *sum, const struct link_bytes *more) {
    for (uint32_t from = 0; from < CARDS_MAX; from++)
        for (uint32_t to = 0; to < CARDS_MAX; to++)
            sum->n[from][to] += more->n[from][to];
}

/* What OP_FETCH brought to each card, and how many blocks it had not brought when they were read.
 */
struct fetch_counts {
    uint64_t bytes[CARDS_MAX], faults[CARDS_MAX];
};

static inline void fetch_counts_add(struct fetch_counts *sum, const struct fetch_counts *more) {
    for (uint32_t c = 0; c < CARDS_MAX; c++) {
        sum->bytes[c] += more->bytes[c];
        sum->faults[c] += more->faults[c];
    }
}

/* Memory of a card.  Weights outlive the engine process where the backend can do it; their end may
 * lie in host memory (device_options.host_bytes), from where a step fetches it to the landing. */
enum area { AREA_WEIGHTS, AREA_KV, AREA_SCRATCH, AREA_LANDING, AREA_COUNT };

#define LANDING_BLOCK                                                                              \
    4096u /* what is fetched begins and ends on a multiple of it, here and there */

enum kv_type { KV_F16, KV_F32, KV_Q8_0 };

/* A range of one tensor, repacked for this backend, in AREA_WEIGHTS.  Local shape [rows, cols]. */
struct matrix {
    uint64_t offset;
    uint32_t type; /* enum tensor_type of the file */
    uint32_t rows, cols;
    bool fetched;     /* it is read from AREA_LANDING, where OP_FETCH has brought it before … */
    uint64_t landing; /* … at this offset, a multiple of LANDING_BLOCK away from the other */
};

/* Activations of up to max_rows rows and `cols` columns, in AREA_SCRATCH, in the forms that the
 * matrices which read them need: 8-bit with a scale per atom for quantised matrices, f32 for float
 * ones.  Row r of a form starts at its offset + r * (bytes of a row). */
enum { FORM_Q8 = 1, FORM_F32 = 2 };
struct activation {
    uint32_t forms; /* FORM_* bits */
    uint32_t cols;  /* a multiple of ATOM; columns beyond the tensor's are zero */
    uint64_t q8;    /* [max_rows][cols] int8 */
    uint64_t scale; /* [max_rows][cols / ATOM] f32 */
    uint64_t sum;   /* [max_rows][cols / ATOM] i32: sums of the 8-bit values of an atom */
    uint64_t f32;   /* [max_rows][cols] f32 */
};

/* A vector of a layer, f32, in AREA_WEIGHTS, from the value on that belongs to the card's first
 * head; of experts, one such after another for each that the card has. */
struct vector {
    uint64_t offset; /* of the whole; 0: there is none */
    uint32_t begin;
};

/* f32 rows in AREA_SCRATCH: [max_rows][stride]. */
struct rows {
    uint64_t offset;
    uint32_t stride; /* values */
};

/* Planes of f32 sums in AREA_SCRATCH, each [stride / 16][n_rows of the step][16]: the card that
 * makes sixteen columns of many rows, and one that pulls or adds some rows of many columns, both
 * touch runs of memory.  Plane i begins at offset + i * max_rows * stride * 4. */
struct planes {
    uint64_t offset;
    uint32_t stride; /* values of a row, a multiple of 16 */
};

/* Which experts each row uses, in AREA_SCRATCH: n_used ids, ascending (u32), as many weights (f32),
 * and how much the shared expert counts. */
struct routes {
    struct rows rows;
    uint32_t n_used;
};

static inline uint32_t routes_width(uint32_t n_used) {
    return 2 * n_used + 1;
}

/* Which rows use each of a card's experts, in AREA_SCRATCH.  Words: how many experts are used at
 * all; of each of these, ascending, its number on the card; where its rows begin, and where the
 * last one's end; then the rows, ascending, and at last their weights.  An activation of the
 * experts has one row for each of those. */
struct hits {
    uint64_t offset;
    uint32_t n_experts, n_rows; /* at most */
};

static inline uint64_t hits_bytes(struct hits hits) {
    return 4 * (2 + 2 * (uint64_t)hits.n_experts + 2 * (uint64_t)hits.n_rows);
}

/* Room in AREA_SCRATCH for backends that keep products of matrices apart before they go on with
 * them (device_ops.apart); the others have none, and the offsets say nothing.
 *   route       [max_rows][logits of all experts, whole tiles] f32
 *   gate and up [2][rows of the output][columns, whole tiles] f32, where their types differ
 *   down        [hits.n_rows][n] f32: what each expert makes of each row
 *   places      [max_rows][n_used] u32: of the routes to the card's experts, which hit each is */

/* Where the K and V of one layer lie: page p, KV head slot s of this card at
 * p * page_bytes + offset + s * slot_bytes in AREA_KV, K first, V at half of slot_bytes. */
struct kv_place {
    uint64_t page_bytes; /* all slots that this card has of the layer */
    uint64_t offset;     /* of the layer's first page */
    uint64_t slot_bytes; /* K and V of one KV head */
    enum kv_type type;
};

/* One of `count` parts of a step's rows: cards that hold the same layers share out the work that is
 * a row's own (its sum of lanes, its norm), so that a row costs the same on any number of cards. */
struct row_part {
    uint8_t index, count;
};

static inline uint32_t row_part_begin(struct row_part part, uint32_t n_rows) {
    return (n_rows * part.index + part.count - 1) / part.count;
}
static inline uint32_t row_part_end(struct row_part part, uint32_t n_rows) {
    return (n_rows * (part.index + 1) + part.count - 1) / part.count;
}

enum op_kind {
    OP_EMBED, /* hidden[row] = embd[token - vocab_begin] for tokens of [vocab_begin, vocab_end) */
    OP_NORM,  /* act = rms_norm(hidden) * weight of the part's rows; with `outputs`, of all output
               * rows instead */
    OP_QKV,   /* qkv = {q, k, v} . act; the parts side by side in a row */
    OP_ROPE_STORE, /* add the biases, norm the heads of q and k, rotate q in place, and scale it;
                    * rotate k and store k and v of the owned KV heads */
    OP_ATTENTION,  /* act = attention(q, cached k, cached v) of the card's query heads */
    OP_LANES,      /* slots = W . act, summed lane by lane, then up the tree as far as it goes */
    OP_COMBINE,    /* out += the tree over all slots, of the part's rows; then the bias, if any */
    OP_ADD_NORM,   /* hidden += rms_norm(sum) * weight, of the part's rows */
    OP_GATE_UP,    /* act = silu(gate . act) * (up . act), or as enum gate says */
    OP_ROUTE,      /* routes = the n_used largest of router . act + bias, of the part's rows */
    OP_DISPATCH,   /* hits = the routes to the card's experts */
    OP_EXPERT_GATE_UP, /* act = as OP_GATE_UP, of each expert that is used, for the rows that use it
                        */
    OP_EXPERT_DOWN,    /* slots = lane by lane what is left of the shared expert, then the sum over
                        * weight * (down . act) of the experts used; then up the tree */
    OP_LOGITS,         /* logits = soft cap of W . act over the output rows */
    OP_EXCHANGE,       /* copy rows from another card (pulled by the receiver), or to the host */
    OP_FETCH, /* bring weights that lie in host memory to the landing; by the end of its phase */
};
#define OP_KINDS (OP_FETCH + 1)

enum exchange_kind {
    EXCHANGE_ROWS,    /* rows that are in the part `from` and in the part `to` */
    EXCHANGE_TOKENS,  /* of these, the rows whose token the sender's [vocab_begin, vocab_end) has */
    EXCHANGE_OUTPUTS, /* of these, the output rows */
    EXCHANGE_PLANE,   /* a plane of sums, of the rows of the part `to` */
    EXCHANGE_ACTIVATION, /* an activation's rows of the part `from`, in all forms of `act_to` */
    EXCHANGE_KV,         /* K and V that this step wrote for one KV head */
    EXCHANGE_LOGITS,     /* output rows to the host: logits[i][vocab_begin ..] */
};

struct op {
    enum op_kind kind;
    uint32_t phase; /* ascending inside a program */
    int32_t layer;  /* -1: none */
    union {
        struct {
            struct matrix embd;
            uint32_t vocab_begin, vocab_end;
            struct rows hidden;
            float scale; /* 0: none */
        } embed;
        struct {
            struct rows hidden;
            uint64_t weight; /* f32 [n], in AREA_WEIGHTS */
            uint32_t n;
            float eps;
            bool outputs; /* act row i = hidden row outputs[i] */
            struct row_part part;
            struct activation act;
        } norm;
        struct {
            struct activation act;
            struct matrix q, k, v; /* rows may be 0: the card owns no KV head */
            struct rows out;       /* q at 0, k at q.rows, v at q.rows + k.rows */
        } qkv;
        struct {
            struct rows qkv;
            uint32_t n_heads, n_kv; /* query heads here; KV heads owned here */
            uint32_t head_dim, rope_dims;
            bool neox;
            uint32_t rope_table; /* of step_params.rope */
            struct kv_place kv;
            uint32_t kv_slot; /* of the first owned KV head */
            struct vector q_bias, k_bias, v_bias;
            struct vector q_norm, k_norm; /* of one head */
            float eps;
        } rope;
        struct {
            struct rows q; /* n_heads * head_dim values a row */
            uint32_t n_heads, head_dim;
            uint32_t head_begin; /* of the model: query head h reads KV head h / heads_per_kv */
            uint32_t heads_per_kv;
            uint32_t kv_begin; /* KV head of the model that slot 0 holds */
            float scale;
            float soft_cap;      /* 0: none */
            uint32_t window;     /* positions seen, the row's own the last; 0: all */
            struct vector sinks; /* a score of each head that brings no value */
            struct kv_place kv;
            struct activation act; /* cols: n_heads * head_dim, padded */
        } attention;
        struct {
            struct activation act;
            struct matrix w; /* cols: the card's lanes, one after another */
            uint32_t lane_begin, lane_end;
            uint32_t col[LANES + 1]; /* lane l is local columns [col[l], col[l + 1]) */
            int8_t slot[TREE_NODES]; /* node -> slot this card fills, or NO_SLOT */
            struct planes slots;     /* made by LANES, added by COMBINE */
        } lanes;
        struct {
            struct rows out; /* the hidden rows; or, `alone`, rows of which nothing is kept */
            bool alone;
            struct planes slots;
            int8_t slot[TREE_NODES]; /* node -> slot, of all cards; NO_SLOT: made of its children,
                                      * or absent when both are */
            uint32_t n;
            struct vector bias;
            struct row_part part;
        } combine;
        struct {
            struct rows hidden, sum;
            uint64_t weight; /* f32 [n], in AREA_WEIGHTS */
            uint32_t n;
            float eps;
            struct row_part part;
        } add_norm;
        struct {
            struct activation act;
            struct matrix gate, up;
            enum gate function;
            struct activation out;
            uint64_t apart;
        } gate_up;
        struct {
            struct activation act; /* with FORM_F32 where there is a shared gate */
            struct matrix router;  /* a row for each expert of the model */
            struct vector shared;  /* gate of the shared expert: its sigmoid counts */
            bool normed;           /* the weights of a row add up to 1 */
            struct vector bias;
            struct row_part part;
            struct routes routes;
            uint64_t apart;
        } route;
        struct {
            struct routes routes;
            uint32_t expert_begin; /* of the model: the card's first */
            struct hits hits;
            uint64_t places;
        } dispatch;
        struct {
            struct activation act;
            struct matrix gate, up; /* of all experts of the card, one after another */
            struct vector gate_bias, up_bias;
            enum gate function;
            uint32_t n_used; /* of all experts, by a row */
            struct hits hits;
            struct activation out; /* hits.n_rows rows */
            uint64_t apart;
        } expert_gate_up;
        struct {
            struct activation act; /* hits.n_rows rows */
            struct matrix w;       /* n rows of each expert of the card */
            struct vector bias;    /* of what an expert makes, before it is weighted */
            uint32_t n;
            struct hits hits;
            struct routes routes;
            uint32_t expert_begin; /* of the model: the card's first */
            uint64_t apart, places;
            struct activation shared_act;
            struct matrix shared; /* as lanes.w; no rows: there is none */
            uint32_t lane_begin, lane_end;
            uint32_t
                expert[LANES + 1];   /* lane l is the card's experts [expert[l], expert[l + 1]) */
            uint32_t col[LANES + 1]; /* of the shared one, as lanes.col */
            int8_t slot[TREE_NODES]; /* as lanes.slot */
            struct planes slots;
        } expert_down;
        struct {
            struct activation act; /* row i: output i */
            struct matrix w;
            struct rows out; /* row i: output i */
            float soft_cap;  /* 0: none */
        } logits;
        struct {
            enum exchange_kind kind;
            uint8_t src, dst; /* cards; dst may be CARD_HOST */
            struct row_part from, to;
            uint64_t src_offset, dst_offset; /* AREA_SCRATCH, row 0; or of kv */
            uint64_t row_bytes; /* copied of each row; of a plane, of one of its rows */
            uint64_t src_stride_bytes, dst_stride_bytes;
            uint32_t vocab_begin, vocab_end;
            union {
                struct {
                    struct kv_place src_kv, dst_kv;
                    uint32_t src_slot, dst_slot, head_dim;
                };
                struct {
                    struct activation act_from, act_to;
                };
            };
        } exchange;
        struct {
            uint64_t from, to; /* AREA_WEIGHTS, AREA_LANDING */
            uint64_t bytes;
            bool ahead; /* for the next step.  Run at once where what is there is not right: before
                         * the first step, and where weights were written since */
        } fetch;
    };
};

struct program {
    struct op *ops; /* owned */
    size_t n_ops;
};

/* The parameters of one step. */
struct step_row {
    int32_t token;
    uint32_t position;
    uint32_t sequence; /* index into step_params.sequences */
};

struct step_sequence {
    const uint32_t *pages; /* position p lies in pages[p / PAGE_TOKENS], at p % PAGE_TOKENS */
    uint32_t n_pages;
};

/* The tables of cos and sin that a model may have: of layers that see all, of those with a window.
 */
enum { ROPE_ALL, ROPE_WINDOW, ROPE_TABLES_MAX };

struct step_params {
    const struct step_row *rows; /* rows of one sequence stand together, positions ascending */
    uint32_t n_rows;             /* 1 .. max_rows */
    const struct step_sequence *sequences;
    uint32_t n_sequences;
    const uint32_t *outputs; /* rows whose logits are wanted, ascending */
    uint32_t n_outputs;
    const float *
        rope[ROPE_TABLES_MAX]; /* those that the programs name: [n_rows][rope_dims / 2][cos, sin] */
    const float *q_scale;      /* [n_rows]: of the rotated queries; NULL: none */
    float *logits;             /* [n_outputs][n_vocab] */
    uint32_t n_vocab;
};

#endif
