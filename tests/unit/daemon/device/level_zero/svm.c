/* SPDX-License-Identifier: Apache-2.0 */
/* Storage svm: weights in the process's own memory, kept on simulated cards by a modelled kernel,
 * have the bits of the cpu backend; where it cannot be, why is told. */
#include "daemon/device/level_zero/svm.h"
#include "tests/on_cards.h"
#include "tests/sim_level_zero/kernel.h"

#define CHUNK XE_CHUNK_BYTES

static void begin_svm(const char *options) {
    begin(options);
    kernel_use();
}

static struct setup with(uint32_t n_cards, enum split split, enum device_storage storage) {
    return (struct setup){.n_cards = n_cards,
                          .split = split,
                          .storage = storage,
                          .backend = device_backend("level_zero")};
}

static struct device_properties properties_of(const struct loaded *l, uint32_t card) {
    struct device_properties p = {.name = ""};
    CHECK_EQ(device_backend("level_zero")->properties(runner_device(l->runner), card, &p), 0);
    return p;
}

static void same_bits(const char *options, const char *file, uint32_t n_cards, enum split split) {
    begin_svm(options);
    const uint64_t cpu = run_model(file, &(struct setup){.n_cards = 1}, 16);
    const struct setup s = with(n_cards, split, DEVICE_SVM);
    struct loaded l;
    load(&l, file, &s);
    CHECK(properties_of(&l, 0).svm);
    CHECK_EQ(run_loaded(&l, 16), cpu);
    unload(&l);
}

static void one_card_has_the_bits_of_the_cpu(void) {
    same_bits("cards=1 memory=256M system=0xf", "tiny-qwen2.gguf", 1, SPLIT_LAYER);
}

static void cards_that_share_layers_have_them_too(void) {
    same_bits("cards=3 memory=256M system=0xf", "tiny-qwen2.gguf", 3, SPLIT_TENSOR);
}

static void what_was_loaded_is_proven_to_lie_on_its_card(void) {
    begin_svm("cards=2 memory=256M system=0xf");
    const struct setup s = with(2, SPLIT_LAYER, DEVICE_SVM);
    struct runner_card card;
    struct loaded l;
    load(&l, "tiny-qwen2.gguf", &s);
    run_loaded(&l, 16);
    for (uint32_t i = 0; i < 2; i++) {
        runner_card(l.runner, i, &card);
        CHECK(card.prefetched_bytes > 0);
        CHECK_EQ(card.resident_bytes, card.prefetched_bytes);
    }
    unload(&l);
}

static uint64_t resident(const struct loaded *l, uint32_t card, int *rc) {
    uint64_t bytes = 0;
    *rc = device_backend("level_zero")
              ->residency(runner_device(l->runner), card, AREA_WEIGHTS, 0,
                          l->plan.cards[card].weights_bytes, &bytes);
    return bytes;
}

/* Digests, repairs and drills read on the card: nothing comes back to the host for them. */
static void what_is_verified_stays_on_its_card(void) {
    begin_svm("cards=1 memory=256M system=0xf");
    const struct device_ops *ops = device_backend("level_zero");
    const struct setup s = with(1, SPLIT_LAYER, DEVICE_SVM);
    uint64_t digest = 0, again = 1;
    struct loaded l;
    char byte;
    int rc;
    load(&l, "tiny-qwen2.gguf", &s);
    struct device *d = runner_device(l.runner);
    const uint64_t bytes = l.plan.cards[0].weights_bytes;
    CHECK_EQ(ops->digest(d, 0, AREA_WEIGHTS, 0, bytes, &digest), 0);
    CHECK_EQ(ops->peek(d, 0, bytes / 2, &byte, 1), 0);
    CHECK_EQ(ops->poke(d, 0, bytes / 2, &byte, 1), 0);
    CHECK_EQ(ops->digest(d, 0, AREA_WEIGHTS, 0, bytes, &again), 0);
    CHECK_EQ(again, digest);
    CHECK_EQ(resident(&l, 0, &rc), bytes);
    CHECK_EQ(rc, 0);
    unload(&l);
}

/* What the host reads comes back to it, as under a debugger; the counter tells, and a prefetch
 * takes it home. */
