/* SPDX-License-Identifier: Apache-2.0 */
/* lanes.c - where the eight lanes of a summed dimension begin (docs/numerics.md rules 1 and 2).
 *
 * The sums of the lanes are added in one fixed tree, so these numbers are part of the promise that
 * every split gives the same bits: they may depend on the model's shape and on nothing else. */
#include "octarc/model.h"

/* Where share l of `shares` begins among n units. */
static uint64_t share_begin(uint64_t n, uint32_t l, uint32_t shares) {
    return (n * l + shares - 1) / shares;
}

/* Divide `total` values, in units of `unit` (the last may be short), over all lanes. */
static void lanes_of_units(uint32_t total, uint32_t unit, uint32_t begin[LANES + 1]) {
    const uint64_t n = ((uint64_t)total + unit - 1) / unit;
    for (uint32_t l = 0; l <= LANES; l++) {
        const uint64_t at = share_begin(n, l, LANES) * unit;
        begin[l] = at < total ? (uint32_t)at : total;
    }
}

void model_ffn_lanes(const struct model_params *p, uint32_t begin[LANES + 1]) {
    lanes_of_units(p->n_ff, ATOM, begin);
}

void model_expert_lanes(const struct model_params *p, uint32_t begin[LANES + 1]) {
    lanes_of_units(p->n_experts, 1, begin);
}

/* Fewer than LANES groups: the lanes are shared among the groups, then the units inside one. */
static void lanes_inside_groups(uint32_t n_groups, uint32_t group, uint32_t unit,
                                uint32_t begin[LANES + 1]) {
    for (uint32_t g = 0; g < n_groups; g++) {
        const uint32_t first = (uint32_t)share_begin(LANES, g, n_groups);
        const uint32_t n = (uint32_t)share_begin(LANES, g + 1, n_groups) - first;
        for (uint32_t l = 0; l < n; l++)
            begin[first + l] = g * group + (uint32_t)share_begin(group / unit, l, n) * unit;
    }
    begin[LANES] = n_groups * group;
}

void model_attention_lanes(const struct model_params *p, uint32_t begin[LANES + 1]) {
    const uint32_t total = p->n_heads * p->head_dim;
    const uint32_t group = total / p->n_kv_heads; /* values of one KV group */
    uint32_t unit = p->head_dim;
    while (unit % ATOM)
        unit += p->head_dim; /* lcm(head_dim, ATOM) after at most ATOM steps */

    /* A group edge inside an atom cannot be a lane edge; then units alone count, as they do for
     * narrow heads. */
    if (p->head_dim < ATOM || group % unit)
        lanes_of_units(total, unit, begin);
    else if (p->n_kv_heads >= LANES)
        lanes_of_units(total, group, begin);
    else
        lanes_inside_groups(p->n_kv_heads, group, unit, begin);
}
