/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim_level_zero/xe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/sim_level_zero/sim.h"
#include "tests/sim_level_zero/xe_model.h"

#define PAGE          4096
#define CONFIG_VRAM   1u
#define CONFIG_MIRROR 4u
#define PAT_MAX       31
#define HOST_BYTES    (UINT64_C(64) << 30)

static struct xe_file *files;

struct xe_file *xe_file_of(int fd) {
    struct xe_file *f = files;
    while (f && f->fd != fd)
        f = f->next;
    return f;
}

struct xe_vm *xe_vm_of(const struct xe_file *file, uint32_t id) {
    struct xe_vm *vm = file->vms;
    while (vm && vm->id != id)
        vm = vm->next;
    return vm;
}

/* Groups of cards that all reach each other; a card joins the first that it fits, when its memory
 * is first made ready for pages of the process, and stays. */
static unsigned groups[SIM_CARDS_MAX]; /* a bit a card */

static bool fits(unsigned card, unsigned group) {
    for (unsigned i = 0; i < sim.options.n_cards; i++)
        if (group >> i & 1 && !(sim.options.reaches[card][i] && sim.options.reaches[i][card]))
            return false;
    return true;
}

static unsigned group_of(unsigned card) {
    unsigned g = 0;
    while (g < SIM_CARDS_MAX && !(groups[g] >> card & 1))
        g++;
    if (g < SIM_CARDS_MAX)
        return g;
    for (g = 0; !fits(card, groups[g]); g++)
        ; /* an empty one is fitted by all */
    groups[g] |= 1u << card;
    return g;
}

bool xe_joined(unsigned a, unsigned b) {
    return a == b || group_of(a) == group_of(b);
}

/* Only a caller that asks with size 0 is told what size it takes. */
static int answer(struct xe_device_query *q, const void *data, uint32_t size) {
    if (!q->size) {
        q->size = size;
        return 0;
    }
    if (q->size != size)
        return -EINVAL;
    memcpy((void *)(uintptr_t)q->data, data, size);
    return 0;
}

static int device_query(struct xe_file *file, struct xe_device_query *q) {
    const uint64_t total = sim.options.memory_bytes[file->card];
    const struct xe_mem_regions regions = {
        .n = 2,
        .regions = {{.mem_class = 0, .min_page_size = PAGE, .total_size = HOST_BYTES},
                    {.mem_class = 1,
                     .instance = 1,
                     .min_page_size = SIM_PAGE,
                     .total_size = total,
                     .used = sim.counters->used_bytes[file->card],
                     .cpu_visible_size = total,
                     .cpu_visible_used = sim.counters->used_bytes[file->card]}}};
    const struct xe_config config = {
        .n = 4,
        .info = {0xe211, CONFIG_VRAM | (sim.options.system ? CONFIG_MIRROR : 0), SIM_PAGE, 48}};
    if (q->extensions || q->reserved[0] || q->reserved[1])
        return -EINVAL;
    if (q->query == XE_QUERY_MEM_REGIONS)
        return answer(q, &regions, sizeof regions);
    return q->query == XE_QUERY_CONFIG ? answer(q, &config, sizeof config) : -EINVAL;
}

static int vm_create(struct xe_file *file, struct xe_vm_create *c) {
    if (c->extensions || c->reserved[0] || c->reserved[1] ||
        c->flags & ~(XE_VM_LR_MODE | XE_VM_FAULT_MODE | XE_VM_NO_OVER | 1u))
        return -EINVAL;
    if (c->flags & XE_VM_FAULT_MODE && (!(c->flags & XE_VM_LR_MODE) || !sim.options.system))
        return -EINVAL;
    struct xe_vm *vm = calloc(1, sizeof *vm);
    if (!vm)
        return -ENOMEM;
    vm->id = c->vm_id = ++file->last_vm;
    vm->faults = c->flags & XE_VM_FAULT_MODE;
    if (vm->faults)
        group_of(file->card);
    vm->next = file->vms;
    file->vms = vm;
    return 0;
}

static bool is_span(uint64_t begin, uint64_t bytes) {
    return bytes && !(begin % PAGE) && !(bytes % PAGE) && begin + bytes > begin;
}

