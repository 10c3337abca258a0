/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated driver under the real loader: cards, memory, lists, events. */
#include <signal.h>
#include <stdbool.h>

#include "tests/sim_level_zero/box.h"

#define N 1024

static const char probe[] = "tests/sim_level_zero/kernels/probe.spv";

static void eight_cards_say_who_they_are(void) {
    const struct box box = box_open("cards=8 memory=24G version=1.15");
    CHECK_EQ(box.n_cards, 8);
    ze_api_version_t version = 0;
    ZE(zeDriverGetApiVersion(box.driver, &version));
    CHECK_EQ(version, ZE_MAKE_VERSION(1, 15));
    for (uint32_t i = 0; i < 8; i++) {
        ze_pci_ext_properties_t pci = {.stype = ZE_STRUCTURE_TYPE_PCI_EXT_PROPERTIES};
        ze_device_properties_t device = {.stype = ZE_STRUCTURE_TYPE_DEVICE_PROPERTIES};
        ze_device_compute_properties_t compute = {.stype =
                                                      ZE_STRUCTURE_TYPE_DEVICE_COMPUTE_PROPERTIES};
        ze_device_memory_properties_t memory = {.stype =
                                                    ZE_STRUCTURE_TYPE_DEVICE_MEMORY_PROPERTIES};
        uint32_t one = 1;
        ZE(zeDevicePciGetPropertiesExt(box.cards[i], &pci));
        CHECK_EQ(pci.address.bus, 3 + i);
        ZE(zeDeviceGetProperties(box.cards[i], &device));
        CHECK_EQ(device.vendorId, 0x8086);
        ZE(zeDeviceGetComputeProperties(box.cards[i], &compute));
        CHECK_EQ(compute.subGroupSizes[0], 16);
        CHECK_EQ(compute.subGroupSizes[1], 32);
        ZE(zeDeviceGetMemoryProperties(box.cards[i], &one, &memory));
        CHECK_EQ(memory.totalSize, UINT64_C(24) << 30);
    }
}

static bool is_mapped(const char *library) {
    char line[1024];
    bool found = false;
    FILE *f = fopen("/proc/self/maps", "r");
    CHECK(f);
    while (fgets(line, sizeof line, f))
        found |= strstr(line, library) != NULL;
    fclose(f);
    return found;
}

/* tests/sim_level_zero/validated runs all of these under it. */
static void the_validation_layer_is_there_when_it_is_asked_for(void) {
    const struct box box = box_open("cards=1");
    CHECK_EQ(box.n_cards, 1);
    CHECK_EQ(is_mapped("libze_validation_layer"), box_is_validated());
}

static void fill_words(uint32_t *words, uint32_t first) {
    for (uint32_t i = 0; i < N; i++)
        words[i] = first + i;
}

static void copies_go_to_a_card_and_back(void) {
    const struct box box = box_open("cards=2");
    uint32_t *memory = box_memory(&box, 1, N * 4), out[N] = {0}, in[N];
    fill_words(in, 7);
    ZE(box_copy(&box, 1, memory, in, sizeof in));
    ZE(box_copy(&box, 1, out, memory, sizeof out));
    CHECK(!memcmp(in, out, sizeof in));
}

static void fills_repeat_their_pattern(void) {
    const struct box box = box_open("cards=1");
    uint8_t *memory = box_memory(&box, 0, 64), out[64];
    ze_command_list_handle_t list = box_immediate(&box, 0, ZE_COMMAND_QUEUE_MODE_SYNCHRONOUS);
    ZE(zeCommandListAppendMemoryFill(list, memory, "abcd", 4, 64, NULL, 0, NULL));
    CHECK_EQ(zeCommandListAppendMemoryFill(list, memory, "abc", 3, 64, NULL, 0, NULL),
             ZE_RESULT_ERROR_INVALID_SIZE);
    ZE(box_copy(&box, 0, out, memory, 64));
    CHECK(!memcmp(out, "abcdabcd", 8) && !memcmp(out + 60, "abcd", 4));
}

