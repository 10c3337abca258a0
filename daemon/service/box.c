/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/box.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "daemon/util/available.h"
#include "octarc/error.h"

static int read_text(const char *path, char *text, size_t *n, struct err *err) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t got = fd < 0 ? -1 : 1;
    *n = 0;
    while (got > 0 && *n <= TOPOLOGY_BYTES_MAX) {
        got = read(fd, text + *n, TOPOLOGY_BYTES_MAX + 1 - *n);
        *n += got > 0 ? (size_t)got : 0;
    }
    const int error = errno;
    if (fd >= 0)
        close(fd);
    return got < 0 ? err_set(err, -error, "cannot read the topology %s: %s", path, strerror(error))
                   : 0;
}

static int read_file(const char *path, struct topology *topology, struct err *err) {
    size_t n;
    char *text = malloc(TOPOLOGY_BYTES_MAX + 1);
    if (!text)
        return err_set(err, -ENOMEM, "no memory to read %s", path);
    int rc = read_text(path, text, &n, err);
    if (rc == 0)
        rc = topology_read(topology, text, n, path, err);
    free(text);
    return rc;
}

/* What is said twice must be said alike. */
static int compare(const struct config *config, const struct topology *t, struct err *err) {
    const struct config_sizes *sizes = &config->card_memory;
    if (config->cards_given && config->cards != t->n_cards)
        return err_set(err, -ERANGE,
                       "cards = %u, but the topology %s has %u; leave out one of both",
                       config->cards, config->topology, t->n_cards);
    if (sizes->n > 1 && sizes->n != t->n_cards)
        return err_set(err, -ERANGE,
                       "card_memory has %u sizes, but the topology %s has %u cards; leave out one "
                       "of both",
                       sizes->n, config->topology, t->n_cards);
    for (uint32_t i = 0; i < t->n_cards && sizes->n; i++)
        if (sizes->bytes[sizes->n > 1 ? i : 0] != t->cards[i].memory_bytes)
            return err_set(
                err, -ERANGE,
                "card_memory gives card %u %llu MiB, but the topology %s %llu MiB; leave "
                "out one of both",
                i, (unsigned long long)sizes->bytes[sizes->n > 1 ? i : 0] >> 20, config->topology,
                (unsigned long long)t->cards[i].memory_bytes >> 20);
    return 0;
}

static void make_plain(const struct config *config, struct topology *topology, uint64_t available) {
    const struct config_sizes *sizes = &config->card_memory;
    const uint64_t share = available / 2 / config->cards;
    uint64_t bytes[CARDS_MAX];
    for (uint32_t i = 0; i < config->cards; i++)
        bytes[i] = sizes->n ? sizes->bytes[sizes->n > 1 ? i : 0] : share;
    topology_plain(topology, config->cards, bytes, 0);
}

/* A quarter of a described host's memory: half is what a card that leaves may fill.  Simulated
 * cards take theirs of the host's own: half of what is left then, so that there is never more used
 * than there is. */
static uint64_t choose_spill(const struct config *config, const struct topology *t,
                             uint64_t available) {
    uint64_t cards = 0;
    if (config->host_spill != SHARE_FREE)
        return config->host_spill;
    if (t->origin[0])
        return t->host.memory_bytes / 4;
    for (uint32_t i = 0; i < t->n_cards; i++)
        cards += t->cards[i].memory_bytes;
    return cards < available ? (available - cards) / 2 : 0;
}

int box_read(const struct config *config, uint64_t kept_bytes, struct topology *topology,
             struct err *err) {
    const uint64_t available = memory_available() + kept_bytes;
    struct topology made;
    int rc = 0;
    if (!config->topology[0])
        make_plain(config, &made, available);
    else
        rc = read_file(config->topology, &made, err);
    if (rc == 0 && config->topology[0])
        rc = compare(config, &made, err);
    if (rc == 0 && places_check_cards(&config->places, made.n_cards, err) < 0)
        rc = -ERANGE;
    if (rc < 0)
        return rc;
    made.host.spill_bytes = choose_spill(config, &made, available);
    *topology = made;
    return 0;
}

/* Of a card's memory, for what its driver keeps beside octarc's: a sixteenth. */
static uint64_t usable(uint64_t bytes) {
    return bytes - bytes / 16;
}

