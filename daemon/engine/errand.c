/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/errand.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/engine/probe.h"
#include "daemon/engine/selftest.h"

int errand_fd(int argc, char **argv, const char *option) {
    char *end;
    if (argc != 3 || strcmp(argv[1], option) != 0)
        return -1;
    const long fd = strtol(argv[2], &end, 10);
    return *end || end == argv[2] || fcntl((int)fd, F_GETFD) < 0 ? -1 : (int)fd;
}

int errand_run(int argc, char **argv) {
    static const struct {
        const char *option;
        int (*answer)(int fd);
    } errands[] = {{"--probe", probe_answer},
                   {"--selftest", selftest_answer},
                   {"--links", selftest_answer_links}};
    for (size_t i = 0; i < sizeof errands / sizeof *errands; i++) {
        const int fd = errand_fd(argc, argv, errands[i].option);
        if (fd >= 0)
            return 1 + (errands[i].answer(fd) < 0);
    }
    return 0;
}

int errand_write(int fd, const void *bytes, size_t n) {
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
