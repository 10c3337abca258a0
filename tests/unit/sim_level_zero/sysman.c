/* SPDX-License-Identifier: Apache-2.0 */
/* System management of simulated cards, by the handles of zeDeviceGet as specification 1.4 has it.
 */
#include <level_zero/zes_api.h>

#include "tests/sim_level_zero/box.h"

static struct box managed(const char *options) {
    setenv("ZES_ENABLE_SYSMAN", "1", 1);
    return box_open(options);
}

static void memory_tells_what_is_free(void) {
    const struct box box = managed("cards=2 memory=1M/2M");
    uint32_t one = 1;
    zes_mem_handle_t memory = NULL;
    zes_mem_state_t state = {.stype = ZES_STRUCTURE_TYPE_MEM_STATE};
    ZE(zesDeviceEnumMemoryModules(box.cards[1], &one, &memory));
    ZE(zesMemoryGetState(memory, &state));
    CHECK_EQ(state.size, 2 << 20);
    CHECK_EQ(state.free, 2 << 20);
    void *p = box_memory(&box, 1, 100);
    ZE(zesMemoryGetState(memory, &state));
    CHECK_EQ(state.free, (2 << 20) - (64 << 10));
    ZE(zeMemFree(box.context, p));
    ZE(zesMemoryGetState(memory, &state));
    CHECK_EQ(state.free, 2 << 20);
}

static void sensors_and_the_link_answer(void) {
    const struct box box = managed("cards=2 degrees=1@91");
    uint32_t count = 0, one = 1;
    zes_temp_handle_t sensors[3];
    zes_pci_state_t link = {.stype = ZES_STRUCTURE_TYPE_PCI_STATE};
    zes_pwr_handle_t power = NULL;
    zes_power_energy_counter_t before, after;
    double degrees = 0;
    ZE(zesDeviceEnumTemperatureSensors(box.cards[1], &count, NULL));
    CHECK_EQ(count, 3);
    ZE(zesDeviceEnumTemperatureSensors(box.cards[1], &count, sensors));
    ZE(zesTemperatureGetState(sensors[2], &degrees));
    CHECK(degrees == 91.0);
    ZE(zesDevicePciGetState(box.cards[0], &link));
    CHECK_EQ(link.speed.gen, 5);
    ZE(zesDeviceEnumPowerDomains(box.cards[0], &one, &power));
    ZE(zesPowerGetEnergyCounter(power, &before));
    ZE(box_copy(&box, 0, box_memory(&box, 0, 16), "sixteen letters", 16));
    ZE(zesPowerGetEnergyCounter(power, &after));
    CHECK(after.energy > before.energy);
}

static void a_loss_is_an_event_once(void) {
    const struct box box = managed("cards=2 lose=1@5");
    zes_device_handle_t cards[2] = {box.cards[0], box.cards[1]};
    zes_event_type_flags_t events[2] = {0};
    uint32_t n = 7;
    for (unsigned i = 0; i < 2; i++)
        ZE(zesDeviceEventRegister(cards[i], ZES_EVENT_TYPE_FLAG_DEVICE_DETACH));
    CHECK_EQ(zesDriverEventListen(box.driver, 0, 2, cards, &n, events), ZE_RESULT_NOT_READY);
    CHECK_EQ(n, 0);
    while (zeDeviceGetStatus(cards[1]) == ZE_RESULT_SUCCESS)
        ;
    ZE(zesDriverEventListenEx(box.driver, UINT64_MAX, 2, cards, &n, events));
    CHECK_EQ(n, 1);
    CHECK_EQ(events[0], 0);
    CHECK_EQ(events[1], ZES_EVENT_TYPE_FLAG_DEVICE_DETACH);
    CHECK_EQ(zesDriverEventListen(box.driver, 1, 2, cards, &n, events), ZE_RESULT_NOT_READY);
}

static void it_must_be_asked_for(void) {
    unsetenv("ZES_ENABLE_SYSMAN");
    const struct box box = box_open("cards=1");
    uint32_t one = 1;
    zes_mem_handle_t memory = NULL;
    CHECK(zesDeviceEnumMemoryModules(box.cards[0], &one, &memory) != ZE_RESULT_SUCCESS);
}

CHECK_MAIN(T(memory_tells_what_is_free), T(sensors_and_the_link_answer), T(a_loss_is_an_event_once),
           T(it_must_be_asked_for))
