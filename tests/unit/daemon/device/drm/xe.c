/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's calls for shared virtual memory: what is asked of it, and what is made of its
 * answers.  The numbers are those of the kernel's header, compiled elsewhere. */
#include "daemon/device/drm/xe.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/device/drm/xe_uapi.h"
#include "octarc/error.h"
#include "tests/check.h"

/* A kernel that writes down what it is asked. */
static struct {
    uint64_t flags; /* of the configuration */
    int fails;      /* errno of every call but a query's; 0 */
    int interrupts; /* calls that are interrupted before one is heard */
    uint32_t answer_size;
    unsigned n_advice, n_binds, n_closed;
    struct xe_uapi_madvise advice[8];
    struct xe_uapi_vm_bind bind;
    struct xe_uapi_vm_create vm;
} k;

static int fake_open(const char *slot) {
    CHECK(!strcmp(slot, "0000:03:00.0"));
    return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int fake_close(int fd) {
    k.n_closed++;
    return close(fd);
}

static int answer(struct xe_uapi_query *q) {
    const uint64_t config[] = {4, 0xe211, k.flags, 65536, 48};
    const struct xe_uapi_mem_region regions[] = {
        {.mem_class = 0, .total_size = 1u << 30, .used = 7},
        {.mem_class = 1, .total_size = 1000, .used = 30, .cpu_visible_size = 500},
        {.mem_class = 1, .total_size = 2000, .used = 12, .cpu_visible_size = 2000}};
    char all[8 + sizeof regions] = {3};
    memcpy(all + 8, regions, sizeof regions);
    const bool about_config = q->query == XE_UAPI_QUERY_CONFIG;
    const uint32_t size = about_config ? sizeof config : sizeof all;
    if (!q->size) {
        q->size = k.answer_size ? k.answer_size : size;
        return 0;
    }
    memcpy((void *)(uintptr_t)q->data, about_config ? (const void *)config : all,
           q->size < size ? q->size : size);
    return 0;
}

static int fake_ioctl(int fd, unsigned long request, void *argument) {
    CHECK(fd > 2);
    if (k.interrupts) {
        errno = k.interrupts-- % 2 ? EINTR : EAGAIN;
        return -1;
    }
    if (request == XE_UAPI_IOC_QUERY)
        return answer(argument);
    if (request == XE_UAPI_IOC_MADVISE)
        memcpy(&k.advice[k.n_advice++ % 8], argument, sizeof k.advice[0]);
    if (request == XE_UAPI_IOC_VM_BIND) {
        memcpy(&k.bind, argument, sizeof k.bind);
        k.n_binds++;
    }
    if (request == XE_UAPI_IOC_VM_CREATE) {
        memcpy(&k.vm, argument, sizeof k.vm);
        ((struct xe_uapi_vm_create *)argument)->vm_id = 5;
    }
    errno = k.fails;
    return k.fails ? -1 : 0;
}

static struct xe_card open_fake(void) {
    static const struct xe_calls fakes = {fake_open, fake_ioctl, fake_close};
    struct xe_card card = {0};
    struct err err = {{0}};
    memset(&k, 0, sizeof k);
    k.flags = XE_UAPI_HAS_CPU_ADDR_MIRROR;
    xe_use(&fakes);
    CHECK_EQ(xe_open(&card, "0000:03:00.0", &err), 0);
    return card;
}

static void structures_lie_as_in_the_kernels_header(void) {
    CHECK_EQ(XE_UAPI_IOC_QUERY, 0xc0286440);
    CHECK_EQ(XE_UAPI_IOC_VM_CREATE, 0xc0206443);
    CHECK_EQ(XE_UAPI_IOC_VM_BIND, 0x40886445);
    CHECK_EQ(XE_UAPI_IOC_MADVISE, 0x4040644c);
    CHECK_EQ(sizeof(struct xe_uapi_madvise), 64);
    CHECK_EQ(offsetof(struct xe_uapi_madvise, start), 8);
    CHECK_EQ(offsetof(struct xe_uapi_madvise, range), 16);
    CHECK_EQ(offsetof(struct xe_uapi_madvise, vm_id), 24);
    CHECK_EQ(offsetof(struct xe_uapi_madvise, type), 28);
    CHECK_EQ(offsetof(struct xe_uapi_madvise, devmem_fd), 32);
    CHECK_EQ(offsetof(struct xe_uapi_madvise, policy), 36);
    CHECK_EQ(offsetof(struct xe_uapi_madvise, region_instance), 38);
    CHECK_EQ(offsetof(struct xe_uapi_madvise, value_reserved), 40);
    CHECK_EQ(offsetof(struct xe_uapi_madvise, reserved), 48);
    CHECK_EQ(sizeof(struct xe_uapi_mem_region), 88);
    CHECK_EQ(sizeof(struct xe_uapi_vm_bind), 136);
    CHECK_EQ(sizeof(struct xe_uapi_bind_op), 80);
    CHECK_EQ(sizeof(struct xe_uapi_vm_create), 32);
    CHECK_EQ(XE_UAPI_VM_LR_MODE, 1 << 1);
    CHECK_EQ(XE_UAPI_VM_FAULT_MODE, 1 << 2);
    CHECK_EQ(XE_UAPI_BIND_MIRROR, 1 << 5);
    CHECK_EQ(XE_UAPI_BIND_AUTORESET, 1 << 6);
    CHECK_EQ(XE_UAPI_OP_PREFETCH, 4);
}

static void a_card_is_opened_in_fault_mode(void) {
    struct xe_card card = open_fake();
    CHECK_EQ(card.vm, 5);
    CHECK_EQ(k.vm.flags, XE_UAPI_VM_LR_MODE | XE_UAPI_VM_FAULT_MODE);
    xe_close(&card);
    CHECK_EQ(card.fd, 0);
    CHECK_EQ(k.n_closed, 1);
    xe_close(&card);
    CHECK_EQ(k.n_closed, 1);
}

/* 0 in advice is the VM's own card. */
static void no_cards_descriptor_is_one_of_the_standard_ones(void) {
    const int kept = dup(0);
    CHECK(kept > 2);
    close(0);
    struct xe_card card = open_fake();
    CHECK(card.fd > 2);
    CHECK_EQ(fcntl(0, F_GETFD), -1); /* the low one is closed again */
    CHECK_EQ(k.n_closed, 1);
    xe_close(&card);
    CHECK_EQ(dup2(kept, 0), 0);
    close(kept);
}

static void without_the_mirror_a_card_is_refused(void) {
    static const struct xe_calls fakes = {fake_open, fake_ioctl, fake_close};
    struct xe_card card = {0};
    struct err err = {{0}};
    memset(&k, 0, sizeof k);
    xe_use(&fakes);
    CHECK_EQ(xe_open(&card, "0000:03:00.0", &err), -ENOTSUP);
    CHECK(strstr(err.text, "HAS_CPU_ADDR_MIRROR"));
    k.flags = XE_UAPI_HAS_CPU_ADDR_MIRROR;
    k.answer_size = 16; /* an answer too short to hold the flags */
    CHECK_EQ(xe_open(&card, "0000:03:00.0", &err), -ENOTSUP);
    k.answer_size = 1u << 30;
    CHECK_EQ(xe_open(&card, "0000:03:00.0", &err), -ENOSPC);
    k.answer_size = 0;
    k.fails = EINVAL; /* no fault mode */
    CHECK_EQ(xe_open(&card, "0000:03:00.0", &err), -EINVAL);
    CHECK(strstr(err.text, "VM_CREATE"));
    CHECK_EQ(card.fd, 0);
    CHECK_EQ(k.n_closed, 4);
}

/* The kernel skips advice with the number that it has. */
static void advice_is_taken_back_before_it_is_given(void) {
    struct xe_card card = open_fake();
    const struct xe_card home = {77, 1};
    char *const at = (char *)(uintptr_t)(64 * XE_CHUNK_BYTES);
    CHECK_EQ(xe_prefer(&card, at, XE_CHUNK_BYTES, &home, NULL), 0);
    CHECK_EQ(k.n_advice, 2);
    CHECK_EQ(k.advice[0].devmem_fd, XE_UAPI_DEFAULT_DEVICE);
    CHECK_EQ(k.advice[0].region_instance, 0);
    CHECK_EQ(k.advice[1].devmem_fd, 77);
    CHECK_EQ(k.advice[1].region_instance, 1);
    CHECK_EQ(k.advice[1].start, (uintptr_t)at);
    CHECK_EQ(k.advice[1].range, XE_CHUNK_BYTES);
    CHECK_EQ(k.advice[1].vm_id, 5);
    CHECK_EQ(k.advice[1].policy, 0);
    CHECK_EQ(xe_prefer(&card, at, XE_CHUNK_BYTES, NULL, NULL), 0);
    CHECK_EQ(k.n_advice, 3);
    CHECK_EQ(k.advice[2].devmem_fd, XE_UAPI_DEFAULT_DEVICE);
    xe_close(&card);
}

static void memory_is_mirrored_and_prefetched_by_binds(void) {
    struct xe_card card = open_fake();
    char *const at = (char *)(uintptr_t)(64 * XE_CHUNK_BYTES);
    CHECK_EQ(xe_mirror(&card, at, XE_CHUNK_BYTES, NULL), 0);
    CHECK_EQ(k.bind.bind.op, XE_UAPI_OP_MAP);
    CHECK_EQ(k.bind.bind.flags, XE_UAPI_BIND_MIRROR);
    CHECK_EQ(k.bind.n_binds, 1);
    CHECK_EQ(k.bind.vm_id, 5);
    CHECK_EQ(xe_prefetch(&card, at, XE_CHUNK_BYTES, NULL), 0);
    CHECK_EQ(k.bind.bind.op, XE_UAPI_OP_PREFETCH);
    CHECK_EQ(k.bind.bind.region, UINT32_MAX); /* where the advice says */
    CHECK_EQ(k.bind.bind.addr, (uintptr_t)at);
    CHECK_EQ(k.bind.bind.range, XE_CHUNK_BYTES);
    CHECK_EQ(xe_unmirror(&card, at, XE_CHUNK_BYTES, NULL), 0);
    CHECK_EQ(k.bind.bind.op, XE_UAPI_OP_UNMAP);
    xe_close(&card);
}

static void the_cards_own_memory_is_told_of_all_its_regions(void) {
    struct xe_card card = open_fake();
    struct xe_memory m = {0};
    CHECK_EQ(xe_memory(&card, &m, NULL), 0);
    CHECK_EQ(m.total, 3000);
    CHECK_EQ(m.used, 42);
    CHECK_EQ(m.visible, 2500);
    k.answer_size = 8 + 2 * 88; /* says three, has room for two */
    CHECK_EQ(xe_memory(&card, &m, NULL), 0);
    CHECK_EQ(m.used, 30);
    xe_close(&card);
}

static void an_interrupted_call_is_made_again(void) {
    struct xe_card card = open_fake();
    k.interrupts = 3;
    CHECK_EQ(xe_prefetch(&card, NULL, XE_CHUNK_BYTES, NULL), 0);
    CHECK_EQ(k.interrupts, 0);
    CHECK_EQ(k.n_binds, 1);
    xe_close(&card);
}

static void each_error_says_what_it_means(void) {
    struct xe_card card = open_fake();
    const struct xe_card home = {77, 1};
    static const struct {
        int number;
        const char *says;
    } all[] = {{ENOENT, "closed or banned"}, {ENODEV, "unplugged"},      {ENOLINK, "no fast link"},
               {EINVAL, "does not know"},    {ECANCELED, "is wedged"},   {EACCES, "may not be"},
               {ENODATA, "not all"},         {EIO, "Input/output error"}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct err err = {{0}};
        k.fails = all[i].number;
        CHECK_EQ(xe_prefer(&card, NULL, XE_CHUNK_BYTES, &home, &err), -all[i].number);
        CHECK(strstr(err.text, "MADVISE") && strstr(err.text, all[i].says));
    }
    k.fails = 0;
    xe_close(&card);
}

static void a_card_that_is_not_there_is_named(void) {
    struct xe_card card = {0};
    struct err err = {{0}};
    xe_use(NULL); /* the machine's own */
    CHECK(xe_open(&card, "ffff:ff:1f.7", &err) < 0);
    CHECK(strstr(err.text, "ffff:ff:1f.7"));
    CHECK_EQ(card.fd, 0);
}

CHECK_MAIN(T(structures_lie_as_in_the_kernels_header), T(a_card_is_opened_in_fault_mode),
           T(no_cards_descriptor_is_one_of_the_standard_ones),
           T(without_the_mirror_a_card_is_refused), T(advice_is_taken_back_before_it_is_given),
           T(memory_is_mirrored_and_prefetched_by_binds),
           T(the_cards_own_memory_is_told_of_all_its_regions), T(an_interrupted_call_is_made_again),
           T(each_error_says_what_it_means), T(a_card_that_is_not_there_is_named))