static void what_comes_back_to_the_host_is_noticed_and_prefetched(void) {
    begin_svm("cards=1 memory=256M system=0xf");
    const struct device_ops *ops = device_backend("level_zero");
    const struct setup s = with(1, SPLIT_LAYER, DEVICE_SVM);
    struct loaded l;
    int rc;
    load(&l, "tiny-qwen2.gguf", &s);
    const uint64_t bytes = l.plan.cards[0].weights_bytes;
    CHECK_EQ(resident(&l, 0, &rc), bytes);
    CHECK_EQ(rc, 0);
    volatile const char *at = runner_device(l.runner)->cards[0].areas[AREA_WEIGHTS].at;
    for (uint64_t i = 0; i < bytes; i += CHUNK)
        (void)at[i];
    resident(&l, 0, &rc);
    CHECK_EQ(rc, -ENOTSUP);
    CHECK_EQ(ops->prefetch(runner_device(l.runner), 0, AREA_WEIGHTS, 0, bytes), 0);
    CHECK_EQ(resident(&l, 0, &rc), bytes);
    CHECK_EQ(rc, 0);
    unload(&l);
}

/* Weights on card 0 that card 1 may read, and has read; what residency says then. */
static int read_by_another(const char *options, uint64_t *at_home) {
    begin_svm(options);
    const struct device_ops *ops = device_backend("level_zero");
    struct device_options o = {
        .n_cards = 2, .present = {true, true}, .max_rows = 1, .storage = DEVICE_SVM};
    struct device *d = NULL;
    struct err err = {{0}};
    const uint64_t bytes = 3 * CHUNK / 2;
    uint32_t word = 7, found = 0;
    must(ops->open(&d, &o, &err), &err);
    must(ops->reserve(d, 0, AREA_WEIGHTS, bytes, bytes, -1, &err), &err);
    const struct device_advice advice = {
        .home = 0, .area = AREA_WEIGHTS, .bytes = bytes, .readers = 3, .read_mostly = true};
    CHECK_EQ(ops->advise(d, &advice), 0);
    CHECK_EQ(ops->poke(d, 0, 4096, &word, sizeof word), 0);
    CHECK_EQ(ops->prefetch(d, 0, AREA_WEIGHTS, 0, bytes), 0);
    CHECK_EQ(svm_get(d, 1, &found, d->cards[0].areas[AREA_WEIGHTS].at + 4096, sizeof found), 0);
    CHECK_EQ(found, 7);
    CHECK_EQ(ops->prefetch(d, 0, AREA_WEIGHTS, 0, 3 * CHUNK), -EINVAL);
    const int rc = ops->residency(d, 0, AREA_WEIGHTS, 0, bytes, at_home);
    ops->close(d);
    return rc;
}

/* A kernel of another card's that reads the memory leaves it where it is: its VMs were told. */
static void every_reader_is_told(void) {
    uint64_t at_home = 0;
    CHECK_EQ(read_by_another("cards=2 memory=256M system=0xf", &at_home), 0);
    CHECK_EQ(at_home, 3 * CHUNK / 2);
}

/* Level Zero says that it advised: the counter says what became of it. */
static void advice_that_level_zero_swallows_shows(void) {
    uint64_t at_home = 0;
    CHECK_EQ(read_by_another("cards=2 memory=256M system=0xf deaf=1", &at_home), -ENOTSUP);
}

/* Bytes that begin and end inside a word are written and read as they are. */
static void single_bytes_are_written_and_read(void) {
    begin_svm("cards=1 memory=256M system=0xf");
    const struct device_ops *ops = device_backend("level_zero");
    struct device_options o = {
        .n_cards = 1, .present = {true}, .max_rows = 1, .storage = DEVICE_SVM};
    struct device *d = NULL;
    struct err err = {{0}};
    char out[12];
    must(ops->open(&d, &o, &err), &err);
    must(ops->reserve(d, 0, AREA_WEIGHTS, 3 * CHUNK, 3 * CHUNK, -1, &err), &err);
    CHECK_EQ(ops->poke(d, 0, 0, "abcdefghijkl", 12), 0);
    CHECK_EQ(ops->poke(d, 0, 5, "XYZ", 3), 0);
    CHECK_EQ(ops->peek(d, 0, 0, out, 12), 0);
    CHECK(!memcmp(out, "abcdeXYZijkl", 12));
    CHECK_EQ(ops->peek(d, 0, 7, out, 3), 0);
    CHECK(!memcmp(out, "Zij", 3));
    CHECK_EQ(ops->clear(d, 0, AREA_WEIGHTS, 6, 3), 0);
    CHECK_EQ(ops->peek(d, 0, 0, out, 12), 0);
    CHECK(!memcmp(out, "abcdeX\0\0\0jkl", 12));
    ops->close(d);
}

