/* SPDX-License-Identifier: Apache-2.0 */
/* idle_cards.c - the calls of idle_loader.c's cards that do or tell something. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <level_zero/ze_api.h>

#include "daemon/device/level_zero/kernels/shared.h"

#define CARDS     8u
#define ARGUMENTS 16u
#define COUNT     idle_count(__func__)

void idle_count(const char *name);

struct kernel {
    char name[32];
    uint64_t arguments[ARGUMENTS];
};

/* A copy; or the launch of so many descriptions, with a step, or of so many groups, with a digest.
 */
struct command {
    void *to;
    const void *from;
    size_t size;
    const struct ze_step *step;
    struct ze_digest *digest;
};

struct list {
    bool immediate;
    struct command *commands; /* owned; of one that is no immediate one */
    size_t n, room;
};

static char driver, cards[CARDS], object;

ze_result_t zeDriverGet(uint32_t *count, ze_driver_handle_t *out) {
    COUNT;
    *count = 1;
    if (out)
        out[0] = (ze_driver_handle_t)&driver;
    return ZE_RESULT_SUCCESS;
}
ze_result_t zeDeviceGet(ze_driver_handle_t of, uint32_t *count, ze_device_handle_t *out) {
    (void)of, COUNT;
    *count = CARDS;
    for (uint32_t i = 0; out && i < CARDS; i++)
        out[i] = (ze_device_handle_t)&cards[i];
    return ZE_RESULT_SUCCESS;
}
ze_result_t zeDeviceGetProperties(ze_device_handle_t of, ze_device_properties_t *out) {
    (void)of, COUNT;
    out->type = ZE_DEVICE_TYPE_GPU;
    out->flags = 0;
    snprintf(out->name, sizeof out->name, "idle");
    return ZE_RESULT_SUCCESS;
}
ze_result_t zeDeviceGetMemoryProperties(ze_device_handle_t of, uint32_t *count,
                                        ze_device_memory_properties_t *out) {
    (void)of, COUNT;
    *count = 1;
    if (out)
        out[0].totalSize = UINT64_C(1) << 30;
    return ZE_RESULT_SUCCESS;
}
ze_result_t zeDeviceGetCommandQueueGroupProperties(ze_device_handle_t of, uint32_t *count,
                                                   ze_command_queue_group_properties_t *out) {
    (void)of, COUNT;
    *count = 1;
    if (out) {
        out[0].flags = ZE_COMMAND_QUEUE_GROUP_PROPERTY_FLAG_COMPUTE |
                       ZE_COMMAND_QUEUE_GROUP_PROPERTY_FLAG_COPY;
        out[0].numQueues = 1;
    }
    return ZE_RESULT_SUCCESS;
}
ze_result_t zeDeviceGetModuleProperties(ze_device_handle_t of, ze_device_module_properties_t *out) {
    (void)of, COUNT;
    out->flags = ZE_DEVICE_MODULE_FLAG_FP64 | ZE_DEVICE_MODULE_FLAG_FP16;
    return ZE_RESULT_SUCCESS;
}
ze_result_t zeDeviceGetComputeProperties(ze_device_handle_t of,
                                         ze_device_compute_properties_t *out) {
    (void)of, COUNT;
    out->numSubGroupSizes = 1;
    out->subGroupSizes[0] = 16;
    return ZE_RESULT_SUCCESS;
}
ze_result_t zeDevicePciGetPropertiesExt(ze_device_handle_t of, ze_pci_ext_properties_t *out) {
    COUNT;
    out->address = (ze_pci_address_ext_t){.bus = 3 + (uint32_t)((char *)of - cards)};
    return ZE_RESULT_SUCCESS;
}
ze_result_t zeDeviceCanAccessPeer(ze_device_handle_t of, ze_device_handle_t peer, ze_bool_t *out) {
    (void)of, (void)peer, COUNT;
    *out = 1;
    return ZE_RESULT_SUCCESS;
}

