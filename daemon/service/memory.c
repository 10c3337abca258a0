/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "octarc/error.h"

static bool made_for(const struct card_memory *memory, const struct plan_range *ranges, size_t n,
                     uint64_t bytes) {
    if (memory->fd < 0 || memory->bytes != bytes || memory->n_ranges != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!plan_same_range(&memory->ranges[i], &ranges[i]))
            return false;
    return true;
}

bool memory_is_made_for(const struct card_memory *memory, const struct plan *plan,
                        uint32_t number) {
    size_t n;
    const struct plan_range *ranges = plan_card_ranges(plan, number, &n);
    return made_for(memory, ranges, n, plan->cards[number].weights_bytes);
}

void memory_drop(struct card_memory *memory) {
    if (memory->fd >= 0)
        close(memory->fd);
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

/* 0 or -ENOMEM. */
static int note_ranges(struct card_memory *memory, const struct plan *plan, uint32_t number) {
    size_t n;
    const struct plan_range *ranges = plan_card_ranges(plan, number, &n);
    memory->ranges = malloc((n + 1) * sizeof *memory->ranges);
    if (!memory->ranges)
        return -ENOMEM;
    memcpy(memory->ranges, ranges, n * sizeof *ranges);
    memory->n_ranges = n;
    memory->bytes = plan->cards[number].weights_bytes;
    return 0;
}

void memory_adopt(struct card_memory *memory, const struct plan *plan, uint32_t number, int fd) {
    memory_drop(memory);
    if (note_ranges(memory, plan, number) < 0) {
        close(fd);
        return;
    }
    memory->fd = fd;
    memory->left = memory->kept = true;
}

int memory_for_card(struct card_memory *memory, const struct plan *plan, uint32_t number,
                    bool *kept, struct err *err) {
    size_t n;
    const struct plan_range *ranges = plan_card_ranges(plan, number, &n);
    const uint64_t bytes = plan->cards[number].weights_bytes;
    *kept = made_for(memory, ranges, n, bytes);
    if (*kept)
        return 0;
    memory_drop(memory);
    if (bytes == 0)
        return 0;
    if (note_ranges(memory, plan, number) < 0)
        return err_set(err, -ENOMEM, "no memory for the ranges of card %u", number);
    memory->fd = make_fd(number, bytes);
    if (memory->fd >= 0)
        return 0;
    const int rc = memory->fd;
    memory->fd = -1;
    return err_set(err, rc, "cannot make %llu bytes of weight memory for card %u: %s",
                   (unsigned long long)bytes, number, strerror(-rc));
}
