/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/cpu/pack.h"

#include <string.h>

#include "daemon/device/cpu/isa/kernels.h"

uint32_t pack_atom_bytes(uint32_t type) {
    switch (type) {
    case TENSOR_F32:
        return ATOM * TILE * 4;
    case TENSOR_F16:
    case TENSOR_BF16:
        return ATOM * TILE * 2;
    case TENSOR_Q8_0:
        return ATOM * TILE + TILE * 2;
    case TENSOR_Q4_0:
        return ATOM * TILE / 2 + TILE * 2;
    case TENSOR_Q4_1:
        return ATOM * TILE / 2 + TILE * 4;
    case TENSOR_Q6_K:
        return ATOM * TILE + TILE * 4;
    default:
        return 0;
    }
}

uint64_t pack_bytes(uint32_t type, uint64_t rows, uint64_t cols) {
    const uint64_t bytes =
        rows == 1 ? cols * sizeof(float)
                  : (rows + TILE - 1) / TILE * ((cols + ATOM - 1) / ATOM) * pack_atom_bytes(type);
    return pack_atom_bytes(type) ? (bytes + 63) / 64 * 64 : 0;
}

static void put_bytes(uint8_t *atom, uint32_t t, const uint8_t q[ATOM]) {
    for (int c = 0; c < ATOM; c++)
        atom[c / 4 * 64 + t * 4 + c % 4] = q[c];
}

/* Rows share a byte's two nibbles with no other row, so rows may be written in any order. */
static void put_nibbles(uint8_t *atom, uint32_t t, const uint8_t *qs) {
    for (int j = 0; j < 4; j++)
        for (int b = 0; b < 4; b++) {
            const int low = 8 * j + b, high = low + 4;
            const uint8_t l = low < 16 ? qs[low] & 15 : qs[low - 16] >> 4;
            const uint8_t h = high < 16 ? qs[high] & 15 : qs[high - 16] >> 4;
            atom[64 * j + t * 4 + b] = (uint8_t)(l | h << 4);
        }
}

static void put_q6k(uint8_t *atom, uint32_t t, const uint8_t *block, uint32_t col) {
    const uint8_t *ql = block, *qh = block + 128;
    const int8_t *scales = (const int8_t *)block + 192;
    uint8_t q[ATOM];
    /* 32 columns: a quarter of a half block of 128, all of them in the same bit positions. */
    const uint32_t half = col / 128, quarter = col / 32 % 4;
    for (int i = 0; i < ATOM; i++) {
        const uint8_t low = ql[64 * half + 32 * (quarter & 1) + i];
        const uint8_t high = qh[32 * half + i] >> 2 * quarter & 3;
        q[i] = (uint8_t)((quarter < 2 ? low & 15 : low >> 4) | high << 4);
    }
    put_bytes(atom, t, q);
    memcpy(atom + 512 + 2 * t, block + 208, 2);
    atom[544 + t] = (uint8_t)scales[col / 16];
    atom[544 + TILE + t] = (uint8_t)scales[col / 16 + 1];
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
        block = row + col / 32 * 18;
        put_nibbles(atom, t, block + 2);
        memcpy(atom + 256 + 2 * t, block, 2);
        break;
    case TENSOR_Q4_1:
        block = row + col / 32 * 20;
        put_nibbles(atom, t, block + 4);
        memcpy(atom + 256 + 2 * t, block, 2);
        memcpy(atom + 288 + 2 * t, block + 2, 2);
        break;
    case TENSOR_Q6_K:
        put_q6k(atom, t, row + col / 256 * 210, (uint32_t)(col % 256));
        break;
    default:
        break;
    }
}

void pack_rows(uint8_t *to, uint32_t type, uint64_t range_rows, uint64_t row_begin, uint64_t rows,
               uint64_t cols, uint32_t col_skip, const void *blocks, uint64_t row_bytes) {
    if (range_rows == 1) {
        const struct tensor_type_info *info = tensor_type_info(type);
        tensor_dequantise(type, blocks, cols / info->block_values, (float *)(void *)to);
        return;
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
}
