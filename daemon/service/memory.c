/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/placement/layout.h"
#include "octarc/error.h"

int memory_lay_out(const struct card_memory *memory, struct plan *plan, uint32_t number,
                   bool in_use) {
    return memory->fd < 0 || plan->cards[number].spilled_bytes
               ? 0
               : layout_card(plan, number, memory->ranges, memory->n_ranges, in_use, memory->bytes);
}

uint64_t memory_kept_bytes(const struct card_memory *memory, const struct plan *plan,
                           uint32_t number) {
    size_t n;
    const struct plan_range *ranges = plan_card_ranges(plan, number, &n);
    const struct plan held = {.ranges = memory->ranges, .n_ranges = memory->n_ranges};
    if (memory->fd < 0 || n == 0)
        return 0;
    const uint64_t kept = layout_kept_bytes(&held, plan, number);
    uint64_t all = 0;
    for (size_t i = 0; i < n; i++)
        all += ranges[i].bytes;
    return kept == all ? plan->cards[number].weights_bytes : kept;
}

uint64_t memory_held_bytes(const struct card_memory *memory) {
    struct stat st;
    return memory->fd >= 0 && fstat(memory->fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

void memory_drop(struct card_memory *memory) {
    if (memory->fd >= 0)
        close(memory->fd);
    while (memory->n_more)
        close(memory->more_fds[--memory->n_more]);
    memory->fd = -1;
    free(memory->ranges);
    memory->ranges = NULL;
    memory->n_ranges = 0;
    memory->left = memory->kept = false;
}

static int make_fd(uint32_t number, uint64_t bytes) {
    char name[32];
    snprintf(name, sizeof name, "octarc-weights-%u", number);
    const int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)bytes) < 0 || fcntl(fd, F_ADD_SEALS, MEMORY_SEALS) < 0) {
        const int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

int memory_take_ranges(struct card_memory *memory, const struct plan *plan, uint32_t number) {
    size_t n;
    const struct plan_range *ranges = plan_card_ranges(plan, number, &n);
    struct plan_range *copy = malloc((n + 1) * sizeof *copy);
    if (!copy) {
        memory_drop(memory);
        return -ENOMEM;
    }
    memcpy(copy, ranges, n * sizeof *copy);
    free(memory->ranges);
    memory->ranges = copy;
    memory->n_ranges = n;
    return 0;
}

void memory_adopt(struct card_memory *memory, const struct plan *plan, uint32_t number, int fd) {
    struct stat st;
    memory_drop(memory);
    if (fstat(fd, &st) < 0) {
        close(fd);
        return;
    }
    memory->fd = fd;
    memory->bytes = memory->borders[0] = (uint64_t)st.st_size;
    memory->left = memory->kept = memory_take_ranges(memory, plan, number) == 0;
}

/* Of what is behind the end nothing is there any more. */
static void trim_ranges(struct card_memory *memory) {
    size_t kept = 0;
    for (size_t i = 0; i < memory->n_ranges; i++)
        if (memory->ranges[i].offset + memory->ranges[i].bytes <= memory->bytes)
            memory->ranges[kept++] = memory->ranges[i];
    memory->n_ranges = kept;
}

void memory_hold(struct card_memory *memory, const struct plan *plan, uint32_t number,
                 const int *fds, const uint64_t *bytes, uint32_t n) {
    memory_drop(memory);
    memory->fd = fds[0];
    for (uint32_t i = 0; i < n; i++) {
        if (i)
            memory->more_fds[memory->n_more++] = fds[i];
        memory->bytes = memory->borders[i] = bytes[i] + (i ? memory->borders[i - 1] : 0);
    }
    if (memory_take_ranges(memory, plan, number))
        return;
    trim_ranges(memory); /* a piece behind these may have been one that cannot be held */
}

static bool has_room(const struct card_memory *memory, const struct plan *plan, uint32_t number) {
    const struct plan_card *c = &plan->cards[number];
    const uint64_t end = layout_end(plan, number);
    const bool more = end > memory->bytes;
    return memory->n_more + 1 + more <= DEVICE_PIECES_MAX &&
           (more ? end : memory->bytes) + c->kv_bytes + c->scratch_bytes + c->landing_bytes <=
               c->capacity_bytes;
}

int memory_lay_out_held(struct card_memory *memory, struct plan *plan, uint32_t number) {
    size_t n;
    struct plan_range *ranges = (struct plan_range *)plan_card_ranges(plan, number, &n);
    const uint64_t end = layout_kept_end(plan, number, memory->ranges, memory->n_ranges);
    if (end == 0)
        return -ENODATA;
    while (memory->n_more && memory->borders[memory->n_more - 1] >= end) {
        close(memory->more_fds[--memory->n_more]);
        memory->bytes = memory->borders[memory->n_more];
        trim_ranges(memory);
    }
    struct plan_range *was = malloc((n + 1) * sizeof *was);
    if (!was)
        return -ENOMEM;
    memcpy(was, ranges, n * sizeof *was);
    int rc = layout_card_in_pieces(plan, number, memory->ranges, memory->n_ranges, memory->borders,
                                   memory->n_more + 1);
    if (!rc && !has_room(memory, plan, number)) {
        memcpy(ranges, was, n * sizeof *was);
        rc = -ENOSPC;
    }
    free(was);
    return rc;
}

int memory_for_card(struct card_memory *memory, const struct plan *plan, uint32_t number,
                    struct err *err) {
    if (memory->fd < 0 || layout_end(plan, number) > memory->bytes ||
        plan->cards[number].weights_bytes == 0) {
        memory_drop(memory);
        if (plan->cards[number].weights_bytes == 0)
            return 0;
        memory->bytes = layout_room(plan, number);
        memory->fd = make_fd(number, memory->bytes);
    }
    if (memory->fd < 0) {
        const int rc = memory->fd;
        memory->fd = -1;
        return err_set(err, rc, "cannot make %llu bytes of weight memory for card %u: %s",
                       (unsigned long long)memory->bytes, number, strerror(-rc));
    }
    const int rc = memory_take_ranges(memory, plan, number);
    return rc ? err_set(err, rc, "no memory for the ranges of card %u", number) : 0;
}
