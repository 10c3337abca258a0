/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels against sums in double precision, and against each other: every instruction set,
 * any number of rows, any cut of the lanes gives the same bits. */
#include "daemon/device/cpu/isa/kernels.h"

#include <math.h>

#include "tests/check.h"
#include "tests/tensor_noise.h"

#define COLS     320u /* 10 atoms; not a multiple of 256: the 256-wide types use 512 */
#define ROWS     40u  /* two tiles and a half */
#define INPUTS   29u  /* 12 + 12 + 4 + 1 */
#define SETS_MAX 3
#define OUT(r)   ((r)*48u)

/* The instruction sets of this machine, portable first. */
static int usable_sets(const struct kernels *sets[SETS_MAX]) {
    int n = 0;
    sets[n++] = &kernels_portable;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        sets[n++] = &kernels_avx2;
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw"))
        sets[n++] = &kernels_avx512;
    return n;
}

/* Weights whose bytes are all the same, in front of inputs that are all -x or (odd rows) x. */
struct extreme {
    uint8_t byte;
    float x;
};

/* A matrix in the file's form, packed, and as doubles. */
struct sample {
    struct matmul m;
    double *w; /* [ROWS][cols] */
    uint8_t *blocks;
    uint64_t row_bytes;
    struct panel panel;
};

/* Random but for what `e`, if any, says. */
static void sample_make(struct sample *s, uint32_t type, const struct extreme *e) {
    const struct tensor_type_info *info = tensor_type_info(type);
    const uint32_t cols = info->block_values == 256 ? 512 : COLS;
    const uint32_t n_blocks = cols / info->block_values;
    const uint64_t bytes = pack_bytes(type, false, ROWS, cols);
    float *values = malloc(cols * sizeof *values);
    uint8_t *tiles = aligned_alloc(64, bytes);
    *s = (struct sample){.w = malloc(ROWS * cols * sizeof *s->w),
                         .row_bytes = (uint64_t)n_blocks * info->block_bytes};
    s->blocks = malloc(ROWS * s->row_bytes);
    for (uint64_t i = 0; i < ROWS * s->row_bytes; i++)
        s->blocks[i] = e ? e->byte : (uint8_t)noise();
    for (uint32_t i = 0; i < ROWS * n_blocks; i++)
        tame(type, s->blocks + (uint64_t)i * info->block_bytes);
    for (uint32_t r = 0; r < ROWS; r++) {
        tensor_dequantise(type, s->blocks + r * s->row_bytes, n_blocks, values);
        for (uint32_t c = 0; c < cols; c++)
            s->w[r * cols + c] = values[c];
    }
    memset(tiles, 0, bytes);
    pack_rows(tiles, type, false, 0, 16, cols, 0, s->blocks, s->row_bytes);
    pack_rows(tiles, type, false, 16, ROWS - 16, cols, 0, s->blocks + 16 * s->row_bytes,
              s->row_bytes);
    s->m = (struct matmul){.tiles = tiles, .type = type, .rows = ROWS, .cols = cols};
    s->m.act = (struct act_view){.q8 = malloc(INPUTS * cols),
                                 .scale = malloc(INPUTS * cols / ATOM * 4),
                                 .sum = malloc(INPUTS * cols / ATOM * 4),
                                 .f32 = malloc(INPUTS * cols * 4),
                                 .cols = cols,
                                 .forms = FORM_Q8 | FORM_F32};
    for (uint32_t r = 0; r < INPUTS; r++) {
        for (uint32_t c = 0; c < cols; c++)
            values[c] = e ? (r % 2 ? e->x : -e->x) : noise_float() * (float)(1 + r);
        kernels_portable.store(&s->m.act, r, 0, values, cols);
    }
    s->panel.x = malloc(panel_bytes(type, cols));
    s->panel.opened = aligned_alloc(64, opened_bytes(type, cols));
    free(values);
}

static void sample_init(struct sample *s, uint32_t type) {
    sample_make(s, type, NULL);
}

static void sample_finish(struct sample *s) {
    free((void *)(uintptr_t)s->m.tiles);
    free(s->w);
    free(s->blocks);
    free(s->m.act.q8);
    free(s->m.act.scale);
    free(s->m.act.sum);
    free(s->m.act.f32);
    free(s->panel.x);
    free(s->panel.opened);
}

static bool is_float(uint32_t type) {
    return type == TENSOR_F32 || type == TENSOR_F16 || type == TENSOR_BF16;
}

