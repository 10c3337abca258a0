/* SPDX-License-Identifier: Apache-2.0 */
/* xe_uapi.h - the kernel's interface as far as octarc uses it.  Debian 12 has no header of it, so
 * it is told here by its layout; a test compares sizes, offsets and numbers. */
#ifndef OCTARC_DEVICE_DRM_XE_UAPI_H
#define OCTARC_DEVICE_DRM_XE_UAPI_H

#include <stdint.h>
#include <sys/ioctl.h>

struct xe_uapi_query {
    uint64_t extensions;
    uint32_t query, size; /* size 0: it is told */
    uint64_t data, reserved[2];
};

#define XE_UAPI_QUERY_MEM_REGIONS 1u
#define XE_UAPI_QUERY_CONFIG      2u

struct xe_uapi_mem_region {
    uint16_t mem_class, instance;
    uint32_t min_page_size;
    uint64_t total_size, used, cpu_visible_size, cpu_visible_used, reserved[6];
};
struct xe_uapi_mem_regions {
    uint32_t n, pad;
    struct xe_uapi_mem_region regions[];
};
#define XE_UAPI_CLASS_VRAM 1u

struct xe_uapi_config {
    uint32_t n, pad;
    uint64_t info[];
};
#define XE_UAPI_CONFIG_FLAGS        1u /* of info */
#define XE_UAPI_HAS_CPU_ADDR_MIRROR (UINT64_C(1) << 2)

struct xe_uapi_vm_create {
    uint64_t extensions;
    uint32_t flags, vm_id;
    uint64_t reserved[2];
};
#define XE_UAPI_VM_LR_MODE    (1u << 1)
#define XE_UAPI_VM_FAULT_MODE (1u << 2)

struct xe_uapi_bind_op {
    uint64_t extensions;
    uint32_t obj;
    uint16_t pat_index, pad;
    uint64_t obj_offset, range, addr;
    uint32_t op, flags, region, pad2;
    uint64_t reserved[3];
};
struct xe_uapi_vm_bind {
    uint64_t extensions;
    uint32_t vm_id, exec_queue_id, pad, n_binds;
    struct xe_uapi_bind_op bind;
    uint32_t pad2, n_syncs;
    uint64_t syncs, reserved[2];
};
#define XE_UAPI_OP_MAP         0u
#define XE_UAPI_OP_UNMAP       1u
#define XE_UAPI_OP_PREFETCH    4u
#define XE_UAPI_BIND_MIRROR    (1u << 5)
#define XE_UAPI_BIND_AUTORESET (1u << 6)
#define XE_UAPI_REGION_ADVICE  UINT32_MAX

struct xe_uapi_madvise {
    uint64_t extensions, start, range;
    uint32_t vm_id, type;
    uint32_t devmem_fd;
    uint16_t policy, region_instance;
    uint64_t value_reserved, reserved[2];
};
#define XE_UAPI_ADVISE_PREFERRED 0u
#define XE_UAPI_DEFAULT_DEVICE   0u
#define XE_UAPI_FIRST_VRAM       1u

#define XE_UAPI_BASE          ('d')
#define XE_UAPI_IOC_QUERY     _IOWR(XE_UAPI_BASE, 0x40, struct xe_uapi_query)
#define XE_UAPI_IOC_VM_CREATE _IOWR(XE_UAPI_BASE, 0x43, struct xe_uapi_vm_create)
#define XE_UAPI_IOC_VM_BIND   _IOW(XE_UAPI_BASE, 0x45, struct xe_uapi_vm_bind)
#define XE_UAPI_IOC_MADVISE   _IOW(XE_UAPI_BASE, 0x4c, struct xe_uapi_madvise)

#endif
