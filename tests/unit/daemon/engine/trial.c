/* SPDX-License-Identifier: Apache-2.0 */
/* What a card does to the process that tries it is told, and is no other's harm. */
#include "daemon/engine/trial.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "octarc/error.h"
#include "tests/check.h"

/* What opening card n does, by its letter in `does`:
 *   o  it can be used       e  opening it fails, for a reason     a  it ends the process
 *   m  it has no memory     f  what is written to it is not there  s  it is silent
 *   x  so that whoever reads the memory of the card before it is ended */
static const char *does;
static char letter; /* of the card that this process tries */
static char memory[1 << 16];

/* Two cards, and the one link that may be direct. */
static void open_pair(const struct device_options *o) {
    for (uint32_t reader = 0; reader < o->n_cards; reader++)
        for (uint32_t owner = 0; owner < o->n_cards; owner++)
            if (o->present[reader] && o->present[owner] && !(o->staged[reader] >> owner & 1) &&
                does[reader] == 'x' && owner + 1 == reader)
                abort();
}

static int open_card(struct device **device, const struct device_options *o, struct err *err) {
    uint32_t present = 0, card = 0;
    for (uint32_t i = 0; i < o->n_cards; i++)
        if (o->present[i]) {
            present++;
            card = i;
        }
    *device = (struct device *)(void *)memory;
    if (present == 2) {
        open_pair(o);
        return 0;
    }
    if (present != 1)
        return err_set(err, -EINVAL, "%u cards at once", present);
    letter = does[card];
    if (letter == 'a')
        abort();
    while (letter == 's')
        pause();
    return letter == 'e' ? err_set(err, -EIO,
                                   "card %u at %s: a long story, told at such length "
                                   "that it does not fit into what a reason may take",
                                   card, o->slots[card])
                         : 0;
}

static void close_card(struct device *d) {
    (void)d;
}

static int reserve(struct device *d, uint32_t card, enum area area, uint64_t room, uint64_t bytes,
                   int fd, struct err *err) {
    (void)d, (void)area, (void)bytes, (void)fd;
    return letter == 'm' || room > sizeof memory ? err_set(err, -ENOMEM, "card %u is full", card)
                                                 : 0;
}

static int poke(struct device *d, uint32_t card, uint64_t offset, const void *in, uint64_t bytes) {
    (void)d, (void)card;
    if (letter != 'f')
        memcpy(memory + offset, in, bytes);
    return 0;
}

static int peek(struct device *d, uint32_t card, uint64_t offset, void *out, uint64_t bytes) {
    (void)d, (void)card;
    memcpy(out, memory + offset, bytes);
    return 0;
}

static const struct device_ops ops = {
    .open = open_card, .close = close_card, .reserve = reserve, .poke = poke, .peek = peek};

static struct msg_tried try_all(const char *letters, uint32_t silence_s, uint32_t staged) {
    struct trial_options t = {
        .ops = &ops, .device.n_cards = (uint32_t)strlen(letters), .silence_s = silence_s};
    struct msg_tried tried = {0};
    does = letters;
    for (uint32_t i = 0; i < t.device.n_cards; i++) {
        t.device.present[i] = letters[i] != '-';
        t.device.staged[i] = staged;
        snprintf(t.device.slots[i], sizeof t.device.slots[i], "0000:0%u:00.0", i + 3);
    }
    trial_run(&t, &tried);
    return tried;
}

static void what_ends_the_process_that_tries_a_card_is_told(void) {
    const struct msg_tried t = try_all("oaefmxo", TRIAL_S_MAX, 0);
    CHECK_EQ(t.cards, 0x1e);
    CHECK(!t.why[0][0] && !t.why[5][0] && !t.why[6][0]);
    CHECK(strstr(t.why[1], "ended the process") && strstr(t.why[1], "Abort"));
    CHECK(strstr(t.why[2], "card 2 at 0000:05:00.0: a long story"));
    CHECK_EQ(strlen(t.why[2]), TRIED_WHY_MAX - 1);
    CHECK(strstr(t.why[3], "not what is read"));
    CHECK(strstr(t.why[4], "card 4 is full"));
    CHECK_EQ(t.links[5], 0); /* while cards are bad nobody asks for links */
}

static void a_link_that_ends_its_reader_is_told_where_cards_are_well(void) {
    struct msg_tried t = try_all("oxoxoooo", TRIAL_S_MAX, 0);
    CHECK_EQ(t.cards, 0);
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        CHECK_EQ(t.links[i], i == 1 ? 1u << 0 : i == 3 ? 1u << 2 : 0);
    CHECK(strstr(t.why[3], "ended the process"));
    t = try_all("oxo", TRIAL_S_MAX, 0x1); /* nobody reads card 0 anyway */
    CHECK_EQ(t.links[1], 0);
}

static void a_silent_card_is_waited_for_only_so_long(void) {
    const struct msg_tried t = try_all("-s", 1, 0);
    CHECK_EQ(t.cards, 0x2);
    CHECK(strstr(t.why[1], "silent for 1 s"));
}

CHECK_MAIN(T(what_ends_the_process_that_tries_a_card_is_told),
           T(a_link_that_ends_its_reader_is_told_where_cards_are_well),
           T(a_silent_card_is_waited_for_only_so_long))
