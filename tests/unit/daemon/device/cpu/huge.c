/* SPDX-License-Identifier: Apache-2.0 */
/* Huge pages below the weights: asked for, and told as the kernel tells them. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "daemon/device/cpu/cpu.h"
#include "daemon/device/pack.h"
#include "tests/check.h"

#define HUGE_BYTES  (UINT64_C(2) << 20)
#define AREA_BYTES  (32 * HUGE_BYTES + 4096)
#define RANGE_BYTES UINT64_C(12000)
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* Each card's weights touched, as a load does. */
static struct device *open_cards(uint32_t n, bool shared) {
    struct device_options o = {.n_cards = n, .n_threads = 1, .max_rows = 1};
    struct device *d = NULL;
    for (uint32_t c = 0; c < n; c++)
        o.present[c] = true;
    CHECK_EQ(device_backend("cpu")->open(&d, &o, NULL), 0);
    for (uint32_t c = 0; c < n; c++) {
        const int fd = shared ? memfd_create("weights", MFD_CLOEXEC) : -1;
        CHECK(!shared || (fd >= 0 && ftruncate(fd, AREA_BYTES) == 0));
        CHECK_EQ(d->ops->reserve(d, c, AREA_WEIGHTS, AREA_BYTES, AREA_BYTES, fd, NULL), 0);
        if (shared)
            close(fd);
        memset(d->cards[c].areas[AREA_WEIGHTS].base, 7, AREA_BYTES);
    }
    return d;
}

/* Bytes on huge pages of all that this process has. */
static uint64_t huge_of_process(void) {
    char line[256];
    unsigned long kib;
    uint64_t bytes = 0;
    FILE *f = fopen("/proc/self/smaps_rollup", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "AnonHugePages: %lu", &kib) == 1 ||
            sscanf(line, "ShmemPmdMapped: %lu", &kib) == 1)
            bytes += (uint64_t)kib << 10;
    if (f)
        fclose(f);
    return bytes;
}

/* Whether memory of that kind gets huge pages here: what the kernel is set to, and what it has
 * left, tried with as much as the cards have. */
static bool kernel_gives(bool shared) {
    const size_t size = 2 * AREA_BYTES;
    const uint64_t before = huge_of_process();
    const int fd = shared ? memfd_create("control", MFD_CLOEXEC) : -1;
    CHECK(!shared || (fd >= 0 && ftruncate(fd, (off_t)size) == 0));
    char *area = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
    CHECK(area != MAP_FAILED);
    madvise(area, size, MADV_HUGEPAGE);
    memset(area, 7, size);
    const uint64_t got = huge_of_process() - before;
    CHECK_EQ(munmap(area, size), 0);
    if (shared)
        close(fd);
    return got >= size / 2;
}

static void both_kinds_of_weights_begin_on_a_huge_page(void) {
    for (int shared = 0; shared < 2; shared++) {
        struct device *d = open_cards(3, shared);
        for (uint32_t c = 0; c < 3; c++) {
            const struct cpu_area *a = &d->cards[c].areas[AREA_WEIGHTS];
            CHECK_EQ((uintptr_t)a->base % HUGE_BYTES, 0);
            CHECK_EQ(a->base[AREA_BYTES - 1], 7);
        }
        d->ops->close(d);
    }
}

/* Of one kind, in a process of the test's own.  None at all where the kernel knows of none. */
static void is_told(bool shared, bool given) {
    uint64_t bytes[CARDS_MAX] = {[1] = 99, [2] = 99};
    struct device *d = open_cards(2, shared);
    CHECK_EQ(d->ops->huge(d, bytes), 0);
    for (uint32_t c = 0; c < 2; c++) {
        CHECK_EQ(bytes[c] % HUGE_BYTES, 0);
        CHECK(bytes[c] <= AREA_BYTES);
        CHECK(bytes[c] > 0 || !given);
    }
    CHECK(bytes[0] + bytes[1] <= huge_of_process());
    CHECK_EQ(bytes[2], 0);
    CHECK_EQ(d->ops->lose(d, 1), 0);
    CHECK_EQ(d->ops->huge(d, bytes), 0);
    CHECK(bytes[0] > 0 || !given);
    CHECK_EQ(bytes[1], 0);
    d->ops->close(d);
}

