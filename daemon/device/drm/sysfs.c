/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/drm/sysfs.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int sysfs_read(const char *path, char *text, size_t size) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    size_t n = 0;
    ssize_t got = fd < 0 ? -1 : 1;
    while (got > 0 && n < size - 1) {
        got = read(fd, text + n, size - 1 - n);
        n += got > 0 ? (size_t)got : 0;
    }
    const int error = errno;
    if (fd >= 0)
        close(fd);
    if (got < 0)
        return -error;
    text[n] = '\0';
    return (int)n;
}

static bool is_end(const char *at) {
    return at[strspn(at, " \t\r\n")] == '\0';
}

bool sysfs_hex(const char *text, uint32_t *value) {
    const char *digits = text[0] == '0' && text[1] == 'x' ? text + 2 : text;
    char *end;
    if (!isxdigit((unsigned char)digits[0]))
        return false;
    errno = 0;
    const unsigned long long read = strtoull(digits, &end, 16);
    if (errno || !is_end(end) || read > UINT32_MAX)
        return false;
    *value = (uint32_t)read;
    return true;
}

bool sysfs_number(const char *text, int64_t *value) {
    char *end;
    const char *digits = text[0] == '-' ? text + 1 : text;
    if (!isdigit((unsigned char)digits[0]))
        return false;
    errno = 0;
    const long long read = strtoll(text, &end, 10);
    if (errno || !is_end(end))
        return false;
    *value = read;
    return true;
}

uint32_t sysfs_generation(const char *text) {
    static const char *const speeds[] = {"2.5 GT/s",  "5.0 GT/s",  "8.0 GT/s",  "16.0 GT/s",
                                         "32.0 GT/s", "64.0 GT/s", "128.0 GT/s"};
    for (uint32_t i = 0; i < sizeof speeds / sizeof *speeds; i++)
        if (!strncmp(text, speeds[i], strlen(speeds[i])))
            return i + 1;
    return 0;
}

/* 255 and 63 are what the kernel shows of a link that is not there, 0 of one that is down. */
uint32_t sysfs_lanes(const char *text) {
    int64_t lanes;
    return sysfs_number(text, &lanes) && lanes >= 1 && lanes <= 32 ? (uint32_t)lanes : 0;
}

bool sysfs_is_slot(const char *text, size_t n) {
    static const char form[] = "xxxx:xx:xx.d";
    if (n != sizeof form - 1)
        return false;
    for (size_t i = 0; i < n; i++)
        if (form[i] == 'x'   ? !isxdigit((unsigned char)text[i])
            : form[i] == 'd' ? text[i] < '0' || text[i] > '7'
                             : text[i] != form[i])
            return false;
    return true;
}

/* A line is "0xBEGIN 0xLAST 0xFLAGS"; all zero where there is nothing. */
bool sysfs_bars(const char *text, uint64_t bytes[SYSFS_BARS]) {
    uint64_t made[SYSFS_BARS];
    for (int i = 0; i < SYSFS_BARS; i++) {
        uint64_t word[3];
        for (int k = 0; k < 3; k++) {
            char *end;
            if (strncmp(text, "0x", 2) != 0)
                return false;
            errno = 0;
            word[k] = strtoull(text, &end, 16);
            if (errno || (k < 2 ? *end != ' ' : *end && *end != '\n'))
                return false;
            text = *end ? end + 1 : end;
        }
        made[i] = word[1] > word[0] ? word[1] - word[0] + 1 : 0;
    }
    memcpy(bytes, made, sizeof made);
    return true;
}

bool sysfs_release(const char *text, uint32_t *major, uint32_t *minor) {
    char *end;
    if (!isdigit((unsigned char)text[0]))
        return false;
    const unsigned long first = strtoul(text, &end, 10);
    if (end[0] != '.' || !isdigit((unsigned char)end[1]))
        return false;
    const unsigned long second = strtoul(end + 1, NULL, 10);
    if (first > 1000 || second > 100000)
        return false;
    *major = (uint32_t)first;
    *minor = (uint32_t)second;
    return true;
}

