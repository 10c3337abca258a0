/* SPDX-License-Identifier: Apache-2.0 */
/* level_zero.c - opening real cards, and the table of the backend. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/device/drm/known.h"
#include "daemon/device/level_zero/abilities.h"
#include "daemon/device/level_zero/backend.h"
#include "daemon/device/level_zero/cards.h"
#include "daemon/device/level_zero/links.h"
#include "daemon/device/level_zero/mask.h"
#include "daemon/device/level_zero/modules.h"
#include "daemon/device/level_zero/svm.h"
#include "daemon/device/pack.h"
#include "octarc/error.h"

#define VENDOR_INTEL 0x8086u
#define DRIVERS_MAX  8
#define DEVICES_MAX  64

static uint64_t packed_bytes(uint32_t type, bool vector, uint64_t rows, uint64_t cols) {
    return pack_bytes(type, vector, rows, cols);
}

/* Devices in the order of their PCI addresses, which is not the driver's. */
struct found {
    ze_device_handle_t device;
    uint64_t address;
};

static int by_address(const void *a, const void *b) {
    const uint64_t x = ((const struct found *)a)->address, y = ((const struct found *)b)->address;
    return (x > y) - (x < y);
}

static uint64_t pci_address(const struct ze_api *api, ze_device_handle_t device) {
    ze_pci_ext_properties_t pci = {.stype = ZE_STRUCTURE_TYPE_PCI_EXT_PROPERTIES};
    if (api->zeDevicePciGetPropertiesExt(device, &pci))
        return UINT64_MAX;
    return (uint64_t)pci.address.domain << 32 | pci.address.bus << 16 | pci.address.device << 8 |
           pci.address.function;
}

static void write_address(uint64_t a, char out[16]) {
    out[0] = 0;
    if (a != UINT64_MAX)
        snprintf(out, 16, "%04x:%02x:%02x.%x", (unsigned)(a >> 32) & 0xffff,
                 (unsigned)(a >> 16) & 0xff, (unsigned)(a >> 8) & 0xff, (unsigned)a & 7);
}

/* The devices of the first driver that has a discrete GPU. */
static int find_devices(struct device *d, struct found found[DEVICES_MAX], uint32_t *n,
                        struct err *err) {
    ze_driver_handle_t drivers[DRIVERS_MAX];
    uint32_t n_drivers = DRIVERS_MAX;
    int rc = ze_failed(d->api->zeDriverGet(&n_drivers, drivers), "zeDriverGet", err);
    *n = 0;
    for (uint32_t i = 0; i < n_drivers && !rc && *n == 0; i++) {
        ze_device_handle_t devices[DEVICES_MAX];
        uint32_t count = DEVICES_MAX;
        rc = ze_failed(d->api->zeDeviceGet(drivers[i], &count, devices), "zeDeviceGet", err);
        for (uint32_t k = 0; k < count && !rc; k++) {
            ze_device_properties_t p = {.stype = ZE_STRUCTURE_TYPE_DEVICE_PROPERTIES};
            if (d->api->zeDeviceGetProperties(devices[k], &p) || p.type != ZE_DEVICE_TYPE_GPU ||
                p.flags & ZE_DEVICE_PROPERTY_FLAG_INTEGRATED)
                continue;
            found[(*n)++] = (struct found){devices[k], pci_address(d->api, devices[k])};
        }
        d->driver = drivers[i];
    }
    if (!rc)
        qsort(found, *n, sizeof *found, by_address);
    return rc;
}

static int compute_queue(const struct ze_api *api, ze_device_handle_t device, uint32_t *ordinal,
                         struct err *err) {
    ze_command_queue_group_properties_t groups[16];
    uint32_t n = 16;
    for (int i = 0; i < 16; i++)
        groups[i] = (ze_command_queue_group_properties_t){
            .stype = ZE_STRUCTURE_TYPE_COMMAND_QUEUE_GROUP_PROPERTIES};
    const int rc = ze_failed(api->zeDeviceGetCommandQueueGroupProperties(device, &n, groups),
                             "zeDeviceGetCommandQueueGroupProperties", err);
    for (uint32_t i = 0; i < n && !rc; i++)
        if (groups[i].flags & ZE_COMMAND_QUEUE_GROUP_PROPERTY_FLAG_COMPUTE) {
            *ordinal = i;
            return 0;
        }
    return rc ? rc : err_set(err, -ENOTSUP, "the card has no queue for kernels");
}