/* To where the advice says, or to one region: 0 is the host's, 1 the card's own. */
static int prefetch(const struct xe_file *file, const struct xe_vm *vm,
                    const struct xe_bind_op *b) {
    const uint64_t end = b->addr + b->range;
    uint64_t seen = b->addr;
    int rc = 0;
    if (b->obj || (b->region != XE_REGION_ADVICE && b->region > 1))
        return -EINVAL;
    for (size_t i = 0; i < vm->n; i++) {
        const struct xe_advice *a = &vm->ranges[i];
        const uint64_t from = a->begin > b->addr ? a->begin : b->addr;
        const uint64_t to = a->end < end ? a->end : end;
        if (from >= to)
            continue;
        if (from != seen)
            return -EINVAL; /* not all of it is mirrored */
        seen = to;
        const int own = (int)file->card;
        const int target = b->region == 0        ? XE_SYSTEM
                           : b->region == 1      ? own
                           : a->target == XE_OWN ? own
                                                 : a->target;
        const int moved = xe_move(from, to, target);
        rc = moved ? moved : rc;
    }
    return seen == end ? rc : -EINVAL;
}

static int vm_bind(struct xe_file *file, struct xe_vm_bind *v) {
    const struct xe_bind_op *b = &v->bind;
    struct xe_vm *vm = xe_vm_of(file, v->vm_id);
    if (!vm || v->num_binds != 1 || v->extensions || v->pad || b->extensions || b->reserved[0] ||
        b->reserved[1] || b->reserved[2] || !is_span(b->addr, b->range))
        return -EINVAL;
    if (b->op == XE_OP_PREFETCH)
        return prefetch(file, vm, b);
    if (b->flags & XE_BIND_AUTORESET && !(b->flags & XE_BIND_MIRROR))
        return -EINVAL;
    if (b->flags & XE_BIND_MIRROR) {
        if (b->op != XE_OP_MAP || b->obj || b->obj_offset || !vm->faults)
            return -EINVAL;
        return xe_vm_mirror(vm, b->addr, b->addr + b->range);
    }
    if (b->op != XE_OP_UNMAP || b->obj)
        return -EOPNOTSUPP; /* buffer objects are not modelled */
    xe_vm_unmirror(vm, b->addr, b->addr + b->range);
    return 0;
}

/* What the descriptor means now. */
static int resolve(const struct xe_file *file, const struct xe_madvise *m, int *target) {
    const int fd = (int)m->preferred.devmem_fd;
    if (m->preferred.reserved || m->preferred.policy > 1 || fd < XE_DEFAULT_SYSTEM)
        return -EINVAL;
    *target = fd == XE_DEFAULT_SYSTEM ? XE_SYSTEM : XE_OWN;
    if (fd == XE_DEFAULT_SYSTEM || fd == XE_DEFAULT_DEVICE)
        return 0;
    const struct xe_file *of = xe_file_of(fd);
    if (!of || m->preferred.region > 1)
        return -ENOENT;
    if (sim.cards[of->card].lost)
        return -ENODEV;
    if (!xe_joined(file->card, of->card))
        return -ENOLINK;
    *target = (int)of->card;
    return 0;
}

static void store(struct xe_advice *a, const struct xe_madvise *m, int target) {
    if (m->type == XE_ADVISE_ATOMIC)
        a->atomic = m->number.value;
    if (m->type == XE_ADVISE_PAT)
        a->pat = m->number.value;
    /* The number that is there already changes nothing, though it may mean another card by now. */
    if (m->type != XE_ADVISE_PREFERRED ||
        (a->devmem_fd == m->preferred.devmem_fd && a->policy == m->preferred.policy))
        return;
    a->devmem_fd = m->preferred.devmem_fd;
    a->policy = m->preferred.policy;
    a->target = target;
    if (target >= 0)
        sim_reach_watch(a->begin, a->end, target);
    else
        sim_reach_forget(a->begin, a->end);
}