enum drm_answer sysfs_flag(const char *text, const char *key, const char *word) {
    const size_t n_key = strlen(key), n_word = strlen(word);
    while (*text && (strncmp(text, key, n_key) || !strchr(" \t:", text[n_key]))) {
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    if (!*text)
        return DRM_UNKNOWN;
    const char *end = text + strcspn(text, "\n");
    while (text < end) {
        const size_t n = strcspn(text, " \t\n");
        if (n == n_word && !strncmp(text, word, n))
            return DRM_YES;
        text += n + 1;
    }
    return DRM_NO;
}

enum drm_answer sysfs_option(const char *text, const char *option) {
    const size_t n = strlen(option);
    bool any = false;
    for (; *text; text += *text == '\n') {
        any |= !strncmp(text, "CONFIG_", 7);
        if (!strncmp(text, option, n) && text[n] == '=')
            return text[n + 1] == 'y' || text[n + 1] == 'm' ? DRM_YES : DRM_NO;
        text += strcspn(text, "\n");
    }
    return any ? DRM_NO : DRM_UNKNOWN;
}

/* --- configuration space --- */

#define EXTENDED_BEGIN    0x100u
#define EXTENDED_MOST     96 /* capabilities in a list; a longer one runs in a circle */
#define CAPABILITY_ACS    0x000du
#define CAPABILITY_SERIAL 0x0003u
#define ACS_CONTROL       6u
#define ACS_REDIRECTS     0x2cu /* requests, completions, egress control */

static uint32_t word_at(const uint8_t *config, size_t at) {
    return (uint32_t)config[at] | (uint32_t)config[at + 1] << 8 | (uint32_t)config[at + 2] << 16 |
           (uint32_t)config[at + 3] << 24;
}

/* Where an extended capability is.  0: there is none; UINT32_MAX: not within what is shown. */
static size_t find_extended(const uint8_t *config, size_t n, uint32_t capability) {
    size_t at = EXTENDED_BEGIN;
    for (int i = 0; i < EXTENDED_MOST && at >= EXTENDED_BEGIN; i++) {
        if (at + 8 > n)
            return UINT32_MAX;
        const uint32_t header = word_at(config, at);
        if (header == 0 || header == UINT32_MAX)
            return 0;
        if ((header & 0xffff) == capability)
            return at;
        at = header >> 20 & ~3u;
    }
    return at ? UINT32_MAX : 0;
}

enum drm_answer sysfs_redirects(const uint8_t *config, size_t n) {
    const size_t at = find_extended(config, n, CAPABILITY_ACS);
    if (at == 0 || at == UINT32_MAX)
        return at ? DRM_UNKNOWN : DRM_NO;
    return config[at + ACS_CONTROL] & ACS_REDIRECTS ? DRM_YES : DRM_NO;
}

/* The most significant byte first, as lspci and the kernel's own file have it. */
bool sysfs_serial(const uint8_t *config, size_t n, char out[SYSFS_SERIAL_MAX]) {
    const size_t at = find_extended(config, n, CAPABILITY_SERIAL);
    if (at == 0 || at == UINT32_MAX || at + 12 > n)
        return false;
    const uint32_t low = word_at(config, at + 4), high = word_at(config, at + 8);
    if ((low == 0 && high == 0) || (low == UINT32_MAX && high == UINT32_MAX))
        return false; /* one that its maker left out */
    snprintf(out, SYSFS_SERIAL_MAX, "%02x-%02x-%02x-%02x-%02x-%02x-%02x-%02x", high >> 24,
             high >> 16 & 0xff, high >> 8 & 0xff, high & 0xff, low >> 24, low >> 16 & 0xff,
             low >> 8 & 0xff, low & 0xff);
    return true;
}