static int make_queues(struct device *d, struct ze_card *c, struct err *err) {
    ze_command_queue_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_COMMAND_QUEUE_DESC,
                                    .ordinal = c->ordinal,
                                    .mode = ZE_COMMAND_QUEUE_MODE_ASYNCHRONOUS,
                                    .priority = ZE_COMMAND_QUEUE_PRIORITY_NORMAL};
    const int rc = ze_failed(d->api->zeCommandQueueCreate(d->context, c->handle, &desc, &c->queue),
                             "zeCommandQueueCreate", err);
    desc.mode = ZE_COMMAND_QUEUE_MODE_SYNCHRONOUS;
    return rc ? rc
              : ze_failed(d->api->zeCommandListCreateImmediate(d->context, c->handle, &desc,
                                                               &c->transfer),
                          "zeCommandListCreateImmediate", err);
}

static int card_memory(const struct ze_api *api, ze_device_handle_t device, uint64_t *bytes,
                       struct err *err) {
    ze_device_memory_properties_t memory[8];
    uint32_t n = 8;
    for (int i = 0; i < 8; i++)
        memory[i] =
            (ze_device_memory_properties_t){.stype = ZE_STRUCTURE_TYPE_DEVICE_MEMORY_PROPERTIES};
    const int rc = ze_failed(api->zeDeviceGetMemoryProperties(device, &n, memory),
                             "zeDeviceGetMemoryProperties", err);
    *bytes = 0;
    for (uint32_t i = 0; i < n && !rc; i++)
        *bytes += memory[i].totalSize;
    return rc;
}

/* Which of them are lost: only a card itself says so. */
static void ask_all(struct device *d) {
    for (uint32_t i = 0; i < d->n_cards; i++)
        if (d->cards[i].handle && !d->cards[i].lost)
            d->cards[i].lost =
                d->api->zeDeviceGetStatus(d->cards[i].handle) == ZE_RESULT_ERROR_DEVICE_LOST;
}

int level_zero_failed(struct device *d, int rc) {
    if (rc == -ENODEV)
        ask_all(d);
    return rc;
}

static int open_card(struct device *d, uint32_t card, const struct device_options *o,
                     struct err *err) {
    struct ze_card *c = &d->cards[card];
    struct abilities can = {.xmx = false};
    uint64_t all = 0;
    level_zero_waits(d, card);
    int rc = card_memory(d->api, c->handle, &all, err);
    if (!rc)
        rc = abilities_ask(d->api, c->handle, &can, err);
    if (!rc)
        rc = compute_queue(d->api, c->handle, &c->ordinal, err);
    if (!rc)
        rc = make_queues(d, c, err);
    level_zero_waited(d, card);
    if (!rc)
        rc = level_zero_alloc_host(d, STAGE_BYTES, &c->stage, err);
    if (rc)
        return rc;
    c->capacity_bytes =
        o->capacity_bytes[card] && o->capacity_bytes[card] < all ? o->capacity_bytes[card] : all;
    c->host_bytes = o->host_bytes[card];
    c->xmx = can.xmx;
    c->native = can.native;
    memcpy(c->xmx_why, can.xmx_why, sizeof c->xmx_why);
    memcpy(c->native_why, can.native_why, sizeof c->native_why);
    c->stale = true;
    c->present = true;
    if (o->hold)
        held_ask(d, card);
    return 0;
}

