/* SPDX-License-Identifier: Apache-2.0 */
/* measure.c - what the cards can do at most, by the very memory that holds the weights and the
 * instructions that multiply them; and what that is for the programs that are loaded.
 *
 * A run counts only if what it leaves is what comes out of as much work: a launch that did not
 * happen, or did something else, is the fastest. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/device/level_zero/kernels/products.h"
#include "daemon/device/level_zero/limits.h"
#include "daemon/device/level_zero/modules.h"
#include "daemon/util/log.h"

#define RUN_NS     UINT64_C(3000000)  /* of a run at least: the host's share of it is little then */
#define TRY_NS     UINT64_C(20000000) /* of one shape of the sweep, or of the products */
#define TRIES_MIN  3u
#define TRIES_MAX  32u
#define ROUNDS_MAX 4096u /* of a sweep, in a run */
#define LOOPS_MIN  3u    /* more than one: that loops are made shows, too */
#define LOOPS_MAX  1024u /* of a group; the host does one group's, too */
#define TURNS_MAX  64u   /* of all groups that the card has threads for */
#define GROUPS_MIN 64u
#define GROUPS_MAX 16384u

/* How the groups share memory: pieces of so many bytes in turn, the last of as much as there is. */
static const uint64_t piece_bytes[] = {4u << 10, 64u << 10, UINT64_MAX};
#define BLOCK_BYTES 1024u /* a piece is whole ones: BLOCK of measure.cl */

