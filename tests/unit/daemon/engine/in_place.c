/* SPDX-License-Identifier: Apache-2.0 */
/* Weights that go over to another plan in the memory they are in: an engine killed at any moment
 * leaves memory of which the next one uses what is whole, and nothing else. */
#include <sys/stat.h>
#include <sys/wait.h>

#include "daemon/engine/header.h"
#include "daemon/placement/layout.h"
#include "tests/loaded_model.h"

#define CARDS  3u
#define BLOCK  512u
#define PAGE   4096u
#define KILLED 42

/* --- an engine that dies at its n-th touch of a card's memory --- */

static struct device_ops ops;
static uint32_t touches, dies_at; /* 0: never */

static bool is_last(void) {
    return dies_at && ++touches == dies_at;
}

static int poke(struct device *d, uint32_t card, uint64_t offset, const void *in, uint64_t bytes) {
    if (is_last()) {
        device_backend("cpu")->poke(d, card, offset, in, bytes / 2);
        _exit(KILLED);
    }
    return device_backend("cpu")->poke(d, card, offset, in, bytes);
}

static int copy(struct device *from, uint32_t from_card, enum area area, uint64_t from_offset,
                struct device *to, uint32_t to_card, uint64_t to_offset, uint64_t bytes) {
    const bool last = bytes && is_last();
    const int rc = device_backend("cpu")->copy(from, from_card, area, from_offset, to, to_card,
                                               to_offset, last ? bytes / 2 : bytes);
    if (last)
        _exit(KILLED);
    return rc;
}

static int pack(struct device *d, uint32_t card, uint64_t offset, uint32_t type, bool vector,
                uint64_t range_rows, uint64_t row_begin, uint64_t rows, uint64_t cols,
                uint32_t col_skip, const void *blocks, uint64_t row_bytes) {
    if (is_last())
        _exit(KILLED);
    return device_backend("cpu")->pack(d, card, offset, type, vector, range_rows, row_begin, rows,
                                       cols, col_skip, blocks, row_bytes);
}

static int digest(struct device *d, uint32_t card, enum area area, uint64_t offset, uint64_t bytes,
                  uint64_t *out) {
    if (is_last())
        _exit(KILLED);
    return device_backend("cpu")->digest(d, card, area, offset, bytes, out);
}

static int clear(struct device *d, uint32_t card, enum area area, uint64_t offset, uint64_t bytes) {
    const bool last = is_last();
    const int rc = device_backend("cpu")->clear(d, card, area, offset, last ? bytes / 2 : bytes);
    if (last)
        _exit(KILLED);
    return rc;
}

/* --- two plans on the same memory --- */

struct world {
    struct loaded l;
    struct plan plans[2];
    uint64_t *want[2]; /* the digests of a load from the file */
    bool full;         /* the cards have room for one of the plans, not for both */
};

static void make_plan(struct world *w, struct plan *plan, enum split split, uint32_t offline) {
    struct err err = {{0}};
    struct plan_input in = {.model = &w->l.model,
                            .backend = device_backend("cpu"),
                            .n_cards = CARDS,
                            .split = split,
                            .context = 128,
                            .max_sequences = 4,
                            .max_rows = MAX_ROWS};
    for (uint32_t i = 0; i < CARDS; i++) {
        in.online[i] = !(offline >> i & 1);
        in.capacity_bytes[i] = 64 * MIB;
    }
    must(plan_build(plan, &in, &err), &err);
}

/* On the world's memory, or (fresh) on memory of its own. */
static struct runner *open_on(struct world *w, uint32_t plan, struct runner *before, bool fresh) {
    struct runner_options o = {.backend = &ops,
                               .model = &w->l.model,
                               .plan = &w->plans[plan],
                               .part_fds = &w->l.fd,
                               .file_name = "the model",
                               .file = w->l.file,
                               .head_fds = &w->l.fd,
                               .n_parts = 1,
                               .sums_fd = -1,
                               .before = before,
                               .stage_most = w->full ? UINT64_MAX : 0};
    struct runner *runner;
    struct err err = {{0}};
    o.device.n_threads = 1;
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        o.weight_fds[i] = fresh || i >= CARDS ? -1 : w->l.weight_fds[i];
    must(runner_open(&runner, &o, &err), &err);
    return runner;
}

