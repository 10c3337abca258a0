/* SPDX-License-Identifier: Apache-2.0 */
/* Cards and their memory: limits, loss, isolation, digests. */
#include "daemon/device/device.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "daemon/device/cpu/cores.h"
#include "daemon/device/cpu/cpu.h"
#include "octarc/error.h"
#include "tests/check.h"
#include "tests/unit/daemon/device/cards.h"

#define COLS 32u

static struct device *open_cards(uint32_t n, bool isolate, const int *fds) {
    struct device_options o = {.n_cards = n, .n_threads = 2, .max_rows = 4, .isolate = isolate};
    struct device *d = NULL;
    for (uint32_t c = 0; c < n; c++) {
        o.present[c] = true;
        o.capacity_bytes[c] = 3 * AREA_BYTES;
    }
    CHECK_EQ(device_backend("cpu")->open(&d, &o, NULL), 0);
    for (uint32_t c = 0; c < n; c++)
        for (int a = 0; a <= AREA_SCRATCH; a++)
            CHECK_EQ(d->ops->reserve(d, c, (enum area)a, AREA_BYTES, AREA_BYTES,
                                     fds && a == AREA_WEIGHTS ? fds[c] : -1, NULL),
                     0);
    return d;
}

/* One norm on card 0: hidden rows at 0, act at 4096. */
static struct op one_norm(void) {
    return (struct op){
        .kind = OP_NORM,
        .layer = -1,
        .norm = {.hidden = {.offset = 0, .stride = COLS},
                 .n = COLS,
                 .eps = 1e-5f,
                 .part = {0, 1},
                 .act = {.forms = FORM_F32, .cols = COLS, .f32 = 4096}},
    };
}

static int run(struct device *d, uint32_t *card) {
    const struct step_row row = {0};
    const struct step_params p = {.rows = &row, .n_rows = 1};
    *card = CARDS_MAX;
    return d->ops->step(d, &p, card);
}

/* Threads do not survive a fork: the isolated step uses none. */
static void run_once(struct device *d) {
    uint32_t card;
    if (run(d, &card))
        _exit(0);
}

static void a_read_of_another_card_crashes_in_isolation(void) {
    struct device *d = open_cards(2, true, NULL);
    struct op op = one_norm();
    const struct program programs[CARDS_MAX] = {{&op, 1}};
    uint32_t card;
    advise_own(d);
    CHECK_EQ(d->ops->load(d, programs, NULL), 0);
    CHECK_EQ(run(d, &card), 0);
    CHECK(!crashes(run_once, d));
    /* The program is borrowed: this is the same operation with its input on the other card. */
    op.norm.hidden.offset =
        (uint64_t)(d->cards[1].areas[AREA_SCRATCH].base - d->cards[0].areas[AREA_SCRATCH].base);
    CHECK(crashes(run_once, d));
    d->isolate = false; /* and it is the isolation that caught it */
    CHECK_EQ(run(d, &card), 0);
    d->ops->close(d);
}

/* Row 0 of card 1's scratch to 64 behind the begin of card 0's. */
static struct op one_exchange(void) {
    return (struct op){.kind = OP_EXCHANGE,
                       .exchange = {.kind = EXCHANGE_ROWS,
                                    .src = 1,
                                    .dst = 0,
                                    .from = {0, 1},
                                    .to = {0, 1},
                                    .dst_offset = 64,
                                    .row_bytes = 64,
                                    .src_stride_bytes = 64,
                                    .dst_stride_bytes = 64}};
}

static void an_exchange_crosses_where_the_reader_was_advised(void) {
    struct device *d = open_cards(2, true, NULL);
    const struct op op = one_exchange();
    const struct program programs[CARDS_MAX] = {{(struct op *)&op, 1}};
    uint32_t card;
    memset(d->cards[1].areas[AREA_SCRATCH].base, 7, 64);
    advise_own(d);
    CHECK_EQ(d->ops->load(d, programs, NULL), 0);
    CHECK(crashes(run_once, d));
    CHECK_EQ(advise(d, 1, AREA_SCRATCH, 0x1), 0);
    CHECK_EQ(run(d, &card), 0);
    CHECK_EQ(d->cards[0].areas[AREA_SCRATCH].base[64], 7);
    d->ops->close(d);
}

