/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/progress.h"

#include <errno.h>
#include <time.h>

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void progress_init(struct progress *p, struct stream *stream) {
    *p = (struct progress){.stream = stream};
    pthread_mutex_init(&p->lock, NULL);
}

void progress_finish(struct progress *p) {
    pthread_mutex_destroy(&p->lock);
}

void progress_report(void *user, uint64_t done, uint64_t total) {
    struct progress *p = user;
    const uint64_t now = now_ns();
    pthread_mutex_lock(&p->lock);
    const bool news = !p->said_ns || done != p->last.done_bytes || total != p->last.total_bytes;
    if (news && (done == total || now - p->said_ns >= PROGRESS_NS)) {
        p->said_ns = now;
        p->last = (struct msg_progress){done, total};
        stream_send(p->stream, MSG_PROGRESS, &p->last);
    }
    pthread_mutex_unlock(&p->lock);
}

void progress_alive(void *user) {
    struct progress *p = user;
    pthread_mutex_lock(&p->lock);
    stream_send(p->stream, MSG_PROGRESS, &p->last);
    pthread_mutex_unlock(&p->lock);
}

int progress_fenced(void *user, uint32_t cards, uint64_t deadline_ns) {
    struct progress *p = user;
    const struct msg_fenced msg = {p->generation, cards, deadline_ns};
    pthread_mutex_lock(&p->lock);
    int rc = p->fenced ? 0 : stream_queue(p->stream, MSG_FENCED, &msg);
    p->fenced |= rc == 0;
    rc = rc ? -EAGAIN : stream_flush(p->stream);
    pthread_mutex_unlock(&p->lock);
    return rc;
}
