/* SPDX-License-Identifier: Apache-2.0 */
/* shared.h - reference data that is not part of the project: the folder OCTARC_SHARED names. */
#ifndef OCTARC_TESTS_SHARED_H
#define OCTARC_TESTS_SHARED_H

#include "tests/check.h"

/* The path of a file in it, valid for three calls more; without the file the test is skipped. */
static inline const char *shared(const char *rest) {
    static char path[4][512];
    static int turn;
    const char *dir = getenv("OCTARC_SHARED");
    char why[600];
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir ? dir : "", rest);
    snprintf(why, sizeof why, "OCTARC_SHARED names no folder with %s", rest);
    if (!dir || !*dir || access(path[turn], R_OK))
        SKIP(why);
    return path[turn];
}

#endif
