/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/pack.h"

#include <errno.h>
#include <string.h>

uint64_t pack_bytes(uint32_t type, bool vector, uint64_t rows, uint64_t cols) {
    const uint64_t bytes =
        vector ? rows * cols * sizeof(float)
               : (rows + TILE - 1) / TILE * ((cols + ATOM - 1) / ATOM) * pack_atom_bytes(type);
    return pack_atom_bytes(type) ? (bytes + 63) / 64 * 64 : 0;
}

static void put_bytes(uint8_t *atom, uint32_t t, const uint8_t q[ATOM]) {
    for (int c = 0; c < ATOM; c++)
        atom[c / 4 * 64 + t * 4 + c % 4] = q[c];
}

/* The four low bits of a row's 32 values.  Rows share no byte, so they may be written in any
 * order. */
static void put_low(uint8_t *atom, uint32_t t, const uint8_t q[ATOM]) {
    for (int j = 0; j < 4; j++) {
        uint32_t low, high; /* four bytes at a time, each shifted within itself */
        memcpy(&low, q + 8 * j, 4);
        memcpy(&high, q + 8 * j + 4, 4);
        low = (low & 0x0f0f0f0fu) | (high & 0x0f0f0f0fu) << 4;
        memcpy(atom + 64 * j + t * 4, &low, 4);
    }
}

/* One bit of each value. */
static void put_one_bit(uint8_t *to, uint32_t t, const uint8_t q[ATOM], int bit) {
    for (int b = 0; b < 4; b++) {
        uint8_t bits = 0;
        for (int g = 0; g < 8; g++)
            bits |= (uint8_t)((q[4 * g + b] >> bit & 1) << g);
        to[t * 4 + b] = bits;
    }
}

/* Two bits of each value, from `bit` on. */
static void put_two_bits(uint8_t *to, uint32_t t, const uint8_t q[ATOM], int bit) {
    for (int half = 0; half < 2; half++)
        for (int b = 0; b < 4; b++) {
            uint8_t bits = 0;
            for (int g = 0; g < 4; g++)
                bits |= (uint8_t)((q[16 * half + 4 * g + b] >> bit & 3) << 2 * g);
            to[64 * half + t * 4 + b] = bits;
        }
}

/* 32 nibbles as the 32-wide types hold them: value i low, value i + 16 high. */
static void get_nibbles(const uint8_t *qs, uint8_t q[ATOM]) {
    for (int i = 0; i < 16; i++) {
        q[i] = qs[i] & 15;
        q[i + 16] = qs[i] >> 4;
    }
}

/* Q4_0, Q4_1, Q5_0, Q5_1: f16 scales, 32 high bits, nibbles. */
static void put_narrow(uint8_t *atom, uint32_t type, uint32_t t, const uint8_t *block) {
    const bool min = type == TENSOR_Q4_1 || type == TENSOR_Q5_1;
    const bool five = type == TENSOR_Q5_0 || type == TENSOR_Q5_1;
    const uint8_t *high = block + (min ? 4 : 2);
    uint8_t q[ATOM], *scales = atom + pack_scale_at(type);
    get_nibbles(high + (five ? 4 : 0), q);
    for (int i = 0; five && i < ATOM; i++)
        q[i] |= (uint8_t)((high[i / 8] >> i % 8 & 1) << 4);
    put_low(atom, t, q);
    if (five)
        put_one_bit(atom + pack_high_at(type), t, q, 4);
    memcpy(scales + 2 * t, block, 2);
    if (min)
        memcpy(scales + 32 + 2 * t, block + 2, 2);
}

/* Q4_K, Q5_K: f16 d, f16 dmin, 12 bytes of 6-bit scales and minimums, high bits, nibbles. */
static void put_k(uint8_t *atom, uint32_t type, uint32_t t, const uint8_t *block, uint32_t col) {
    const uint32_t run = col / ATOM, shift = run % 2 * 4;
    const uint8_t *s = block + 4, *high = block + 16;
    const uint8_t *low = block + (type == TENSOR_Q5_K ? 48 : 16) + run / 2 * 32;
    uint8_t q[ATOM], scale, min, *scales = atom + pack_scale_at(type);
    if (run < 4) {
        scale = s[run] & 63;
        min = s[run + 4] & 63;
    } else {
        scale = (uint8_t)((s[run + 4] & 15) | s[run - 4] >> 6 << 4);
        min = (uint8_t)(s[run + 4] >> 4 | s[run] >> 6 << 4);
    }
    for (int i = 0; i < ATOM; i++) {
        q[i] = low[i] >> shift & 15;
        if (type == TENSOR_Q5_K)
            q[i] |= (uint8_t)((high[i] >> run & 1) << 4);
    }
    put_low(atom, t, q);
    if (type == TENSOR_Q5_K)
        put_one_bit(atom + pack_high_at(type), t, q, 4);
    memcpy(scales + 2 * t, block, 2);
    memcpy(scales + 32 + 2 * t, block + 2, 2);
    scales[64 + t] = scale;
    scales[80 + t] = (uint8_t)-min;
}

