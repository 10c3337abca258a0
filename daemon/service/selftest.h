/* SPDX-License-Identifier: Apache-2.0 */
/* selftest.h - octarcd --selftest: what a user attaches to a report about cards.
 *
 * What there is and what is missing (probe.h), then what octarc-engine --selftest found
 * (daemon/engine/selftest.h).  Threads: one, and no loop. */
#ifndef OCTARC_SERVICE_SELFTEST_H
#define OCTARC_SERVICE_SELFTEST_H

#include "daemon/engine/selftest.h"
#include "daemon/service/options.h"
#include "daemon/service/probe.h"
#include "daemon/service/spawner.h"

#define SELFTEST_S  1800 /* that all of it may take */
#define LINKS_S     60   /* that links alone may take */
#define EXIT_UNWELL 4

/* kernels: else links alone.  As probe_ask(). */
int selftest_ask(struct spawner *spawner, bool kernels, struct selftest_report *report,
                 struct err *err);

/* Print it all; the exit status. */
int selftest_run(const struct options *options, const struct config *config,
                 struct spawner *spawner);

/* Cards that the kernel knows can all be used, and all that was tried is well. */
bool selftest_all_well(const struct probe_report *probe, const struct selftest_report *report);

/* For people, behind the text of a probe; as one line of JSON with all of a probe's in it.  0 or
 * -ENOMEM. */
int selftest_text(const struct probe_report *probe, const struct selftest_report *report,
                  struct buffer *out);
int selftest_json(const struct probe_report *probe, const struct selftest_report *report,
                  struct buffer *out);

#endif