static int check_found(const struct config *config, const struct device_found *found, uint32_t n,
                       struct err *err) {
    const struct config_sizes *sizes = &config->card_memory;
    if (n == 0 || n > found->n_cards)
        return err_set(err, -ERANGE, "cards = %u, but this machine has %u", n, found->n_cards);
    if (sizes->n > 1 && sizes->n != n)
        return err_set(err, -ERANGE, "card_memory has %u sizes, but there are %u cards", sizes->n,
                       n);
    uint32_t usable_cards = 0;
    for (uint32_t i = 0; i < n; i++)
        usable_cards += !found->cards[i].why[0];
    if (!usable_cards)
        return err_set(err, -ERANGE, "cards = %u, but the card at %s cannot be used: %s", n,
                       found->cards[0].slot, found->cards[0].why);
    for (uint32_t i = 0; i < n && sizes->n; i++) {
        if (found->cards[i].why[0])
            continue; /* nobody knows what it has */
        const uint64_t wanted = sizes->bytes[sizes->n > 1 ? i : 0];
        if (wanted > usable(found->cards[i].memory_bytes))
            return err_set(err, -ERANGE,
                           "card_memory gives card %u %llu MiB; %llu of it can be "
                           "used",
                           i, (unsigned long long)wanted >> 20,
                           (unsigned long long)usable(found->cards[i].memory_bytes) >> 20);
    }
    return 0;
}

static void name_link(struct peer_link *link, const struct device_found *found, uint32_t reader,
                      uint32_t owner) {
    const bool direct = found->direct[reader][owner];
    const bool unknown = found->cards[reader].why[0] || found->cards[owner].why[0];
    link->mode = direct ? LINK_DIRECT : LINK_STAGED;
    snprintf(link->reason, sizeof link->reason, "%s",
             unknown  ? "one of the two could not be used when the service started"
             : direct ? "the driver says that the card can read the other's memory"
                      : "the driver says that the card cannot read the other's memory");
}

/* What a driver gives every card, or to two, tells none from another. */
static const char *own_text(const struct device_found *found, uint32_t card, size_t at) {
    const char *own = (const char *)&found->cards[card] + at;
    bool other = own[0] && strspn(own, "0-") < strlen(own);
    for (uint32_t i = 0; i < found->n_cards; i++)
        other &= i == card || strcasecmp(own, (const char *)&found->cards[i] + at) != 0;
    return other ? own : "";
}

#define OWN(found, card, member)                                                                   \
    own_text(found, card, offsetof(__typeof__((found)->cards[0]), member))

/* The serial number goes with the card; Intel's driver makes the id out of the slot, among others.
 */
static void name_card(struct topology_card *card, const struct device_found *found, uint32_t i) {
    const char *serial = OWN(found, i, serial), *id = OWN(found, i, id);
    snprintf(card->name, sizeof card->name, "%s", found->cards[i].name);
    snprintf(card->slot, sizeof card->slot, "%s", found->cards[i].slot);
    snprintf(card->id, sizeof card->id, "%s", serial[0] ? serial : id);
    card->uuid = !serial[0] && id[0];
}

int box_found(const struct config *config, const struct device_found *found,
              struct topology *topology, struct err *err) {
    const struct config_sizes *sizes = &config->card_memory;
    const uint32_t n = config->cards_given ? config->cards : found->n_cards;
    uint64_t bytes[CARDS_MAX];
    const int rc = check_found(config, found, n, err);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < n; i++)
        bytes[i] =
            sizes->n ? sizes->bytes[sizes->n > 1 ? i : 0] : usable(found->cards[i].memory_bytes);
    struct topology made;
    topology_plain(&made, n, bytes, 0);
    for (uint32_t i = 0; i < n; i++) {
        name_card(&made.cards[i], found, i);
        made.cards[i].bytes_per_s = found->cards[i].bytes_per_s;
        made.cards[i].int8_ops_per_s = found->cards[i].int8_ops_per_s;
        made.cards[i].f16_flops_per_s = found->cards[i].int8_ops_per_s / 2;
        for (uint32_t k = 0; k < n; k++)
            if (k != i)
                name_link(&made.links[k][i], found, i, k);
    }
    if (places_check_cards(&config->places, n, err) < 0)
        return -ERANGE;
    /* Half of it is what a card that leaves may fill. */
    made.host.spill_bytes =
        config->host_spill != SHARE_FREE ? config->host_spill : memory_available() / 2;
    *topology = made;
    return 0;
}

void box_plan_input(const struct config *config, const struct device_ops *backend,
                    const struct topology *topology, const struct model *model,
                    struct plan_input *input) {
    *input = (struct plan_input){
        .model = model,
        .backend = backend,
        .n_cards = topology->n_cards,
        .topology = topology,
        .split = (enum split)config->split,
        .context = config->context,
        .max_sequences = config->max_sequences,
        .max_rows = STEP_ROWS_MAX,
        .kv_type = (enum kv_type)config->kv_type,
        .host_spill = topology->host.spill_bytes,
        .places = &config->places,
    };
    for (uint32_t i = 0; i < topology->n_cards; i++) {
        input->online[i] = true;
        input->capacity_bytes[i] = topology->cards[i].memory_bytes;
    }
}
