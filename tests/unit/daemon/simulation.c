/* SPDX-License-Identifier: Apache-2.0 */
/* Schedules of the whole service on a virtual clock (tests/sim/sim.h): whatever happens to engines
 * and cards, every request ends once, with the transcript of an undisturbed run.
 *
 *   SEED=N simulation           one schedule, the one that failed
 *   SOAK_SECONDS=N simulation   new seeds for so long (0: until stopped); `make soak` */
#include <sys/mman.h>
#include <time.h>

#include "tests/check.h"
#include "tests/sim/sim.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SEEDS 60u
#else
#define SEEDS 600u
#endif
#define SOAK_BATCH 500u

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* A child runs the seeds, so that one that crashes or hangs is named too.  0: all promises kept. */
static int run_seeds(uint64_t first, uint64_t n) {
    volatile uint64_t *at =
        mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        alarm(CHECK_TIMEOUT_S);
        for (*at = first; *at < first + n; ++*at)
            sim_run(*at);
        printf("# %" PRIu64 " schedules: %" PRIu64 " requests, %" PRIu64 " tokens, %" PRIu64
               " generations, %" PRIu64 " with weights in host memory, %" PRIu64
               " rebalances (and %" PRIu64 " waves on the way, %" PRIu64 " full cards, %" PRIu64
               " crossed an answer), %" PRIu64 " replays, %" PRIu64 " pre-empted, %" PRIu64
               " cancelled, %" PRIu64 " failed, %" PRIu64 " gaps beside an order, of %.2f steps "
               "at most, %" PRIu64 " takeovers, %" PRIu64
               " sequences moved, pauses of %.2f steps at most, %" PRIu64 " harmed, %" PRIu64
               " of it found in use, %" PRIu64 " disturbed\n",
               n, sim_totals.requests, sim_totals.tokens, sim_totals.generations,
               sim_totals.spilled, sim_totals.rebalances, sim_totals.waves, sim_totals.staged,
               sim_totals.crossed, sim_totals.replays, sim_totals.preempted, sim_totals.cancelled,
               sim_totals.failed, sim_totals.moved_gaps, sim_totals.longest_gap,
               sim_totals.takeovers, sim_totals.moved, sim_totals.longest_pause, sim_totals.harms,
               sim_totals.harmed, sim_totals.disturbed);
        exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    if (status)
        printf("# seed %" PRIu64 " ends with status %d; again: SEED=%" PRIu64 "\n", *at, status,
               *at);
    munmap((void *)at, sizeof *at);
    return status != 0;
}

static void every_schedule_keeps_the_promises(void) {
    CHECK_EQ(run_seeds(1, SEEDS), 0);
}

static void a_seed_makes_the_same_schedule_again(void) {
    for (uint64_t seed = 1; seed <= SEEDS / 20; seed++) {
        sim_run(seed);
        const uint64_t once = trace_digest();
        sim_run(seed);
        CHECK(trace_digest() == once);
    }
}

static int soak(double seconds) {
    const double begin = now_s();
    uint64_t seed = (uint64_t)time(NULL) * 1000000;
    const uint64_t first = seed;
    while (seconds <= 0 || now_s() - begin < seconds) {
        if (run_seeds(seed, SOAK_BATCH))
            return 1;
        seed += SOAK_BATCH;
    }
    printf("%" PRIu64 " schedules in %.0f s\n", seed - first, now_s() - begin);
    return 0;
}

int main(int argc, char **argv) {
    static const struct check_test tests[] = {T(every_schedule_keeps_the_promises),
                                              T(a_seed_makes_the_same_schedule_again)};
    const char *seed = getenv("SEED"), *seconds = getenv("SOAK_SECONDS");
    if (seed && *seed)
        return run_seeds(strtoull(seed, NULL, 10), 1);
    if (seconds && *seconds)
        return soak(strtod(seconds, NULL));
    return check_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
