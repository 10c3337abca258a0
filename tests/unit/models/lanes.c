/* SPDX-License-Identifier: Apache-2.0 */
#include "octarc/model.h"
#include "tests/check.h"

static struct model_params heads(uint32_t n_heads, uint32_t n_kv_heads, uint32_t head_dim) {
    return (struct model_params){
        .n_heads = n_heads, .n_kv_heads = n_kv_heads, .head_dim = head_dim, .n_ff = 1};
}

/* Compare the attention lanes, in units of `unit`, with want[0 .. LANES - 1]. */
static void check_attention(struct model_params p, uint32_t unit, const uint32_t want[LANES]) {
    uint32_t begin[LANES + 1];
    model_attention_lanes(&p, begin);
    CHECK_EQ(begin[0], 0);
    CHECK_EQ(begin[LANES], p.n_heads * p.head_dim);
    for (int l = 0; l < LANES; l++)
        CHECK_EQ(begin[l + 1] - begin[l], want[l] * unit);
}

static void nine_heads_over_three_groups_take_three_three_and_two_lanes(void) {
    check_attention(heads(9, 3, 64), 64, (const uint32_t[]){1, 1, 1, 1, 1, 1, 2, 1});
}

static void fourteen_heads_over_two_groups_lie_four_lanes_each(void) {
    check_attention(heads(14, 2, 64), 64, (const uint32_t[]){2, 2, 2, 1, 2, 2, 2, 1});
}

static void eight_or_more_groups_stay_whole(void) {
    check_attention(heads(32, 8, 128), 512, (const uint32_t[]){1, 1, 1, 1, 1, 1, 1, 1});
    check_attention(heads(20, 10, 64), 128, (const uint32_t[]){2, 1, 1, 1, 2, 1, 1, 1});
    check_attention(heads(24, 12, 64), 128, (const uint32_t[]){2, 1, 2, 1, 2, 1, 2, 1});
}

static void one_group_shares_all_lanes(void) {
    check_attention(heads(4, 1, 64), 64, (const uint32_t[]){1, 0, 1, 0, 1, 0, 1, 0});
    check_attention(heads(8, 1, 32), 32, (const uint32_t[]){1, 1, 1, 1, 1, 1, 1, 1});
}

static void narrow_heads_go_by_units_of_an_atom(void) {
    check_attention(heads(4, 2, 16), 32, (const uint32_t[]){1, 0, 0, 0, 1, 0, 0, 0});
    check_attention(heads(12, 3, 16), 32, (const uint32_t[]){1, 1, 1, 0, 1, 1, 1, 0});
    check_attention(heads(32, 2, 8), 32, (const uint32_t[]){1, 1, 1, 1, 1, 1, 1, 1});
}

static void heads_of_half_atoms_go_by_pairs(void) {
    check_attention(heads(16, 4, 80), 160, (const uint32_t[]){1, 1, 1, 1, 1, 1, 1, 1});
    check_attention(heads(6, 2, 80), 160, (const uint32_t[]){1, 0, 1, 0, 0, 1, 0, 0});
}

static void forty_eight_atoms_are_six_a_lane(void) {
    uint32_t begin[LANES + 1];
    model_ffn_lanes(&(struct model_params){.n_ff = 1536}, begin);
    for (uint32_t l = 0; l <= LANES; l++)
        CHECK_EQ(begin[l], l * 6 * 32);
}

static void a_short_last_atom_ends_at_the_width(void) {
    uint32_t begin[LANES + 1];
    model_ffn_lanes(&(struct model_params){.n_ff = 100}, begin);
    static const uint32_t want[] = {0, 32, 32, 64, 64, 96, 96, 100, 100};
    for (uint32_t l = 0; l <= LANES; l++)
        CHECK_EQ(begin[l], want[l]);
}

static void check_cover(const uint32_t begin[LANES + 1], uint32_t total, uint32_t unit) {
    CHECK_EQ(begin[0], 0);
    CHECK_EQ(begin[LANES], total);
    for (int l = 0; l < LANES; l++) {
        CHECK(begin[l] <= begin[l + 1]);
        CHECK(begin[l] == total || (begin[l] % ATOM == 0 && begin[l] % unit == 0));
    }
}

static void lanes_cover_everything_in_order_on_atom_edges(void) {
    uint32_t begin[LANES + 1];
    for (uint32_t n_ff = 1; n_ff < 3000; n_ff += 7) {
        model_ffn_lanes(&(struct model_params){.n_ff = n_ff}, begin);
        check_cover(begin, n_ff, ATOM);
    }
    for (uint32_t kv = 1; kv <= 20; kv++)
        for (uint32_t shared = 1; shared <= 9; shared++)
            for (uint32_t dim = 2; dim <= 256; dim += 2) {
                const struct model_params p = heads(kv * shared, kv, dim);
                model_attention_lanes(&p, begin);
                check_cover(begin, kv * shared * dim, dim);
            }
}

/* Edges of KV groups are edges of lanes wherever a group is whole units. */
static void group_edges_are_lane_edges(void) {
    for (uint32_t kv = 1; kv < LANES; kv++)
        for (uint32_t shared = 1; shared <= 9; shared++) {
            const struct model_params p = heads(kv * shared, kv, 64);
            uint32_t begin[LANES + 1];
            model_attention_lanes(&p, begin);
            for (uint32_t g = 0; g <= kv; g++) {
                bool found = false;
                for (int l = 0; l <= LANES; l++)
                    found |= begin[l] == g * shared * 64;
                CHECK(found);
            }
        }
}

CHECK_MAIN(T(nine_heads_over_three_groups_take_three_three_and_two_lanes),
           T(fourteen_heads_over_two_groups_lie_four_lanes_each),
           T(eight_or_more_groups_stay_whole), T(one_group_shares_all_lanes),
           T(narrow_heads_go_by_units_of_an_atom), T(heads_of_half_atoms_go_by_pairs),
           T(forty_eight_atoms_are_six_a_lane), T(a_short_last_atom_ends_at_the_width),
           T(lanes_cover_everything_in_order_on_atom_edges), T(group_edges_are_lane_edges))
