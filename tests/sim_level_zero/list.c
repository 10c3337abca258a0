/* SPDX-License-Identifier: Apache-2.0 */
/* Command lists: what is appended is written down, or submitted at once where the list is an
 * immediate one. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim_level_zero/sim.h"

#define FLAG_IN_ORDER_LIST 8u /* since 1.7 */

static ze_result_t make_list(ze_context_handle_t context, ze_device_handle_t card, uint32_t ordinal,
                             ze_command_list_handle_t *out) {
    if (ordinal > SIM_COPY_ORDINAL)
        return ZE_RESULT_ERROR_INVALID_ARGUMENT;
    ze_command_list_handle_t made = sim_make(SIM_LIST, sizeof *made);
    if (!made)
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    made->context = context;
    made->card = card;
    made->ordinal = ordinal;
    *out = made;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeCommandListCreate(ze_context_handle_t context, ze_device_handle_t card,
                                           const ze_command_list_desc_t *desc,
                                           ze_command_list_handle_t *out) {
    SIM_HANDLE(context, SIM_CONTEXT);
    SIM_HANDLE(card, SIM_CARD);
    SIM_POINTER(desc);
    SIM_POINTER(out);
    SIM_ENTER(card);
    if (desc->flags > (sim.options.minor >= 7 ? 0xfu : 7u))
        return ZE_RESULT_ERROR_INVALID_ENUMERATION;
    const ze_result_t result = make_list(context, card, desc->commandQueueGroupOrdinal, out);
    if (result == ZE_RESULT_SUCCESS)
        (*out)->in_order = desc->flags & FLAG_IN_ORDER_LIST;
    return result;
}

ze_result_t ZE_APICALL zeCommandListCreateImmediate(ze_context_handle_t context,
                                                    ze_device_handle_t card,
                                                    const ze_command_queue_desc_t *desc,
                                                    ze_command_list_handle_t *out) {
    SIM_HANDLE(context, SIM_CONTEXT);
    SIM_HANDLE(card, SIM_CARD);
    SIM_POINTER(desc);
    SIM_POINTER(out);
    SIM_ENTER(card);
    ze_result_t result = ZE_RESULT_SUCCESS;
    ze_command_queue_handle_t queue = sim_queue_make(context, card, desc, &result);
    if (!queue)
        return result;
    result = make_list(context, card, desc->ordinal, out);
    if (result == ZE_RESULT_SUCCESS) {
        (*out)->queue = queue;
        (*out)->in_order = queue->in_order;
    }
    return result;
}

static void clear(ze_command_list_handle_t list) {
    for (size_t i = 0; i < list->n; i++)
        sim_command_finish(&list->commands[i]);
    free(list->commands);
    list->commands = NULL;
    list->n = list->room = 0;
}

/* Whether its commands, or those of its queue, are still to end. */
static bool is_busy(ze_command_list_handle_t list) {
    pthread_mutex_lock(&sim.lock);
    const bool busy = list->busy || (list->queue && list->queue->first);
    pthread_mutex_unlock(&sim.lock);
    return busy;
}

ze_result_t ZE_APICALL zeCommandListDestroy(ze_command_list_handle_t list) {
    SIM_HANDLE(list, SIM_LIST);
    if (is_busy(list))
        return ZE_RESULT_ERROR_HANDLE_OBJECT_IN_USE;
    if (list->queue) {
        const ze_result_t result = zeCommandQueueDestroy(list->queue);
        if (result != ZE_RESULT_SUCCESS)
            return result;
    }
    clear(list);
    list->object.gone = true;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeCommandListClose(ze_command_list_handle_t list) {
    SIM_HANDLE(list, SIM_LIST);
    SIM_ENTER(list->card);
    if (list->queue)
        return ZE_RESULT_ERROR_INVALID_ARGUMENT;
    list->closed = true;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeCommandListReset(ze_command_list_handle_t list) {
    SIM_HANDLE(list, SIM_LIST);
    SIM_ENTER(list->card);
    if (list->queue)
        return ZE_RESULT_ERROR_INVALID_ARGUMENT;
    if (is_busy(list))
        sim_misuse("a command list is reset while it runs");
    clear(list);
    list->closed = false;
    return ZE_RESULT_SUCCESS;
}

static ze_result_t check_events(ze_command_list_handle_t list, ze_event_handle_t signal, uint32_t n,
                                ze_event_handle_t *waits) {
    if (n && !waits)
        return ZE_RESULT_ERROR_INVALID_SIZE;
    for (uint32_t i = 0; i <= n; i++) {
        ze_event_handle_t event = i < n ? waits[i] : signal;
        if (i == n && !event)
            break;
        SIM_HANDLE(event, SIM_EVENT);
        if (!(event->pool->cards >> list->card->number & 1) ||
            event->pool->context != list->context)
            return ZE_RESULT_ERROR_INVALID_SYNCHRONIZATION_OBJECT;
    }
    return ZE_RESULT_SUCCESS;
}

static ze_result_t write_down(ze_command_list_handle_t list, const struct sim_command *command) {
    if (list->closed)
        sim_misuse("a command is appended to a closed list");
    if (list->n == list->room) {
        const size_t room = list->room ? 2 * list->room : 64;
        struct sim_command *grown = realloc(list->commands, room * sizeof *grown);
        if (!grown)
            return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
        list->commands = grown;
        list->room = room;
    }
    list->commands[list->n++] = *command;
    return ZE_RESULT_SUCCESS;
}

static ze_result_t submit_one(ze_command_list_handle_t list, const struct sim_command *command) {
    struct sim_submission *s = calloc(1, sizeof *s);
    struct sim_command *own = malloc(sizeof *own);
    if (!s || !own) {
        free(s);
        free(own);
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    }
    *own = *command;
    *s = (struct sim_submission){.commands = own, .n = 1, .in_order = list->in_order};
    return sim_submit(list->queue, s);
}

/* Takes over what the command owns, but for its waits, which are copied. */
static ze_result_t append(ze_command_list_handle_t list, struct sim_command command,
                          ze_event_handle_t signal, uint32_t n, ze_event_handle_t *waits) {
    ze_result_t result =
        sim_knows(list, SIM_LIST) ? sim_enter(list->card) : ZE_RESULT_ERROR_INVALID_NULL_HANDLE;
    if (result == ZE_RESULT_SUCCESS)
        result = check_events(list, signal, n, waits);
    command.signal = signal;
    if (result == ZE_RESULT_SUCCESS && n) {
        command.waits = malloc(n * sizeof *waits);
        if (command.waits)
            memcpy(command.waits, waits, n * sizeof *waits);
        else
            result = ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
        command.n_waits = n;
    }
    if (result == ZE_RESULT_SUCCESS && list->queue)
        return submit_one(list, &command);
    if (result == ZE_RESULT_SUCCESS)
        result = write_down(list, &command);
    if (result != ZE_RESULT_SUCCESS)
        sim_command_finish(&command);
    return result;
}

ze_result_t ZE_APICALL zeCommandListAppendBarrier(ze_command_list_handle_t list,
                                                  ze_event_handle_t signal, uint32_t n,
                                                  ze_event_handle_t *waits) {
    return append(list, (struct sim_command){.kind = SIM_BARRIER}, signal, n, waits);
}

ze_result_t ZE_APICALL zeCommandListAppendMemoryRangesBarrier(
    ze_command_list_handle_t list, uint32_t n_ranges, const size_t *sizes, const void **ranges,
    ze_event_handle_t signal, uint32_t n, ze_event_handle_t *waits) {
    (void)n_ranges;
    SIM_HANDLE(list, SIM_LIST);
    SIM_POINTER(sizes);
    SIM_POINTER(ranges);
    return append(list, (struct sim_command){.kind = SIM_BARRIER}, signal, n, waits);
}

ze_result_t ZE_APICALL zeCommandListAppendSignalEvent(ze_command_list_handle_t list,
                                                      ze_event_handle_t event) {
    SIM_HANDLE(event, SIM_EVENT);
    return append(list, (struct sim_command){.kind = SIM_SIGNAL}, event, 0, NULL);
}

ze_result_t ZE_APICALL zeCommandListAppendWaitOnEvents(ze_command_list_handle_t list, uint32_t n,
                                                       ze_event_handle_t *waits) {
    SIM_HANDLE(list, SIM_LIST);
    SIM_POINTER(waits);
    return append(list, (struct sim_command){.kind = SIM_WAIT}, NULL, n, waits);
}

ze_result_t ZE_APICALL zeCommandListAppendEventReset(ze_command_list_handle_t list,
                                                     ze_event_handle_t event) {
    SIM_HANDLE(list, SIM_LIST);
    SIM_HANDLE(event, SIM_EVENT);
    const ze_result_t result = check_events(list, event, 0, NULL);
    if (result != ZE_RESULT_SUCCESS)
        return result;
    /* Named as what is copied to, for it is not what the command signals. */
    return append(list, (struct sim_command){.kind = SIM_RESET, .to = (uint8_t *)event}, NULL, 0,
                  NULL);
}

static bool can_reach(ze_device_handle_t card, const void *p) {
    pthread_mutex_lock(&sim.lock);
    const struct sim_memory *m = sim_memory_find(p);
    const bool yes = !m || sim_reaches(card, m->card);
    pthread_mutex_unlock(&sim.lock);
    return yes;
}

ze_result_t ZE_APICALL zeCommandListAppendMemoryCopy(ze_command_list_handle_t list, void *to,
                                                     const void *from, size_t size,
                                                     ze_event_handle_t signal, uint32_t n,
                                                     ze_event_handle_t *waits) {
    SIM_HANDLE(list, SIM_LIST);
    SIM_POINTER(to);
    SIM_POINTER(from);
    /* What Intel's driver says of a copy without peer access; it is not short of memory. */
    if (!can_reach(list->card, to) || !can_reach(list->card, from))
        return ZE_RESULT_ERROR_OUT_OF_DEVICE_MEMORY;
    const struct sim_command command = {.kind = SIM_COPY, .to = to, .from = from, .size = size};
    return append(list, command, signal, n, waits);
}

ze_result_t ZE_APICALL zeCommandListAppendMemoryFill(ze_command_list_handle_t list, void *to,
                                                     const void *pattern, size_t pattern_size,
                                                     size_t size, ze_event_handle_t signal,
                                                     uint32_t n, ze_event_handle_t *waits) {
    SIM_HANDLE(list, SIM_LIST);
    SIM_POINTER(to);
    SIM_POINTER(pattern);
    const size_t most = list->ordinal == SIM_CARD_ORDINAL ? SIM_PATTERN_MAX : 1;
    if (!pattern_size || pattern_size & (pattern_size - 1) || pattern_size > most)
        return ZE_RESULT_ERROR_INVALID_SIZE;
    struct sim_command command = {
        .kind = SIM_FILL, .to = to, .size = size, .pattern_size = pattern_size};
    memcpy(command.pattern, pattern, pattern_size);
    return append(list, command, signal, n, waits);
}

ze_result_t ZE_APICALL zeCommandListAppendLaunchKernel(ze_command_list_handle_t list,
                                                       ze_kernel_handle_t kernel,
                                                       const ze_group_count_t *groups,
                                                       ze_event_handle_t signal, uint32_t n,
                                                       ze_event_handle_t *waits) {
    SIM_HANDLE(list, SIM_LIST);
    SIM_HANDLE(kernel, SIM_KERNEL);
    SIM_POINTER(groups);
    if (list->ordinal != SIM_CARD_ORDINAL)
        return ZE_RESULT_ERROR_INVALID_COMMAND_LIST_TYPE;
    if (kernel->module->card != list->card || kernel->module->context != list->context)
        return ZE_RESULT_ERROR_INVALID_ARGUMENT;
    if (!kernel->group[0])
        sim_misuse("kernel %s is launched before its group size is set", kernel->shape->name);
    for (uint32_t i = 0; i < kernel->shape->n_args; i++)
        if (!kernel->set[i])
            sim_misuse("kernel %s is launched before its argument %u is set", kernel->shape->name,
                       i);
    struct sim_launch *launch = malloc(sizeof *launch);
    if (!launch)
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    *launch = (struct sim_launch){
        .kernel = kernel,
        .groups = {groups->groupCountX, groups->groupCountY, groups->groupCountZ},
        .indirect = kernel->indirect};
    memcpy(launch->group, kernel->group, sizeof launch->group);
    memcpy(launch->args, kernel->args, sizeof launch->args);
    memcpy(launch->local_bytes, kernel->local_bytes, sizeof launch->local_bytes);
    return append(list, (struct sim_command){.kind = SIM_LAUNCH, .launch = launch}, signal, n,
                  waits);
}

/* The host's own memory, where the cards cannot use it, is nothing to advise about. */
static bool is_advisable(const void *p) {
    pthread_mutex_lock(&sim.lock);
    const bool yes = sim.options.system || sim_memory_find(p);
    pthread_mutex_unlock(&sim.lock);
    return yes;
}

ze_result_t ZE_APICALL zeCommandListAppendMemoryPrefetch(ze_command_list_handle_t list,
                                                         const void *p, size_t size) {
    SIM_HANDLE(list, SIM_LIST);
    SIM_POINTER(p);
    if (!is_advisable(p))
        return ZE_RESULT_ERROR_INVALID_ARGUMENT;
    const struct sim_command command = {.kind = SIM_PREFETCH, .from = p, .size = size};
    return append(list, command, NULL, 0, NULL);
}

ze_result_t ZE_APICALL zeCommandListAppendMemAdvise(ze_command_list_handle_t list,
                                                    ze_device_handle_t card, const void *p,
                                                    size_t size, ze_memory_advice_t advice) {
    SIM_HANDLE(list, SIM_LIST);
    SIM_HANDLE(card, SIM_CARD);
    SIM_POINTER(p);
    /* Two more advices since 1.7. */
    if ((unsigned)advice > (sim.options.minor >= 7 ? 9u : 7u))
        return ZE_RESULT_ERROR_INVALID_ENUMERATION;
    if (!is_advisable(p))
        return ZE_RESULT_ERROR_INVALID_ARGUMENT;
    const struct sim_command command = {
        .kind = SIM_ADVISE, .from = p, .size = size, .target = card, .advice = advice};
    return append(list, command, NULL, 0, NULL);
}