/* The input as the kernels see it: row r, column c. */
static double input(const struct matmul *m, uint32_t r, uint32_t c) {
    const uint64_t at = (uint64_t)r * m->act.cols + c;
    return is_float(m->type) ? (double)m->act.f32[at]
                             : (double)m->act.q8[at] * (double)m->act.scale[at / ATOM];
}

/* All rows from `row` on, `n` at a time. */
static void multiply(const struct kernels *k, struct sample *s, uint32_t n, float *out) {
    for (uint32_t row = 0; row < INPUTS; row += n) {
        const uint32_t left = INPUTS - row;
        k->gather(&s->m, row, left < n ? left : n, &s->panel);
        for (uint32_t t = 0; t * TILE < ROWS; t++)
            k->tile(&s->m, t, &s->panel, out + OUT(row) + t * TILE, OUT(1));
    }
}

/* The largest error of any product, in parts of its sum of magnitudes. */
static double worst_error(const struct sample *s, const float *out) {
    double worst = 0;
    for (uint32_t r = 0; r < INPUTS; r++)
        for (uint32_t row = 0; row < ROWS; row++) {
            double sum = 0, size = 0;
            for (uint32_t c = 0; c < s->m.cols; c++) {
                const double p = s->w[row * s->m.cols + c] * input(&s->m, r, c);
                sum += p;
                size += fabs(p);
            }
            const double off = fabs(sum - (double)out[OUT(r) + row]),
                         e = size > 0 ? off / size : off;
            worst = e > worst || isnan(e) ? e : worst;
        }
    return worst;
}

static void products_match_sums_in_double(void) {
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    for (size_t i = 0; i < N_NOISE_TYPES; i++) {
        struct sample s;
        float out[OUT(INPUTS)];
        sample_init(&s, noise_types[i]);
        multiply(sets[n_sets - 1], &s, INPUTS, out);
        const double worst = worst_error(&s, out);
        printf("# %s: largest error %.2g of the sum of magnitudes\n",
               tensor_type_info(noise_types[i])->name, worst);
        CHECK(worst < 2e-6);
        sample_finish(&s);
    }
}

static void sets_and_batches_do_not_change_a_bit(void) {
    static const uint32_t batches[] = {1, 2, 3, 5, 12, 13, 25, INPUTS};
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    for (size_t i = 0; i < N_NOISE_TYPES; i++) {
        struct sample s;
        float want[OUT(INPUTS)] = {0}, got[OUT(INPUTS)] = {0};
        sample_init(&s, noise_types[i]);
        multiply(sets[0], &s, 1, want);
        for (int set = 0; set < n_sets; set++)
            for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
                memset(got, 0, sizeof got);
                multiply(sets[set], &s, batches[b], got);
                if (memcmp(want, got, sizeof got))
                    printf("# %s %s, %u rows at a time\n", sets[set]->name,
                           tensor_type_info(noise_types[i])->name, batches[b]);
                CHECK(!memcmp(want, got, sizeof got));
            }
        sample_finish(&s);
    }
}

/* Nothing saturates where every product is as large as it can be, and none takes another away. */
static void the_largest_sums_are_exact(void) {
    static const uint8_t bytes[] = {0x00, 0xff, 0x80, 0x7f, 0x3f, 0x88, 0x77};
    static const uint32_t batches[] = {1, 2, 4, 9, INPUTS};
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    for (size_t i = 0; i < N_NOISE_TYPES * sizeof bytes; i++) {
        const struct extreme e = {bytes[i / N_NOISE_TYPES], 3.0f};
        struct sample s;
        float want[OUT(INPUTS)] = {0}, got[OUT(INPUTS)] = {0};
        sample_make(&s, noise_types[i % N_NOISE_TYPES], &e);
        multiply(sets[0], &s, 1, want);
        CHECK(worst_error(&s, want) < 2e-6);
        for (int set = 0; set < n_sets; set++)
            for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
                multiply(sets[set], &s, batches[b], got);
                if (memcmp(want, got, sizeof got))
                    printf("# %s %s, bytes %02x, %u rows at a time\n", sets[set]->name,
                           tensor_type_info(s.m.type)->name, e.byte, batches[b]);
                CHECK(!memcmp(want, got, sizeof got));
            }
        sample_finish(&s);
    }
}

