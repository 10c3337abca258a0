/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernels use and Debian 12's PoCL has not: the functions of sub-groups, where a group is
 * one of 16 lanes, and those that are given generic addresses.
 *
 * Written from the OpenCL specification and those of cl_intel_subgroups.  Groups run one after the
 * other on one thread, so the lanes of one meet in memory that there is once. */
#pragma OPENCL EXTENSION cl_khr_fp16 : enable

#define FUNCTION __attribute__((overloadable, always_inline))
#define TOGETHER __attribute__((overloadable, convergent, always_inline))
#define LANES    16

FUNCTION uint get_sub_group_id(void) {
    return 0;
}

FUNCTION uint get_num_sub_groups(void) {
    return 1;
}

FUNCTION uint get_sub_group_local_id(void) {
    return get_local_id(0);
}

/* ---- what lanes tell each other ------------------------------------------------------------- */

static global uint told[LANES];

/* All have read what was told before, then all have told. */
static TOGETHER void tell(uint x) {
    barrier(CLK_GLOBAL_MEM_FENCE);
    told[get_local_id(0)] = x;
    barrier(CLK_GLOBAL_MEM_FENCE);
}

#define OF_LANE(name, type)                                                                        \
    TOGETHER type name(type x, uint lane) {                                                        \
        tell(as_uint(x));                                                                          \
        return as_##type(told[lane % LANES]);                                                      \
    }
OF_LANE(sub_group_broadcast, float)
OF_LANE(sub_group_broadcast, int)
OF_LANE(sub_group_broadcast, uint)
OF_LANE(intel_sub_group_shuffle, int)
OF_LANE(intel_sub_group_shuffle, uint)

/* `all` of the lanes before `end`, each one's value being `next`. */
#define FOLD(name, type, end, first, folded)                                                       \
    TOGETHER type name(type x) {                                                                   \
        type all = first;                                                                          \
        tell(as_uint(x));                                                                          \
        for (uint i = 0; i < end; i++) {                                                           \
            const type next = as_##type(told[i]);                                                  \
            all = folded;                                                                          \
        }                                                                                          \
        return all;                                                                                \
    }
FOLD(sub_group_reduce_add, int, LANES, 0, all + next)
FOLD(sub_group_reduce_add, float, LANES, 0.0f, all + next)
FOLD(sub_group_reduce_max, int, LANES, INT_MIN, max(all, next))
FOLD(sub_group_reduce_max, uint, LANES, 0, max(all, next))
FOLD(sub_group_reduce_max, float, LANES, -INFINITY, fmax(all, next))
FOLD(sub_group_reduce_min, uint, LANES, UINT_MAX, min(all, next))
FOLD(sub_group_scan_exclusive_add, int, get_local_id(0), 0, all + next)

static global long told_long[LANES];

TOGETHER long sub_group_reduce_add(long x) {
    long all = 0;
    barrier(CLK_GLOBAL_MEM_FENCE);
    told_long[get_local_id(0)] = x;
    barrier(CLK_GLOBAL_MEM_FENCE);
    for (uint i = 0; i < LANES; i++)
        all += told_long[i];
    return all;
}

/* ---- blocks: a value of each lane after the other ------------------------------------------- */

#define AT(i) p[get_local_id(0) + (i) * LANES]

FUNCTION uint intel_sub_group_block_read(const global uint *p) {
    return AT(0);
}

FUNCTION uint4 intel_sub_group_block_read4(const global uint *p) {
    return (uint4)(AT(0), AT(1), AT(2), AT(3));
}

FUNCTION uint8 intel_sub_group_block_read8(const global uint *p) {
    return (uint8)(AT(0), AT(1), AT(2), AT(3), AT(4), AT(5), AT(6), AT(7));
}

FUNCTION void intel_sub_group_block_write4(global uint *p, uint4 x) {
    AT(0) = x.s0;
    AT(1) = x.s1;
    AT(2) = x.s2;
    AT(3) = x.s3;
}

FUNCTION ushort intel_sub_group_block_read_us(const global ushort *p) {
    return AT(0);
}

FUNCTION ushort8 intel_sub_group_block_read_us8(const global ushort *p) {
    return (ushort8)(AT(0), AT(1), AT(2), AT(3), AT(4), AT(5), AT(6), AT(7));
}

FUNCTION uchar intel_sub_group_block_read_uc(const global uchar *p) {
    return AT(0);
}

/* ---- generic addresses, and halves ---------------------------------------------------------- */

FUNCTION float vload_half(size_t i, const half *p) {
    return (float)p[i];
}

FUNCTION void vstore_half_rte(float x, size_t i, half *p) {
    p[i] = (half)x;
}

FUNCTION float8 convert_float8(half8 x) {
    return (float8)((float)x.s0, (float)x.s1, (float)x.s2, (float)x.s3, (float)x.s4, (float)x.s5,
                    (float)x.s6, (float)x.s7);
}

FUNCTION float8 vload8(size_t i, const float *p) {
    p += 8 * i;
    return (float8)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]);
}

FUNCTION long8 vload8(size_t i, const long *p) {
    p += 8 * i;
    return (long8)(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]);
}