static int madvise_ioctl(struct xe_file *file, const struct xe_madvise *m) {
    struct xe_vm *vm = xe_vm_of(file, m->vm_id);
    const uint64_t end = m->start + m->range;
    int target = XE_OWN;
    if (!is_span(m->start, m->range) || m->extensions || m->reserved[0] || m->reserved[1] ||
        m->type > XE_ADVISE_PAT)
        return -EINVAL;
    if (!vm)
        return -ENOENT;
    const uint32_t most = m->type == XE_ADVISE_ATOMIC ? 3 : PAT_MAX;
    if (m->type != XE_ADVISE_PREFERRED && (m->number.value > most || m->number.reserved))
        return -EINVAL;
    int rc = m->type == XE_ADVISE_PREFERRED ? resolve(file, m, &target) : 0;
    rc = rc ? rc : xe_vm_split(vm, m->start, end);
    for (size_t i = 0; i < vm->n && !rc; i++)
        if (vm->ranges[i].begin >= m->start && vm->ranges[i].end <= end)
            store(&vm->ranges[i], m, target);
    xe_vm_merge(vm);
    return rc;
}

static int query_attrs(struct xe_file *file, struct xe_query_attrs *q) {
    const struct xe_vm *vm = xe_vm_of(file, q->vm_id);
    struct xe_range_attrs *out = (void *)(uintptr_t)q->attrs;
    uint32_t n = 0;
    if (!vm || !is_span(q->start, q->range) || q->extensions)
        return -EINVAL;
    for (size_t i = 0; i < vm->n; i++) {
        const struct xe_advice *a = &vm->ranges[i];
        if (a->end <= q->start || a->begin >= q->start + q->range)
            continue;
        if (q->n && n == q->n)
            return -ENOSPC;
        if (q->n)
            out[n] = (struct xe_range_attrs){.start = a->begin,
                                             .end = a->end,
                                             .preferred = {a->devmem_fd, a->policy},
                                             .atomic = {.value = a->atomic},
                                             .pat = {.value = a->pat}};
        n++;
    }
    q->n = n;
    q->attr_bytes = sizeof *out;
    return 0;
}

static int dispatch(struct xe_file *file, unsigned long request, void *argument) {
    if (sim.cards[file->card].lost)
        return -ENODEV;
    if (sim.control.polled_aborts[file->card])
        return -ECANCELED;
    sim_reach_settle(-1);
    xe_forget_unmapped();
    switch (request) {
    case XE_DEVICE_QUERY:
        return device_query(file, argument);
    case XE_VM_CREATE:
        return vm_create(file, argument);
    case XE_VM_BIND:
        return vm_bind(file, argument);
    case XE_MADVISE:
        return madvise_ioctl(file, argument);
    case XE_QUERY_ATTRS:
        return query_attrs(file, argument);
    default:
        return -ENOTTY;
    }
}

static int give(int rc) {
    if (rc >= 0)
        return rc;
    errno = -rc;
    return -1;
}

int sim_xe_open(unsigned card) {
    if (!sim.started || card >= sim.options.n_cards)
        return give(-ENOENT);
    struct xe_file *made = calloc(1, sizeof *made);
    const int fd = made ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) {
        free(made);
        return give(-ENOMEM);
    }
    *made = (struct xe_file){.fd = fd, .card = card};
    pthread_mutex_lock(&sim.lock);
    made->next = files;
    files = made;
    pthread_mutex_unlock(&sim.lock);
    return fd;
}

int sim_xe_close(int fd) {
    pthread_mutex_lock(&sim.lock);
    struct xe_file *file = xe_file_of(fd), **at = &files;
    while (file && *at != file)
        at = &(*at)->next;
    if (file)
        *at = file->next;
    for (struct xe_vm *vm = file ? file->vms : NULL, *next; vm; vm = next) {
        next = vm->next;
        xe_vm_finish(vm);
        free(vm);
    }
    pthread_mutex_unlock(&sim.lock);
    if (!file)
        return give(-EBADF);
    free(file);
    return close(fd);
}

int sim_xe_ioctl(int fd, unsigned long request, void *argument) {
    pthread_mutex_lock(&sim.lock);
    sim_control_poll();
    struct xe_file *file = xe_file_of(fd);
    const int rc = file ? dispatch(file, request, argument) : -EBADF;
    sim_reach_shut();
    pthread_mutex_unlock(&sim.lock);
    return give(rc);
}
