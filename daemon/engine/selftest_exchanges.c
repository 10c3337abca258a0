/* SPDX-License-Identifier: Apache-2.0 */
/* selftest_exchanges.c - what goes from one card to another: the same pairs of programs on each two
 * cards of a backend, and on two of the cpu backend. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/selftest_side.h"
#include "octarc/error.h"

static const struct {
    struct trial_layer layer;
    const char *name;
} exchanges[SELFTEST_EXCHANGES] = {
    {{.type = TENSOR_F32, .kv = KV_F16}, "exchange of f32, KV f16"},
    {{.type = TENSOR_Q8_0, .kv = KV_F32}, "exchange of Q8_0, KV f32"},
    {{.type = TENSOR_Q8_0, .kv = KV_Q8_0, .soft_cap = 15.0f}, "exchange of Q8_0, KV q8_0"},
};

void selftest_exchange_name(uint32_t exchange, char out[32]) {
    snprintf(out, 32, "%s", exchange < SELFTEST_EXCHANGES ? exchanges[exchange].name : "?");
}

/* The cards of a pair, and its programs. */
static void make(struct side *s, uint32_t exchange, uint32_t owner, uint32_t reader) {
    s->n = 2;
    s->cards[0] = owner;
    s->cards[1] = reader;
    trial_pair_make(s->programs, s->ops, &exchanges[exchange].layer, owner, reader);
}

static int open_side(struct side *s, const struct device_options *options, struct err *err) {
    for (uint32_t i = 0; i < SELFTEST_EXCHANGES; i++) {
        make(s, i, 0, 1);
        side_make_room(s);
    }
    return side_open(s, options, err);
}

static int build_and_run(struct side *s, uint32_t exchange, struct err *err) {
    const int rc = side_build(s, exchange, err);
    return rc ? rc : side_run(s, err);
}

/* What the pairs have to make is the same for all of them. */
static int make_references(struct side *references, struct err *err) {
    const struct device_options cpu = {
        .n_cards = 2, .present = {true, true}, .n_threads = 1, .isa = ISA_AUTO};
    int rc = 0;
    for (uint32_t i = 0; i < SELFTEST_EXCHANGES && !rc; i++) {
        struct side *s = &references[i];
        s->ops = device_backend("cpu");
        rc = open_side(s, &cpu, err);
        make(s, i, 0, 1);
        if (!rc)
            rc = build_and_run(s, i, err);
        if (s->device)
            s->ops->close(s->device);
        s->device = NULL;
    }
    return rc;
}

static int try_exchange(struct side *s, const struct side *reference, uint32_t exchange,
                        uint32_t number, const struct selftest_exchange_ears *to) {
    const struct selftest_ears *ears = &to->ears;
    struct selftest_kernel made = {0};
    struct err why = {{0}};
    char text[SELFTEST_WHY_MAX];
    make(s, exchange, s->cards[0], s->cards[1]);
    ears->begun(ears->user, number, false);
    int rc = side_build(s, exchange, &why);
    ears->begun(ears->user, number, true);
    if (!rc)
        rc = side_run(s, &why);
    if (!rc)
        rc = side_compare(s, reference, &made, &why);
    if (rc) {
        made.verdict = SELFTEST_FAILED;
        snprintf(text, sizeof text, "%s: %.120s", exchanges[exchange].name, why.text);
        to->failed(ears->user, number, text);
    }
    ears->told(ears->user, number, &made);
    return rc;
}

static int try_link(struct side *s, const struct side *references,
                    const struct selftest_exchange_ears *ears) {
    const uint32_t link = s->cards[1] * CARDS_MAX + s->cards[0];
    int rc = 0;
    for (uint32_t i = 0; i < SELFTEST_EXCHANGES && rc != -ENODEV; i++)
        rc = try_exchange(s, &references[i], i, link * SELFTEST_EXCHANGES + i, ears);
    return rc;
}

static int try_links(struct side *s, const struct side *references, const struct device_options *o,
                     const struct selftest_exchange_ears *ears) {
    int rc = 0;
    for (uint32_t reader = 0; reader < o->n_cards; reader++)
        for (uint32_t owner = 0; owner < o->n_cards && rc != -ENODEV; owner++) {
            if (owner == reader || !o->present[reader] || !o->present[owner] ||
                !ears->wanted(ears->ears.user, reader, owner))
                continue;
            s->cards[0] = owner;
            s->cards[1] = reader;
            rc = try_link(s, references, ears);
        }
    return rc == -ENODEV ? rc : 0;
}

int selftest_run_exchanges(const struct device_ops *ops, const struct device_options *options,
                           const struct selftest_exchange_ears *ears, struct err *err) {
    struct side *sides = calloc(1 + SELFTEST_EXCHANGES, sizeof *sides);
    if (!sides)
        return err_set(err, -ENOMEM, "no memory to try exchanges");
    sides[0].ops = ops;
    int rc = make_references(&sides[1], err);
    if (!rc)
        rc = open_side(&sides[0], options, err);
    if (!rc)
        rc = try_links(&sides[0], &sides[1], options, ears);
    if (sides[0].device)
        ops->close(sides[0].device);
    free(sides);
    return rc;
}
