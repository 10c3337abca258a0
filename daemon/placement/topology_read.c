/* SPDX-License-Identifier: Apache-2.0 */
/* topology_read.c - a box from its description, a JSON text (octarc-topology(5)). */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/placement/topology.h"
#include "daemon/util/json_fields.h"
#include "octarc/error.h"

#define GB    1e9 /* of rates, as makers count them */
#define TERA  1e12
#define MIB   1048576.0
#define UNSET UINT64_MAX

static const char *const levels[] = {"none", "board", "switch", "numa", "all", NULL};
static const char *const modes[] = {"staged", "direct", NULL};

struct reading {
    struct json json;
    struct err *err;
    const struct cJSON *kinds, *switches, *cards, *host, *links;
    uint32_t n_kinds;
    struct kind {
        char kind[TOPOLOGY_NAME_MAX];
        struct topology_card card;
    } known[TOPOLOGY_KINDS_MAX];
    struct topology made;
};

#define FIELD(type, field) offsetof(type, field), sizeof(((type *)0)->field)
#define N(table)           (sizeof table / sizeof *table)

#define CARD_FIELDS(type, at)                                                                        \
    {"name", JSON_TEXT, false, FIELD(type, at.name), 0, 0, 0, NULL},                                 \
        {"memory_mib", JSON_NUMBER, false, FIELD(type, at.memory_bytes), 1, 1 << 26, MIB, NULL},     \
        {"bandwidth_gb_s", JSON_NUMBER, false, FIELD(type, at.bytes_per_s), 0.001, 1e6, GB, NULL},   \
        {"int8_tops", JSON_NUMBER, false, FIELD(type, at.int8_ops_per_s), 0.001, 1e6, TERA, NULL},   \
        {"f16_tflops", JSON_NUMBER, false, FIELD(type, at.f16_flops_per_s), 0.001, 1e6, TERA, NULL}, \
        {"pcie_generation", JSON_COUNT, false, FIELD(type, at.pcie.generation), 1, 6, 0, NULL}, {    \
        "pcie_lanes", JSON_COUNT, false, FIELD(type, at.pcie.lanes), 1, 16, 0, NULL                  \
    }

/* A list's member as a place, "cards[3]". */
static const char *place(char out[JSON_PATH_MAX], const char *list, uint32_t i) {
    snprintf(out, JSON_PATH_MAX, "%s[%u]", list, i);
    return out;
}

/* --- the host --- */

static int read_host(struct reading *r) {
    struct topology_host *host = &r->made.host;
    static const struct json_field fields[] = {
        {"memory_mib", JSON_NUMBER, false, FIELD(struct topology_host, memory_bytes), 1, 1 << 26,
         MIB, NULL},
        {"bandwidth_gb_s", JSON_NUMBER, false, FIELD(struct topology_host, bytes_per_s), 0.001, 1e6,
         GB, NULL},
        {"evacuation_mib", JSON_NUMBER, false, FIELD(struct topology_host, evacuation_bytes), 0,
         1 << 26, MIB, NULL},
        {"numa_gb_s", JSON_NUMBER, false, FIELD(struct topology_host, numa_bytes_per_s), 0.001, 1e6,
         GB, NULL},
        {"peer_access", JSON_NAME, false, FIELD(struct topology_host, peer_access), 0, 0, 0,
         levels},
    };
    _Static_assert(sizeof host->peer_access == sizeof(uint32_t), "JSON_NAME fills 32 bits");
    host->peer_access = LEVEL_SWITCH;
    host->evacuation_bytes = UNSET;
    if (r->host) {
        const int rc = json_fields(&r->json, r->host, "host", fields, N(fields), host, r->err);
        if (rc < 0)
            return rc;
    }
    if (host->evacuation_bytes == UNSET)
        host->evacuation_bytes = host->memory_bytes / 2;
    if (host->memory_bytes && host->evacuation_bytes > host->memory_bytes)
        return err_set(r->err, -EINVAL, "host.evacuation_mib: more than host.memory_mib");
    return 0;
}

/* --- switches --- */