static void rows_come_back_as_they_were(void) {
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    for (size_t i = 0; i < N_NOISE_TYPES; i++) {
        struct sample s;
        float out[512], first[512];
        sample_init(&s, noise_types[i]);
        for (int set = 0; set < n_sets; set++)
            for (uint32_t r = 0; r < ROWS; r += 13) {
                sets[set]->unpack_row(&s.m, r, out);
                for (uint32_t c = 0; c < s.m.cols; c++)
                    CHECK(fabs((double)out[c] - s.w[r * s.m.cols + c]) <=
                          fabs(s.w[r * s.m.cols + c]) * 1e-6 + 1e-6);
                if (set == 0 && r == 0)
                    memcpy(first, out, sizeof first);
                CHECK(set == 0 || r || !memcmp(first, out, s.m.cols * 4));
            }
        sample_finish(&s);
    }
}

/* From the smallest power of two, which is no normal float, to beyond the largest float. */
static void every_scale_of_mxfp4_is_exact(void) {
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    uint8_t blocks[256 * 17], *tiles = aligned_alloc(64, pack_bytes(TENSOR_MXFP4, false, 256, 32));
    float want[32], got[32];
    for (int e = 0; e < 256; e++) {
        blocks[e * 17] = (uint8_t)e;
        for (int i = 1; i < 17; i++)
            blocks[e * 17 + i] = (uint8_t)noise();
    }
    pack_rows(tiles, TENSOR_MXFP4, false, 0, 256, 32, 0, blocks, 17);
    const struct matmul m = {.tiles = tiles, .type = TENSOR_MXFP4, .rows = 256, .cols = 32};
    for (uint32_t e = 0; e < 256; e++) {
        CHECK_EQ(tensor_dequantise(TENSOR_MXFP4, blocks + e * 17, 1, want), 0);
        for (int set = 0; set < n_sets; set++) {
            sets[set]->unpack_row(&m, e, got);
            for (int c = 0; c < 32; c++)
                CHECK(got[c] == want[c]);
        }
    }
    free(tiles);
}

/* A lane-cut range of a 256-wide type may begin inside a block. */
/* Slice by slice, of any type that a vector may have. */
static void vectors_of_several_experts_follow_each_other(void) {
    enum { ALL = 37, WIDTH = 48 };
    float given[ALL * WIDTH], got[ALL * WIDTH];
    uint16_t halves[ALL * WIDTH];
    for (uint32_t i = 0; i < ALL * WIDTH; i++) {
        uint32_t bits;
        given[i] = (float)(i % 251); /* which half of the bits holds too */
        memcpy(&bits, &given[i], 4);
        halves[i] = (uint16_t)(bits >> 16);
    }
    CHECK_EQ(pack_bytes(TENSOR_F32, true, ALL, WIDTH), (sizeof given + 63) / 64 * 64);
    for (int type = 0; type < 2; type++) {
        const char *bytes = type ? (const char *)halves : (const char *)given;
        const uint64_t row = WIDTH * (type ? 2 : 4);
        memset(got, 0xff, sizeof got);
        CHECK_EQ(pack_rows((uint8_t *)got, type ? TENSOR_BF16 : TENSOR_F32, true, 32, 5, WIDTH, 0,
                           bytes + 32 * row, row),
                 0);
        CHECK(isnan(got[32 * WIDTH - 1]));
        CHECK_EQ(pack_rows((uint8_t *)got, type ? TENSOR_BF16 : TENSOR_F32, true, 0, 32, WIDTH, 0,
                           bytes, row),
                 0);
        CHECK(!memcmp(got, given, sizeof got));
    }
}

static void a_range_that_begins_inside_a_block_packs_the_same_values(void) {
    static const uint32_t wide[] = {TENSOR_Q2_K, TENSOR_Q3_K, TENSOR_Q4_K,
                                    TENSOR_Q5_K, TENSOR_Q6_K, TENSOR_IQ4_XS};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        struct sample s;
        float whole[512], cut[512];
        sample_init(&s, wide[i]);
        struct matmul m = s.m;
        m.cols = 256;
        uint8_t *tiles = aligned_alloc(64, pack_bytes(wide[i], false, ROWS, m.cols));
        pack_rows(tiles, wide[i], false, 0, ROWS, m.cols, 96, s.blocks, s.row_bytes);
        m.tiles = tiles;
        for (uint32_t r = 0; r < ROWS; r++) {
            kernels_portable.unpack_row(&s.m, r, whole);
            kernels_portable.unpack_row(&m, r, cut);
            CHECK(!memcmp(whole + 96, cut, m.cols * 4));
        }
        free(tiles);
        sample_finish(&s);
    }
}

