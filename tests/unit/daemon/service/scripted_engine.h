/* SPDX-License-Identifier: Apache-2.0 */
/* scripted_engine.h - makes the test program that includes it an engine too, where it is started as
 * one.  It follows $FAKE_SCRIPT: one letter for each generation, the last for all that come after.
 *
 *   o  serves                         l  reports its highest card lost after three tokens, and goes
 *                                        on with tokens that are wrong
 *   d  dies after three tokens        n  says nonsense after three tokens
 *   x  dies of any request            w  is ready and says nothing more
 *   b  dies before it is ready        t  as w, and does not stop when it is asked to
 *   r  dies as soon as it is ready    f  says that it cannot serve
 *   s  starts and is never ready        h  as l, but says that it waits for its highest card
 *   u  says that its highest card cannot be opened
 *   k  says, before it is ready, that it waits for its highest card
 *   g  is ready, and when it is asked about its weights it gives up, and says why
 *   p  says, where it was told to try its cards, that the highest cannot be used; else serves
 *   q  the same, but that card 1 cannot read card 0
 *   y  says three tokens of each answer, and no more until that is cancelled
 *   i  is ready, and card 1 reads wrong bytes of card 0 */
#ifndef OCTARC_TESTS_SCRIPTED_ENGINE_H
#define OCTARC_TESTS_SCRIPTED_ENGINE_H

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/channel/stream.h"

static int32_t says(uint32_t position) {
    return (int32_t)(position * 7 % 50) + 20;
}
#define WRONG 7

struct fake {
    struct stream stream;
    struct msg_setup setup;
    char does;
    uint32_t said;
};

/* One that lost a card says the rest of its answer in one piece with that, so that the front has it
 * all before it can do anything about it. */
static void must_send(struct fake *f, enum message_type type, const void *msg) {
    const bool kept = strchr("lh", f->does) && f->said >= 3 && type != MSG_END;
    if ((kept ? message_encode(&f->stream.out, type, msg) : stream_send(&f->stream, type, msg)) < 0)
        _exit(0);
}

static struct message next_message(struct fake *f) {
    struct message msg;
    int rc;
    while ((rc = stream_read(&f->stream, &msg)) == -EAGAIN) {
        struct pollfd fd = {.fd = f->stream.fd, .events = POLLIN};
        poll(&fd, 1, -1);
    }
    if (rc < 0)
        _exit(0);
    return msg;
}

static uint32_t highest(const struct fake *f) {
    uint32_t card = CARDS_MAX - 1;
    while (!f->setup.plan.cards[card].online)
        card--;
    return card;
}

static void after_three_tokens(struct fake *f) {
    if (++f->said != 3)
        return;
    if (f->does == 'd')
        raise(SIGKILL);
    if (f->does == 'n' && write(f->stream.fd, "nonsense nonsense", 17) < 0)
        _exit(0);
    if (f->does == 'l') {
        const struct msg_lost lost = {f->setup.generation, highest(f)};
        must_send(f, MSG_LOST, &lost);
    }
    if (f->does == 'h') {
        const struct msg_fenced fenced = {f->setup.generation, 1u << highest(f), 1500000000};
        must_send(f, MSG_FENCED, &fenced);
    }
}

static void answer(struct fake *f, const struct msg_admit *admit) {
    const uint64_t generation = f->setup.generation;
    for (uint32_t i = admit->n_prompt; i < admit->n_tokens; i++)
        if (admit->tokens[i] != says(i))
            _exit(99);
    for (uint32_t i = admit->n_tokens; i < admit->n_prompt + admit->max_tokens; i++) {
        if (f->does == 'y' && i == admit->n_tokens + 3)
            return;
        const bool wrong = strchr("lh", f->does) && f->said >= 3;
        const struct msg_token token = {.generation = generation,
                                        .sequence = admit->sequence,
                                        .position = i,
                                        .token = wrong ? WRONG : says(i)};
        must_send(f, MSG_TOKEN, &token);
        after_three_tokens(f);
    }
    const struct msg_end end = {
        .generation = generation, .sequence = admit->sequence, .reason = END_LENGTH};
    must_send(f, MSG_END, &end);
}

