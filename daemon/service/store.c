/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/store.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/engine/sums.h"
#include "daemon/service/memory.h"
#include "daemon/service/notify.h"
#include "daemon/util/log.h"

#define NAME_MAX_BYTES (32 + STORE_CARD_MAX)
#define SETTLE_US      UINT64_C(2000000)

/* card: which real one's memory it is; empty: none's. */
static void name_of(uint32_t slot, const char *card, char name[NAME_MAX_BYTES]) {
    if (slot == STORE_SUMS)
        snprintf(name, NAME_MAX_BYTES, "octarc-sums");
    else if (card[0])
        snprintf(name, NAME_MAX_BYTES, "octarc-card-%u-%s", slot, card);
    else
        snprintf(name, NAME_MAX_BYTES, "octarc-weights-%u", slot);
}

static uint32_t slot_named(const char *text, char card[STORE_CARD_MAX]) {
    static const char before[] = "octarc-card-0-";
    char name[NAME_MAX_BYTES];
    uint32_t slot = 0;
    snprintf(card, STORE_CARD_MAX, "%s",
             strlen(text) < sizeof before ? "" : text + sizeof before - 1);
    for (; slot < STORE_SLOTS; slot++) {
        name_of(slot, card, name);
        if (!strcmp(name, text))
            return slot;
        name_of(slot, "", name);
        if (!strcmp(name, text))
            break;
    }
    card[0] = 0;
    return slot;
}

void store_name_card(const char *identity, char card[STORE_CARD_MAX]) {
    size_t i = 0;
    for (; identity[i] && i + 1 < STORE_CARD_MAX; i++)
        card[i] = identity[i] > ' ' && identity[i] < 127 && identity[i] != ':' ? identity[i] : '-';
    card[i] = 0;
}

void store_init(struct store *s) {
    *s = (struct store){.on = false};
    for (uint32_t i = 0; i < STORE_SLOTS; i++)
        s->slots[i].left = -1;
}

/* --- what was left --- */

static bool is_same(int a, int b) {
    struct stat x, y;
    return a >= 0 && fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino;
}

/* Memory as it is made here: nobody else has a name for it, and weights, which are mapped, can
 * never become shorter than they are.  NULL: there is no fault. */
static const char *find_fault_of_memfd(uint32_t slot, int fd) {
    struct stat st;
    const int mode = fcntl(fd, F_GETFL), seals = fcntl(fd, F_GET_SEALS);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 0 || seals < 0)
        return "it is no memory";
    if (mode < 0 || (mode & O_ACCMODE) != O_RDWR)
        return "it cannot be read and written";
    if (seals != (slot == STORE_SUMS ? F_SEAL_SEAL : MEMORY_SEALS))
        return "its seals are other ones";
    return NULL;
}

/* A dma-buf is as long as its memory; what it is the card's driver looks at (held_import()). */
static const char *find_fault(const struct store *s, uint32_t slot, const char *card, int fd) {
    struct stat st;
    const char *fault = card[0] ? NULL : find_fault_of_memfd(slot, fd);
    if (fault)
        return fault;
    if (card[0] && (fstat(fd, &st) < 0 || st.st_size <= 0))
        return "it is no memory";
    for (uint32_t i = 0; i < STORE_SLOTS; i++)
        if (is_same(s->slots[i].left, fd))
            return "it came twice";
    return s->slots[slot].left >= 0 ? "there are two of that name" : NULL;
}

/* Which of two was meant cannot be said. */
static void drop_both(struct store *s, uint32_t slot, const char *name) {
    char own[NAME_MAX_BYTES];
    name_of(slot, s->slots[slot].card, own);
    if (!s->slots[slot].kept || strcmp(own, name))
        notify_remove(name);
    store_remove(s, slot);
}

