/* SPDX-License-Identifier: Apache-2.0 */
/* Digests that cards take: the bits of the host's, of any stretch in either storage, and next to
 * nothing comes to the host for them; harm on a card is found by them, and a card that says nothing
 * is not believed. */
#include "daemon/device/level_zero/cards.h"
#include "tests/on_cards.h"
#include "tests/sim_level_zero/kernel.h"

#define MODEL  "tiny-qwen2.gguf"
#define CHUNK  XE_CHUNK_BYTES
#define GROUP  (16u * DIGEST_LEAF_BYTES)
#define LAUNCH (UINT64_C(64) << 20) /* AT_ONCE of digest.c */
#define BYTES  (CHUNK + 5 * GROUP + 777)

static const struct device_ops *ops;
static uint8_t bytes[BYTES];

/* ---- a table of calls that counts ---- */

static const struct ze_api *real;
static uint64_t n_copied, n_launches, n_swallowed;
static bool swallow;

static ze_result_t copy(ze_command_list_handle_t list, void *to, const void *from, size_t size,
                        ze_event_handle_t signal, uint32_t n, ze_event_handle_t *after) {
    n_copied += size;
    return real->zeCommandListAppendMemoryCopy(list, to, from, size, signal, n, after);
}

static ze_result_t launch(ze_command_list_handle_t list, ze_kernel_handle_t kernel,
                          const ze_group_count_t *groups, ze_event_handle_t signal, uint32_t n,
                          ze_event_handle_t *after) {
    n_launches++;
    if (swallow) {
        n_swallowed++;
        return ZE_RESULT_SUCCESS;
    }
    return real->zeCommandListAppendLaunchKernel(list, kernel, groups, signal, n, after);
}

static void count_calls(struct device *d) {
    static struct ze_api counting;
    real = d->api;
    counting = *real;
    counting.zeCommandListAppendMemoryCopy = copy;
    counting.zeCommandListAppendLaunchKernel = launch;
    d->api = &counting;
    n_copied = n_launches = n_swallowed = 0;
    swallow = false;
}

/* ---- stretches of any kind ---- */

static struct device *open_card(const char *options, enum device_storage storage, uint64_t room) {
    const struct device_options o = {
        .n_cards = 1, .present = {true}, .max_rows = 1, .storage = storage};
    struct device *d = NULL;
    struct err err = {{0}};
    begin(options);
    if (storage == DEVICE_SVM)
        kernel_use();
    ops = device_backend("level_zero");
    must(ops->open(&d, &o, &err), &err);
    must(ops->reserve(d, 0, AREA_WEIGHTS, room, room, -1, &err), &err);
    return d;
}

static void scatter(uint64_t seed) {
    for (size_t i = 0; i < sizeof bytes; i++) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
        bytes[i] = (uint8_t)(seed >> 56);
    }
}

static void compare(struct device *d, uint64_t at, uint64_t n, uint64_t leaf) {
    uint64_t sum = 1, digest = 1;
    CHECK_EQ(ops->digest_part(d, 0, at, n, leaf, &sum), 0);
    CHECK_EQ(ops->digest(d, 0, AREA_WEIGHTS, at, n, &digest), 0);
    if (sum != device_digest_part(bytes + at, n, leaf))
        printf("# %llu bytes at %llu, leaf %llu\n", (unsigned long long)n, (unsigned long long)at,
               (unsigned long long)leaf);
    CHECK_EQ(sum, device_digest_part(bytes + at, n, leaf));
    CHECK_EQ(digest, device_digest(bytes + at, n));
}

/* Around every size that the kernel knows: a word, half a pair, a pair, a line, a leaf, a group. */
static void borders(struct device *d) {
    static const uint64_t sizes[] = {0, 8, 16, 64, DIGEST_LEAF_BYTES, GROUP, 3 * GROUP, CHUNK};
    static const uint64_t places[] = {0, 64, CHUNK - GROUP, CHUNK, CHUNK + GROUP};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t k = 0; k < sizeof places / sizeof *places; k++)
            for (uint64_t more = 0; more < 4; more++) {
                const uint64_t n = sizes[i] + more > 0 ? sizes[i] + more - 1 : 0;
                if (places[k] + n <= BYTES)
                    compare(d, places[k], n, k * i * 77777);
            }
}

/* Wherever a stretch begins, and however long it is. */
static void anywhere(struct device *d) {
    uint64_t seed = 11;
    for (uint64_t at = 0; at < 17; at++)
        compare(d, CHUNK - at, 8192 + 3 * at, at);
    for (uint32_t i = 0; i < 100; i++) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
        const uint64_t at = (seed >> 32) % BYTES, most = BYTES - at;
        const uint64_t n = (seed >> 7) % (i % 4 ? 10000 : BYTES);
        compare(d, at, n < most ? n : most, seed);
    }
}

