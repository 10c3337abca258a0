/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/drm/xe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "daemon/device/drm/xe_uapi.h"
#include "octarc/error.h"

#define ANSWER_MAX (64u << 10) /* of a query: regions are few */

/* ---- the kernel itself ---------------------------------------------------------------------- */

/* The node that renders; udev names it by its place, and where it does not, sysfs knows it. */
static int open_node(const char *slot) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "/dev/dri/by-path/pci-%s-render", slot);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        return fd;
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/drm", slot);
    DIR *all = opendir(path);
    for (const struct dirent *entry; all && fd < 0 && (entry = readdir(all));) {
        if (strncmp(entry->d_name, "renderD", 7) != 0 || strlen(entry->d_name) > 16)
            continue;
        snprintf(path, sizeof path, "/dev/dri/%.16s", entry->d_name);
        fd = open(path, O_RDWR | O_CLOEXEC);
    }
    const int why = errno;
    if (all)
        closedir(all);
    errno = why;
    return fd;
}

static int call_kernel(int fd, unsigned long request, void *argument) {
    return ioctl(fd, request, argument);
}

static const struct xe_calls kernel = {open_node, call_kernel, close};
static const struct xe_calls *calls = &kernel;

void xe_use(const struct xe_calls *own) {
    calls = own ? own : &kernel;
}

/* ---- errors --------------------------------------------------------------------------------- */

int xe_failed(int rc, const char *call, struct err *err) {
    static const struct {
        int rc;
        const char *meaning;
    } table[] = {
        {-ENOENT, "no card of xe's, or none of its memory, is behind the descriptor, or its VM is "
                  "closed or banned"},
        {-ENODEV, "the card is unplugged or without its driver"},
        {-ENOLINK, "the cards have no fast link between them"},
        {-ECANCELED, "the card is wedged: the kernel refuses every call"},
        {-ENODATA, "not all of the memory could be moved"},
        {-EINVAL, "this kernel does not know the call, or not with these arguments"},
        {-ENOTTY, "this kernel does not know the call"},
        {-EACCES, "the card's node may not be opened"},
        {-ENOMEM, "no memory"},
        {-ENOSPC, "the kernel's answer is longer than octarc takes"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].rc == rc)
            return err_set(err, rc, "%s: %s (%s)", call, table[i].meaning, strerror(-rc));
    return rc ? err_set(err, rc, "%s: %s", call, strerror(-rc)) : 0;
}

static int call(int fd, unsigned long request, void *argument, const char *name, struct err *err) {
    int rc;
    do
        rc = calls->ioctl(fd, request, argument);
    while (rc < 0 && (errno == EINTR || errno == EAGAIN));
    return rc < 0 ? xe_failed(-errno, name, err) : 0;
}

/* ---- queries -------------------------------------------------------------------------------- */

/* What the kernel says of it, in memory of its size, which is the caller's. */
static int query(int fd, uint32_t what, void **answer, uint32_t *size, struct err *err) {
    struct xe_uapi_query q = {.query = what};
    int rc = call(fd, XE_UAPI_IOC_QUERY, &q, "DEVICE_QUERY", err);
    if (rc)
        return rc;
    if (q.size == 0 || q.size > ANSWER_MAX)
        return xe_failed(-ENOSPC, "DEVICE_QUERY", err);
    void *made = calloc(1, q.size);
    if (!made)
        return xe_failed(-ENOMEM, "DEVICE_QUERY", err);
    q.data = (uintptr_t)made;
    rc = call(fd, XE_UAPI_IOC_QUERY, &q, "DEVICE_QUERY", err);
    if (rc) {
        free(made);
        return rc;
    }
    *answer = made;
    *size = q.size;
    return 0;
}

static int check_mirror(int fd, struct err *err) {
    void *answer;
    uint32_t size;
    const int rc = query(fd, XE_UAPI_QUERY_CONFIG, &answer, &size, err);
    if (rc)
        return rc == -EINVAL || rc == -ENOTTY ? -ENOTSUP : rc;
    const struct xe_uapi_config *config = answer;
    const bool told =
        size >= sizeof *config + 2 * sizeof *config->info && config->n > XE_UAPI_CONFIG_FLAGS;
    const bool has = told && config->info[XE_UAPI_CONFIG_FLAGS] & XE_UAPI_HAS_CPU_ADDR_MIRROR;
    free(answer);
    return has ? 0
               : err_set(err, -ENOTSUP,
                         "the kernel has no shared virtual memory for the card (xe says no "
                         "HAS_CPU_ADDR_MIRROR)");
}

