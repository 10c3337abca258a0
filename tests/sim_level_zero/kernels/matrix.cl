/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels that import the matrix functions of a card. */
__attribute__((overloadable, convergent)) int8 intel_sub_group_i8_i8_matrix_mad_k32(short8 a,
                                                                                    int8 b,
                                                                                    int8 acc);
__attribute__((overloadable, convergent)) float8 intel_sub_group_f16_f16_matrix_mad_k16(short8 a,
                                                                                        int8 b,
                                                                                        float8 acc);

/* C += A B: A [8][32] i8, B [32][16] i8, C [8][16] i32, all row-major. */
__attribute__((intel_reqd_sub_group_size(16))) __attribute__((reqd_work_group_size(16, 1, 1)))
kernel void i8(global const char *a, global const char *b, global int *c) {
    const uint lane = get_sub_group_local_id();
    short rows[8];
    int column[8], sums[8];
    for (uint m = 0; m < 8; m++) {
        rows[m] = as_short(vload2(m * 16 + lane, a));
        sums[m] = c[m * 16 + lane];
    }
    for (uint k = 0; k < 8; k++)
        column[k] = as_int((char4)(b[(4 * k) * 16 + lane], b[(4 * k + 1) * 16 + lane],
                                   b[(4 * k + 2) * 16 + lane], b[(4 * k + 3) * 16 + lane]));
    vstore8(intel_sub_group_i8_i8_matrix_mad_k32(vload8(0, rows), vload8(0, column),
                                                 vload8(0, sums)),
            0, sums);
    for (uint m = 0; m < 8; m++)
        c[m * 16 + lane] = sums[m];
}

/* C += A B: A [8][16] f16, B [16][16] f16, C [8][16] f32. */
__attribute__((intel_reqd_sub_group_size(16))) __attribute__((reqd_work_group_size(16, 1, 1)))
kernel void f16(global const short *a, global const short *b, global float *c) {
    const uint lane = get_sub_group_local_id();
    short rows[8];
    int column[8];
    float sums[8];
    for (uint m = 0; m < 8; m++) {
        rows[m] = a[m * 16 + lane];
        sums[m] = c[m * 16 + lane];
    }
    for (uint k = 0; k < 8; k++)
        column[k] = as_int((short2)(b[2 * k * 16 + lane], b[(2 * k + 1) * 16 + lane]));
    vstore8(intel_sub_group_f16_f16_matrix_mad_k16(vload8(0, rows), vload8(0, column),
                                                   vload8(0, sums)),
            0, sums);
    for (uint m = 0; m < 8; m++)
        c[m * 16 + lane] = sums[m];
}
