/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/channel/codec.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "daemon/channel/stream.h"
#include "tests/check.h"

static struct plan small_plan(void) {
    struct plan p = {.split = SPLIT_HYBRID,
                     .n_cards = 3,
                     .context = 128,
                     .max_sequences = 4,
                     .max_rows = 64,
                     .max_outputs = 64,
                     .kv_type = KV_Q8_0,
                     .n_pages = 77,
                     .n_ranges = 2};
    p.ranges = calloc(2, sizeof *p.ranges);
    p.ranges[0] = (struct plan_range){
        .tensor = 1, .card = 0, .row_end = 32, .col_end = 64, .offset = 65536, .bytes = 2048};
    p.ranges[1] = (struct plan_range){.tensor = 2,
                                      .card = 2,
                                      .row_begin = 16,
                                      .row_end = 32,
                                      .col_begin = 32,
                                      .col_end = 64,
                                      .offset = 65536,
                                      .bytes = 1024,
                                      .copy = true};
    for (uint32_t i = 0; i < 3; i++) {
        p.cards[i] = (struct plan_card){.online = i != 1,
                                        .capacity_bytes = UINT64_C(1) << (30 + i),
                                        .layer_end = 5,
                                        .lane_begin = i,
                                        .lane_end = i + 1,
                                        .head_end = 3,
                                        .kv_end = 2,
                                        .own_begin = 1,
                                        .own_end = 2,
                                        .vocab_end = 100 + i,
                                        .weights_bytes = 1234567890123 + i,
                                        .n_spilled = 3 + i % 2,
                                        .spilled_bytes = 1234567890 + i,
                                        .landing_bytes = 54321 + i};
        snprintf(p.cards[i].reason, sizeof p.cards[i].reason, "card %u", i);
    }
    return p;
}

/* Something in every field that can be wrong. */
static int32_t tokens[] = {5, 6, 7, -1};
static struct logit_bias bias[] = {{3, -1.5f}, {9, 2}};
static struct token_logprob top[] = {{1, -0.5f}, {2, -1.5f}, {3, -2}, {4, -3}};
static float logprobs[] = {-1, -2};
static const struct msg_admit some_admit = {.sequence = 42,
                                            .uid = 1000,
                                            .tokens = tokens,
                                            .n_tokens = 4,
                                            .n_prompt = 3,
                                            .max_tokens = 100,
                                            .n_logprobs = 5,
                                            .logprobs = true,
                                            .sampling = {.temperature = 0.7f,
                                                         .top_k = 40,
                                                         .seed = UINT64_MAX,
                                                         .penalty_last_n = -1,
                                                         .n_bias = 2,
                                                         .bias = bias}};
static const struct msg_token some_token = {1, 42, 17, 5, -0.25f, 4, top};
static const struct msg_prompt some_prompt = {1, 42, 3, 2, logprobs, 2, top};
static const struct msg_end some_end = {1, 42, END_ERROR, 0, 7, 11, 13, "why"};
static const struct msg_credit some_credit = {1,
                                              2,
                                              3,
                                              4,
                                              5,
                                              6,
                                              7,
                                              {{{0, 8}, {UINT64_MAX, 0}, [7] = {[6] = 9}}},
                                              {{3, [7] = 4}, {0, 1, [7] = 5}}};
static const struct msg_harmed some_harmed = {1, 2, "blk.0.attn_q.weight", 3, 4, 5, 6, 7, 8, 9};
static const struct msg_verified some_verified = {1, 7, VERIFY_SCRUB, 2, {{1, 2, 3, 4, 5}, {0}}};
static const struct msg_tried some_tried = {1, 0x84, 0x10, {0, 0x80}, {"", "", "it was silent"}};
static const struct msg_failed some_failed = {-28, "no space", 1u << 5};

