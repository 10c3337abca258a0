/* SPDX-License-Identifier: Apache-2.0 */
/* child.h - the programs a benchmark starts, and the folder they share.
 *
 * Each runs in a process group of its own, so an interrupt of the terminal reaches only the bench,
 * whose handler ends them; it ends with the bench even where that is killed.  Whatever waited for
 * an answer of theirs then fails, which is how an interrupt unwinds.
 *
 * Threads: start and stop from one; the main one. */
#ifndef OCTARC_CLIENT_BENCH_CHILD_H
#define OCTARC_CLIENT_BENCH_CHILD_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CHILDREN_MAX 16

struct err;

struct child {
    pid_t pid; /* 0: none */
    char name[32];
    char log[PATH_MAX]; /* what it says on stderr */
};

/* From here on SIGINT, SIGTERM and SIGHUP end every child; the second one ends the bench. */
void children_catch_signals(void);
bool children_interrupted(void);

/* Find a program: a path as it is, a name beside this program and then in PATH.  -ENOENT. */
int child_find(const char *name, char path[PATH_MAX], struct err *err);

/* Start argv[0] (a path) with its output in the files `out` and `log`.  -EINTR: interrupted. */
int child_start(struct child *child, char *const argv[], const char *out, const char *log,
                struct err *err);
/* Whether it has ended; *status is then as of waitpid(). */
bool child_ended(struct child *child, int *status);
/* Wait for its end, at most so long; 0 only where it succeeded, else err tells its last line. */
int child_wait(struct child *child, double seconds, struct err *err);
/* End it: it is asked to, and killed where it does not. */
void child_stop(struct child *child);
/* It ended by itself, with this status: a sentence with the last line it said. */
int child_fail(const struct child *child, int status, struct err *err);
/* Resident bytes of it and all processes below it. */
uint64_t child_rss(const struct child *child);

/* A folder for sockets and logs; removed with all that is in it. */
int folder_make(char path[PATH_MAX], struct err *err);
void folder_remove(const char *path);

double clock_s(void);
void sleep_ms(unsigned ms);

#endif
