/* SPDX-License-Identifier: Apache-2.0 */
/* Weights that an engine left behind, and a model file that is not the one it was. */
#include <errno.h>
#include <sys/stat.h>

#include "daemon/engine/runner.h"
#include "daemon/engine/sums.h"
#include "daemon/engine/weights.h"
#include "tests/check.h"
#include "tests/unit/daemon/engine/transcript.h"

#define FLOATS "tiny-f32.gguf"
#define MIXED  "tiny-mixed.gguf"

static void weights_left_behind_are_used_again_only_when_whole(void) {
    struct loaded l;
    const struct setup s = {.n_cards = 2, .split = SPLIT_TENSOR, .memfds = true};
    struct runner_card card;
    load(&l, MIXED, &s);
    float *want = transcript(&l, 0, N_TOKENS);
    runner_card(l.runner, 1, &card);
    CHECK(card.kept_bytes < card.weights_bytes);
    CHECK_EQ(card.weights_bytes, l.plan.cards[1].weights_bytes);
    CHECK_EQ(card.kv_bytes, l.plan.cards[1].kv_bytes);
    CHECK_EQ(card.scratch_bytes, l.plan.cards[1].scratch_bytes);

    runner_close(l.runner);
    open_runner(&l, &s);
    runner_card(l.runner, 1, &card);
    CHECK_EQ(card.kept_bytes, card.weights_bytes);
    float *again = transcript(&l, 0, N_TOKENS);
    same_bits(&l, want, again);
    free(again);

    /* One flipped bit in the middle of card 1's weights. */
    runner_close(l.runner);
    uint8_t byte;
    const off_t at = (off_t)(l.plan.cards[1].weights_bytes + PLAN_WEIGHTS_HEADER) / 2;
    CHECK_EQ(pread(l.weight_fds[1], &byte, 1, at), 1);
    byte ^= 0x10;
    CHECK_EQ(pwrite(l.weight_fds[1], &byte, 1, at), 1);
    open_runner(&l, &s);
    runner_card(l.runner, 0, &card);
    CHECK_EQ(card.kept_bytes, card.weights_bytes);
    runner_card(l.runner, 1, &card);
    CHECK(card.kept_bytes < card.weights_bytes);
    again = transcript(&l, 0, N_TOKENS);
    same_bits(&l, want, again);
    free(again);
    free(want);
    unload(&l);
}

/* One flipped bit at that byte of a card's memory; whether the card was read again. */
static bool is_read_again(struct loaded *l, const struct setup *s, uint32_t number, off_t at) {
    struct runner_card card;
    uint8_t byte;
    runner_close(l->runner);
    CHECK_EQ(pread(l->weight_fds[number], &byte, 1, at), 1);
    byte ^= 0x10;
    CHECK_EQ(pwrite(l->weight_fds[number], &byte, 1, at), 1);
    open_runner(l, s);
    runner_card(l->runner, number, &card);
    return card.kept_bytes == 0;
}

static void a_harmed_header_is_no_proof(void) {
    struct loaded l;
    const struct setup s = {.n_cards = 2, .split = SPLIT_LAYER, .memfds = true};
    load(&l, MIXED, &s);
    float *want = transcript(&l, 0, N_TOKENS);
    off_t bytes = 88; /* before the entries */
    for (size_t i = 0; i < l.plan.n_ranges; i++)
        bytes += l.plan.ranges[i].card == 1 ? 16 : 0;
    for (off_t at = 0; at < bytes; at += 5) {
        if (!is_read_again(&l, &s, 1, at)) {
            printf("# byte %d of the header\n", (int)at);
            CHECK(false);
        }
    }
    float *again = transcript(&l, 0, N_TOKENS);
    same_bits(&l, want, again);
    free(again);
    free(want);
    unload(&l);
}

/* Which file they are of is said beside them: with those of another one nothing could be read. */
static void checksums_of_another_file_are_none(void) {
    struct loaded l;
    struct sums sums;
    struct file_identity other;
    const struct setup s = {.n_cards = 1, .split = SPLIT_LAYER, .memfds = true};
    load(&l, MIXED, &s);
    CHECK_EQ(sums_read(&sums, &l.model, &l.file, l.sums_fd), 0);
    CHECK(sums.known);
    sums_finish(&sums);
    for (int i = 0; i < 4; i++) {
        other = l.file;
        *(i == 0   ? &other.bytes
          : i == 1 ? &other.mtime_ns
          : i == 2 ? &other.inode
                   : &other.device) ^= 1;
        CHECK_EQ(sums_read(&sums, &l.model, &other, l.sums_fd), 0);
        CHECK(!sums.known);
        sums_finish(&sums);
    }
    unload(&l);
}