static void start(struct fake *f) {
    int fds[STREAM_FDS_MAX];
    struct msg_failed failed = {-ENOMEM, "card 0 has no memory left", 0};
    const struct msg_hello hello = {CHANNEL_VERSION, (uint32_t)getpid()};
    must_send(f, MSG_HELLO, &hello);
    struct message msg = next_message(f); /* HELLO */
    msg = next_message(f);
    f->setup = msg.setup;
    const char *script = getenv("FAKE_SCRIPT");
    const size_t n = strlen(script), at = (size_t)f->setup.generation - 1;
    f->does = script[at < n ? at : n - 1];
    if (f->does == 'b')
        _exit(3);
    if (f->does == 's')
        for (;;)
            next_message(f);
    if (strchr("pq", f->does) && f->setup.try_cards) {
        struct msg_tried tried = {.generation = f->setup.generation};
        const uint32_t card = highest(f);
        tried.cards = f->does == 'p' ? 1u << card : 0;
        tried.links[1] = f->does == 'q' ? 1u << 0 : 0;
        snprintf(tried.why[card], sizeof tried.why[card], "it was %s",
                 f->does == 'p' ? "silent" : "ended");
        must_send(f, MSG_TRIED, &tried);
        next_message(f);
    }
    if (f->does == 'T') {
        struct msg_tried tried = {.generation = f->setup.generation, .memory = 1u << 0};
        snprintf(tried.why[0], sizeof tried.why[0], "an argument is wrong");
        must_send(f, MSG_TRIED, &tried);
        _exit(1);
    }
    if (f->does == 'u') {
        failed = (struct msg_failed){-ENODEV, "a card does not answer", 1u << highest(f)};
        must_send(f, MSG_FAILED, &failed);
        _exit(1);
    }
    if (f->does == 'k') {
        const struct msg_fenced fenced = {f->setup.generation, 1u << highest(f), 2500000000};
        must_send(f, MSG_FENCED, &fenced);
        next_message(f);
    }
    if (f->does == 'f') {
        must_send(f, MSG_FAILED, &failed);
        _exit(1);
    }
    struct msg_ready ready = {.generation = f->setup.generation, .n_cards = f->setup.plan.n_cards};
    ready.cards[0].scratch_bytes = stream_take_fds(&f->stream, fds);
    ready.cards[1].kv_bytes = f->setup.staged[1];
    ready.cards[1].misread = f->does == 'i' ? 1u << 0 : 0;
    if (f->does == 'm') {
        ready.cards[0].prefetched_bytes = ready.cards[1].prefetched_bytes = 4096;
        ready.cards[0].resident_bytes = 4096;
        ready.cards[1].resident_bytes = 1024;
    }
    must_send(f, MSG_READY, &ready);
    if (f->does == 'c') {
        const struct msg_credit credit = {.carried = {{[1] = {100}}}};
        must_send(f, MSG_CREDIT, &credit);
    }
    if (f->does == 'r')
        _exit(5);
}

/* Of card 1 all ranges, of which one was harmed where bits flipped. */
static void verify(struct fake *f, const struct message *msg) {
    const bool asked = msg->type == MSG_VERIFY;
    const struct msg_harmed harmed = {.generation = f->setup.generation,
                                      .card = 1,
                                      .tensor = "blk.1.ffn_up.weight",
                                      .row_end = 64,
                                      .bytes = 4096,
                                      .age_ns = 2500000000,
                                      .read_ns = 1000000};
    struct msg_verified all = {.generation = f->setup.generation,
                               .number = asked ? msg->verify.number : 0,
                               .cause = asked ? VERIFY_ASKED : VERIFY_REPORTED,
                               .n_cards = 2};
    all.cards[1] = (struct verified_card){9, !asked, !asked, 1000, 5};
    const struct msg_failed gives_up = {-EIO, "tensor 'x' cannot be read", 0};
    if (f->does == 'w')
        return;
    if (f->does == 'g') {
        must_send(f, MSG_FAILED, &gives_up);
        _exit(1);
    }
    if (!asked)
        must_send(f, MSG_HARMED, &harmed);
    must_send(f, MSG_VERIFIED, &all);
}

/* Before main: where the arguments are an engine's, this is one. */
__attribute__((constructor)) static void become_engine(int argc, char **argv) {
    if (argc != 3 || strcmp(argv[1], "--channel"))
        return;
    struct fake f = {0};
    stream_init(&f.stream, atoi(argv[2]));
    start(&f);
    const struct msg_limits limits = {.generation = f.setup.generation,
                                      .read_bytes_per_s = 12,
                                      .huge_bytes = 7,
                                      .n_threads = 3,
                                      .isa = "avx2"};
    for (;;) {
        struct message msg = next_message(&f);
        if (msg.type == MSG_MEASURE && f.does != 'w')
            must_send(&f, MSG_LIMITS, &limits);
        if (msg.type == MSG_VERIFY || msg.type == MSG_CORRUPT)
            verify(&f, &msg);
        if (msg.type == MSG_LOSE && strchr("oy", f.does)) {
            const struct msg_lost lost = {f.setup.generation, msg.lose.card};
            must_send(&f, MSG_LOST, &lost);
        }
        if (msg.type == MSG_CANCEL && f.does == 'y') {
            const struct msg_end end = {.generation = f.setup.generation,
                                        .sequence = msg.cancel.sequence,
                                        .reason = END_CANCELLED};
            must_send(&f, MSG_END, &end);
        }
        if (msg.type == MSG_STOP && f.does != 't')
            _exit(0);
        if (msg.type != MSG_ADMIT)
            continue;
        if (f.does == 'x')
            _exit(4);
        if (!strchr("wtg", f.does))
            answer(&f, &msg.admit);
        message_finish(&msg);
    }
}

#endif
