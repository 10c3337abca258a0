/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/util/available.h"

#include <stdio.h>

uint64_t memory_available(void) {
    unsigned long long kib = 0;
    char line[128];
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return (kib ? kib : 1u << 20) * 1024u;
}
