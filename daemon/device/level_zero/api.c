/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/level_zero/api.h"

#include <dlfcn.h>
#include <errno.h>
#include <level_zero/loader/ze_loader.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "octarc/error.h"

#define LOADER "libze_loader.so.1"

static struct ze_api api;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int opened;
static struct err why;

static const struct {
    const char *name;
    size_t at;
} calls[] = {
#define ZE_ENTRY(name) {#name, offsetof(struct ze_api, name)},
    ZE_CALLS(ZE_ENTRY)
#undef ZE_ENTRY
};

static int find_calls(void *loader) {
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        void *found = dlsym(loader, calls[i].name);
        if (!found)
            return err_set(&why, -ENOSYS, LOADER " has no %s", calls[i].name);
        memcpy((char *)&api + calls[i].at, &found, sizeof found);
    }
    return 0;
}

/* The driver initialises once in a process; a card that comes back is seen by a new one only. */
static void open_once(void) {
    void *loader = dlopen(LOADER, RTLD_NOW | RTLD_LOCAL);
    if (!loader) {
        opened = err_set(&why, -ENOENT, "no Level Zero loader: %s (package libze1)", dlerror());
        return;
    }
    opened = find_calls(loader);
    if (!opened)
        opened = ze_failed(api.zeInit(ZE_INIT_FLAG_GPU_ONLY), "zeInit", &why);
}

int ze_api_open(const struct ze_api **out, struct err *err) {
    pthread_once(&once, open_once);
    if (opened)
        return err_set(err, opened, "%s", why.text);
    *out = &api;
    return 0;
}

/* A call of the loader's own, which came later than those of the cards. */
void ze_loader_version(char out[16]) {
    void *loader = dlopen(LOADER, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    __typeof__(zelLoaderGetVersions) *versions = NULL;
    void *found = loader ? dlsym(loader, "zelLoaderGetVersions") : NULL;
    size_t n = 0;
    out[0] = '\0';
    memcpy(&versions, &found, sizeof found);
    zel_component_version_t *all =
        versions && !versions(&n, NULL) && n ? calloc(n, sizeof *all) : NULL;
    if (all && !versions(&n, all))
        for (size_t i = 0; i < n; i++)
            if (!strncmp(all[i].component_name, "loader", sizeof all[i].component_name))
                snprintf(out, 16, "%d.%d.%d", all[i].component_lib_version.major,
                         all[i].component_lib_version.minor, all[i].component_lib_version.patch);
    free(all);
    if (loader)
        dlclose(loader);
}

static const struct {
    ze_result_t result;
    int rc;
    const char *text;
} results[] = {
    {ZE_RESULT_NOT_READY, -ETIMEDOUT, "not ready"},
    {ZE_RESULT_ERROR_DEVICE_LOST, -ENODEV, "the card is lost"},
    {ZE_RESULT_ERROR_OUT_OF_HOST_MEMORY, -ENOMEM, "out of host memory"},
    {ZE_RESULT_ERROR_OUT_OF_DEVICE_MEMORY, -ENOSPC, "out of the card's memory"},
    {ZE_RESULT_ERROR_MODULE_BUILD_FAILURE, -EIO, "the kernels cannot be built"},
    {ZE_RESULT_ERROR_MODULE_LINK_FAILURE, -EIO, "the kernels cannot be linked"},
    {ZE_RESULT_ERROR_INSUFFICIENT_PERMISSIONS, -EACCES, "no permission"},
    {ZE_RESULT_ERROR_NOT_AVAILABLE, -EBUSY, "not available now"},
    {ZE_RESULT_ERROR_DEPENDENCY_UNAVAILABLE, -EIO, "something the driver needs is missing"},
    {ZE_RESULT_ERROR_INVALID_NATIVE_BINARY, -EIO, "the image is not one for this card"},
    {ZE_RESULT_ERROR_UNINITIALIZED, -EIO, "no driver"},
    {ZE_RESULT_ERROR_UNSUPPORTED_VERSION, -ENOTSUP, "the version is not supported"},
    {ZE_RESULT_ERROR_UNSUPPORTED_FEATURE, -ENOTSUP, "the feature is not supported"},
    {ZE_RESULT_ERROR_UNSUPPORTED_SIZE, -ENOSPC, "the size is not supported"},
    {ZE_RESULT_ERROR_INVALID_ARGUMENT, -EINVAL, "an argument is wrong"},
};

int ze_failed(ze_result_t result, const char *call, struct err *err) {
    if (result == ZE_RESULT_SUCCESS)
        return 0;
    for (size_t i = 0; i < sizeof results / sizeof *results; i++)
        if (results[i].result == result)
            return err_set(err, results[i].rc, "%s: %s", call, results[i].text);
    return err_set(err, -EIO, "%s: result 0x%08x", call, (unsigned)result);
}
