/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/cpu/team.h"

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
        team_pass(job->team, &job->gate[p]);
    }
}

static void every_item_runs_once_and_in_its_phase(void) {
    static struct job job;
    for (uint32_t n = 1; n <= 8; n++) { /* more than this machine has cores, as a rule */
        job = (struct job){0};
        CHECK_EQ(team_create(&job.team, n, true, NULL), 0);
        CHECK_EQ(team_size(job.team), n);
        team_run(job.team, work, &job);
        CHECK_EQ(job.early, 0);
        for (int p = 0; p < PHASES; p++)
            for (uint32_t i = 0; i < ITEMS; i++)
                CHECK_EQ(job.seen[p][i], 1);
        team_destroy(job.team);
    }
}

static void an_idle_team_uses_no_processor(void) {
    static struct job job;
    struct timespec before, after;
    CHECK_EQ(team_create(&job.team, 4, false, NULL), 0);
    team_run(job.team, work, &job);
    usleep(20000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    usleep(200000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    const double used =
        (double)(after.tv_sec - before.tv_sec) + 1e-9 * (double)(after.tv_nsec - before.tv_nsec);
    CHECK(used < 0.005);
    team_destroy(job.team);
}

CHECK_MAIN(T(every_item_runs_once_and_in_its_phase), T(an_idle_team_uses_no_processor))
