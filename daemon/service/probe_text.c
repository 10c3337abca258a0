/* SPDX-License-Identifier: Apache-2.0 */
/* What cards there are, for people: a row a card, then what is missing and the remedy. */
#include <stdio.h>
#include <string.h>

#include "daemon/service/probe.h"
#include "daemon/service/whatif.h"

#define SAY(...)                                                                                   \
    do {                                                                                           \
        if (rc == 0)                                                                               \
            rc = buffer_printf(out, __VA_ARGS__);                                                  \
    } while (0)

static const char *known(const char *version) {
    return version[0] ? version : "?";
}

static const char *link_text(char text[32], const struct drm_link *link) {
    static const char *const speeds[] = {"?", "1.0", "2.0", "3.0", "4.0", "5.0", "6.0", "7.0"};
    if (!link->generation && !link->lanes)
        return "?";
    snprintf(text, 32, "%s x%u", speeds[link->generation < 8 ? link->generation : 0], link->lanes);
    return text;
}

static int say_card(struct buffer *out, const struct probe_report *r, uint32_t i, int width) {
    const struct drm_card *c = &r->box.cards[i];
    char size[16], link[32], id[16], node[16] = "?";
    int rc = 0;
    snprintf(id, sizeof id, "%04x:%04x", c->vendor & 0xffff, c->device & 0xffff);
    if (c->numa >= 0)
        snprintf(node, sizeof node, "%d", c->numa);
    SAY("%4u  %-12s  %-*s  %-8s  %9s  %-7s  %4s  %-20s  %s\n", i, c->slot, width,
        c->name[0] ? c->name : id, c->driver[0] ? c->driver : "none",
        c->vram_bytes ? whatif_size(size, c->vram_bytes) : "?", link_text(link, &c->link), node,
        c->render[0] ? c->render : "-",
        missing_works(&r->box, &r->driver.libraries, i) ? "usable" : "not usable");
    return rc;
}

static int say_sensors(struct buffer *out, uint32_t i, const struct drm_sensors *s) {
    int rc = 0;
    if (s->n == 0 && s->power_most_uw < 0)
        return 0;
    SAY("card %u:", i);
    for (uint32_t k = 0; k < s->n; k++)
        SAY("%s %s %.1f °C", k ? "," : "", s->temperatures[k].label,
            s->temperatures[k].milli_c / 1000.0);
    if (s->power_most_uw >= 0)
        SAY("%s at most %.0f W", s->n ? "," : "", (double)s->power_most_uw * 1e-6);
    SAY("\n");
    return rc;
}

/* Of cards that have some, as far as it is shown: most of it to root only. */
static int say_firmware(struct buffer *out, uint32_t i, const struct drm_card *c) {
    const struct drm_firmware *f = &c->firmware;
    int rc = 0;
    if (strcmp(c->driver, "xe") != 0)
        return 0;
    SAY("card %u: firmware GuC %s, HuC %s", i, known(f->guc), known(f->huc));
    if (f->fan[0])
        SAY(", fan %s", f->fan);
    if (f->regulator[0])
        SAY(", voltage regulator %s", f->regulator);
    SAY("%s\n", f->guc[0] ? "" : " (root is shown it, in debugfs)");
    return rc;
}

/* Of those that Level Zero finds. */
static int say_kernels(struct buffer *out, uint32_t i, const struct probe_report *r) {
    const int k = probe_opened(r, i);
    int rc = 0;
    if (k < 0)
        return 0;
    const char *xmx_why = r->driver.cards.cards[k].xmx_why;
    const char *native_why = r->driver.cards.cards[k].native_why;
    SAY("card %u: products %s%s%s, kernels %s%s%s\n", i,
        r->driver.cards.cards[k].xmx ? "xmx" : "dp4a", xmx_why[0] ? ": " : "", xmx_why,
        r->driver.cards.cards[k].native ? "native" : "spirv", native_why[0] ? ": " : "",
        native_why);
    return rc;
}

static int say_cards(struct buffer *out, const struct probe_report *r) {
    const struct drm_box *box = &r->box;
    int width = 9, rc = 0;
    for (uint32_t i = 0; i < box->n_cards; i++)
        if ((int)strlen(box->cards[i].name) > width)
            width = (int)strlen(box->cards[i].name);
    if (box->n_cards)
        SAY("CARD  SLOT          %-*s  DRIVER       MEMORY  PCIE     NUMA  NODE\n", width, "NAME");
    for (uint32_t i = 0; i < box->n_cards && rc == 0; i++)
        rc = say_card(out, r, i, width);
    for (uint32_t i = 0; i < box->n_cards && rc == 0; i++)
        rc = say_sensors(out, i, &box->cards[i].sensors);
    for (uint32_t i = 0; i < box->n_cards && rc == 0; i++)
        rc = say_firmware(out, i, &box->cards[i]);
    for (uint32_t i = 0; i < box->n_cards && rc == 0; i++)
        rc = say_kernels(out, i, r);
    if (box->more)
        SAY("There are more cards; only the first %d are shown.\n", DRM_CARDS_MAX);
    return rc;
}

static int say_missing(struct buffer *out, const struct probe_report *r) {
    struct missing found[MISSING_MAX];
    const size_t n = missing_find(&r->box, &r->driver.libraries, found);
    int rc = 0;
    for (size_t i = 0; i < n; i++) {
        const char *weight = found[i].weight == MISSING_BLOCKS ? "missing" : "limited";
        if (found[i].card >= 0)
            SAY("%s: card %d (%s): %s\n", weight, found[i].card, r->box.cards[found[i].card].slot,
                found[i].what);
        else
            SAY("%s: %s\n", weight, found[i].what);
        if (found[i].remedy[0])
            SAY("         %s\n", found[i].remedy);
    }
    return rc;
}

/* Intel's drivers put three numbers into one. */
static int say_versions(struct buffer *out, const struct probe_report *r) {
    const struct device_found *d = &r->driver.cards;
    int rc = 0;
    if (d->driver_version)
        SAY("driver %u.%u.%u (%u), Level Zero %s, loader %s; xe %s\n", d->driver_version >> 24,
            d->driver_version >> 16 & 0xff, d->driver_version & 0xffff, d->driver_version,
            known(d->api), known(d->loader), known(r->box.module));
    return rc;
}

int probe_text(const struct probe_report *r, struct buffer *out) {
    const uint32_t usable = missing_count_usable(&r->box, &r->driver.libraries);
    int rc = 0;
    SAY("octarc %s, kernel %s, Level Zero: loader %s, driver %s\n", r->version,
        r->box.release[0] ? r->box.release : "?", r->driver.libraries.loader ? "found" : "missing",
        r->driver.libraries.driver   ? "found"
        : r->driver.libraries.loader ? "missing"
                                     : "not tried");
    if (rc == 0)
        rc = say_versions(out, r);
    if (rc == 0)
        rc = say_cards(out, r);
    if (rc == 0)
        rc = say_missing(out, r);
    SAY("%u of %u cards can be used.\n", usable, r->box.n_cards);
    return rc;
}