static void open_world(struct world *w, enum split split) {
    *w = (struct world){.full = false};
    ops = *device_backend("cpu");
    ops.poke = poke;
    ops.copy = copy;
    ops.pack = pack;
    ops.digest = digest;
    ops.clear = clear;
    dies_at = 0;
    CHECK_EQ(plan_model(&w->l, "tiny-mixed.gguf", &(struct setup){.n_cards = 1}), 0);
    make_plan(w, &w->plans[0], split, 0);
    make_plan(w, &w->plans[1], SPLIT_LAYER, 1u << 0);
    for (uint32_t c = 0; c < CARDS; c++) {
        size_t n;
        const struct plan_range *held = plan_card_ranges(&w->plans[0], c, &n);
        const uint64_t room = layout_room(&w->plans[0], c);
        CHECK_EQ(layout_card(&w->plans[1], c, held, n, true, room), 0);
        w->l.weight_fds[c] = memfd_create("weights", MFD_CLOEXEC);
        CHECK_EQ(ftruncate(w->l.weight_fds[c], (off_t)room), 0);
    }
    for (uint32_t p = 0; p < 2; p++) {
        struct runner *r = open_on(w, p, NULL, true);
        w->want[p] = calloc(w->plans[p].n_ranges, sizeof *w->want[p]);
        memcpy(w->want[p], runner_digests(r), w->plans[p].n_ranges * sizeof *w->want[p]);
        runner_close(r);
    }
}

static void fill_cards(struct world *w) {
    uint32_t n = 0;
    for (uint32_t c = 0; c < CARDS; c++) {
        uint64_t own[2];
        for (uint32_t p = 0; p < 2; p++) {
            const struct plan_card *card = &w->plans[p].cards[c];
            own[p] = card->weights_bytes + card->kv_bytes + card->scratch_bytes;
        }
        for (uint32_t p = 0; p < 2; p++)
            w->plans[p].cards[c].capacity_bytes = own[0] > own[1] ? own[0] : own[1];
        n += layout_is_staged(&w->plans[0], &w->plans[1], c);
    }
    CHECK(n >= 2);
    w->full = true;
}

static void close_world(struct world *w) {
    for (uint32_t p = 0; p < 2; p++) {
        plan_finish(&w->plans[p]);
        free(w->want[p]);
    }
    unload(&w->l);
}

static uint64_t kept_bytes(const struct world *w, const struct runner *r, uint32_t plan) {
    uint64_t bytes = 0;
    for (uint32_t c = 0; c < CARDS; c++) {
        struct runner_card card = {0};
        if (w->plans[plan].cards[c].weights_bytes)
            runner_card(r, c, &card);
        bytes += card.kept_bytes;
    }
    return bytes;
}

static uint64_t all_bytes(const struct world *w, uint32_t plan) {
    uint64_t bytes = 0;
    for (uint32_t c = 0; c < CARDS; c++)
        bytes += w->plans[plan].cards[c].weights_bytes;
    return bytes;
}

/* The next engine's memory is that of a load from the file; returns what it did not read. */
static uint64_t next_engine(struct world *w, uint32_t plan) {
    struct runner *r = open_on(w, plan, NULL, false);
    for (size_t i = 0; i < w->plans[plan].n_ranges; i++)
        CHECK_EQ(runner_digests(r)[i], w->want[plan][i]);
    const uint64_t kept = kept_bytes(w, r, plan);
    runner_close(r);
    return kept;
}

/* What an engine does that goes over from the first plan to the second. */
static void go_over(struct world *w) {
    struct runner *first = open_on(w, 0, NULL, false);
    struct plan *left = malloc(sizeof *left);
    touches = 0;
    struct runner *second = open_on(w, 1, first, false);
    struct err err = {{0}};
    must(runner_move_in(second, first, &err), &err);
    runner_leave_stage(second);
    *left = w->plans[0];
    runner_leave_behind(second, first, left);
    runner_settle(second);
    _exit(0);
}

/* True: it was killed at that touch; false: it came to its end before. */
static bool kill_at(struct world *w, uint32_t touch) {
    int status = 0;
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        dies_at = touch;
        touches = UINT32_MAX / 2; /* not yet */
        go_over(w);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == KILLED || WEXITSTATUS(status) == 0);
    return WEXITSTATUS(status) == KILLED;
}

