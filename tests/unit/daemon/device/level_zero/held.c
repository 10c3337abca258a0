/* SPDX-License-Identifier: Apache-2.0 */
/* The weights' memory on simulated cards, which outlives the device that filled it. */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/on_cards.h"

#define MODEL "tiny-f32.gguf"

static const struct device_ops *ops;
static const int *kv_fds; /* that come with the weights; NULL: none */

/* As an engine opens it, with what it is given of a card's memory. */
static int open_with(struct loaded *l, bool hold, uint32_t n_cards, const int *fds,
                     uint32_t *refused, struct err *err) {
    const struct setup s = {.n_cards = n_cards, .split = SPLIT_LAYER, .backend = ops};
    CHECK_EQ(plan_model(l, MODEL, &s), 0);
    struct runner_options o = {.backend = ops,
                               .model = &l->model,
                               .plan = &l->plan,
                               .part_fds = &l->fd,
                               .head_fds = &l->fd,
                               .n_parts = 1,
                               .file_name = "the model",
                               .file = l->file,
                               .sums_fd = -1,
                               .refused = refused};
    o.device.hold = hold;
    o.device.storage = DEVICE_USM;
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        o.weight_fds[i] = -1;
    for (uint32_t i = 0; i < n_cards && fds; i++)
        o.held[i] = (struct runner_held){1, {fds[i]}, {l->plan.cards[i].weights_bytes}};
    for (uint32_t i = 0; i < n_cards && kv_fds; i++) {
        o.held_kv[i].fd = kv_fds[i];
        o.held_kv[i].bytes = l->plan.cards[i].kv_bytes;
    }
    return runner_open(&l->runner, &o, err);
}

static uint64_t kept_bytes(const struct loaded *l, uint32_t card) {
    struct runner_card c;
    runner_card(l->runner, card, &c);
    return c.kept_bytes;
}

/* What the front would be sent: descriptors of its own. */
static void hold_all(struct loaded *l, int fds[CARDS_MAX]) {
    for (uint32_t i = 0; i < l->plan.n_cards; i++) {
        uint64_t bytes = 0;
        int fd = -1;
        CHECK_EQ(ops->hold(runner_device(l->runner), i, AREA_WEIGHTS, 0, &fd, &bytes, NULL), 0);
        CHECK_EQ(bytes, l->plan.cards[i].weights_bytes);
        CHECK_EQ(ops->hold(runner_device(l->runner), i, AREA_WEIGHTS, 1, &fd, &bytes, NULL),
                 -ENOENT);
        CHECK(fd > 2);
        fds[i] = dup(fd);
    }
}

static void close_all(int *fds, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        close(fds[i]);
}

/* A device that is gone, and what it held; returns what a run on it gave. */
static uint64_t leave_behind(const char *options, int fds[CARDS_MAX]) {
    struct loaded first;
    struct err err = {{0}};
    begin(options);
    ops = device_backend("level_zero");
    must(open_with(&first, true, 2, NULL, NULL, &err), &err);
    const uint64_t want = run_loaded(&first, 16);
    hold_all(&first, fds);
    CHECK_EQ(kept_bytes(&first, 0) + kept_bytes(&first, 1), 0);
    unload(&first);
    return want;
}

