/* SPDX-License-Identifier: Apache-2.0 */
/* Small kernels that the driver's own tests run. */
#pragma OPENCL EXTENSION cl_khr_fp16 : enable

kernel void add_one(global uint *values) {
    values[get_global_id(0)] += 1;
}

/* Needs an exact result of what ran before it. */
kernel void twice(global uint *values) {
    values[get_global_id(0)] *= 2;
}

kernel void copy_words(global const uint *from, global uint *to) {
    to[get_global_id(0)] = from[get_global_id(0)];
}

/* Reads through an address that lies in memory. */
kernel void follow(global const ulong *where, global uint *to) {
    to[get_global_id(0)] = ((global const uint *)where[0])[get_global_id(0)];
}

/* [n] f32 -> a sum a group; sub-groups of 16, local memory, a loop. */
__attribute__((intel_reqd_sub_group_size(16))) kernel void
sum(global const float *values, global float *sums, uint n, local float *parts) {
    float s = 0.0f;
    for (uint i = get_global_id(0); i < n; i += get_global_size(0))
        s += values[i];
    s = sub_group_reduce_add(s);
    if (get_sub_group_local_id() == 0)
        parts[get_sub_group_id()] = s;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (get_local_id(0) == 0) {
        float all = 0.0f;
        for (uint i = 0; i < get_num_sub_groups(); i++)
            all += parts[i];
        sums[get_group_id(0)] = all;
    }
}

/* Blocks of 16 x 4 words, read and written by whole sub-groups. */
__attribute__((intel_reqd_sub_group_size(16))) __attribute__((reqd_work_group_size(16, 1, 1)))
kernel void blocks(global const uint *from, global uint *to) {
    const uint4 v = intel_sub_group_block_read4(from + get_group_id(0) * 64);
    intel_sub_group_block_write4(to + get_group_id(0) * 64, v + 1);
}

kernel void halves(global const half *a, global half *b, half c) {
    const uint i = get_global_id(0);
    b[i] = a[i] * a[i] + c;
}

struct shape {
    ulong n;
    float scale;
};

kernel void by_value(struct shape s, char4 four, global float *to) {
    to[get_global_id(0)] = s.scale * (float)s.n + four.y;
}