static const char *copy_of(const char *file) {
    static char path[64];
    char bytes[4096];
    ssize_t n;
    snprintf(path, sizeof path, "/tmp/octarc-runner-%d", (int)getpid());
    const int from = open(tiny_path(file), O_RDONLY), to = open(path, O_CREAT | O_WRONLY, 0600);
    CHECK(from >= 0 && to >= 0);
    while ((n = read(from, bytes, sizeof bytes)) > 0)
        CHECK_EQ(write(to, bytes, (size_t)n), n);
    close(from);
    close(to);
    return path;
}

/* Flip a bit, and let the file look as if nothing had been. */
static void edit(const char *path, off_t at) {
    uint8_t byte;
    struct stat st;
    const int fd = open(path, O_RDWR);
    CHECK(fd >= 0 && fstat(fd, &st) == 0);
    CHECK_EQ(pread(fd, &byte, 1, at), 1);
    byte ^= 4;
    CHECK_EQ(pwrite(fd, &byte, 1, at), 1);
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    CHECK_EQ(futimens(fd, times), 0);
    close(fd);
}

static void spoil(const struct loaded *l, const struct plan_range *r) {
    const uint8_t wrong = 0xa5;
    CHECK_EQ(pwrite(l->weight_fds[r->card], &wrong, 1, (off_t)(r->offset + r->bytes / 2)), 1);
}

static void a_file_that_was_edited_is_named_and_never_read(void) {
    struct loaded l;
    struct err err = {{0}};
    const struct setup s = {.n_cards = 2, .split = SPLIT_LAYER, .memfds = true};
    const char *path = copy_of(MIXED);
    load(&l, path, &s);
    float *want = transcript(&l, 0, N_TOKENS);
    runner_close(l.runner);
    size_t last = l.plan.n_ranges - 1;
    const struct plan_range *r = &l.plan.ranges[last];
    CHECK_EQ(r->card, 1);
    const struct model_tensor *t = &l.model.tensors[r->tensor];
    const off_t at = (off_t)(t->file_offset + t->bytes / t->rows * r->row_begin);
    edit(path, at);

    open_runner(&l, &s); /* whole memory is used whatever the file is now */
    float *again = transcript(&l, 0, N_TOKENS);
    same_bits(&l, want, again);
    free(again);
    runner_close(l.runner);
    spoil(&l, &l.plan.ranges[0]); /* of the tensor behind it nothing was touched */
    spoil(&l, &l.plan.ranges[last - 1]);
    open_runner(&l, &s);
    runner_close(l.runner);

    spoil(&l, r);
    l.runner = NULL;
    CHECK_EQ(try_runner(&l, &s, &err), -ESTALE);
    CHECK(strstr(err.text, t->name) && strstr(err.text, "the model changed"));
    edit(path, at); /* back again */
    open_runner(&l, &s);
    again = transcript(&l, 0, N_TOKENS);
    same_bits(&l, want, again);
    free(again);
    free(want);
    unload(&l);
    unlink(path);
}

static void a_file_that_is_changed_before_it_was_read_is_not_read(void) {
    struct loaded l;
    struct err err = {{0}};
    const struct setup s = {.n_cards = 2, .split = SPLIT_TENSOR, .memfds = true};
    load(&l, FLOATS, &s);
    runner_close(l.runner);
    l.runner = NULL;
    CHECK_EQ(ftruncate(l.sums_fd, 0), 0);
    spoil(&l, &l.plan.ranges[0]);
    l.file.mtime_ns++;
    CHECK_EQ(try_runner(&l, &s, &err), -ESTALE);
    CHECK(strstr(err.text, "changed since it was opened"));
    unload(&l);
}

CHECK_MAIN(T(weights_left_behind_are_used_again_only_when_whole), T(a_harmed_header_is_no_proof),
           T(checksums_of_another_file_are_none), T(a_file_that_was_edited_is_named_and_never_read),
           T(a_file_that_is_changed_before_it_was_read_is_not_read))
