/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/advice.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "octarc/error.h"

static const char *const area_names[AREA_COUNT] = {"weights", "KV", "scratch", "the landing"};

static int refuse(const struct device_advice *h, int rc, const char *what, struct err *err) {
    return err_set(err, rc, "card %u: %s of %" PRIu64 " bytes at %" PRIu64 " of %s: %s", h->home,
                   what, h->bytes, h->offset, area_names[h->area], strerror(-rc));
}

int advice_give(const struct device_ops *ops, struct device *device, const struct hints *hints,
                struct advised_card cards[CARDS_MAX], struct err *err) {
    for (size_t i = 0; i < hints->n; i++) {
        const struct device_advice *h = &hints->all[i];
        const int rc = ops->advise(device, h);
        if (rc)
            return refuse(h, rc, "advice", err);
        cards[h->home].advised_bytes += h->bytes;
    }
    return 0;
}

static int prefetch(const struct device_ops *ops, struct device *device,
                    const struct device_advice *h, struct advised_card *card) {
    const int rc = ops->prefetch(device, h->home, h->area, h->offset, h->bytes);
    card->prefetched_bytes += rc ? 0 : h->bytes;
    return rc;
}

/* What cannot be told of one stretch cannot be told of the card. */
static int count(const struct device_ops *ops, struct device *device, const struct device_advice *h,
                 struct advised_card *card) {
    uint64_t resident = 0;
    const int rc = ops->residency(device, h->home, h->area, h->offset, h->bytes, &resident);
    if (rc == -ENOTSUP)
        card->resident_bytes = -1;
    else if (!rc && card->resident_bytes >= 0)
        card->resident_bytes += (int64_t)resident;
    return rc == -ENOTSUP ? 0 : rc;
}

int advice_bring_home(const struct device_ops *ops, struct device *device,
                      const struct hints *hints, uint32_t of, const _Atomic bool *cancelled,
                      struct advised_card cards[CARDS_MAX], struct err *err) {
    for (int counting = 0; counting < 2; counting++)
        for (size_t i = 0; i < hints->n; i++) {
            const struct device_advice *h = &hints->all[i];
            if (!hint_is_prefetched(h) || !(of >> h->home & 1))
                continue;
            if (cancelled && atomic_load(cancelled))
                return -ECANCELED;
            const int rc = counting ? count(ops, device, h, &cards[h->home])
                                    : prefetch(ops, device, h, &cards[h->home]);
            if (rc)
                return refuse(h, rc, counting ? "residency" : "prefetch", err);
        }
    return 0;
}
