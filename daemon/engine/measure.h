/* SPDX-License-Identifier: Apache-2.0 */
/* measure.h - the answer to MEASURE.  Only while nothing runs: a sweep beside a step would slow
 * both and tell of neither. */
#ifndef OCTARC_ENGINE_MEASURE_H
#define OCTARC_ENGINE_MEASURE_H

#include "daemon/channel/stream.h"
#include "daemon/engine/runner.h"

/* As stream_send(). */
int measure_send(struct runner *runner, uint64_t generation, struct stream *stream);

#endif
