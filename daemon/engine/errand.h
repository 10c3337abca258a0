/* SPDX-License-Identifier: Apache-2.0 */
/* errand.h - what octarc-engine does instead of serving: look, say what it saw in one plain value,
 * end. */
#ifndef OCTARC_ENGINE_ERRAND_H
#define OCTARC_ENGINE_ERRAND_H

#include <stddef.h>

/* The errand that the command line names, if any: 1 + the exit status; 0: it names none. */
int errand_run(int argc, char **argv);

/* The descriptor behind an option; -1: it is not that option, or no open descriptor. */
int errand_fd(int argc, char **argv, const char *option);

/* All of a report.  0 or -errno. */
int errand_write(int fd, const void *bytes, size_t n);

#endif
