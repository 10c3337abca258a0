/* SPDX-License-Identifier: Apache-2.0 */
/* step.c - where a step's time goes: of one row, of sixteen sequences, of a prompt's 512 rows; on
 * one card and on eight.  Each operation's share of the threads' time, what it takes of a step, and
 * how fast it reads its weights, beside a sweep over the same memory before and after.  The speed
 * itself is of steps without a profile, whose clock costs most where there are many operations.
 * Then one card and eight, taking turns in one process: on a machine that others use too a ratio
 * says more than two rates.
 *
 * usage: step FILE [threads [isa: auto|portable|avx2|avx512 [steps [shapes whose name holds it]]]]
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/engine/runner.h"
#include "models/gguf.h"
#include "octarc/error.h"

#define ROWS_MAX  512u
#define STREAMS   16u
#define CONTEXT   1024u
#define WARM_UP   3u
#define STEPS_MIN 4u
#define CAPACITY  (UINT64_C(8) << 30)

struct shape {
    const char *name;
    uint32_t n_cards;
    enum split split;
    uint32_t rows, sequences, position;
};
static const struct shape shapes[] = {
    {"one row", 1, SPLIT_LAYER, 1, 1, 64},
    {"one row, 8 cards, layer split", 8, SPLIT_LAYER, 1, 1, 64},
    {"one row, 8 cards, tensor split", 8, SPLIT_TENSOR, 1, 1, 64},
    {"one row, 8 cards, tensor split, behind 500", 8, SPLIT_TENSOR, 1, 1, 500},
    {"4 sequences", 1, SPLIT_LAYER, 4, 4, 64},
    {"8 sequences", 1, SPLIT_LAYER, 8, 8, 64},
    {"16 sequences, 8 cards, tensor split", 8, SPLIT_TENSOR, STREAMS, STREAMS, 64},
    {"16 sequences", 1, SPLIT_LAYER, STREAMS, STREAMS, 64},
    {"512 rows of a prompt", 1, SPLIT_LAYER, ROWS_MAX, 1, 0},
    {"512 rows of a prompt, 8 cards, tensor split", 8, SPLIT_TENSOR, ROWS_MAX, 1, 0},
};

static const char *const names[OP_KINDS] = {
    [OP_EMBED] = "embed",
    [OP_NORM] = "norm",
    [OP_QKV] = "qkv",
    [OP_ROPE_STORE] = "rope, store",
    [OP_ATTENTION] = "attention",
    [OP_LANES] = "output, down",
    [OP_COMBINE] = "combine",
    [OP_ADD_NORM] = "add, norm",
    [OP_GATE_UP] = "gate, up",
    [OP_ROUTE] = "route",
    [OP_DISPATCH] = "dispatch",
    [OP_EXPERT_GATE_UP] = "experts' gate, up",
    [OP_EXPERT_DOWN] = "experts' down",
    [OP_LOGITS] = "logits",
    [OP_EXCHANGE] = "exchange",
    [OP_FETCH] = "fetch",
};

struct bench {
    const char *path;
    int fd;
    struct model model;
    struct gguf *gguf;
    uint32_t threads, steps;
    enum instruction_set isa;
    float *logits;
};

static void must(int rc, const struct err *err, const char *what) {
    if (!rc)
        return;
    fprintf(stderr, "%s: %s (%d)\n", what, err ? err->text : "", rc);
    exit(1);
}

static struct runner *open_shape(const struct bench *b, const struct shape *s, bool profile,
                                 struct plan *plan) {
    struct plan_input in = {.model = &b->model,
                            .backend = device_backend("cpu"),
                            .n_cards = s->n_cards,
                            .split = s->split,
                            .kv_type = KV_F16,
                            .context = CONTEXT,
                            .max_sequences = STREAMS,
                            .max_rows = ROWS_MAX};
    struct err err = {{0}};
    for (uint32_t c = 0; c < s->n_cards; c++) {
        in.online[c] = true;
        in.capacity_bytes[c] = CAPACITY;
    }
    must(plan_build(plan, &in, &err), &err, "plan");
    struct runner_options o = {.backend = in.backend,
                               .model = &b->model,
                               .plan = plan,
                               .part_fds = &b->fd,
                               .head_fds = &b->fd,
                               .n_parts = 1,
                               .sums_fd = -1,
                               .file_name = b->path};
    must(identity_of(b->fd, &o.file), NULL, b->path);
    for (uint32_t c = 0; c < CARDS_MAX; c++)
        o.weight_fds[c] = -1;
    o.device.isa = b->isa;
    o.device.n_threads = b->threads;
    o.device.profile = profile;
    struct runner *runner;
    must(runner_open(&runner, &o, &err), &err, "open");
    return runner;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The same rows at each step: what was there before is written anew.  took: seconds of each. */