static int read_switches(struct reading *r) {
    static const struct json_field fields[] = {
        {"name", JSON_TEXT, true, FIELD(struct topology_switch, name), 0, 0, 0, NULL},
        {"numa", JSON_COUNT, false, FIELD(struct topology_switch, numa), 0, TOPOLOGY_NUMA_MAX - 1,
         0, NULL},
        {"pcie_generation", JSON_COUNT, false, FIELD(struct topology_switch, pcie.generation), 1, 6,
         0, NULL},
        {"pcie_lanes", JSON_COUNT, false, FIELD(struct topology_switch, pcie.lanes), 1, 16, 0,
         NULL},
        {"peer_access", JSON_BOOL, false, FIELD(struct topology_switch, peer_access), 0, 0, 0,
         NULL},
    };
    char path[JSON_PATH_MAX];
    for (const struct cJSON *s = NULL; (s = json_next(r->switches, s));) {
        struct topology_switch *made = &r->made.switches[r->made.n_switches];
        made->peer_access = true;
        place(path, "switches", r->made.n_switches);
        const int rc = json_fields(&r->json, s, path, fields, N(fields), made, r->err);
        if (rc < 0)
            return rc;
        for (uint32_t i = 0; i < r->made.n_switches; i++)
            if (!strcmp(r->made.switches[i].name, made->name))
                return err_set(r->err, -EINVAL, "%s.name: switches[%u] is called '%s' too", path, i,
                               made->name);
        r->made.n_switches++;
    }
    return 0;
}

/* --- kinds and cards --- */

static int read_kinds(struct reading *r) {
    static const struct json_field fields[] = {
        {"kind", JSON_TEXT, true, FIELD(struct kind, kind), 0, 0, 0, NULL},
        CARD_FIELDS(struct kind, card),
    };
    char path[JSON_PATH_MAX];
    for (const struct cJSON *k = NULL; (k = json_next(r->kinds, k));) {
        struct kind *made = &r->known[r->n_kinds];
        place(path, "kinds", r->n_kinds);
        const int rc = json_fields(&r->json, k, path, fields, N(fields), made, r->err);
        if (rc < 0)
            return rc;
        for (uint32_t i = 0; i < r->n_kinds; i++)
            if (!strcmp(r->known[i].kind, made->kind))
                return err_set(r->err, -EINVAL, "%s.kind: kinds[%u] is '%s' too", path, i,
                               made->kind);
        r->n_kinds++;
    }
    return 0;
}

struct card_reading {
    struct topology_card card;
    char kind[TOPOLOGY_NAME_MAX], in_switch[TOPOLOGY_NAME_MAX];
    uint32_t numa; /* UINT32_MAX: not given */
};

/* "0000:03:00.0" */
static bool is_slot(const char *slot) {
    static const char form[] = "xxxx:xx:xx.d";
    for (size_t i = 0; form[i]; i++)
        if (form[i] == 'x'   ? !isxdigit((unsigned char)slot[i])
            : form[i] == 'd' ? slot[i] < '0' || slot[i] > '7'
                             : slot[i] != form[i])
            return false;
    return slot[sizeof form - 1] == '\0';
}

static int find_kind(const struct reading *r, const char *path, const char *name,
                     struct topology_card *card) {
    for (uint32_t i = 0; i < r->n_kinds; i++)
        if (!strcmp(r->known[i].kind, name)) {
            *card = r->known[i].card;
            return 0;
        }
    return err_set(r->err, -EINVAL, "%s.kind: no member of kinds is '%s'", path, name);
}

/* Under which switch a card is, and in which NUMA node. */
static int place_card(const struct reading *r, const char *path, struct card_reading *c) {
    uint32_t at = NO_SWITCH;
    for (uint32_t i = 0; i < r->made.n_switches; i++)
        if (!strcmp(r->made.switches[i].name, c->in_switch))
            at = i;
    if (c->in_switch[0] && at == NO_SWITCH)
        return err_set(r->err, -EINVAL, "%s.switch: no member of switches is '%s'", path,
                       c->in_switch);
    const uint32_t given = c->numa != UINT32_MAX ? c->numa : 0;
    c->card.in_switch = at;
    c->card.numa = at == NO_SWITCH ? given : r->made.switches[at].numa;
    if (c->numa != UINT32_MAX && c->numa != c->card.numa)
        return err_set(r->err, -EINVAL, "%s.numa: %u, but its switch '%s' is in node %u", path,
                       c->numa, c->in_switch, c->card.numa);
    return 0;
}