/* How a child ends that looks at `p`. */
static int ends_when_it_reads(const volatile uint32_t *p) {
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        /* Sanitizers would turn the signal into a report. */
        signal(SIGSEGV, SIG_DFL);
        _exit((int)(*p & 1));
    }
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void the_host_cannot_read_a_cards_memory(void) {
    const struct box box = box_open("cards=1");
    uint32_t *memory = box_memory(&box, 0, N * 4), in[N];
    CHECK_EQ(ends_when_it_reads(memory), SIGSEGV);
    fill_words(in, 0);
    ZE(box_copy(&box, 0, memory, in, sizeof in));
    CHECK_EQ(ends_when_it_reads(memory), SIGSEGV);
    CHECK_EQ(ends_when_it_reads(box_host_memory(&box, 64)), 0);
}

static void nothing_runs_before_the_host_waits(void) {
    const struct box box = box_open("cards=1");
    uint32_t *memory = box_memory(&box, 0, 4), one = 1, two = 2, seen = 0;
    ze_command_list_handle_t list = box_immediate(&box, 0, ZE_COMMAND_QUEUE_MODE_ASYNCHRONOUS);
    ze_event_pool_handle_t pool = box_pool(&box, 2);
    ze_event_handle_t a = box_event(pool, 0), b = box_event(pool, 1);
    ZE(zeCommandListAppendMemoryCopy(list, memory, &one, 4, a, 0, NULL));
    ZE(zeCommandListAppendMemoryCopy(list, &seen, memory, 4, b, 1, &a));
    usleep(1000);
    CHECK_EQ(seen, 0);
    one = two; /* what is copied is what is there when the copy runs */
    ZE(zeEventHostSynchronize(b, UINT64_MAX));
    CHECK_EQ(seen, 2);
}

static void a_recorded_list_runs_as_often_as_it_is_submitted(void) {
    const struct box box = box_open("cards=1");
    box_needs_kernels();
    uint32_t *memory = box_memory(&box, 0, N * 4), out[N], in[N];
    fill_words(in, 0);
    ZE(box_copy(&box, 0, memory, in, sizeof in));
    ze_kernel_handle_t kernel = box_kernel(box_module(&box, 0, probe), "add_one");
    ze_command_list_handle_t list = box_list(&box, 0);
    ze_command_queue_handle_t queue = box_queue(&box, 0);
    const ze_group_count_t groups = {N / 64, 1, 1};
    ZE(zeKernelSetGroupSize(kernel, 64, 1, 1));
    box_set(kernel, 0, memory);
    ZE(zeCommandListAppendLaunchKernel(list, kernel, &groups, NULL, 0, NULL));
    box_set(kernel, 0, NULL); /* the arguments were taken when it was appended */
    ZE(zeCommandListClose(list));
    const ze_fence_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_FENCE_DESC};
    ze_fence_handle_t fence = NULL;
    ZE(zeFenceCreate(queue, &desc, &fence));
    for (uint32_t i = 0; i < 3; i++) {
        ZE(zeCommandQueueExecuteCommandLists(queue, 1, &list, fence));
        CHECK_EQ(zeCommandListDestroy(list), ZE_RESULT_ERROR_HANDLE_OBJECT_IN_USE);
        ZE(zeFenceHostSynchronize(fence, UINT64_MAX));
        ZE(zeFenceReset(fence));
    }
    ZE(zeCommandQueueSynchronize(queue, UINT64_MAX));
    ZE(box_copy(&box, 0, out, memory, sizeof out));
    for (uint32_t i = 0; i < N; i++)
        CHECK_EQ(out[i], i + 3);
}

/* x -> 2 (x + 1) when the barrier holds; without it some seed has the other order. */
static uint32_t add_then_double(const struct box *box, bool barrier, uint32_t list_flags) {
    uint32_t *memory = box_memory(box, 0, 4 * 64), start[64] = {5}, out[64];
    ZE(box_copy(box, 0, memory, start, sizeof start));
    ze_module_handle_t module = box_module(box, 0, probe);
    ze_kernel_handle_t add = box_kernel(module, "add_one"), twice = box_kernel(module, "twice");
    const ze_command_list_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_COMMAND_LIST_DESC,
                                         .flags = list_flags};
    ze_command_list_handle_t list = NULL;
    ZE(zeCommandListCreate(box->context, box->cards[0], &desc, &list));
    ze_command_queue_handle_t queue = box_queue(box, 0);
    const ze_group_count_t groups = {1, 1, 1};
    ZE(zeKernelSetGroupSize(add, 64, 1, 1));
    ZE(zeKernelSetGroupSize(twice, 64, 1, 1));
    box_set(add, 0, memory);
    box_set(twice, 0, memory);
    ZE(zeCommandListAppendLaunchKernel(list, add, &groups, NULL, 0, NULL));
    if (barrier)
        ZE(zeCommandListAppendBarrier(list, NULL, 0, NULL));
    ZE(zeCommandListAppendLaunchKernel(list, twice, &groups, NULL, 0, NULL));
    ZE(zeCommandListClose(list));
    ZE(zeCommandQueueExecuteCommandLists(queue, 1, &list, NULL));
    ZE(zeCommandQueueSynchronize(queue, UINT64_MAX));
    ZE(box_copy(box, 0, out, memory, sizeof out));
    return out[0];
}