/* Every type of message, the plain ones from above. */
static void encode_all(struct buffer *out, size_t ends[32], size_t *n) {
    struct msg_setup setup = {.generation = UINT64_C(0x123456789abcdef0),
                              .backend = "cpu",
                              .model_name = "/a/b.gguf",
                              .n_parts = 3,
                              .file = {1, UINT64_C(1) << 60, 3, 4},
                              .n_threads = 3,
                              .isa = 2,
                              .isolate = true,
                              .n_eog = 2,
                              .eog = {2, 99},
                              .slots = {"", "0000:03:00.0"},
                              .scrub_s = 86400,
                              .card_silence_s = 30,
                              .staged = {[7] = 0x55},
                              .storage = DEVICE_SVM,
                              .try_cards = true,
                              .beside = true,
                              .hold = true,
                              .memory_bytes = {{5, 6}, [7] = {UINT64_MAX}},
                              .kv_bytes = {7, [7] = UINT64_MAX},
                              .plan = small_plan()};
    const struct msg_ready ready = {1,
                                    2,
                                    {{1, 2, 3, 7, -1, 9, 10, {11, 12, 13}, 16, 14, 15, -1, 0x82},
                                     {4, 5, 6, 0, 2 << 20, 0, 7, {0}, 0, 8, 6, 0, 0}},
                                    true,
                                    "no5lvl",
                                    "it exports none",
                                    96,
                                    "other places",
                                    true,
                                    "no engine",
                                    true,
                                    "no image"};
    struct msg_replan replan = {5, true, UINT64_C(1) << 33, small_plan()};
    const struct msg_replanned replanned = {1, 5, -28, "no space", true, 6, 7, 8, 9, ready};
    const struct {
        enum message_type type;
        const void *msg;
    } all[] = {{MSG_HELLO, &(struct msg_hello){1, 2}},
               {MSG_SETUP, &setup},
               {MSG_ADMIT, &some_admit},
               {MSG_CANCEL, &(struct msg_cancel){9}},
               {MSG_LOSE, &(struct msg_lose){3}},
               {MSG_STOP, NULL},
               {MSG_PROGRESS, &(struct msg_progress){10, 20}},
               {MSG_READY, &ready},
               {MSG_FAILED, &some_failed},
               {MSG_TOKEN, &some_token},
               {MSG_PROMPT, &some_prompt},
               {MSG_END, &some_end},
               {MSG_CREDIT, &some_credit},
               {MSG_PREEMPTED, &(struct msg_preempted){1, 2}},
               {MSG_LOST, &(struct msg_lost){1, 2}},
               {MSG_MEASURE, NULL},
               {MSG_LIMITS, &(struct msg_limits){1, -19, 3, UINT64_MAX, 5, -1, 6, "avx2"}},
               {MSG_REPLAN, &replan},
               {MSG_REPLANNED, &replanned},
               {MSG_VERIFY, &(struct msg_verify){7, -1}},
               {MSG_CORRUPT, &(struct msg_corrupt){2, true}},
               {MSG_HARMED, &some_harmed},
               {MSG_VERIFIED, &some_verified},
               {MSG_HANG, &(struct msg_hang){5}},
               {MSG_PRESSED, &(struct msg_pressed){true, false}},
               {MSG_YIELD, &(struct msg_yield){true}},
               {MSG_FENCED, &(struct msg_fenced){1, 0x84, UINT64_MAX}},
               {MSG_TRIED, &some_tried}};
    for (*n = 0; *n < sizeof all / sizeof *all; ++*n) {
        CHECK_EQ(message_encode(out, all[*n].type, all[*n].msg), 0);
        ends[*n] = out->n;
    }
    plan_finish(&setup.plan);
    plan_finish(&replan.plan);
}