/* full: also while what is new on full cards waits, and while it arrives. */
static void kill_everywhere(bool full) {
    for (int split = SPLIT_LAYER; split <= SPLIT_TENSOR; split++) {
        struct world w;
        uint32_t touch = 1, wholly_first = 0, wholly_second = 0;
        open_world(&w, (enum split)split);
        if (full)
            fill_cards(&w);
        next_engine(&w, 0);
        CHECK_EQ(next_engine(&w, 0), all_bytes(&w, 0));
        for (; kill_at(&w, touch); touch++) {
            const uint32_t next = touch % 2;
            wholly_second += next == 1 && next_engine(&w, 1) == all_bytes(&w, 1);
            wholly_first += next_engine(&w, 0) == all_bytes(&w, 0);
            CHECK_EQ(next_engine(&w, 0), all_bytes(&w, 0));
        }
        CHECK(touch > 20);
        CHECK(wholly_first > 5);  /* until it has gone over the first plan is whole … */
        CHECK(wholly_second > 0); /* … and from when all was there, the second */
        CHECK_EQ(next_engine(&w, 1), all_bytes(&w, 1));
        close_world(&w);
    }
}

static void one_killed_at_any_moment_leaves_what_can_be_proven(void) {
    kill_everywhere(false);
}

static void so_does_one_whose_full_cards_change_over(void) {
    kill_everywhere(true);
}

/* --- what it takes --- */

static bool has_huge_pages(void) {
    char text[128] = "";
    FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");
    if (f && !fgets(text, sizeof text, f))
        text[0] = 0;
    if (f)
        fclose(f);
    return text[0] && !strstr(text, "[never]") && !strstr(text, "[deny]");
}

/* Every range may begin and end inside a page. */
static void check_taken(const struct world *w, uint32_t card, uint64_t bytes) {
    struct stat st;
    CHECK_EQ(fstat(w->l.weight_fds[card], &st), 0);
    const uint64_t most = bytes + 2ull * PAGE * (w->plans[0].n_ranges + w->plans[1].n_ranges + 1);
    if ((uint64_t)st.st_blocks * BLOCK > most)
        printf("# card %u takes %llu bytes, of %llu\n", card,
               (unsigned long long)st.st_blocks * BLOCK, (unsigned long long)most);
    CHECK((uint64_t)st.st_blocks * BLOCK <= most);
}

static void a_card_takes_the_union_and_then_its_share(void) {
    struct world w;
    if (has_huge_pages())
        SKIP("the kernel gives shared memory in huge pages here");
    open_world(&w, SPLIT_LAYER);
    struct runner *first = open_on(&w, 0, NULL, false);
    for (uint32_t c = 0; c < CARDS; c++)
        check_taken(&w, c, w.plans[0].cards[c].weights_bytes);
    struct runner *second = open_on(&w, 1, first, false);
    for (uint32_t c = 0; c < CARDS; c++)
        check_taken(&w, c, layout_weights_bytes(&w.plans[0], &w.plans[1], c));
    runner_close(first);
    CHECK_EQ(runner_trim(second), 0);
    for (uint32_t c = 1; c < CARDS; c++)
        check_taken(&w, c, w.plans[1].cards[c].weights_bytes);
    runner_close(second);
    close_world(&w);
}

static void a_full_card_takes_one_share_and_then_the_other(void) {
    struct world w;
    struct err err = {{0}};
    if (has_huge_pages())
        SKIP("the kernel gives shared memory in huge pages here");
    open_world(&w, SPLIT_TENSOR);
    fill_cards(&w);
    struct runner *first = open_on(&w, 0, NULL, false);
    struct runner *second = open_on(&w, 1, first, false);
    for (uint32_t c = 0; c < CARDS; c++)
        if (layout_is_staged(&w.plans[0], &w.plans[1], c))
            check_taken(&w, c, w.plans[0].cards[c].weights_bytes);
    must(runner_move_in(second, first, &err), &err);
    runner_leave_stage(second);
    for (uint32_t c = 0; c < CARDS; c++)
        if (layout_is_staged(&w.plans[0], &w.plans[1], c))
            check_taken(&w, c, w.plans[1].cards[c].weights_bytes);
    runner_close(first);
    runner_close(second);
    CHECK_EQ(next_engine(&w, 1), all_bytes(&w, 1));
    close_world(&w);
}