static void only_what_is_ordered_runs_in_order(void) {
    const struct box box = box_open("cards=1 seed=3");
    box_needs_kernels();
    bool swapped = false;
    for (int i = 0; i < 12; i++) {
        CHECK_EQ(add_then_double(&box, true, 0), 12);
        const uint32_t got = add_then_double(&box, false, 0);
        CHECK(got == 12 || got == 11);
        swapped |= got == 11;
    }
    CHECK(swapped);
}

/* The flags of 1.7, which the header does not have yet. */
#define LIST_IN_ORDER  8u
#define QUEUE_IN_ORDER 2u

static void an_in_order_list_is_ordered_since_1_7(void) {
    if (box_is_validated())
        SKIP("the validation layer is of 1.4 and refuses flags of 1.7");
    const struct box box = box_open("cards=1 seed=3 version=1.7");
    box_needs_kernels();
    for (int i = 0; i < 12; i++)
        CHECK_EQ(add_then_double(&box, false, LIST_IN_ORDER), 12);
}

static void older_drivers_do_not_know_it(void) {
    const struct box box = box_open("cards=1 version=1.6");
    const ze_command_list_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_COMMAND_LIST_DESC,
                                         .flags = LIST_IN_ORDER};
    const ze_command_queue_desc_t queue = {.stype = ZE_STRUCTURE_TYPE_COMMAND_QUEUE_DESC,
                                           .flags = QUEUE_IN_ORDER};
    ze_command_list_handle_t list = NULL;
    CHECK_EQ(zeCommandListCreate(box.context, box.cards[0], &desc, &list),
             ZE_RESULT_ERROR_INVALID_ENUMERATION);
    CHECK_EQ(zeCommandListCreateImmediate(box.context, box.cards[0], &queue, &list),
             ZE_RESULT_ERROR_INVALID_ENUMERATION);
}

static void a_wait_ends_with_its_time(void) {
    const struct box box = box_open("cards=1");
    ze_event_handle_t never = box_event(box_pool(&box, 1), 0);
    ze_command_queue_handle_t queue = box_queue(&box, 0);
    ze_command_list_handle_t list = box_list(&box, 0);
    CHECK_EQ(zeEventQueryStatus(never), ZE_RESULT_NOT_READY);
    CHECK_EQ(zeEventHostSynchronize(never, 1000000), ZE_RESULT_NOT_READY);
    ZE(zeCommandListAppendWaitOnEvents(list, 1, &never));
    ZE(zeCommandListClose(list));
    ZE(zeCommandQueueExecuteCommandLists(queue, 1, &list, NULL));
    CHECK_EQ(zeCommandQueueSynchronize(queue, 1000000), ZE_RESULT_NOT_READY);
    ZE(zeEventHostSignal(never));
    ZE(zeCommandQueueSynchronize(queue, UINT64_MAX));
    ZE(zeEventHostReset(never));
    CHECK_EQ(zeEventQueryStatus(never), ZE_RESULT_NOT_READY);
}

