/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/util/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *program_name = "octarc";
static enum log_priority least_priority = LOG_P_INFO;
static bool journal;

void log_init(const char *program, enum log_priority least) {
    program_name = program;
    least_priority = least;
    journal = getenv("JOURNAL_STREAM") != NULL;
}

void log_line(enum log_priority priority, const char *fmt, ...) {
    if (priority > least_priority)
        return;

    /* One write a line, so that lines of several processes on one stream do not mix. */
    char line[2048];
    int n = journal ? snprintf(line, sizeof line, "<%d>", (int)priority)
                    : snprintf(line, sizeof line, "%s: ", program_name);
    va_list ap;
    va_start(ap, fmt);
    const int body = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
    va_end(ap);
    n += body < 0 ? 0 : body;
    if (n > (int)sizeof line - 2)
        n = (int)sizeof line - 2;
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, (size_t)n) < 0)
        return; /* nowhere left to say so */
}