static void advice_reaches_as_far_as_it_says(void) {
    struct device *d = open_cards(2, true, NULL);
    struct op op = one_exchange();
    const struct program programs[CARDS_MAX] = {{&op, 1}};
    const struct device_advice second_page = {
        .home = 1, .area = AREA_SCRATCH, .offset = 4096, .bytes = 4096, .readers = 0x1};
    uint32_t card;
    advise_own(d);
    CHECK_EQ(d->ops->advise(d, &second_page), 0);
    CHECK_EQ(d->ops->load(d, programs, NULL), 0);
    CHECK(crashes(run_once, d));
    op.exchange.src_offset = 8192 - 64;
    CHECK_EQ(run(d, &card), 0);
    op.exchange.src_offset = 8192;
    CHECK(crashes(run_once, d));
    op.exchange.src_offset = 8192 - 64;
    d->ops->release(d, 1, AREA_SCRATCH); /* and with the area goes what was said of it */
    CHECK_EQ(d->ops->reserve(d, 1, AREA_SCRATCH, AREA_BYTES, AREA_BYTES, -1, NULL), 0);
    CHECK(crashes(run_once, d));
    d->ops->close(d);
}

/* A receiver that writes to where it only reads, or to what is read-mostly. */
static void what_is_advised_to_be_read_cannot_be_written(void) {
    struct device *d = open_cards(2, true, NULL);
    struct op op = one_exchange();
    const struct program programs[CARDS_MAX] = {{&op, 1}};
    const char *own = d->cards[0].areas[AREA_SCRATCH].base;
    uint32_t card;
    advise_own(d);
    CHECK_EQ(advise(d, 1, AREA_SCRATCH, 0x1), 0);
    CHECK_EQ(d->ops->load(d, programs, NULL), 0);
    CHECK_EQ(run(d, &card), 0);
    op.exchange.dst_offset = (uint64_t)(d->cards[1].areas[AREA_SCRATCH].base - own) + 128;
    CHECK(crashes(run_once, d));
    op.exchange.dst_offset = (uint64_t)(d->cards[0].areas[AREA_WEIGHTS].base - own);
    CHECK(crashes(run_once, d));
    d->ops->close(d);
}

static void advice_that_names_what_is_not_there_is_refused(void) {
    struct device *d = open_cards(2, false, NULL);
    struct device_advice advice = {.home = 0, .area = AREA_KV, .bytes = 64, .readers = 0x3};
    CHECK_EQ(d->ops->advise(d, &advice), 0);
    advice.readers = READER_HOST | 0x1;
    CHECK_EQ(d->ops->advise(d, &advice), 0);
    advice.readers = 0;
    CHECK_EQ(d->ops->advise(d, &advice), -EINVAL);
    advice.readers = 0x5; /* there is no card 2 */
    CHECK_EQ(d->ops->advise(d, &advice), -EINVAL);
    advice.readers = READER_HOST << 1;
    CHECK_EQ(d->ops->advise(d, &advice), -EINVAL);
    advice.readers = 0x1;
    advice.offset = AREA_BYTES - 32;
    CHECK_EQ(d->ops->advise(d, &advice), -EINVAL);
    advice.offset = 0;
    advice.home = 2;
    CHECK_EQ(d->ops->advise(d, &advice), -EINVAL);
    CHECK_EQ(d->ops->lose(d, 1), 0);
    advice.home = 1;
    CHECK_EQ(d->ops->advise(d, &advice), -ENODEV);
    d->ops->close(d);
}

/* --- where memory is --- */

static uint64_t resident(struct device *d, uint32_t card, enum area area, uint64_t offset,
                         uint64_t bytes) {
    uint64_t n = UINT64_MAX;
    CHECK_EQ(d->ops->residency(d, card, area, offset, bytes, &n), 0);
    return n;
}

/* Wherever it begins and ends between the pieces that threads take; nothing beside it. */
static void a_large_stretch_is_brought_whole(void) {
    static const uint64_t begins[] = {0, 4096, (1u << 20) + 100, (2u << 20) - 1, (2u << 20) + 5000};
    const uint64_t all = 13u << 20, bytes = (9u << 20) + 300;
    const struct device_options o = {
        .n_cards = 1, .present = {true}, .n_threads = 2, .max_rows = 4};
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
        struct device *d = NULL;
        CHECK_EQ(device_backend("cpu")->open(&d, &o, NULL), 0);
        CHECK_EQ(d->ops->reserve(d, 0, AREA_SCRATCH, all, all, -1, NULL), 0);
        madvise(d->cards[0].areas[AREA_SCRATCH].base, all, MADV_NOHUGEPAGE);
        CHECK_EQ(d->ops->prefetch(d, 0, AREA_SCRATCH, begins[i], bytes), 0);
        const uint64_t first = begins[i] / 4096 * 4096;
        const uint64_t end = (begins[i] + bytes + 4095) / 4096 * 4096;
        CHECK_EQ(resident(d, 0, AREA_SCRATCH, first, end - first), end - first);
        CHECK_EQ(resident(d, 0, AREA_SCRATCH, 0, all), end - first);
        d->ops->close(d);
    }
}

