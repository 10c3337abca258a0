/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/prove.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BEHIND_NICE 10

static bool is_cancelled(const struct runner_options *o) {
    return o->cancelled && atomic_load(o->cancelled);
}

int prove_digest(const struct runner_options *o, struct device *device, const struct plan_range *r,
                 uint64_t *digest) {
    uint64_t sum = 0;
    for (uint64_t at = 0; at < r->bytes; at += PROVE_PIECE_BYTES) {
        const uint64_t left = r->bytes - at;
        uint64_t part = 0;
        const int rc =
            is_cancelled(o)
                ? -ECANCELED
                : o->backend->digest_part(device, r->card, r->offset + at,
                                          left < PROVE_PIECE_BYTES ? left : PROVE_PIECE_BYTES,
                                          at / DIGEST_LEAF_BYTES, &part);
        if (rc)
            return rc;
        sum += part;
    }
    *digest = device_digest_close(sum, r->bytes);
    return 0;
}

/* -ENODEV: of a lost card nothing is left that could be harmed. */
static int prove_range(const struct runner_options *o, size_t i, bool *whole) {
    const struct plan_range *r = &runner_options(o->before)->plan->ranges[i];
    uint64_t digest = 0;
    const int rc = prove_digest(o, runner_device(o->before), r, &digest);
    *whole = rc || digest == runner_digests(o->before)[i];
    return rc == -ENODEV ? 0 : rc;
}

static int prove_all(const struct runner_options *o, bool *whole) {
    const struct plan *plan = runner_options(o->before)->plan;
    int rc = 0;
    *whole = true;
    for (size_t i = 0; i < plan->n_ranges && !rc && *whole; i++)
        rc = prove_range(o, i, whole);
    return rc;
}

struct work {
    const struct runner_options *options;
    bool whole;
    int rc;
};

static void *run(void *arg) {
    struct work *w = arg;
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), BEHIND_NICE);
    w->rc = prove_all(w->options, &w->whole);
    return NULL;
}

/* It takes what the computing leaves of the cores; a thread of its own, for who has stepped back
 * may not come forward again, and threads inherit it. */
int prove_left(const struct runner_options *o, bool *whole) {
    struct work w = {.options = o};
    pthread_t thread;
    const int rc = -pthread_create(&thread, NULL, run, &w);
    if (rc)
        return rc;
    pthread_join(thread, NULL);
    *whole = w.whole;
    return w.rc;
}
