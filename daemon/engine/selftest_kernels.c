/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_kernels.c - the same small programs on two backends, and what each of them makes. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/device/noise.h"
#include "daemon/engine/selftest.h"
#include "daemon/engine/selftest_program.h"
#include "octarc/error.h"

#define RESULTS  ((TRIAL_ROWS + 1) * TRIAL_VOCAB) /* of a prompt, and of a token behind it */
#define N_LAYERS NOISE_TYPES
#define N_KV     3
#define FETCHED  (2 * N_LAYERS + N_KV)

uint32_t selftest_kernels_count(void) {
    return FETCHED + 1;
}
_Static_assert(FETCHED + 1 <= SELFTEST_KERNELS_MAX, "a place for each");

/* Layers with an FFN and with experts, of each type; then each type of KV; then one with weights
 * that are fetched. */
static struct trial_layer layer_of(uint32_t i, uint64_t host_at) {
    const uint32_t n = i % N_LAYERS;
    if (i == FETCHED)
        return (struct trial_layer){.type = TENSOR_Q8_0, .kv = KV_F16, .host_at = host_at};
    if (i >= 2 * N_LAYERS)
        return (struct trial_layer){.type = TENSOR_F32, .kv = (enum kv_type)(i - 2 * N_LAYERS)};
    return (struct trial_layer){.type = noise_types[n],
                                .experts = i >= N_LAYERS,
                                .kv = KV_F16,
                                .gate = (enum gate)(n % (GATE_LIMITED + 1)),
                                .window = n % 2 ? 20 : 0,
                                .soft_cap = n % 4 == 3 ? 15.0f : 0};
}

void selftest_kernel_name(uint32_t i, char out[32]) {
    static const char *const kv[N_KV] = {[KV_F16] = "f16", [KV_F32] = "f32", [KV_Q8_0] = "q8_0"};
    if (i == FETCHED)
        snprintf(out, 32, "weights that are fetched");
    else if (i >= 2 * N_LAYERS)
        snprintf(out, 32, "KV of %s", i < 2 * N_LAYERS + N_KV ? kv[i - 2 * N_LAYERS] : "?");
    else
        snprintf(out, 32, "%s of %s", i < N_LAYERS ? "layer" : "experts",
                 tensor_type_info(noise_types[i % N_LAYERS])->name);
}

/* A backend's device, the room that all programs have on it, and what the last one made. */
struct side {
    const struct device_ops *ops;
    struct device *device;
    uint64_t bytes[AREA_COUNT]; /* that the largest program needs */
    uint64_t host_at;           /* from there on weights lie in host memory */
    struct trial_program program;
    float results[RESULTS];
};

/* ---- one side ------------------------------------------------------------------------------- */

/* What is fetched lies behind all that is not. */
static void size_areas(struct side *s) {
    for (uint32_t i = 0; i < selftest_kernels_count(); i++) {
        const struct trial_layer layer = layer_of(i, LANDING_BLOCK); /* wherever that is */
        trial_program_make(&s->program, s->ops, &layer);
        for (int a = 0; a < AREA_COUNT; a++)
            s->bytes[a] = s->program.bytes[a] > s->bytes[a] ? s->program.bytes[a] : s->bytes[a];
    }
    s->host_at = (s->bytes[AREA_WEIGHTS] + LANDING_BLOCK - 1) / LANDING_BLOCK * LANDING_BLOCK;
    s->bytes[AREA_WEIGHTS] = s->host_at + s->bytes[AREA_LANDING];
}

static int open_side(struct side *s, const struct device_options *options, struct err *err) {
    struct device_options o = *options;
    size_areas(s);
    o.max_rows = TRIAL_ROWS;
    o.host_bytes[0] = s->bytes[AREA_LANDING];
    int rc = s->ops->open(&s->device, &o, err);
    for (int a = 0; a < AREA_COUNT && !rc; a++)
        rc = s->ops->reserve(s->device, 0, (enum area)a, s->bytes[a], s->bytes[a], -1, err);
    return rc;
}

