/* SPDX-License-Identifier: Apache-2.0 */
/* The advice of a VM: ranges by address that do not overlap. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim_level_zero/xe_model.h"

static int insert(struct xe_vm *vm, size_t at, const struct xe_advice *a) {
    struct xe_advice *grown = realloc(vm->ranges, (vm->n + 1) * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    vm->ranges = grown;
    memmove(&grown[at + 1], &grown[at], (vm->n - at) * sizeof *grown);
    grown[at] = *a;
    vm->n++;
    return 0;
}

static int split_at(struct xe_vm *vm, uint64_t address) {
    for (size_t i = 0; i < vm->n; i++) {
        struct xe_advice after = vm->ranges[i];
        if (address <= after.begin || address >= after.end)
            continue;
        vm->ranges[i].end = after.begin = address;
        return insert(vm, i + 1, &after);
    }
    return 0;
}

int xe_vm_split(struct xe_vm *vm, uint64_t begin, uint64_t end) {
    const int rc = split_at(vm, begin);
    return rc ? rc : split_at(vm, end);
}

void xe_vm_unmirror(struct xe_vm *vm, uint64_t begin, uint64_t end) {
    size_t kept = 0;
    if (xe_vm_split(vm, begin, end))
        return;
    for (size_t i = 0; i < vm->n; i++)
        if (vm->ranges[i].end <= begin || vm->ranges[i].begin >= end)
            vm->ranges[kept++] = vm->ranges[i];
    vm->n = kept;
}

int xe_vm_mirror(struct xe_vm *vm, uint64_t begin, uint64_t end) {
    const struct xe_advice a = {.begin = begin, .end = end, .target = XE_OWN};
    size_t at = 0;
    xe_vm_unmirror(vm, begin, end);
    while (at < vm->n && vm->ranges[at].begin < begin)
        at++;
    return insert(vm, at, &a);
}

static bool same(const struct xe_advice *a, const struct xe_advice *b) {
    return a->end == b->begin && a->devmem_fd == b->devmem_fd && a->policy == b->policy &&
           a->atomic == b->atomic && a->pat == b->pat && a->target == b->target;
}

void xe_vm_merge(struct xe_vm *vm) {
    size_t kept = 0;
    for (size_t i = 0; i < vm->n; i++) {
        if (kept && same(&vm->ranges[kept - 1], &vm->ranges[i]))
            vm->ranges[kept - 1].end = vm->ranges[i].end;
        else
            vm->ranges[kept++] = vm->ranges[i];
    }
    vm->n = kept;
}

void xe_vm_finish(struct xe_vm *vm) {
    free(vm->ranges);
    vm->ranges = NULL;
    vm->n = 0;
}
