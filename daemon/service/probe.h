/* SPDX-License-Identifier: Apache-2.0 */
/* probe.h - ask what cards this machine has, of a process that may be lost.
 *
 * octarcd itself never looks at a card: octarc-engine --probe does (daemon/engine/probe.h), started
 * by the spawner, and what it says is waited for only so long.  Threads: one, before the loop. */
#ifndef OCTARC_SERVICE_PROBE_H
#define OCTARC_SERVICE_PROBE_H

#include "daemon/engine/probe.h"
#include "daemon/service/options.h"
#include "daemon/service/spawner.h"
#include "daemon/util/buffer.h"

#define EXIT_NO_CARD 3

/* The answer; err says else why there is none: -ETIMEDOUT (key probe_silence), -EPIPE (it ended
 * first), -EPROTO (it is none), or what starting failed with.  It is ended in any case. */
int probe_ask(struct spawner *spawner, uint32_t silence_s, struct probe_report *report,
              struct err *err);

/* octarcd --probe: print the answer; the exit status. */
int probe_run(const struct options *options, const struct config *config, struct spawner *spawner);

/* The report for people, and as one line of JSON.  0 or -ENOMEM. */
int probe_text(const struct probe_report *report, struct buffer *out);
int probe_json(const struct probe_report *report, struct buffer *out);
/* The object alone. */
struct writer;
void probe_write(struct writer *w, const struct probe_report *report);

#endif