bool store_offer(void *user, const char *name, int fd) {
    struct store *s = user;
    char card[STORE_CARD_MAX];
    const uint32_t slot = slot_named(name, card);
    if (slot == STORE_SLOTS)
        return false;
    const char *fault = find_fault(s, slot, card, fd);
    if (!fault) {
        s->slots[slot].kept = true;
        s->slots[slot].left = fd;
        memcpy(s->slots[slot].card, card, sizeof card);
        return true;
    }
    log_warning("descriptor %s from systemd's store is closed: %s", name, fault);
    close(fd);
    drop_both(s, slot, name);
    return true;
}

uint64_t store_bytes(const struct store *s) {
    uint64_t bytes = 0;
    struct stat st;
    for (uint32_t i = 0; i < STORE_SLOTS; i++)
        if (s->slots[i].left >= 0 && !s->slots[i].card[0] && fstat(s->slots[i].left, &st) == 0)
            bytes += (uint64_t)st.st_blocks * 512;
    return bytes;
}

static void drop_left(struct store *s) {
    for (uint32_t i = 0; i < STORE_SLOTS; i++)
        store_remove(s, i);
}

void store_start(struct store *s, bool on, bool of_cards) {
    s->on = on;
    s->of_cards = of_cards;
    if (!on)
        drop_left(s);
    for (uint32_t i = 0; i < STORE_SUMS; i++)
        if (s->slots[i].left >= 0 && of_cards != (s->slots[i].card[0] != 0))
            store_remove(s, i);
}

int store_take_sums(struct store *s, const struct model *model, const struct file_identity *file) {
    struct sums sums = {.of = NULL};
    const int fd = s->slots[STORE_SUMS].left;
    bool any = false;
    for (uint32_t i = 0; i < STORE_SLOTS; i++)
        any |= s->slots[i].left >= 0;
    const bool known = fd >= 0 && sums_read(&sums, model, file, fd) == 0 && sums.known;
    sums_finish(&sums);
    if (known) {
        s->slots[STORE_SUMS].left = -1;
        return fd;
    }
    if (any)
        log_notice("the weights that the service before left in memory are not of this model file "
                   "as it is now; they are dropped");
    drop_left(s);
    return -1;
}

int store_take(struct store *s, uint32_t card, const char *identity, uint64_t least,
               uint64_t most) {
    struct stat st;
    char name[STORE_CARD_MAX] = "";
    const int fd = s->slots[card].left;
    if (fd < 0)
        return -1;
    if (s->of_cards)
        store_name_card(identity, name);
    if (fstat(fd, &st) == 0 && (uint64_t)st.st_size >= least && (uint64_t)st.st_size <= most &&
        !strcmp(name, s->slots[card].card)) {
        s->slots[card].left = -1;
        return fd;
    }
    log_notice("the weights that the service before left in memory for card %u are of another "
               "plan; they are dropped",
               card);
    store_remove(s, card);
    return -1;
}

/* --- what is kept --- */

void store_keep(struct store *s, uint32_t slot, const char *identity, int fd) {
    char name[NAME_MAX_BYTES], *card = s->slots[slot].card;
    if (!s->on || s->slots[slot].kept)
        return;
    card[0] = 0;
    if (s->of_cards && slot < STORE_SUMS)
        store_name_card(identity, card);
    name_of(slot, card, name);
    s->slots[slot].kept = notify_keep(name, fd);
}

void store_remove(struct store *s, uint32_t slot) {
    char name[NAME_MAX_BYTES];
    if (s->slots[slot].left >= 0)
        close(s->slots[slot].left);
    s->slots[slot].left = -1;
    if (!s->slots[slot].kept)
        return;
    name_of(slot, s->slots[slot].card, name);
    notify_remove(name);
    s->slots[slot].kept = false;
    s->unsettled |= s->slots[slot].card[0] != 0;
}

void store_settle(struct store *s) {
    if (s->unsettled && !notify_settle(SETTLE_US))
        log_warning("systemd has not said that it let go of memory on the cards");
    s->unsettled = false;
}

void store_finish(struct store *s) {
    for (uint32_t i = 0; i < STORE_SLOTS; i++)
        if (s->slots[i].left >= 0)
            close(s->slots[i].left);
    store_init(s);
}
