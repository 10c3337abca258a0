/* SPDX-License-Identifier: Apache-2.0 */
/* probe_report.c - the reader's side of a report. */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "daemon/engine/probe.h"
#include "octarc/error.h"

#define END(text) ((text)[sizeof(text) - 1] = '\0')

static void bound_card(struct drm_card *card) {
    END(card->slot), END(card->serial), END(card->name), END(card->driver), END(card->primary),
        END(card->render);
    END(card->render_group), END(card->link.at), END(card->cpus);
    card->n_bridges = card->n_bridges < DRM_BRIDGES_MAX ? card->n_bridges : DRM_BRIDGES_MAX;
    for (uint32_t i = 0; i < card->n_bridges; i++)
        END(card->bridges[i].slot);
    struct drm_firmware *f = &card->firmware;
    END(f->guc), END(f->huc), END(f->fan), END(f->regulator);
    struct drm_sensors *s = &card->sensors;
    s->n = s->n < DRM_SENSORS_MAX ? s->n : DRM_SENSORS_MAX;
    for (uint32_t i = 0; i < s->n; i++)
        END(s->temperatures[i].label);
}

static void bound_driver(struct probe_driver *driver) {
    struct device_found *found = &driver->cards;
    END(driver->libraries.why), END(driver->libraries.none);
    for (uint32_t i = 0; i < DRM_CARDS_MAX; i++)
        END(driver->libraries.refused[i]);
    found->n_cards = found->n_cards < CARDS_MAX ? found->n_cards : CARDS_MAX;
    END(found->api), END(found->loader);
    for (uint32_t i = 0; i < found->n_cards; i++)
        END(found->cards[i].name), END(found->cards[i].slot), END(found->cards[i].id),
            END(found->cards[i].serial), END(found->cards[i].why), END(found->cards[i].xmx_why),
            END(found->cards[i].native_why);
}

int probe_opened(const struct probe_report *report, uint32_t card) {
    const struct device_found *found = &report->driver.cards;
    for (uint32_t i = 0; i < found->n_cards; i++)
        if (!found->cards[i].why[0] &&
            !strcasecmp(found->cards[i].slot, report->box.cards[card].slot))
            return (int)i;
    return -1;
}

int probe_accept(struct probe_report *report, size_t n, struct err *err) {
    if (n < sizeof *report || report->magic != PROBE_MAGIC || report->bytes != sizeof *report)
        return err_set(err, -EPROTO,
                       "the answer of octarc-engine --probe is not a report (%zu bytes)", n);
    END(report->version), END(report->error), END(report->box.release), END(report->box.module);
    bound_driver(&report->driver);
    if (strcmp(report->version, OCTARC_VERSION) != 0)
        return err_set(err, -EPROTO, "octarc-engine is version %s, octarcd %s", report->version,
                       OCTARC_VERSION);
    struct drm_box *box = &report->box;
    box->n_cards = box->n_cards < DRM_CARDS_MAX ? box->n_cards : DRM_CARDS_MAX;
    for (uint32_t i = 0; i < box->n_cards; i++)
        bound_card(&box->cards[i]);
    return 0;
}
