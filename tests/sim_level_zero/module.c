/* SPDX-License-Identifier: Apache-2.0 */
/* Modules of SPIR-V, and their kernels. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim_level_zero/sim.h"

#define FLAGS_MAX 1024

/* What zeModuleGetNativeBinary gives out is the module itself behind this. */
static const char native_magic[8] = "simze\0\1";

/* Keeps what OpenCL knows too; false when there is a word that the specification does not have. */
static bool translate_flags(const char *given, char *out) {
    static const char *const known[] = {
        "-ze-opt-disable", "-ze-opt-greater-than-4GB-buffer-required",
        "-ze-opt-large-register-file", "-ze-opt-has-buffer-offset-arg", "-g"};
    char text[FLAGS_MAX];
    if (snprintf(text, sizeof text, "%s", given ? given : "") >= FLAGS_MAX)
        return false;
    *out = '\0';
    char *rest = NULL;
    for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        bool found = !strncmp(word, "-ze-opt-level", 13); /* levels are the implementation's */
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            found |= !strcmp(word, known[i]);
        if (!strncmp(word, "-cl-", 4)) {
            strcat(strcat(out, word), " ");
            found = true;
        }
        if (!found)
            return false;
    }
    return true;
}

static ze_result_t build(ze_module_handle_t module, const uint8_t *il, size_t size,
                         const char *flags, char **log) {
    char options[FLAGS_MAX + 1];
    const char *why = NULL;
    if (!translate_flags(flags, options)) {
        if (asprintf(log, "build flags are not known: %s", flags) < 0)
            *log = NULL;
        return ZE_RESULT_ERROR_MODULE_BUILD_FAILURE;
    }
    if (spirv_read(&module->spirv, il, size, &why)) {
        *log = strdup(why);
        return ZE_RESULT_ERROR_MODULE_BUILD_FAILURE;
    }
    if (sim.options.xmx != SIM_XMX_YES && sim_program_needs_matrix(il, size)) {
        *log = strdup("undefined reference to `intel_sub_group_i8_i8_matrix_mad_k32'");
        return ZE_RESULT_ERROR_MODULE_BUILD_FAILURE;
    }
    module->program = sim_program_build(il, size, options, log);
    return module->program ? ZE_RESULT_SUCCESS : ZE_RESULT_ERROR_MODULE_BUILD_FAILURE;
}

