/* SPDX-License-Identifier: Apache-2.0 */
/* sysfs.h - what the kernel's small texts about a PCI device say.
 *
 * The readers of texts are pure functions of terminated strings, which may end with a newline.
 * Threads: no shared state. */
#ifndef OCTARC_DEVICE_DRM_SYSFS_H
#define OCTARC_DEVICE_DRM_SYSFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SYSFS_TEXT_MAX   4096 /* the kernel's own limit: a page */
#define SYSFS_SLOT_MAX   16   /* "0000:03:00.0" and its end */
#define SYSFS_BARS       6
#define SYSFS_SERIAL_MAX 24

enum drm_answer { DRM_UNKNOWN, DRM_NO, DRM_YES };

/* Up to size - 1 bytes of a file, terminated; a longer one is cut.  How many, or what opening or
 * reading failed with. */
int sysfs_read(const char *path, char *text, size_t size);

/* "0xe211" or "e211".  False: it is something else, or wider than 32 bits. */
bool sysfs_hex(const char *text, uint32_t *value);
bool sysfs_number(const char *text, int64_t *value);
/* Of the speed of a link, "16.0 GT/s PCIe": 1 to 7.  0: unknown. */
uint32_t sysfs_generation(const char *text);
/* Of its width.  0: unknown. */
uint32_t sysfs_lanes(const char *text);
/* The n bytes are a PCI address, "0000:03:00.0". */
bool sysfs_is_slot(const char *text, size_t n);
/* Bytes of each BAR, from the file `resource`; 0: there is none.  False: not in that form. */
bool sysfs_bars(const char *text, uint64_t bytes[SYSFS_BARS]);
/* Major and minor of a kernel's release, "6.12.43+deb13-amd64". */
bool sysfs_release(const char *text, uint32_t *major, uint32_t *minor);
/* Is a word among those of a line that begins with `key` (of /proc/cpuinfo)? */
enum drm_answer sysfs_flag(const char *text, const char *key, const char *word);
/* Is an option of the kernel's configuration y or m? */
enum drm_answer sysfs_option(const char *text, const char *option);
/* Does this bridge, by the bytes of its configuration space, send what one device below it asks of
 * another up to the host (ACS redirection)?  Who is not root is shown its first 64 bytes only. */
enum drm_answer sysfs_redirects(const uint8_t *config, size_t n);
/* The device's serial number, "a1-b2-c3-d4-e5-f6-07-18", by the same bytes.  False: it has none, or
 * it is not shown. */
bool sysfs_serial(const uint8_t *config, size_t n, char out[SYSFS_SERIAL_MAX]);

#endif