static uint32_t count_descriptors(void) {
    uint32_t n = 0;
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void handed_on(const char *options) {
    struct loaded next;
    struct err err = {{0}};
    int fds[CARDS_MAX];
    const uint64_t want = leave_behind(options, fds);
    must(open_with(&next, true, 2, fds, NULL, &err), &err);
    for (uint32_t i = 0; i < 2; i++)
        CHECK_EQ(kept_bytes(&next, i), next.plan.cards[i].weights_bytes);
    CHECK_EQ(run_loaded(&next, 16), want);
    close_all(fds, 2);
    hold_all(&next, fds); /* and they can be handed on */
    unload(&next);
    must(open_with(&next, true, 2, fds, NULL, &err), &err);
    CHECK_EQ(kept_bytes(&next, 1), next.plan.cards[1].weights_bytes);
    CHECK_EQ(run_loaded(&next, 16), want);
    unload(&next);
    const uint32_t before = count_descriptors();
    for (uint32_t i = 0; i < 3; i++) {
        must(open_with(&next, true, 2, fds, NULL, &err), &err);
        unload(&next);
    }
    CHECK_EQ(count_descriptors(), before);
    close_all(fds, 2);
}

static void weights_are_found_by_the_next_device(void) {
    handed_on("cards=2 memory=256M");
}

/* Whatever becomes of the descriptor that the driver is given. */
static void and_where_drivers_leave_descriptors_open(void) {
    handed_on("cards=2 memory=256M leaves=0 leaves=1");
}

static void harmed_ones_are_read_again(const char *options) {
    struct loaded next;
    struct err err = {{0}};
    int fds[CARDS_MAX];
    const uint64_t want = leave_behind(options, fds);
    must(open_with(&next, true, 2, fds, NULL, &err), &err);
    CHECK_EQ(kept_bytes(&next, 0), next.plan.cards[0].weights_bytes);
    CHECK(kept_bytes(&next, 1) < next.plan.cards[1].weights_bytes);
    CHECK_EQ(run_loaded(&next, 16), want);
    unload(&next);
    close_all(fds, 2);
}

static void what_was_wiped_is_read_again(void) {
    harmed_ones_are_read_again("cards=2 memory=256M wiped=1");
}

static void so_is_what_is_older(void) {
    harmed_ones_are_read_again("cards=2 memory=256M old=1");
}

/* All of them are named at once. */
static void cards_that_refuse_are_named(void) {
    struct loaded first, next;
    struct err err = {{0}};
    uint32_t refused = 0;
    int fds[CARDS_MAX];
    begin("cards=3 memory=256M noimport=0 noimport=2");
    ops = device_backend("level_zero");
    must(open_with(&first, true, 3, NULL, NULL, &err), &err);
    hold_all(&first, fds);
    unload(&first);
    CHECK_EQ(open_with(&next, true, 3, fds, &refused, &err), -EREMOTE);
    CHECK_EQ(refused, 5);
    CHECK(!strcmp(err.text, "zeMemAllocDevice: an argument is wrong"));
    next.runner = NULL;
    unload(&next);
    close_all(fds, 3);
}

/* A descriptor of another card's memory, of less memory, of none. */
static void other_memory_is_refused(void) {
    struct loaded l;
    struct err err = {{0}};
    int fds[CARDS_MAX];
    begin("cards=2 memory=256M");
    ops = device_backend("level_zero");
    must(open_with(&l, true, 2, NULL, NULL, &err), &err);
    hold_all(&l, fds);
    const struct device_options o = {
        .n_cards = 2, .present = {true, true}, .max_rows = 1, .hold = true};
    struct device *d = NULL;
    must(ops->open(&d, &o, &err), &err);
    const uint64_t bytes = l.plan.cards[0].weights_bytes;
    CHECK_EQ(ops->reserve(d, 1, AREA_WEIGHTS, bytes, bytes, fds[0], &err), -EREMOTE);
    CHECK_EQ(ops->reserve(d, 0, AREA_WEIGHTS, 64 * MIB, bytes, fds[0], &err), -EREMOTE);
    CHECK(strstr(err.text, "other memory"));
    CHECK_EQ(ops->reserve(d, 0, AREA_WEIGHTS, bytes, bytes, STDIN_FILENO, &err), -EREMOTE);
    CHECK_EQ(ops->reserve(d, 0, AREA_SCRATCH, bytes, bytes, fds[0], &err), -EREMOTE);
    must(ops->reserve(d, 0, AREA_WEIGHTS, bytes, bytes, fds[0], &err), &err);
    ops->close(d);
    unload(&l);
    close_all(fds, 2);
}

static void check_bytes(struct device *d, uint64_t at, uint8_t want, size_t n) {
    uint8_t bytes[256];
    CHECK_EQ(ops->peek(d, 0, at, bytes, n), 0);
    for (size_t i = 0; i < n; i++)
        CHECK_EQ(bytes[i], want);
}

/* A piece more, new or of before; what is asked for in one stretch lies in one piece. */
static void memory_goes_on_in_pieces(void) {
    struct err err = {{0}};
    begin("cards=1 memory=256M");
    ops = device_backend("level_zero");
    const struct device_options o = {.n_cards = 1, .present = {true}, .max_rows = 1, .hold = true};
    struct device *d = NULL;
    uint8_t some[256];
    uint64_t bytes[3];
    int fds[3], fd = -1;
    must(ops->open(&d, &o, &err), &err);
    CHECK_EQ(ops->extend(d, 0, AREA_WEIGHTS, 65536, 65536, -1, &err), -EINVAL);
    must(ops->reserve(d, 0, AREA_WEIGHTS, 131072, 100000, -1, &err), &err);
    must(ops->extend(d, 0, AREA_WEIGHTS, 65536, 150000, -1, &err), &err);
    memset(some, 7, sizeof some);
    CHECK_EQ(ops->poke(d, 0, 131072 - 256, some, 256), 0);
    CHECK_EQ(ops->poke(d, 0, 131072, some, 128), 0);
    CHECK_EQ(ops->poke(d, 0, 131072 - 128, some, 256), -EINVAL);
    CHECK_EQ(ops->clear(d, 0, AREA_WEIGHTS, 131072 - 128, 192), 0);
    check_bytes(d, 131072 - 256, 7, 128);
    check_bytes(d, 131072 - 128, 0, 128);
    check_bytes(d, 131072, 0, 64);
    check_bytes(d, 131072 + 64, 7, 64);
    for (uint32_t i = 0; i < 2; i++) {
        must(ops->hold(d, 0, AREA_WEIGHTS, i, &fd, &bytes[i], &err), &err);
        fds[i] = dup(fd);
    }
    CHECK_EQ(ops->hold(d, 0, AREA_WEIGHTS, 2, &fd, bytes, &err), -ENOENT);
    CHECK_EQ(bytes[0], 131072);
    CHECK_EQ(bytes[1], 65536);
    ops->close(d);
    must(ops->open(&d, &o, &err), &err);
    must(ops->reserve(d, 0, AREA_WEIGHTS, bytes[0], 100000, fds[0], &err), &err);
    must(ops->extend(d, 0, AREA_WEIGHTS, bytes[1], 150000, fds[1], &err), &err);
    check_bytes(d, 131072 - 256, 7, 128);
    check_bytes(d, 131072 + 64, 7, 64);
    must(ops->extend(d, 0, AREA_WEIGHTS, 65536, 200000, -1, &err), &err);
    must(ops->extend(d, 0, AREA_WEIGHTS, 65536, 250000, -1, &err), &err);
    CHECK_EQ(ops->extend(d, 0, AREA_WEIGHTS, 65536, 300000, -1, &err), -ENOTSUP);
    check_bytes(d, 131072 + 65536, 0, 256);
    struct device_properties p;
    CHECK_EQ(ops->properties(d, 0, &p), 0);
    CHECK_EQ(p.room_bytes[AREA_WEIGHTS], 131072 + 3 * 65536);
    CHECK_EQ(p.used_bytes[AREA_WEIGHTS], 250000);
    ops->close(d);
    close_all(fds, 2);
}

static void what_is_not_held_says_why(void) {
    struct loaded l;
    struct err err = {{0}};
    uint64_t bytes = 0;
    int fd = -1;
    begin("cards=2 memory=256M noexport=1");
    ops = device_backend("level_zero");
    must(open_with(&l, true, 2, NULL, NULL, &err), &err);
    CHECK_EQ(ops->hold(runner_device(l.runner), 0, AREA_WEIGHTS, 0, &fd, &bytes, &err), 0);
    CHECK_EQ(ops->hold(runner_device(l.runner), 1, AREA_WEIGHTS, 0, &fd, &bytes, &err), -ENOTSUP);
    CHECK(!strcmp(err.text, "card 1: its driver exports no memory"));
    unload(&l);
    must(open_with(&l, false, 2, NULL, NULL, &err), &err);
    CHECK_EQ(ops->hold(runner_device(l.runner), 0, AREA_WEIGHTS, 0, &fd, &bytes, &err), -ENOTSUP);
    unload(&l);
}

static uint64_t digest_page(struct loaded *l, uint32_t page) {
    uint64_t digest = 0;
    uint32_t card = 0;
    CHECK_EQ(runner_kv_digest(l->runner, page, &digest, &card), 0);
    return digest;
}

/* K and V of a device that is gone, and of each page the digest. */
static void leave_kv(const char *options, int fds[CARDS_MAX], int kv[CARDS_MAX],
                     uint64_t digests[4]) {
    struct loaded first;
    struct err err = {{0}};
    begin(options);
    ops = device_backend("level_zero");
    kv_fds = NULL;
    must(open_with(&first, true, 2, NULL, NULL, &err), &err);
    const uint64_t blank = digest_page(&first, 3);
    run_loaded(&first, 16); /* 44 tokens, in pages 3 and 1 */
    hold_all(&first, fds);
    for (uint32_t i = 0; i < 2; i++) {
        uint64_t bytes = 0;
        int fd = -1;
        must(ops->hold(runner_device(first.runner), i, AREA_KV, 0, &fd, &bytes, &err), &err);
        CHECK_EQ(bytes, first.plan.cards[i].kv_bytes);
        kv[i] = dup(fd);
    }
    for (uint32_t i = 0; i < 4; i++)
        digests[i] = digest_page(&first, i);
    CHECK(digests[3] != digests[1]);
    CHECK(digests[3] != blank && digests[1] != blank);
    CHECK_EQ(digests[2], blank);
    unload(&first);
}

static void k_and_v_are_found_by_the_next_device(void) {
    struct loaded next;
    struct err err = {{0}};
    int fds[CARDS_MAX], kv[CARDS_MAX];
    uint64_t digests[4];
    uint32_t card = 0;
    leave_kv("cards=2 memory=256M", fds, kv, digests);
    kv_fds = kv;
    must(open_with(&next, true, 2, fds, NULL, &err), &err);
    for (uint32_t i = 0; i < 4; i++)
        CHECK_EQ(digest_page(&next, i), digests[i]);
    bool *keep = calloc(next.plan.n_pages, sizeof *keep);
    keep[1] = true;
    CHECK_EQ(runner_kv_clear(next.runner, keep, &card), 0);
    CHECK_EQ(digest_page(&next, 1), digests[1]);
    CHECK_EQ(digest_page(&next, 3), digests[2]); /* which was blank */
    free(keep);
    unload(&next);
    close_all(fds, 2), close_all(kv, 2);
}

static void k_and_v_that_changed_have_another_digest(void) {
    struct loaded next;
    struct err err = {{0}};
    int fds[CARDS_MAX], kv[CARDS_MAX];
    uint64_t digests[4];
    leave_kv("cards=2 memory=256M wiped=1", fds, kv, digests);
    kv_fds = kv;
    must(open_with(&next, true, 2, NULL, NULL, &err), &err);
    for (uint32_t i = 0; i < 4; i++)
        CHECK(digest_page(&next, i) != digests[i]);
    unload(&next);
    close_all(fds, 2), close_all(kv, 2);
}

/* Memory of another length, or that the card does not take. */
static void k_and_v_of_another_plan_are_refused(void) {
    struct loaded next;
    struct err err = {{0}};
    int fds[CARDS_MAX], kv[CARDS_MAX];
    uint64_t digests[4];
    uint32_t refused = 0;
    leave_kv("cards=2 memory=256M noimport=1", fds, kv, digests);
    kv_fds = kv;
    CHECK_EQ(open_with(&next, true, 2, NULL, &refused, &err), -EREMOTE);
    CHECK_EQ(refused, 2);
    next.runner = NULL;
    unload(&next);
    close_all(fds, 2), close_all(kv, 2);
    kv_fds = NULL;
}

CHECK_MAIN(T(weights_are_found_by_the_next_device), T(and_where_drivers_leave_descriptors_open),
           T(what_was_wiped_is_read_again), T(so_is_what_is_older), T(cards_that_refuse_are_named),
           T(other_memory_is_refused), T(memory_goes_on_in_pieces), T(what_is_not_held_says_why),
           T(k_and_v_are_found_by_the_next_device), T(k_and_v_that_changed_have_another_digest),
           T(k_and_v_of_another_plan_are_refused))
