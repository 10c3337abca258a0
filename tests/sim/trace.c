/* SPDX-License-Identifier: Apache-2.0 */
/* What happened last, kept for the case that a promise is broken. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/util/log.h"
#include "tests/sim/sim.h"

#define LINES 1000
#define SHORT 60 /* of these, where it was not asked for */
#define WIDTH 160

static char lines[LINES][WIDTH];
static uint64_t n_lines, digest;

static void keep(const char *fmt, va_list args) {
    char *line = lines[n_lines++ % LINES];
    const int n = snprintf(line, WIDTH, "%10.6f ", (double)sim.now_ns * 1e-9);
    vsnprintf(line + n, WIDTH - (size_t)n, fmt, args);
    for (const char *c = line; *c; c++)
        digest = mix(digest, (uint8_t)*c);
}

void trace(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    keep(fmt, args);
    va_end(args);
}

void trace_clear(void) {
    n_lines = digest = 0;
}

uint64_t trace_digest(void) {
    return digest;
}

void broken(const char *fmt, ...) {
    va_list args;
    const char *wanted = getenv("SEED"); /* replayed: all of it */
    const uint64_t most = wanted && *wanted ? LINES : SHORT;
    for (uint64_t i = n_lines > most ? n_lines - most : 0; i < n_lines; i++)
        printf("# %s\n", lines[i % LINES]);
    printf("# seed %" PRIu64 ": ", sim.seed);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    printf("\n# again: SEED=%" PRIu64 "\n", sim.seed);
    fflush(stdout);
    _Exit(1); /* what is allocated is nobody's leak */
}

/* What the front logs is a part of what happened. */
void log_init(const char *program, enum log_priority least) {
    (void)program, (void)least;
}

void log_line(enum log_priority priority, const char *fmt, ...) {
    va_list args;
    (void)priority;
    va_start(args, fmt);
    keep(fmt, args);
    va_end(args);
}