static void any_stretch(const char *options, enum device_storage storage) {
    struct device *d = open_card(options, storage, BYTES);
    scatter(3);
    CHECK_EQ(ops->poke(d, 0, 0, bytes, sizeof bytes), 0);
    borders(d);
    anywhere(d);
    uint64_t sum = 7;
    CHECK_EQ(ops->digest_part(d, 0, BYTES - 100, 101, 0, &sum), -EINVAL);
    CHECK_EQ(sum, 7);
    ops->close(d);
}

static void they_are_the_hosts(void) {
    any_stretch("cards=1 memory=256M", DEVICE_USM);
}

static void in_shared_virtual_memory_too(void) {
    any_stretch("cards=1 memory=256M system=0xf", DEVICE_SVM);
}

/* Of all ones, which no product of the kernel's may cut short, and of zeros. */
static void and_of_bytes_that_are_all_the_same(void) {
    struct device *d = open_card("cards=1 memory=256M", DEVICE_USM, BYTES);
    for (int value = 0; value < 256; value += 255) {
        memset(bytes, value, sizeof bytes);
        CHECK_EQ(ops->poke(d, 0, 0, bytes, sizeof bytes), 0);
        borders(d);
    }
    ops->close(d);
}

static void a_long_one_takes_several_launches(void) {
    const uint64_t n = 2 * LAUNCH + GROUP + 13;
    struct device *d = open_card("cards=1 memory=256M", DEVICE_USM, n);
    uint8_t *all = calloc(1, n);
    uint64_t digest = 0;
    CHECK(all);
    scatter(5);
    for (uint64_t at = 0; at < n; at += LAUNCH) {
        const uint64_t some = n - at < GROUP ? n - at : GROUP;
        memcpy(all + at, bytes + at / GROUP, some);
        CHECK_EQ(ops->poke(d, 0, at, bytes + at / GROUP, some), 0);
    }
    count_calls(d);
    CHECK_EQ(ops->digest(d, 0, AREA_WEIGHTS, 0, n, &digest), 0);
    CHECK_EQ(digest, device_digest(all, n));
    CHECK_EQ(n_launches, 3);
    free(all);
    ops->close(d);
}

static void of_pages_of_k_and_v_too(void) {
    struct device *d = open_card("cards=1 memory=256M", DEVICE_USM, 4096);
    struct err err = {{0}};
    uint64_t digest;
    must(ops->reserve(d, 0, AREA_KV, BYTES, BYTES, -1, &err), &err);
    scatter(9);
    CHECK_EQ(level_zero_put(d, 0, d->cards[0].areas[AREA_KV].at, bytes, BYTES), 0);
    count_calls(d);
    for (uint64_t at = 0; at + 9 * 1088 <= BYTES; at += 9 * 1088) { /* as long as Q8_0 makes one */
        CHECK_EQ(ops->digest(d, 0, AREA_KV, at, 9 * 1088, &digest), 0);
        CHECK_EQ(digest, device_digest(bytes + at, 9 * 1088));
    }
    CHECK_EQ(n_copied, 0);
    ops->close(d);
}

/* ---- what comes to the host ---- */

/* All that a kernel can write for the host is the stage's memory. */
static uint64_t count_changed(const struct device *d) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < STAGE_BYTES; i++)
        n += d->cards[0].stage[i] != 0x5a;
    return n;
}

static void next_to_nothing_comes_to_the_host(void) {
    static const enum device_storage storages[] = {DEVICE_USM, DEVICE_SVM};
    const uint64_t groups = (BYTES + GROUP - 1) / GROUP;
    uint64_t digest;
    for (int i = 0; i < 2; i++) {
        struct device *d = open_card("cards=1 memory=256M system=0xf", storages[i], BYTES);
        scatter(3);
        CHECK_EQ(ops->poke(d, 0, 0, bytes, sizeof bytes), 0);
        count_calls(d);
        memset(d->cards[0].stage, 0x5a, STAGE_BYTES);
        CHECK_EQ(ops->digest(d, 0, AREA_WEIGHTS, 0, BYTES, &digest), 0);
        CHECK_EQ(digest, device_digest(bytes, BYTES));
        CHECK_EQ(n_launches, 1);
        CHECK_EQ(n_copied, 0);
        printf("# of %llu bytes %llu cross the bus\n", (unsigned long long)BYTES,
               (unsigned long long)count_changed(d));
        CHECK(count_changed(d) <= 32 + 16 * groups);
        ops->close(d);
    }
}

/* ---- harm ---- */

/* Ranges of a model that are not as they were loaded, by card; each is a launch, and no more. */
static void find_harm(const struct loaded *l, uint64_t harmed[CARDS_MAX]) {
    struct device *d = runner_device(l->runner);
    const uint64_t copied = n_copied, launches = n_launches;
    memset(harmed, 0, CARDS_MAX * sizeof *harmed);
    for (size_t i = 0; i < l->plan.n_ranges; i++) {
        const struct plan_range *r = &l->plan.ranges[i];
        uint64_t digest = 0;
        CHECK_EQ(ops->digest(d, r->card, AREA_WEIGHTS, r->offset, r->bytes, &digest), 0);
        harmed[r->card] += digest != runner_digests(l->runner)[i];
    }
    CHECK_EQ(n_copied, copied);
    CHECK_EQ(n_launches, launches + l->plan.n_ranges);
}