static void refused(const char *options, const char *why) {
    struct device_options o = {
        .n_cards = 1, .present = {true}, .max_rows = 1, .storage = DEVICE_SVM};
    const struct device_ops *ops = device_backend("level_zero");
    struct device *d = NULL;
    struct err err = {{0}};
    struct device_properties p;
    begin_svm(options);
    CHECK_EQ(ops->open(&d, &o, &err), -ENOTSUP);
    CHECK(strstr(err.text, "storage svm: ") && strstr(err.text, why));
    o.storage = DEVICE_AUTO;
    must(ops->open(&d, &o, &err), &err);
    CHECK_EQ(ops->properties(d, 0, &p), 0);
    CHECK(!p.svm && strstr(p.storage_why, why));
    ops->close(d);
    o.storage = DEVICE_USM;
    must(ops->open(&d, &o, &err), &err);
    CHECK_EQ(ops->properties(d, 0, &p), 0);
    CHECK(!p.svm && !p.storage_why[0]);
    ops->close(d);
}

static void without_the_capability_auto_is_usm_and_says_why(void) {
    refused("cards=1 memory=256M", "no5lvl");
}

static void a_card_too_large_to_come_back_to_the_host_is_not_taken_by_auto(void) {
    begin_svm("cards=1 memory=60000G system=0xf");
    struct device_options o = {
        .n_cards = 1, .present = {true}, .max_rows = 1, .storage = DEVICE_AUTO};
    const struct device_ops *ops = device_backend("level_zero");
    struct device *d = NULL;
    struct err err = {{0}};
    struct device_properties p;
    must(ops->open(&d, &o, &err), &err);
    CHECK_EQ(ops->properties(d, 0, &p), 0);
    CHECK(!p.svm && strstr(p.storage_why, "where it leaves"));
    ops->close(d);
}

static void layers_that_stay_in_host_memory_have_them(void) {
    begin_svm("cards=2 memory=256M system=0xf");
    const uint64_t cpu = run_model("tiny-deep.gguf", &(struct setup){.n_cards = 1}, 16);
    const struct setup s = with(2, SPLIT_LAYER, DEVICE_SVM);
    struct runner_card card;
    struct loaded l;
    plan_spilled_layers(&l, "tiny-deep.gguf", &s, 2);
    open_runner(&l, &s);
    CHECK_EQ(run_loaded(&l, 10), cpu);
    runner_card(l.runner, 1, &card);
    CHECK(card.prefetched_bytes > 0 && l.plan.cards[1].spilled_bytes > 0);
    CHECK_EQ(card.resident_bytes, card.prefetched_bytes);
    unload(&l);
}

/* Where another program leaves too little room some chunks stay with the host: the prefetch says
 * which, and the counter agrees. */
