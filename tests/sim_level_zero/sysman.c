/* SPDX-License-Identifier: Apache-2.0 */
/* System management of the simulated cards, as specification 1.4 has it: zeInit with
 * ZES_ENABLE_SYSMAN=1, and the handles of the cards are those of zeDeviceGet. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <level_zero/zes_api.h>

#include "tests/sim_level_zero/sim.h"

#define IDLE_WATTS           25
#define COMMAND_MICROJOULES  500
#define TEMPERATURE_IDLE     45.0
#define TEMPERATURE_CRITICAL 100.0

/* One memory module, one power domain, and three sensors a card. */
struct _zes_mem_handle_t {
    ze_device_handle_t card;
};
struct _zes_pwr_handle_t {
    ze_device_handle_t card;
};
struct _zes_temp_handle_t {
    ze_device_handle_t card;
    zes_temp_sensors_t type;
};

#define SENSORS 3

static struct _zes_mem_handle_t memories[SIM_CARDS_MAX];
static struct _zes_pwr_handle_t powers[SIM_CARDS_MAX];
static struct _zes_temp_handle_t sensors[SIM_CARDS_MAX][SENSORS];

#define SIM_MANAGED(card)                                                                          \
    do {                                                                                           \
        SIM_HANDLE(card, SIM_CARD);                                                                \
        if (!is_enabled())                                                                         \
            return ZE_RESULT_ERROR_UNINITIALIZED;                                                  \
        SIM_ENTER(card);                                                                           \
    } while (0)

static bool is_enabled(void) {
    const char *value = getenv("ZES_ENABLE_SYSMAN");
    return value && !strcmp(value, "1");
}

ze_result_t ZE_APICALL zesDeviceGetProperties(zes_device_handle_t card,
                                              zes_device_properties_t *properties) {
    SIM_MANAGED(card);
    SIM_POINTER(properties);
    properties->core.stype = ZE_STRUCTURE_TYPE_DEVICE_PROPERTIES;
    zeDeviceGetProperties(card, &properties->core);
    properties->numSubdevices = 0;
    snprintf(properties->serialNumber, sizeof properties->serialNumber, "SIM%04u", card->number);
    snprintf(properties->boardNumber, sizeof properties->boardNumber, "unknown");
    snprintf(properties->brandName, sizeof properties->brandName, "unknown");
    snprintf(properties->modelName, sizeof properties->modelName, "%.63s", properties->core.name);
    snprintf(properties->vendorName, sizeof properties->vendorName, "Intel(R) Corporation");
    snprintf(properties->driverVersion, sizeof properties->driverVersion, "octarc-sim");
    return ZE_RESULT_SUCCESS;
}

/* An ordinary wedge is not among what this tells; nor does Intel's driver. */
ze_result_t ZE_APICALL zesDeviceGetState(zes_device_handle_t card, zes_device_state_t *state) {
    SIM_MANAGED(card);
    SIM_POINTER(state);
    state->reset = 0;
    state->repaired = ZES_REPAIR_STATUS_UNSUPPORTED;
    return ZE_RESULT_SUCCESS;
}

static zes_pci_speed_t link_speed(void) {
    return (zes_pci_speed_t){.gen = 5, .width = 8, .maxBandwidth = INT64_C(31500000000)};
}

