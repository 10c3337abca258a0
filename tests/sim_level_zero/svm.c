/* SPDX-License-Identifier: Apache-2.0 */
/* Advice and prefetch of the host's own memory, as Intel's driver does them: each card has a VM
 * that mirrors the process, advice goes to that of the list's card, and what comes of it is told to
 * nobody. */
#include "tests/sim_level_zero/sim.h"
#include "tests/sim_level_zero/xe_model.h"

#define ADDRESS_MAX (UINT64_C(1) << 47)
#define PAGE        UINT64_C(4096)
#define CHUNK       (UINT64_C(2) << 20)

/* Since 1.7; the header is older. */
#define ADVICE_SET_SYSTEM   8
#define ADVICE_CLEAR_SYSTEM 9

static struct xe_vm vms[SIM_CARDS_MAX];

static struct xe_vm *vm_of(unsigned card) {
    struct xe_vm *vm = &vms[card];
    return vm->n || !xe_vm_mirror(vm, 0, ADDRESS_MAX) ? vm : NULL;
}

/* False where the advice says nothing about a place, or one that cannot be. */
static bool target_of(const struct sim_command *c, unsigned card, int *target) {
    switch (c->advice) {
    case ZE_MEMORY_ADVICE_SET_PREFERRED_LOCATION:
        *target = (int)c->target->number;
        return !c->target->lost && xe_joined(card, c->target->number);
    case ZE_MEMORY_ADVICE_CLEAR_PREFERRED_LOCATION:
    case ADVICE_CLEAR_SYSTEM:
        *target = XE_OWN;
        return true;
    case ADVICE_SET_SYSTEM:
        *target = XE_SYSTEM;
        return true;
    default:
        return false;
    }
}

static void span_of(const struct sim_command *c, uint64_t *begin, uint64_t *end) {
    *begin = (uint64_t)(uintptr_t)c->from / PAGE * PAGE;
    *end = ((uint64_t)(uintptr_t)c->from + c->size + PAGE - 1) / PAGE * PAGE;
}

static void advise(struct xe_vm *vm, const struct sim_command *c, unsigned card) {
    uint64_t begin = 0, end = 0;
    int target = XE_OWN;
    span_of(c, &begin, &end);
    if (!target_of(c, card, &target) || xe_vm_split(vm, begin, end))
        return;
    for (size_t i = 0; i < vm->n; i++)
        if (vm->ranges[i].begin >= begin && vm->ranges[i].end <= end)
            vm->ranges[i].target = target;
    if (target >= 0)
        sim_reach_watch(begin, end, target);
    else
        sim_reach_forget(begin, end);
    xe_vm_merge(vm);
}

static void move(const struct xe_vm *vm, unsigned card, uint64_t begin, uint64_t end) {
    for (size_t i = 0; i < vm->n; i++) {
        const struct xe_advice *a = &vm->ranges[i];
        const uint64_t from = a->begin > begin ? a->begin : begin;
        const uint64_t to = a->end < end ? a->end : end;
        if (from < to)
            xe_move(from, to, a->target == XE_OWN ? (int)card : a->target);
    }
}

void sim_svm_run(const struct sim_command *c, unsigned card) {
    struct xe_vm *vm = vm_of(card);
    uint64_t begin = 0, end = 0;
    if (!vm || !sim.options.system || sim.control.deaf[card] || sim_memory_find(c->from))
        return;
    span_of(c, &begin, &end);
    if (c->kind == SIM_ADVISE)
        advise(vm, c, card);
    else
        move(vm, card, begin, end);
}

void sim_svm_touch(const void *p, unsigned card) {
    struct xe_vm *vm = vm_of(card);
    const uint64_t at = (uint64_t)(uintptr_t)p;
    const uint64_t begin = at / CHUNK * CHUNK;
    if (!vm)
        return;
    /* A whole chunk where the mapping has one, else the page. */
    if (xe_is_anonymous(begin, begin + CHUNK))
        move(vm, card, begin, begin + CHUNK);
    else
        move(vm, card, at / PAGE * PAGE, at / PAGE * PAGE + PAGE);
}