static void private_weights_have_them_where_the_kernel_gives_them(void) {
    is_told(false, kernel_gives(false));
}

/* As at a load: what lies behind a header is cleared, then written. */
static void a_clear_takes_no_huge_page_apart(void) {
    const bool given = kernel_gives(false);
    uint64_t before[CARDS_MAX] = {0}, after[CARDS_MAX] = {0};
    struct device *d = open_cards(1, false);
    char *base = d->cards[0].areas[AREA_WEIGHTS].base;
    CHECK_EQ(d->ops->huge(d, before), 0);
    CHECK_EQ(d->ops->clear(d, 0, AREA_WEIGHTS, 65536, AREA_BYTES - 65536), 0);
    for (size_t i = 0; i < AREA_BYTES; i += 511)
        CHECK_EQ(base[i], i < 65536 ? 7 : 0);
    memset(base + 65536, 7, AREA_BYTES - 65536);
    CHECK_EQ(d->ops->huge(d, after), 0);
    CHECK(after[0] >= before[0] || !given);
    d->ops->close(d);
}

static void shared_weights_have_them_where_the_kernel_gives_them(void) {
    is_told(true, kernel_gives(true));
}

/* A load's way: what is about to be written lies on huge pages first. */
static bool kernel_makes(void) {
    const int fd = memfd_create("control", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)AREA_BYTES) == 0);
    char *area = mmap(NULL, AREA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(area != MAP_FAILED);
    char *whole = area + (HUGE_BYTES - (uintptr_t)area % HUGE_BYTES) % HUGE_BYTES;
    CHECK(mmap(whole, HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == whole);
    whole[0] = 1;
    const bool made = !madvise(whole, HUGE_BYTES, MADV_COLLAPSE);
    CHECK_EQ(munmap(area, AREA_BYTES), 0);
    close(fd);
    return made;
}

static struct device *reserve_untouched(uint64_t bytes) {
    struct device_options o = {.n_cards = 1, .n_threads = 1, .max_rows = 1, .present = {true}};
    struct device *d = NULL;
    const int fd = memfd_create("weights", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, AREA_BYTES) == 0);
    CHECK_EQ(device_backend("cpu")->open(&d, &o, NULL), 0);
    CHECK_EQ(d->ops->reserve(d, 0, AREA_WEIGHTS, AREA_BYTES, bytes, fd, NULL), 0);
    close(fd);
    return d;
}

/* Each range as a model has them: smaller than a huge page, side by side. */
static void load(struct device *d) {
    static const float values[RANGE_BYTES / sizeof(float)] = {7};
    const uint64_t n = sizeof values / sizeof *values;
    for (uint64_t at = 0; at + RANGE_BYTES <= AREA_BYTES; at += RANGE_BYTES)
        CHECK_EQ(d->ops->pack(d, 0, at, TENSOR_F32, true, 1, 0, 1, n, 0, values, sizeof values), 0);
}

static void shared_weights_are_loaded_into_huge_pages_that_the_kernel_makes_when_asked(void) {
    const bool makes = kernel_makes();
    struct device *d = reserve_untouched(AREA_BYTES);
    uint64_t bytes[CARDS_MAX] = {0};
    char *base = d->cards[0].areas[AREA_WEIGHTS].base;
    base[5 * HUGE_BYTES + 17] = 3; /* what was there before stays */
    cpu_huge_make(&d->cards[0].areas[AREA_WEIGHTS], 5 * HUGE_BYTES, 1);
    CHECK_EQ(base[5 * HUGE_BYTES + 17], 3);
    load(d);
    CHECK_EQ(d->ops->huge(d, bytes), 0);
    CHECK(bytes[0] >= AREA_BYTES / HUGE_BYTES * HUGE_BYTES / 2 || !makes);
    for (uint64_t at = 0; at + RANGE_BYTES <= AREA_BYTES; at += RANGE_BYTES)
        CHECK(*(float *)(void *)(base + at) == 7);
    if (!makes)
        SKIP("this kernel makes no huge pages of shared memory");
    d->ops->close(d);
}