static void ask_peers(struct device *d, const uint32_t staged[CARDS_MAX]) {
    for (uint32_t a = 0; a < d->n_cards; a++)
        for (uint32_t b = 0; b < d->n_cards; b++) {
            ze_bool_t can = false;
            if (a != b && d->cards[a].present && d->cards[b].present)
                d->api->zeDeviceCanAccessPeer(d->cards[a].handle, d->cards[b].handle, &can);
            d->direct[a][b] = can && !(staged[a] >> b & 1);
        }
}

static void level_zero_close(struct device *d) {
    if (!d)
        return;
    level_zero_unload(d);
    /* Of all cards first: memory may be advised in the others' VMs. */
    for (uint32_t i = 0; i < d->n_cards; i++)
        for (int a = 0; a < AREA_COUNT; a++)
            level_zero_release(d, i, (enum area)a);
    svm_close(d);
    for (uint32_t i = 0; i < d->n_cards; i++) {
        struct ze_card *c = &d->cards[i];
        modules_free(d, i);
        level_zero_free(d, c->stage);
        if (c->queue)
            d->api->zeCommandQueueDestroy(c->queue);
        if (c->transfer)
            d->api->zeCommandListDestroy(c->transfer);
        pthread_mutex_destroy(&c->transferring);
    }
    if (d->context)
        d->api->zeContextDestroy(d->context);
    free(d);
}

/* A card that is gone moves the others' places, not their addresses. */
static int choose_card(const struct found *found, uint32_t n, const char *slot, uint32_t card,
                       ze_device_handle_t *handle, struct err *err) {
    for (uint32_t i = 0; i < n; i++) {
        char address[16];
        write_address(found[i].address, address);
        if (slot[0] ? !strcmp(slot, address) : i == card) {
            *handle = found[i].device;
            return 0;
        }
    }
    return err_set(err, -ENODEV, "card %u%s%s is not there", card, slot[0] ? " at " : "", slot);
}

void level_zero_slot(const struct device *d, uint32_t card, char slot[16]) {
    write_address(pci_address(d->api, d->cards[card].handle), slot);
}

uint32_t level_zero_handles(const struct device *d, ze_device_handle_t handles[CARDS_MAX]) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->n_cards; i++)
        if (d->cards[i].handle)
            handles[n++] = d->cards[i].handle;
    return n;
}

/* A card that cannot be opened, whatever its driver says of it, is one that cannot be used. */
static int refuse_card(struct device *d, uint32_t card, int rc, const struct err *why,
                       struct err *err) {
    if (rc == -ENOMEM)
        return err_set(err, rc, "%s", why->text);
    d->cards[card].lost = true;
    return err_set(err, -ENODEV, "card %u cannot be opened: %s", card, why->text);
}

static int choose_cards(struct device *d, const struct device_options *o, struct err *err) {
    struct found found[DEVICES_MAX];
    struct err why = {{0}};
    uint32_t n;
    int rc = find_devices(d, found, &n, err), failed = 0;
    for (uint32_t i = 0; i < o->n_cards && !rc; i++) {
        if (!o->present[i])
            continue;
        const int one = choose_card(found, n, o->slots[i], i, &d->cards[i].handle, &why);
        if (one)
            failed = refuse_card(d, i, one, &why, err);
    }
    return rc ? rc : failed;
}

static int open_each(struct device *d, const struct device_options *o, struct err *err) {
    struct err why = {{0}};
    int rc = 0;
    for (uint32_t i = 0; i < o->n_cards; i++) {
        int one = o->present[i] ? open_card(d, i, o, &why) : 0;
        if (!one && o->present[i] && !o->untried)
            one = links_try_host(d, i, &why);
        if (one)
            rc = refuse_card(d, i, one, &why, err);
    }
    return rc;
}

/* The context is of the cards in use alone: host memory made in it is made for all of them. */
static int open_cards(struct device *d, const struct device_options *o, struct err *err) {
    const ze_context_desc_t desc = {.stype = ZE_STRUCTURE_TYPE_CONTEXT_DESC};
    ze_device_handle_t handles[CARDS_MAX];
    int rc = choose_cards(d, o, err);
    const uint32_t n = level_zero_handles(d, handles);
    if (!rc)
        rc = ze_failed(d->api->zeContextCreateEx(d->driver, &desc, n, handles, &d->context),
                       "zeContextCreateEx", err);
    if (!rc)
        rc = open_each(d, o, err);
    if (!rc)
        ask_peers(d, o->staged);
    if (!rc)
        rc = links_try(d, err);
    if (!rc && o->measure_links)
        rc = links_measure(d, err);
    return rc ? rc : svm_choose(d, o, err);
}

