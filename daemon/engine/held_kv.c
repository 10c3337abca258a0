/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/held_kv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "octarc/error.h"

static uint64_t now_ns(void *user) {
    struct timespec t;
    (void)user;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int digest(void *user, uint32_t page, uint64_t *out, uint32_t *card) {
    return runner_kv_digest(user, page, out, card);
}

static void say(struct held_kv *h, const char *why) {
    snprintf(h->why, sizeof h->why, "%.*s", (int)sizeof h->why - 1, why);
}

/* All that the next engine would need is held.  Of weights that are not, READY says why. */
static bool can_be_held(struct held_kv *h, const struct runner *runner) {
    const struct runner_options *o = runner_options(runner);
    struct err why = {{0}};
    uint64_t bytes;
    int fd;
    for (uint32_t i = 0; i < o->plan->n_cards; i++) {
        const struct plan_card *c = &o->plan->cards[i];
        if (c->spilled_bytes) {
            say(h, "some of the weights stay in host memory, which ends with the engine");
            return false;
        }
        if (c->weights_bytes &&
            o->backend->hold(runner_device(runner), i, AREA_WEIGHTS, 0, &fd, &bytes, &why))
            return false;
    }
    for (uint32_t i = 0; i < o->plan->n_cards; i++)
        if (o->plan->cards[i].kv_bytes &&
            o->backend->hold(runner_device(runner), i, AREA_KV, 0, &fd, &bytes, &why)) {
            say(h, why.text);
            return false;
        }
    return true;
}

/* K and V are what weights made, some of them long ago. */
static bool weights_were_whole(struct held_kv *h, const struct runner *runner) {
    const struct plan *plan = runner_options(runner)->plan;
    for (uint32_t i = 0; i < plan->n_cards; i++) {
        struct runner_card card = {0};
        if (!plan->cards[i].weights_bytes)
            continue;
        runner_card(runner, i, &card);
        if (card.kept_bytes != card.weights_bytes) {
            snprintf(h->why, sizeof h->why,
                     "card %u: the weights that made them were not all there and whole", i);
            return false;
        }
    }
    return true;
}

/* What is not taken over is blank: a page that was written in parts may hold anything. */
static int blank_others(struct held_kv *h, struct runner *runner, uint32_t *card) {
    bool *keep = calloc(runner_options(runner)->plan->n_pages + 1, sizeof *keep);
    if (!keep)
        return -ENOMEM;
    h->tokens = (uint64_t)kept_taken(h->kept, keep) * PAGE_TOKENS;
    const int rc = runner_kv_clear(runner, keep, card);
    free(keep);
    return rc;
}

static int take(struct held_kv *h, struct runner *runner, int ledger_fd, uint32_t *card) {
    int rc = weights_were_whole(h, runner) ? kept_take(h->kept, ledger_fd) : 0;
    if (rc == -ENODEV) {
        kept_lost_card(h->kept, card);
        return rc;
    }
    if (rc)
        say(h, rc == -ESTALE    ? "they are another model's, or lie elsewhere"
               : rc == -EBADMSG ? "nothing says what they are"
                                : strerror(-rc));
    return blank_others(h, runner, card);
}

int held_kv_open(struct held_kv *h, const struct msg_setup *setup, struct runner *runner,
                 int ledger_fd, uint32_t *lost, struct err *err) {
    const struct kept_memory memory = {runner, digest, now_ns};
    struct ledger_site site = {.file = setup->file};
    uint32_t card = 0;
    *h = (struct held_kv){.kept = NULL};
    if (!setup->hold || !can_be_held(h, runner))
        return 0;
    snprintf(site.backend, sizeof site.backend, "%s", setup->backend);
    layout_kv(runner_options(runner)->plan, &site.layout);
    int rc = kept_create(&h->kept, &site, &memory);
    if (!rc && ledger_fd >= 0)
        rc = take(h, runner, ledger_fd, &card);
    if (rc == -ENODEV)
        *lost |= 1u << card;
    return !rc ? 0
               : err_set(err, rc, "card %u: its K and V cannot be taken over: %s", card,
                         strerror(-rc));
}

void held_kv_close(struct held_kv *h) {
    kept_destroy(h->kept);
    *h = (struct held_kv){.kept = NULL};
}

uint32_t held_kv_list(const struct held_kv *h, const struct runner *runner, struct msg_ready *ready,
                      int fds[HELD_KV_FDS_MAX]) {
    const struct runner_options *o = runner_options(runner);
    struct err why = {{0}};
    uint32_t n = 0;
    ready->kept_tokens = h->tokens;
    memcpy(ready->unkept_why, h->why, sizeof ready->unkept_why);
    for (uint32_t i = 0; h->kept && i < ready->n_cards; i++)
        if (o->plan->cards[i].kv_bytes &&
            !o->backend->hold(runner_device(runner), i, AREA_KV, 0, &fds[n],
                              &ready->cards[i].held_kv_bytes, &why))
            n++;
    if (n)
        fds[n++] = kept_fd(h->kept);
    return n;
}