/* Around 1, as the weights of a norm are. */
static int pack_vector(struct side *s, const struct matrix *m, uint64_t *seed) {
    float values[TRIAL_COLS];
    for (uint32_t i = 0; i < m->cols; i++)
        values[i] = 1.0f + noise_next_float(seed) / 4;
    return s->ops->pack(s->device, 0, m->offset, TENSOR_F32, true, 1, 0, 1, m->cols, 0, values,
                        m->cols * sizeof *values);
}

static int pack_matrix(struct side *s, const struct matrix *m, uint64_t *seed) {
    const struct tensor_type_info *info = tensor_type_info(m->type);
    const uint64_t row_bytes = (uint64_t)m->cols / info->block_values * info->block_bytes;
    uint8_t *blocks = malloc(m->rows * row_bytes);
    if (!blocks)
        return -ENOMEM;
    noise_fill(seed, m->type, blocks, m->rows * row_bytes / info->block_bytes);
    const int rc = s->ops->pack(s->device, 0, m->offset, m->type, false, m->rows, 0, m->rows,
                                m->cols, 0, blocks, row_bytes);
    free(blocks);
    return rc;
}

static int pack_all(struct side *s, uint32_t number) {
    uint64_t seed = NOISE_SEED + number;
    int rc = s->ops->clear(s->device, 0, AREA_KV, 0, s->program.bytes[AREA_KV]);
    for (uint32_t i = 0; i < s->program.n_tensors && !rc; i++) {
        const struct trial_tensor *t = &s->program.tensors[i];
        rc = t->vector ? pack_vector(s, &t->matrix, &seed) : pack_matrix(s, &t->matrix, &seed);
    }
    return rc;
}

static void rotate(float *rope, uint32_t position) {
    for (uint32_t k = 0; k < TRIAL_HEAD_DIM / 2; k++) {
        const double angle = position * pow(10000, -2.0 * k / TRIAL_HEAD_DIM);
        rope[2 * k] = (float)cos(angle);
        rope[2 * k + 1] = (float)sin(angle);
    }
}

static int step(struct side *s, uint32_t at, uint32_t n, float *results) {
    struct step_row rows[TRIAL_ROWS];
    float rope[TRIAL_ROWS * TRIAL_HEAD_DIM];
    const uint32_t pages[TRIAL_PAGES] = {1, 0};
    const struct step_sequence sequence = {pages, TRIAL_PAGES};
    uint32_t outputs[TRIAL_ROWS], card;
    for (uint32_t i = 0; i < n; i++) {
        rows[i] = (struct step_row){(int32_t)((at + i) * 7 % TRIAL_VOCAB), at + i, 0};
        rotate(rope + (size_t)i * TRIAL_HEAD_DIM, at + i);
        outputs[i] = i;
    }
    const struct step_params p = {.rows = rows,
                                  .n_rows = n,
                                  .sequences = &sequence,
                                  .n_sequences = 1,
                                  .outputs = outputs,
                                  .n_outputs = n,
                                  .rope = {rope, rope},
                                  .n_vocab = TRIAL_VOCAB,
                                  .logits = results};
    return s->ops->step(s->device, &p, &card);
}

static int build(struct side *s, uint32_t number, struct err *err) {
    const struct trial_layer layer = layer_of(number, s->host_at);
    struct program programs[CARDS_MAX] = {{0}};
    trial_program_make(&s->program, s->ops, &layer);
    programs[0] = (struct program){s->program.ops, s->program.n_ops};
    for (uint32_t i = 0; i < RESULTS; i++)
        s->results[i] = NAN;
    int rc = pack_all(s, number);
    if (rc)
        return err_set(err, rc, "its weights cannot be written: %s", strerror(-rc));
    return s->ops->load(s->device, programs, err);
}

