/* SPDX-License-Identifier: Apache-2.0 */
/* lanes.h - a panel of input rows times a tile of weight rows, lane by lane, then up the lane tree
 * as far as it goes on one card (docs/numerics.md). */
#ifndef OCTARC_DEVICE_CPU_ISA_LANES_H
#define OCTARC_DEVICE_CPU_ISA_LANES_H

#include "daemon/device/cpu/isa/matmul.h"

/* A lane's atoms, and where the sum of a group of rows goes: it is added to what waits for it as
 * far up the tree as it is a right child, then goes to a plane, or waits itself. */
struct lane_step {
    uint32_t begin, end;
    struct target to;
    uint32_t advance; /* of to.out, from row to row */
};

/* Left children that wait for their siblings, by their height; the root has none. */
typedef float lane_waiting[LANE_LEVELS + 1][GROUP_MAX][TILE];

/* The step of a present lane; `present`: nodes. */
static struct lane_step aim(uint32_t lane, const bool present[TREE_NODES],
                            const int8_t slot[TREE_NODES], lane_waiting waiting, float *planes,
                            uint64_t plane_stride) {
    struct lane_step step = {.to = {.stride = TILE}};
    uint32_t node = LANES + lane, level = 0;
    for (; node > 1 && slot[node] == NO_SLOT; node /= 2, level++)
        if (node % 2 && present[node - 1] && slot[node - 1] == NO_SLOT)
            step.to.left[step.to.n_left++] = waiting[level][0];
        else if (node % 2 == 0 && present[node + 1])
            break;
    if (slot[node] != NO_SLOT) {
        step.to.out = planes + (uint64_t)slot[node] * plane_stride;
        step.advance = TILE;
    } else {
        step.to.out = waiting[level][0];
    }
    return step;
}

/* What is to be done for a group of rows, lane by lane; returns how many are present. */
static uint32_t aim_lanes(const uint32_t col[LANES + 1], const int8_t slot[TREE_NODES],
                          lane_waiting waiting, float *planes, uint64_t plane_stride,
                          const struct target *stream, struct lane_step steps[LANES]) {
    bool present[TREE_NODES];
    uint32_t n = 0;
    for (uint32_t lane = 0; lane < LANES; lane++)
        present[LANES + lane] = col[lane] < col[lane + 1];
    for (uint32_t node = LANES - 1; node; node--)
        present[node] = present[2 * node] || present[2 * node + 1];
    for (uint32_t lane = 0; lane < LANES; lane++)
        if (present[LANES + lane]) {
            steps[n] = aim(lane, present, slot, waiting, planes, plane_stride);
            steps[n].to.end = stream->end;
            steps[n].to.jump = stream->jump;
            steps[n].to.far = stream->far;
            steps[n].begin = col[lane] / ATOM;
            steps[n++].end = atoms_of(col[lane + 1]);
        }
    return n;
}

/* A tile whose sums go to planes that lie `at` values behind those aimed at. */
static void sum_tile(const struct matmul *m, uint32_t tile, const struct panel *panel,
                     const struct lane_step *steps, uint32_t n, uint64_t at) {
    const struct tile_source s = open_tile(m, tile, panel);
    const uint32_t atoms = atoms_of(m->cols);
    for (uint32_t i = 0, w; i < panel->n; i += w) {
        w = group_of(panel->n - i);
        const uint8_t *x = panel->x + (uint64_t)i * atoms * s.x_step;
        for (uint32_t k = 0; k < n; k++) {
            struct target to = steps[k].to;
            to.out += steps[k].advance ? at + (uint64_t)i * steps[k].advance : 0;
            s.walk[group_index(w)](s.w + (uint64_t)steps[k].begin * s.w_step,
                                   x + (uint64_t)steps[k].begin * w * s.x_step,
                                   steps[k].end - steps[k].begin, &to);
        }
    }
}

static void lanes_kernel(const struct matmul *m, uint32_t tile, uint32_t n_tiles,
                         const struct panel *panel, const uint32_t col[LANES + 1],
                         const int8_t slot[TREE_NODES], float *planes, uint64_t plane_stride,
                         uint64_t tile_stride) {
    lane_waiting waiting;
    struct lane_step steps[LANES];
    const struct target stream = stream_of(m);
    const uint32_t n = aim_lanes(col, slot, waiting, planes, plane_stride, &stream, steps);
    for (uint32_t i = 0; i < n_tiles; i++)
        sum_tile(m, tile + i, panel, steps, n, i * tile_stride);
}

#endif