static void run_steps(const struct bench *b, struct runner *runner, const struct shape *s,
                      const struct plan *plan, uint32_t n, double *took) {
    static uint32_t pages[STREAMS][CONTEXT / PAGE_TOKENS];
    static struct step_row rows[ROWS_MAX];
    struct step_sequence sequences[STREAMS];
    uint32_t outputs[STREAMS], card;
    const uint32_t n_pages = CONTEXT / PAGE_TOKENS, each = s->rows / s->sequences;
    for (uint32_t q = 0; q < s->sequences; q++) {
        for (uint32_t i = 0; i < n_pages; i++)
            pages[q][i] = (q * n_pages + i) % plan->n_pages;
        sequences[q] = (struct step_sequence){pages[q], n_pages};
        outputs[q] = (q + 1) * each - 1;
    }
    for (uint32_t r = 0; r < s->rows; r++)
        rows[r] = (struct step_row){(int32_t)((r * 37 + 11) % b->model.params.n_vocab),
                                    s->position + r % each, r / each};
    struct step_params params = {.rows = rows,
                                 .n_rows = s->rows,
                                 .sequences = sequences,
                                 .n_sequences = s->sequences,
                                 .outputs = outputs,
                                 .n_outputs = s->sequences,
                                 .logits = b->logits};
    for (uint32_t i = 0; i < n; i++) {
        const double began = now();
        must(runner_step(runner, &params, &card), NULL, "step");
        took[i] = now() - began;
    }
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Steps without a profile: the median, and what a tenth of them stayed below; on a machine that
 * others use too, the figure that says most of the program. */
struct speed {
    double median, tenth;
};

static struct speed measure_speed(const struct bench *b, const struct shape *s, uint32_t n) {
    struct plan plan = {0};
    struct runner *runner = open_shape(b, s, false, &plan);
    double *took = calloc(n, sizeof *took);
    must(took ? 0 : -ENOMEM, NULL, "steps");
    run_steps(b, runner, s, &plan, WARM_UP < n ? WARM_UP : n, took);
    run_steps(b, runner, s, &plan, n, took);
    qsort(took, n, sizeof *took, by_size);
    const struct speed speed = {took[n / 2], took[n / 10]};
    free(took);
    runner_close(runner);
    plan_finish(&plan);
    return speed;
}

static void print_line(const char *name, double seconds, const struct device_profile *p,
                       uint64_t bytes, uint32_t threads) {
    const double of_step = seconds / (double)p->steps / threads;
    printf("  %-20s %8.3f ms %5.1f %%", name, 1e3 * of_step, 100 * seconds / p->whole);
    if (bytes)
        printf(" %8.2f MB %6.1f GB/s", 1e-6 * (double)bytes, 1e-9 * (double)bytes / of_step);
    putchar('\n');
}

static void print_profile(const struct device_profile *p, uint32_t threads) {
    double rest = p->whole - p->strips - p->wait;
    for (uint32_t k = 0; k < OP_KINDS; k++) {
        rest -= p->ops[k].seconds;
        if (p->ops[k].pieces)
            print_line(names[k], p->ops[k].seconds, p, p->weight_bytes[k], threads);
    }
    if (p->strips > 0)
        print_line("lanes, by strips", p->strips, p, 0, threads);
    print_line("waiting", p->wait, p, 0, threads);
    print_line("all else", rest, p, 0, threads);
}

static void measure_shape(const struct bench *b, const struct shape *s) {
    struct plan plan = {0};
    const uint32_t n = b->steps / s->rows + STEPS_MIN;
    const struct speed speed = measure_speed(b, s, n);
    struct runner *runner = open_shape(b, s, true, &plan);
    struct device_limits before, after;
    struct device_profile profile;
    const struct device_ops *ops = device_backend("cpu");
    double *took = calloc(n, sizeof *took);
    must(took ? 0 : -ENOMEM, NULL, "steps");
    run_steps(b, runner, s, &plan, WARM_UP, took);
    must(ops->measure(runner_device(runner), &before), NULL, "measure");
    must(ops->profile(runner_device(runner), &profile), NULL, "profile");
    run_steps(b, runner, s, &plan, n, took);
    must(ops->profile(runner_device(runner), &profile), NULL, "profile");
    must(ops->measure(runner_device(runner), &after), NULL, "measure");
    printf(
        "%s: %.3f ms a step, a tenth of them below %.3f, %.0f tokens/s; %u threads, %s; the sweep "
        "%.1f, %.1f GB/s, products %.0f, %.0f GOPS\n",
        s->name, 1e3 * speed.median, 1e3 * speed.tenth, s->rows / speed.median, before.n_threads,
        before.isa, 1e-9 * before.read_bytes_per_s, 1e-9 * after.read_bytes_per_s,
        1e-9 * before.int8_ops_per_s, 1e-9 * after.int8_ops_per_s);
    print_profile(&profile, before.n_threads);
    free(took);
    runner_close(runner);
    plan_finish(&plan);
}

/* ---- one card and eight in turns ------------------------------------------------------------ */

#define TURNS_MIN  20u
#define TURN_STEPS 12u  /* of one row, between two changes */
#define TURN_ROWS  128u /* with more, one step, and a quarter of the turns */

static const struct turns {
    const char *name;
    uint32_t one, eight; /* of shapes */
} turns[] = {
    {"one row, eight cards beside one, in turns", 0, 2},
    {"16 sequences, eight cards beside one, in turns", 7, 6},
    {"512 rows of a prompt, eight cards beside one, in turns", 8, 9},
};

/* The median step of a turn. */
static double take_turn(const struct bench *b, struct runner *runner, const struct shape *s,
                        const struct plan *plan) {
    double took[TURN_STEPS];
    const uint32_t n = s->rows < TURN_ROWS ? TURN_STEPS : 1;
    run_steps(b, runner, s, plan, n, took);
    qsort(took, n, sizeof *took, by_size);
    return took[n / 2];
}

static void measure_turns(const struct bench *b, const struct turns *t) {
    const struct shape *s[2] = {&shapes[t->one], &shapes[t->eight]};
    struct plan plans[2] = {{0}, {0}};
    struct runner *runners[2];
    const uint32_t most = b->steps / (s[0]->rows < TURN_ROWS ? 4 : 16);
    const uint32_t n = most > TURNS_MIN ? most : TURNS_MIN;
    double *took[2] = {calloc(n, sizeof(double)), calloc(n, sizeof(double))};
    double *ratio = calloc(n, sizeof *ratio);
    must(took[0] && took[1] && ratio ? 0 : -ENOMEM, NULL, "turns");
    for (int k = 0; k < 2; k++) {
        runners[k] = open_shape(b, s[k], false, &plans[k]);
        take_turn(b, runners[k], s[k], &plans[k]); /* warms it up */
    }
    for (uint32_t i = 0; i < n; i++) {
        for (int k = 0; k < 2; k++)
            took[k][i] = take_turn(b, runners[k], s[k], &plans[k]);
        ratio[i] = took[0][i] / took[1][i];
    }
    for (int k = 0; k < 2; k++)
        qsort(took[k], n, sizeof(double), by_size);
    qsort(ratio, n, sizeof *ratio, by_size);
    printf(
        "%s: %.3f and %.3f ms a step, %.3f of one card's speed (median of %u turns; half of them "
        "%.3f to %.3f), %.3f of the fastest tenths\n",
        t->name, 1e3 * took[0][n / 2], 1e3 * took[1][n / 2], ratio[n / 2], n, ratio[n / 4],
        ratio[n - 1 - n / 4], took[0][n / 10] / took[1][n / 10]);
    for (int k = 0; k < 2; k++) {
        free(took[k]);
        runner_close(runners[k]);
        plan_finish(&plans[k]);
    }
    free(ratio);
}

int main(int argc, char **argv) {
    static const char *const isas[] = {"auto", "portable", "avx2", "avx512"};
    struct bench b = {.path = argc > 1 ? argv[1] : "", .steps = 400};
    struct err err = {{0}};
    setlinebuf(stdout);
    b.threads = argc > 2 ? (uint32_t)atoi(argv[2]) : 0;
    for (int i = 0; argc > 3 && i < 4; i++)
        if (!strcmp(argv[3], isas[i]))
            b.isa = (enum instruction_set)i;
    if (argc > 4)
        b.steps = (uint32_t)atoi(argv[4]);
    b.fd = open(b.path, O_RDONLY | O_CLOEXEC);
    if (b.fd < 0)
        return fprintf(stderr, "step: '%s' cannot be read\n", b.path), 1;
    must(gguf_open(&b.gguf, b.fd, b.path, &err), &err, b.path);
    must(model_read(&b.model, b.gguf, &err), &err, b.path);
    b.logits = calloc((size_t)b.model.params.n_vocab * STREAMS, sizeof *b.logits);
    for (size_t i = 0; b.logits && i < sizeof shapes / sizeof *shapes; i++)
        if (argc <= 5 || strstr(shapes[i].name, argv[5]))
            measure_shape(&b, &shapes[i]);
    for (size_t i = 0; b.logits && i < sizeof turns / sizeof *turns; i++)
        if (argc <= 5 || strstr(turns[i].name, argv[5]))
            measure_turns(&b, &turns[i]);
    free(b.logits);
    model_finish(&b.model);
    gguf_close(b.gguf);
    close(b.fd);
    return 0;
}