static void memory_is_accounted_and_bounded(void) {
    const struct box box = box_open("cards=1 memory=1M");
    const ze_device_mem_alloc_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_DEVICE_MEM_ALLOC_DESC};
    void *a = box_memory(&box, 0, 512 << 10), *b = box_memory(&box, 0, 512 << 10), *c = NULL;
    CHECK_EQ(zeMemAllocDevice(box.context, &desc, 1, 0, box.cards[0], &c),
             ZE_RESULT_ERROR_OUT_OF_DEVICE_MEMORY);
    CHECK_EQ(zeMemAllocDevice(box.context, &desc, 0, 0, box.cards[0], &c),
             ZE_RESULT_ERROR_UNSUPPORTED_SIZE);
    CHECK_EQ(zeMemAllocDevice(box.context, &desc, 1, 3, box.cards[0], &c),
             ZE_RESULT_ERROR_UNSUPPORTED_ALIGNMENT);
    ze_memory_allocation_properties_t properties = {
        .stype = ZE_STRUCTURE_TYPE_MEMORY_ALLOCATION_PROPERTIES};
    ze_device_handle_t card = NULL;
    ZE(zeMemGetAllocProperties(box.context, (char *)b + 5, &properties, &card));
    CHECK_EQ(properties.type, ZE_MEMORY_TYPE_DEVICE);
    CHECK(card == box.cards[0]);
    void *base = NULL;
    size_t size = 0;
    ZE(zeMemGetAddressRange(box.context, (char *)b + 5, &base, &size));
    CHECK(base == b && size == 512 << 10);
    ZE(zeMemFree(box.context, a));
    c = box_memory(&box, 0, 1);
    CHECK(c != a); /* no address is used twice */
    ZE(zeMemGetAllocProperties(box.context, &size, &properties, NULL));
    CHECK_EQ(properties.type, ZE_MEMORY_TYPE_UNKNOWN);
}

static void more_than_four_gib_must_be_asked_for(void) {
    const struct box box = box_open("cards=1 memory=24G");
    ze_device_mem_alloc_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_DEVICE_MEM_ALLOC_DESC};
    const ze_relaxed_allocation_limits_exp_desc_t relaxed = {
        .stype = ZE_STRUCTURE_TYPE_RELAXED_ALLOCATION_LIMITS_EXP_DESC,
        .flags = ZE_RELAXED_ALLOCATION_LIMITS_EXP_FLAG_MAX_SIZE};
    const size_t size = (UINT64_C(4) << 30) + 1;
    void *p = NULL;
    CHECK_EQ(zeMemAllocDevice(box.context, &desc, size, 0, box.cards[0], &p),
             ZE_RESULT_ERROR_UNSUPPORTED_SIZE);
    desc.pNext = &relaxed;
    ZE(zeMemAllocDevice(box.context, &desc, size, 0, box.cards[0], &p));
}

static uint32_t bus_of(ze_device_handle_t card) {
    ze_pci_ext_properties_t pci = {.stype = ZE_STRUCTURE_TYPE_PCI_EXT_PROPERTIES};
    ZE(zeDevicePciGetPropertiesExt(card, &pci));
    return pci.address.bus;
}

/* The order of the list says nothing, and what it names more than once is one card. */
static void a_mask_shows_the_cards_that_it_names(void) {
    setenv("ZE_AFFINITY_MASK", "5,0.1,2,2,77", 1);
    const struct box box = box_open("cards=8");
    CHECK_EQ(box.n_cards, 3);
    CHECK_EQ(bus_of(box.cards[0]), 3);
    CHECK_EQ(bus_of(box.cards[1]), 5);
    CHECK_EQ(bus_of(box.cards[2]), 8);
}

static void an_empty_mask_shows_all(void) {
    setenv("ZE_AFFINITY_MASK", "", 1);
    CHECK_EQ(box_open("cards=8").n_cards, 8);
}

static void its_numbers_may_begin_elsewhere(void) {
    setenv("ZE_AFFINITY_MASK", "1,2", 1);
    const struct box box = box_open("cards=3 ordinal=1");
    CHECK_EQ(box.n_cards, 2);
    CHECK_EQ(bus_of(box.cards[0]), 3);
}

CHECK_MAIN(T(eight_cards_say_who_they_are), T(the_validation_layer_is_there_when_it_is_asked_for),
           T(copies_go_to_a_card_and_back), T(fills_repeat_their_pattern),
           T(the_host_cannot_read_a_cards_memory), T(nothing_runs_before_the_host_waits),
           T(a_recorded_list_runs_as_often_as_it_is_submitted),
           T(only_what_is_ordered_runs_in_order), T(an_in_order_list_is_ordered_since_1_7),
           T(older_drivers_do_not_know_it), T(a_wait_ends_with_its_time),
           T(memory_is_accounted_and_bounded), T(more_than_four_gib_must_be_asked_for),
           T(a_mask_shows_the_cards_that_it_names), T(an_empty_mask_shows_all),
           T(its_numbers_may_begin_elsewhere))