/* Fill slots of the nodes that lanes [begin, end) complete by themselves. */
static void own_nodes(uint32_t begin, uint32_t end, int8_t slot[TREE_NODES]) {
    for (uint32_t node = 1; node < TREE_NODES; node++) {
        uint32_t first = node, last = node;
        while (first < LANES) {
            first = 2 * first;
            last = 2 * last + 1;
        }
        const bool own = first - LANES >= begin && last - LANES < end;
        const uint32_t up = node / 2;
        slot[node] = own && (node == 1 || slot[up] == NO_SLOT) ? (int8_t)node : NO_SLOT;
        if (node > 1 && own && slot[up] != NO_SLOT)
            slot[node] = NO_SLOT;
    }
}

/* Nodes below an owned one are not needed. */
static void prune(int8_t slot[TREE_NODES]) {
    for (uint32_t node = 2; node < TREE_NODES; node++)
        for (uint32_t up = node / 2; up; up /= 2)
            if (slot[up] != NO_SLOT)
                slot[node] = NO_SLOT;
}

#define PLANE (INPUTS * 48u)

/* The lanes of one card: columns [edges[begin], edges[end]) as a matrix of their own. */
static void run_card(const struct kernels *k, struct sample *s, const uint32_t edges[LANES + 1],
                     uint32_t begin, uint32_t end, int8_t seen[TREE_NODES], float *planes) {
    const uint32_t cols = edges[end] - edges[begin];
    struct matmul m = s->m;
    uint32_t col[LANES + 1];
    int8_t slot[TREE_NODES];
    if (cols == 0)
        return;
    uint8_t *tiles = aligned_alloc(64, pack_bytes(m.type, false, ROWS, cols));
    pack_rows(tiles, m.type, false, 0, ROWS, cols, edges[begin], s->blocks, s->row_bytes);
    struct act_view act = {.q8 = malloc(INPUTS * cols),
                           .scale = malloc(INPUTS * cols / ATOM * 4),
                           .sum = malloc(INPUTS * cols / ATOM * 4),
                           .f32 = malloc(INPUTS * cols * 4),
                           .cols = cols,
                           .forms = FORM_Q8 | FORM_F32};
    for (uint32_t r = 0; r < INPUTS; r++)
        k->store(&act, r, 0, s->m.act.f32 + r * s->m.cols + edges[begin], cols);
    for (uint32_t l = 0; l <= LANES; l++)
        col[l] = l <= begin ? 0 : l >= end ? cols : edges[l] - edges[begin];
    memset(slot, NO_SLOT, sizeof slot);
    own_nodes(begin, end, slot);
    prune(slot);
    m.tiles = tiles;
    m.cols = cols;
    m.act = act;
    k->gather(&m, 0, INPUTS, &s->panel);
    k->lanes(&m, 0, tiles_of(ROWS) - 1, &s->panel, col, slot, planes, PLANE, INPUTS * TILE);
    k->lanes(&m, tiles_of(ROWS) - 1, 1, &s->panel, col, slot,
             planes + (tiles_of(ROWS) - 1) * INPUTS * TILE, PLANE, 0);
    for (uint32_t node = 1; node < TREE_NODES; node++)
        if (slot[node] != NO_SLOT)
            seen[node] = slot[node];
    free(tiles);
    free(act.q8);
    free(act.scale);
    free(act.sum);
    free(act.f32);
}

/* The whole sum with the lanes dealt to cards at `cuts` (bit l: a card ends before lane l). */
static void sum_cut(const struct kernels *k, struct sample *s, const uint32_t edges[LANES + 1],
                    uint32_t cuts, float *hidden) {
    static float planes[TREE_NODES * PLANE];
    const float *nodes[TREE_NODES];
    int8_t seen[TREE_NODES];
    uint32_t begin = 0;
    memset(seen, NO_SLOT, sizeof seen);
    memset(planes, 0, sizeof planes);
    for (uint32_t l = 1; l <= LANES; l++)
        if (l == LANES || cuts >> l & 1) {
            run_card(k, s, edges, begin, l, seen, planes);
            begin = l;
        }
    for (uint32_t node = 0; node < TREE_NODES; node++) {
        /* A node whose lanes are all empty is absent, as the engine's compiler has it. */
        uint32_t first = node ? node : 1, last = first;
        while (first < LANES) {
            first = 2 * first;
            last = 2 * last + 1;
        }
        const bool holds = edges[first - LANES] < edges[last - LANES + 1];
        nodes[node] =
            node && seen[node] != NO_SLOT && holds ? planes + (uint32_t)seen[node] * PLANE : NULL;
    }
    k->combine(hidden, 48, INPUTS, nodes, INPUTS * TILE, ROWS);
}