static ze_result_t allocate(size_t size, void **out) {
    COUNT;
    *out = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
    return *out ? ZE_RESULT_SUCCESS : ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
}
ze_result_t zeMemAllocDevice(ze_context_handle_t in, const ze_device_mem_alloc_desc_t *desc,
                             size_t size, size_t alignment, ze_device_handle_t on, void **out) {
    (void)in, (void)desc, (void)alignment, (void)on;
    return allocate(size, out);
}
ze_result_t zeMemAllocHost(ze_context_handle_t in, const ze_host_mem_alloc_desc_t *desc,
                           size_t size, size_t alignment, void **out) {
    (void)in, (void)desc, (void)alignment;
    return allocate(size, out);
}
ze_result_t zeMemFree(ze_context_handle_t in, void *at) {
    (void)in, COUNT;
    free(at);
    return ZE_RESULT_SUCCESS;
}

/* ---- objects: only kernels and lists are told apart ---- */

#define MADE(out) (COUNT, *(out) = (void *)&object, ZE_RESULT_SUCCESS)

ze_result_t zeContextCreateEx(ze_driver_handle_t of, const ze_context_desc_t *desc, uint32_t n,
                              ze_device_handle_t *on, ze_context_handle_t *out) {
    (void)of, (void)desc, (void)n, (void)on;
    return MADE(out);
}
ze_result_t zeModuleCreate(ze_context_handle_t in, ze_device_handle_t on,
                           const ze_module_desc_t *desc, ze_module_handle_t *out,
                           ze_module_build_log_handle_t *log) {
    (void)in, (void)on, (void)desc;
    if (log)
        *log = NULL;
    return MADE(out);
}
static ze_result_t make_list(bool immediate, ze_command_list_handle_t *out) {
    struct list *made = calloc(1, sizeof *made);
    if (!made)
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    made->immediate = immediate;
    *out = (ze_command_list_handle_t)made;
    return ZE_RESULT_SUCCESS;
}
ze_result_t zeCommandListCreateImmediate(ze_context_handle_t in, ze_device_handle_t on,
                                         const ze_command_queue_desc_t *desc,
                                         ze_command_list_handle_t *out) {
    (void)in, (void)on, (void)desc, COUNT;
    return make_list(true, out);
}
ze_result_t zeCommandListCreate(ze_context_handle_t in, ze_device_handle_t on,
                                const ze_command_list_desc_t *desc, ze_command_list_handle_t *out) {
    (void)in, (void)on, (void)desc, COUNT;
    return make_list(false, out);
}
ze_result_t zeCommandListReset(ze_command_list_handle_t list) {
    COUNT;
    ((struct list *)list)->n = 0;
    return ZE_RESULT_SUCCESS;
}
ze_result_t zeCommandListDestroy(ze_command_list_handle_t list) {
    COUNT;
    free(((struct list *)list)->commands);
    free(list);
    return ZE_RESULT_SUCCESS;
}
ze_result_t zeCommandQueueCreate(ze_context_handle_t in, ze_device_handle_t on,
                                 const ze_command_queue_desc_t *desc,
                                 ze_command_queue_handle_t *out) {
    (void)in, (void)on, (void)desc;
    return MADE(out);
}
ze_result_t zeEventPoolCreate(ze_context_handle_t in, const ze_event_pool_desc_t *desc, uint32_t n,
                              ze_device_handle_t *on, ze_event_pool_handle_t *out) {
    (void)in, (void)desc, (void)n, (void)on;
    return MADE(out);
}
ze_result_t zeEventCreate(ze_event_pool_handle_t in, const ze_event_desc_t *desc,
                          ze_event_handle_t *out) {
    (void)in, (void)desc;
    return MADE(out);
}
ze_result_t zeKernelCreate(ze_module_handle_t of, const ze_kernel_desc_t *desc,
                           ze_kernel_handle_t *out) {
    struct kernel *made = calloc(1, sizeof *made);
    (void)of, COUNT;
    if (!made)
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    snprintf(made->name, sizeof made->name, "%s", desc->pKernelName);
    *out = (ze_kernel_handle_t)made;
    return ZE_RESULT_SUCCESS;
}
ze_result_t zeKernelDestroy(ze_kernel_handle_t kernel) {
    COUNT;
    free(kernel);
    return ZE_RESULT_SUCCESS;
}
ze_result_t zeKernelSetArgumentValue(ze_kernel_handle_t kernel, uint32_t index, size_t size,
                                     const void *value) {
    struct kernel *k = (struct kernel *)kernel;
    COUNT;
    if (index < ARGUMENTS && value && size <= sizeof *k->arguments) {
        k->arguments[index] = 0;
        memcpy(&k->arguments[index], value, size);
    }
    return ZE_RESULT_SUCCESS;
}

