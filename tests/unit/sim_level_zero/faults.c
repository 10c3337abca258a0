/* SPDX-License-Identifier: Apache-2.0 */
/* What can go wrong in a simulated box, each thing once. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

#include "tests/sim_level_zero/box.h"

#define WORDS 16
#define BYTES (WORDS * sizeof(uint32_t))

static const char probe[] = "tests/sim_level_zero/kernels/probe.spv";
static char faults[64];

/* Puts `words` in the place of what the file of faults said. */
static void strike(const char *words) {
    char next[80];
    snprintf(next, sizeof next, "%s.new", faults);
    FILE *f = fopen(next, "w");
    CHECK(f);
    fprintf(f, "%s\n", words);
    CHECK_EQ(fclose(f), 0);
    CHECK_EQ(rename(next, faults), 0);
}

/* A box whose faults are struck later. */
static struct box open_box(const char *options) {
    static char words[512];
    snprintf(faults, sizeof faults, "/tmp/sim-ze-faults-%d", (int)getpid());
    unlink(faults);
    snprintf(words, sizeof words, "%s faults=%s", options, faults);
    return box_open(words);
}

static void done(void) {
    unlink(faults);
}

static unsigned alarm_s; /* 0: none */

/* How a child ends that opens this box and then does `more`. */
static int ends(const char *options, void (*more)(const struct box *box)) {
    int status = 0;
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        alarm(alarm_s);
        const struct box box = box_open(options);
        if (more)
            more(&box);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static void a_card_is_lost_at_the_call_that_was_set(void) {
    const struct box box = box_open("cards=2 lose=1@3");
    ze_device_memory_access_properties_t access = {
        .stype = ZE_STRUCTURE_TYPE_DEVICE_MEMORY_ACCESS_PROPERTIES};
    ZE(zeDeviceGetMemoryAccessProperties(box.cards[1], &access));
    ZE(zeDeviceGetMemoryAccessProperties(box.cards[1], &access));
    CHECK_EQ(zeDeviceGetMemoryAccessProperties(box.cards[1], &access), ZE_RESULT_ERROR_DEVICE_LOST);
    CHECK_EQ(zeDeviceGetStatus(box.cards[1]), ZE_RESULT_ERROR_DEVICE_LOST);
    CHECK_EQ(zeContextGetStatus(box.context), ZE_RESULT_ERROR_DEVICE_LOST);
    ZE(zeDeviceGetStatus(box.cards[0]));
}

static void a_loss_wakes_who_waits_for_the_card(void) {
    const struct box box = open_box("cards=1");
    uint32_t *memory = box_memory(&box, 0, BYTES), in[WORDS] = {1};
    ze_event_pool_handle_t pool = box_pool(&box, 2);
    ze_event_handle_t never = box_event(pool, 0), after = box_event(pool, 1);
    ze_command_list_handle_t list = box_immediate(&box, 0, ZE_COMMAND_QUEUE_MODE_ASYNCHRONOUS);
    ZE(zeCommandListAppendMemoryCopy(list, memory, in, BYTES, after, 1, &never));
    CHECK_EQ(zeEventHostSynchronize(after, 1000000), ZE_RESULT_NOT_READY);
    strike("lose=0");
    CHECK_EQ(zeEventHostSynchronize(after, UINT64_MAX), ZE_RESULT_ERROR_DEVICE_LOST);
    CHECK_EQ(zeCommandListAppendMemoryCopy(list, memory, in, BYTES, NULL, 0, NULL),
             ZE_RESULT_ERROR_DEVICE_LOST);
    ZE(zeCommandListDestroy(list));
    ZE(zeMemFree(box.context, memory)); /* what is left can be given back */
    done();
}

static void a_hung_card_ends_no_command_and_holds_nobody_else(void) {
    const struct box box = box_open("cards=2 hang=1@2");
    uint32_t *memory = box_memory(&box, 1, BYTES), in[WORDS] = {1};
    ZE(box_copy(&box, 1, memory, in, BYTES));
    ze_event_handle_t event = box_event(box_pool(&box, 1), 0);
    ze_command_list_handle_t list = box_immediate(&box, 1, ZE_COMMAND_QUEUE_MODE_ASYNCHRONOUS);
    ZE(zeCommandListAppendMemoryCopy(list, memory, in, BYTES, event, 0, NULL));
    CHECK_EQ(zeEventHostSynchronize(event, 20000000), ZE_RESULT_NOT_READY);
    ZE(box_copy(&box, 0, box_memory(&box, 0, BYTES), in, BYTES));
    ZE(zeDeviceGetStatus(box.cards[1])); /* it does not know */
    CHECK_EQ(zeCommandListDestroy(list), ZE_RESULT_ERROR_HANDLE_OBJECT_IN_USE);
}

static void poll_card_1(const struct box *box) {
    zeDeviceGetStatus(box->cards[1]);
}

static void poll_card_0(const struct box *box) {
    zeDeviceGetStatus(box->cards[0]);
}

static void a_wedged_card_ends_the_process_that_polls_it(void) {
    CHECK_EQ(ends("cards=2 abort=1", poll_card_1), SIGABRT);
    CHECK_EQ(ends("cards=2 abort=1", poll_card_0), 0);
}

static void one_that_is_opened_ends_it_too(void) {
    CHECK_EQ(ends("cards=2 touchy=1", NULL), SIGABRT);
    setenv("ZE_AFFINITY_MASK", "0", 1);
    CHECK_EQ(ends("cards=2 touchy=1", NULL), 0);
}

/* An alarm ends who waits for ever. */
static void one_that_is_opened_keeps_it_for_ever(void) {
    alarm_s = 1;
    CHECK_EQ(ends("cards=2 sleepy=1", NULL), SIGALRM);
    CHECK_EQ(ends("init=hang", NULL), SIGALRM);
    alarm_s = 0;
    setenv("ZE_AFFINITY_MASK", "0", 1);
    CHECK_EQ(ends("cards=2 sleepy=1", NULL), 0);
}

static void a_driver_may_not_start(void) {
    CHECK_EQ(ends("init=crash", NULL), SIGABRT);
    box_environment("init=error");
    CHECK_EQ(zeInit(0), ZE_RESULT_ERROR_UNINITIALIZED);
}

static void one_card_of_eight_does_not_open(void) {
    const struct box box = box_open("cards=8 broken=3");
    const ze_device_mem_alloc_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_DEVICE_MEM_ALLOC_DESC};
    ze_device_properties_t properties = {.stype = ZE_STRUCTURE_TYPE_DEVICE_PROPERTIES};
    void *p = NULL;
    CHECK_EQ(box.n_cards, 8);
    for (unsigned i = 0; i < 8; i++) {
        ZE(zeDeviceGetProperties(box.cards[i], &properties));
        CHECK_EQ(zeMemAllocDevice(box.context, &desc, 64, 0, box.cards[i], &p),
                 i == 3 ? ZE_RESULT_ERROR_DEPENDENCY_UNAVAILABLE : ZE_RESULT_SUCCESS);
    }
}

