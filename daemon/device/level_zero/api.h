/* SPDX-License-Identifier: Apache-2.0 */
/* api.h - the calls of oneAPI Level Zero that octarc makes, found at run time: a machine without
 * the loader runs the rest of octarc.  Calls of specification 1.4 or older, which the loader of
 * Debian 12 has; what is newer is looked up where it is used.
 *
 * Every result goes through ze_failed(), the one place that translates it. */
#ifndef OCTARC_DEVICE_LEVEL_ZERO_API_H
#define OCTARC_DEVICE_LEVEL_ZERO_API_H

#include <level_zero/ze_api.h>

struct err;

/* clang-format off */
#define ZE_CALLS(call) \
    call(zeInit) \
    call(zeDriverGet) \
    call(zeDriverGetApiVersion) \
    call(zeDriverGetProperties) \
    call(zeDeviceGet) \
    call(zeDeviceGetProperties) \
    call(zeDeviceGetMemoryProperties) \
    call(zeDeviceGetMemoryAccessProperties) \
    call(zeDeviceGetExternalMemoryProperties) \
    call(zeDeviceGetCommandQueueGroupProperties) \
    call(zeDeviceCanAccessPeer) \
    call(zeDeviceGetStatus) \
    call(zeDeviceGetModuleProperties) \
    call(zeDeviceGetComputeProperties) \
    call(zeDevicePciGetPropertiesExt) \
    call(zeContextCreateEx) \
    call(zeContextDestroy) \
    call(zeMemAllocDevice) \
    call(zeMemAllocHost) \
    call(zeMemFree) \
    call(zeMemGetAllocProperties) \
    call(zeMemGetAddressRange) \
    call(zeModuleCreate) \
    call(zeModuleDestroy) \
    call(zeModuleBuildLogDestroy) \
    call(zeModuleBuildLogGetString) \
    call(zeKernelCreate) \
    call(zeKernelDestroy) \
    call(zeKernelSetGroupSize) \
    call(zeKernelSetArgumentValue) \
    call(zeKernelSetIndirectAccess) \
    call(zeCommandQueueCreate) \
    call(zeCommandQueueDestroy) \
    call(zeCommandQueueExecuteCommandLists) \
    call(zeCommandQueueSynchronize) \
    call(zeCommandListCreate) \
    call(zeCommandListCreateImmediate) \
    call(zeCommandListClose) \
    call(zeCommandListReset) \
    call(zeCommandListDestroy) \
    call(zeCommandListAppendMemoryCopy) \
    call(zeCommandListAppendMemoryFill) \
    call(zeCommandListAppendMemAdvise) \
    call(zeCommandListAppendBarrier) \
    call(zeCommandListAppendEventReset) \
    call(zeCommandListAppendLaunchKernel) \
    call(zeEventPoolCreate) \
    call(zeEventPoolDestroy) \
    call(zeEventCreate) \
    call(zeEventDestroy) \
    call(zeEventHostReset) \
    call(zeEventHostSignal) \
    call(zeEventHostSynchronize) \
    call(zeEventQueryStatus)
/* clang-format on */

struct ze_api {
#define ZE_MEMBER(name) __typeof__(name) *name; /* as the header declares it */
    ZE_CALLS(ZE_MEMBER)
#undef ZE_MEMBER
};

/* The loader's calls, initialised once in a process.  -ENOENT: there is no loader; -ENODEV: it
 * finds no driver; -ENOSYS: a call is missing, which err names. */
int ze_api_open(const struct ze_api **api, struct err *err);

/* The loader's own version, "1.8.12"; empty: it does not tell. */
void ze_loader_version(char out[16]);

/* 0, or a negative errno for a result: -ENODEV where the card is lost, -ENOMEM, -ENOSPC (device
 * memory), -ENOTSUP, -EINVAL, -ETIMEDOUT (not ready), else -EIO; err names the call and the result.
 */
int ze_failed(ze_result_t result, const char *call, struct err *err);

#endif
