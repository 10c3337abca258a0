/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c - placement at length: a hundred thousand small boxes with every promise checked, how long
 * a plan of 1,000 tensors for 8 cards takes, and what another card does to the prediction of the
 * split that is chosen.  `make bench-plan`.
 *
 * usage: plan [boxes] [first seed] */
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "daemon/placement/predict.h"
#include "daemon/placement/waves.h"
#include "tests/boxes.h"

#define BOXES   100000u
#define PLANS   50
#define WORKERS 2  /* each does every second seed */
#define SPILLS  15 /* of so many boxes one has host memory for weights, too */

static double now_s(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- promises --- */

static uint32_t current;

/* A check that fails ends the worker. */
static void tell_seed(int status, void *arg) {
    (void)arg;
    if (status)
        printf("# seed %u\n", current);
}

/* The same box with a deeper model, on cards that are mostly too small for it. */
static bool check_spilled(struct boxed *b) {
    boxed_layers(b, 1 + draw(24));
    boxed_shrink(b, 4);
    return boxed_check_spilled(b);
}

static void check_seeds(uint32_t first, uint32_t end, _Atomic uint32_t *n_spilled) {
    on_exit(tell_seed, NULL);
    for (uint32_t seed = first; seed < end; seed += WORKERS) {
        struct boxed b;
        boxed_small(&b, seed);
        if (seed % 2)
            boxed_rates(&b, seed % 4 == 1 ? 4 : 0);
        current = seed;
        if (boxed_check(&b))
            boxed_check_more(&b);
        if (seed % 16 == 0)
            boxed_check_same(&b);
        if (seed % SPILLS == 0)
            *n_spilled += check_spilled(&b);
        boxed_finish(&b);
    }
    exit(0);
}

static int check_boxes(uint32_t n, uint32_t first) {
    const double begin = now_s(CLOCK_MONOTONIC);
    struct rusage used;
    int failed = 0;
    _Atomic uint32_t *n_spilled =
        mmap(NULL, sizeof *n_spilled, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(n_spilled != MAP_FAILED);
    fflush(stdout);
    for (uint32_t w = 0; w < WORKERS; w++)
        if (fork() == 0)
            check_seeds(first + w, first + n, n_spilled);
    for (int status; wait(&status) > 0;)
        failed |= !WIFEXITED(status) || WEXITSTATUS(status);
    getrusage(RUSAGE_CHILDREN, &used);
    printf(
        "%u boxes of at most 40 tensors, and %u of more that leave weights in host memory, seeds "
        "from %u: %s in %.1f s (%ld s of processors)\n",
        n, *n_spilled, first, failed ? "FAILED" : "every promise kept",
        now_s(CLOCK_MONOTONIC) - begin, (long)used.ru_utime.tv_sec);
    munmap((void *)n_spilled, sizeof *n_spilled);
    return failed;
}

/* --- time --- */

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of the processor's time, which other programs do not lengthen much. */
static void time_plans(enum split split, const char *name, double room, bool by_speed) {
    double ms[PLANS];
    uint32_t n_fit = 0, n_tensors = 0;
    for (uint32_t i = 0; i < PLANS; i++) {
        struct boxed b;
        struct plan plan = {0};
        boxed_full(&b, i);
        boxed_layers(&b, 111);
        b.in = tight_input(&b.model, 8, split, 4096);
        for (uint32_t c = 0; c < 8; c++)
            b.in.capacity_bytes[c] = (uint64_t)((double)b.in.capacity_bytes[c] * room);
        if (by_speed)
            boxed_rates(&b, 0);
        const double begin = now_s(CLOCK_THREAD_CPUTIME_ID);
        n_fit += plan_build(&plan, &b.in, NULL) == 0;
        ms[i] = (now_s(CLOCK_THREAD_CPUTIME_ID) - begin) * 1e3;
        n_tensors = (uint32_t)b.model.n_tensors;
        plan_finish(&plan);
        boxed_finish(&b);
    }
    qsort(ms, PLANS, sizeof *ms, by_value);
    printf("8 cards, %u tensors, by %s, split %-6s %-5s: median %5.1f ms, most %5.1f ms (%u of %d "
           "fit)\n",
           n_tensors, by_speed ? "speed" : "bytes", plan_split_name(split), name, ms[PLANS / 2],
           ms[PLANS - 1], n_fit, PLANS);
}

/* --- ways of several waves --- */

/* A card leaves 8 that have little room beside what they hold; the front's loop looks for the way.
 */
static void time_waves(double room) {
    double ms[PLANS];
    uint32_t n_found = 0, most = 0, n = 0;
    for (uint32_t i = 0; i < PLANS; i++) {
        struct boxed b;
        struct plan now = {0}, then = {0};
        struct waves waves;
        uint64_t wanted;
        boxed_full(&b, i);
        boxed_layers(&b, 111);
        b.in = tight_input(&b.model, 8, SPLIT_LAYER, 4096);
        for (uint32_t c = 0; c < 8; c++)
            b.in.capacity_bytes[c] = (uint64_t)((double)b.in.capacity_bytes[c] * room);
        if (plan_build(&now, &b.in, NULL) == 0) {
            b.in.online[i % 8] = false;
            if (plan_build(&then, &b.in, NULL) == 0) {
                b.in.online[i % 8] = true;
                const double begin = now_s(CLOCK_THREAD_CPUTIME_ID);
                const int rc = waves_find(&waves, &now, &then, &b.in, UINT64_C(1) << 40, &wanted);
                ms[n++] = (now_s(CLOCK_THREAD_CPUTIME_ID) - begin) * 1e3;
                n_found += rc == 0;
                if (rc == 0 && waves.n > most)
                    most = waves.n;
                if (rc == 0)
                    waves_finish(&waves);
            }
        }
        plan_finish(&now);
        plan_finish(&then);
        boxed_finish(&b);
    }
    qsort(ms, n, sizeof *ms, by_value);
    if (n)
        printf(
            "a card leaves 8, cards of %.1f of the least: a way in %u of %u, of %u waves at most: "
            "median %5.1f ms, most %5.1f ms\n",
            room, n_found, n, most, ms[n / 2], ms[n - 1]);
}

/* --- another card --- */

static void compare_cards(enum split split) {
    uint32_t n = 0, n_slower = 0, n_pages = 0;
    double worst = 1, best = 1;
    for (uint32_t seed = 0; seed < PLANS; seed++)
        for (uint32_t cards = 1; cards < CARDS_MAX; cards++) {
            struct plan before = {0}, after = {0};
            struct boxed b;
            boxed_full(&b, seed);
            b.in.split = split;
            for (uint32_t c = 0; c < CARDS_MAX; c++)
                b.in.capacity_bytes[c] = UINT64_C(64) << 30;
            boxed_rates(&b, seed % 2 ? 8 : 0);
            b.in.n_cards = cards;
            const double slow = boxed_decode(&b, &before);
            b.in.n_cards++;
            const double fast = boxed_decode(&b, &after);
            n_pages += slow > 0 && boxed_all_pages(&before) != boxed_all_pages(&after);
            if (slow > 0 && boxed_all_pages(&before) == boxed_all_pages(&after)) {
                n++;
                n_slower += fast < slow * (1 - 1e-9);
                worst = fast / slow < worst ? fast / slow : worst;
                best = fast / slow > best ? fast / slow : best;
            }
            plan_finish(&before);
            plan_finish(&after);
            boxed_finish(&b);
        }
    printf(
        "another card of 64 GiB, split %-6s: predicted slower in %u of %u boxes, at worst %.4f, at "
        "best %.2f of before; in %u it makes room for the KV of all sequences\n",
        plan_split_name(split), n_slower, n, worst, best, n_pages);
}

int main(int argc, char **argv) {
    const uint32_t n = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : BOXES;
    const uint32_t first = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1;
    const int failed = check_boxes(n, first);
    for (int by_speed = 0; by_speed < 2; by_speed++)
        for (int split = SPLIT_AUTO; split < SPLITS; split++) {
            time_plans((enum split)split, "roomy", 3, by_speed);
            time_plans((enum split)split, "tight", 1, by_speed);
            time_plans((enum split)split, "small", 0.4, by_speed);
        }
    for (double room = 1.0; room < 1.9; room += 0.2)
        time_waves(room);
    for (int split = SPLIT_AUTO; split < SPLITS; split++)
        compare_cards((enum split)split);
    return failed;
}
