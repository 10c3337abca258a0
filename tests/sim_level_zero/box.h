/* SPDX-License-Identifier: Apache-2.0 */
/* box.h - a test's box of simulated cards: the real loader over the simulated driver.
 *
 * The driver and the kernels are found beside the test program's own folder in the build; the
 * OpenCL runtime where OCL_ICD_VENDORS says, else where fetch-runtime puts Intel's, else it is
 * PoCL where that is installed.  Link with -lze_loader. */
#ifndef OCTARC_TESTS_SIM_LEVEL_ZERO_BOX_H
#define OCTARC_TESTS_SIM_LEVEL_ZERO_BOX_H

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <level_zero/ze_api.h>

#include "tests/check.h"

#define BOX_CARDS_MAX 8
#define BOX_POCL      "/etc/OpenCL/vendors/pocl.icd"

struct box {
    ze_driver_handle_t driver;
    ze_context_handle_t context;
    ze_device_handle_t cards[BOX_CARDS_MAX];
    uint32_t n_cards;
};

#ifdef __SANITIZE_THREAD__
/* Intel's runtime was not built for ThreadSanitizer, which does not see how its threads agree. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void) {
    return "race:libintelocl.so\nrace:libtbb.so\nrace:libcommon_clang.so\n"
           "deadlock:libintelocl.so\nmutex:libintelocl.so\nthread:libtbb.so\n";
}
#endif

#ifdef __SANITIZE_ADDRESS__
/* PoCL leaves what it built with to the process's end. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libpocl.so\n";
}
#endif

#define ZE(call) CHECK_EQ(call, ZE_RESULT_SUCCESS)

/* The path of a file of the build, `name` being as in the tree. */
static inline void box_path(const char *name, char *out, size_t size) {
    char exe[PATH_MAX] = "";
    CHECK(readlink("/proc/self/exe", exe, sizeof exe - 1) > 0);
    char *tests = strstr(exe, "/tests/");
    CHECK(tests);
    *tests = '\0';
    CHECK(snprintf(out, size, "%s/%s", exe, name) < (int)size);
}

/* Whether PoCL stands in for Intel's runtime. */
static inline int box_is_pocl(void) {
    const char *vendors = getenv("OCL_ICD_VENDORS");
    return vendors && strstr(vendors, "pocl.icd") != NULL;
}

/* PoCL's other device runs kernels on threads of its own. */
static inline void box_choose_runtime(void) {
    char intel[PATH_MAX];
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    snprintf(intel, sizeof intel, "%s/%s",
             cache  ? cache
             : home ? home
                    : "/root",
             cache ? "octarc/opencl/current/vendors" : ".cache/octarc/opencl/current/vendors");
    const int pocl = access(intel, R_OK) && !access(BOX_POCL, R_OK);
    setenv("OCL_ICD_VENDORS", pocl ? BOX_POCL : intel, 0);
    if (box_is_pocl())
        setenv("POCL_DEVICES", "basic", 1);
}

/* Sets what the loader and the driver look for; `options` are the words of SIM_ZE. */
static inline void box_environment(const char *options) {
    char path[PATH_MAX];
    box_path("tests/sim_level_zero/libze_sim.so", path, sizeof path);
    setenv("ZE_ENABLE_ALT_DRIVERS", path, 1);
    setenv("SIM_ZE", options, 1);
    box_choose_runtime();
}

/* Whether the loader's validation layer, of specification 1.4 in Debian 12, was asked for. */
static inline int box_is_validated(void) {
    const char *asked = getenv("ZE_ENABLE_VALIDATION_LAYER");
    return asked && !strcmp(asked, "1");
}

/* Skips the test where kernels cannot run. */
static inline void box_needs_kernels(void) {
    if (access(getenv("OCL_ICD_VENDORS"), R_OK))
        SKIP("no OpenCL runtime for CPUs: tests/sim_level_zero/fetch-runtime gets Intel's, "
             "pocl-opencl-icd is a part of one");
}

/* Skips the test where PoCL stands in, which cannot do what the test is about. */
static inline void box_needs_more_than_pocl(const char *what) {
    box_needs_kernels();
    if (!box_is_pocl())
        return;
    printf("# SKIP PoCL stands in for Intel's OpenCL runtime: %s\n", what);
    fflush(stdout);
    exit(CHECK_SKIPPED);
}

#define BOX_NEEDS_MATRIX() box_needs_more_than_pocl("it is given no matrix functions")
#define BOX_NEEDS_GROUPS() box_needs_more_than_pocl("it has no groups of several sub-groups")

static inline struct box box_open(const char *options) {
    struct box box = {.n_cards = BOX_CARDS_MAX};
    box_environment(options);
    ZE(zeInit(ZE_INIT_FLAG_GPU_ONLY));
    uint32_t one = 1;
    ZE(zeDriverGet(&one, &box.driver));
    ZE(zeDeviceGet(box.driver, &box.n_cards, box.cards));
    const ze_context_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_CONTEXT_DESC};
    ZE(zeContextCreate(box.driver, &desc, &box.context));
    return box;
}

