/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/box_links.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

static uint64_t mix(uint64_t sum, const void *bytes, size_t n) {
    return sum * 31 + device_digest(bytes, n);
}

void box_links_key(const struct topology *t, const struct device_found *found,
                   char key[LINKS_BOX_MAX]) {
    struct utsname name;
    memset(&name, 0, sizeof name);
    uname(&name);
    uint64_t sum = mix(0, OCTARC_VERSION, sizeof OCTARC_VERSION);
    sum = mix(sum, name.release, strlen(name.release));
    for (uint32_t i = 0; i < t->n_cards; i++) {
        const struct topology_card *card = &t->cards[i];
        sum = mix(sum, card->slot, strlen(card->slot));
        sum = mix(sum, card->name, strlen(card->name));
        sum = mix(sum, found->cards[i].id, strlen(found->cards[i].id));
        sum = mix(sum, &found->cards[i].memory_bytes, sizeof found->cards[i].memory_bytes);
        sum = mix(sum, found->direct[i], t->n_cards * sizeof *found->direct[i]);
    }
    snprintf(key, LINKS_BOX_MAX, "%016llx", (unsigned long long)sum);
}

static void stage(struct peer_link *link, const char *why) {
    link->mode = LINK_STAGED;
    link->judged = true;
    snprintf(link->reason, sizeof link->reason, "%s", why);
}

bool box_links_apply(struct topology *t, const box_identities identities,
                     const struct links_known *known) {
    bool all = true;
    for (uint32_t from = 0; from < t->n_cards; from++)
        for (uint32_t to = 0; to < t->n_cards; to++) {
            const struct link_known *l =
                from == to ? NULL : links_known_find(known, identities[from], identities[to]);
            struct peer_link *link = &t->links[from][to];
            all &= from == to || (l && l->latency_ns);
            if (!l)
                continue;
            link->bytes_per_s = l->bytes_per_s;
            link->latency_ns = l->latency_ns;
            link->measured_ms = l->latency_ns ? known->measured_ms : 0;
            if (l->why[0])
                stage(link, l->why);
        }
    return all;
}

/* The one of the report that is in that slot; CARDS_MAX: none. */
static uint32_t card_at(const struct selftest_report *r, const char *slot) {
    for (uint32_t i = 0; i < r->found.n_cards && slot[0]; i++)
        if (!strcmp(r->found.cards[i].slot, slot))
            return i;
    return CARDS_MAX;
}

static bool take_link(struct peer_link *link, const struct selftest_link *l, uint64_t now_ms) {
    if (!l->tried || !l->speed.latency_ns)
        return false;
    link->bytes_per_s = l->speed.bytes_per_s;
    link->latency_ns = l->speed.latency_ns;
    link->measured_ms = now_ms;
    if (l->why[0]) {
        stage(link, l->why);
    } else if (l->direct) {
        link->mode = LINK_DIRECT;
        link->judged = false;
        snprintf(link->reason, sizeof link->reason,
                 "what the card read of the other's memory was right");
    }
    return true;
}

uint32_t box_links_take(struct topology *t, const struct selftest_report *r, uint64_t now_ms) {
    uint32_t n = 0;
    for (uint32_t from = 0; from < t->n_cards; from++)
        for (uint32_t to = 0; to < t->n_cards; to++) {
            const uint32_t a = card_at(r, t->cards[from].slot), b = card_at(r, t->cards[to].slot);
            if (from != to && a < CARDS_MAX && b < CARDS_MAX)
                n += take_link(&t->links[from][to], &r->links[b][a], now_ms);
        }
    return n;
}

void box_links_note(const struct topology *t, const box_identities identities,
                    struct links_known *known) {
    known->n = 0;
    for (uint32_t from = 0; from < t->n_cards; from++)
        for (uint32_t to = 0; to < t->n_cards; to++) {
            const struct peer_link *link = &t->links[from][to];
            if (from == to)
                continue;
            struct link_known *l = &known->links[known->n++];
            *l = (struct link_known){.mode = link->mode};
            snprintf(l->from, sizeof l->from, "%s", identities[from]);
            snprintf(l->to, sizeof l->to, "%s", identities[to]);
            if (link->measured_ms) {
                l->bytes_per_s = link->bytes_per_s;
                l->latency_ns = link->latency_ns;
            }
            if (link->judged)
                snprintf(l->why, sizeof l->why, "%s", link->reason);
        }
}

void box_links_demote(struct peer_link *link, const char *why) {
    stage(link, why);
    link->bytes_per_s /= 2;
    link->latency_ns *= 2;
    link->measured_ms = 0;
}