int xe_memory(const struct xe_card *card, struct xe_memory *out, struct err *err) {
    void *answer;
    uint32_t size;
    const int rc = query(card->fd, XE_UAPI_QUERY_MEM_REGIONS, &answer, &size, err);
    if (rc)
        return rc;
    const struct xe_uapi_mem_regions *all = answer;
    struct xe_memory m = {0};
    const size_t room = size < sizeof *all ? 0 : (size - sizeof *all) / sizeof *all->regions;
    for (uint32_t i = 0; room && i < all->n && i < room; i++) {
        if (all->regions[i].mem_class != XE_UAPI_CLASS_VRAM)
            continue;
        m.total += all->regions[i].total_size;
        m.used += all->regions[i].used;
        m.visible += all->regions[i].cpu_visible_size;
    }
    free(answer);
    *out = m;
    return 0;
}

/* ---- cards ---------------------------------------------------------------------------------- */

/* In advice 0 means the VM's own card; 1 and 2 are what a program expects elsewhere. */
static int above_standard(int fd) {
    if (fd > STDERR_FILENO)
        return fd;
    const int moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    const int why = errno;
    calls->close(fd);
    errno = why;
    return moved;
}

int xe_open(struct xe_card *card, const char *slot, struct err *err) {
    int fd = calls->open(slot);
    if (fd >= 0)
        fd = above_standard(fd);
    if (fd < 0) {
        struct err why = {{0}};
        const int rc = xe_failed(-errno, "open", &why);
        return err_set(err, rc, "the node of the card at %s: %.400s", slot, why.text);
    }
    struct xe_uapi_vm_create vm = {.flags = XE_UAPI_VM_LR_MODE | XE_UAPI_VM_FAULT_MODE};
    int rc = check_mirror(fd, err);
    if (!rc)
        rc = call(fd, XE_UAPI_IOC_VM_CREATE, &vm, "VM_CREATE in fault mode", err);
    if (rc) {
        calls->close(fd);
        return rc;
    }
    *card = (struct xe_card){fd, vm.vm_id};
    return 0;
}

void xe_close(struct xe_card *card) {
    if (card->fd)
        calls->close(card->fd);
    *card = (struct xe_card){0};
}

/* ---- memory --------------------------------------------------------------------------------- */

static int bind_op(const struct xe_card *card, const struct xe_uapi_bind_op *op, const char *name,
                   struct err *err) {
    struct xe_uapi_vm_bind bind = {.vm_id = card->vm, .n_binds = 1, .bind = *op};
    return call(card->fd, XE_UAPI_IOC_VM_BIND, &bind, name, err);
}

int xe_mirror(const struct xe_card *card, const void *at, uint64_t bytes, struct err *err) {
    const struct xe_uapi_bind_op op = {
        .range = bytes, .addr = (uintptr_t)at, .op = XE_UAPI_OP_MAP, .flags = XE_UAPI_BIND_MIRROR};
    return bind_op(card, &op, "VM_BIND of the process's memory", err);
}

int xe_unmirror(const struct xe_card *card, const void *at, uint64_t bytes, struct err *err) {
    const struct xe_uapi_bind_op op = {
        .range = bytes, .addr = (uintptr_t)at, .op = XE_UAPI_OP_UNMAP};
    return bind_op(card, &op, "VM_BIND that ends", err);
}

int xe_prefetch(const struct xe_card *card, const void *at, uint64_t bytes, struct err *err) {
    const struct xe_uapi_bind_op op = {.range = bytes,
                                       .addr = (uintptr_t)at,
                                       .op = XE_UAPI_OP_PREFETCH,
                                       .region = XE_UAPI_REGION_ADVICE};
    return bind_op(card, &op, "PREFETCH", err);
}

static int prefer(const struct xe_card *card, const void *at, uint64_t bytes, uint32_t fd,
                  struct err *err) {
    struct xe_uapi_madvise m = {.start = (uintptr_t)at,
                                .range = bytes,
                                .vm_id = card->vm,
                                .type = XE_UAPI_ADVISE_PREFERRED,
                                .devmem_fd = fd,
                                .region_instance =
                                    fd == XE_UAPI_DEFAULT_DEVICE ? 0 : XE_UAPI_FIRST_VRAM};
    return call(card->fd, XE_UAPI_IOC_MADVISE, &m, "MADVISE", err);
}

int xe_prefer(const struct xe_card *card, const void *at, uint64_t bytes,
              const struct xe_card *home, struct err *err) {
    const int rc = prefer(card, at, bytes, XE_UAPI_DEFAULT_DEVICE, err);
    return rc || !home ? rc : prefer(card, at, bytes, (uint32_t)home->fd, err);
}
