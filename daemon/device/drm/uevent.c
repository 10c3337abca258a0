/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/drm/uevent.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>

#define UDEV_MAGIC 0xfeedcafeu

/* What udev puts before the keys. */
struct udev_header {
    char prefix[8];
    uint32_t magic; /* big-endian; the others are as the machine has them */
    uint32_t header_bytes, keys_at, keys_bytes;
    uint32_t hashes[4];
};

struct text {
    const char *at;
    size_t n;
};

static bool is_text(struct text text, const char *word) {
    return text.n == strlen(word) && !memcmp(text.at, word, text.n);
}

static bool begins(struct text text, const char *word) {
    return text.n >= strlen(word) && !memcmp(text.at, word, strlen(word));
}

/* The word, and a number behind it. */
static bool is_numbered(struct text text, const char *word) {
    size_t i = strlen(word);
    if (!begins(text, word) || i == text.n)
        return false;
    while (i < text.n && isdigit((unsigned char)text.at[i]))
        i++;
    return i == text.n;
}

/* --- where the keys are --- */

static int find_udev_keys(const char *bytes, size_t n, struct text *keys) {
    struct udev_header h;
    if (n < sizeof h)
        return -EINVAL;
    memcpy(&h, bytes, sizeof h);
    if (ntohl(h.magic) != UDEV_MAGIC || h.header_bytes < sizeof h || h.keys_at < sizeof h ||
        h.keys_at > n || h.keys_bytes > n - h.keys_at)
        return -EINVAL;
    *keys = (struct text){bytes + h.keys_at, h.keys_bytes};
    return 0;
}

/* "add@/devices/…", then the keys. */
static int find_kernel_keys(const char *bytes, size_t n, struct text *keys) {
    const char *end = memchr(bytes, '\0', n);
    const char *at = end ? memchr(bytes, '@', (size_t)(end - bytes)) : NULL;
    if (!at || at == bytes || at[1] != '/')
        return -EINVAL;
    *keys = (struct text){end + 1, n - (size_t)(end + 1 - bytes)};
    return 0;
}

/* --- what they say --- */

struct keys {
    struct text action, subsystem, path, class, wedged;
};

static int read_keys(struct keys *keys, struct text all) {
    const struct {
        const char *name;
        struct text *to;
    } known[] = {{"ACTION=", &keys->action},
                 {"SUBSYSTEM=", &keys->subsystem},
                 {"DEVPATH=", &keys->path},
                 {"PCI_CLASS=", &keys->class},
                 {"WEDGED=", &keys->wedged}};
    for (int n = 0; all.n > 0; n++) {
        const char *end = memchr(all.at, '\0', all.n);
        const struct text key = {all.at, end ? (size_t)(end - all.at) : all.n};
        if (n == UEVENT_KEYS_MAX)
            return -E2BIG;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (begins(key, known[i].name))
                *known[i].to =
                    (struct text){key.at + strlen(known[i].name), key.n - strlen(known[i].name)};
        const size_t step = key.n + (end != NULL);
        all = (struct text){all.at + step, all.n - step};
    }
    return keys->action.at && keys->path.at ? 0 : -EINVAL;
}

/* The last part of a path, which loses it. */
static struct text take_last(struct text *path) {
    size_t n = path->n;
    while (n > 0 && path->at[n - 1] != '/')
        n--;
    const struct text last = {path->at + n, path->n - n};
    path->n = n > 0 ? n - 1 : 0;
    return last;
}

static void copy_slot(char out[SYSFS_SLOT_MAX], struct text slot) {
    if (!sysfs_is_slot(slot.at, slot.n))
        return;
    for (size_t i = 0; i < slot.n; i++)
        out[i] = (char)tolower((unsigned char)slot.at[i]);
    out[slot.n] = '\0';
}

/* ".../0000:03:00.0/drm/card0"; a connector's path goes on below that and is not the card's. */
static bool is_node(struct text *path) {
    const struct text node = take_last(path), folder = take_last(path);
    return is_text(folder, "drm") && (is_numbered(node, "card") || is_numbered(node, "renderD"));
}

static uint32_t read_class(struct text text) {
    char digits[16] = "";
    uint32_t value;
    if (text.n >= sizeof digits || text.n == 0)
        return 0;
    memcpy(digits, text.at, text.n);
    return sysfs_hex(digits, &value) ? value : 0;
}

uint32_t uevent_wedged(const char *words, size_t n) {
    static const char *const names[] = {"none",       "rebind", "bus-reset", "vendor-specific",
                                        "cold-reset", "unknown"};
    const char *const end = words + n;
    uint32_t ways = 0;
    for (const char *at = words, *next; at <= end; at = next) {
        const char *comma = at < end ? memchr(at, ',', (size_t)(end - at)) : NULL;
        const struct text word = {at, (size_t)((comma ? comma : end) - at)};
        uint32_t way = WEDGED_UNKNOWN;
        for (uint32_t i = 0; i < sizeof names / sizeof *names; i++)
            if (is_text(word, names[i]))
                way = 1u << i;
        ways |= way;
        next = (comma ? comma : end) + 1;
    }
    return ways;
}

static enum uevent_action read_action(struct text text) {
    return is_text(text, "add")      ? UEVENT_ADD
           : is_text(text, "remove") ? UEVENT_REMOVE
           : is_text(text, "change") ? UEVENT_CHANGE
                                     : UEVENT_OTHER;
}

int uevent_read(struct uevent *event, const void *bytes, size_t n) {
    struct text all;
    struct keys keys = {0};
    if (n > UEVENT_BYTES_MAX)
        return -E2BIG;
    const bool of_udev = n >= 8 && !memcmp(bytes, "libudev", 8);
    int rc = of_udev ? find_udev_keys(bytes, n, &all) : find_kernel_keys(bytes, n, &all);
    if (rc == 0)
        rc = read_keys(&keys, all);
    if (rc < 0)
        return rc;
    struct uevent made = {.action = read_action(keys.action)};
    struct text path = keys.path;
    if (is_text(keys.subsystem, "drm") && is_node(&path))
        made.source = UEVENT_DRM;
    else if (is_text(keys.subsystem, "pci"))
        made.source = UEVENT_PCI;
    if (made.source != UEVENT_ELSEWHERE)
        copy_slot(made.slot, take_last(&path));
    made.pci_class = read_class(keys.class);
    if (keys.wedged.at && made.source == UEVENT_DRM && made.action == UEVENT_CHANGE)
        made.wedged = uevent_wedged(keys.wedged.at, keys.wedged.n);
    *event = made;
    return 0;
}
