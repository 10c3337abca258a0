/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptions of a box: any bytes are a box that holds together, or are refused with a text and
 * nothing is touched. */
#include <stdlib.h>
#include <string.h>

#include "daemon/placement/topology.h"
#include "octarc/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond))                                                                               \
            abort();                                                                               \
    } while (0)

static void check_link(const struct topology *t, uint32_t from, uint32_t to) {
    const struct peer_link *l = &t->links[from][to];
    MUST(l->mode == LINK_DIRECT || l->mode == LINK_STAGED);
    MUST(l->reason[0] && memchr(l->reason, 0, sizeof l->reason));
}

static void check_box(const struct topology *t) {
    MUST(t->n_cards >= 1 && t->n_cards <= CARDS_MAX && t->n_switches <= TOPOLOGY_SWITCHES_MAX);
    MUST(t->origin[0] && t->host.peer_access <= LEVEL_ALL);
    for (uint32_t i = 0; i < t->n_cards; i++) {
        const struct topology_card *c = &t->cards[i];
        MUST(c->memory_bytes >= 1 << 20 && c->name[0] && c->numa < TOPOLOGY_NUMA_MAX);
        MUST(c->in_switch == NO_SWITCH || c->in_switch < t->n_switches);
        for (uint32_t to = 0; to < t->n_cards; to++)
            if (to != i)
                check_link(t, i, to);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static struct topology box, before;
    struct err err = {{0}};
    /* Exactly as long as the text, so that a read behind it is seen. */
    char *text = malloc(n + !n);
    memcpy(text, data, n);
    memset(&box, 0x5A, sizeof box);
    before = box;
    if (topology_read(&box, text, n, "file", &err) == 0)
        check_box(&box);
    else
        MUST(err.text[0] && !memcmp(&box, &before, sizeof box));
    free(text);
    return 0;
}
