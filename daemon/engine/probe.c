/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/probe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/errand.h"
#include "octarc/error.h"

/* What the kernel shows of a card and its driver does not tell. */
static void name_serials(struct probe_report *report) {
    struct device_found *found = &report->driver.cards;
    for (uint32_t k = 0; k < report->box.n_cards; k++) {
        const int i = probe_opened(report, k);
        if (i >= 0)
            snprintf(found->cards[i].serial, sizeof found->cards[i].serial, "%s",
                     report->box.cards[k].serial);
    }
}

int probe_answer(int fd) {
    struct err err = {{0}};
    struct probe_report *report = calloc(1, sizeof *report);
    if (!report)
        return -ENOMEM;
    report->magic = PROBE_MAGIC;
    report->bytes = sizeof *report;
    snprintf(report->version, sizeof report->version, "%s", OCTARC_VERSION);
    if (drm_find(&report->box, "", &err) < 0)
        snprintf(report->error, sizeof report->error, "%.150s", err.text);
    probe_driver(&report->driver, &report->box);
    name_serials(report);
    const int rc = errand_write(fd, report, sizeof *report);
    free(report);
    return rc;
}