/* The codes of an atom of Q2_K and Q3_K: 32 bytes hold those of four atoms, two bits of each. */
static void get_pairs(const uint8_t *quants, uint32_t col, uint8_t q[ATOM]) {
    for (int i = 0; i < ATOM; i++)
        q[i] = quants[col / 128 * 32 + (uint32_t)i] >> col % 128 / 32 * 2 & 3;
}

static void put_q2k(uint8_t *atom, uint32_t t, const uint8_t *block, uint32_t col) {
    uint8_t q[ATOM], *scales = atom + pack_scale_at(TENSOR_Q2_K);
    get_pairs(block + 16, col, q);
    put_two_bits(atom, t, q, 0);
    memcpy(scales + 2 * t, block + 80, 2);
    memcpy(scales + 32 + 2 * t, block + 82, 2);
    scales[32 + 2 * t + 1] ^= 0x80; /* the minimum is subtracted */
    for (uint32_t half = 0; half < 2; half++) {
        const uint8_t both = block[col / 16 + half];
        scales[64 + 16 * half + t] = both & 15;
        scales[96 + 16 * half + t] = both >> 4;
    }
}

/* Run j's scale of Q3_K, out of 12 bytes: four bits and two more. */
static uint8_t scale_k3(const uint8_t *s, uint32_t run) {
    const int low = run < 8 ? s[run] & 15 : s[run - 8] >> 4;
    return (uint8_t)((low | (s[8 + run % 4] >> run / 4 * 2 & 3) << 4) - 32);
}

static void put_q3k(uint8_t *atom, uint32_t t, const uint8_t *block, uint32_t col) {
    uint8_t q[ATOM], *scales = atom + pack_scale_at(TENSOR_Q3_K);
    get_pairs(block + 32, col, q);
    for (int i = 0; i < ATOM; i++)
        q[i] |= (uint8_t)((block[i] >> col / 32 & 1) << 2);
    put_two_bits(atom, t, q, 0);
    put_one_bit(atom + pack_high_at(TENSOR_Q3_K), t, q, 2);
    memcpy(scales + 2 * t, block + 108, 2);
    scales[32 + t] = scale_k3(block + 96, col / 16);
    scales[32 + TILE + t] = scale_k3(block + 96, col / 16 + 1);
}

/* IQ4_XS: f16 d, two high bits of every run's scale, four low ones, nibbles. */
static void put_iq4xs(uint8_t *atom, uint32_t t, const uint8_t *block, uint32_t col) {
    const uint32_t run = col / ATOM;
    uint8_t q[ATOM], *scales = atom + pack_scale_at(TENSOR_IQ4_XS);
    get_nibbles(block + 8 + 16 * run, q);
    put_low(atom, t, q);
    const int low = block[4 + run / 2] >> run % 2 * 4 & 15;
    const int high = block[2 + run / 4] >> run % 4 * 2 & 3;
    memcpy(scales + 2 * t, block, 2);
    scales[32 + t] = (uint8_t)((low | high << 4) - 32);
}

/* MXFP4: a power of two, nibbles.  Codes stand for twice their value, so the scale is 2^(e - 128),
 * which bf16 holds exactly for every e. */
static void put_mxfp4(uint8_t *atom, uint32_t t, const uint8_t *block) {
    uint8_t q[ATOM];
    const uint16_t d = block[0] > 1 ? (uint16_t)((block[0] - 1) << 7) : (uint16_t)(32 << block[0]);
    get_nibbles(block + 1, q);
    put_low(atom, t, q);
    memcpy(atom + pack_scale_at(TENSOR_MXFP4) + 2 * t, &d, 2);
}