static void residency_is_what_the_kernel_has(void) {
    const int fd = memfd_create("weights", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, AREA_BYTES) == 0);
    struct device *d = open_cards(1, false, &fd);
    uint64_t n;
    for (int a = 0; a <= AREA_SCRATCH; a++) {
        const enum area area = (enum area)a;
        char *base = d->cards[0].areas[a].base;
        madvise(base, AREA_BYTES, MADV_NOHUGEPAGE); /* a page at a time */
        CHECK_EQ(resident(d, 0, area, 0, AREA_BYTES), 0);
        base[4096] = 1;
        CHECK_EQ(resident(d, 0, area, 0, AREA_BYTES), 4096);
        CHECK_EQ(resident(d, 0, area, 4096 + 100, 8192), 4096 - 100);
        CHECK_EQ(resident(d, 0, area, 64, 4096), 64);
        CHECK_EQ(resident(d, 0, area, 5000, 64), 64);
        CHECK_EQ(d->ops->prefetch(d, 0, area, 16384, 8192), 0);
        CHECK_EQ(resident(d, 0, area, 0, AREA_BYTES), 4096 + 8192);
        CHECK_EQ(d->ops->residency(d, 0, area, 64, AREA_BYTES, &n), -EINVAL);
    }
    CHECK_EQ(d->ops->lose(d, 0), 0);
    CHECK_EQ(d->ops->residency(d, 0, AREA_KV, 0, 64, &n), -ENODEV);
    d->ops->close(d);
    close(fd);
}

static void discarded_memory_is_given_back(void) {
    const int fd = memfd_create("weights", MFD_CLOEXEC);
    struct stat st;
    CHECK(fd >= 0 && ftruncate(fd, AREA_BYTES) == 0);
    struct device *d = open_cards(1, false, &fd);
    for (int a = 0; a <= AREA_SCRATCH; a++) {
        const enum area area = (enum area)a;
        char *base = d->cards[0].areas[a].base;
        madvise(base, AREA_BYTES, MADV_NOHUGEPAGE);
        memset(base, 5, AREA_BYTES);
        /* Whole pages inside it; what shares a page with them stays as it is. */
        CHECK_EQ(d->ops->discard(d, 0, area, 4000, 3 * 4096), 0);
        CHECK_EQ(resident(d, 0, area, 0, AREA_BYTES), AREA_BYTES - 2 * 4096);
        CHECK(base[4095] == 5 && base[3 * 4096] == 5);
        CHECK_EQ(d->ops->discard(d, 0, area, 64, 4096), 0); /* holds none */
        CHECK_EQ(resident(d, 0, area, 0, AREA_BYTES), AREA_BYTES - 2 * 4096);
        base[4096] = 7;
        CHECK_EQ(base[4096], 7);
        CHECK_EQ(d->ops->discard(d, 0, area, 64, AREA_BYTES), -EINVAL);
    }
    CHECK(fstat(fd, &st) == 0 && st.st_blocks * 512 == (off_t)AREA_BYTES - 4096);
    CHECK_EQ(d->ops->lose(d, 0), 0);
    CHECK_EQ(d->ops->discard(d, 0, AREA_KV, 0, 4096), -ENODEV);
    d->ops->close(d);
    close(fd);
}

static void read_lost_weights(struct device *d) {
    volatile char c = *d->cards[1].areas[AREA_WEIGHTS].base;
    (void)c;
}
static void read_lost_kv(struct device *d) {
    volatile char c = *d->cards[1].areas[AREA_KV].base;
    (void)c;
}

