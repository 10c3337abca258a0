/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/backend.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/device/device.h"
#include "octarc/error.h"

bool backend_asks(const struct config *c) {
    const bool simulates = c->cards_given || c->topology[0] || c->card_memory.n > 0;
    return c->backend == BACKEND_LEVEL_ZERO || (c->backend == BACKEND_AUTO && !simulates);
}

/* What the kernels have not been tried on is not taken without being asked for. */
#define UNTRIED "only backend = level_zero takes them: its kernels are untried on real cards"

/* Why no card is used. */
static void explain(const struct probe_report *report, const char *unknown, char *out,
                    size_t size) {
    const uint32_t n = report ? device_usable(&report->driver.cards) : 0;
    if (!report)
        snprintf(out, size, "%s", unknown);
    else if (n > 0)
        snprintf(out, size, "%u card%s could be used, but " UNTRIED, n, n == 1 ? "" : "s");
    else if (report->error[0])
        snprintf(out, size, "%s", report->error);
    else
        missing_explain(&report->box, &report->driver.libraries, out, size);
}

int backend_judge(struct backend *backend, const struct config *config,
                  const struct probe_report *report, const char *unknown, struct err *err) {
    struct backend made = {.name = "cpu", .ops = device_backend("cpu")};
    char why[BACKEND_WHY_MAX];
    if (!backend_asks(config)) {
        *backend = made;
        return 0;
    }
    if (config->backend == BACKEND_LEVEL_ZERO && report && device_usable(&report->driver.cards)) {
        made = (struct backend){.name = "level_zero",
                                .ops = device_backend("level_zero"),
                                .cards = report->driver.cards};
        *backend = made;
        return made.ops
                   ? 0
                   : err_set(err, -ENOTSUP, "backend = level_zero: octarcd was built without it");
    }
    explain(report, unknown, why, sizeof why);
    if (config->backend == BACKEND_AUTO) {
        memcpy(made.why, why, sizeof made.why);
        *backend = made;
        return 0;
    }
    return err_set(err, -ENOTSUP, "backend = level_zero: %s (octarcd --probe)", why);
}

int backend_choose(struct backend *backend, const struct config *config, struct spawner *spawner,
                   struct err *err) {
    struct err unknown = {{0}};
    if (!backend_asks(config))
        return backend_judge(backend, config, NULL, "", err);
    struct probe_report *report = calloc(1, sizeof *report);
    int rc = report ? probe_ask(spawner, config->probe_silence_s, report, &unknown)
                    : err_set(&unknown, -ENOMEM, "no memory to ask for the cards");
    rc = backend_judge(backend, config, rc == 0 ? report : NULL, unknown.text, err);
    free(report);
    return rc;
}
