/* SPDX-License-Identifier: Apache-2.0 */
/* pressure_source.h - where the kernel, or systemd, says that memory is short.
 *
 * By systemd's protocol: $MEMORY_PRESSURE_WATCH names what to watch, $MEMORY_PRESSURE_WRITE
 * (base64) what to write there first; /dev/null: nothing is to be watched.  Else memory.pressure of
 * the own control group, else /proc/pressure/memory, with a trigger where one may be set there;
 * where not, it is read.  So it is, with a warning, where what systemd names cannot be watched: to
 * serve matters more.  Threads: one, the loop's. */
#ifndef OCTARC_SERVICE_PRESSURE_SOURCE_H
#define OCTARC_SERVICE_PRESSURE_SOURCE_H

#include <limits.h>
#include <uv.h>

#include "daemon/service/pressure.h"

struct err;

struct pressure_source {
    char path[PATH_MAX]; /* empty: nothing is watched */
    int fd;              /* -1: it is only read */
    bool off;            /* systemd says that nothing is to be watched */
    bool stream;         /* something to read on it is a sign; else its priority event is */
    bool stalled;        /* since the last sample */
    uv_poll_t poll;      /* where fd is not -1 */
    void (*told)(void *user);
    void *user;
};

/* `where` is "auto", as above, or a file to be read in the kernel's form.  told(), which may be
 * NULL, is called when a sign came.  -ENOENT and others: the file that it names cannot be read; err
 * says which and why.  Where nothing is there to be watched, nothing is: 0. */
int pressure_source_open(struct pressure_source *source, uv_loop_t *loop, const char *where,
                         uint32_t percent, void (*told)(void *user), void *user, struct err *err);
/* After the loop has closed its handles, of which poll is one where fd is not -1. */
void pressure_source_finish(struct pressure_source *source);

/* What there is to say since the sample before. */
void pressure_source_sample(struct pressure_source *source, struct pressure_sample *sample);

#endif
