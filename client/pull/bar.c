/* SPDX-License-Identifier: Apache-2.0 */
#include "client/pull/bar.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "client/table.h"

#define CELLS      30
#define INTERVAL_S 0.1

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void bar_begin(struct bar *bar, const char *what, uint64_t total, uint64_t done) {
    *bar = (struct bar){.what = what,
                        .total = total,
                        .at_first = done,
                        .began = now_s(),
                        .terminal = isatty(STDERR_FILENO)};
    bar->quarter = total ? (int)(4 * (double)done / (double)total) : 0;
}

static void draw(struct bar *bar, uint64_t done, double now) {
    char left[32], right[32] = "", speed[32], cells[CELLS + 1] = {0};
    const double part = bar->total ? (double)done / (double)bar->total : 0;
    for (int i = 0; i < CELLS; i++)
        cells[i] = i < (int)(CELLS * part) ? '#' : '-';
    const double seconds = now - bar->began;
    size_text(seconds > 0 ? (double)(done - bar->at_first) / seconds : 0, speed, sizeof speed);
    if (bar->total)
        size_text((double)bar->total, right, sizeof right);
    fprintf(stderr, "\r%s [%s] %s%s%s, %s/s\033[K", bar->what, cells,
            size_text((double)done, left, sizeof left), *right ? " of " : "", right, speed);
    fflush(stderr);
    bar->told = now;
}

void bar_show(struct bar *bar, uint64_t done) {
    const double now = now_s();
    char size[32];
    if (bar->terminal) {
        if (now - bar->told >= INTERVAL_S)
            draw(bar, done, now);
        return;
    }
    const int quarter = bar->total ? (int)(4 * (double)done / (double)bar->total) : 0;
    if (quarter > bar->quarter && quarter < 4)
        fprintf(stderr, "%s: %d %% of %s\n", bar->what, 25 * quarter,
                size_text((double)bar->total, size, sizeof size));
    bar->quarter = quarter;
}

void bar_end(struct bar *bar, uint64_t done) {
    if (!bar->terminal)
        return;
    draw(bar, done, now_s());
    fputc('\n', stderr);
}
