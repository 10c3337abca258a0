/* SPDX-License-Identifier: Apache-2.0 */
/* kernels.c - what the kernels reach of what the machine can: GB/s of matrix-vector products
 * against a read sweep over the same weights, GOPS of matrix-matrix products against a loop of
 * int8 products, both in the same instruction set.  Shapes of SmolLM2-135M, random weights;
 * `make bench-kernels`.
 *
 * usage: kernels [threads] [isa: portable|avx2|avx512] [type, Q4_1 for instance]; without an isa
 * the best that this machine has */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "daemon/device/cpu/isa/kernels.h"
#include "daemon/device/cpu/team.h"
#include "octarc/error.h"

#define N_LAYERS 30
#define MATRICES 7
#define ROWS_MAX 512
#define VOCAB    49152u

struct shape {
    uint32_t rows, cols, lanes;
};
static const struct shape shapes[MATRICES] = {{576, 576, 0}, {192, 576, 0},  {192, 576, 0},
                                              {576, 576, 1}, {1536, 576, 0}, {1536, 576, 0},
                                              {576, 1536, 1}};

struct bench {
    const struct kernels *kernels;
    struct team *team;
    uint8_t *weights;
    uint64_t bytes;
    struct act_view acts[2]; /* 576 and 1536 columns */
    uint32_t type, rows;
    bool with_head;
    float *out; /* by thread */
    struct panel panels[TEAM_MAX];
    uint64_t sink;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint64_t noise_state = 88172645463325252u;
static uint64_t noise(void) {
    noise_state ^= noise_state << 13;
    noise_state ^= noise_state >> 7;
    return noise_state ^= noise_state << 17;
}

static struct act_view make_act(const struct bench *b, uint32_t cols) {
    const struct act_view act = {
        .q8 = aligned_alloc(64, (size_t)ROWS_MAX * cols),
        .scale = aligned_alloc(64, (size_t)ROWS_MAX * cols / ATOM * 4),
        .sum = aligned_alloc(64, (size_t)ROWS_MAX * cols / ATOM * 4),
        .f32 = aligned_alloc(64, (size_t)ROWS_MAX * cols * 4),
        .cols = cols,
        .forms = FORM_Q8 | FORM_F32,
    };
    float *x = malloc(cols * sizeof *x);
    for (uint32_t r = 0; r < ROWS_MAX; r++) {
        for (uint32_t i = 0; i < cols; i++)
            x[i] = (float)(int32_t)noise() * 0x1p-31f;
        b->kernels->store(&act, r, 0, x, cols);
    }
    free(x);
    return act;
}

static uint32_t part(uint32_t n, uint32_t member, uint32_t members) {
    return n * member / members;
}

static void run_matrix(struct bench *b, const struct matmul *m, bool lanes, uint32_t member) {
    const uint32_t size = team_size(b->team), tiles = m->rows / TILE,
                   step = panel_rows(m->type, m->cols);
    struct panel *panel = &b->panels[member];
    float *out = b->out + (uint64_t)member * ROWS_MAX * 1536;
    uint32_t col[LANES + 1];
    int8_t slot[TREE_NODES];
    memset(slot, NO_SLOT, sizeof slot);
    slot[1] = 0;
    for (uint32_t l = 0; l <= LANES; l++)
        col[l] = (m->cols / ATOM * l + 7) / 8 * ATOM;
    for (uint32_t row = 0; row < b->rows; row += step) {
        b->kernels->gather(m, row, b->rows - row < step ? b->rows - row : step, panel);
        for (uint32_t t = part(tiles, member, size); t < part(tiles, member + 1, size); t++)
            if (lanes)
                b->kernels->lanes(m, t, 1, panel, col, slot, out, 0, 0);
            else
                b->kernels->tile(m, t, panel, out, 1536);
    }
    team_meet(b->team);
}

static void run_model(void *arg, uint32_t member) {
    struct bench *b = arg;
    const uint8_t *at = b->weights;
    for (int layer = 0; layer < N_LAYERS; layer++)
        for (int i = 0; i < MATRICES; i++) {
            const struct matmul m = {.tiles = at,
                                     .type = b->type,
                                     .rows = shapes[i].rows,
                                     .cols = shapes[i].cols,
                                     .act = b->acts[shapes[i].cols == 1536]};
            run_matrix(b, &m, shapes[i].lanes, member);
            at += pack_bytes(b->type, false, shapes[i].rows, shapes[i].cols);
        }
    const struct matmul head = {
        .tiles = at, .type = TENSOR_Q8_0, .rows = VOCAB, .cols = 576, .act = b->acts[0]};
    if (b->with_head)
        run_matrix(b, &head, false, member);
}

static void sweep(void *arg, uint32_t member) {
    struct bench *b = arg;
    const uint64_t n = b->bytes / team_size(b->team) / 64 * 64;
    __atomic_fetch_add(&b->sink, b->kernels->sweep(b->weights + member * n, n), __ATOMIC_RELAXED);
}

#define PEAK_LOOPS 100000
static void int8_peak(void *arg, uint32_t member) {
    struct bench *b = arg;
    (void)member;
    __atomic_fetch_add(&b->sink, b->kernels->multiply(PEAK_LOOPS), __ATOMIC_RELAXED);
}

static double best_of(struct bench *b, int n, void (*fn)(void *, uint32_t)) {
    double best = 1e9;
    for (int i = 0; i < n; i++) {
        const double t = now();
        team_run(b->team, fn, b);
        best = now() - t < best ? now() - t : best;
    }
    return best;
}

static uint64_t layer_weights(void) {
    uint64_t n = 0;
    for (int i = 0; i < MATRICES; i++)
        n += (uint64_t)shapes[i].rows * shapes[i].cols;
    return n * N_LAYERS;
}

static void make_weights(struct bench *b) {
    b->bytes = pack_bytes(TENSOR_Q8_0, false, VOCAB, 576);
    for (int i = 0; i < MATRICES; i++)
        b->bytes += N_LAYERS * pack_bytes(b->type, false, shapes[i].rows, shapes[i].cols);
    b->weights = mmap(NULL, b->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b->weights == MAP_FAILED) {
        perror("weights");
        exit(1);
    }
    madvise(b->weights, b->bytes, MADV_HUGEPAGE);
    /* Bytes below 0x40 make small finite half floats, whatever they stand for. */
    for (uint64_t i = 0; i < b->bytes / 8; i++)
        ((uint64_t *)(void *)b->weights)[i] = noise() & UINT64_C(0x3f3f3f3f3f3f3f3f);
}

static void measure(struct bench *b, const char *name, double read, double peak) {
    static const uint32_t batches[] = {1, 2, 4, 8, 16, 64, 512};
    const double ops = 2.0 * (double)layer_weights(), head = 2.0 * VOCAB * 576;
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        b->rows = batches[i];
        b->with_head = b->rows <= 16;
        const double t = best_of(b, b->rows < 64 ? 30 : 10, run_model);
        const double gops = (ops + (b->with_head ? head : 0)) * b->rows / t / 1e9;
        printf("%s %4u rows: %8.2f ms %7.0f tok/s", name, b->rows, t * 1e3, b->rows / t);
        if (b->rows == 1)
            printf("  %6.1f GB/s = %3.0f%% of a read sweep\n", (double)b->bytes / t / 1e9,
                   (double)b->bytes / t / 1e7 / read);
        else
            printf("  %6.0f GOPS = %3.0f%% of the int8 peak\n", gops, gops / peak * 100);
    }
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        uint32_t type;
    } types[] = {{"Q4_1", TENSOR_Q4_1}, {"Q4_0", TENSOR_Q4_0}, {"Q8_0", TENSOR_Q8_0},
                 {"Q6_K", TENSOR_Q6_K}, {"Q4_K", TENSOR_Q4_K}, {"F16", TENSOR_F16}};
    const struct kernels *sets[] = {&kernels_portable, &kernels_avx2, &kernels_avx512};
    static struct bench b;
    struct err err;
    b.kernels = __builtin_cpu_supports("avx512vnni") ? &kernels_avx512
                : __builtin_cpu_supports("avx2")     ? &kernels_avx2
                                                     : &kernels_portable;
    for (size_t i = 0; argc > 2 && i < 3; i++)
        if (!strcmp(sets[i]->name, argv[2]))
            b.kernels = sets[i];
    if (team_create(&b.team, argc > 1 ? (uint32_t)atoi(argv[1]) : 1, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    team_pin(b.team);
    const uint32_t size = team_size(b.team);
    b.out = aligned_alloc(64, sizeof(float) * size * ROWS_MAX * 1536);
    memset(b.out, 0, sizeof(float) * size * ROWS_MAX * 1536);
    for (uint32_t i = 0; i < size; i++) {
        b.panels[i].x = aligned_alloc(64, PANEL_BYTES + panel_bytes(TENSOR_F32, 1536));
        b.panels[i].opened = aligned_alloc(64, opened_bytes(TENSOR_Q8_0, 1536));
    }
    b.acts[0] = make_act(&b, 576);
    b.acts[1] = make_act(&b, 1536);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (argc > 3 && strcmp(argv[3], types[i].name))
            continue;
        b.type = types[i].type;
        make_weights(&b);
        const double read = (double)b.bytes / best_of(&b, 10, sweep) / 1e9;
        const double peak =
            (double)size * b.kernels->multiply_ops * PEAK_LOOPS / best_of(&b, 10, int8_peak) / 1e9;
        printf("%s, %u threads: %.1f MB, read sweep %.1f GB/s, int8 peak %.0f GOPS\n",
               b.kernels->name, size, (double)b.bytes / 1e6, read, peak);
        measure(&b, types[i].name, read, peak);
        munmap(b.weights, b.bytes);
    }
    team_destroy(b.team);
    return 0;
}
