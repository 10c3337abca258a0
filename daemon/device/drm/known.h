/* SPDX-License-Identifier: Apache-2.0 */
/* known.h - what a card's PCI id says: name, memory and rates as the maker's data sheets have them.
 */
#ifndef OCTARC_DEVICE_DRM_KNOWN_H
#define OCTARC_DEVICE_DRM_KNOWN_H

#include <stdbool.h>
#include <stdint.h>

struct known_card {
    uint32_t device; /* PCI id, of vendor 8086 */
    const char *name;
    uint64_t vram_bytes; /* 0: more than one size is sold */
    bool xe2;            /* else an older generation, without shared virtual memory */
    uint32_t gb_s,
        tops; /* of its own memory; of multiplications and additions of bytes; 0: not known */
};

/* NULL: none of that id is known. */
const struct known_card *known_find(uint32_t device);

#endif
