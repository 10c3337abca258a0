/* SPDX-License-Identifier: Apache-2.0 */
/* progress.h - what an engine says while it waits for cards: how far it is, that it is alive, and
 * which of them are silent.
 *
 * While a model is loaded two threads speak, the one that loads and the watch, each through this
 * and no other way.  In a step only the watch does: the engine's thread does not touch the stream
 * then (watch.h). */
#ifndef OCTARC_ENGINE_PROGRESS_H
#define OCTARC_ENGINE_PROGRESS_H

#include <pthread.h>

#include "daemon/channel/stream.h"

#define PROGRESS_NS UINT64_C(50000000) /* PROGRESS comes no more often */

struct progress {
    struct stream *stream; /* borrowed */
    uint64_t generation;   /* set by whoever knows it */
    pthread_mutex_t lock;  /* of the stream, while a model is loaded, and of what follows */
    struct msg_progress last;
    uint64_t said_ns; /* when; 0: never */
    bool fenced;      /* FENCED was queued */
};

void progress_init(struct progress *progress, struct stream *stream);
void progress_finish(struct progress *progress);

/* The callbacks; `user` is a struct progress.  The first says nothing where nothing was done since
 * it was called last: who hears nothing for long ends this process, and is to.  The second says
 * again what the first did.  The third: 0, or -EAGAIN: it is to be said again. */
void progress_report(void *user, uint64_t done_bytes, uint64_t total_bytes);
void progress_alive(void *user);
int progress_fenced(void *user, uint32_t cards, uint64_t deadline_ns);

#endif
