/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/backend.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/device/device.h"
#include "octarc/error.h"

bool backend_asks(const struct config *c) {
    const bool simulates = c->cards_given || c->topology[0] || c->card_memory.n > 0;
    return c->backend == BACKEND_LEVEL_ZERO || (c->backend == BACKEND_AUTO && !simulates);
}

/* Whatever the cards are like: this service computes on the CPU only. */
static const char *explain_backend(void) {
    return device_backend("level_zero") ? "this service does not serve with level_zero yet"
                                        : "the backend level_zero is not built in";
}

/* Why no card is used. */
static void explain(const struct probe_report *report, const char *unknown, char *out,
                    size_t size) {
    const uint32_t n = report ? missing_count_usable(&report->box, &report->libraries) : 0;
    if (!report)
        snprintf(out, size, "%s", unknown);
    else if (report->error[0])
        snprintf(out, size, "%s", report->error);
    else if (n == 0)
        missing_explain(&report->box, &report->libraries, out, size);
    else
        snprintf(out, size, "%u card%s could be used, but %s", n, n == 1 ? "" : "s",
                 explain_backend());
}

int backend_judge(struct backend *backend, const struct config *config,
                  const struct probe_report *report, const char *unknown, struct err *err) {
    struct backend made = {.name = "cpu"};
    char why[400];
    if (!backend_asks(config)) {
        *backend = made;
        return 0;
    }
    explain(report, unknown, why, sizeof why);
    if (config->backend == BACKEND_AUTO) {
        snprintf(made.why, sizeof made.why, "%.*s", (int)sizeof made.why - 1, why);
        *backend = made;
        return 0;
    }
    return err_set(err, -ENOTSUP, "backend = level_zero: %s; of the cards: %s (octarcd --probe)",
                   explain_backend(), why);
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