/* Of a large tensor rows are packed a slice at a time, beside steps too: none of them makes more
 * than it writes, for the kernel leaves the core to nobody meanwhile. */
static void a_slice_of_a_tensor_makes_no_more_than_it_writes(void) {
    enum { COLS = 4096, TILES = 200 };
    const uint64_t tile = packed_tile_bytes(TENSOR_F32, COLS);
    float *rows = malloc(TILE * COLS * sizeof *rows);
    CHECK(rows != NULL);
    for (uint64_t i = 0; i < (uint64_t)TILE * COLS; i++)
        rows[i] = 7;
    for (uint64_t at = 0; at < TILES; at += 100) {
        struct device *d = reserve_untouched(AREA_BYTES);
        uint64_t there = 0, bytes[CARDS_MAX] = {0};
        CHECK_EQ(d->ops->pack(d, 0, 0, TENSOR_F32, false, (uint64_t)TILES * TILE, at * TILE, TILE,
                              COLS, 0, rows, COLS * sizeof *rows),
                 0);
        CHECK(*(float *)(void *)(d->cards[0].areas[AREA_WEIGHTS].base + at * tile) == 7);
        CHECK_EQ(d->ops->residency(d, 0, AREA_WEIGHTS, 0, AREA_BYTES, &there), 0);
        CHECK(there <= 2 * HUGE_BYTES || kernel_gives(true));
        CHECK_EQ(d->ops->huge(d, bytes), 0);
        CHECK(bytes[0] >= HUGE_BYTES || !kernel_makes());
        d->ops->close(d);
    }
    free(rows);
}

static void weights_that_leave_gaps_take_no_page_more_than_they_fill(void) {
    struct device *d = reserve_untouched(AREA_BYTES - 1);
    uint64_t there = 0;
    d->cards[0].areas[AREA_WEIGHTS].base[0] = 1;
    cpu_huge_make(&d->cards[0].areas[AREA_WEIGHTS], 0, 1);
    CHECK_EQ(d->ops->residency(d, 0, AREA_WEIGHTS, 0, AREA_BYTES, &there), 0);
    CHECK(there > 0 && (there <= 64u << 10 || kernel_gives(true)));
    d->ops->close(d);
}

