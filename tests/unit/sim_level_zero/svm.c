/* SPDX-License-Identifier: Apache-2.0 */
/* Shared virtual memory of simulated cards: the kernel's calls, and Level Zero's over them. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "tests/sim_level_zero/box.h"
#include "tests/sim_level_zero/xe.h"

#define CHUNK (UINT64_C(2) << 20)

static int (*xe_open)(unsigned card);
static int (*xe_close)(int fd);
static int (*xe_ioctl)(int fd, unsigned long request, void *argument);

static struct box open_box(const char *options) {
    const struct box box = box_open(options);
    void *driver = dlopen(getenv("ZE_ENABLE_ALT_DRIVERS"), RTLD_NOW);
    CHECK(driver);
    *(void **)&xe_open = dlsym(driver, "sim_xe_open");
    *(void **)&xe_close = dlsym(driver, "sim_xe_close");
    *(void **)&xe_ioctl = dlsym(driver, "sim_xe_ioctl");
    CHECK(xe_open && xe_close && xe_ioctl);
    return box;
}

/* 0, or the errno. */
static int call(int fd, unsigned long request, void *argument) {
    return xe_ioctl(fd, request, argument) ? errno : 0;
}

/* Anonymous memory that begins with a chunk. */
static char *map(uint64_t bytes) {
    char *p = mmap(NULL, bytes + CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    return (char *)(((uintptr_t)p + CHUNK - 1) / CHUNK * CHUNK);
}

static uint64_t used(int fd) {
    struct xe_mem_regions regions;
    struct xe_device_query q = {.query = XE_QUERY_MEM_REGIONS};
    CHECK_EQ(call(fd, XE_DEVICE_QUERY, &q), 0);
    CHECK_EQ(q.size, sizeof regions);
    q.data = (uintptr_t)&regions;
    CHECK_EQ(call(fd, XE_DEVICE_QUERY, &q), 0);
    return regions.regions[1].used;
}

static uint32_t make_vm(int fd) {
    struct xe_vm_create c = {.flags = XE_VM_LR_MODE | XE_VM_FAULT_MODE};
    CHECK_EQ(call(fd, XE_VM_CREATE, &c), 0);
    return c.vm_id;
}

static int bind_vm(int fd, uint32_t vm, const void *p, uint64_t bytes, uint32_t op, uint32_t flags,
                   uint32_t region) {
    struct xe_vm_bind b = {
        .vm_id = vm,
        .num_binds = 1,
        .bind = {.range = bytes, .addr = (uintptr_t)p, .op = op, .flags = flags, .region = region}};
    return call(fd, XE_VM_BIND, &b);
}

static int mirror(int fd, uint32_t vm, const void *p, uint64_t bytes) {
    return bind_vm(fd, vm, p, bytes, XE_OP_MAP, XE_BIND_MIRROR, 0);
}

static int prefetch(int fd, uint32_t vm, const void *p, uint64_t bytes) {
    return bind_vm(fd, vm, p, bytes, XE_OP_PREFETCH, 0, XE_REGION_ADVICE);
}

static int advise(int fd, uint32_t vm, const void *p, uint64_t bytes, int devmem_fd) {
    struct xe_madvise m = {.start = (uintptr_t)p,
                           .range = bytes,
                           .vm_id = vm,
                           .preferred = {.devmem_fd = (uint32_t)devmem_fd}};
    return call(fd, XE_MADVISE, &m);
}

static void a_prefetch_moves_memory_to_where_the_advice_says(void) {
    open_box("cards=2 memory=64M system=0xf");
    const int a = xe_open(0), b = xe_open(1);
    const uint32_t vm = make_vm(a);
    char *p = map(4 * CHUNK);
    CHECK_EQ(prefetch(a, vm, p, CHUNK), EINVAL); /* nothing is mirrored */
    CHECK_EQ(mirror(a, vm, p, 4 * CHUNK), 0);
    CHECK_EQ(prefetch(a, vm, p, CHUNK), 0); /* by default its own card */
    CHECK_EQ(used(a), CHUNK);
    CHECK_EQ(prefetch(a, vm, p, CHUNK), 0);
    CHECK_EQ(used(a), CHUNK);
    CHECK_EQ(advise(a, vm, p, 4 * CHUNK, b), 0);
    CHECK_EQ(used(a), CHUNK); /* advice moves nothing */
    CHECK_EQ(prefetch(a, vm, p, 4 * CHUNK), 0);
    CHECK_EQ(used(a), 0);
    CHECK_EQ(used(b), 4 * CHUNK);
    CHECK_EQ(advise(a, vm, p, 4 * CHUNK, XE_DEFAULT_SYSTEM), 0);
    CHECK_EQ(prefetch(a, vm, p, 4 * CHUNK), 0);
    CHECK_EQ(used(b), 0);
}

static void each_vm_has_its_own_advice(void) {
    open_box("cards=2 memory=64M system=0xf");
    const int a = xe_open(0), b = xe_open(1);
    const uint32_t vm_a = make_vm(a), vm_b = make_vm(b);
    char *p = map(CHUNK);
    CHECK_EQ(mirror(a, vm_a, p, CHUNK), 0);
    CHECK_EQ(mirror(b, vm_b, p, CHUNK), 0);
    CHECK_EQ(advise(a, vm_a, p, CHUNK, a), 0);
    CHECK_EQ(prefetch(a, vm_a, p, CHUNK), 0);
    CHECK_EQ(prefetch(b, vm_b, p, CHUNK), 0); /* b was not told, and pulls */
    CHECK_EQ(used(a), 0);
    CHECK_EQ(used(b), CHUNK);
}

static void errors_of_advice_are_the_kernels(void) {
    const struct box box = open_box("cards=3 memory=64M system=0xf p2p=0>1/1>0");
    const int a = xe_open(0), c = xe_open(2), other = open("/dev/null", O_RDONLY);
    const uint32_t vm = make_vm(a);
    char *p = map(CHUNK);
    CHECK_EQ(mirror(a, vm, p, CHUNK), 0);
    CHECK_EQ(advise(a, vm, p, CHUNK, 900), ENOENT);
    CHECK_EQ(advise(a, vm, p, CHUNK, other), ENOENT);
    CHECK_EQ(advise(a, vm, p, CHUNK, c), ENOLINK);
    CHECK_EQ(advise(a, vm, p + 1, CHUNK, 0), EINVAL);
    CHECK_EQ(advise(a, vm, p, CHUNK, -2), EINVAL);
    CHECK_EQ(advise(a, vm + 1, p, CHUNK, 0), ENOENT);
    CHECK_EQ(bind_vm(a, vm, p, CHUNK, XE_OP_MAP, XE_BIND_AUTORESET, 0), EINVAL);
    struct xe_vm_create plain = {.flags = XE_VM_FAULT_MODE};
    CHECK_EQ(call(a, XE_VM_CREATE, &plain), EINVAL); /* needs LR_MODE */
    CHECK_EQ(xe_close(c), 0);
    CHECK_EQ(call(c, XE_VM_CREATE, &plain), EBADF);
    CHECK_EQ(box.n_cards, 3);
}

/* 1 reaches both, and 0 came first. */
static void cards_that_do_not_all_reach_each_other_are_two_groups(void) {
    open_box("cards=3 memory=64M system=0xf p2p=0>1/1>0/1>2/2>1");
    const int fds[3] = {xe_open(0), xe_open(1), xe_open(2)};
    const uint32_t vms[3] = {make_vm(fds[0]), make_vm(fds[1]), make_vm(fds[2])};
    char *p = map(CHUNK);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(mirror(fds[i], vms[i], p, CHUNK), 0);
    CHECK_EQ(advise(fds[0], vms[0], p, CHUNK, fds[1]), 0);
    CHECK_EQ(advise(fds[1], vms[1], p, CHUNK, fds[2]), ENOLINK);
    CHECK_EQ(advise(fds[2], vms[2], p, CHUNK, fds[1]), ENOLINK);
}

/* What is unmapped takes no card's memory. */
static void memory_that_is_gone_is_nowhere(void) {
    open_box("cards=1 memory=64M system=0xf");
    const int a = xe_open(0);
    const uint32_t vm = make_vm(a);
    char *p = map(CHUNK);
    CHECK_EQ(mirror(a, vm, p, CHUNK), 0);
    CHECK_EQ(prefetch(a, vm, p, CHUNK), 0);
    CHECK_EQ(used(a), CHUNK);
    CHECK_EQ(munmap(p, CHUNK), 0);
    CHECK_EQ(used(a), 0);
}

static void a_lost_and_a_wedged_card_refuse_every_call(void) {
    open_box("cards=3 system=0xf lose=1 abort=2");
    const int a = xe_open(0), lost = xe_open(1), wedged = xe_open(2);
    const uint32_t vm = make_vm(a);
    char *p = map(CHUNK);
    struct xe_vm_create c = {.flags = XE_VM_LR_MODE};
    CHECK_EQ(mirror(a, vm, p, CHUNK), 0);
    CHECK_EQ(call(lost, XE_VM_CREATE, &c), ENODEV);
    CHECK_EQ(call(wedged, XE_VM_CREATE, &c), ECANCELED);
    CHECK_EQ(advise(a, vm, p, CHUNK, lost), ENODEV);
}

static void a_descriptors_number_is_all_that_advice_compares(void) {
    open_box("cards=3 memory=64M system=0xf");
    const int a = xe_open(0), b = xe_open(1);
    const uint32_t vm = make_vm(a);
    char *p = map(CHUNK);
    CHECK_EQ(mirror(a, vm, p, CHUNK), 0);
    CHECK_EQ(advise(a, vm, p, CHUNK, b), 0);
    CHECK_EQ(xe_close(b), 0);
    const int c = xe_open(2);
    CHECK_EQ(c, b); /* the same number, another card */
    CHECK_EQ(advise(a, vm, p, CHUNK, c), 0);
    CHECK_EQ(prefetch(a, vm, p, CHUNK), 0);
    CHECK_EQ(used(c), 0);
    CHECK_EQ(advise(a, vm, p, CHUNK, XE_DEFAULT_DEVICE), 0);
    CHECK_EQ(advise(a, vm, p, CHUNK, c), 0);
    CHECK_EQ(prefetch(a, vm, p, CHUNK), 0);
    CHECK_EQ(used(c), CHUNK);
}

static void only_anonymous_memory_moves_and_only_where_it_fits(void) {
    open_box("cards=1 memory=4M system=0xf");
    const int a = xe_open(0), file = memfd_create("weights", MFD_CLOEXEC);
    const uint32_t vm = make_vm(a);
    char *p = map(3 * CHUNK);
    CHECK_EQ(ftruncate(file, CHUNK), 0);
    CHECK(mmap(p, CHUNK, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, 0) == p);
    CHECK_EQ(mirror(a, vm, p, 3 * CHUNK), 0);
    CHECK_EQ(prefetch(a, vm, p, CHUNK), ENODATA);
    CHECK_EQ(used(a), 0);
    CHECK_EQ(prefetch(a, vm, p + CHUNK, 2 * CHUNK), 0);
    CHECK_EQ(used(a), 2 * CHUNK);
    char *more = map(CHUNK);
    CHECK_EQ(mirror(a, vm, more, CHUNK), 0);
    CHECK_EQ(prefetch(a, vm, more, CHUNK), ENODATA);
}

static void attributes_are_told_range_by_range(void) {
    open_box("cards=2 system=0xf");
    const int a = xe_open(0), b = xe_open(1);
    const uint32_t vm = make_vm(a);
    char *p = map(3 * CHUNK);
    struct xe_range_attrs attrs[3];
    CHECK_EQ(mirror(a, vm, p, 3 * CHUNK), 0);
    CHECK_EQ(advise(a, vm, p + CHUNK, CHUNK, b), 0);
    struct xe_query_attrs q = {.vm_id = vm, .start = (uintptr_t)p, .range = 3 * CHUNK};
    CHECK_EQ(call(a, XE_QUERY_ATTRS, &q), 0);
    CHECK_EQ(q.n, 3);
    CHECK_EQ(q.attr_bytes, sizeof *attrs);
    q.attrs = (uintptr_t)attrs;
    CHECK_EQ(call(a, XE_QUERY_ATTRS, &q), 0);
    CHECK_EQ(attrs[1].start, (uintptr_t)p + CHUNK);
    CHECK_EQ(attrs[1].preferred.devmem_fd, b);
    q.n = 2;
    CHECK_EQ(call(a, XE_QUERY_ATTRS, &q), ENOSPC);
}

/* Appends, forces with a barrier, and waits. */
static void level_zero(const struct box *box, unsigned card, int advice, unsigned target,
                       const void *p, uint64_t bytes) {
    ze_command_list_handle_t list = box_immediate(box, card, ZE_COMMAND_QUEUE_MODE_SYNCHRONOUS);
    if (advice >= 0)
        ZE(zeCommandListAppendMemAdvise(list, box->cards[target], p, bytes,
                                        (ze_memory_advice_t)advice));
    ZE(zeCommandListAppendMemoryPrefetch(list, p, bytes));
    ZE(zeCommandListAppendBarrier(list, NULL, 0, NULL));
    ZE(zeCommandListDestroy(list));
}

static void level_zero_advises_the_lists_card_and_drops_results(void) {
    const struct box box = open_box("cards=3 memory=64M system=0xf version=1.7 p2p=0>1/1>0");
    const int fds[3] = {xe_open(0), xe_open(1), xe_open(2)};
    char *p = map(2 * CHUNK);
    level_zero(&box, 0, ZE_MEMORY_ADVICE_SET_PREFERRED_LOCATION, 1, p, 2 * CHUNK);
    CHECK_EQ(used(fds[1]), 2 * CHUNK);
    /* No interconnect: success, and nothing changes. */
    level_zero(&box, 0, ZE_MEMORY_ADVICE_SET_PREFERRED_LOCATION, 2, p, 2 * CHUNK);
    CHECK_EQ(used(fds[1]), 2 * CHUNK);
    if (!box_is_validated()) { /* the layer refuses an advice of 1.7 */
        level_zero(&box, 0, 8, 0, p, 2 * CHUNK);
        CHECK_EQ(used(fds[1]), 0);
    }
    level_zero(&box, 0, ZE_MEMORY_ADVICE_CLEAR_PREFERRED_LOCATION, 0, p, 2 * CHUNK);
    CHECK_EQ(used(fds[0]), 2 * CHUNK);
    level_zero(&box, 1, -1, 0, p, 2 * CHUNK); /* its own VM was never told: it pulls */
    CHECK_EQ(used(fds[1]), 2 * CHUNK);
}

static void a_deaf_card_swallows_advice(void) {
    const struct box box = open_box("cards=1 memory=64M system=0xf deaf=0");
    const int fd = xe_open(0);
    char *p = map(CHUNK);
    level_zero(&box, 0, ZE_MEMORY_ADVICE_SET_PREFERRED_LOCATION, 0, p, CHUNK);
    CHECK_EQ(used(fd), 0);
}

static void a_kernel_pulls_the_hosts_memory_to_its_card(void) {
    const struct box box = open_box("cards=1 memory=64M system=0xf");
    box_needs_kernels();
    const int fd = xe_open(0);
    uint32_t *p = (uint32_t *)map(CHUNK);
    ze_kernel_handle_t kernel =
        box_kernel(box_module(&box, 0, "tests/sim_level_zero/kernels/probe.spv"), "add_one");
    ZE(zeKernelSetGroupSize(kernel, 16, 1, 1));
    box_set(kernel, 0, p);
    ZE(box_launch(&box, 0, kernel, 1));
    CHECK_EQ(p[15], 1);
    CHECK_EQ(used(fd), CHUNK);
}

/* What the host touches, or Level Zero copies, is the host's again; a card that was told finds it
 * where it is, and one that was not pulls it. */
static void a_touch_moves_what_was_advised(void) {
    const struct box box = open_box("cards=2 memory=64M system=0xf");
    box_needs_kernels();
    const int a = xe_open(0), b = xe_open(1);
    const uint32_t vm = make_vm(a);
    uint32_t *p = (uint32_t *)map(2 * CHUNK);
    CHECK_EQ(mirror(a, vm, p, 2 * CHUNK), 0);
    CHECK_EQ(advise(a, vm, p, 2 * CHUNK, a), 0);
    CHECK_EQ(prefetch(a, vm, p, 2 * CHUNK), 0);
    CHECK_EQ(used(a), 2 * CHUNK);
    p[0] = 6; /* one chunk of them */
    CHECK_EQ(used(a), CHUNK);
    CHECK_EQ(prefetch(a, vm, p, 2 * CHUNK), 0);
    ze_kernel_handle_t kernels[2];
    for (unsigned i = 0; i < 2; i++) {
        kernels[i] =
            box_kernel(box_module(&box, i, "tests/sim_level_zero/kernels/probe.spv"), "add_one");
        ZE(zeKernelSetGroupSize(kernels[i], 16, 1, 1));
        box_set(kernels[i], 0, p);
    }
    ZE(box_launch(&box, 0, kernels[0], 1));
    CHECK_EQ(used(a), 2 * CHUNK);
    ZE(box_launch(&box, 1, kernels[1], 1)); /* Level Zero's VM of card 1 was not told */
    CHECK_EQ(used(a), CHUNK);
    CHECK_EQ(used(b), CHUNK);
    level_zero(&box, 1, ZE_MEMORY_ADVICE_SET_PREFERRED_LOCATION, 0, p, 2 * CHUNK);
    CHECK_EQ(used(a), 2 * CHUNK);
    ZE(box_launch(&box, 1, kernels[1], 1));
    CHECK_EQ(used(a), 2 * CHUNK);
    void *host = NULL;
    const ze_host_mem_alloc_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_HOST_MEM_ALLOC_DESC};
    ZE(zeMemAllocHost(box.context, &desc, 64, 64, &host));
    ze_command_list_handle_t list = box_immediate(&box, 0, ZE_COMMAND_QUEUE_MODE_SYNCHRONOUS);
    ZE(zeCommandListAppendMemoryCopy(list, host, p, 4, NULL, 0, NULL));
    CHECK_EQ(*(uint32_t *)host, 9);
    CHECK_EQ(used(a), CHUNK);
    ZE(zeCommandListDestroy(list));
}