static void tell_lost(const struct device *d, uint32_t *lost) {
    for (uint32_t i = 0; lost && i < d->n_cards; i++)
        *lost |= d->cards[i].lost ? 1u << i : 0;
}

/* Which kernels it would have; where that cannot be told, why is said of both. */
static void describe_kernels(const struct ze_api *api, ze_device_handle_t device,
                             struct device_found *made, uint32_t i) {
    struct abilities can = {.xmx = false};
    struct err why = {{0}};
    if (abilities_ask(api, device, &can, &why)) {
        snprintf(can.xmx_why, sizeof can.xmx_why, "%.*s", DEVICE_XMX_WHY - 1, why.text);
        snprintf(can.native_why, sizeof can.native_why, "%.*s", DEVICE_NATIVE_WHY - 1, why.text);
    }
    made->cards[i].xmx = can.xmx;
    made->cards[i].native = can.native;
    memcpy(made->cards[i].xmx_why, can.xmx_why, sizeof can.xmx_why);
    memcpy(made->cards[i].native_why, can.native_why, sizeof can.native_why);
}

static int describe_found(const struct ze_api *api, const struct found *found,
                          struct device_found *made, struct err *err) {
    ze_device_properties_t p = {.stype = ZE_STRUCTURE_TYPE_DEVICE_PROPERTIES};
    const uint32_t i = made->n_cards;
    int rc = ze_failed(api->zeDeviceGetProperties(found->device, &p), "zeDeviceGetProperties", err);
    if (!rc)
        rc = card_memory(api, found->device, &made->cards[i].memory_bytes, err);
    if (rc)
        return rc;
    snprintf(made->cards[i].name, sizeof made->cards[i].name, "%.63s", p.name);
    const struct known_card *known = p.vendorId == VENDOR_INTEL ? known_find(p.deviceId) : NULL;
    made->cards[i].bytes_per_s = known ? known->gb_s * UINT64_C(1000000000) : 0;
    made->cards[i].int8_ops_per_s = known ? known->tops * UINT64_C(1000000000000) : 0;
    for (uint32_t k = 0; k < sizeof p.uuid.id; k++)
        snprintf(made->cards[i].id + 2 * k, 3, "%02x", p.uuid.id[k]);
    describe_kernels(api, found->device, made, i);
    return 0;
}

/* One that does not tell what it is cannot be used, and the others can. */
static int describe_all(const struct ze_api *api, const struct found *found, uint32_t n,
                        struct device_found *made, struct err *err) {
    struct err why = {{0}};
    int rc = 0;
    for (; made->n_cards < n && made->n_cards < CARDS_MAX; made->n_cards++) {
        const uint32_t i = made->n_cards;
        const int one = describe_found(api, &found[i], made, &why);
        write_address(found[i].address, made->cards[i].slot);
        if (one)
            snprintf(made->cards[i].why, DEVICE_REFUSED_WHY, "%.*s", (int)DEVICE_REFUSED_WHY - 1,
                     why.text);
        rc = one ? one : rc;
    }
    return device_usable(made) ? 0 : err_set(err, rc, "%s", why.text);
}

/* What a report names; a driver that does not tell it drives cards all the same. */
static void describe_driver(const struct device *d, struct device_found *made) {
    ze_driver_properties_t p = {.stype = ZE_STRUCTURE_TYPE_DRIVER_PROPERTIES};
    ze_api_version_t version;
    if (!d->api->zeDriverGetProperties(d->driver, &p))
        made->driver_version = p.driverVersion;
    if (!d->api->zeDriverGetApiVersion(d->driver, &version))
        snprintf(made->api, sizeof made->api, "%u.%u", ZE_MAJOR_VERSION(version) & 0xffffu,
                 ZE_MINOR_VERSION(version) & 0xffffu);
    ze_loader_version(made->loader);
}

