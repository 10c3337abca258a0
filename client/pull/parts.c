/* SPDX-License-Identifier: Apache-2.0 */
#include "client/pull/parts.h"

#include <stdio.h>
#include <string.h>

#define SUFFIX "-00001-of-00002.gguf"
#define DIGITS 5

uint32_t parts_count(const char *word, size_t n) {
    static const char first[] = "-00001-of-", end[] = ".gguf";
    const char *at = word + n - (sizeof SUFFIX - 1);
    uint32_t count = 0;
    if (n < sizeof SUFFIX || memcmp(at, first, sizeof first - 1) ||
        memcmp(word + n - (sizeof end - 1), end, sizeof end - 1))
        return 1;
    for (const char *digit = at + sizeof first - 1; digit < word + n - (sizeof end - 1); digit++) {
        if (*digit < '0' || *digit > '9')
            return 1;
        count = count * 10 + (uint32_t)(*digit - '0');
    }
    return count >= 1 && count <= PARTS_MAX ? count : 1;
}

void parts_name(const char *word, size_t n, uint32_t part, char *out) {
    char digits[16];
    snprintf(digits, sizeof digits, "%05u", part + 1);
    memcpy(out, word, strlen(word) + 1);
    memcpy(out + n - (sizeof SUFFIX - 1) + 1, digits, DIGITS);
}
