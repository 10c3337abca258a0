/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - one line a fact, on standard error, with the priority prefix the journal reads ("<6>").
 *
 * The prefix is written only where standard error is the journal (JOURNAL_STREAM) or log_init asks
 * for it; on a terminal the line begins with the program's name.  Never a prompt or an answer. */
#ifndef OCTARC_UTIL_LOG_H
#define OCTARC_UTIL_LOG_H

#include <stdbool.h>

enum log_priority {
    LOG_P_ERR = 3,
    LOG_P_WARNING = 4,
    LOG_P_NOTICE = 5,
    LOG_P_INFO = 6,
    LOG_P_DEBUG = 7
};

void log_init(const char *program, enum log_priority least);
void log_line(enum log_priority priority, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_line(LOG_P_ERR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_P_WARNING, __VA_ARGS__)
#define log_notice(...)  log_line(LOG_P_NOTICE, __VA_ARGS__)
#define log_info(...)    log_line(LOG_P_INFO, __VA_ARGS__)
#define log_debug(...)   log_line(LOG_P_DEBUG, __VA_ARGS__)

#endif
