/* SPDX-License-Identifier: Apache-2.0 */
/* Events, their pools, and fences. */
#include <stdlib.h>

#include "tests/sim_level_zero/sim.h"

ze_result_t ZE_APICALL zeEventPoolCreate(ze_context_handle_t context,
                                         const ze_event_pool_desc_t *desc, uint32_t n,
                                         ze_device_handle_t *cards, ze_event_pool_handle_t *out) {
    SIM_HANDLE(context, SIM_CONTEXT);
    SIM_POINTER(desc);
    SIM_POINTER(out);
    if (desc->flags > 7)
        return ZE_RESULT_ERROR_INVALID_ENUMERATION;
    if (!desc->count || (n && !cards))
        return ZE_RESULT_ERROR_INVALID_SIZE;
    unsigned bits = n ? 0 : context->cards;
    for (uint32_t i = 0; i < n; i++) {
        SIM_HANDLE(cards[i], SIM_CARD);
        bits |= 1u << cards[i]->number;
    }
    ze_event_pool_handle_t made = sim_make(SIM_POOL, sizeof *made);
    if (!made)
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    made->context = context;
    made->cards = bits;
    made->host_visible = desc->flags & ZE_EVENT_POOL_FLAG_HOST_VISIBLE;
    made->n_events = desc->count;
    made->used = calloc(desc->count, sizeof *made->used);
    if (!made->used)
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    *out = made;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeEventPoolDestroy(ze_event_pool_handle_t pool) {
    SIM_HANDLE(pool, SIM_POOL);
    if (pool->n_used)
        sim_misuse("an event pool is destroyed before its events");
    free(pool->used);
    pool->used = NULL;
    pool->object.gone = true;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeEventCreate(ze_event_pool_handle_t pool, const ze_event_desc_t *desc,
                                     ze_event_handle_t *out) {
    SIM_HANDLE(pool, SIM_POOL);
    SIM_POINTER(desc);
    SIM_POINTER(out);
    if (desc->signal > 7 || desc->wait > 7)
        return ZE_RESULT_ERROR_INVALID_ENUMERATION;
    if (desc->index >= pool->n_events)
        return ZE_RESULT_ERROR_INVALID_ARGUMENT;
    if (pool->used[desc->index])
        sim_misuse("index %u of an event pool is taken", desc->index);
    ze_event_handle_t made = sim_make(SIM_EVENT, sizeof *made);
    if (!made)
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    made->pool = pool;
    made->index = desc->index;
    pool->used[desc->index] = true;
    pool->n_used++;
    *out = made;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeEventDestroy(ze_event_handle_t event) {
    SIM_HANDLE(event, SIM_EVENT);
    pthread_mutex_lock(&sim.lock);
    const bool busy = event->n_pending;
    pthread_mutex_unlock(&sim.lock);
    if (busy)
        return ZE_RESULT_ERROR_HANDLE_OBJECT_IN_USE;
    event->pool->used[event->index] = false;
    event->pool->n_used--;
    event->object.gone = true;
    return ZE_RESULT_SUCCESS;
}

static ze_result_t set(ze_event_handle_t event, bool signaled) {
    SIM_HANDLE(event, SIM_EVENT);
    pthread_mutex_lock(&sim.lock);
    event->signaled = signaled;
    event->lost = false;
    pthread_cond_broadcast(&sim.changed);
    pthread_mutex_unlock(&sim.lock);
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeEventHostSignal(ze_event_handle_t event) {
    return set(event, true);
}

ze_result_t ZE_APICALL zeEventHostReset(ze_event_handle_t event) {
    return set(event, false);
}

static ze_result_t event_state(void *what) {
    const struct _ze_event_handle_t *event = what;
    return event->signaled ? ZE_RESULT_SUCCESS
           : event->lost   ? ZE_RESULT_ERROR_DEVICE_LOST
                           : ZE_RESULT_NOT_READY;
}

ze_result_t ZE_APICALL zeEventHostSynchronize(ze_event_handle_t event, uint64_t timeout) {
    SIM_HANDLE(event, SIM_EVENT);
    if (!event->pool->host_visible)
        return ZE_RESULT_ERROR_INVALID_SYNCHRONIZATION_OBJECT;
    return sim_wait(event_state, event, event->card, timeout);
}

ze_result_t ZE_APICALL zeEventQueryStatus(ze_event_handle_t event) {
    return zeEventHostSynchronize(event, 0);
}

ze_result_t ZE_APICALL zeFenceCreate(ze_command_queue_handle_t queue, const ze_fence_desc_t *desc,
                                     ze_fence_handle_t *out) {
    SIM_HANDLE(queue, SIM_QUEUE);
    SIM_POINTER(desc);
    SIM_POINTER(out);
    SIM_ENTER(queue->card);
    if (desc->flags > 1)
        return ZE_RESULT_ERROR_INVALID_ENUMERATION;
    ze_fence_handle_t made = sim_make(SIM_FENCE, sizeof *made);
    if (!made)
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    made->queue = queue;
    made->signaled = desc->flags & ZE_FENCE_FLAG_SIGNALED;
    queue->n_fences++;
    *out = made;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeFenceDestroy(ze_fence_handle_t fence) {
    SIM_HANDLE(fence, SIM_FENCE);
    if (fence->n_pending && !fence->queue->card->lost)
        return ZE_RESULT_ERROR_HANDLE_OBJECT_IN_USE;
    fence->queue->n_fences--;
    fence->object.gone = true;
    return ZE_RESULT_SUCCESS;
}

static ze_result_t fence_state(void *what) {
    const struct _ze_fence_handle_t *fence = what;
    return fence->signaled            ? ZE_RESULT_SUCCESS
           : fence->queue->card->lost ? ZE_RESULT_ERROR_DEVICE_LOST
                                      : ZE_RESULT_NOT_READY;
}

ze_result_t ZE_APICALL zeFenceHostSynchronize(ze_fence_handle_t fence, uint64_t timeout) {
    SIM_HANDLE(fence, SIM_FENCE);
    return sim_wait(fence_state, fence, fence->queue->card, timeout);
}

ze_result_t ZE_APICALL zeFenceQueryStatus(ze_fence_handle_t fence) {
    return zeFenceHostSynchronize(fence, 0);
}

ze_result_t ZE_APICALL zeFenceReset(ze_fence_handle_t fence) {
    SIM_HANDLE(fence, SIM_FENCE);
    pthread_mutex_lock(&sim.lock);
    fence->signaled = false;
    pthread_mutex_unlock(&sim.lock);
    return ZE_RESULT_SUCCESS;
}