static void a_lost_card_is_gone(void) {
    int fds[2];
    char byte = 1;
    uint64_t digest;
    uint32_t card;
    struct op op = one_norm();
    const struct program programs[CARDS_MAX] = {{&op, 1}, {&op, 1}},
                         without[CARDS_MAX] = {{&op, 1}};
    for (int i = 0; i < 2; i++) {
        fds[i] = memfd_create("weights", MFD_CLOEXEC);
        CHECK(fds[i] >= 0 && ftruncate(fds[i], AREA_BYTES) == 0);
        CHECK(pwrite(fds[i], "x", 1, 100) == 1);
    }
    struct device *d = open_cards(2, false, fds);
    CHECK_EQ(d->ops->load(d, programs, NULL), 0);
    CHECK_EQ(run(d, &card), 0);
    CHECK(!crashes(read_lost_weights, d));
    CHECK_EQ(d->ops->lose(d, 1), 0);
    CHECK_EQ(run(d, &card), -ENODEV);
    CHECK_EQ(card, 1);
    CHECK(crashes(read_lost_weights, d));
    CHECK(crashes(read_lost_kv, d));
    CHECK_EQ(d->ops->digest(d, 1, AREA_WEIGHTS, 0, 64, &digest), -ENODEV);
    CHECK_EQ(d->ops->peek(d, 1, 0, &byte, 1), -ENODEV);
    CHECK(pread(fds[1], &byte, 1, 100) == 1 && byte == 0);   /* punched out */
    CHECK(pread(fds[0], &byte, 1, 100) == 1 && byte == 'x'); /* the other is whole */
    CHECK_EQ(d->ops->load(d, without, NULL), 0);
    CHECK_EQ(run(d, &card), 0); /* what does not need it goes on */
    d->ops->close(d);
}

static void *run_for_ever(void *arg) {
    uint32_t card;
    run(arg, &card);
    exit(1);
}

/* Two phases; the card that hangs in the first keeps all others from the second. */
static void a_step_waits_for_a_hung_card_and_says_for_which(void) {
    const struct op op = one_norm();
    struct op ops[2] = {op, op};
    ops[1].phase = 1;
    const struct program programs[CARDS_MAX] = {{ops, 2}, {ops, 1}, {ops, 2}};
    struct device_pending p;
    struct device *d = open_cards(4, false, NULL);
    pthread_t thread;
    uint32_t card;
    CHECK_EQ(d->ops->load(d, programs, NULL), 0);
    CHECK_EQ(run(d, &card), 0);
    d->ops->pending(d, &p);
    CHECK_EQ(p.cards, 0);
    CHECK_EQ(p.needed, 0x7);
    CHECK_EQ(d->ops->hang(d, 4), -EINVAL);
    CHECK_EQ(d->ops->hang(d, 3), 0); /* one without anything to do */
    CHECK_EQ(run(d, &card), 0);
    CHECK_EQ(d->ops->hang(d, 1), 0);
    CHECK_EQ(pthread_create(&thread, NULL, run_for_ever, d), 0);
    CHECK_EQ(pthread_detach(thread), 0);
    p = wait_silent(d, 2);
    CHECK_EQ(p.cards, 0x2);
    CHECK_EQ(p.done, 2);
    /* Where it holds up what is done by the member who ended the phase before, too. */
    struct device *alone = open_cards(2, false, NULL);
    const struct program behind[CARDS_MAX] = {{ops, 1}, {ops + 1, 1}};
    CHECK_EQ(alone->ops->load(alone, behind, NULL), 0);
    CHECK_EQ(alone->ops->hang(alone, 1), 0);
    CHECK_EQ(pthread_create(&thread, NULL, run_for_ever, alone), 0);
    CHECK_EQ(pthread_detach(thread), 0);
    p = wait_silent(alone, 1);
    CHECK_EQ(p.cards, 0x2);
    CHECK_EQ(p.needed, 0x3);
    fflush(stdout);
    _exit(0); /* the devices cannot be closed any more */
}

/* --- a sum of lanes, strip by strip --- */

static void a_card_holds_no_more_than_it_has(void) {
    struct device *d = open_cards(2, false, NULL);
    struct err err = {{0}};
    d->ops->release(d, 1, AREA_KV);
    CHECK_EQ(d->ops->reserve(d, 1, AREA_KV, AREA_BYTES + 64, AREA_BYTES + 64, -1, &err), -ENOSPC);
    CHECK(strstr(err.text, "card 1") && strstr(err.text, "KV"));
    CHECK_EQ(d->ops->reserve(d, 1, AREA_KV, AREA_BYTES, AREA_BYTES, -1, &err), 0);
    CHECK_EQ(d->ops->reserve(d, 1, AREA_KV, 64, 64, -1, &err), -EINVAL); /* once */
    d->ops->close(d);
}

