/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/drm/known.h"

#include <stddef.h>

#define GIB UINT64_C(1073741824)

const struct known_card *known_find(uint32_t device) {
    static const struct known_card cards[] = {
        {0xe212, "Intel Arc Pro B50", 16 * GIB, true, 224, 170},
        {0xe211, "Intel Arc Pro B60", 24 * GIB, true, 456, 197},
        {0xe222, "Intel Arc Pro B65", 32 * GIB, true, 608, 197},
        {0xe223, "Intel Arc Pro B70", 32 * GIB, true, 608, 367},
        /* The others of the same two chips that the driver knows. */
        {0xe202, "Intel Battlemage G21", 0, true, 0, 0},
        {0xe209, "Intel Battlemage G21", 0, true, 0, 0},
        {0xe20b, "Intel Battlemage G21", 0, true, 0, 0},
        {0xe20c, "Intel Battlemage G21", 0, true, 0, 0},
        {0xe20d, "Intel Battlemage G21", 0, true, 0, 0},
        {0xe210, "Intel Battlemage G21", 0, true, 0, 0},
        {0xe216, "Intel Battlemage G21", 0, true, 0, 0},
        {0xe220, "Intel Battlemage G31", 0, true, 0, 0},
        {0xe221, "Intel Battlemage G31", 0, true, 0, 0},
        {0x56a0, "Intel Arc A770", 0, false, 0, 0},
        {0x56a1, "Intel Arc A750", 8 * GIB, false, 0, 0},
        {0x56c0, "Intel Data Center GPU Flex 170", 16 * GIB, false, 0, 0},
    };
    for (size_t i = 0; i < sizeof cards / sizeof *cards; i++)
        if (cards[i].device == device)
            return &cards[i];
    return NULL;
}