static int level_zero_probe(struct device_found *out, struct err *err) {
    struct device d = {.ops = &level_zero_ops};
    struct device_found made = {0};
    struct found found[DEVICES_MAX];
    uint32_t n = 0;
    int rc = ze_api_open(&d.api, err);
    if (!rc)
        rc = find_devices(&d, found, &n, err);
    if (!rc && n == 0)
        rc = err_set(err, -ENODEV, "Level Zero finds no card");
    if (!rc)
        rc = describe_all(d.api, found, n, &made, err);
    if (rc)
        return rc;
    describe_driver(&d, &made);
    for (uint32_t i = 0; i < made.n_cards; i++)
        for (uint32_t k = 0; k < made.n_cards; k++) {
            ze_bool_t can = false;
            if (k != i && !made.cards[i].why[0] && !made.cards[k].why[0])
                d.api->zeDeviceCanAccessPeer(found[i].device, found[k].device, &can);
            made.direct[i][k] = can;
        }
    *out = made;
    return 0;
}

static bool is_shown(const struct found *found, uint32_t n, const char *slot) {
    char address[16];
    for (uint32_t i = 0; i < n; i++) {
        write_address(found[i].address, address);
        if (!strcmp(slot, address))
            return true;
    }
    return false;
}

bool level_zero_shows(const struct device_options *o) {
    struct device d = {.ops = &level_zero_ops};
    struct found found[DEVICES_MAX];
    struct err ignored;
    uint32_t n = 0;
    bool right = !ze_api_open(&d.api, &ignored) && !find_devices(&d, found, &n, &ignored);
    for (uint32_t i = 0; i < o->n_cards && right; i++)
        right = is_shown(found, n, o->slots[i]) == o->present[i];
    return right;
}

static int level_zero_open(struct device **out, const struct device_options *o, struct err *err) {
    const struct ze_api *api;
    int rc = ze_api_open(&api, err);
    if (rc)
        return rc;
    if (o->n_cards == 0 || o->n_cards > CARDS_MAX || o->max_rows == 0)
        return err_set(err, -EINVAL, "%u cards and %u rows cannot be", o->n_cards, o->max_rows);
    struct device *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(err, -ENOMEM, "no memory for a device");
    d->ops = &level_zero_ops;
    d->api = api;
    d->calls = o->calls;
    d->n_cards = o->n_cards;
    d->max_rows = o->max_rows;
    d->hold = o->hold;
    for (uint32_t i = 0; i < d->n_cards; i++)
        pthread_mutex_init(&d->cards[i].transferring, NULL);
    rc = level_zero_failed(d, open_cards(d, o, err));
    if (rc == -ENODEV)
        tell_lost(d, o->lost);
    if (rc)
        level_zero_close(d);
    else
        *out = d;
    return rc;
}

static int level_zero_properties(struct device *d, uint32_t card, struct device_properties *out) {
    ze_device_properties_t p = {.stype = ZE_STRUCTURE_TYPE_DEVICE_PROPERTIES};
    if (card >= d->n_cards || !d->cards[card].present)
        return -EINVAL;
    const struct ze_card *c = &d->cards[card];
    if (c->lost)
        return -ENODEV;
    const int rc =
        ze_failed(d->api->zeDeviceGetProperties(c->handle, &p), "zeDeviceGetProperties", NULL);
    if (rc)
        return rc;
    *out = (struct device_properties){.capacity_bytes = c->capacity_bytes,
                                      .fetched_bytes = c->fetched_bytes,
                                      .misread = c->misread,
                                      .svm = d->svm,
                                      .xmx = c->xmx,
                                      .native = c->native};
    memcpy(out->xmx_why, c->xmx_why, sizeof out->xmx_why);
    memcpy(out->native_why, c->native_why, sizeof out->native_why);
    memcpy(out->storage_why, d->storage_why, sizeof out->storage_why);
    memcpy(out->links, c->links, sizeof out->links);
    for (uint32_t i = 0; i < d->n_cards; i++)
        out->direct |= d->direct[card][i] ? 1u << i : 0;
    snprintf(out->name, sizeof out->name, "%.*s", (int)sizeof out->name - 1, p.name);
    for (int a = 0; a < AREA_COUNT; a++) {
        out->used_bytes[a] = c->areas[a].bytes;
        out->room_bytes[a] = c->areas[a].room;
    }
    return 0;
}

