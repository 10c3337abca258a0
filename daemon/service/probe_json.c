/* SPDX-License-Identifier: Apache-2.0 */
/* What cards there are, for scripts: one object on one line.  What is unknown is null. */
#include <stdio.h>

#include "daemon/protocol/writer.h"
#include "daemon/service/probe.h"

static void write_answer(struct writer *w, const char *key, enum drm_answer answer) {
    if (answer == DRM_UNKNOWN)
        write_key_string(w, key, NULL);
    else
        write_key_bool(w, key, answer == DRM_YES);
}

static void write_known(struct writer *w, const char *key, const char *text) {
    write_key_string(w, key, text[0] ? text : NULL);
}

static void write_count(struct writer *w, const char *key, uint64_t count) {
    write_key_known(w, key, count ? (int64_t)count : -1);
}

static void write_id(struct writer *w, const char *key, uint32_t id) {
    char text[16];
    snprintf(text, sizeof text, "%04x", id);
    write_key_string(w, key, text);
}

static void write_way(struct writer *w, const struct drm_card *c) {
    write_key(w, "link");
    write_open(w, '{');
    write_known(w, "at", c->link.at);
    write_count(w, "generation", c->link.generation);
    write_count(w, "lanes", c->link.lanes);
    write_count(w, "generation_most", c->link.generation_most);
    write_count(w, "lanes_most", c->link.lanes_most);
    write_close(w, '}');
    write_key(w, "bridges");
    write_open(w, '[');
    for (uint32_t i = 0; i < c->n_bridges; i++) {
        write_open(w, '{');
        write_known(w, "slot", c->bridges[i].slot);
        write_id(w, "vendor", c->bridges[i].vendor);
        write_id(w, "device", c->bridges[i].device);
        write_answer(w, "acs_redirects", c->bridges[i].redirects);
        write_close(w, '}');
    }
    write_close(w, ']');
}

static void write_sensors(struct writer *w, const struct drm_sensors *s) {
    write_key(w, "temperatures");
    write_open(w, '[');
    for (uint32_t i = 0; i < s->n; i++) {
        write_open(w, '{');
        write_known(w, "label", s->temperatures[i].label);
        write_key_number(w, "celsius", s->temperatures[i].milli_c / 1000.0);
        write_close(w, '}');
    }
    write_close(w, ']');
    write_key_known(w, "power_most_w", s->power_most_uw < 0 ? -1 : s->power_most_uw / 1000000);
    write_key_known(w, "energy_j", s->energy_uj < 0 ? -1 : s->energy_uj / 1000000);
}

/* As status has it of the cards in use. */
static void write_kernels(struct writer *w, const struct probe_report *r, uint32_t i) {
    static const char *const products[] = {"dp4a", "xmx"}, *const kernels[] = {"spirv", "native"};
    const struct device_found *found = &r->driver.cards;
    const int k = probe_opened(r, i);
    write_key_string(w, "products", k < 0 ? NULL : products[found->cards[k].xmx]);
    write_known(w, "products_why", k < 0 ? "" : found->cards[k].xmx_why);
    write_key_string(w, "kernels", k < 0 ? NULL : kernels[found->cards[k].native]);
    write_known(w, "kernels_why", k < 0 ? "" : found->cards[k].native_why);
}

static void write_card(struct writer *w, const struct probe_report *r, uint32_t i) {
    const struct drm_card *c = &r->box.cards[i];
    write_open(w, '{');
    write_key_int(w, "card", i);
    write_key_string(w, "slot", c->slot);
    write_id(w, "vendor", c->vendor);
    write_id(w, "device", c->device);
    write_key_int(w, "revision", c->revision);
    write_known(w, "serial", c->serial);
    write_known(w, "name", c->name);
    write_known(w, "driver", c->driver);
    write_known(w, "primary", c->primary);
    write_known(w, "render", c->render);
    write_key_bool(w, "can_be_opened", c->render[0] && c->render_error == 0);
    write_count(w, "memory_bytes", c->vram_bytes);
    write_count(w, "window_bytes", c->bar_bytes);
    write_key_known(w, "numa", c->numa);
    write_known(w, "cpus", c->cpus);
    write_key_known(w, "iommu_group", c->iommu_group);
    write_answer(w, "survivability", c->survivability);
    write_key(w, "firmware");
    write_open(w, '{');
    write_known(w, "guc", c->firmware.guc);
    write_known(w, "huc", c->firmware.huc);
    write_known(w, "fan_control", c->firmware.fan);
    write_known(w, "voltage_regulator", c->firmware.regulator);
    write_close(w, '}');
    write_way(w, c);
    write_sensors(w, &c->sensors);
    write_kernels(w, r, i);
    write_key_bool(w, "usable", missing_works(&r->box, &r->driver.libraries, i));
    write_close(w, '}');
}

static void write_machine(struct writer *w, const struct probe_report *r) {
    write_key(w, "kernel");
    write_open(w, '{');
    write_known(w, "release", r->box.release);
    write_known(w, "xe", r->box.module);
    write_answer(w, "CONFIG_DRM_XE_GPUSVM", r->box.gpusvm);
    write_answer(w, "CONFIG_DRM_XE_PAGEMAP", r->box.pagemap);
    write_answer(w, "CONFIG_PCI_P2PDMA", r->box.pci_p2pdma);
    write_close(w, '}');
    write_answer(w, "la57", r->box.la57);
    write_key(w, "level_zero");
    write_open(w, '{');
    write_key_bool(w, "loader", r->driver.libraries.loader);
    write_key_bool(w, "driver", r->driver.libraries.driver);
    write_known(w, "why", r->driver.libraries.why);
    write_known(w, "no_card", r->driver.libraries.none);
    write_count(w, "driver_version", r->driver.cards.driver_version);
    write_known(w, "api", r->driver.cards.api);
    write_known(w, "loader_version", r->driver.cards.loader);
    write_close(w, '}');
}

static void write_missing(struct writer *w, const struct probe_report *r) {
    struct missing found[MISSING_MAX];
    const size_t n = missing_find(&r->box, &r->driver.libraries, found);
    write_key(w, "missing");
    write_open(w, '[');
    for (size_t i = 0; i < n; i++) {
        write_open(w, '{');
        write_key_string(w, "code", found[i].code);
        write_key_bool(w, "blocks", found[i].weight == MISSING_BLOCKS);
        write_key_known(w, "card", found[i].card);
        write_key_string(w, "what", found[i].what);
        write_known(w, "remedy", found[i].remedy);
        write_close(w, '}');
    }
    write_close(w, ']');
}

void probe_write(struct writer *w, const struct probe_report *r) {
    write_open(w, '{');
    write_key_string(w, "version", r->version);
    write_known(w, "error", r->error);
    write_machine(w, r);
    write_key(w, "cards");
    write_open(w, '[');
    for (uint32_t i = 0; i < r->box.n_cards; i++)
        write_card(w, r, i);
    write_close(w, ']');
    write_key_bool(w, "more_cards", r->box.more);
    write_key_int(w, "usable", missing_count_usable(&r->box, &r->driver.libraries));
    write_missing(w, r);
    write_close(w, '}');
}

int probe_json(const struct probe_report *r, struct buffer *out) {
    struct writer w = {.out = out};
    probe_write(&w, r);
    return w.rc < 0 ? w.rc : buffer_append(out, "\n", 1);
}