static void memory_runs_out_when_it_is_told_to(void) {
    const struct box box = open_box("cards=1 memory=1M");
    const ze_device_mem_alloc_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_DEVICE_MEM_ALLOC_DESC};
    void *p = box_memory(&box, 0, 128 << 10);
    strike("limit=0@192K");
    p = box_memory(&box, 0, 64 << 10);
    CHECK_EQ(zeMemAllocDevice(box.context, &desc, 1, 0, box.cards[0], &p),
             ZE_RESULT_ERROR_OUT_OF_DEVICE_MEMORY);
    strike("");
    p = box_memory(&box, 0, 64 << 10);
    done();
}

/* in -> card `from` -> card `to` -> out, all copies reporting success. */
static void send(const struct box *box, unsigned from, unsigned to, const uint32_t *in,
                 uint32_t *out) {
    uint32_t *a = box_memory(box, from, BYTES), *b = box_memory(box, to, BYTES), old[WORDS];
    memset(old, 0x11, sizeof old);
    ZE(box_copy(box, to, b, old, BYTES));
    ZE(box_copy(box, from, a, in, BYTES));
    ZE(box_copy(box, from, b, a, BYTES));
    ZE(box_copy(box, to, out, b, BYTES));
}

static void a_path_lies_about_what_it_copied(void) {
    const struct box box = box_open("cards=3 ones=0>1 stale=1>2 ones=h>2");
    const uint32_t in[WORDS] = {1, 2, 3};
    uint32_t out[WORDS];
    send(&box, 0, 1, in, out);
    for (unsigned i = 0; i < WORDS; i++)
        CHECK_EQ(out[i], UINT32_MAX);
    send(&box, 1, 0, in, out); /* the other way is another path */
    CHECK(!memcmp(in, out, BYTES));
    send(&box, 1, 2, in, out);
    for (unsigned i = 0; i < WORDS; i++)
        CHECK_EQ(out[i], UINT32_MAX); /* what the host's path had left there */
    send(&box, 0, 2, in, out);
    CHECK(!memcmp(in, out, BYTES));
}