static void put_q6k(uint8_t *atom, uint32_t t, const uint8_t *block, uint32_t col) {
    const uint8_t *ql = block, *qh = block + 128, *factors = block + 192;
    uint8_t q[ATOM], *scales = atom + pack_scale_at(TENSOR_Q6_K);
    /* 32 columns: a quarter of a half block of 128, all of them in the same bit positions. */
    const uint32_t half = col / 128, quarter = col / 32 % 4;
    for (int i = 0; i < ATOM; i++) {
        const uint8_t low = ql[64 * half + 32 * (quarter & 1) + i];
        const uint8_t high = qh[32 * half + i] >> 2 * quarter & 3;
        q[i] = (uint8_t)((quarter < 2 ? low & 15 : low >> 4) | high << 4);
    }
    put_low(atom, t, q);
    put_two_bits(atom + pack_high_at(TENSOR_Q6_K), t, q, 4);
    memcpy(scales + 2 * t, block + 208, 2);
    scales[32 + t] = factors[col / 16];
    scales[32 + TILE + t] = factors[col / 16 + 1];
}

static void put_floats(uint8_t *atom, uint32_t t, uint32_t size, const uint8_t *from, uint32_t n) {
    for (uint32_t c = 0; c < ATOM; c++) {
        if (c < n)
            memcpy(atom + (c * TILE + t) * size, from + c * size, size);
        else
            memset(atom + (c * TILE + t) * size, 0, size);
    }
}

/* One row's columns [col, col + 32) into row t of an atom. */
static void put_atom(uint8_t *atom, uint32_t type, uint32_t t, const uint8_t *row, uint64_t col,
                     uint32_t n) {
    uint8_t q[ATOM];
    const uint8_t *block;
    switch (type) {
    case TENSOR_F32:
        put_floats(atom, t, 4, row + col * 4, n);
        break;
    case TENSOR_F16:
    case TENSOR_BF16:
        put_floats(atom, t, 2, row + col * 2, n);
        break;
    case TENSOR_Q8_0:
        block = row + col / 32 * 34;
        for (int i = 0; i < ATOM; i++)
            q[i] = (uint8_t)(block[2 + i] + 128);
        put_bytes(atom, t, q);
        memcpy(atom + 512 + 2 * t, block, 2);
        break;
    case TENSOR_Q4_0:
    case TENSOR_Q4_1:
    case TENSOR_Q5_0:
    case TENSOR_Q5_1:
        put_narrow(atom, type, t, row + col / 32 * tensor_type_info(type)->block_bytes);
        break;
    case TENSOR_IQ4_NL:
        block = row + col / 32 * 18;
        get_nibbles(block + 2, q);
        put_low(atom, t, q);
        memcpy(atom + pack_scale_at(type) + 2 * t, block, 2);
        break;
    case TENSOR_MXFP4:
        put_mxfp4(atom, t, row + col / 32 * 17);
        break;
    case TENSOR_IQ4_XS:
        put_iq4xs(atom, t, row + col / 256 * 136, (uint32_t)(col % 256));
        break;
    case TENSOR_Q2_K:
        put_q2k(atom, t, row + col / 256 * 84, (uint32_t)(col % 256));
        break;
    case TENSOR_Q3_K:
        put_q3k(atom, t, row + col / 256 * 110, (uint32_t)(col % 256));
        break;
    case TENSOR_Q4_K:
    case TENSOR_Q5_K:
        put_k(atom, type, t, row + col / 256 * tensor_type_info(type)->block_bytes,
              (uint32_t)(col % 256));
        break;
    case TENSOR_Q6_K:
        put_q6k(atom, t, row + col / 256 * 210, (uint32_t)(col % 256));
        break;
    default:
        break;
    }
}

int pack_rows(uint8_t *to, uint32_t type, bool vector, uint64_t row_begin, uint64_t rows,
              uint64_t cols, uint32_t col_skip, const void *blocks, uint64_t row_bytes) {
    if (vector) {
        const struct tensor_type_info *info = tensor_type_info(type);
        if (!info)
            return -ENOTSUP;
        float *values = (float *)(void *)to + row_begin * cols;
        int rc = 0;
        for (uint64_t r = 0; r < rows && !rc; r++)
            rc = tensor_dequantise(type, (const uint8_t *)blocks + r * row_bytes,
                                   cols / info->block_values, values + r * cols);
        return rc;
    }
    const uint64_t n_atoms = (cols + ATOM - 1) / ATOM, bytes = pack_atom_bytes(type);
    for (uint64_t r = 0; r < rows; r++) {
        const uint8_t *row = (const uint8_t *)blocks + r * row_bytes;
        const uint64_t at = row_begin + r;
        for (uint64_t k = 0; k < n_atoms; k++) {
            const uint64_t left = cols - k * ATOM;
            put_atom(to + (at / TILE * n_atoms + k) * bytes, type, (uint32_t)(at % TILE), row,
                     col_skip + k * ATOM, left < ATOM ? (uint32_t)left : ATOM);
        }
    }
    return 0;
}
