/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/level_zero/receipts.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/device/level_zero/launches.h"
#include "daemon/device/level_zero/recordings.h"
#include "daemon/util/log.h"

int receipts_make(struct device *d, struct err *err) {
    int rc = 0;
    for (uint32_t i = 0; i < d->n_cards && !rc; i++) {
        struct ze_card *c = &d->cards[i];
        const uint64_t bytes = (uint64_t)c->n_receipts * sizeof *c->receipts_stage;
        char *stage = NULL;
        if (c->n_receipts == 0)
            continue;
        rc = level_zero_alloc_card(d, i, bytes, &c->receipts, err);
        if (!rc)
            rc = level_zero_fill(d, i, c->receipts, bytes);
        if (!rc)
            rc = level_zero_alloc_host(d, bytes, &stage, err);
        if (!rc)
            c->receipts_stage = (uint32_t *)(void *)stage;
    }
    return rc;
}

void receipts_free(struct device *d) {
    for (uint32_t i = 0; i < d->n_cards; i++) {
        struct ze_card *c = &d->cards[i];
        level_zero_free(d, c->receipts);
        level_zero_free(d, c->receipts_stage);
        c->receipts = NULL;
        c->receipts_stage = NULL;
        c->n_receipts = 0;
    }
}

static void tell(const struct device *d, uint32_t card, uint32_t number) {
    for (size_t i = 0; i < d->n_launches; i++) {
        const struct ze_launch *l = &d->launches[i];
        if (l->card == card && l->kernel && number - l->number < l->n_numbers)
            log_warning("card %u: a kernel of layer %d (operation %d, launch %u) has not said that "
                        "it ran: its driver took other arguments than it says, or the card's way "
                        "to the host delivers other bytes",
                        card, l->op->layer, l->op->kind, number);
    }
}

int receipts_look(const struct device *d, const struct ze_recording *of, uint32_t id,
                  uint32_t *card) {
    for (uint32_t i = 0; i < d->n_cards; i++) {
        const uint32_t *found = d->cards[i].receipts_stage, *due = of->due[i];
        uint32_t wrong = 0, n = found && due ? d->cards[i].n_receipts : 0;
        for (uint32_t k = 0; k < n; k++)
            wrong |= (found[k] ^ id) & due[k];
        for (uint32_t k = 0; k < n && wrong; k++)
            if ((found[k] ^ id) & due[k]) {
                tell(d, i, k);
                *card = i;
                return -ENODEV;
            }
    }
    return 0;
}
