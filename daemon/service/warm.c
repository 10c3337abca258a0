/* SPDX-License-Identifier: Apache-2.0 */
/* Weight memory that outlives the service: what the one before left, and what is kept for the next.
 */
#include <unistd.h>

#include "daemon/placement/layout.h"
#include "daemon/service/line.h"
#include "daemon/service/memory.h"
#include "daemon/service/store.h"
#include "daemon/util/log.h"

/* How long a card's memory may be: of a real one it takes room, and has no part in host memory. */
static uint64_t most_bytes(const struct engines *e, uint32_t card) {
    const struct plan_card *c = &e->plan.cards[card];
    const uint64_t others = c->kv_bytes + c->scratch_bytes + c->landing_bytes;
    if (e->config->weights != WEIGHTS_HELD)
        return UINT64_MAX;
    return c->spilled_bytes || others > c->capacity_bytes ? 0 : c->capacity_bytes - others;
}

void line_take_left(struct engines *e, uint32_t card) {
    const uint64_t bytes = layout_end(&e->plan, card);
    struct card_memory *memory = &e->cards[card].memory;
    if (!e->store || bytes == 0 || memory->fd >= 0)
        return;
    const int fd =
        store_take(e->store, card, e->cards[card].card.identity.text, bytes, most_bytes(e, card));
    if (fd >= 0)
        memory_adopt(memory, &e->plan, card, fd);
}

void line_keep(struct engines *e, bool filled) {
    if (!e->store)
        return;
    for (uint32_t i = 0; i < CARDS_MAX; i++) {
        struct card_memory *memory = &e->cards[i].memory;
        if (!memory->kept)
            store_remove(e->store, i);
        if (memory->fd < 0 || !filled || memory->n_more)
            continue;
        store_keep(e->store, i, e->cards[i].card.identity.text, memory->fd);
        memory->kept = true;
    }
    if (filled)
        store_keep(e->store, STORE_SUMS, "", e->loaded->sums_fd);
    else
        store_settle(e->store);
}

bool line_forget_left(struct engines *e) {
    bool any = false;
    for (uint32_t i = 0; i < CARDS_MAX; i++) {
        if (!e->cards[i].memory.left)
            continue;
        memory_drop(&e->cards[i].memory);
        any = true;
    }
    line_keep(e, false);
    return any && ftruncate(e->loaded->sums_fd, 0) == 0;
}

void line_tell_left(struct engines *e) {
    uint64_t whole = 0;
    bool any = false;
    for (uint32_t i = 0; i < e->n_cards; i++) {
        struct card_memory *memory = &e->cards[i].memory;
        const struct ready_card *card = &e->ready.cards[i];
        whole += memory->left ? card->kept_bytes : 0;
        if (memory->left && card->kept_bytes < card->weights_bytes)
            log_warning("the weights that the service before left in memory for card %u are not "
                        "what they were or not the plan's; they were read again",
                        i);
        any |= memory->left;
        memory->left = false;
    }
    if (any)
        log_notice("%llu MiB of weights that the service before left in memory are whole and used",
                   (unsigned long long)whole >> 20);
}
