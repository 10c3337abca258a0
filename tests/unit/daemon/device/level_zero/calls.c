/* SPDX-License-Identifier: Apache-2.0 */
/* How many calls of Level Zero a step takes, counted on cards that do nothing
 * (tests/bench/arc/idle_loader.c): docs/performance-arc.md says so, too. */
#include "tests/sim_level_zero/box.h"

#define STEPS           4u
#define RECORDING_BOUND 64u /* calls a layer and a card, when a step is recorded */
#define RECORDINGS_STEPS                                                                           \
    2u /* after which the steps of a shape are: there are two sets of events                       \
        */

struct count {
    unsigned layers, all, submits, waits;
};

/* Of so many steps after `warm` others, in a process of its own. */
static struct count count_calls(const char *model, unsigned cards, const char *split,
                                unsigned steps, unsigned warm) {
    char host[PATH_MAX], command[3 * PATH_MAX], counters[64], line[128];
    struct count c = {0};
    box_path("tests/bench/arc/host", host, sizeof host);
    if (access(host, X_OK))
        SKIP("tests/bench/arc/host is not built");
    snprintf(counters, sizeof counters, "/tmp/octarc-calls-%d", (int)getpid());
    snprintf(command, sizeof command,
             "LD_LIBRARY_PATH=%.*s IDLE_CALLS=%s %s \"$OCTARC_TINY\"/%s %u %s %u %u",
             (int)(strrchr(host, '/') - host), host, counters, host, model, cards, split, steps,
             warm);
    FILE *f = popen(command, "r");
    CHECK(f);
    while (fgets(line, sizeof line, f)) {
        sscanf(line, "layers %u calls %u", &c.layers, &c.all);
        sscanf(line, "zeCommandQueueExecuteCommandLists %u", &c.submits);
        sscanf(line, "zeEventHostSynchronize %u", &c.waits);
    }
    CHECK_EQ(pclose(f), 0);
    unlink(counters);
    CHECK(c.layers > 0);
    return c;
}

/* What is recorded is submitted and waited for once a card, however many layers there are. */
static void two_a_card(unsigned cards, const char *split) {
    static const char *const models[] = {"tiny-f32.gguf", "tiny-deep.gguf"};
    for (int i = 0; i < 2; i++) {
        const struct count c = count_calls(models[i], cards, split, STEPS, RECORDINGS_STEPS);
        const unsigned used =
            strcmp(split, "layer") || c.layers >= cards ? cards : c.submits / STEPS;
        CHECK(used > 0 && used <= cards);
        CHECK_EQ(c.submits, STEPS * used);
        CHECK_EQ(c.waits, STEPS * used);
        CHECK_EQ(c.all, 2 * STEPS * used);
    }
}

static void a_step_takes_two_on_one_card(void) {
    two_a_card(1, "layer");
}

static void two_a_card_where_they_share_layers(void) {
    two_a_card(2, "tensor");
    two_a_card(4, "tensor");
    two_a_card(8, "tensor");
}

static void and_where_they_pass_them_on(void) {
    two_a_card(2, "layer");
    two_a_card(8, "layer");
}

static void is_bounded(unsigned cards, const char *split) {
    const struct count few = count_calls("tiny-f32.gguf", cards, split, 1, 0);
    const struct count many = count_calls("tiny-deep.gguf", cards, split, 1, 0);
    const unsigned layers = many.layers - few.layers;
    const unsigned of = strcmp(split, "layer") ? cards : 1; /* each layer is one card's */
    printf("# %u cards, %s: %u calls for %u layers more\n", cards, split, many.all - few.all,
           layers);
    CHECK(many.all - few.all <= RECORDING_BOUND * layers * of);
}

static void recording_one_takes_no_more_than_its_bound(void) {
    is_bounded(1, "layer");
    is_bounded(2, "tensor");
    is_bounded(4, "tensor");
    is_bounded(8, "tensor");
    is_bounded(8, "layer");
}

CHECK_MAIN(T(a_step_takes_two_on_one_card), T(two_a_card_where_they_share_layers),
           T(and_where_they_pass_them_on), T(recording_one_takes_no_more_than_its_bound))
