/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/probe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/service/errand.h"
#include "octarc/error.h"

int probe_ask(struct spawner *spawner, uint32_t silence_s, struct probe_report *report,
              struct err *err) {
    static const struct errand errand = {SPAWNER_PROBE, "--probe", " (key probe_silence)",
                                         sizeof *report};
    struct probe_report *made = calloc(1, sizeof *made);
    size_t n;
    if (!made)
        return err_set(err, -ENOMEM, "no memory for what octarc-engine --probe says");
    int rc = errand_ask(spawner, &errand, silence_s, made, &n, err);
    if (rc == 0)
        rc = probe_accept(made, n, err);
    if (rc == 0)
        *report = *made;
    free(made);
    return rc;
}

static int print(const struct buffer *out) {
    if (fwrite(out->bytes, 1, out->n, stdout) == out->n && fflush(stdout) == 0)
        return 0;
    fprintf(stderr, "octarcd: cannot write: %s\n", strerror(errno));
    return 1;
}

int probe_run(const struct options *options, const struct config *config, struct spawner *spawner) {
    struct buffer out = {0};
    struct err err;
    struct probe_report *report = calloc(1, sizeof *report);
    int status = 1;
    const int rc = report ? probe_ask(spawner, config->probe_silence_s, report, &err)
                          : err_set(&err, -ENOMEM, "no memory for a report");
    if (rc < 0)
        fprintf(stderr, "octarcd: %s\n", err.text);
    else if ((options->json ? probe_json : probe_text)(report, &out) < 0)
        fprintf(stderr, "octarcd: no memory to show the report\n");
    else
        status = print(&out);
    if (status == 0 && report->error[0]) {
        fprintf(stderr, "octarcd: %s\n", report->error);
        status = 1;
    } else if (status == 0 && missing_count_usable(&report->box, &report->driver.libraries) == 0) {
        status = EXIT_NO_CARD;
    }
    buffer_finish(&out);
    free(report);
    return status;
}