static void what_has_no_room_is_told_as_away(void) {
    begin_svm("cards=1 memory=16M system=0xf");
    const struct device_ops *ops = device_backend("level_zero");
    struct device_options o = {
        .n_cards = 1, .present = {true}, .max_rows = 1, .storage = DEVICE_SVM};
    struct device *d = NULL;
    struct err err = {{0}};
    struct xe_card other = {0};
    const uint64_t bytes = 5 * CHUNK, theirs = 4 * CHUNK;
    uint64_t at_home = 0;
    must(ops->open(&d, &o, &err), &err);
    must(xe_open(&other, "0000:03:00.0", &err), &err);
    char *p =
        mmap(NULL, theirs + CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    p = (char *)(((uintptr_t)p + CHUNK - 1) / CHUNK * CHUNK);
    must(xe_mirror(&other, p, theirs, &err), &err);
    must(xe_prefetch(&other, p, theirs, &err), &err);
    must(ops->reserve(d, 0, AREA_WEIGHTS, bytes, bytes, -1, &err), &err);
    const struct device_advice advice = {
        .home = 0, .area = AREA_WEIGHTS, .bytes = bytes, .readers = 1};
    CHECK_EQ(ops->advise(d, &advice), 0);
    CHECK_EQ(ops->prefetch(d, 0, AREA_WEIGHTS, 0, bytes), 0);
    CHECK_EQ(ops->residency(d, 0, AREA_WEIGHTS, 0, bytes, &at_home), 0);
    CHECK(at_home >= 2 * CHUNK && at_home < bytes && at_home % CHUNK == 0);
    must(xe_unmirror(&other, p, theirs, &err), &err);
    CHECK_EQ(munmap(p, theirs), 0); /* the other's counted: it cannot be told any more */
    CHECK_EQ(ops->residency(d, 0, AREA_WEIGHTS, 0, bytes, &at_home), -ENOTSUP);
    xe_close(&other);
    ops->close(d);
}

/* The kernel as it is, but for one thing. */
static int (*true_ioctl)(int fd, unsigned long request, void *argument);

static int before_7_0(int fd, unsigned long request, void *argument) {
    const struct xe_madvise *m = argument;
    if (request == XE_MADVISE && (int)m->preferred.devmem_fd > 0 &&
        (int)m->preferred.devmem_fd != fd) {
        errno = EINVAL;
        return -1;
    }
    return true_ioctl(fd, request, argument);
}

static int small_bar(int fd, unsigned long request, void *argument) {
    const int rc = true_ioctl(fd, request, argument);
    const struct xe_device_query *q = argument;
    if (!rc && request == XE_DEVICE_QUERY && q->query == XE_QUERY_MEM_REGIONS && q->data)
        ((struct xe_mem_regions *)(uintptr_t)q->data)->regions[1].cpu_visible_size = 256 * MIB;
    return rc;
}

static int counts_nothing(int fd, unsigned long request, void *argument) {
    const int rc = true_ioctl(fd, request, argument);
    const struct xe_device_query *q = argument;
    if (!rc && request == XE_DEVICE_QUERY && q->query == XE_QUERY_MEM_REGIONS && q->data)
        ((struct xe_mem_regions *)(uintptr_t)q->data)->regions[1].used = 0;
    return rc;
}

static int wedged(int fd, unsigned long request, void *argument) {
    (void)fd, (void)request, (void)argument;
    errno = ECANCELED;
    return -1;
}

static int open_on(int (*ioctl)(int fd, unsigned long request, void *argument), uint32_t *lost,
                   struct err *err) {
    struct device_options o = {
        .n_cards = 2, .present = {true, true}, .max_rows = 1, .storage = DEVICE_SVM, .lost = lost};
    struct device *d = NULL;
    begin_svm("cards=2 memory=512M system=0xf");
    true_ioctl = kernel_calls.ioctl;
    kernel_calls.ioctl = ioctl;
    const int rc = device_backend("level_zero")->open(&d, &o, err);
    kernel_calls.ioctl = true_ioctl;
    if (d)
        device_backend("level_zero")->close(d);
    return rc;
}

static void what_a_kernel_or_a_box_lacks_is_said(void) {
    struct err err = {{0}};
    CHECK_EQ(open_on(before_7_0, NULL, &err), -ENOTSUP);
    CHECK(strstr(err.text, "card 1, told of memory on card 0") && strstr(err.text, "MADVISE"));
    CHECK_EQ(open_on(small_bar, NULL, &err), -ENOTSUP);
    CHECK(strstr(err.text, "resizable BAR"));
    CHECK_EQ(open_on(counts_nothing, NULL, &err), -ENOTSUP);
    CHECK(strstr(err.text, "does not count"));
}

static void a_wedged_card_is_a_lost_one(void) {
    struct err err = {{0}};
    uint32_t lost = 0;
    CHECK_EQ(open_on(wedged, &lost, &err), -ENODEV);
    CHECK_EQ(lost, 1);
    CHECK(strstr(err.text, "wedged"));
}

static void cards_without_a_link_keep_their_own_weights(void) {
    same_bits("cards=3 memory=256M system=0xf p2p=none", "tiny-qwen2.gguf", 3, SPLIT_TENSOR);
}

CHECK_MAIN(T(one_card_has_the_bits_of_the_cpu), T(cards_that_share_layers_have_them_too),
           T(what_was_loaded_is_proven_to_lie_on_its_card), T(what_is_verified_stays_on_its_card),
           T(what_comes_back_to_the_host_is_noticed_and_prefetched), T(every_reader_is_told),
           T(advice_that_level_zero_swallows_shows), T(layers_that_stay_in_host_memory_have_them),
           T(what_has_no_room_is_told_as_away), T(what_a_kernel_or_a_box_lacks_is_said),
           T(a_wedged_card_is_a_lost_one), T(cards_without_a_link_keep_their_own_weights),
           T(single_bytes_are_written_and_read), T(without_the_capability_auto_is_usm_and_says_why),
           T(a_card_too_large_to_come_back_to_the_host_is_not_taken_by_auto))