struct measuring {
    struct device *device;
    uint32_t card;
    uint32_t groups; /* that run at once */
    uint64_t bytes;  /* of weights that lie on the card */
    uint32_t words;  /* their sum */
    char *out;       /* device memory: a word of each work item */
    uint32_t *found; /* host memory: the same */
    double read_per_s, int8_per_s;
    const char *isa;
};

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_size(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* ---- one launch ----------------------------------------------------------------------------- */

struct argument {
    size_t size;
    const void *value;
};

/* *ns more, from when it is given to when it has ended; what its work items leave is in `found`. */
static int launch(struct measuring *m, struct ze_kernel *kernel, const struct argument *arguments,
                  uint32_t n, uint32_t groups, uint64_t *ns) {
    struct device *d = m->device;
    const ze_group_count_t count = {groups, 1, 1};
    const uint64_t bytes = (uint64_t)groups * SUB_GROUP * sizeof *m->found;
    ze_result_t result = ZE_RESULT_SUCCESS;
    const int filled = level_zero_fill(d, m->card, m->out, bytes);
    if (filled)
        return filled;
    pthread_mutex_lock(&d->cards[m->card].transferring);
    for (uint32_t i = 0; i < n && !result; i++)
        result = d->api->zeKernelSetArgumentValue(kernel->handle, i, arguments[i].size,
                                                  arguments[i].value);
    if (!result) {
        level_zero_waits(d, m->card);
        const uint64_t begin = now_ns();
        result = d->api->zeCommandListAppendLaunchKernel(d->cards[m->card].transfer, kernel->handle,
                                                         &count, NULL, 0, NULL);
        *ns += now_ns() - begin;
        level_zero_waited(d, m->card);
    }
    pthread_mutex_unlock(&d->cards[m->card].transferring);
    const int rc = ze_failed(result, "a kernel that measures", NULL);
    if (rc == -ENODEV)
        d->cards[m->card].lost = true;
    return rc ? rc : level_zero_get(d, m->card, m->found, m->out, bytes);
}

/* It is not believed, then, how long it took. */
static int refuse(const struct measuring *m, const char *what) {
    log_warning("card %u cannot be measured: %s", m->card, what);
    return -EIO;
}

/* ---- reading -------------------------------------------------------------------------------- */

/* Of all stretches of the weights' memory, one after the other. */
static int sweep(struct measuring *m, uint64_t piece, uint32_t rounds, uint64_t *ns,
                 uint32_t *words) {
    const struct ze_area *a = &m->device->cards[m->card].areas[AREA_WEIGHTS];
    struct ze_kernel *kernel;
    int rc = modules_kernel(m->device, m->card, KERNEL_SWEEP, 0, &kernel, NULL);
    *ns = 0;
    *words = 0;
    for (uint64_t begin = 0, end; begin < a->split && !rc; begin = end) {
        char *at;
        end = level_zero_border(a, begin);
        rc = level_zero_stretch(m->device, m->card, AREA_WEIGHTS, begin, end - begin, &at);
        const uint64_t bytes = (end - begin) / 4 * 4;
        const uint64_t even =
            (bytes / m->groups + BLOCK_BYTES) / BLOCK_BYTES * BLOCK_BYTES; /* more than none */
        const uint64_t of = piece < even ? piece : even;
        const struct argument arguments[] = {{sizeof at, &at},
                                             {sizeof bytes, &bytes},
                                             {sizeof of, &of},
                                             {sizeof rounds, &rounds},
                                             {sizeof m->out, &m->out}};
        if (!rc)
            rc = launch(m, kernel, arguments, 5, m->groups, ns);
        for (uint32_t i = 0; i < m->groups * SUB_GROUP && !rc; i++)
            *words += m->found[i];
    }
    return rc;
}

/* The median of several tries. */
static int time_sweeps(struct measuring *m, uint64_t piece) {
    uint64_t ns[TRIES_MAX], spent = 0;
    uint32_t rounds = 1, n = 0, words;
    int rc = sweep(m, piece, rounds, &ns[0], &words);
    while (!rc && ns[0] < RUN_NS && rounds < ROUNDS_MAX && words == m->words * rounds) {
        rounds *= 2;
        rc = sweep(m, piece, rounds, &ns[0], &words);
    }
    while (!rc && words == m->words * rounds && n < TRIES_MAX &&
           (n < TRIES_MIN || spent < TRY_NS)) {
        rc = sweep(m, piece, rounds, &ns[n], &words);
        spent += rc ? 0 : ns[n++];
    }
    if (rc)
        return rc;
    if (words != m->words * rounds)
        return refuse(m, "a sweep over its weights found other words than the first one");
    qsort(ns, n, sizeof *ns, by_size);
    const double rate = 1e9 * (double)m->bytes * rounds / (double)(ns[n / 2] ? ns[n / 2] : 1);
    if (rate > m->read_per_s)
        m->read_per_s = rate;
    return 0;
}

static int measure_read(struct measuring *m) {
    uint64_t ns;
    int rc = m->bytes ? sweep(m, piece_bytes[0], 1, &ns, &m->words) : 0;
    for (size_t i = 0; i < sizeof piece_bytes / sizeof *piece_bytes && m->bytes && !rc; i++)
        rc = time_sweeps(m, piece_bytes[i]);
    return rc;
}

/* ---- multiplying ---------------------------------------------------------------------------- */

static int32_t dot4(uint32_t a, uint32_t b) {
    int32_t sum = 0;
    for (int i = 0; i < 32; i += 8)
        sum += (int8_t)(a >> i) * (int8_t)(b >> i);
    return sum;
}

/* What multiply() of measure.cl leaves of a group. */
static void expect_dots(uint32_t loops, uint32_t out[SUB_GROUP]) {
    for (uint32_t lane = 0; lane < SUB_GROUP; lane++) {
        const uint32_t by = product_seed(lane, PRODUCT_SUMS);
        uint32_t sums[PRODUCT_SUMS];
        for (uint32_t i = 0; i < PRODUCT_SUMS; i++)
            sums[i] = product_seed(lane, i);
        for (uint32_t n = 0; n < loops; n++)
            for (uint32_t i = 0; i < PRODUCT_SUMS; i++)
                sums[i] += (uint32_t)dot4(sums[(i + PRODUCT_SUMS / 2) % PRODUCT_SUMS], by);
        out[lane] = 0;
        for (uint32_t i = 0; i < PRODUCT_SUMS; i++)
            out[lane] ^= sums[i];
    }
}

/* to[row] of a lane += a row of 32 bytes, of which every lane has two, times the lane's 32. */
static void multiply_block(uint16_t by[8][SUB_GROUP], const uint32_t from[8], uint32_t to[8]) {
    for (int row = 0; row < 8; row++) {
        int32_t sum = 0;
        for (int k = 0; k < 8; k++)
            sum += dot4(by[row][2 * k] | (uint32_t)by[row][2 * k + 1] << 16, from[k]);
        to[row] += (uint32_t)sum;
    }
}

/* Of multiply_xmx(). */
static void expect_blocks(uint32_t loops, uint32_t out[SUB_GROUP]) {
    uint16_t by[8][SUB_GROUP];
    for (uint32_t lane = 0; lane < SUB_GROUP; lane++)
        for (uint32_t row = 0; row < 8; row++)
            by[row][lane] = (uint16_t)(product_seed(lane, 8 * PRODUCT_BLOCKS + row) >> 16);
    for (uint32_t lane = 0; lane < SUB_GROUP; lane++) {
        uint32_t sums[PRODUCT_BLOCKS][8];
        for (uint32_t i = 0; i < 8 * PRODUCT_BLOCKS; i++)
            sums[i / 8][i % 8] = product_seed(lane, i);
        for (uint32_t n = 0; n < loops; n++)
            for (uint32_t i = 0; i < PRODUCT_BLOCKS; i++)
                multiply_block(by, sums[(i + PRODUCT_BLOCKS / 2) % PRODUCT_BLOCKS], sums[i]);
        out[lane] = 0;
        for (uint32_t i = 0; i < 8 * PRODUCT_BLOCKS; i++)
            out[lane] ^= sums[i / 8][i % 8];
    }
}

struct products {
    enum kernel_name kernel;
    void (*expect)(uint32_t loops, uint32_t out[SUB_GROUP]);
    double ops; /* of a group's loop */
    const char *name;
};

static const struct products by_dots = {KERNEL_MULTIPLY, expect_dots, 8.0 * PRODUCT_SUMS *SUB_GROUP,
                                        "dot4"};
static const struct products by_matrix = {KERNEL_MULTIPLY_XMX, expect_blocks,
                                          2.0 * PRODUCT_BLOCKS * 8 * SUB_GROUP * 32, "xmx"};

static int multiply(struct measuring *m, const struct products *p, struct ze_kernel *kernel,
                    uint32_t loops, uint32_t turns, uint64_t *ns) {
    const struct argument arguments[] = {{sizeof loops, &loops}, {sizeof m->out, &m->out}};
    const uint32_t groups = m->groups * turns;
    uint32_t want[SUB_GROUP];
    *ns = 0;
    const int rc = launch(m, kernel, arguments, 2, groups, ns);
    p->expect(loops, want);
    for (uint32_t i = 0; i < groups * SUB_GROUP && !rc; i++)
        if (m->found[i] != want[i % SUB_GROUP])
            return refuse(m, "its products are wrong");
    return rc;
}

/* The best try. */
static int time_products(struct measuring *m, const struct products *p, struct ze_kernel *kernel) {
    uint32_t loops = LOOPS_MIN, turns = 1;
    uint64_t ns = 0, best = UINT64_MAX, spent = 0;
    int rc = multiply(m, p, kernel, loops, turns, &ns);
    while (!rc && ns < RUN_NS && turns < TURNS_MAX) {
        *(loops < LOOPS_MAX ? &loops : &turns) *= 2;
        rc = multiply(m, p, kernel, loops, turns, &ns);
    }
    for (uint32_t n = 0; !rc && n < TRIES_MAX && (n < TRIES_MIN || spent < TRY_NS); n++) {
        rc = multiply(m, p, kernel, loops, turns, &ns);
        spent += ns;
        best = !rc && ns < best ? ns : best;
    }
    if (rc)
        return rc;
    m->isa = p->name;
    m->int8_per_s = 1e9 * p->ops * loops * ((double)m->groups * turns) / (double)(best ? best : 1);
    return 0;
}

/* As its steps do it; a driver that cannot build the one has the other there, too. */
static int measure_products(struct measuring *m) {
    struct ze_kernel *kernel;
    if (m->device->cards[m->card].xmx &&
        !modules_kernel(m->device, m->card, by_matrix.kernel, 0, &kernel, NULL))
        return time_products(m, &by_matrix, kernel);
    const int rc = modules_kernel(m->device, m->card, by_dots.kernel, 0, &kernel, NULL);
    return rc ? rc : time_products(m, &by_dots, kernel);
}

/* ---- a card, and all of them ---------------------------------------------------------------- */

static uint32_t threads_of(const struct device *d, uint32_t card) {
    ze_device_properties_t p = {.stype = ZE_STRUCTURE_TYPE_DEVICE_PROPERTIES};
    if (d->api->zeDeviceGetProperties(d->cards[card].handle, &p))
        return GROUPS_MIN;
    const uint64_t n =
        (uint64_t)p.numSlices * p.numSubslicesPerSlice * p.numEUsPerSubslice * p.numThreadsPerEU;
    return n < GROUPS_MIN ? GROUPS_MIN : n > GROUPS_MAX ? GROUPS_MAX : (uint32_t)n;
}

static int measure_card(struct measuring *m) {
    m->groups = threads_of(m->device, m->card);
    m->bytes = m->device->cards[m->card].areas[AREA_WEIGHTS].split;
    const uint64_t bytes = (uint64_t)m->groups * TURNS_MAX * SUB_GROUP * sizeof *m->found;
    m->found = malloc(bytes);
    int rc = m->found ? level_zero_alloc_card(m->device, m->card, bytes, &m->out, NULL) : -ENOMEM;
    if (!rc)
        rc = measure_read(m);
    if (!rc)
        rc = measure_products(m);
    level_zero_free(m->device, m->out);
    free(m->found);
    return rc;
}

int level_zero_measure(struct device *d, struct device_limits *out) {
    struct device_limits limits = {0};
    double read_per_s[CARDS_MAX] = {0}, int8_per_s[CARDS_MAX] = {0};
    const char *isa = "";
    for (uint32_t i = 0; i < d->n_cards; i++) {
        struct measuring m = {.device = d, .card = i};
        if (!d->cards[i].present || d->cards[i].lost)
            continue;
        const int rc = level_zero_failed(d, measure_card(&m));
        if (rc)
            return rc;
        read_per_s[i] = m.read_per_s;
        int8_per_s[i] = m.int8_per_s;
        limits.weights_bytes += m.bytes;
        limits.weights_words += m.words;
        isa = !*isa || isa == m.isa ? m.isa : "mixed";
    }
    snprintf(limits.isa, sizeof limits.isa, "%s", isa);
    limits_of(d, read_per_s, int8_per_s, &limits);
    *out = limits;
    return 0;
}
