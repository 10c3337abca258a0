/* SPDX-License-Identifier: Apache-2.0 */
/* drm_tree.h - folders as the kernel would show a box of cards, below a root of one's own. */
#ifndef OCTARC_TESTS_DRM_TREE_H
#define OCTARC_TESTS_DRM_TREE_H

#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "daemon/device/drm/drm.h"
#include "tests/check.h"

struct tree {
    char root[64];
};

static inline void tree_make(struct tree *tree) {
    snprintf(tree->root, sizeof tree->root, "/tmp/octarc-tree-XXXXXX");
    CHECK(mkdtemp(tree->root));
}

static inline int tree_drop_one(const char *path, const struct stat *st, int what,
                                struct FTW *where) {
    (void)st, (void)what, (void)where;
    return remove(path);
}

static inline void tree_drop(const struct tree *tree) {
    CHECK_EQ(nftw(tree->root, tree_drop_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* The folders above a path. */
static inline void tree_folders(char *path) {
    for (char *at = path + 1; (at = strchr(at, '/')); at++) {
        *at = '\0';
        CHECK(mkdir(path, 0755) == 0 || access(path, F_OK) == 0);
        *at = '/';
    }
}

/* A file below the root, with its text. */
static inline void tree_file(const struct tree *tree, const char *text, const char *fmt, ...) {
    char path[PATH_MAX];
    va_list args;
    const int n = snprintf(path, sizeof path, "%s/", tree->root);
    va_start(args, fmt);
    vsnprintf(path + n, sizeof path - (size_t)n, fmt, args);
    va_end(args);
    tree_folders(path);
    FILE *file = fopen(path, "we");
    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

static inline void tree_link(const struct tree *tree, const char *to, const char *fmt, ...) {
    char path[PATH_MAX];
    va_list args;
    const int n = snprintf(path, sizeof path, "%s/", tree->root);
    va_start(args, fmt);
    vsnprintf(path + n, sizeof path - (size_t)n, fmt, args);
    va_end(args);
    tree_folders(path);
    CHECK_EQ(symlink(to, path), 0);
}

/* A PCI device at the end of a path of slots, "0000:00:01.0/0000:10:00.0". */
static inline void tree_device(const struct tree *tree, const char *slots, const char *vendor,
                               const char *device, const char *class) {
    char real[PATH_MAX];
    const char *slash = strrchr(slots, '/'), *slot = slash ? slash + 1 : slots;
    snprintf(real, sizeof real, "sys/devices/pci0000:00/%s", slots);
    tree_file(tree, vendor, "%s/vendor", real);
    tree_file(tree, device, "%s/device", real);
    tree_file(tree, class, "%s/class", real);
    snprintf(real, sizeof real, "%s/sys/devices/pci0000:00/%s", tree->root, slots);
    tree_link(tree, real, "sys/bus/pci/devices/%s", slot);
}

static inline void tree_set(const struct tree *tree, const char *slot, const char *name,
                            const char *text) {
    tree_file(tree, text, "sys/bus/pci/devices/%s/%s", slot, name);
}

static inline void tree_pcie(const struct tree *tree, const char *slot, const char *speed,
                             const char *width) {
    tree_set(tree, slot, "current_link_speed", speed);
    tree_set(tree, slot, "max_link_speed", speed);
    tree_set(tree, slot, "current_link_width", width);
    tree_set(tree, slot, "max_link_width", width);
}

#define TREE_BARS(vram)                                                                            \
    "0x00000000a0000000 0x00000000a0ffffff 0x0000000000140204\n"                                   \
    "0x0000000000000000 0x0000000000000000 0x0000000000000000\n" vram                              \
    "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"                                   \
    "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"                                   \
    "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
#define TREE_BARS_32G   TREE_BARS("0x0000380000000000 0x00003807ffffffff 0x000000000014220c\n")
#define TREE_BARS_SMALL TREE_BARS("0x0000000090000000 0x000000009fffffff 0x000000000014220c\n")

/* Slot of card i of tree_eight(). */
static inline void tree_slot(char out[SYSFS_SLOT_MAX], int i) {
    snprintf(out, SYSFS_SLOT_MAX, "0000:%02x:00.0", 0x14 + i / 4 * 0x40 + i % 4 * 3);
}

/* A driven card with its nodes, its window and its sensors. */
static inline void tree_drive(const struct tree *tree, int i, const char *slot) {
    char text[64];
    tree_set(tree, slot, "revision", "0x00\n");
    tree_set(tree, slot, "resource", TREE_BARS_32G);
    tree_set(tree, slot, "numa_node", i < 4 ? "0\n" : "1\n");
    tree_set(tree, slot, "local_cpulist", i < 4 ? "0-15,32-47\n" : "16-31,48-63\n");
    tree_link(tree, "../../../../bus/pci/drivers/xe", "sys/bus/pci/devices/%s/driver", slot);
    snprintf(text, sizeof text, "drm/card%d/dev", i);
    tree_set(tree, slot, text, "");
    snprintf(text, sizeof text, "drm/renderD%d/dev", 128 + i);
    tree_set(tree, slot, text, "");
    tree_file(tree, "", "dev/dri/card%d", i);
    tree_file(tree, "", "dev/dri/renderD%d", 128 + i);
    tree_set(tree, slot, "hwmon/hwmon3/name", "xe\n");
    tree_set(tree, slot, "hwmon/hwmon3/temp2_input", "46000\n");
    tree_set(tree, slot, "hwmon/hwmon3/temp2_label", "pkg\n");
    tree_set(tree, slot, "hwmon/hwmon3/temp3_input", "-1500\n");
    tree_set(tree, slot, "hwmon/hwmon3/power1_max", "200000000\n");
    tree_set(tree, slot, "hwmon/hwmon3/energy1_input", "123456789012\n");
}

/* Eight B60, four below each of two switches; on each card a bridge of two ports. */
static inline void tree_eight(const struct tree *tree) {
    for (int s = 0; s < 2; s++) {
        const int bus = 0x10 + s * 0x40;
        char at[256];
        const int n = snprintf(at, sizeof at, "0000:00:0%d.0", 1 + 2 * s);
        tree_device(tree, at, "0x8086\n", "0x352a\n", "0x060400\n");
        const int m = n + snprintf(at + n, sizeof at - (size_t)n, "/0000:%02x:00.0", bus);
        tree_device(tree, at, "0x1000\n", "0xc030\n", "0x060400\n");
        for (int k = 0; k < 4; k++) {
            const int port = bus + 2 + 3 * k;
            char slot[SYSFS_SLOT_MAX];
            int to = m + snprintf(at + m, sizeof at - (size_t)m, "/0000:%02x:%02x.0", bus + 1, k);
            tree_device(tree, at, "0x1000\n", "0xc030\n", "0x060400\n");
            to += snprintf(at + to, sizeof at - (size_t)to, "/0000:%02x:00.0", port);
            tree_device(tree, at, "0x8086\n", "0xe2ff\n", "0x060400\n");
            snprintf(slot, sizeof slot, "0000:%02x:00.0", port);
            tree_pcie(tree, slot, "32.0 GT/s PCIe\n", "8\n");
            to += snprintf(at + to, sizeof at - (size_t)to, "/0000:%02x:01.0", port + 1);
            tree_device(tree, at, "0x8086\n", "0xe2f0\n", "0x060400\n");
            snprintf(at + to, sizeof at - (size_t)to, "/0000:%02x:00.0", port + 2);
            tree_device(tree, at, "0x8086\n", "0xe211\n", "0x030000\n");
            tree_slot(slot, s * 4 + k);
            tree_pcie(tree, slot, "2.5 GT/s PCIe\n", "1\n");
            tree_drive(tree, s * 4 + k, slot);
        }
    }
    tree_file(tree, "7.2.13-amd64\n", "proc/sys/kernel/osrelease");
    tree_file(tree, "processor\t: 0\nflags\t\t: fpu vme avx2\n", "proc/cpuinfo");
    tree_file(tree,
              "CONFIG_PCI_P2PDMA=y\nCONFIG_DRM_XE=m\nCONFIG_DRM_XE_GPUSVM=y\n"
              "CONFIG_DRM_XE_PAGEMAP=y\n",
              "boot/config-7.2.13-amd64");
}

#endif
