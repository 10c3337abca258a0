/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/selftest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/service/errand.h"
#include "octarc/error.h"

int selftest_ask(struct spawner *spawner, bool kernels, struct selftest_report *report,
                 struct err *err) {
    static const struct errand errands[] = {{SPAWNER_LINKS, "--links", "", sizeof *report},
                                            {SPAWNER_SELFTEST, "--selftest", "", sizeof *report}};
    struct selftest_report *made = calloc(1, sizeof *made);
    size_t n;
    if (!made)
        return err_set(err, -ENOMEM, "no memory for what octarc-engine says");
    int rc = errand_ask(spawner, &errands[kernels], kernels ? SELFTEST_S : LINKS_S, made, &n, err);
    if (rc == 0)
        rc = selftest_accept(made, n, err);
    if (rc == 0)
        *report = *made;
    free(made);
    return rc;
}

bool selftest_all_well(const struct probe_report *probe, const struct selftest_report *report) {
    bool well = selftest_is_well(report) && !probe->error[0];
    for (uint32_t i = 0; i < probe->box.n_cards; i++)
        well &= missing_usable(&probe->box.cards[i]);
    return well;
}

static int print(const struct options *options, const struct probe_report *probe,
                 const struct selftest_report *report) {
    struct buffer out = {0};
    int status = 0;
    if ((options->json ? selftest_json : selftest_text)(probe, report, &out) < 0) {
        fprintf(stderr, "octarcd: no memory to show the report\n");
        status = 1;
    } else if (fwrite(out.bytes, 1, out.n, stdout) != out.n || fflush(stdout) != 0) {
        fprintf(stderr, "octarcd: cannot write: %s\n", strerror(errno));
        status = 1;
    }
    buffer_finish(&out);
    return status;
}

int selftest_run(const struct options *options, const struct config *config,
                 struct spawner *spawner) {
    struct probe_report *probe = calloc(1, sizeof *probe);
    struct selftest_report *report = calloc(1, sizeof *report);
    struct err err;
    int status = 1, rc = -ENOMEM;
    if (!probe || !report)
        err_set(&err, rc, "no memory for a report");
    else
        rc = probe_ask(spawner, config->probe_silence_s, probe, &err);
    if (rc == 0)
        rc = selftest_ask(spawner, true, report, &err);
    if (rc < 0)
        fprintf(stderr, "octarcd: %s\n", err.text);
    else
        status = print(options, probe, report);
    if (status == 0 && !selftest_all_well(probe, report))
        status = EXIT_UNWELL;
    else if (status == 0 && report->found.n_cards == 0)
        status = EXIT_NO_CARD;
    free(probe);
    free(report);
    return status;
}
