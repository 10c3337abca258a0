/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/held.h"

#include <sys/stat.h>

#include "daemon/placement/layout.h"

static ino_t inode_of(int fd) {
    struct stat st;
    PROMISE(fd >= 0 && fstat(fd, &st) == 0, "a card's memory is not there");
    return st.st_ino;
}

void held_note(struct held *held, const struct plan *plan, const int *fds, uint32_t n_fds) {
    uint32_t next = 0;
    *held = (struct held){{0}};
    for (uint32_t i = 0; i < plan->n_cards && n_fds; i++)
        if (plan->cards[i].weights_bytes) {
            PROMISE(next < n_fds, "an engine is told too little memory");
            held->of[i] = inode_of(fds[next++]);
        }
    PROMISE(next == n_fds, "an engine is told too much memory");
}

bool held_fits(const struct held *used, const struct plan *now, const struct held *told,
               const struct plan *then) {
    for (uint32_t i = 0; i < then->n_cards; i++)
        if (used->of[i] && told->of[i] && now->cards[i].weights_bytes &&
            layout_in_place(now, then, i) != (used->of[i] == told->of[i]))
            return false;
    return true;
}

void held_check(const struct held *used) {
    const struct engines *e = &sim.engines;
    if (e->config->weights != WEIGHTS_SHARED || e->state != ENGINES_SERVING || e->order.under_way)
        return; /* an order may have been given because some of it was lost */
    for (uint32_t i = 0; i < e->n_cards; i++) {
        if (!e->plan.cards[i].weights_bytes || e->lost_here[i])
            continue;
        PROMISE(e->cards[i].memory.fd >= 0, "card %u: its memory is in use, and was dropped", i);
        PROMISE(inode_of(e->cards[i].memory.fd) == used->of[i],
                "card %u: the front holds other memory than its engine uses", i);
    }
}
