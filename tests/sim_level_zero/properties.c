/* SPDX-License-Identifier: Apache-2.0 */
/* What a simulated card says of itself: an Arc Pro B60, but for what it lacks.  Who it is it says
 * without being asked for more, so also when it is lost or broken. */
#include <stdio.h>
#include <string.h>

#include "tests/sim_level_zero/sim.h"

#define VENDOR 0x8086
/* Intel's own, of what a card's dot products are: MODULE_DP_SUPPORT.md of its driver. */
#define DOT_PRODUCTS 0x00030013
#define DEVICE       0xe211
/* ze_device_ip_version_ext_t, since 1.5. */
#define IP_VERSION 0x0001000f

struct number {
    ze_structure_type_t stype;
    void *next;
    uint32_t number;
};

/* In what of that type hangs there; a driver passes by what it does not know. */
static void say_number(void *chain, unsigned stype, uint32_t number) {
    for (struct number *p = chain; p; p = p->next)
        if ((unsigned)p->stype == stype)
            p->number = number;
}

ze_result_t ZE_APICALL zeDeviceGetProperties(ze_device_handle_t card,
                                             ze_device_properties_t *properties) {
    SIM_HANDLE(card, SIM_CARD);
    SIM_POINTER(properties);
    const ze_structure_type_t stype = properties->stype;
    void *next = properties->pNext;
    *properties = (ze_device_properties_t){.stype = stype,
                                           .pNext = next,
                                           .type = ZE_DEVICE_TYPE_GPU,
                                           .vendorId = VENDOR,
                                           .deviceId = DEVICE,
                                           .coreClockRate = 2400,
                                           .maxMemAllocSize = SIM_ALLOC_MAX,
                                           .maxHardwareContexts = 65536,
                                           .numThreadsPerEU = 8,
                                           .physicalEUSimdWidth = 16,
                                           .numEUsPerSubslice = 8,
                                           .numSubslicesPerSlice = 4,
                                           .numSlices = 5,
                                           .timestampValidBits = 64,
                                           .kernelTimestampValidBits = 32};
    /* Cycles a second since 1.2 where it is asked for, else nanoseconds a cycle. */
    properties->timerResolution = stype == ZE_STRUCTURE_TYPE_DEVICE_PROPERTIES_1_2 ? 19200000 : 52;
    const uint8_t uuid[ZE_MAX_DEVICE_UUID_SIZE] = {
        0x86, 0x80, 0x11, 0xe2, 's', 'i', 'm', [8] = (uint8_t)(SIM_FIRST_BUS + card->number)};
    memcpy(properties->uuid.id, uuid, sizeof uuid);
    snprintf(properties->name, sizeof properties->name, "Intel(R) Arc(TM) Pro B60 Graphics");
    if (sim.options.minor >= 5)
        say_number(next, IP_VERSION, sim.options.ip);
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeDeviceGetComputeProperties(ze_device_handle_t card,
                                                    ze_device_compute_properties_t *properties) {
    SIM_HANDLE(card, SIM_CARD);
    SIM_POINTER(properties);
    SIM_ENTER(card);
    *properties = (ze_device_compute_properties_t){.stype = properties->stype,
                                                   .pNext = properties->pNext,
                                                   .maxTotalGroupSize = SIM_GROUP_MAX,
                                                   .maxGroupSizeX = SIM_GROUP_MAX,
                                                   .maxGroupSizeY = SIM_GROUP_MAX,
                                                   .maxGroupSizeZ = SIM_GROUP_MAX,
                                                   .maxGroupCountX = UINT32_MAX,
                                                   .maxGroupCountY = UINT32_MAX,
                                                   .maxGroupCountZ = UINT32_MAX,
                                                   .maxSharedLocalMemory = SIM_LOCAL_BYTES,
                                                   .numSubGroupSizes = 2,
                                                   .subGroupSizes = {16, 32}};
    if (sim.options.xmx == SIM_XMX_NARROW) {
        properties->numSubGroupSizes = 3;
        memcpy(properties->subGroupSizes, (const uint32_t[]){8, 16, 32}, 3 * sizeof(uint32_t));
    }
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeDeviceGetModuleProperties(ze_device_handle_t card,
                                                   ze_device_module_properties_t *properties) {
    const ze_device_fp_flags_t fp = ZE_DEVICE_FP_FLAG_DENORM | ZE_DEVICE_FP_FLAG_INF_NAN |
                                    ZE_DEVICE_FP_FLAG_ROUND_TO_NEAREST | ZE_DEVICE_FP_FLAG_FMA;
    SIM_HANDLE(card, SIM_CARD);
    SIM_POINTER(properties);
    SIM_ENTER(card);
    if (sim.options.xmx == SIM_XMX_REFUSED && properties->pNext)
        return ZE_RESULT_ERROR_INVALID_ARGUMENT; /* as Debian 13's validation layer */
    *properties = (ze_device_module_properties_t){
        .stype = properties->stype,
        .pNext = properties->pNext,
        .spirvVersionSupported = ZE_MAKE_VERSION(1, 4),
        .flags = ZE_DEVICE_MODULE_FLAG_FP16 | ZE_DEVICE_MODULE_FLAG_FP64 |
                 ZE_DEVICE_MODULE_FLAG_INT64_ATOMICS | ZE_DEVICE_MODULE_FLAG_DP4A,
        .fp16flags = fp,
        .fp32flags = fp,
        .fp64flags = fp,
        .maxArgumentsSize = SIM_ARGS_MAX,
        .printfBufferSize = 4 << 20};
    /* 1: four bytes; 2: by the matrix engine */
    say_number(properties->pNext, DOT_PRODUCTS, sim.options.xmx == SIM_XMX_NO ? 1 : 3);
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeDeviceGetCommandQueueGroupProperties(
    ze_device_handle_t card, uint32_t *count, ze_command_queue_group_properties_t *properties) {
    SIM_HANDLE(card, SIM_CARD);
    SIM_POINTER(count);
    SIM_ENTER(card);
    if (!*count || *count > 2)
        *count = 2;
    for (uint32_t i = 0; properties && i < *count; i++) {
        properties[i].flags = ZE_COMMAND_QUEUE_GROUP_PROPERTY_FLAG_COPY;
        if (i == SIM_CARD_ORDINAL)
            properties[i].flags |= ZE_COMMAND_QUEUE_GROUP_PROPERTY_FLAG_COMPUTE;
        properties[i].maxMemoryFillPatternSize = i == SIM_CARD_ORDINAL ? SIM_PATTERN_MAX : 1;
        properties[i].numQueues = 1;
    }
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeDeviceGetMemoryProperties(ze_device_handle_t card, uint32_t *count,
                                                   ze_device_memory_properties_t *properties) {
    SIM_HANDLE(card, SIM_CARD);
    SIM_POINTER(count);
    SIM_ENTER(card);
    *count = 1;
    if (!properties)
        return ZE_RESULT_SUCCESS;
    properties->flags = 0;
    properties->maxClockRate = 19000;
    properties->maxBusWidth = 192;
    properties->totalSize = sim.options.memory_bytes[card->number];
    snprintf(properties->name, sizeof properties->name, "HBM");
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeDeviceGetMemoryAccessProperties(
    ze_device_handle_t card, ze_device_memory_access_properties_t *properties) {
    SIM_HANDLE(card, SIM_CARD);
    SIM_POINTER(properties);
    SIM_ENTER(card);
    properties->hostAllocCapabilities = ZE_MEMORY_ACCESS_CAP_FLAG_RW;
    properties->deviceAllocCapabilities =
        ZE_MEMORY_ACCESS_CAP_FLAG_RW | ZE_MEMORY_ACCESS_CAP_FLAG_ATOMIC;
    properties->sharedSingleDeviceAllocCapabilities = 0;
    properties->sharedCrossDeviceAllocCapabilities = 0;
    properties->sharedSystemAllocCapabilities = sim.options.system;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeDeviceGetCacheProperties(ze_device_handle_t card, uint32_t *count,
                                                  ze_device_cache_properties_t *properties) {
    SIM_HANDLE(card, SIM_CARD);
    SIM_POINTER(count);
    SIM_ENTER(card);
    *count = 1;
    if (properties) {
        properties->flags = 0;
        properties->cacheSize = 18 << 20;
    }
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeDeviceGetExternalMemoryProperties(
    ze_device_handle_t card, ze_device_external_memory_properties_t *properties) {
    SIM_HANDLE(card, SIM_CARD);
    SIM_POINTER(properties);
    SIM_ENTER(card);
    properties->memoryAllocationImportTypes = ZE_EXTERNAL_MEMORY_TYPE_FLAG_DMA_BUF;
    properties->memoryAllocationExportTypes =
        sim.control.keeps_in[card->number] ? 0 : ZE_EXTERNAL_MEMORY_TYPE_FLAG_DMA_BUF;
    properties->imageImportTypes = 0;
    properties->imageExportTypes = 0;
    return ZE_RESULT_SUCCESS;
}

/* The cards lie on buses 03, 04, ... of domain 0. */
ze_result_t ZE_APICALL zeDevicePciGetPropertiesExt(ze_device_handle_t card,
                                                   ze_pci_ext_properties_t *properties) {
    SIM_HANDLE(card, SIM_CARD);
    SIM_POINTER(properties);
    properties->address = (ze_pci_address_ext_t){.bus = SIM_FIRST_BUS + card->number};
    properties->maxSpeed =
        (ze_pci_speed_ext_t){.genVersion = 5, .width = 8, .maxBandwidth = INT64_C(31500000000)};
    return ZE_RESULT_SUCCESS;
}

static bool says_it_reaches(ze_device_handle_t card, ze_device_handle_t peer) {
    return sim_reaches(card, (int)peer->number) || sim.control.claimed[card->number][peer->number];
}

ze_result_t ZE_APICALL zeDeviceGetP2PProperties(ze_device_handle_t card, ze_device_handle_t peer,
                                                ze_device_p2p_properties_t *properties) {
    SIM_HANDLE(card, SIM_CARD);
    SIM_HANDLE(peer, SIM_CARD);
    SIM_POINTER(properties);
    SIM_ENTER(card);
    properties->flags = says_it_reaches(card, peer) ? ZE_DEVICE_P2P_PROPERTY_FLAG_ACCESS : 0;
    return ZE_RESULT_SUCCESS;
}

ze_result_t ZE_APICALL zeDeviceCanAccessPeer(ze_device_handle_t card, ze_device_handle_t peer,
                                             ze_bool_t *value) {
    SIM_HANDLE(card, SIM_CARD);
    SIM_HANDLE(peer, SIM_CARD);
    SIM_POINTER(value);
    SIM_ENTER(card);
    *value = says_it_reaches(card, peer);
    return ZE_RESULT_SUCCESS;
}
