/* SPDX-License-Identifier: Apache-2.0 */
/* What arrives on the netlink socket, and the kernel's texts about a PCI device. */
#include "daemon/device/drm/uevent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_event(const uint8_t *exact, size_t size) {
    struct uevent event, untouched;
    memset(&untouched, 0x5a, sizeof untouched);
    event = untouched;
    const int rc = uevent_read(&event, exact, size);
    if (rc < 0 ? memcmp(&event, &untouched, sizeof event) != 0
               : event.slot[0] && !sysfs_is_slot(event.slot, strlen(event.slot)))
        abort();
    if (rc == 0 && event.wedged && (event.source != UEVENT_DRM || event.action != UEVENT_CHANGE))
        abort();
}

static void read_texts(const char *text) {
    uint32_t major, minor, hex;
    uint64_t bars[SYSFS_BARS];
    int64_t number;
    sysfs_hex(text, &hex);
    sysfs_number(text, &number);
    sysfs_bars(text, bars);
    sysfs_release(text, &major, &minor);
    sysfs_flag(text, "flags", "la57");
    sysfs_option(text, "CONFIG_DRM_XE_GPUSVM");
    if (sysfs_generation(text) > 7 || sysfs_lanes(text) > 32)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *exact = malloc(size ? size : 1); /* of that very size: reading beyond it is found */
    char *text = malloc(size + 1);
    if (!exact || !text)
        abort();
    memcpy(exact, data, size);
    memcpy(text, data, size);
    text[size] = '\0';
    read_event(exact, size);
    read_texts(text);
    sysfs_redirects(exact, size);
    free(exact);
    free(text);
    return 0;
}
