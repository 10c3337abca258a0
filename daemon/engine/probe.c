/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/probe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "octarc/error.h"

static int write_all(int fd, const void *bytes, size_t n) {
    const char *at = bytes;
    while (n > 0) {
        const ssize_t done = write(fd, at, n);
        if (done < 0 && errno != EINTR)
            return -errno;
        at += done > 0 ? done : 0;
        n -= done > 0 ? (size_t)done : 0;
    }
    return 0;
}

int probe_answer(int fd) {
    struct err err = {{0}};
    struct probe_report *report = calloc(1, sizeof *report);
    if (!report)
        return -ENOMEM;
    report->magic = PROBE_MAGIC;
    report->bytes = sizeof *report;
    snprintf(report->version, sizeof report->version, "%s", OCTARC_VERSION);
    if (drm_find(&report->box, "", &err) < 0)
        snprintf(report->error, sizeof report->error, "%.150s", err.text);
    probe_driver(&report->driver);
    const int rc = write_all(fd, report, sizeof *report);
    free(report);
    return rc;
}
