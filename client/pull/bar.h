/* SPDX-License-Identifier: Apache-2.0 */
/* bar.h - how far something is, on stderr: a bar on a terminal, else a line at each quarter. */
#ifndef OCTARC_CLIENT_PULL_BAR_H
#define OCTARC_CLIENT_PULL_BAR_H

#include <stdbool.h>
#include <stdint.h>

struct bar {
    const char *what;   /* borrowed */
    uint64_t total;     /* bytes; 0: not known */
    uint64_t at_first;  /* bytes there were before */
    double began, told; /* seconds */
    int quarter;        /* told last */
    bool terminal;
};

void bar_begin(struct bar *bar, const char *what, uint64_t total, uint64_t done);
void bar_show(struct bar *bar, uint64_t done);
void bar_end(struct bar *bar, uint64_t done); /* the line of a terminal */

#endif
