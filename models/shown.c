/* SPDX-License-Identifier: Apache-2.0 */
#include "models/shown.h"

#include <stdbool.h>
#include <string.h>

#include "daemon/util/utf8.h"

void shown_text(char *to, size_t size, const char *from, size_t n) {
    size_t at = 0;
    for (size_t i = 0; i < n;) {
        const unsigned char c = (unsigned char)from[i];
        size_t length = utf8_length(from + i, n - i);
        const bool control = c < 0x20 || c == 0x7f ||
                             (c == 0xc2 && length == 2 && (unsigned char)from[i + 1] < 0xa0);
        const bool stays = length > 0 && !control;
        length = length ? length : 1;
        if (at + (stays ? length : 1) >= size)
            break;
        memcpy(to + at, stays ? from + i : "?", stays ? length : 1);
        at += stays ? length : 1;
        i += length;
    }
    to[at] = 0;
}

struct shown shown(const char *from, size_t n) {
    struct shown s;
    shown_text(s.text, sizeof s.text, from, n);
    return s;
}