static uint32_t u32_at(const char *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

static void what_is_encoded_is_decoded(void) {
    struct buffer out = {0}, again = {0};
    size_t ends[32], n, begin = 0;
    encode_all(&out, ends, &n);
    for (size_t i = 0; i < n; i++) {
        struct message m;
        const uint32_t type = u32_at(out.bytes + begin + 4);
        CHECK_EQ(u32_at(out.bytes + begin), ends[i] - begin - FRAME_HEADER_BYTES);
        CHECK_EQ(message_decode(&m, (uint16_t)type, out.bytes + begin + FRAME_HEADER_BYTES,
                                ends[i] - begin - FRAME_HEADER_BYTES),
                 0);
        /* The same bytes come out again: nothing was lost or invented. */
        again.n = 0;
        CHECK_EQ(message_encode(&again, m.type, &m.hello), 0);
        CHECK_EQ(again.n, ends[i] - begin);
        CHECK(!memcmp(again.bytes, out.bytes + begin, again.n));
        if (m.type == MSG_SETUP) {
            CHECK_EQ(m.setup.plan.n_ranges, 2);
            CHECK(m.setup.plan.ranges[1].copy);
            CHECK(!strcmp(m.setup.plan.cards[2].reason, "card 2"));
        }
        message_finish(&m);
        begin = ends[i];
    }
    buffer_finish(&out);
    buffer_finish(&again);
}

static void every_cut_and_every_surplus_is_refused(void) {
    struct buffer out = {0};
    size_t ends[32], n, begin = 0;
    encode_all(&out, ends, &n);
    CHECK_EQ(buffer_append(&out, "\0\0\0\0", 4), 0);
    for (size_t i = 0; i < n; i++) {
        const uint16_t type = (uint16_t)u32_at(out.bytes + begin + 4);
        const char *payload = out.bytes + begin + FRAME_HEADER_BYTES;
        const size_t length = ends[i] - begin - FRAME_HEADER_BYTES;
        struct message m;
        for (size_t cut = 0; cut < length; cut++) {
            /* In memory of its own, so that a sanitizer sees one byte too many. */
            char *copy = malloc(cut ? cut : 1);
            memcpy(copy, payload, cut);
            CHECK_EQ(message_decode(&m, type, copy, cut), -EPROTO);
            free(copy);
        }
        CHECK_EQ(message_decode(&m, type, payload, length + 1), -EPROTO);
        begin = ends[i];
    }
    struct message m;
    CHECK_EQ(message_decode(&m, 99, "", 0), -EPROTO);
    buffer_finish(&out);
}

static void descriptors_travel_with_setup(void) {
    struct stream a, b;
    struct message m;
    int pair[2], fds[STREAM_FDS_MAX], sent[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    stream_init(&a, pair[0]);
    stream_init(&b, pair[1]);
    struct msg_setup setup = {.backend = "cpu", .n_parts = 1, .plan = small_plan()};
    for (int i = 0; i < 2; i++) {
        sent[i] = memfd_create("test", MFD_CLOEXEC);
        CHECK_EQ(write(sent[i], i ? "b" : "a", 1), 1);
    }
    CHECK_EQ(stream_send_fds(&a, MSG_SETUP, &setup, sent, 2), 0);
    CHECK_EQ(stream_read(&b, &m), 0);
    CHECK_EQ(m.type, MSG_SETUP);
    CHECK_EQ(stream_take_fds(&b, fds), 2);
    for (int i = 0; i < 2; i++) {
        char byte = 0;
        CHECK_EQ(pread(fds[i], &byte, 1, 0), 1);
        CHECK_EQ(byte, i ? 'b' : 'a');
        CHECK(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
        close(fds[i]);
        close(sent[i]);
    }
    CHECK_EQ(stream_read(&b, &(struct message){0}), -EAGAIN);
    message_finish(&m);
    plan_finish(&setup.plan);
    stream_finish(&a);
    CHECK_EQ(stream_read(&b, &m), -EPIPE);
    stream_finish(&b);
}

static void a_reader_that_waits_loses_nothing(void) {
    struct stream a, b;
    struct message m;
    int pair[2], rc;
    uint32_t sent = 0, got = 0;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    stream_init(&a, pair[0]);
    stream_init(&b, pair[1]);
    for (; sent < 50000; sent++) {
        const struct msg_token token = {.generation = 1, .sequence = 2, .position = sent};
        CHECK_EQ(stream_send(&a, MSG_TOKEN, &token), 0);
    }
    CHECK(stream_wants_write(&a));
    while (got < sent) {
        while ((rc = stream_read(&b, &m)) == 0) {
            CHECK_EQ(m.token.position, got);
            got++;
            message_finish(&m);
        }
        CHECK_EQ(rc, -EAGAIN);
        stream_flush(&a);
    }
    stream_finish(&a);
    stream_finish(&b);
}

static void a_frame_beyond_the_limit_ends_the_stream(void) {
    struct stream b;
    struct message m;
    int pair[2];
    const uint32_t header[2] = {CHANNEL_FRAME_MAX + 1, MSG_HELLO};
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    stream_init(&b, pair[1]);
    CHECK_EQ(write(pair[0], header, sizeof header), (ssize_t)sizeof header);
    CHECK_EQ(stream_read(&b, &m), -EPROTO);
    close(pair[0]);
    stream_finish(&b);
}

CHECK_MAIN(T(what_is_encoded_is_decoded), T(every_cut_and_every_surplus_is_refused),
           T(descriptors_travel_with_setup), T(a_reader_that_waits_loses_nothing),
           T(a_frame_beyond_the_limit_ends_the_stream))