/* Not a stretch that is on the card in part only. */
static bool in_svm(const struct device *d, uint32_t card, enum area area, uint64_t offset,
                   uint64_t bytes) {
    const struct ze_area *a = &d->cards[card].areas[area];
    return a->away && offset + bytes <= a->split;
}

/* Device allocations lie on their card, whatever is said; an exchange is given its sender's. */
static int level_zero_advise(struct device *d, const struct device_advice *advice) {
    const int rc = level_zero_has(d, advice->home, advice->area, advice->offset, advice->bytes);
    return rc || !in_svm(d, advice->home, advice->area, advice->offset, advice->bytes)
               ? rc
               : svm_advise(d, advice->home, advice->readers);
}

static int level_zero_prefetch(struct device *d, uint32_t card, enum area area, uint64_t offset,
                               uint64_t bytes) {
    const int rc = level_zero_has(d, card, area, offset, bytes);
    return rc || !in_svm(d, card, area, offset, bytes) ? rc : svm_prefetch(d, card, offset, bytes);
}

static int level_zero_discard(struct device *d, uint32_t card, enum area area, uint64_t offset,
                              uint64_t bytes) {
    return level_zero_has(d, card, area, offset, bytes);
}

/* The driver may move a card's memory to the host's when it is short, and tells nobody. */
static int level_zero_residency(struct device *d, uint32_t card, enum area area, uint64_t offset,
                                uint64_t bytes, uint64_t *resident) {
    const int rc = level_zero_has(d, card, area, offset, bytes);
    if (!rc && d->svm && (area != AREA_WEIGHTS || in_svm(d, card, area, offset, bytes)))
        return svm_residency(d, card, area, offset, bytes, resident);
    return rc ? rc : -ENOTSUP;
}

static int level_zero_hang(struct device *d, uint32_t card) {
    return card < d->n_cards && d->cards[card].present ? -ENOTSUP : -EINVAL;
}

static int level_zero_profile(struct device *d, struct device_profile *profile) {
    (void)d, (void)profile;
    return -ENOTSUP;
}

static int level_zero_huge(struct device *d, uint64_t bytes[CARDS_MAX]) {
    (void)d, (void)bytes;
    return -ENOTSUP;
}

const struct device_ops level_zero_ops = {
    .name = "level_zero",
    .dense = true,
    .apart = true,
    .packed_bytes = packed_bytes,
    .probe = level_zero_probe,
    .hide = mask_hide,
    .open = level_zero_open,
    .close = level_zero_close,
    .properties = level_zero_properties,
    .reserve = level_zero_reserve,
    .share = level_zero_share,
    .release = level_zero_release,
    .extend = level_zero_extend,
    .hold = held_hold,
    .clear = level_zero_clear,
    .advise = level_zero_advise,
    .pack = level_zero_pack,
    .digest = level_zero_digest,
    .digest_part = level_zero_digest_part,
    .peek = level_zero_peek,
    .poke = level_zero_poke,
    .copy = level_zero_copy,
    .prefetch = level_zero_prefetch,
    .discard = level_zero_discard, /* device memory is not the host's to give back */
    .residency = level_zero_residency,
    .check = level_zero_check,
    .load = level_zero_load,
    .step = level_zero_step,
    .lose = level_zero_lose,
    .pending = level_zero_pending,
    .hang = level_zero_hang,
    .measure = level_zero_measure,
    .profile = level_zero_profile,
    .huge = level_zero_huge,
};