static int check_card(const struct reading *r, const char *path, const struct topology_card *card) {
    if (card->memory_bytes == 0)
        return err_set(r->err, -EINVAL, "%s.memory_mib: this key is needed, here or in the kind",
                       path);
    if (card->slot[0] && !is_slot(card->slot))
        return err_set(r->err, -EINVAL, "%s.slot: '%s' is not like 0000:03:00.0", path, card->slot);
    for (uint32_t i = 0; i < r->made.n_cards; i++) {
        const struct topology_card *other = &r->made.cards[i];
        if (card->slot[0] && !strcasecmp(card->slot, other->slot))
            return err_set(r->err, -EINVAL, "%s.slot: cards[%u] is at %s too", path, i, card->slot);
        if (card->id[0] && !strcmp(card->id, other->id))
            return err_set(r->err, -EINVAL, "%s.id: cards[%u] has '%s' too", path, i, card->id);
    }
    return 0;
}

static int read_card(struct reading *r, const struct cJSON *item) {
    static const struct json_field fields[] = {
        {"kind", JSON_TEXT, false, FIELD(struct card_reading, kind), 0, 0, 0, NULL},
        {"switch", JSON_TEXT, false, FIELD(struct card_reading, in_switch), 0, 0, 0, NULL},
        {"numa", JSON_COUNT, false, FIELD(struct card_reading, numa), 0, TOPOLOGY_NUMA_MAX - 1, 0,
         NULL},
        {"board", JSON_TEXT, false, FIELD(struct card_reading, card.board), 0, 0, 0, NULL},
        {"slot", JSON_TEXT, false, FIELD(struct card_reading, card.slot), 0, 0, 0, NULL},
        {"id", JSON_TEXT, false, FIELD(struct card_reading, card.id), 0, 0, 0, NULL},
        CARD_FIELDS(struct card_reading, card),
    };
    struct card_reading c = {.numa = UINT32_MAX};
    char path[JSON_PATH_MAX];
    place(path, "cards", r->made.n_cards);
    /* Twice: what the card says itself wins over what its kind says, wherever it stands. */
    int rc = json_fields(&r->json, item, path, fields, N(fields), &c, r->err);
    if (rc == 0 && c.kind[0]) {
        rc = find_kind(r, path, c.kind, &c.card);
        if (rc == 0)
            rc = json_fields(&r->json, item, path, fields, N(fields), &c, r->err);
    }
    if (rc == 0)
        rc = place_card(r, path, &c);
    if (rc == 0)
        rc = check_card(r, path, &c.card);
    if (rc < 0)
        return rc;
    if (!c.card.name[0])
        snprintf(c.card.name, sizeof c.card.name, "card");
    if (!c.card.f16_flops_per_s)
        c.card.f16_flops_per_s = c.card.int8_ops_per_s / 2;
    r->made.cards[r->made.n_cards++] = c.card;
    return 0;
}

static int read_cards(struct reading *r) {
    for (const struct cJSON *c = NULL; (c = json_next(r->cards, c));) {
        const int rc = read_card(r, c);
        if (rc < 0)
            return rc;
    }
    if (r->made.n_cards == 0)
        return err_set(r->err, -EINVAL, "cards: the list is empty");
    return 0;
}

/* --- links, one by one --- */

struct link_reading {
    uint32_t from, to, mode;
    uint64_t bytes_per_s, latency_ns;
    char reason[TOPOLOGY_REASON_MAX];
};

static int check_link(const struct reading *r, const char *path, const struct link_reading *l) {
    const struct topology *t = &r->made;
    if (l->from >= t->n_cards || l->to >= t->n_cards)
        return err_set(r->err, -EINVAL, "%s.%s: there is no card %u", path,
                       l->from >= t->n_cards ? "from" : "to",
                       l->from >= t->n_cards ? l->from : l->to);
    if (l->from == l->to)
        return err_set(r->err, -EINVAL, "%s: from and to are the same card", path);
    if (t->links[l->from][l->to].stated)
        return err_set(r->err, -EINVAL, "%s: the link from card %u to card %u is here twice", path,
                       l->from, l->to);
    return 0;
}