/* Card 0 adds one to a word of card 1's memory and to one of its own. */
static void a_path_lies_to_kernels_too(void) {
    const struct box box = box_open("cards=2 ones=1>0");
    box_needs_kernels();
    uint32_t in[WORDS] = {5, 6}, out[WORDS];
    uint32_t *others = box_memory(&box, 1, BYTES), *mine = box_memory(&box, 0, BYTES);
    ZE(box_copy(&box, 1, others, in, BYTES));
    ze_kernel_handle_t kernel = box_kernel(box_module(&box, 0, probe), "copy_words");
    ZE(zeKernelSetGroupSize(kernel, WORDS, 1, 1));
    box_set(kernel, 0, others);
    box_set(kernel, 1, mine);
    ZE(box_launch(&box, 0, kernel, 1));
    ZE(box_copy(&box, 0, out, mine, BYTES));
    CHECK_EQ(out[0], UINT32_MAX);
    ZE(box_copy(&box, 1, out, others, BYTES));
    CHECK(!memcmp(in, out, BYTES));
}

/* Memory that the command before it on the list has used lies open. */
static void so_it_does_in_the_middle_of_a_list(void) {
    const struct box box = box_open("cards=2 ones=1>0");
    box_needs_kernels();
    uint32_t out[WORDS];
    const ze_group_count_t one = {1, 1, 1};
    uint32_t *others = box_memory(&box, 1, BYTES), *mine = box_memory(&box, 0, BYTES);
    ze_command_queue_handle_t queue = box_queue(&box, 0);
    ze_command_list_handle_t list = box_list(&box, 0);
    ze_kernel_handle_t kernel = box_kernel(box_module(&box, 0, probe), "copy_words");
    ZE(zeKernelSetGroupSize(kernel, WORDS, 1, 1));
    box_set(kernel, 0, others);
    box_set(kernel, 1, mine);
    ZE(zeCommandListAppendMemoryCopy(list, mine, others, BYTES, NULL, 0, NULL));
    ZE(zeCommandListAppendBarrier(list, NULL, 0, NULL));
    ZE(zeCommandListAppendLaunchKernel(list, kernel, &one, NULL, 0, NULL));
    ZE(zeCommandListClose(list));
    ZE(zeCommandQueueExecuteCommandLists(queue, 1, &list, NULL));
    ZE(zeCommandQueueSynchronize(queue, UINT64_MAX));
    ZE(box_copy(&box, 0, out, mine, BYTES));
    CHECK_EQ(out[0], UINT32_MAX);
}

/* The fastest of some launches of card 0 that name this memory of one card and its own. */
static uint64_t launch_ns(const struct box *box, ze_kernel_handle_t kernel, void *from, void *to) {
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 8; i++) {
        struct timespec a, b;
        box_set(kernel, 0, from);
        box_set(kernel, 1, to);
        clock_gettime(CLOCK_MONOTONIC, &a);
        ZE(box_launch(box, 0, kernel, 1));
        clock_gettime(CLOCK_MONOTONIC, &b);
        const uint64_t ns =
            (uint64_t)(b.tv_sec - a.tv_sec) * 1000000000u + (uint64_t)(b.tv_nsec - a.tv_nsec);
        best = ns < best ? ns : best;
    }
    return best;
}

static void a_slow_path_takes_its_time_and_no_other_does(void) {
    const struct box box = box_open("cards=3 slow=1>0");
    box_needs_kernels();
    uint32_t *mine = box_memory(&box, 0, BYTES);
    ze_kernel_handle_t kernel = box_kernel(box_module(&box, 0, probe), "copy_words");
    ZE(zeKernelSetGroupSize(kernel, WORDS, 1, 1));
    CHECK(launch_ns(&box, kernel, box_memory(&box, 1, BYTES), mine) >= 20000000);
    CHECK(launch_ns(&box, kernel, box_memory(&box, 2, BYTES), mine) < 20000000);
    CHECK(launch_ns(&box, kernel, box_memory(&box, 0, BYTES), mine) < 20000000);
}