static void find_one(const char *options, enum device_storage storage) {
    uint64_t harmed[CARDS_MAX];
    struct loaded l;
    begin(options);
    if (storage == DEVICE_SVM)
        kernel_use();
    ops = device_backend("level_zero");
    load(&l, MODEL,
         &(struct setup){.n_cards = 3, .split = SPLIT_TENSOR, .storage = storage, .backend = ops});
    count_calls(runner_device(l.runner));
    find_harm(&l, harmed);
    CHECK_EQ(harmed[0] + harmed[1] + harmed[2], 0);
    CHECK_EQ(runner_corrupt(l.runner, 1), 0);
    find_harm(&l, harmed);
    CHECK_EQ(harmed[1], 1);
    CHECK_EQ(harmed[0] + harmed[2], 0);
    unload(&l);
}

static void harm_on_a_card_is_found_without_reading_it(void) {
    find_one("cards=3 memory=256M", DEVICE_USM);
}

static void and_in_shared_virtual_memory(void) {
    find_one("cards=3 memory=256M system=0xf", DEVICE_SVM);
}

/* What lies in host memory the host looks at itself: the card would take it over the bus. */
static void what_lies_in_host_memory_stays_there(void) {
    const struct device_options o = {
        .n_cards = 1, .present = {true}, .max_rows = 1, .host_bytes = {CHUNK}};
    struct device *d = NULL;
    struct err err = {{0}};
    uint64_t sum = 0, digest = 0;
    begin("cards=1 memory=256M");
    ops = device_backend("level_zero");
    must(ops->open(&d, &o, &err), &err);
    must(ops->reserve(d, 0, AREA_WEIGHTS, 2 * CHUNK, 2 * CHUNK, -1, &err), &err);
    scatter(3);
    CHECK_EQ(ops->poke(d, 0, CHUNK, bytes, CHUNK), 0);
    count_calls(d);
    CHECK_EQ(ops->digest_part(d, 0, CHUNK + 4096, 8192, 5, &sum), 0);
    CHECK_EQ(sum, device_digest_part(bytes + 4096, 8192, 5));
    CHECK_EQ(ops->digest(d, 0, AREA_WEIGHTS, CHUNK, CHUNK, &digest), 0);
    CHECK_EQ(digest, device_digest(bytes, CHUNK));
    CHECK_EQ(n_launches + n_copied, 0);
    CHECK_EQ(ops->digest(d, 0, AREA_WEIGHTS, CHUNK - 64, 128, &digest), -EINVAL);
    ops->close(d);
}

/* ---- who is not believed ---- */

static void a_kernel_that_did_not_run_is_no_digest(void) {
    struct device *d = open_card("cards=1 memory=256M", DEVICE_USM, BYTES);
    struct device_properties p;
    uint64_t before = 0, digest = 7;
    count_calls(d);
    CHECK_EQ(ops->digest(d, 0, AREA_WEIGHTS, 0, BYTES, &before), 0);
    swallow = true;
    CHECK_EQ(ops->digest(d, 0, AREA_WEIGHTS, 0, BYTES, &digest), -ENODEV);
    CHECK_EQ(n_swallowed, 1);
    CHECK_EQ(digest, 7);
    CHECK_EQ(ops->properties(d, 0, &p), -ENODEV);
    ops->close(d);
}

static void nor_is_one_that_was_not_told_of_what(void) {
    struct device *d = open_card("cards=1 memory=256M keep=0@1", DEVICE_USM, BYTES);
    uint64_t digest = 7;
    CHECK_EQ(ops->digest(d, 0, AREA_WEIGHTS, 0, BYTES, &digest), -ENODEV);
    CHECK_EQ(digest, 7);
    ops->close(d);
}

static void a_card_that_is_lost_says_so(void) {
    struct device *d = open_card("cards=1 memory=256M", DEVICE_USM, BYTES);
    uint64_t digest = 7;
    CHECK_EQ(ops->lose(d, 0), 0);
    CHECK_EQ(ops->digest(d, 0, AREA_WEIGHTS, 0, BYTES, &digest), -ENODEV);
    CHECK_EQ(digest, 7);
    ops->close(d);
}

CHECK_MAIN(T(they_are_the_hosts), T(in_shared_virtual_memory_too),
           T(and_of_bytes_that_are_all_the_same), T(a_long_one_takes_several_launches),
           T(of_pages_of_k_and_v_too), T(next_to_nothing_comes_to_the_host),
           T(harm_on_a_card_is_found_without_reading_it), T(and_in_shared_virtual_memory),
           T(what_lies_in_host_memory_stays_there), T(a_kernel_that_did_not_run_is_no_digest),
           T(nor_is_one_that_was_not_told_of_what), T(a_card_that_is_lost_says_so))
