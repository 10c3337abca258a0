/* SPDX-License-Identifier: Apache-2.0 */
/* The driver, its cards' identities, and contexts. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <level_zero/zes_api.h>

#include "tests/sim_level_zero/sim.h"

struct sim sim = {.lock = PTHREAD_MUTEX_INITIALIZER};

void sim_misuse(const char *format, ...) {
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "sim_level_zero: %s\n", text);
    abort();
}

void *sim_make(enum sim_tag tag, size_t bytes) {
    struct sim_object *made = calloc(1, bytes);
    if (!made)
        return NULL;
    made->tag = tag;
    pthread_mutex_lock(&sim.lock);
    made->older = sim.objects;
    sim.objects = made;
    pthread_mutex_unlock(&sim.lock);
    return made;
}

bool sim_knows(const void *object, enum sim_tag tag) {
    const struct sim_object *o = object;
    if (o && o->tag != tag)
        sim_misuse("%p is no handle of the kind that the call takes", object);
    if (o && o->gone)
        sim_misuse("%p was destroyed", object);
    return o;
}

const void *sim_chained(const void *next, ze_structure_type_t stype) {
    for (const ze_base_desc_t *d = next; d; d = d->pNext)
        if (d->stype == stype)
            return d;
    return NULL;
}

static void count(ze_device_handle_t card) {
    sim.counters->calls[card->number]++;
    sim_control_poll();
    if (sim_control_count(&sim.control.lose_in[card->number]))
        sim_lose(card, "it fell off the bus", true);
}

ze_result_t sim_enter(ze_device_handle_t card) {
    pthread_mutex_lock(&sim.lock);
    count(card);
    const ze_result_t result = card->lost ? ZE_RESULT_ERROR_DEVICE_LOST
                               : sim.control.broken[card->number]
                                   ? ZE_RESULT_ERROR_DEPENDENCY_UNAVAILABLE
                                   : ZE_RESULT_SUCCESS;
    pthread_mutex_unlock(&sim.lock);
    return result;
}

void sim_poll_locked(ze_device_handle_t card) {
    sim_control_poll();
    if (sim.control.polled_aborts[card->number])
        sim_misuse("card %u is wedged and was polled", card->number);
}

void sim_poll(ze_device_handle_t card) {
    pthread_mutex_lock(&sim.lock);
    count(card);
    sim_poll_locked(card);
    pthread_mutex_unlock(&sim.lock);
}

void sim_lose(ze_device_handle_t card, const char *why, bool emptied) {
    if (card->lost)
        return;
    card->lost = true;
    sim_reach_lost((int)card->number);
    if (emptied) {
        card->events |= ZES_EVENT_TYPE_FLAG_DEVICE_DETACH;
        sim_memory_empty(card->number);
    }
    fprintf(stderr, "sim_level_zero: card %u is lost: %s\n", card->number, why);
    sim_queues_drop(card);
    pthread_cond_broadcast(&sim.changed);
}

static bool map_counters(void) {
    static struct sim_counters own;
    sim.counters = &own;
    if (!*sim.options.counters)
        return true;
    const int fd = open(sim.options.counters, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof own))
        return false;
    void *p = mmap(NULL, sizeof own, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED)
        return false;
    sim.counters = p;
    memset(p, 0, sizeof own);
    return true;
}

/* Cards whose numbers the mask names, each by itself or with a part of it (0.1: there are none, so
 * that is the card); without one, or with an empty one, all. */
static bool is_visible(unsigned card) {
    const char *mask = getenv("ZE_AFFINITY_MASK");
    if (!mask || !*mask)
        return true;
    for (const char *p = mask; p && *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
        char *end = NULL;
        const unsigned long number = strtoul(p, &end, 10);
        if (end != p && number == card + sim.options.ordinal)
            return true;
    }
    return false;
}

static _Noreturn void wait_for_ever(void) {
    for (;;)
        pause();
}