static void one_that_is_dropped_gives_back_what_it_took(void) {
    struct world w;
    if (has_huge_pages())
        SKIP("the kernel gives shared memory in huge pages here");
    open_world(&w, SPLIT_LAYER);
    struct runner *first = open_on(&w, 0, NULL, false);
    struct runner *second = open_on(&w, 1, first, false);
    runner_close(second);
    CHECK_EQ(runner_trim(first), 0);
    for (uint32_t c = 0; c < CARDS; c++)
        check_taken(&w, c, w.plans[0].cards[c].weights_bytes);
    runner_close(first);
    CHECK_EQ(next_engine(&w, 0), all_bytes(&w, 0));
    close_world(&w);
}

/* Whoever would write where steps read is refused before. */
static void ranges_that_lie_on_those_in_use_are_refused(void) {
    struct world w;
    struct err err = {{0}};
    struct runner *first, *second = NULL;
    open_world(&w, SPLIT_LAYER);
    first = open_on(&w, 0, NULL, false);
    uint32_t card = 1;
    size_t n = 0;
    struct plan_range *ranges = NULL;
    for (size_t i = 0; i < w.plans[1].n_ranges && !ranges; i++) {
        struct plan_range *r = &w.plans[1].ranges[i];
        if (r->offset >= w.plans[0].cards[r->card].weights_bytes && r->card == card)
            ranges = r;
    }
    CHECK(ranges && plan_card_ranges(&w.plans[0], card, &n) && n > 0);
    ranges->offset = PLAN_WEIGHTS_HEADER;
    struct runner_options o = *runner_options(first);
    o.plan = &w.plans[1];
    o.before = first;
    memcpy(o.weight_fds, w.l.weight_fds, sizeof o.weight_fds);
    CHECK_EQ(runner_open(&second, &o, &err), -EINVAL);
    CHECK(strstr(err.text, "card 1") && strstr(err.text, "in use"));
    runner_close(first);
    CHECK_EQ(next_engine(&w, 0), all_bytes(&w, 0));
    close_world(&w);
}

/* --- the header --- */

static void a_header_holds_its_entries_and_no_more(void) {
    struct device_options options = {.n_cards = 1, .present = {true}, .max_rows = 1};
    const struct file_identity file = {1, 2, 3, 4}, other = {1, 2, 3, 5};
    struct header_entry *many = calloc(HEADER_ENTRIES_MAX + 1, sizeof *many), *read;
    struct device *d;
    size_t n;
    uint64_t of;
    const struct device_ops *cpu = device_backend("cpu");
    CHECK_EQ(cpu->open(&d, &options, NULL), 0);
    CHECK_EQ(cpu->reserve(d, 0, AREA_WEIGHTS, PLAN_WEIGHTS_HEADER, PLAN_WEIGHTS_HEADER, -1, NULL),
             0);
    CHECK_EQ(header_read(cpu, d, 0, &file, &read, &n), 0);
    CHECK_EQ(n, 0);
    free(read);
    for (uint32_t i = 0; i <= HEADER_ENTRIES_MAX; i++)
        many[i] = (struct header_entry){(uint64_t)i * UINT64_C(0x9e3779b97f4a7c15), i};
    CHECK_EQ(header_write(cpu, d, 0, &file, many, HEADER_ENTRIES_MAX + 1), -E2BIG);
    for (uint32_t round = 1; round < 4; round++) {
        const size_t some = round == 1 ? HEADER_ENTRIES_MAX : 3 * round;
        CHECK_EQ(header_write(cpu, d, 0, &file, many, some), 0);
        CHECK_EQ(header_read(cpu, d, 0, &file, &read, &n), 0);
        CHECK_EQ(n, some);
        for (size_t i = 0; i < some; i++)
            CHECK(header_find(read, n, many[i].key, &of) && of == i);
        CHECK(!header_find(read, n, many[HEADER_ENTRIES_MAX].key, &of));
        free(read);
    }
    CHECK_EQ(header_read(cpu, d, 0, &other, &read, &n), 0);
    CHECK_EQ(n, 0);
    free(read);
    free(many);
    cpu->close(d);
}

CHECK_MAIN(T(one_killed_at_any_moment_leaves_what_can_be_proven),
           T(so_does_one_whose_full_cards_change_over),
           T(a_card_takes_the_union_and_then_its_share),
           T(a_full_card_takes_one_share_and_then_the_other),
           T(one_that_is_dropped_gives_back_what_it_took),
           T(ranges_that_lie_on_those_in_use_are_refused),
           T(a_header_holds_its_entries_and_no_more))