static void memory_of_a_lost_card_reads_as_ones(void) {
    const struct box box = open_box("cards=2");
    uint32_t in[WORDS] = {5, 6}, out[WORDS];
    uint32_t *others = box_memory(&box, 1, BYTES);
    ZE(box_copy(&box, 1, others, in, BYTES));
    strike("lose=1");
    ZE(box_copy(&box, 0, out, others, BYTES));
    CHECK_EQ(out[0], UINT32_MAX);
    done();
}

static void peer_access_is_claimed_where_there_is_none(void) {
    const struct box box = box_open("cards=2 p2p=none claim=0>1");
    box_needs_kernels();
    ze_bool_t yes = 0;
    ZE(zeDeviceCanAccessPeer(box.cards[0], box.cards[1], &yes));
    CHECK(yes);
    uint32_t *others = box_memory(&box, 1, BYTES);
    ze_kernel_handle_t kernel = box_kernel(box_module(&box, 0, probe), "add_one");
    ZE(zeKernelSetGroupSize(kernel, WORDS, 1, 1));
    box_set(kernel, 0, others); /* says it is well */
    CHECK_EQ(box_launch(&box, 0, kernel, 1), ZE_RESULT_ERROR_DEVICE_LOST);
}

static void an_argument_is_not_taken(void) {
    const struct box box = box_open("cards=1 keep=0@2");
    box_needs_kernels();
    uint32_t *a = box_memory(&box, 0, BYTES), *b = box_memory(&box, 0, BYTES), out[WORDS];
    const uint32_t zeros[WORDS] = {0};
    ZE(box_copy(&box, 0, a, zeros, BYTES));
    ZE(box_copy(&box, 0, b, zeros, BYTES));
    ze_kernel_handle_t kernel = box_kernel(box_module(&box, 0, probe), "add_one");
    ZE(zeKernelSetGroupSize(kernel, WORDS, 1, 1));
    box_set(kernel, 0, a);
    box_set(kernel, 0, b);
    ZE(box_launch(&box, 0, kernel, 1));
    ZE(box_copy(&box, 0, out, b, BYTES));
    CHECK_EQ(out[0], 0);
    ZE(box_copy(&box, 0, out, a, BYTES));
    CHECK_EQ(out[0], 1);
}

static void what_is_done_is_counted_in_a_file(void) {
    char words[128], path[64];
    struct {
        uint64_t calls[8], commands[8], used_bytes[8];
    } seen;
    snprintf(path, sizeof path, "/tmp/sim-ze-counters-%d", (int)getpid());
    snprintf(words, sizeof words, "cards=2 counters=%s", path);
    const struct box box = box_open(words);
    uint32_t in[WORDS] = {0}, *memory = box_memory(&box, 1, 65537);
    ZE(box_copy(&box, 1, memory, in, BYTES));
    const int fd = open(path, O_RDONLY);
    CHECK_EQ(read(fd, &seen, sizeof seen), sizeof seen);
    close(fd);
    unlink(path);
    CHECK_EQ(seen.calls[0], 0);
    CHECK(seen.calls[1] > 0);
    CHECK_EQ(seen.commands[1], 1);
    CHECK_EQ(seen.used_bytes[1], 2 << 16);
}

static void a_word_that_is_not_known_is_refused(void) {
    box_environment("cards=2 loose=1");
    CHECK_EQ(zeInit(0), ZE_RESULT_ERROR_UNINITIALIZED);
}

CHECK_MAIN(T(a_card_is_lost_at_the_call_that_was_set), T(a_loss_wakes_who_waits_for_the_card),
           T(a_hung_card_ends_no_command_and_holds_nobody_else),
           T(a_wedged_card_ends_the_process_that_polls_it), T(one_that_is_opened_ends_it_too),
           T(one_that_is_opened_keeps_it_for_ever), T(a_driver_may_not_start),
           T(one_card_of_eight_does_not_open), T(memory_runs_out_when_it_is_told_to),
           T(a_path_lies_about_what_it_copied), T(a_path_lies_to_kernels_too),
           T(a_slow_path_takes_its_time_and_no_other_does), T(memory_of_a_lost_card_reads_as_ones),
           T(so_it_does_in_the_middle_of_a_list), T(peer_access_is_claimed_where_there_is_none),
           T(an_argument_is_not_taken), T(what_is_done_is_counted_in_a_file),
           T(a_word_that_is_not_known_is_refused))
