/* SPDX-License-Identifier: Apache-2.0 */
/* drm.h - the graphics cards of this machine, as the kernel shows them.
 *
 * Found by libdrm and sysfs alone: no ioctl is made, and a node is opened only to see whether it
 * may be.  Even so a call may block on a card that is dying, so only a process that may be lost
 * looks (engine/probe.h).  What cannot be told is unknown, and that is a legal answer everywhere.
 *
 * All of it are plain values without pointers.  Threads: no shared state. */
#ifndef OCTARC_DEVICE_DRM_DRM_H
#define OCTARC_DEVICE_DRM_DRM_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/device/drm/sysfs.h"

#define DRM_CARDS_MAX    24 /* that are listed, of any maker; octarc uses eight at most */
#define DRM_BRIDGES_MAX  12
#define DRM_SENSORS_MAX  6
#define DRM_NAME_MAX     48
#define DRM_PATH_MAX     32
#define DRM_CPUS_MAX     96
#define DRM_VERSION_MAX  24
#define DRM_VENDOR_INTEL 0x8086u

struct err;

struct drm_bridge {
    char slot[SYSFS_SLOT_MAX];
    uint32_t vendor, device;
    enum drm_answer redirects; /* sysfs_redirects() */
};

/* The card's link to the box: that of the second bridge above it where the first one is on the
 * card, else its own, which would always look slow.  0: unknown. */
struct drm_link {
    char at[SYSFS_SLOT_MAX];
    uint32_t generation, lanes, generation_most, lanes_most;
};

struct drm_sensors {
    uint32_t n;
    struct drm_temperature {
        char label[16];
        int32_t milli_c;
    } temperatures[DRM_SENSORS_MAX];
    int64_t power_most_uw; /* that the card may take; negative, as below: unknown */
    int64_t energy_uj;     /* used by the card since the driver was loaded */
};

/* Versions of what runs on the card; empty: unknown, or it has none. */
struct drm_firmware {
    char guc[DRM_VERSION_MAX], huc[DRM_VERSION_MAX];       /* shown to root only */
    char fan[DRM_VERSION_MAX], regulator[DRM_VERSION_MAX]; /* of the board */
};

struct drm_card {
    char slot[SYSFS_SLOT_MAX];
    uint32_t vendor, device, revision;
    char serial[SYSFS_SERIAL_MAX]; /* of its PCI device; empty: it has none, or is not shown */
    char name[DRM_NAME_MAX];       /* empty: not a known one */
    char driver[DRM_PATH_MAX];     /* empty: none is bound */
    char primary[DRM_PATH_MAX];    /* "/dev/dri/card0"; empty: none */
    char render[DRM_PATH_MAX];     /* "/dev/dri/renderD128"; empty: none */
    char render_group[32];         /* that may open it; empty: none but root's may, or unknown */
    int32_t render_error;          /* opening it for reading and writing: 0, or a negative errno */
    bool xe2;                      /* of the known ones: has shared virtual memory */
    uint32_t n_bridges;
    struct drm_bridge bridges[DRM_BRIDGES_MAX]; /* from the root port down */
    struct drm_link link;
    int32_t numa;            /* -1: unknown */
    char cpus[DRM_CPUS_MAX]; /* near it, "0-15,32-47"; empty: unknown */
    int32_t iommu_group;     /* -1: none, or unknown */
    uint64_t bar_bytes;      /* of the window through which its memory is reached; 0: unknown */
    uint64_t vram_bytes;     /* 0: unknown */
    enum drm_answer survivability; /* it runs nothing but what can load new firmware */
    struct drm_firmware firmware;
    struct drm_sensors sensors;
};

struct drm_box {
    char release[64]; /* the kernel's */
    char module[40];  /* the xe driver's version, or the sum of its source; empty: unknown */
    uint32_t kernel_major, kernel_minor;
    enum drm_answer la57;                        /* the processor's addresses have 57 bits */
    enum drm_answer gpusvm, pagemap, pci_p2pdma; /* options of this kernel */
    bool has_dri;                                /* /dev/dri is there */
    bool has_xe;                                 /* the driver is loaded, or built in */
    bool more;                                   /* cards beyond DRM_CARDS_MAX are left out */
    uint32_t n_cards;
    struct drm_card cards[DRM_CARDS_MAX]; /* by PCI address */
};

/* Everything there is.  `root` stands before /sys, /proc, /boot and /dev, for tests: empty for the
 * machine itself, and only then libdrm is asked for the nodes;
 * else an absolute path without links.  A machine without any card is no
 * error.  -errno: /sys cannot be read; err says so. */
int drm_find(struct drm_box *box, const char *root, struct err *err);

/* Does a driver hold the device in this slot?  `root` as above. */
bool drm_is_bound(const char *root, const char *slot);

/* --- inside drm --- */

/* All of one card but its nodes. */
void drm_read_card(struct drm_card *card, const char *root, const char *slot);
void drm_read_sensors(struct drm_sensors *sensors, const char *root, const char *slot);
/* Of a card whose nodes are known. */
void drm_read_firmware(struct drm_card *card, const char *root);
/* Of a controller, out of what the driver says of it; empty: it does not say. */
void drm_firmware_version(const char *text, char version[DRM_VERSION_MAX]);
/* The kernel's configuration as far as size - 1 bytes, terminated.  False: it shows none. */
bool drm_read_config(const char *root, const char *release, char *text, size_t size);
/* Nodes of the cards that are there, and whether they may be opened. */
void drm_find_nodes(struct drm_box *box, const char *root);

#endif