static void without_the_capability_advice_is_refused(void) {
    const struct box box = open_box("cards=1");
    char *p = map(CHUNK);
    ze_command_list_handle_t list = box_immediate(&box, 0, ZE_COMMAND_QUEUE_MODE_SYNCHRONOUS);
    CHECK_EQ(zeCommandListAppendMemAdvise(list, box.cards[0], p, CHUNK,
                                          ZE_MEMORY_ADVICE_SET_READ_MOSTLY),
             ZE_RESULT_ERROR_INVALID_ARGUMENT);
    struct xe_config config;
    struct xe_device_query q = {
        .query = XE_QUERY_CONFIG, .size = sizeof config, .data = (uintptr_t)&config};
    CHECK_EQ(call(xe_open(0), XE_DEVICE_QUERY, &q), 0);
    CHECK_EQ(config.info[1] & 4, 0);
}

CHECK_MAIN(T(a_prefetch_moves_memory_to_where_the_advice_says), T(each_vm_has_its_own_advice),
           T(errors_of_advice_are_the_kernels),
           T(cards_that_do_not_all_reach_each_other_are_two_groups),
           T(a_touch_moves_what_was_advised), T(memory_that_is_gone_is_nowhere),
           T(a_lost_and_a_wedged_card_refuse_every_call),
           T(a_descriptors_number_is_all_that_advice_compares),
           T(only_anonymous_memory_moves_and_only_where_it_fits),
           T(attributes_are_told_range_by_range),
           T(level_zero_advises_the_lists_card_and_drops_results), T(a_deaf_card_swallows_advice),
           T(a_kernel_pulls_the_hosts_memory_to_its_card),
           T(without_the_capability_advice_is_refused))
