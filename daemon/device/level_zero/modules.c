/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/level_zero/modules.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/device/level_zero/kernels/shared.h"
#include "octarc/error.h"

/* Addresses are whole, not offsets into a buffer of at most 4 GiB. */
#define BUILD_FLAGS "-ze-opt-greater-than-4GB-buffer-required"
#define LOG_SHOWN   200

/* Of quantised types there are two modules each, and two more for cards with a matrix engine. */
#define FLOATS(m) m(TENSOR_F32, 0) m(TENSOR_F16, 1) m(TENSOR_BF16, 30)
#define QUANTS(m)                                                                                  \
    m(TENSOR_Q4_0, 2) m(TENSOR_Q4_1, 3) m(TENSOR_Q5_0, 6) m(TENSOR_Q5_1, 7) m(TENSOR_Q8_0, 8)      \
        m(TENSOR_Q2_K, 10) m(TENSOR_Q3_K, 11) m(TENSOR_Q4_K, 12) m(TENSOR_Q5_K, 13)                \
            m(TENSOR_Q6_K, 14) m(TENSOR_IQ4_NL, 20) m(TENSOR_IQ4_XS, 23) m(TENSOR_MXFP4, 39)

#define DECLARE(name) extern const uint8_t ze_spirv_##name[], ze_spirv_##name##_end[];
#define DECLARE_MATMUL(type, number)                                                               \
    DECLARE(matmul_##number)                                                                       \
    DECLARE(expert_##number)                                                                       \
    _Static_assert((type) == (number), "binaries.S has the numbers of the file");
#define DECLARE_XMX(type, number)                                                                  \
    DECLARE(matmul_xmx_##number)                                                                   \
    DECLARE(expert_xmx_##number)
DECLARE(rows)
DECLARE(attention)
DECLARE(exchange)
DECLARE(routes)
DECLARE(measure)
DECLARE(measure_xmx)
FLOATS(DECLARE_MATMUL)
QUANTS(DECLARE_MATMUL)
QUANTS(DECLARE_XMX)

static const struct {
    const uint8_t *begin, *end;
} binaries[] = {{ze_spirv_rows, ze_spirv_rows_end},
                {ze_spirv_attention, ze_spirv_attention_end},
                {ze_spirv_exchange, ze_spirv_exchange_end},
                {ze_spirv_routes, ze_spirv_routes_end},
                {ze_spirv_measure, ze_spirv_measure_end},
                {ze_spirv_measure_xmx, ze_spirv_measure_xmx_end},
#define BINARIES(type, number)                                                                     \
    {ze_spirv_matmul_##number, ze_spirv_matmul_##number##_end},                                    \
        {ze_spirv_expert_##number, ze_spirv_expert_##number##_end},
                FLOATS(BINARIES) QUANTS(BINARIES)
#undef BINARIES
#define BINARIES(type, number)                                                                     \
    {ze_spirv_matmul_xmx_##number, ze_spirv_matmul_xmx_##number##_end},                            \
        {ze_spirv_expert_xmx_##number, ze_spirv_expert_xmx_##number##_end},
                    QUANTS(BINARIES)
#undef BINARIES
};
#define N_MODULES (sizeof binaries / sizeof *binaries)

static const uint32_t types[] = {
#define MATMUL_TYPE(type, number) type,
    FLOATS(MATMUL_TYPE) QUANTS(MATMUL_TYPE)
#undef MATMUL_TYPE
};
#define N_TYPES  (sizeof types / sizeof *types)
#define N_FLOATS 3u /* they are the first */

/* In which module, as which of its kernels; `by_type`: of the first type, and each type has two,
 * behind which are those with the matrix engine of each quantised one. */
static const struct {
    const char *name;
    uint32_t module, place;
    bool by_type;
} kernels[] = {
    [KERNEL_NORM] = {"norm", 0, 0, false},
    [KERNEL_ADD_NORM] = {"add_norm", 0, 1, false},
    [KERNEL_COMBINE] = {"combine", 0, 2, false},
    [KERNEL_ROPE_STORE] = {"rope_store", 0, 3, false},
    [KERNEL_GATE_APART] = {"gate_apart", 0, 4, false},
    [KERNEL_ATTENTION] = {"attention", 1, 0, false},
    [KERNEL_EXCHANGE] = {"exchange", 2, 0, false},
    [KERNEL_EXCHANGE_KV] = {"exchange", 2, 2, false},
    [KERNEL_CARRY] = {"carry", 2, 1, false},
    [KERNEL_ROUTE] = {"route", 3, 0, false},
    [KERNEL_DISPATCH] = {"dispatch", 3, 1, false},
    [KERNEL_SWEEP] = {"sweep", 4, 0, false},
    [KERNEL_MULTIPLY] = {"multiply", 4, 1, false},
    [KERNEL_MULTIPLY_XMX] = {"multiply_xmx", 5, 0, false},
    [KERNEL_MATMUL] = {"matmul", 6, 0, true},
    [KERNEL_LANES] = {"lanes", 6, 1, true},
    [KERNEL_GATE_UP] = {"gate_up", 6, 2, true},
    [KERNEL_EMBED] = {"embed", 6, 3, true},
    [KERNEL_EXPERT_MATMUL] = {"expert_matmul", 7, 0, true},
    [KERNEL_EXPERT_GATE_UP] = {"expert_gate_up", 7, 1, true},
    [KERNEL_EXPERT_SUM] = {"expert_sum", 7, 2, true},
};

static int build_log(struct device *d, ze_module_build_log_handle_t log, int rc, struct err *err) {
    char text[LOG_SHOWN + 1] = "";
    size_t n = 0;
    if (d->api->zeModuleBuildLogGetString(log, &n, NULL) || n == 0)
        return rc;
    char *all = calloc(1, n + 1);
    if (all && !d->api->zeModuleBuildLogGetString(log, &n, all)) {
        for (size_t i = 0; i < LOG_SHOWN && all[i]; i++)
            text[i] = all[i] < ' ' ? ' ' : all[i];
        rc = err_set(err, rc, "the card's driver cannot build octarc's kernels: %s", text);
    }
    free(all);
    return rc;
}

/* It may take a driver many seconds, in which the card does nothing. */
static void building(struct device *d, uint32_t card, bool begins) {
    if (!d->calls)
        return;
    atomic_fetch_add(&d->calls->builds, begins ? 1 : -1);
    if (begins)
        level_zero_waits(d, card);
    else
        level_zero_waited(d, card);
}

static int build(struct device *d, uint32_t card, uint32_t at, struct err *err) {
    const ze_module_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_MODULE_DESC,
                                   .format = ZE_MODULE_FORMAT_IL_SPIRV,
                                   .inputSize = (size_t)(binaries[at].end - binaries[at].begin),
                                   .pInputModule = binaries[at].begin,
                                   .pBuildFlags = BUILD_FLAGS};
    ze_module_build_log_handle_t log = NULL;
    building(d, card, true);
    int rc = ze_failed(d->api->zeModuleCreate(d->context, d->cards[card].handle, &desc,
                                              &d->cards[card].modules[at].module, &log),
                       "zeModuleCreate", err);
    building(d, card, false);
    if (rc && log)
        rc = build_log(d, log, rc, err);
    if (log)
        d->api->zeModuleBuildLogDestroy(log);
    return rc;
}

/* Kernels find memory by the addresses in their descriptions, too. */
static int make_kernel(struct device *d, ze_module_handle_t module, const char *name,
                       ze_kernel_handle_t *out, struct err *err) {
    const ze_kernel_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_KERNEL_DESC, .pKernelName = name};
    ze_kernel_handle_t kernel;
    int rc = ze_failed(d->api->zeKernelCreate(module, &desc, &kernel), name, err);
    if (rc)
        return rc;
    rc = ze_failed(d->api->zeKernelSetGroupSize(kernel, SUB_GROUP, 1, 1), "zeKernelSetGroupSize",
                   err);
    if (!rc)
        rc = ze_failed(
            d->api->zeKernelSetIndirectAccess(kernel, ZE_KERNEL_INDIRECT_ACCESS_FLAG_DEVICE),
            "zeKernelSetIndirectAccess", err);
    if (rc)
        d->api->zeKernelDestroy(kernel);
    else
        *out = kernel;
    return rc;
}

static int find_kernel(struct device *d, uint32_t card, enum kernel_name name, uint32_t at,
                       struct ze_kernel **kernel, struct err *err) {
    struct ze_module *m = &d->cards[card].modules[at];
    int rc = m->module ? 0 : build(d, card, at, err);
    struct ze_kernel *made = &m->kernels[kernels[name].place];
    if (!rc && !made->handle)
        rc = make_kernel(d, m->module, kernels[name].name, &made->handle, err);
    if (!rc)
        *kernel = made;
    return rc;
}

/* A driver that has the matrix engine in its properties only: the card does without from here on.
 * What was made before is right all the same. */
static int without_matrix(struct device *d, uint32_t card, int rc, const struct err *why) {
    if (rc != -EIO && rc != -ENOTSUP && rc != -EINVAL)
        return rc;
    d->cards[card].xmx = false;
    snprintf(d->cards[card].xmx_why, sizeof d->cards[card].xmx_why, "%.*s",
             (int)sizeof d->cards[card].xmx_why - 1, why->text);
    return 0;
}

int modules_kernel(struct device *d, uint32_t card, enum kernel_name name, uint32_t type,
                   struct ze_kernel **kernel, struct err *err) {
    struct ze_card *c = &d->cards[card];
    uint32_t i = 0;
    while (kernels[name].by_type && i < N_TYPES && types[i] != type)
        i++;
    if (i == N_TYPES)
        return err_set(err, -ENOTSUP, "there are no kernels for tensors of type %u", type);
    if (!c->modules)
        c->modules = calloc(N_MODULES, sizeof *c->modules);
    if (!c->modules)
        return err_set(err, -ENOMEM, "no memory for the kernels of card %u", card);
    if (kernels[name].by_type && c->xmx && i >= N_FLOATS) {
        const uint32_t at = kernels[name].module + 2 * (N_TYPES + i - N_FLOATS);
        struct err why = {0};
        const int rc = find_kernel(d, card, name, at, kernel, &why);
        if (!rc)
            return 0;
        if (without_matrix(d, card, rc, &why))
            return err_set(err, rc, "%s", why.text);
    }
    return find_kernel(d, card, name, kernels[name].module + 2 * i, kernel, err);
}

ze_result_t modules_give(const struct device *d, struct ze_kernel *k, uint32_t argument,
                         const void *pointer) {
    if (k->as_of != d->n_freed)
        k->set = 0;
    k->as_of = d->n_freed;
    if (k->set >> argument & 1 && k->given[argument] == pointer)
        return ZE_RESULT_SUCCESS;
    const ze_result_t result =
        d->api->zeKernelSetArgumentValue(k->handle, argument, sizeof pointer, &pointer);
    k->given[argument] = pointer;
    k->set = result ? k->set & ~(1u << argument) : k->set | 1u << argument;
    return result;
}

void modules_free(struct device *d, uint32_t card) {
    struct ze_module *modules = d->cards[card].modules;
    for (size_t i = 0; modules && i < N_MODULES; i++) {
        for (int k = 0; k < MODULE_KERNELS; k++)
            if (modules[i].kernels[k].handle)
                d->api->zeKernelDestroy(modules[i].kernels[k].handle);
        if (modules[i].module)
            d->api->zeModuleDestroy(modules[i].module);
    }
    free(modules);
    d->cards[card].modules = NULL;
}
