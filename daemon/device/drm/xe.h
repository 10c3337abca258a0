/* SPDX-License-Identifier: Apache-2.0 */
/* xe.h - what the kernel's xe driver does for shared virtual memory: one VM a card that mirrors
 * this process, advice in it where memory belongs, prefetch, and how much of the card is used.
 *
 * Level Zero has a VM of its own a card and drops what comes of advice; pages belong to the
 * process, so what is done here beside it moves the same pages, and says truly whether it could.
 *
 * The kernel knows a card in advice by a descriptor's number, and skips advice whose number it has:
 * so a card is opened once, its number is never 0, 1 or 2 (0 means the VM's own card), and advice
 * is taken back before it is given anew, or memory or card are let go.
 *
 * Threads: none shares a card.  Errors: negative errno, and err says what it means (xe_failed). */
#ifndef OCTARC_DEVICE_DRM_XE_H
#define OCTARC_DEVICE_DRM_XE_H

#include <stdbool.h>
#include <stdint.h>

struct err;

#define XE_CHUNK_BYTES                                                                             \
    (UINT64_C(2) << 20) /* memory moves in pieces of this size, or smaller ones */

/* The one way to the kernel, as libc has it (-1 and errno); a test may model it. */
struct xe_calls {
    int (*open)(const char *slot); /* the card's node, by PCI address */
    int (*ioctl)(int fd, unsigned long request, void *argument);
    int (*close)(int fd);
};
/* Before any card is opened; NULL: the kernel's own. */
void xe_use(const struct xe_calls *calls);

struct xe_card {
    int fd; /* 0: not open */
    uint32_t vm;
};

/* Of the card's memory, in bytes. */
struct xe_memory {
    uint64_t total, visible; /* to the processor, through the card's window */
    uint64_t used;           /* by whoever */
};

/* -ENOTSUP: not xe, or no such memory on this kernel or card. */
int xe_open(struct xe_card *card, const char *slot, struct err *err);
void xe_close(struct xe_card *card); /* one that is not open is fine */

/* All addresses are multiples of 4096; advice is whole only in multiples of XE_CHUNK_BYTES. */
int xe_mirror(const struct xe_card *card, const void *at, uint64_t bytes, struct err *err);
int xe_unmirror(const struct xe_card *card, const void *at, uint64_t bytes, struct err *err);
/* That the card finds the memory at `home`; NULL: as without advice, on the card itself. */
int xe_prefer(const struct xe_card *card, const void *at, uint64_t bytes,
              const struct xe_card *home, struct err *err);
/* To where the advice says, now.  -ENODATA: not all of it is there; it may be tried again. */
int xe_prefetch(const struct xe_card *card, const void *at, uint64_t bytes, struct err *err);
int xe_memory(const struct xe_card *card, struct xe_memory *out, struct err *err);

/* The one place where errors are put into words; returns rc. */
int xe_failed(int rc, const char *call, struct err *err);

#endif
