/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/cpu/cores.h"

#include <stdio.h>

uint32_t cores_usable(void) {
    cpu_set_t usable;
    return sched_getaffinity(0, sizeof usable, &usable) ? 1 : (uint32_t)CPU_COUNT(&usable);
}

/* Of the lists "0,64" or "0-1" the first number; a core that is alone where nothing is told. */
static int first_thread(int core) {
    char path[96];
    int first = core;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list",
             core);
    FILE *f = fopen(path, "re");
    if (!f)
        return core;
    if (fscanf(f, "%d", &first) != 1 || first < 0 || first >= CPU_SETSIZE)
        first = core;
    fclose(f);
    return first;
}

/* The usable ones whose core has none before them (or, `second`, has one), in order. */
static uint32_t list(const cpu_set_t *usable, const int *first, bool second,
                     int cores[CPU_SETSIZE]) {
    cpu_set_t taken;
    uint32_t n = 0;
    CPU_ZERO(&taken);
    for (int core = 0; core < CPU_SETSIZE; core++) {
        if (!CPU_ISSET(core, usable))
            continue;
        if (CPU_ISSET(first[core], &taken) == second)
            cores[n++] = core;
        CPU_SET(first[core], &taken);
    }
    return n;
}

static void spread(const int *from, uint32_t n_from, uint32_t n, int *to) {
    for (uint32_t i = 0; i < n; i++)
        to[i] = from[(uint64_t)i * n_from / n];
}

bool cores_choose_of(const cpu_set_t *usable, const int *first, uint32_t n, int *cores) {
    int alone[CPU_SETSIZE], second[CPU_SETSIZE];
    const uint32_t n_alone = list(usable, first, false, alone);
    const uint32_t n_second = list(usable, first, true, second);
    if (n == 0 || n > n_alone + n_second)
        return false;
    const uint32_t m = n < n_alone ? n : n_alone;
    spread(alone, n_alone, m, cores);
    spread(second, n_second, n - m, cores + m);
    return true;
}

bool cores_choose(uint32_t n, int *cores) {
    cpu_set_t usable;
    int first[CPU_SETSIZE];
    if (sched_getaffinity(0, sizeof usable, &usable))
        return false;
    for (int core = 0; core < CPU_SETSIZE; core++)
        first[core] = CPU_ISSET(core, &usable) ? first_thread(core) : core;
    return cores_choose_of(&usable, first, n, cores);
}
