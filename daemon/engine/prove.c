/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/prove.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/engine/weights.h"

#define BEHIND_NICE 10

static bool is_cancelled(const struct runner_options *o) {
    return o->cancelled && atomic_load(o->cancelled);
}

/* Ranges [begin, end) are all of a card's. */
static int prove_card(const struct runner_options *o, size_t begin, size_t end, bool *whole) {
    const struct device_ops *ops = o->backend;
    const struct plan_range *ranges = runner_options(o->before)->plan->ranges;
    struct device *device = runner_device(o->before);
    const uint32_t card = ranges[begin].card;
    uint64_t *digests = NULL;
    int rc = weights_card_digests(ops, device, card, end - begin, &digests);
    if (rc == -EBADMSG)
        *whole = false;
    for (size_t i = begin; i < end && !rc && *whole; i++) {
        uint64_t digest = 0;
        rc = is_cancelled(o)
                 ? -ECANCELED
                 : ops->digest(device, card, ranges[i].offset, ranges[i].bytes, &digest);
        *whole = rc || digest == digests[i - begin];
    }
    free(digests);
    return rc == -EBADMSG || rc == -ENODEV ? 0 : rc;
}

static int prove_all(const struct runner_options *o, bool *whole) {
    const struct plan *plan = runner_options(o->before)->plan;
    int rc = 0;
    *whole = true;
    for (size_t begin = 0, end; begin < plan->n_ranges && !rc && *whole; begin = end) {
        end = begin;
        while (end < plan->n_ranges && plan->ranges[end].card == plan->ranges[begin].card)
            end++;
        rc = prove_card(o, begin, end, whole);
    }
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
