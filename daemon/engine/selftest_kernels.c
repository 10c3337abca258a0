/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_kernels.c - the same small programs on two backends, and what each of them makes. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/device/noise.h"
#include "daemon/engine/selftest_side.h"
#include "octarc/error.h"

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

/* What is fetched lies behind all that is not. */
static void make_room(struct side *s) {
    for (uint32_t i = 0; i < selftest_kernels_count(); i++) {
        const struct trial_layer layer = layer_of(i, LANDING_BLOCK); /* wherever that is */
        trial_program_make(&s->programs[0], s->ops, &layer);
        side_make_room(s);
    }
    s->host_at = (s->bytes[AREA_WEIGHTS] + LANDING_BLOCK - 1) / LANDING_BLOCK * LANDING_BLOCK;
    s->bytes[AREA_WEIGHTS] = s->host_at + s->bytes[AREA_LANDING];
}

static int open_side(struct side *s, const struct device_options *options, struct err *err) {
    struct device_options o = *options;
    s->n = 1;
    make_room(s);
    o.host_bytes[0] = s->bytes[AREA_LANDING];
    return side_open(s, &o, err);
}

static int build(struct side *s, uint32_t number, struct err *err) {
    const struct trial_layer layer = layer_of(number, s->host_at);
    trial_program_make(&s->programs[0], s->ops, &layer);
    return side_build(s, number, err);
}

static int try_kernel(struct side *tried, struct side *reference, uint32_t i,
                      const struct selftest_ears *ears, struct selftest_kernel *made,
                      struct err *err) {
    char name[32];
    struct err why = {{0}};
    ears->begun(ears->user, i, false);
    int rc = build(reference, i, &why);
    if (!rc)
        rc = side_run(reference, &why);
    if (!rc)
        rc = build(tried, i, &why);
    ears->begun(ears->user, i, true);
    if (!rc)
        rc = side_run(tried, &why);
    if (!rc)
        rc = side_compare(tried, reference, made, &why);
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
