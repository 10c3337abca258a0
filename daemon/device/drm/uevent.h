/* SPDX-License-Identifier: Apache-2.0 */
/* uevent.h - what the kernel tells of a card that comes, goes or is stuck.
 *
 * Read from the bytes of one datagram, in the kernel's own form or in that which udev hands on; the
 * bytes are borrowed and need no end.  Pure; threads: no shared state. */
#ifndef OCTARC_DEVICE_DRM_UEVENT_H
#define OCTARC_DEVICE_DRM_UEVENT_H

#include "daemon/device/drm/sysfs.h"

#define UEVENT_BYTES_MAX 8192 /* of a datagram; the kernel's own hold 2048 */
#define UEVENT_KEYS_MAX  256

enum uevent_action { UEVENT_OTHER, UEVENT_ADD, UEVENT_REMOVE, UEVENT_CHANGE };

/* Of what: the PCI device itself, or the node through which its driver can be reached. */
enum uevent_source { UEVENT_ELSEWHERE, UEVENT_PCI, UEVENT_DRM };

/* How a stuck card may be brought back, as bits; the kernel names the mildest first. */
enum uevent_wedged {
    WEDGED_NONE = 1 << 0, /* by itself, or not at all */
    WEDGED_REBIND = 1 << 1,
    WEDGED_BUS_RESET = 1 << 2,
    WEDGED_VENDOR = 1 << 3, /* by the maker's tools: new firmware */
    WEDGED_COLD_RESET = 1 << 4,
    WEDGED_UNKNOWN = 1 << 5, /* or a word that is not known here */
};

struct uevent {
    enum uevent_action action;
    enum uevent_source source;
    char slot[SYSFS_SLOT_MAX]; /* of the card, in small letters; empty: none */
    uint32_t pci_class;        /* 0: not said */
    uint32_t wedged;           /* enum uevent_wedged; 0: it is not said to be */
};

/* 0, and *event, also for an event of something else; -EINVAL: in neither form; -E2BIG: a limit. */
int uevent_read(struct uevent *event, const void *bytes, size_t n);

/* The words of a list of ways, "rebind,bus-reset". */
uint32_t uevent_wedged(const char *words, size_t n);

#endif
