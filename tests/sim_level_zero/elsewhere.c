/* SPDX-License-Identifier: Apache-2.0 */
/* elsewhere.c - memory of a card that other processes of its box have: engines beside this one, and
 * whoever holds a descriptor of what an engine that is gone had there.  It is used memory as long
 * as that is so.  Found where the kernel tells: by the names of open descriptors. */
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/sim_level_zero/sim.h"

#define INODES_MAX 4096

struct seen {
    size_t n;
    uint64_t inodes[INODES_MAX], bytes;
};

static void see(struct seen *seen, const struct stat *st) {
    for (size_t i = 0; i < seen->n; i++)
        if (seen->inodes[i] == st->st_ino)
            return;
    if (seen->n == INODES_MAX)
        sim_misuse("more than %d pieces of memory in a box", INODES_MAX);
    seen->inodes[seen->n++] = st->st_ino;
    if (!sim_memory_is_here(st->st_ino))
        seen->bytes += (uint64_t)st->st_size;
}

static void look_at(struct seen *seen, const char *process, const char *name) {
    char path[300], link[300], target[300];
    struct dirent *entry;
    struct stat st;
    snprintf(path, sizeof path, "/proc/%.20s/fd", process);
    DIR *fds = opendir(path);
    while (fds && (entry = readdir(fds))) {
        snprintf(link, sizeof link, "/proc/%.20s/fd/%.20s", process, entry->d_name);
        const ssize_t n = readlink(link, target, sizeof target - 1);
        if (n <= 0)
            continue;
        target[n] = 0;
        if (!strncmp(target, name, strlen(name)) && target[strlen(name)] == ' ' && !stat(link, &st))
            see(seen, &st);
    }
    if (fds)
        closedir(fds);
}

uint64_t sim_elsewhere_bytes(unsigned card) {
    char name[64 + sizeof sim.options.box];
    struct dirent *entry;
    struct seen *seen = *sim.options.box ? calloc(1, sizeof *seen) : NULL;
    DIR *processes = seen ? opendir("/proc") : NULL;
    uint64_t bytes = 0;
    snprintf(name, sizeof name, "/memfd:" SIM_MEMORY_NAME "%u-%s", card, sim.options.box);
    while (processes && (entry = readdir(processes)))
        if (isdigit((unsigned char)entry->d_name[0]))
            look_at(seen, entry->d_name, name);
    if (processes)
        closedir(processes);
    if (seen)
        bytes = seen->bytes;
    free(seen);
    return bytes;
}