ze_result_t ZE_APICALL zesDevicePciGetProperties(zes_device_handle_t card,
                                                 zes_pci_properties_t *properties) {
    SIM_MANAGED(card);
    SIM_POINTER(properties);
    *properties = (zes_pci_properties_t){.stype = properties->stype,
                                         .pNext = properties->pNext,
                                         .address = {.bus = SIM_FIRST_BUS + card->number},
                                         .maxSpeed = link_speed()};
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zesDevicePciGetState(zes_device_handle_t card, zes_pci_state_t *state) {
    SIM_MANAGED(card);
    SIM_POINTER(state);
    state->status = ZES_PCI_LINK_STATUS_GOOD;
    state->qualityIssues = 0;
    state->stabilityIssues = 0;
    state->speed = link_speed();
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zesDeviceEnumMemoryModules(zes_device_handle_t card, uint32_t *count,
                                                  zes_mem_handle_t *out) {
    SIM_MANAGED(card);
    SIM_POINTER(count);
    *count = 1;
    memories[card->number].card = card;
    if (out)
        *out = &memories[card->number];
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zesMemoryGetProperties(zes_mem_handle_t memory,
                                              zes_mem_properties_t *properties) {
    SIM_POINTER(properties);
    SIM_MANAGED(memory ? memory->card : NULL);
    *properties =
        (zes_mem_properties_t){.stype = properties->stype,
                               .pNext = properties->pNext,
                               .type = ZES_MEM_TYPE_GDDR6,
                               .location = ZES_MEM_LOC_DEVICE,
                               .physicalSize = sim.options.memory_bytes[memory->card->number],
                               .busWidth = 192,
                               .numChannels = 12};
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zesMemoryGetState(zes_mem_handle_t memory, zes_mem_state_t *state) {
    SIM_POINTER(state);
    SIM_MANAGED(memory ? memory->card : NULL);
    const unsigned card = memory->card->number;
    state->health = ZES_MEM_HEALTH_OK;
    state->size = sim.options.memory_bytes[card];
    pthread_mutex_lock(&sim.lock);
    state->free = state->size - sim.counters->used_bytes[card];
    pthread_mutex_unlock(&sim.lock);
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zesDeviceEnumTemperatureSensors(zes_device_handle_t card, uint32_t *count,
                                                       zes_temp_handle_t *out) {
    static const zes_temp_sensors_t types[SENSORS] = {ZES_TEMP_SENSORS_GLOBAL, ZES_TEMP_SENSORS_GPU,
                                                      ZES_TEMP_SENSORS_MEMORY};
    SIM_MANAGED(card);
    SIM_POINTER(count);
    if (!*count || *count > SENSORS)
        *count = SENSORS;
    for (uint32_t i = 0; i < *count; i++) {
        struct _zes_temp_handle_t *sensor = &sensors[card->number][i];
        *sensor = (struct _zes_temp_handle_t){card, types[i]};
        if (out)
            out[i] = sensor;
    }
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zesTemperatureGetProperties(zes_temp_handle_t sensor,
                                                   zes_temp_properties_t *properties) {
    SIM_POINTER(properties);
    SIM_MANAGED(sensor ? sensor->card : NULL);
    *properties = (zes_temp_properties_t){.stype = properties->stype,
                                          .pNext = properties->pNext,
                                          .type = sensor->type,
                                          .maxTemperature = TEMPERATURE_CRITICAL};
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zesTemperatureGetState(zes_temp_handle_t sensor, double *degrees) {
    SIM_POINTER(degrees);
    SIM_MANAGED(sensor ? sensor->card : NULL);
    const uint64_t told = sim.control.degrees[sensor->card->number];
    *degrees = told ? (double)told : TEMPERATURE_IDLE;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zesDeviceEnumPowerDomains(zes_device_handle_t card, uint32_t *count,
                                                 zes_pwr_handle_t *out) {
    SIM_MANAGED(card);
    SIM_POINTER(count);
    *count = 1;
    powers[card->number].card = card;
    if (out)
        *out = &powers[card->number];
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zesDeviceGetCardPowerDomain(zes_device_handle_t card,
                                                   zes_pwr_handle_t *out) {
    uint32_t one = 1;
    SIM_POINTER(out);
    return zesDeviceEnumPowerDomains(card, &one, out);
}

ze_result_t ZE_APICALL zesPowerGetProperties(zes_pwr_handle_t power,
                                             zes_power_properties_t *properties) {
    SIM_POINTER(properties);
    SIM_MANAGED(power ? power->card : NULL);
    *properties = (zes_power_properties_t){.stype = properties->stype,
                                           .pNext = properties->pNext,
                                           .defaultLimit = 200000,
                                           .minLimit = -1,
                                           .maxLimit = 200000};
    return ZE_RESULT_SUCCESS;
}

/* Microjoules and microseconds: some for being there, some for each command. */
ze_result_t ZE_APICALL zesPowerGetEnergyCounter(zes_pwr_handle_t power,
                                                zes_power_energy_counter_t *counter) {
    struct timespec now;
    SIM_POINTER(counter);
    SIM_MANAGED(power ? power->card : NULL);
    clock_gettime(CLOCK_MONOTONIC, &now);
    counter->timestamp = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    pthread_mutex_lock(&sim.lock);
    counter->energy = counter->timestamp * IDLE_WATTS +
                      sim.counters->commands[power->card->number] * COMMAND_MICROJOULES;
    pthread_mutex_unlock(&sim.lock);
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zesDeviceEventRegister(zes_device_handle_t card,
                                              zes_event_type_flags_t events) {
    SIM_MANAGED(card);
    if (events > 0x7fff)
        return ZE_RESULT_ERROR_INVALID_ENUMERATION;
    pthread_mutex_lock(&sim.lock);
    card->registered = events;
    pthread_mutex_unlock(&sim.lock);
    return ZE_RESULT_SUCCESS;
}

struct listening {
    uint32_t count;
    zes_device_handle_t *cards;
    uint32_t *n;
    zes_event_type_flags_t *events;
};

/* What happened is told once. */
static ze_result_t events_there(void *what) {
    struct listening *l = what;
    sim_control_poll();
    *l->n = 0;
    for (uint32_t i = 0; i < l->count; i++) {
        l->events[i] = l->cards[i]->events & l->cards[i]->registered;
        l->cards[i]->events &= ~l->events[i];
        *l->n += l->events[i] != 0;
    }
    return *l->n ? ZE_RESULT_SUCCESS : ZE_RESULT_NOT_READY;
}

ze_result_t ZE_APICALL zesDriverEventListenEx(ze_driver_handle_t driver, uint64_t timeout_ms,
                                              uint32_t count, zes_device_handle_t *cards,
                                              uint32_t *n, zes_event_type_flags_t *events) {
    SIM_HANDLE(driver, SIM_DRIVER);
    SIM_POINTER(cards);
    SIM_POINTER(n);
    SIM_POINTER(events);
    if (!is_enabled())
        return ZE_RESULT_ERROR_UNINITIALIZED;
    for (uint32_t i = 0; i < count; i++)
        SIM_HANDLE(cards[i], SIM_CARD);
    struct listening l = {count, cards, n, events};
    const uint64_t ns = timeout_ms < UINT64_MAX / 1000000 ? timeout_ms * 1000000 : UINT64_MAX;
    return sim_listen(events_there, &l, ns);
}

ze_result_t ZE_APICALL zesDriverEventListen(ze_driver_handle_t driver, uint32_t timeout_ms,
                                            uint32_t count, zes_device_handle_t *cards, uint32_t *n,
                                            zes_event_type_flags_t *events) {
    return zesDriverEventListenEx(driver, timeout_ms == UINT32_MAX ? UINT64_MAX : timeout_ms, count,
                                  cards, n, events);
}