static ze_result_t make_log(char *text, ze_module_build_log_handle_t *out) {
    ze_module_build_log_handle_t made = sim_make(SIM_LOG, sizeof *made);
    if (!made)
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    made->text = text ? text : strdup("");
    *out = made;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeModuleCreate(ze_context_handle_t context, ze_device_handle_t card,
                                      const ze_module_desc_t *desc, ze_module_handle_t *out,
                                      ze_module_build_log_handle_t *out_log) {
    SIM_HANDLE(context, SIM_CONTEXT);
    SIM_HANDLE(card, SIM_CARD);
    SIM_POINTER(desc);
    SIM_POINTER(desc->pInputModule);
    SIM_POINTER(out);
    SIM_ENTER(card);
    if (desc->format > ZE_MODULE_FORMAT_NATIVE)
        return ZE_RESULT_ERROR_INVALID_ENUMERATION;
    if (!desc->inputSize)
        return ZE_RESULT_ERROR_INVALID_SIZE;
    const uint8_t *il = desc->pInputModule;
    size_t size = desc->inputSize;
    if (desc->format == ZE_MODULE_FORMAT_NATIVE) {
        if (sim.options.strange || size <= sizeof native_magic ||
            memcmp(il, native_magic, sizeof native_magic))
            return ZE_RESULT_ERROR_INVALID_NATIVE_BINARY;
        il += sizeof native_magic;
        size -= sizeof native_magic;
    }
    ze_module_handle_t made = sim_make(SIM_MODULE, sizeof *made);
    if (!made)
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    made->context = context;
    made->card = card;
    char *log = NULL;
    ze_result_t result = build(made, il, size, desc->pBuildFlags, &log);
    if (!out_log)
        free(log);
    else if (make_log(log, out_log) != ZE_RESULT_SUCCESS)
        result = ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    if (result == ZE_RESULT_SUCCESS)
        *out = made;
    else
        made->object.gone = true;
    return result;
}

ze_result_t ZE_APICALL zeModuleDestroy(ze_module_handle_t module) {
    SIM_HANDLE(module, SIM_MODULE);
    if (module->n_kernels)
        sim_misuse("a module is destroyed before its kernels");
    module->object.gone = true;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeModuleBuildLogGetString(ze_module_build_log_handle_t log, size_t *size,
                                                 char *text) {
    SIM_HANDLE(log, SIM_LOG);
    SIM_POINTER(size);
    const size_t all = strlen(log->text) + 1;
    if (!text) {
        *size = all;
        return ZE_RESULT_SUCCESS;
    }
    *size = *size < all ? *size : all;
    if (*size) {
        memcpy(text, log->text, *size);
        text[*size - 1] = '\0';
    }
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeModuleBuildLogDestroy(ze_module_build_log_handle_t log) {
    SIM_HANDLE(log, SIM_LOG);
    log->object.gone = true;
    free(log->text);
    log->text = NULL;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeModuleGetNativeBinary(ze_module_handle_t module, size_t *size,
                                               uint8_t *binary) {
    SIM_HANDLE(module, SIM_MODULE);
    SIM_POINTER(size);
    size_t n = 0;
    const uint8_t *il = sim_program_il(module->program, &n);
    if (binary && *size >= n + sizeof native_magic) {
        memcpy(binary, native_magic, sizeof native_magic);
        memcpy(binary + sizeof native_magic, il, n);
    }
    *size = n + sizeof native_magic;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeModuleGetKernelNames(ze_module_handle_t module, uint32_t *count,
                                              const char **names) {
    SIM_HANDLE(module, SIM_MODULE);
    SIM_POINTER(count);
    if (!*count || *count > module->spirv.n)
        *count = (uint32_t)module->spirv.n;
    for (uint32_t i = 0; names && i < *count; i++)
        names[i] = module->spirv.kernels[i].name;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeModuleGetProperties(ze_module_handle_t module,
                                             ze_module_properties_t *properties) {
    SIM_HANDLE(module, SIM_MODULE);
    SIM_POINTER(properties);
    properties->flags = 0;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeKernelCreate(ze_module_handle_t module, const ze_kernel_desc_t *desc,
                                      ze_kernel_handle_t *out) {
    SIM_HANDLE(module, SIM_MODULE);
    SIM_POINTER(desc);
    SIM_POINTER(desc->pKernelName);
    SIM_POINTER(out);
    SIM_ENTER(module->card);
    if (desc->flags > 3)
        return ZE_RESULT_ERROR_INVALID_ENUMERATION;
    const struct spirv_kernel *shape = spirv_find(&module->spirv, desc->pKernelName);
    struct _cl_kernel *kernel =
        shape ? sim_program_kernel(module->program, desc->pKernelName) : NULL;
    if (!kernel)
        return ZE_RESULT_ERROR_INVALID_KERNEL_NAME;
    ze_kernel_handle_t made = sim_make(SIM_KERNEL, sizeof *made);
    if (!made)
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    made->module = module;
    made->shape = shape;
    made->kernel = kernel;
    made->explicit_residency = desc->flags & ZE_KERNEL_FLAG_EXPLICIT_RESIDENCY;
    memcpy(made->group, shape->group, sizeof made->group);
    module->n_kernels++;
    *out = made;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeKernelDestroy(ze_kernel_handle_t kernel) {
    SIM_HANDLE(kernel, SIM_KERNEL);
    kernel->object.gone = true;
    kernel->module->n_kernels--;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeKernelSetGroupSize(ze_kernel_handle_t kernel, uint32_t x, uint32_t y,
                                            uint32_t z) {
    SIM_HANDLE(kernel, SIM_KERNEL);
    SIM_ENTER(kernel->module->card);
    const uint32_t group[3] = {x, y, z};
    const uint32_t *required = kernel->shape->group;
    if (!x || !y || !z || (uint64_t)x * y > SIM_GROUP_MAX || (uint64_t)x * y * z > SIM_GROUP_MAX)
        return ZE_RESULT_ERROR_INVALID_GROUP_SIZE_DIMENSION;
    if (required[0] && memcmp(required, group, sizeof group))
        return ZE_RESULT_ERROR_INVALID_GROUP_SIZE_DIMENSION;
    memcpy(kernel->group, group, sizeof group);
    return ZE_RESULT_SUCCESS;
}

/* The largest power of two that divides the width, in the first dimension only. */
ze_result_t ZE_APICALL zeKernelSuggestGroupSize(ze_kernel_handle_t kernel, uint32_t x, uint32_t y,
                                                uint32_t z, uint32_t *group_x, uint32_t *group_y,
                                                uint32_t *group_z) {
    SIM_HANDLE(kernel, SIM_KERNEL);
    SIM_POINTER(group_x);
    SIM_POINTER(group_y);
    SIM_POINTER(group_z);
    if (!x || !y || !z)
        return ZE_RESULT_ERROR_INVALID_GLOBAL_WIDTH_DIMENSION;
    const uint32_t *required = kernel->shape->group;
    const uint32_t power = x & -x;
    *group_x = required[0] ? required[0] : power < 256 ? power : 256;
    *group_y = required[0] ? required[1] : 1;
    *group_z = required[0] ? required[2] : 1;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeKernelSetArgumentValue(ze_kernel_handle_t kernel, uint32_t index,
                                                size_t size, const void *value) {
    SIM_HANDLE(kernel, SIM_KERNEL);
    SIM_ENTER(kernel->module->card);
    if (index >= kernel->shape->n_args)
        return ZE_RESULT_ERROR_INVALID_KERNEL_ARGUMENT_INDEX;
    pthread_mutex_lock(&sim.lock);
    const bool kept = sim_control_count(&sim.control.keep_in[kernel->module->card->number]);
    pthread_mutex_unlock(&sim.lock);
    kernel->set[index] |= kept;
    if (kept)
        return ZE_RESULT_SUCCESS;
    const struct spirv_arg *arg = &kernel->shape->args[index];
    if (arg->kind == SPIRV_LOCAL ? !size || size > SIM_LOCAL_BYTES || value : size != arg->size)
        return ZE_RESULT_ERROR_INVALID_KERNEL_ARGUMENT_SIZE;
    if (arg->kind == SPIRV_LOCAL)
        kernel->local_bytes[index] = size;
    else if (value)
        memcpy(kernel->args + arg->at, value, size);
    else
        memset(kernel->args + arg->at, 0, size);
    kernel->set[index] = true;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeKernelSetIndirectAccess(ze_kernel_handle_t kernel,
                                                 ze_kernel_indirect_access_flags_t flags) {
    SIM_HANDLE(kernel, SIM_KERNEL);
    if (flags > 7)
        return ZE_RESULT_ERROR_INVALID_ENUMERATION;
    kernel->indirect = flags;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeKernelGetIndirectAccess(ze_kernel_handle_t kernel,
                                                 ze_kernel_indirect_access_flags_t *flags) {
    SIM_HANDLE(kernel, SIM_KERNEL);
    SIM_POINTER(flags);
    *flags = kernel->indirect;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeKernelGetProperties(ze_kernel_handle_t kernel,
                                             ze_kernel_properties_t *properties) {
    SIM_HANDLE(kernel, SIM_KERNEL);
    SIM_POINTER(properties);
    const struct spirv_kernel *shape = kernel->shape;
    const uint32_t sub_group = shape->sub_group ? shape->sub_group : 16;
    *properties = (ze_kernel_properties_t){.stype = properties->stype,
                                           .pNext = properties->pNext,
                                           .numKernelArgs = shape->n_args,
                                           .requiredGroupSizeX = shape->group[0],
                                           .requiredGroupSizeY = shape->group[1],
                                           .requiredGroupSizeZ = shape->group[2],
                                           .requiredSubgroupSize = shape->sub_group,
                                           .maxSubgroupSize = sub_group,
                                           .maxNumSubgroups = SIM_GROUP_MAX / sub_group};
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeKernelGetName(ze_kernel_handle_t kernel, size_t *size, char *name) {
    SIM_HANDLE(kernel, SIM_KERNEL);
    SIM_POINTER(size);
    const size_t all = strlen(kernel->shape->name) + 1;
    if (name && *size >= all)
        memcpy(name, kernel->shape->name, all);
    *size = all;
    return ZE_RESULT_SUCCESS;
}