/* A module of SPIR-V of the build; build errors are the test's. */
static inline ze_module_handle_t box_module(const struct box *box, unsigned card,
                                            const char *name) {
    char path[PATH_MAX];
    box_path(name, path, sizeof path);
    FILE *f = fopen(path, "rb");
    CHECK(f);
    static uint8_t il[8 << 20];
    const ze_module_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_MODULE_DESC,
                                   .format = ZE_MODULE_FORMAT_IL_SPIRV,
                                   .inputSize = fread(il, 1, sizeof il, f),
                                   .pInputModule = il};
    fclose(f);
    ze_module_handle_t module = NULL;
    ze_module_build_log_handle_t log = NULL;
    const ze_result_t result = zeModuleCreate(box->context, box->cards[card], &desc, &module, &log);
    if (result != ZE_RESULT_SUCCESS) {
        char text[4096] = "";
        size_t size = sizeof text;
        zeModuleBuildLogGetString(log, &size, text);
        printf("# %s\n", text);
    }
    ZE(result);
    zeModuleBuildLogDestroy(log);
    return module;
}

static inline ze_kernel_handle_t box_kernel(ze_module_handle_t module, const char *name) {
    const ze_kernel_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_KERNEL_DESC, .pKernelName = name};
    ze_kernel_handle_t kernel = NULL;
    ZE(zeKernelCreate(module, &desc, &kernel));
    return kernel;
}

static inline void *box_memory(const struct box *box, unsigned card, size_t size) {
    const ze_device_mem_alloc_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_DEVICE_MEM_ALLOC_DESC};
    void *p = NULL;
    ZE(zeMemAllocDevice(box->context, &desc, size, 0, box->cards[card], &p));
    return p;
}

static inline void *box_host_memory(const struct box *box, size_t size) {
    const ze_host_mem_alloc_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_HOST_MEM_ALLOC_DESC};
    void *p = NULL;
    ZE(zeMemAllocHost(box->context, &desc, size, 0, &p));
    return p;
}

static inline ze_command_queue_handle_t box_queue(const struct box *box, unsigned card) {
    const ze_command_queue_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_COMMAND_QUEUE_DESC,
                                          .mode = ZE_COMMAND_QUEUE_MODE_ASYNCHRONOUS};
    ze_command_queue_handle_t queue = NULL;
    ZE(zeCommandQueueCreate(box->context, box->cards[card], &desc, &queue));
    return queue;
}

static inline ze_command_list_handle_t box_list(const struct box *box, unsigned card) {
    const ze_command_list_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_COMMAND_LIST_DESC};
    ze_command_list_handle_t list = NULL;
    ZE(zeCommandListCreate(box->context, box->cards[card], &desc, &list));
    return list;
}

static inline ze_command_list_handle_t box_immediate(const struct box *box, unsigned card,
                                                     ze_command_queue_mode_t mode) {
    const ze_command_queue_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_COMMAND_QUEUE_DESC,
                                          .mode = mode};
    ze_command_list_handle_t list = NULL;
    ZE(zeCommandListCreateImmediate(box->context, box->cards[card], &desc, &list));
    return list;
}

static inline ze_event_pool_handle_t box_pool(const struct box *box, uint32_t count) {
    const ze_event_pool_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_EVENT_POOL_DESC,
                                       .flags = ZE_EVENT_POOL_FLAG_HOST_VISIBLE,
                                       .count = count};
    ze_event_pool_handle_t pool = NULL;
    ZE(zeEventPoolCreate(box->context, &desc, 0, NULL, &pool));
    return pool;
}

static inline ze_event_handle_t box_event(ze_event_pool_handle_t pool, uint32_t index) {
    const ze_event_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_EVENT_DESC,
                                  .index = index,
                                  .signal = ZE_EVENT_SCOPE_FLAG_HOST,
                                  .wait = ZE_EVENT_SCOPE_FLAG_HOST};
    ze_event_handle_t event = NULL;
    ZE(zeEventCreate(pool, &desc, &event));
    return event;
}

/* Copies and waits; for what a test needs besides what it tests. */
static inline ze_result_t box_copy(const struct box *box, unsigned card, void *to, const void *from,
                                   size_t size) {
    ze_command_list_handle_t list = box_immediate(box, card, ZE_COMMAND_QUEUE_MODE_SYNCHRONOUS);
    const ze_result_t result = zeCommandListAppendMemoryCopy(list, to, from, size, NULL, 0, NULL);
    zeCommandListDestroy(list);
    return result;
}

/* Launches and waits. */
static inline ze_result_t box_launch(const struct box *box, unsigned card,
                                     ze_kernel_handle_t kernel, uint32_t groups) {
    ze_command_list_handle_t list = box_immediate(box, card, ZE_COMMAND_QUEUE_MODE_SYNCHRONOUS);
    const ze_group_count_t count = {groups, 1, 1};
    const ze_result_t result = zeCommandListAppendLaunchKernel(list, kernel, &count, NULL, 0, NULL);
    zeCommandListDestroy(list);
    return result;
}

static inline void box_set(ze_kernel_handle_t kernel, uint32_t index, const void *p) {
    ZE(zeKernelSetArgumentValue(kernel, index, sizeof p, &p));
}

#endif
