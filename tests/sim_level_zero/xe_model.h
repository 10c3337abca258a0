/* SPDX-License-Identifier: Apache-2.0 */
/* xe_model.h - the inside of xe.h: files, VMs, advice, and where memory is.  sim.lock is held. */
#ifndef OCTARC_SIM_LEVEL_ZERO_XE_MODEL_H
#define OCTARC_SIM_LEVEL_ZERO_XE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XE_OWN    (-2) /* the VM's own card */
#define XE_SYSTEM (-1)

/* Advice on [begin, end); neighbours differ. */
struct xe_advice {
    uint64_t begin, end;
    uint32_t devmem_fd, policy, atomic, pat;
    int target; /* XE_OWN, XE_SYSTEM or a card: what devmem_fd meant when it was stored */
};

struct xe_vm {
    struct xe_vm *next;
    uint32_t id;
    bool faults;
    struct xe_advice *ranges; /* of what is mirrored, by address */
    size_t n;
};

struct xe_file {
    struct xe_file *next;
    int fd;
    unsigned card;
    uint32_t last_vm;
    struct xe_vm *vms;
};

struct xe_file *xe_file_of(int fd);
bool xe_joined(unsigned a, unsigned b); /* a may use memory of b's */
struct xe_vm *xe_vm_of(const struct xe_file *file, uint32_t id);

/* Splits so that ranges begin and end at the two addresses. */
int xe_vm_split(struct xe_vm *vm, uint64_t begin, uint64_t end);
int xe_vm_mirror(struct xe_vm *vm, uint64_t begin, uint64_t end);
void xe_vm_unmirror(struct xe_vm *vm, uint64_t begin, uint64_t end);
void xe_vm_merge(struct xe_vm *vm);
void xe_vm_finish(struct xe_vm *vm);

/* Moves [begin, end) to the card, or to the host (XE_SYSTEM); 0, or -ENODATA when some of it stays.
 */
bool xe_is_anonymous(uint64_t begin, uint64_t end);
int xe_move(uint64_t begin, uint64_t end, int target);
int xe_where(uint64_t address); /* the card, or XE_SYSTEM */
void xe_forget_unmapped(void);  /* what is not mapped any more is nowhere */

#endif
