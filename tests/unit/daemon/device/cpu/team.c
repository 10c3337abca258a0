/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/cpu/team.h"

#include <sched.h>
#include <time.h>

#include "tests/check.h"

#define PHASES 200
#define ITEMS  37u

struct job {
    struct team *team;
    _Atomic uint32_t next[PHASES], done[PHASES], gate[PHASES];
    uint32_t seen[PHASES][ITEMS];
    _Atomic uint32_t early;
};

/* Phases as a step runs them: every item once, none before the phase ahead has ended. */
static void work(void *arg, uint32_t member) {
    struct job *job = arg;
    (void)member;
    for (int p = 0; p < PHASES; p++) {
        uint32_t i, finished = 0;
        while ((i = atomic_fetch_add(&job->next[p], 1)) < ITEMS) {
            for (uint32_t k = 0; p && k < ITEMS; k++)
                job->early += job->seen[p - 1][k] != 1;
            job->seen[p][i]++;
            finished++;
        }
        if (finished && atomic_fetch_add(&job->done[p], finished) + finished == ITEMS)
            team_open(job->team, &job->gate[p]);
        team_pass(job->team, &job->gate[p], NULL, NULL);
    }
}

static void every_item_runs_once_and_in_its_phase(void) {
    static struct job job;
    for (uint32_t n = 1; n <= 8; n++) { /* more than this machine has cores, as a rule */
        job = (struct job){0};
        CHECK_EQ(team_create(&job.team, n, NULL), 0);
        CHECK_EQ(team_size(job.team), n);
        team_run(job.team, work, &job);
        CHECK_EQ(job.early, 0);
        for (int p = 0; p < PHASES; p++)
            for (uint32_t i = 0; i < ITEMS; i++)
                CHECK_EQ(job.seen[p][i], 1);
        team_destroy(job.team);
    }
}

static double used_in_a_moment(void) {
    struct timespec before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    usleep(200000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    return (double)(after.tv_sec - before.tv_sec) + 1e-9 * (double)(after.tv_nsec - before.tv_nsec);
}

/* Members that another program keeps from the processor come to rest later. */
static void an_idle_team_uses_no_processor(void) {
    static struct job job;
    double used = 1;
    CHECK_EQ(team_create(&job.team, 4, NULL), 0);
    team_run(job.team, work, &job);
    for (int i = 0; i < 50 && used >= 0.005; i++)
        used = used_in_a_moment();
    CHECK(used < 0.005);
    team_destroy(job.team);
}

struct places {
    cpu_set_t of[2];
};

static void note_place(void *arg, uint32_t member) {
    struct places *places = arg;
    CHECK_EQ(sched_getaffinity(0, sizeof places->of[member], &places->of[member]), 0);
}

static void each_member_but_the_caller_may_be_bound_to_a_core(void) {
    static struct job job;
    struct places before, after;
    cpu_set_t all, first;
    CHECK_EQ(sched_getaffinity(0, sizeof all, &all), 0);
    if (CPU_COUNT(&all) < 2)
        SKIP("one core only");
    CHECK_EQ(team_create(&job.team, 2, NULL), 0);
    team_run(job.team, note_place, &before);
    CHECK(CPU_EQUAL(&before.of[0], &all) && CPU_EQUAL(&before.of[1], &all));
    CHECK_EQ(team_pin(job.team), 1);
    team_run(job.team, note_place, &after);
    CHECK(CPU_EQUAL(&after.of[0], &all)); /* and so are threads that it makes */
    CHECK_EQ(CPU_COUNT(&after.of[1]), 1);
    /* One core is taken away from a member: both run on the other. */
    first = after.of[1];
    CHECK_EQ(sched_setaffinity(0, sizeof first, &first), 0);
    team_run(job.team, work, &job);
    CHECK_EQ(job.early, 0);
    /* Only that one is left to choose from: nothing is bound, and nothing is wrong. */
    CHECK_EQ(team_pin(job.team), 0);
    team_destroy(job.team);
}

CHECK_MAIN(T(every_item_runs_once_and_in_its_phase), T(an_idle_team_uses_no_processor),
           T(each_member_but_the_caller_may_be_bound_to_a_core))
