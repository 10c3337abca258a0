/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/level_zero/modules.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/device/level_zero/images.h"
#include "daemon/device/level_zero/kernels/shared.h"
#include "octarc/error.h"

/* Addresses are whole, not offsets into a buffer of at most 4 GiB. */
#define BUILD_FLAGS "-ze-opt-greater-than-4GB-buffer-required"
#define LOG_SHOWN   200

/* In which module, as which of its kernels; `by_type`: of the first type. */
static const struct {
    const char *name;
    uint32_t module, place;
    bool by_type;
} kernels[] = {
    [KERNEL_NORM] = {"norm", IMAGE_ROWS, 0, false},
    [KERNEL_ADD_NORM] = {"add_norm", IMAGE_ROWS, 1, false},
    [KERNEL_COMBINE] = {"combine", IMAGE_ROWS, 2, false},
    [KERNEL_ROPE_STORE] = {"rope_store", IMAGE_ROWS, 3, false},
    [KERNEL_GATE_APART] = {"gate_apart", IMAGE_ROWS, 4, false},
    [KERNEL_ATTENTION] = {"attention", IMAGE_ATTENTION, 0, false},
    [KERNEL_EXCHANGE] = {"exchange", IMAGE_EXCHANGE, 0, false},
    [KERNEL_EXCHANGE_KV] = {"exchange", IMAGE_EXCHANGE, 2, false},
    [KERNEL_CARRY] = {"carry", IMAGE_EXCHANGE, 1, false},
    [KERNEL_ROUTE] = {"route", IMAGE_ROUTES, 0, false},
    [KERNEL_DISPATCH] = {"dispatch", IMAGE_ROUTES, 1, false},
    [KERNEL_SWEEP] = {"sweep", IMAGE_MEASURE, 0, false},
    [KERNEL_MULTIPLY] = {"multiply", IMAGE_MEASURE, 1, false},
    [KERNEL_MULTIPLY_XMX] = {"multiply_xmx", IMAGE_MEASURE_XMX, 0, false},
    [KERNEL_DIGEST] = {"digest", IMAGE_DIGEST, 0, false},
    [KERNEL_MATMUL] = {"matmul", IMAGE_MATRICES, 0, true},
    [KERNEL_LANES] = {"lanes", IMAGE_MATRICES, 1, true},
    [KERNEL_GATE_UP] = {"gate_up", IMAGE_MATRICES, 2, true},
    [KERNEL_EMBED] = {"embed", IMAGE_MATRICES, 3, true},
    [KERNEL_EXPERT_MATMUL] = {"expert_matmul", IMAGE_EXPERTS, 0, true},
    [KERNEL_EXPERT_GATE_UP] = {"expert_gate_up", IMAGE_EXPERTS, 1, true},
    [KERNEL_EXPERT_SUM] = {"expert_sum", IMAGE_EXPERTS, 2, true},
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
        if (text[0])
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

static int build(struct device *d, uint32_t card, uint32_t at, ze_module_format_t format,
                 struct err *err) {
    const struct image image =
        format == ZE_MODULE_FORMAT_NATIVE ? images_native(at) : images_spirv(at);
    const ze_module_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_MODULE_DESC,
                                   .format = format,
                                   .inputSize = (size_t)(image.end - image.begin),
                                   .pInputModule = image.begin,
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

/* What a driver may say of what it is given, not of its card. */
static bool refused(int rc) {
    return rc == -EIO || rc == -ENOTSUP || rc == -EINVAL;
}

/* An image that the driver refuses, for it was made for another card or by a compiler that it does
 * not know, is built out of its SPIR-V, and so is what comes after it. */
static int build_any(struct device *d, uint32_t card, uint32_t at, struct err *err) {
    struct ze_card *c = &d->cards[card];
    struct err why = {0};
    if (!c->native)
        return build(d, card, at, ZE_MODULE_FORMAT_IL_SPIRV, err);
    const int rc = build(d, card, at, ZE_MODULE_FORMAT_NATIVE, &why);
    if (!refused(rc))
        return rc ? err_set(err, rc, "%s", why.text) : 0;
    c->native = false;
    snprintf(c->native_why, sizeof c->native_why, "the driver refuses octarc's images: %.*s",
             (int)sizeof c->native_why / 2, why.text);
    return build(d, card, at, ZE_MODULE_FORMAT_IL_SPIRV, err);
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
    int rc = m->module ? 0 : build_any(d, card, at, err);
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
    if (!refused(rc))
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
    while (kernels[name].by_type && i < images_types() && images_type(i) != type)
        i++;
    if (i == images_types())
        return err_set(err, -ENOTSUP, "there are no kernels for tensors of type %u", type);
    if (!c->modules)
        c->modules = calloc(images_count(), sizeof *c->modules);
    if (!c->modules)
        return err_set(err, -ENOMEM, "no memory for the kernels of card %u", card);
    if (kernels[name].by_type && c->xmx && i >= IMAGE_FLOATS) {
        const uint32_t at = kernels[name].module + 2 * (images_types() + i - IMAGE_FLOATS);
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
    for (size_t i = 0; modules && i < images_count(); i++) {
        for (int k = 0; k < MODULE_KERNELS; k++)
            if (modules[i].kernels[k].handle)
                d->api->zeKernelDestroy(modules[i].kernels[k].handle);
        if (modules[i].module)
            d->api->zeModuleDestroy(modules[i].module);
    }
    free(modules);
    d->cards[card].modules = NULL;
}
