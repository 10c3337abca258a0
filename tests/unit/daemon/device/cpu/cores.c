/* SPDX-License-Identifier: Apache-2.0 */
/* Which cores the threads take, on machines that are not this one. */
#include "daemon/device/cpu/cores.h"

#include <string.h>

#include "tests/check.h"

/* Cores 0 .. n - 1, hardware threads of one core `apart` from each other; 0: each is alone. */
static void machine(int n, int apart, cpu_set_t *usable, int first[CPU_SETSIZE]) {
    CPU_ZERO(usable);
    for (int core = 0; core < CPU_SETSIZE; core++) {
        first[core] = apart == 1 ? core / 2 * 2 : apart && core >= apart ? core - apart : core;
        if (core < n)
            CPU_SET(core, usable);
    }
}

static void chosen(const cpu_set_t *usable, const int *first, uint32_t n, const int *want) {
    int cores[CPU_SETSIZE];
    CHECK(cores_choose_of(usable, first, n, cores));
    CHECK(!memcmp(cores, want, n * sizeof *want));
}
#define CHOSEN(n, ...) chosen(&usable, first, n, (const int[]){__VA_ARGS__})

static void whole_cores_come_first_and_are_spread(void) {
    cpu_set_t usable;
    int first[CPU_SETSIZE];
    machine(8, 0, &usable, first);
    CHOSEN(1, 0);
    CHOSEN(2, 0, 4);
    CHOSEN(3, 0, 2, 5);
    CHOSEN(8, 0, 1, 2, 3, 4, 5, 6, 7);
    machine(8, 4, &usable, first); /* 0 and 4 are one core */
    CHOSEN(2, 0, 2);
    CHOSEN(4, 0, 1, 2, 3);
    CHOSEN(6, 0, 1, 2, 3, 4, 6);
    machine(8, 1, &usable, first); /* 0 and 1 are one core */
    CHOSEN(4, 0, 2, 4, 6);
    CHOSEN(5, 0, 2, 4, 6, 1);
}

static void only_usable_ones_are_taken(void) {
    cpu_set_t usable;
    int first[CPU_SETSIZE], cores[CPU_SETSIZE];
    machine(8, 4, &usable, first);
    for (int core = 0; core < 4; core++)
        CPU_CLR(core, &usable); /* the second threads are left, each now alone on its core */
    CHOSEN(4, 4, 5, 6, 7);
    CHECK(!cores_choose_of(&usable, first, 5, cores));
    CHECK(!cores_choose_of(&usable, first, 0, cores));
}

/* For any machine and any number: different ones, all usable, and a second thread of a core only
 * where every core has one. */
static void no_core_is_taken_twice(void) {
    uint32_t state = 11;
    for (int round = 0; round < 2000; round++) {
        cpu_set_t usable, taken, alone, used;
        int first[CPU_SETSIZE], cores[CPU_SETSIZE];
        state = state * 1664525u + 1013904223u;
        machine(1 + (int)(state >> 8) % 64, (int)(state >> 16) % 9, &usable, first);
        for (int core = 0; core < 64; core++)
            if ((state = state * 1664525u + 1013904223u) >> 30 == 0)
                CPU_CLR(core, &usable);
        const uint32_t n = (state >> 12) % 65;
        if (!cores_choose_of(&usable, first, n, cores)) {
            CHECK(n == 0 || n > (uint32_t)CPU_COUNT(&usable));
            continue;
        }
        CPU_ZERO(&taken);
        CPU_ZERO(&alone);
        CPU_ZERO(&used);
        for (int core = 0; core < 64; core++)
            if (CPU_ISSET(core, &usable))
                CPU_SET(first[core], &alone);
        for (uint32_t i = 0; i < n; i++) {
            CHECK(CPU_ISSET(cores[i], &usable) && !CPU_ISSET(cores[i], &taken));
            CPU_SET(cores[i], &taken);
            CPU_SET(first[cores[i]], &used);
        }
        const int most = CPU_COUNT(&alone);
        CHECK_EQ(CPU_COUNT(&used), n < (uint32_t)most ? (int)n : most);
    }
}

static void those_of_this_machine_are_known(void) {
    int cores[CPU_SETSIZE];
    cpu_set_t usable;
    const uint32_t n = cores_usable();
    CHECK_EQ(sched_getaffinity(0, sizeof usable, &usable), 0);
    CHECK(cores_choose(n, cores));
    for (uint32_t i = 0; i < n; i++)
        CHECK(CPU_ISSET(cores[i], &usable));
    CHECK(!cores_choose(n + 1, cores));
}

CHECK_MAIN(T(whole_cores_come_first_and_are_spread), T(only_usable_ones_are_taken),
           T(no_core_is_taken_twice), T(those_of_this_machine_are_known))