static void a_short_memfd_is_refused(void) {
    struct device_options o = {.n_cards = 1, .present = {true}, .n_threads = 1, .max_rows = 1};
    struct device *d = NULL;
    const int fd = memfd_create("short", MFD_CLOEXEC);
    CHECK(ftruncate(fd, 4096) == 0);
    CHECK_EQ(device_backend("cpu")->open(&d, &o, NULL), 0);
    CHECK_EQ(d->ops->reserve(d, 0, AREA_WEIGHTS, 8192, 8192, fd, NULL), -EINVAL);
    CHECK_EQ(d->ops->reserve(d, 0, AREA_WEIGHTS, 4096, 4096, fd, NULL), 0);
    d->ops->close(d);
}

static void programs_that_reach_outside_are_refused(void) {
    struct device *d = open_cards(1, false, NULL);
    struct op op = one_norm();
    const struct program programs[CARDS_MAX] = {{&op, 1}};
    struct err err = {{0}};
    op.norm.act.f32 = AREA_BYTES - 64;
    CHECK_EQ(d->ops->load(d, programs, &err), -EINVAL);
    CHECK(strstr(err.text, "card 0"));
    op = one_norm();
    op.norm.hidden.offset = UINT64_MAX - 63;
    CHECK_EQ(d->ops->load(d, programs, &err), -EINVAL);
    op = one_norm();
    op.norm.weight = AREA_BYTES;
    CHECK_EQ(d->ops->load(d, programs, &err), -EINVAL);
    op = one_norm();
    CHECK_EQ(d->ops->load(d, programs, &err), 0);
    d->ops->close(d);
}

/* Cut at the ends of leaves, put together backwards. */
static void a_digest_is_the_sum_of_its_parts(void) {
    static uint8_t bytes[9 * DIGEST_LEAF_BYTES + 77];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    const uint64_t whole = device_digest(bytes, sizeof bytes);
    for (uint64_t cut = 1; cut < 9; cut++) {
        const uint64_t at = cut * DIGEST_LEAF_BYTES;
        uint64_t sum = device_digest_part(bytes + at, sizeof bytes - at, cut);
        sum += device_digest_part(bytes, at, 0);
        CHECK(device_digest_close(sum, sizeof bytes) == whole);
        CHECK(device_digest_close(sum, sizeof bytes - 1) != whole);
        sum = device_digest_part(bytes + at, sizeof bytes - at, cut + 1); /* of another place */
        CHECK(device_digest_close(sum + device_digest_part(bytes, at, 0), sizeof bytes) != whole);
    }
}

