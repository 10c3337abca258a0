/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/selftest_side.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/device/noise.h"
#include "octarc/error.h"

void side_make_room(struct side *s) {
    for (uint32_t k = 0; k < s->n; k++)
        for (int a = 0; a < AREA_COUNT; a++)
            if (s->programs[k].bytes[a] > s->bytes[a])
                s->bytes[a] = s->programs[k].bytes[a];
}

int side_open(struct side *s, const struct device_options *options, struct err *err) {
    struct device_options o = *options;
    o.max_rows = TRIAL_ROWS;
    int rc = s->ops->open(&s->device, &o, err);
    for (uint32_t i = 0; i < o.n_cards; i++)
        for (int a = 0; a < AREA_COUNT && !rc && o.present[i]; a++)
            rc = !s->bytes[a] ? 0
                              : s->ops->reserve(s->device, i, (enum area)a, s->bytes[a],
                                                s->bytes[a], -1, err);
    return rc;
}

/* Around 1, as the weights of a norm are. */
static int pack_vector(const struct side *s, uint32_t card, const struct matrix *m,
                       uint64_t *seed) {
    float values[TRIAL_COLS];
    for (uint32_t i = 0; i < m->cols; i++)
        values[i] = 1.0f + noise_next_float(seed) / 4;
    return s->ops->pack(s->device, card, m->offset, TENSOR_F32, true, 1, 0, 1, m->cols, 0, values,
                        m->cols * sizeof *values);
}

static int pack_matrix(const struct side *s, uint32_t card, const struct matrix *m,
                       uint64_t *seed) {
    const struct tensor_type_info *info = tensor_type_info(m->type);
    const uint64_t row_bytes = (uint64_t)m->cols / info->block_values * info->block_bytes;
    uint8_t *blocks = malloc(m->rows * row_bytes);
    if (!blocks)
        return -ENOMEM;
    noise_fill(seed, m->type, blocks, m->rows * row_bytes / info->block_bytes);
    const int rc = s->ops->pack(s->device, card, m->offset, m->type, false, m->rows, 0, m->rows,
                                m->cols, 0, blocks, row_bytes);
    free(blocks);
    return rc;
}

static int pack_all(const struct side *s, uint32_t k, uint32_t number) {
    const struct trial_program *p = &s->programs[k];
    uint64_t seed = NOISE_SEED + number + 1000 * k;
    int rc = s->ops->clear(s->device, s->cards[k], AREA_KV, 0, p->bytes[AREA_KV]);
    for (uint32_t i = 0; i < p->n_tensors && !rc; i++) {
        const struct trial_tensor *t = &p->tensors[i];
        rc = t->vector ? pack_vector(s, s->cards[k], &t->matrix, &seed)
                       : pack_matrix(s, s->cards[k], &t->matrix, &seed);
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

/* What was packed is proven by digests later, which a card takes by a kernel of its own. */
static int compare_digest(const struct side *s, uint32_t k, struct err *err) {
    const uint64_t all = s->programs[k].bytes[AREA_WEIGHTS];
    const uint64_t n = s->host_at && s->host_at < all ? s->host_at : all;
    uint8_t *bytes = malloc(n + 1);
    uint64_t digest = 0;
    if (!bytes)
        return err_set(err, -ENOMEM, "no memory for its weights");
    int rc = s->ops->digest(s->device, s->cards[k], AREA_WEIGHTS, 0, n, &digest);
    if (!rc)
        rc = s->ops->peek(s->device, s->cards[k], 0, bytes, n);
    if (rc)
        err_set(err, rc, "its weights cannot be read: %s", strerror(-rc));
    else if (digest != device_digest(bytes, n))
        rc = err_set(err, -EBADMSG, "the digest that it takes of its weights is not theirs");
    free(bytes);
    return rc;
}

int side_build(struct side *s, uint32_t number, struct err *err) {
    struct program programs[CARDS_MAX] = {{0}};
    int rc = 0;
    for (uint32_t i = 0; i < SIDE_RESULTS; i++)
        s->results[i] = NAN;
    for (uint32_t k = 0; k < s->n && !rc; k++) {
        programs[s->cards[k]] = (struct program){s->programs[k].ops, s->programs[k].n_ops};
        rc = pack_all(s, k, number);
    }
    if (rc)
        return err_set(err, rc, "its weights cannot be written: %s", strerror(-rc));
    for (uint32_t k = 0; k < s->n && !rc; k++)
        rc = compare_digest(s, k, err);
    if (rc)
        return rc;
    return s->ops->load(s->device, programs, err);
}

int side_run(struct side *s, struct err *err) {
    int rc = step(s, 0, TRIAL_ROWS, s->results);
    if (!rc)
        rc = step(s, TRIAL_ROWS, 1, s->results + TRIAL_ROWS * TRIAL_VOCAB);
    return rc ? err_set(err, rc, "a step failed: %s", strerror(-rc)) : 0;
}

/* Numbers, and not all of them zero: or nothing would be compared. */
static bool says_something(const float *results, double *largest) {
    *largest = 0;
    for (uint32_t i = 0; i < SIDE_RESULTS; i++) {
        if (!isfinite(results[i]))
            return false;
        *largest = fmax(*largest, fabs((double)results[i]));
    }
    return *largest > 0;
}

int side_compare(const struct side *tried, const struct side *reference,
                 struct selftest_kernel *made, struct err *err) {
    const float *results = tried->results, *want = reference->results;
    double largest, most = 0;
    if (!says_something(want, &largest))
        return err_set(err, -EDOM, "the cpu backend makes nothing to compare with");
    for (uint32_t i = 0; i < SIDE_RESULTS; i++) {
        const double by = fabs((double)results[i] - (double)want[i]);
        most = by <= most ? most : by; /* of what is no number, too */
    }
    made->difference = isfinite(most) ? most / largest : INFINITY;
    made->verdict =
        memcmp(results, want, sizeof(float) * SIDE_RESULTS) ? SELFTEST_DIFFERS : SELFTEST_SAME;
    return 0;
}
