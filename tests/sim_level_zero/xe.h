/* SPDX-License-Identifier: Apache-2.0 */
/* xe.h - a model of what the kernel's xe driver does for shared virtual memory.
 *
 * The driver exports these three functions (dlsym in the library that the loader has open).  They
 * stand for open, close and ioctl on a card's node: the structures are the kernel's own, told here
 * by their layout, and the cards are those of SIM_ZE; interconnect is its p2p, both ways, within
 * groups of cards that all have it (the first that fits, by the order in which VMs are made).
 *
 * Modelled: one set of advice a VM; a card's descriptor in it is a number, and advice with the
 * number and policy that are stored already is skipped, whatever the number means by now; memory
 * moves in whole chunks of 2 MiB (of 64 KiB or 4 KiB at the ends), anonymous private memory only; a
 * prefetch that moves less than all says ENODATA; a card's used bytes count what was moved to it.
 * The host's touch of advised chunks moves them back (reach.c); what is unmapped is nowhere.
 * Not modelled: contents (the same bytes are read wherever they are said to be), munmap that resets
 * advice, more than one tile.
 *
 * Errors, as -1 and errno: ENODEV and ECANCELED from every call on a lost and on a wedged card; of
 * advice ENOENT (no card's descriptor, no such region), ENODEV (that card is lost), ENOLINK (no
 * interconnect), EINVAL; ENOSPC when a query has room for too few ranges; EBADF. */
#ifndef OCTARC_SIM_LEVEL_ZERO_XE_H
#define OCTARC_SIM_LEVEL_ZERO_XE_H

#include <stdint.h>

#define XE_DEVICE_QUERY 0xc0286440ul
#define XE_VM_CREATE    0xc0206443ul
#define XE_VM_BIND      0x40886445ul
#define XE_MADVISE      0x4040644cul
#define XE_QUERY_ATTRS  0xc040644dul

#define XE_QUERY_MEM_REGIONS 1
#define XE_QUERY_CONFIG      2

#define XE_VM_LR_MODE    (1u << 1)
#define XE_VM_FAULT_MODE (1u << 2)
#define XE_VM_NO_OVER    (1u << 3)

#define XE_OP_MAP         0
#define XE_OP_UNMAP       1
#define XE_OP_PREFETCH    4
#define XE_BIND_MIRROR    (1u << 5)
#define XE_BIND_AUTORESET (1u << 6)
#define XE_REGION_ADVICE  UINT32_MAX

#define XE_ADVISE_PREFERRED 0
#define XE_ADVISE_ATOMIC    1
#define XE_ADVISE_PAT       2
#define XE_DEFAULT_DEVICE   0
#define XE_DEFAULT_SYSTEM   (-1)

struct xe_device_query {
    uint64_t extensions;
    uint32_t query, size;
    uint64_t data, reserved[2];
};
struct xe_mem_region {
    uint16_t mem_class, instance;
    uint32_t min_page_size;
    uint64_t total_size, used, cpu_visible_size, cpu_visible_used, reserved[6];
};
struct xe_mem_regions {
    uint32_t n, pad;
    struct xe_mem_region regions[2]; /* of the host; of the card */
};
struct xe_config {
    uint32_t n, pad;
    uint64_t info[4]; /* revision and id; flags; alignment; bits of an address */
};
struct xe_vm_create {
    uint64_t extensions;
    uint32_t flags, vm_id;
    uint64_t reserved[2];
};
struct xe_bind_op {
    uint64_t extensions;
    uint32_t obj;
    uint16_t pat_index, pad;
    uint64_t obj_offset, range, addr;
    uint32_t op, flags, region, pad2;
    uint64_t reserved[3];
};
struct xe_vm_bind {
    uint64_t extensions;
    uint32_t vm_id, exec_queue_id, pad, num_binds;
    struct xe_bind_op bind;
    uint32_t pad2, num_syncs;
    uint64_t syncs, reserved[2];
};
struct xe_madvise {
    uint64_t extensions, start, range;
    uint32_t vm_id, type;
    union {
        struct {
            uint32_t devmem_fd;
            uint16_t policy, region;
            uint64_t reserved;
        } preferred;
        struct {
            uint32_t value, pad;
            uint64_t reserved;
        } number; /* of atomic and PAT */
    };
    uint64_t reserved[2];
};
struct xe_range_attrs {
    uint64_t extensions, start, end;
    struct {
        uint32_t devmem_fd, policy;
    } preferred;
    struct {
        uint32_t value, reserved;
    } atomic, pat;
    uint64_t reserved[2];
};
struct xe_query_attrs {
    uint64_t extensions;
    uint32_t vm_id, n;
    uint64_t start, range, attr_bytes, attrs, reserved[2];
};

_Static_assert(sizeof(struct xe_device_query) == 40, "as in the kernel's header");
_Static_assert(sizeof(struct xe_mem_region) == 88, "as in the kernel's header");
_Static_assert(sizeof(struct xe_vm_create) == 32, "as in the kernel's header");
_Static_assert(sizeof(struct xe_bind_op) == 80, "as in the kernel's header");
_Static_assert(sizeof(struct xe_vm_bind) == 136, "as in the kernel's header");
_Static_assert(sizeof(struct xe_madvise) == 64, "as in the kernel's header");
_Static_assert(sizeof(struct xe_range_attrs) == 64, "as in the kernel's header");
_Static_assert(sizeof(struct xe_query_attrs) == 64, "as in the kernel's header");

/* A descriptor of the card's node, a real one; -1 and errno. */
int sim_xe_open(unsigned card);
int sim_xe_close(int fd);
int sim_xe_ioctl(int fd, unsigned long request, void *argument);

#endif