/* ---- what is appended ---- */

/* Of a launch only that it says that it was made. */
static void work(const struct command *c) {
    if (c->digest) {
        struct ze_digested *found = (struct ze_digested *)(c->digest + 1);
        for (size_t i = 0; i < c->size; i++)
            found[i].number = c->digest->number;
        return;
    }
    if (!c->step) {
        memcpy(c->to, c->from, c->size);
        return;
    }
    for (size_t i = 0; i < c->size; i++) {
        const char *of = (const char *)c->from + i * sizeof(struct ze_exchange);
        uint64_t number;
        memcpy(&number, of, sizeof number);
        ((uint32_t *)(uintptr_t)c->step->receipts)[number] = c->step->id;
    }
}

static ze_result_t append(ze_command_list_handle_t list, const struct command *command) {
    struct list *l = (struct list *)list;
    if (l->immediate) {
        work(command);
        return ZE_RESULT_SUCCESS;
    }
    if (l->n == l->room) {
        const size_t more = l->room ? 2 * l->room : 64;
        struct command *grown = realloc(l->commands, more * sizeof *grown);
        if (!grown)
            return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
        l->commands = grown;
        l->room = more;
    }
    l->commands[l->n++] = *command;
    return ZE_RESULT_SUCCESS;
}

ze_result_t zeCommandQueueExecuteCommandLists(ze_command_queue_handle_t on, uint32_t n,
                                              ze_command_list_handle_t *lists,
                                              ze_fence_handle_t fence) {
    (void)on, (void)fence, COUNT;
    for (uint32_t i = 0; i < n; i++) {
        const struct list *l = (const struct list *)lists[i];
        for (size_t k = 0; k < l->n; k++)
            work(&l->commands[k]);
    }
    return ZE_RESULT_SUCCESS;
}

ze_result_t zeCommandListAppendMemoryCopy(ze_command_list_handle_t to, void *out, const void *in,
                                          size_t size, ze_event_handle_t signal, uint32_t n,
                                          ze_event_handle_t *after) {
    (void)signal, (void)n, (void)after, COUNT;
    return append(to, &(struct command){.to = out, .from = in, .size = size});
}
ze_result_t zeCommandListAppendMemoryFill(ze_command_list_handle_t to, void *out,
                                          const void *pattern, size_t length, size_t size,
                                          ze_event_handle_t signal, uint32_t n,
                                          ze_event_handle_t *after) {
    (void)to, (void)length, (void)signal, (void)n, (void)after, COUNT;
    memset(out, *(const unsigned char *)pattern, size);
    return ZE_RESULT_SUCCESS;
}
ze_result_t zeCommandListAppendLaunchKernel(ze_command_list_handle_t to, ze_kernel_handle_t kernel,
                                            const ze_group_count_t *groups,
                                            ze_event_handle_t signal, uint32_t n,
                                            ze_event_handle_t *after) {
    const struct kernel *k = (const struct kernel *)kernel;
    (void)signal, (void)n, (void)after, COUNT;
    struct command c = {.from = (const void *)(uintptr_t)k->arguments[0],
                        .size = groups->groupCountZ,
                        .step = (const struct ze_step *)(uintptr_t)k->arguments[1]};
    if (!strcmp(k->name, "carry"))
        c = (struct command){.to = (void *)(uintptr_t)k->arguments[1],
                             .from = c.from,
                             .size = (uint32_t)k->arguments[2] * sizeof(uint32_t)};
    if (!strcmp(k->name, "digest"))
        c = (struct command){.digest = (struct ze_digest *)(uintptr_t)k->arguments[0],
                             .size = groups->groupCountX};
    return append(to, &c);
}