static void a_digest_sees_every_bit_and_place(void) {
    static uint8_t bytes[9000];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 31 + (i >> 9));
    const uint64_t whole = device_digest(bytes, sizeof bytes);
    CHECK(whole == UINT64_C(0xa69a7e8239302217)); /* version 1 */
    for (size_t i = 0; i < sizeof bytes * 8; i += 61) {
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
        CHECK(device_digest(bytes, sizeof bytes) != whole);
        bytes[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    CHECK(device_digest(bytes, sizeof bytes - 1) != whole);
    for (size_t i = 0; i < 4096; i++) { /* two leaves change places */
        const uint8_t b = bytes[i];
        bytes[i] = bytes[i + 4096];
        bytes[i + 4096] = b;
    }
    CHECK(device_digest(bytes, sizeof bytes) != whole);
    CHECK(device_digest(bytes, 0) == device_digest(NULL, 0));
}

static void a_set_the_machine_lacks_is_refused(void) {
    struct device_options o = {.n_cards = 1, .present = {true}, .n_threads = 1, .max_rows = 1};
    for (int isa = ISA_PORTABLE; isa <= ISA_AVX512; isa++) {
        struct device *d = NULL;
        struct device_properties p;
        o.isa = (enum instruction_set)isa;
        const int rc = device_backend("cpu")->open(&d, &o, NULL);
        CHECK(rc == 0 || (rc == -ENOTSUP && isa != ISA_PORTABLE));
        if (rc)
            continue;
        CHECK_EQ(d->ops->properties(d, 0, &p), 0);
        CHECK(strstr(p.name, isa == ISA_PORTABLE ? "portable" : "avx"));
        d->ops->close(d);
    }
}

static void limits_are_measured_over_the_weights_that_are_there(void) {
    struct device_limits all, left;
    struct device *d = open_cards(2, false, NULL);
    CHECK_EQ(d->ops->measure(d, &all), 0);
    CHECK_EQ(all.weights_bytes, 2 * AREA_BYTES);
    CHECK_EQ(all.n_threads, 2);
    CHECK(all.read_bytes_per_s > 1e6 && all.read_bytes_per_s < 1e15);
    CHECK(all.int8_ops_per_s > 1e6 && all.int8_ops_per_s < 1e15);
    CHECK(!strcmp(all.isa, d->kernels->name));
    CHECK_EQ(d->ops->lose(d, 1), 0);
    CHECK_EQ(d->ops->measure(d, &left), 0);
    CHECK_EQ(left.weights_bytes, AREA_BYTES);
    d->ops->close(d);
}

static void without_weights_there_is_nothing_to_sweep(void) {
    struct device_limits limits;
    struct device *d = NULL;
    const struct device_options o = {
        .n_cards = 1, .present = {true}, .n_threads = 1, .isa = ISA_PORTABLE, .max_rows = 1};
    CHECK_EQ(device_backend("cpu")->open(&d, &o, NULL), 0);
    CHECK_EQ(d->ops->measure(d, &limits), 0);
    CHECK(limits.weights_bytes == 0 && limits.read_bytes_per_s == 0);
    CHECK(limits.int8_ops_per_s > 0 && !strcmp(limits.isa, "portable"));
    d->ops->close(d);
}

/* Threads of this process that may run on one core only. */
static uint32_t bound_threads(void) {
    uint32_t n = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks);
    for (const struct dirent *e; (e = readdir(tasks));) {
        cpu_set_t cores;
        const int thread = atoi(e->d_name);
        n += thread > 0 && !sched_getaffinity(thread, sizeof cores, &cores) &&
             CPU_COUNT(&cores) == 1;
    }
    closedir(tasks);
    return n;
}

/* Of a team of so many, after a load. */
static uint32_t bound_by_load(uint32_t n_threads, bool pin) {
    struct device_options o = {
        .n_cards = 1, .present = {true}, .n_threads = n_threads, .pin = pin, .max_rows = 1};
    const struct program none[CARDS_MAX] = {{NULL, 0}};
    const uint32_t usable = cores_usable();
    struct device *d = NULL;
    CHECK_EQ(device_backend("cpu")->open(&d, &o, NULL), 0);
    CHECK_EQ(bound_threads(), 0);
    CHECK_EQ(d->ops->load(d, none, NULL), 0);
    const uint32_t bound = bound_threads();
    CHECK_EQ(cores_usable(), usable); /* what this thread makes may run anywhere */
    d->ops->close(d);
    return bound;
}

static void threads_are_bound_where_a_core_is_left_over(void) {
    const uint32_t n = cores_usable();
    if (n < 2)
        SKIP("one core only");
    CHECK_EQ(bound_by_load(n, true), 0);
    CHECK_EQ(bound_by_load(0, true), 0);
    CHECK_EQ(bound_by_load(n - 1, false), 0);
    CHECK_EQ(bound_by_load(n - 1, true), n - 2);
}

CHECK_MAIN(T(a_read_of_another_card_crashes_in_isolation),
           T(an_exchange_crosses_where_the_reader_was_advised), T(advice_reaches_as_far_as_it_says),
           T(what_is_advised_to_be_read_cannot_be_written),
           T(advice_that_names_what_is_not_there_is_refused), T(residency_is_what_the_kernel_has),
           T(a_large_stretch_is_brought_whole), T(discarded_memory_is_given_back),
           T(a_lost_card_is_gone), T(a_step_waits_for_a_hung_card_and_says_for_which),
           T(a_card_holds_no_more_than_it_has), T(a_short_memfd_is_refused),
           T(programs_that_reach_outside_are_refused), T(a_digest_sees_every_bit_and_place),
           T(a_digest_is_the_sum_of_its_parts), T(a_set_the_machine_lacks_is_refused),
           T(threads_are_bound_where_a_core_is_left_over),
           T(limits_are_measured_over_the_weights_that_are_there),
           T(without_weights_there_is_nothing_to_sweep))