/* What a driver does with each card that it sees, before anything is asked of it. */
static void open_cards(void) {
    for (unsigned i = 0; i < sim.options.n_cards; i++) {
        if (!is_visible(i))
            continue;
        if (sim.control.opened_aborts[i])
            sim_misuse("card %u is wedged and was opened", i);
        if (sim.control.opened_hangs[i])
            wait_for_ever();
        sim.visible[sim.n_visible++] = &sim.cards[i];
    }
}

static ze_result_t start(void) {
    const char *bad = NULL;
    if (sim_options_read(&sim.options, &sim.base, getenv("SIM_ZE"), &bad)) {
        fprintf(stderr, "sim_level_zero: SIM_ZE: '%s' is not understood\n", bad);
        return ZE_RESULT_ERROR_UNINITIALIZED;
    }
    sim.control = sim.base;
    if (!map_counters())
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    sim.driver.object.tag = SIM_DRIVER;
    sim.draw = sim.options.seed;
    for (unsigned i = 0; i < sim.options.n_cards; i++) {
        uint8_t *window =
            mmap(NULL, SIM_WINDOW, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (window == MAP_FAILED)
            return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
        sim.cards[i] = (struct _ze_device_handle_t){
            .object = {.tag = SIM_CARD}, .number = i, .window = window};
    }
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&sim.changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    sim_faults_watch();
    sim_control_poll();
    sim_control_apply();
    if (sim.control.start == SIM_START_CRASHES)
        sim_misuse("told to crash in zeInit");
    if (sim.control.start == SIM_START_HANGS)
        wait_for_ever();
    if (sim.control.start == SIM_START_FAILS)
        return ZE_RESULT_ERROR_UNINITIALIZED;
    open_cards();
    sim.started = true;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeInit(ze_init_flags_t flags) {
    if (flags > 3)
        return ZE_RESULT_ERROR_INVALID_ENUMERATION;
    if (flags & ZE_INIT_FLAG_VPU_ONLY && !(flags & ZE_INIT_FLAG_GPU_ONLY))
        return ZE_RESULT_ERROR_UNINITIALIZED;
    pthread_mutex_lock(&sim.lock);
    const ze_result_t result = sim.started ? ZE_RESULT_SUCCESS : start();
    pthread_mutex_unlock(&sim.lock);
    return result;
}

ze_result_t ZE_APICALL zeDriverGet(uint32_t *count, ze_driver_handle_t *drivers) {
    SIM_POINTER(count);
    if (!*count || *count > 1)
        *count = 1;
    if (drivers)
        *drivers = &sim.driver;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeDriverGetApiVersion(ze_driver_handle_t driver, ze_api_version_t *version) {
    SIM_HANDLE(driver, SIM_DRIVER);
    SIM_POINTER(version);
    *version = (ze_api_version_t)ZE_MAKE_VERSION(1, sim.options.minor);
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeDriverGetProperties(ze_driver_handle_t driver,
                                             ze_driver_properties_t *properties) {
    SIM_HANDLE(driver, SIM_DRIVER);
    SIM_POINTER(properties);
    memcpy(properties->uuid.id, "octarc-sim-ze\0\0\0", sizeof properties->uuid.id);
    properties->driverVersion = 1;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeDriverGetIpcProperties(ze_driver_handle_t driver,
                                                ze_driver_ipc_properties_t *properties) {
    SIM_HANDLE(driver, SIM_DRIVER);
    SIM_POINTER(properties);
    properties->flags = ZE_IPC_PROPERTY_FLAG_MEMORY;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeDriverGetExtensionProperties(
    ze_driver_handle_t driver, uint32_t *count, ze_driver_extension_properties_t *properties) {
    static const ze_driver_extension_properties_t all[] = {
        {ZE_RELAXED_ALLOCATION_LIMITS_EXP_NAME, ZE_RELAXED_ALLOCATION_LIMITS_EXP_VERSION_1_0},
        {ZE_PCI_PROPERTIES_EXT_NAME, ZE_PCI_PROPERTIES_EXT_VERSION_1_0},
    };
    const uint32_t n = sizeof all / sizeof *all;
    SIM_HANDLE(driver, SIM_DRIVER);
    SIM_POINTER(count);
    if (!*count || *count > n)
        *count = n;
    if (properties)
        memcpy(properties, all, *count * sizeof *all);
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeDriverGetExtensionFunctionAddress(ze_driver_handle_t driver,
                                                           const char *name, void **function) {
    SIM_HANDLE(driver, SIM_DRIVER);
    SIM_POINTER(name);
    SIM_POINTER(function);
    *function = NULL;
    return ZE_RESULT_ERROR_INVALID_ARGUMENT;
}

ze_result_t ZE_APICALL zeDeviceGet(ze_driver_handle_t driver, uint32_t *count,
                                   ze_device_handle_t *cards) {
    SIM_HANDLE(driver, SIM_DRIVER);
    SIM_POINTER(count);
    if (!*count || *count > sim.n_visible)
        *count = sim.n_visible;
    for (uint32_t i = 0; cards && i < *count; i++)
        cards[i] = sim.visible[i];
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeDeviceGetSubDevices(ze_device_handle_t card, uint32_t *count,
                                             ze_device_handle_t *parts) {
    (void)parts;
    SIM_HANDLE(card, SIM_CARD);
    SIM_POINTER(count);
    *count = 0;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeDeviceGetStatus(ze_device_handle_t card) {
    SIM_HANDLE(card, SIM_CARD);
    sim_poll(card);
    SIM_ENTER(card);
    return ZE_RESULT_SUCCESS;
}

static ze_result_t make_context(unsigned cards, ze_context_handle_t *out) {
    ze_context_handle_t made = sim_make(SIM_CONTEXT, sizeof *made);
    if (!made)
        return ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY;
    made->cards = cards;
    *out = made;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeContextCreateEx(ze_driver_handle_t driver, const ze_context_desc_t *desc,
                                         uint32_t n, ze_device_handle_t *cards,
                                         ze_context_handle_t *out) {
    SIM_HANDLE(driver, SIM_DRIVER);
    SIM_POINTER(desc);
    SIM_POINTER(out);
    if (!cards && n)
        return ZE_RESULT_ERROR_INVALID_SIZE;
    if (desc->flags > 1)
        return ZE_RESULT_ERROR_INVALID_ENUMERATION;
    unsigned bits = n ? 0 : ~0u;
    for (uint32_t i = 0; i < n; i++) {
        SIM_HANDLE(cards[i], SIM_CARD);
        bits |= 1u << cards[i]->number;
    }
    return make_context(bits, out);
}

ze_result_t ZE_APICALL zeContextCreate(ze_driver_handle_t driver, const ze_context_desc_t *desc,
                                       ze_context_handle_t *out) {
    SIM_HANDLE(driver, SIM_DRIVER);
    SIM_POINTER(desc);
    SIM_POINTER(out);
    return desc->flags > 1 ? ZE_RESULT_ERROR_INVALID_ENUMERATION : make_context(~0u, out);
}

ze_result_t ZE_APICALL zeContextDestroy(ze_context_handle_t context) {
    SIM_HANDLE(context, SIM_CONTEXT);
    pthread_mutex_lock(&sim.lock);
    for (const struct sim_memory *m = sim.memory; m; m = m->next)
        if (m->context == context)
            sim_misuse("a context is destroyed before memory of its");
    context->object.gone = true;
    pthread_mutex_unlock(&sim.lock);
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeContextGetStatus(ze_context_handle_t context) {
    SIM_HANDLE(context, SIM_CONTEXT);
    ze_result_t result = ZE_RESULT_SUCCESS;
    pthread_mutex_lock(&sim.lock);
    for (unsigned i = 0; i < sim.options.n_cards; i++)
        if (context->cards >> i & 1 && sim.cards[i].lost)
            result = ZE_RESULT_ERROR_DEVICE_LOST;
    pthread_mutex_unlock(&sim.lock);
    return result;
}