static void lanes_cut_anywhere_give_the_same_bits(void) {
    static const uint32_t some_types[] = {TENSOR_F32, TENSOR_Q4_1, TENSOR_Q8_0};
    /* Ten atoms in eight lanes; and three in eight, most of them empty. */
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    for (size_t i = 0; i < 3; i++)
        for (uint32_t atoms = 3; atoms <= 10; atoms += 7) {
            struct sample s;
            uint32_t edges[LANES + 1];
            float want[PLANE] = {0}, got[PLANE];
            sample_init(&s, some_types[i]);
            for (uint32_t l = 0; l <= LANES; l++)
                edges[l] = (atoms * l + 7) / 8 * ATOM;
            sum_cut(sets[0], &s, edges, 0, want);
            for (uint32_t cuts = 0; cuts < 256; cuts += 2) {
                memset(got, 0, sizeof got);
                sum_cut(sets[n_sets - 1], &s, edges, cuts, got);
                if (memcmp(want, got, sizeof got))
                    printf("# %s, %u atoms, cuts %02x\n", tensor_type_info(s.m.type)->name, atoms,
                           cuts);
                CHECK(!memcmp(want, got, sizeof got));
            }
            sample_finish(&s);
        }
}

/* A card may hold one row of a matrix: it is a tile like any other. */
static void one_row_of_a_matrix_is_still_a_matrix(void) {
    for (size_t i = 0; i < N_NOISE_TYPES; i++) {
        struct sample s;
        float all[ROWS + TILE], one[TILE];
        sample_init(&s, noise_types[i]);
        uint8_t *tile = calloc(1, pack_bytes(noise_types[i], false, 1, s.m.cols));
        pack_rows(tile, noise_types[i], false, 0, 1, s.m.cols, 0, s.blocks + 17 * s.row_bytes,
                  s.row_bytes);
        struct matmul m = s.m;
        kernels_portable.gather(&m, 0, 1, &s.panel);
        for (uint32_t t = 0; t < (ROWS + TILE - 1) / TILE; t++)
            kernels_portable.tile(&m, t, &s.panel, all + t * TILE, TILE);
        m.tiles = tile;
        m.rows = 1;
        kernels_portable.tile(&m, 0, &s.panel, one, TILE);
        CHECK(!memcmp(&one[0], &all[17], sizeof(float)));
        free(tile);
        sample_finish(&s);
    }
}

/* Any input of a full panel stays inside what panel_bytes() says, for every type. */
static void a_full_panel_stays_inside_its_memory(void) {
    static const uint32_t widths[] = {32, 576, 1376, 1472, 1536, 2048, 4096, 16384};
    const struct kernels *sets[SETS_MAX];
    const int n_sets = usable_sets(sets);
    for (size_t i = 0; i < N_NOISE_TYPES; i++)
        for (size_t k = 0; k < sizeof widths / sizeof *widths; k++) {
            const uint32_t cols = widths[k], n = panel_rows(noise_types[i], cols);
            const uint64_t bytes = panel_bytes(noise_types[i], cols), values = (uint64_t)n * cols;
            struct panel panel = {.x = malloc(bytes + 64)};
            const struct matmul m = {.type = noise_types[i],
                                     .cols = cols,
                                     .act = {.q8 = calloc(values, 1),
                                             .scale = calloc(values / ATOM, 4),
                                             .sum = calloc(values / ATOM, 4),
                                             .f32 = calloc(values, 4),
                                             .cols = cols,
                                             .forms = FORM_Q8 | FORM_F32}};
            memset(panel.x + bytes, 0x5a, 64);
            for (int set = 0; set < n_sets; set++)
                sets[set]->gather(&m, 0, n, &panel);
            for (int b = 0; b < 64; b++)
                CHECK_EQ(panel.x[bytes + (uint64_t)b], 0x5a);
            CHECK(n >= PANEL_STEP && n % PANEL_STEP == 0 && n <= PANEL_ROWS_MAX);
            free(panel.x);
            free(m.act.q8);
            free(m.act.scale);
            free(m.act.sum);
            free(m.act.f32);
        }
}

CHECK_MAIN(T(a_full_panel_stays_inside_its_memory), T(one_row_of_a_matrix_is_still_a_matrix),
           T(products_match_sums_in_double), T(sets_and_batches_do_not_change_a_bit),
           T(the_largest_sums_are_exact), T(rows_come_back_as_they_were),
           T(every_scale_of_mxfp4_is_exact), T(vectors_of_several_experts_follow_each_other),
           T(a_range_that_begins_inside_a_block_packs_the_same_values),
           T(lanes_cut_anywhere_give_the_same_bits))