static int run(struct side *s, struct err *err) {
    int rc = step(s, 0, TRIAL_ROWS, s->results);
    if (!rc)
        rc = step(s, TRIAL_ROWS, 1, s->results + TRIAL_ROWS * TRIAL_VOCAB);
    return rc ? err_set(err, rc, "a step failed: %s", strerror(-rc)) : 0;
}

/* ---- both ----------------------------------------------------------------------------------- */

/* Numbers, and not all of them zero: or nothing would be compared. */
static bool says_something(const float *results, double *largest) {
    *largest = 0;
    for (uint32_t i = 0; i < RESULTS; i++) {
        if (!isfinite(results[i]))
            return false;
        *largest = fmax(*largest, fabs((double)results[i]));
    }
    return *largest > 0;
}

static int compare(const float *results, const float *want, struct selftest_kernel *made,
                   struct err *err) {
    double largest, most = 0;
    if (!says_something(want, &largest))
        return err_set(err, -EDOM, "the cpu backend makes nothing to compare with");
    for (uint32_t i = 0; i < RESULTS; i++) {
        const double by = fabs((double)results[i] - (double)want[i]);
        most = by <= most ? most : by; /* of what is no number, too */
    }
    made->difference = isfinite(most) ? most / largest : INFINITY;
    made->verdict =
        memcmp(results, want, sizeof(float) * RESULTS) ? SELFTEST_DIFFERS : SELFTEST_SAME;
    return 0;
}

static int try_kernel(struct side *tried, struct side *reference, uint32_t i,
                      const struct selftest_ears *ears, struct selftest_kernel *made,
                      struct err *err) {
    char name[32];
    struct err why = {{0}};
    ears->begun(ears->user, i, false);
    int rc = build(reference, i, &why);
    if (!rc)
        rc = run(reference, &why);
    if (!rc)
        rc = build(tried, i, &why);
    ears->begun(ears->user, i, true);
    if (!rc)
        rc = run(tried, &why);
    if (!rc)
        rc = compare(tried->results, reference->results, made, &why);
    if (!rc)
        return 0;
    made->verdict = SELFTEST_FAILED;
    selftest_kernel_name(i, name);
    return err_set(err, rc, "%s: %.400s", name, why.text);
}

/* What one cannot do the next may; a card that is lost can do none. */
static int try_all(struct side *tried, struct side *reference, const struct selftest_ears *ears,
                   struct err *err) {
    int failed = 0;
    for (uint32_t i = 0; i < selftest_kernels_count() && failed != -ENODEV; i++) {
        struct selftest_kernel made = {0};
        struct err why;
        const int rc = try_kernel(tried, reference, i, ears, &made, &why);
        if (rc && (!failed || rc == -ENODEV))
            failed = err_set(err, rc, "%s", why.text);
        ears->told(ears->user, i, &made);
    }
    return failed;
}

int selftest_run_kernels(const struct device_ops *ops, const struct device_options *options,
                         enum instruction_set reference, const struct selftest_ears *ears,
                         struct err *err) {
    const struct device_options cpu = {
        .n_cards = 1, .present = {true}, .n_threads = 1, .isa = reference};
    struct side *sides = calloc(2, sizeof *sides);
    if (!sides)
        return err_set(err, -ENOMEM, "no memory to try kernels");
    sides[0].ops = ops;
    sides[1].ops = device_backend("cpu");
    int rc = open_side(&sides[1], &cpu, err);
    if (!rc)
        rc = open_side(&sides[0], options, err);
    if (!rc)
        rc = try_all(&sides[0], &sides[1], ears, err);
    struct device_properties card;
    if (sides[0].device && ears->knows && !ops->properties(sides[0].device, 0, &card))
        ears->knows(ears->user, &card);
    for (int i = 0; i < 2; i++)
        if (sides[i].device)
            sides[i].ops->close(sides[i].device);
    free(sides);
    return rc;
}