static void set_link(struct topology *t, const struct link_reading *l) {
    struct peer_link *link = &t->links[l->from][l->to];
    if (l->mode != UINT32_MAX && (enum link_mode)l->mode != link->mode)
        topology_derive_link(t, l->from, l->to, (enum link_mode)l->mode,
                             l->mode == LINK_DIRECT ? "the file says so"
                                                    : "through host memory: the file says so");
    if (l->bytes_per_s != UNSET)
        link->bytes_per_s = l->bytes_per_s;
    if (l->latency_ns != UNSET)
        link->latency_ns = l->latency_ns;
    if (l->reason[0])
        snprintf(link->reason, sizeof link->reason, "%s", l->reason);
    link->stated = true;
}

static int read_links(struct reading *r) {
    static const struct json_field fields[] = {
        {"from", JSON_COUNT, true, FIELD(struct link_reading, from), 0, CARDS_MAX - 1, 0, NULL},
        {"to", JSON_COUNT, true, FIELD(struct link_reading, to), 0, CARDS_MAX - 1, 0, NULL},
        {"mode", JSON_NAME, false, FIELD(struct link_reading, mode), 0, 0, 0, modes},
        {"bandwidth_gb_s", JSON_NUMBER, false, FIELD(struct link_reading, bytes_per_s), 0.001, 1e6,
         GB, NULL},
        {"latency_us", JSON_NUMBER, false, FIELD(struct link_reading, latency_ns), 0, 1e6, 1e3,
         NULL},
        {"reason", JSON_TEXT, false, FIELD(struct link_reading, reason), 0, 0, 0, NULL},
    };
    uint32_t n = 0;
    char path[JSON_PATH_MAX];
    for (const struct cJSON *item = NULL; (item = json_next(r->links, item));) {
        struct link_reading l = {.mode = UINT32_MAX, .bytes_per_s = UNSET, .latency_ns = UNSET};
        place(path, "links", n++);
        int rc = json_fields(&r->json, item, path, fields, N(fields), &l, r->err);
        if (rc == 0)
            rc = check_link(r, path, &l);
        if (rc < 0)
            return rc;
        set_link(&r->made, &l);
    }
    return 0;
}

/* --- the whole --- */

static int read_parts(struct reading *r) {
    static const struct json_field fields[] = {
        {"description", JSON_TEXT, false, FIELD(struct reading, made.description), 0, 0, 0, NULL},
        {"host", JSON_OBJECT, false, FIELD(struct reading, host), 0, 0, 0, NULL},
        {"switches", JSON_LIST, false, FIELD(struct reading, switches), 0, TOPOLOGY_SWITCHES_MAX, 0,
         NULL},
        {"kinds", JSON_LIST, false, FIELD(struct reading, kinds), 0, TOPOLOGY_KINDS_MAX, 0, NULL},
        {"cards", JSON_LIST, true, FIELD(struct reading, cards), 0, CARDS_MAX, 0, NULL},
        {"links", JSON_LIST, false, FIELD(struct reading, links), 0, CARDS_MAX * (CARDS_MAX - 1), 0,
         NULL},
    };
    int rc = json_fields(&r->json, r->json.root, "", fields, N(fields), r, r->err);
    if (rc == 0)
        rc = read_host(r);
    if (rc == 0)
        rc = read_switches(r);
    if (rc == 0)
        rc = read_kinds(r);
    if (rc == 0)
        rc = read_cards(r);
    if (rc < 0)
        return rc;
    topology_derive(&r->made);
    return read_links(r);
}

int topology_read(struct topology *topology, char *text, size_t n, const char *origin,
                  struct err *err) {
    struct err why = {{0}};
    if (n > TOPOLOGY_BYTES_MAX)
        return err_set(err, -E2BIG, "%.200s: more than %d bytes", origin, TOPOLOGY_BYTES_MAX);
    struct reading *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, -ENOMEM, "no memory to read %.200s", origin);
    r->err = &why;
    int rc = json_read(&r->json, text, n, &why);
    if (rc == 0)
        rc = read_parts(r);
    if (rc == 0) {
        snprintf(r->made.origin, sizeof r->made.origin, "%s", origin);
        *topology = r->made;
    } else {
        err_set(err, rc, "%.200s: %s", origin, why.text);
    }
    json_finish(&r->json);
    free(r);
    return rc;
}