static void a_kernel_that_makes_none_is_asked_once(void) {
    CHECK_EQ(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
    struct device *d = reserve_untouched(AREA_BYTES);
    uint64_t there = 0;
    cpu_huge_make(&d->cards[0].areas[AREA_WEIGHTS], 0, 1);
    cpu_huge_make(&d->cards[0].areas[AREA_WEIGHTS], 0, AREA_BYTES);
    CHECK_EQ(d->ops->residency(d, 0, AREA_WEIGHTS, 0, AREA_BYTES, &there), 0);
    /* A page of the first piece's, none of the second's. */
    CHECK(there <= (uint64_t)sysconf(_SC_PAGESIZE) || kernel_gives(true));
    load(d);
    d->ops->close(d);
}

static void a_process_that_may_have_none_has_none(void) {
    CHECK_EQ(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
    is_told(false, false);
}

/* Of K and V a step uses a little in many places. */
static void what_is_touched_of_k_and_v_takes_no_more_than_that(void) {
    struct device *d = open_cards(1, false);
    CHECK_EQ(d->ops->reserve(d, 0, AREA_KV, AREA_BYTES, AREA_BYTES, -1, NULL), 0);
    char *base = d->cards[0].areas[AREA_KV].base;
    const uint64_t n = AREA_BYTES / HUGE_BYTES;
    uint64_t there = 0;
    for (uint64_t i = 0; i < n; i++)
        base[i * HUGE_BYTES + 4096] = 7;
    CHECK_EQ(d->ops->residency(d, 0, AREA_KV, 0, AREA_BYTES, &there), 0);
    CHECK(there >= n && there <= n * (64u << 10)); /* a page of the host, whichever size it has */
    d->ops->close(d);
}

static int read_text(struct device *d, const char *text, uint64_t bytes[CARDS_MAX]) {
    FILE *f = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
    const int rc = cpu_huge_read(d, f, bytes);
    fclose(f);
    return rc;
}

static void each_mapping_counts_for_the_card_it_belongs_to(void) {
    struct device d = {.n_cards = 2};
    uint64_t bytes[CARDS_MAX] = {0};
    d.cards[0].areas[AREA_WEIGHTS] =
        (struct cpu_area){.base = (char *)0x40000000, .bytes = 0x400000, .mapped = 0x400000};
    d.cards[1].areas[AREA_WEIGHTS] =
        (struct cpu_area){.base = (char *)0x40400000, .bytes = 0x200000, .mapped = 0x200000};
    CHECK_EQ(read_text(&d,
                       "3f000000-40000000 rw-p 00000000 00:00 0 [heap]\n"
                       "Size:              16384 kB\nAnonHugePages:      2048 kB\n"
                       "ShmemPmdMapped:        0 kB\n"
                       "40000000-40400000 rw-s 00000000 00:01 7 /memfd:octarc-weights-0 (deleted)\n"
                       "AnonHugePages:         0 kB\nShmemPmdMapped:     4096 kB\n",
                       bytes),
             0);
    CHECK_EQ(bytes[0], 4u << 20);
    CHECK_EQ(bytes[1], 0);
    /* Two cards in one: no more for each than it has. */
    memset(bytes, 0, sizeof bytes);
    CHECK_EQ(
        read_text(&d, "40000000-40600000 rw-p 00000000 00:00 0\nAnonHugePages: 6144 kB\n", bytes),
        0);
    CHECK_EQ(bytes[0], 4u << 20);
    CHECK_EQ(bytes[1], 2u << 20);
    /* Not all of the last page counts. */
    memset(bytes, 0, sizeof bytes);
    d.cards[0].areas[AREA_WEIGHTS].bytes = 0x3c1000;
    CHECK_EQ(
        read_text(&d, "40000000-40400000 rw-p 00000000 00:00 0\nAnonHugePages: 4096 kB\n", bytes),
        0);
    CHECK_EQ(bytes[0], 0x3c1000);
}

static void a_kernel_that_does_not_tell_is_an_error(void) {
    struct device d = {.n_cards = 1};
    uint64_t bytes[CARDS_MAX] = {3};
    d.cards[0].areas[AREA_WEIGHTS] =
        (struct cpu_area){.base = (char *)0x40000000, .bytes = 0x400000, .mapped = 0x400000};
    CHECK_EQ(read_text(&d, "40000000-40400000 rw-p 00000000 00:00 0\nSize: 4096 kB\n", bytes),
             -ENOTSUP);
    CHECK_EQ(bytes[0], 3);
}

CHECK_MAIN(T(both_kinds_of_weights_begin_on_a_huge_page),
           T(private_weights_have_them_where_the_kernel_gives_them),
           T(a_clear_takes_no_huge_page_apart),
           T(shared_weights_have_them_where_the_kernel_gives_them),
           T(shared_weights_are_loaded_into_huge_pages_that_the_kernel_makes_when_asked),
           T(a_slice_of_a_tensor_makes_no_more_than_it_writes),
           T(weights_that_leave_gaps_take_no_page_more_than_they_fill),
           T(a_kernel_that_makes_none_is_asked_once), T(a_process_that_may_have_none_has_none),
           T(what_is_touched_of_k_and_v_takes_no_more_than_that),
           T(each_mapping_counts_for_the_card_it_belongs_to),
           T(a_kernel_that_does_not_tell_is_an_error))
