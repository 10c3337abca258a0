/* SPDX-License-Identifier: Apache-2.0 */
/* The matrix functions of a card (cl_intel_subgroup_matrix_multiply_accumulate), sub-groups of 16,
 * joined to modules that import them.
 *
 * a has M rows of 16 lanes, each with one value of two bytes or two of one byte: a[m] of lane k is
 * A[m][k], or A[m][2k] and A[m][2k + 1].  b of lane n is column n, 8 words of consecutive k.  acc[m]
 * of lane n is C[m][n].  A change here is a new FORMAT in cache.c.  Products are added in the order of k, each with one rounding; a card may
 * add them otherwise. */
#pragma OPENCL EXTENSION cl_khr_fp16 : enable

float bf16(ushort x) {
    return as_float((uint)x << 16);
}

/* One row: `a` of this lane, `b` of this column. */
int row_i8_i8(short a, const int *b, int acc) {
    for (uint k = 0; k < 16; k++) {
        const char2 x = as_char2(sub_group_broadcast(a, k));
        const char4 y = as_char4(b[k / 2]);
        acc += k & 1 ? x.x * y.z + x.y * y.w : x.x * y.x + x.y * y.y;
    }
    return acc;
}

int row_u8_i8(short a, const int *b, int acc) {
    for (uint k = 0; k < 16; k++) {
        const uchar2 x = as_uchar2(sub_group_broadcast(a, k));
        const char4 y = as_char4(b[k / 2]);
        acc += k & 1 ? x.x * y.z + x.y * y.w : x.x * y.x + x.y * y.y;
    }
    return acc;
}

float row_f16_f16(short a, const int *b, float acc) {
    for (uint k = 0; k < 16; k++) {
        const half x = as_half(sub_group_broadcast(a, k));
        const half2 y = as_half2(b[k / 2]);
        acc = fma((float)x, (float)(k & 1 ? y.y : y.x), acc);
    }
    return acc;
}

float row_bf16_bf16(short a, const int *b, float acc) {
    for (uint k = 0; k < 16; k++) {
        const float x = bf16(as_ushort(sub_group_broadcast(a, k)));
        const ushort2 y = as_ushort2(b[k / 2]);
        acc = fma(x, bf16(k & 1 ? y.y : y.x), acc);
    }
    return acc;
}

#define ONE(types, k, sum)                                                                         \
    __attribute__((overloadable)) sum intel_sub_group_##types##_matrix_mad_k##k(short a, int8 b,   \
                                                                                sum acc) {         \
        int column[8];                                                                             \
        vstore8(b, 0, column);                                                                     \
        return row_##types(a, column, acc);                                                        \
    }
#define ROWS(types, k, sum, n)                                                                     \
    __attribute__((overloadable))                                                                  \
    sum##n intel_sub_group_##types##_matrix_mad_k##k(short##n a, int8 b, sum##n acc) {             \
        short rows[n];                                                                             \
        int column[8];                                                                             \
        sum sums[n];                                                                               \
        vstore##n(a, 0, rows);                                                                     \
        vstore8(b, 0, column);                                                                     \
        vstore##n(acc, 0, sums);                                                                   \
        for (uint m = 0; m < n; m++)                                                               \
            sums[m] = row_##types(rows[m], column, sums[m]);                                       \
        return vload##n(0, sums);                                                                  \
    }
#define ALL(types, k, sum)                                                                         \
    ONE(types, k, sum)                                                                             \
    ROWS(types, k, sum, 2)                                                                         \
    ROWS(types, k, sum, 4)                                                                         \
    ROWS(types, k, sum, 8)

ALL(i8_i8, 32, int)
ALL(u8_i8, 32, int)
ALL(f16_f16, 16, float)
ALL(bf16_bf16, 16, float)
