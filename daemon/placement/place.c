/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/placement/place.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/placement/plan.h"
#include "octarc/error.h"

/* --- from text --- */

static const char *skip_blanks(const char *text) {
    return text + strspn(text, " \t");
}

static size_t trimmed(const char *text, size_t n) {
    while (n && (text[n - 1] == ' ' || text[n - 1] == '\t'))
        n--;
    return n;
}

/* "card N"; CARDS_MAX: it is not. */
static uint32_t read_card(const char *text) {
    text = skip_blanks(text);
    if (strncmp(text, "card", 4) || (text[4] != ' ' && text[4] != '\t'))
        return CARDS_MAX;
    text = skip_blanks(text + 4);
    if (text[0] < '0' || text[0] >= '0' + CARDS_MAX || trimmed(text, strlen(text)) != 1)
        return CARDS_MAX;
    return (uint32_t)(text[0] - '0');
}

int places_add(struct places *places, const char *text, struct err *err) {
    const char *begin = skip_blanks(text), *sign = strrchr(begin, '=');
    const size_t n = sign ? trimmed(begin, (size_t)(sign - begin)) : 0;
    const uint32_t card = sign ? read_card(sign + 1) : CARDS_MAX;
    if (n == 0 || card == CARDS_MAX)
        return err_set(err, -EINVAL,
                       "'%.100s' is not PATTERN = card N, as in blk.[0-9].* = card 0 (cards 0 to "
                       "%d)",
                       text, CARDS_MAX - 1);
    if (n >= PLACE_PATTERN_MAX)
        return err_set(err, -EINVAL, "the pattern '%.*s' has %zu bytes, %d are allowed", (int)n,
                       begin, n, PLACE_PATTERN_MAX - 1);
    if (places->n == PLACES_MAX)
        return err_set(err, -E2BIG, "'%.100s': there are %d before it, and no more are allowed",
                       text, PLACES_MAX);
    struct place *place = &places->of[places->n++];
    *place = (struct place){.card = card};
    memcpy(place->pattern, begin, n);
    return 0;
}

/* --- what they mean for a box and a model --- */

int places_check_cards(const struct places *places, uint32_t n_cards, struct err *err) {
    for (uint32_t k = 0; k < places->n; k++)
        if (places->of[k].card >= n_cards)
            return err_set(err, -EINVAL, "place = %s = card %u: there is none; the last is card %u",
                           places->of[k].pattern, places->of[k].card, n_cards - 1);
    return 0;
}

static bool matches(const struct place *place, const struct model_tensor *t) {
    return !model_tensor_is_rotation(t) && fnmatch(place->pattern, t->name, 0) == 0;
}

int places_check_names(const struct places *places, const struct model *model, struct err *err) {
    for (uint32_t k = 0; k < places->n; k++) {
        size_t t = 0;
        while (t < model->n_tensors && !matches(&places->of[k], &model->tensors[t]))
            t++;
        if (t == model->n_tensors)
            return err_set(err, -EINVAL,
                           "place = %s = card %u matches no tensor of the model '%.60s'; they are "
                           "called %s, %s …",
                           places->of[k].pattern, places->of[k].card, model->params.name,
                           model->n_tensors > 0 ? model->tensors[0].name : "",
                           model->n_tensors > 1 ? model->tensors[1].name : "");
    }
    return 0;
}

void places_decide(struct places_decided *d, const struct places *places, const struct model *model,
                   uint64_t dropped) {
    memset(d, 0, sizeof *d);
    for (size_t i = 0; i < model->n_tensors; i++) {
        const struct model_tensor *t = &model->tensors[i];
        uint8_t *by = t->layer >= 0                                       ? &d->layer[t->layer]
                      : t->role == ROLE_TOKEN_EMBD && !model->params.tied ? &d->embd
                                                                          : &d->head;
        for (uint32_t k = places->n; k > *by; k--)
            if (!(dropped >> (k - 1) & 1) && matches(&places->of[k - 1], t))
                *by = (uint8_t)k;
    }
}

uint64_t places_gone(const struct plan_input *in) {
    uint64_t gone = 0;
    for (uint32_t k = 0; in->places && k < in->places->n; k++)
        if (!in->online[in->places->of[k].card])
            gone |= UINT64_C(1) << k;
    return gone;
}

uint64_t places_all(const struct places *places) {
    return places->n == PLACES_MAX ? UINT64_MAX : (UINT64_C(1) << places->n) - 1;
}

/* --- in words --- */

__attribute__((format(printf, 2, 3))) static void add(char *reason, const char *fmt, ...) {
    const size_t n = strlen(reason);
    va_list args;
    va_start(args, fmt);
    vsnprintf(reason + n, PLAN_REASON_MAX - n, fmt, args);
    va_end(args);
}

/* The overrides that decide about something, a bit each. */
static uint64_t deciding(const struct places_decided *d, uint32_t n_layers) {
    uint64_t bits = 0;
    for (uint32_t l = 0; l < n_layers; l++)
        bits |= d->layer[l] ? UINT64_C(1) << (d->layer[l] - 1) : 0;
    bits |= d->head ? UINT64_C(1) << (d->head - 1) : 0;
    return bits | (d->embd ? UINT64_C(1) << (d->embd - 1) : 0);
}

/* "'a' and 2 more", of those that name the card; false: none does. */
static bool name_those_of(char *text, size_t size, const struct places *places, uint64_t bits,
                          uint32_t card) {
    uint32_t n = 0, first = 0;
    for (uint32_t k = places->n; k-- > 0;)
        if (bits >> k & 1 && places->of[k].card == card) {
            first = k;
            n++;
        }
    if (n > 1)
        snprintf(text, size, "'%.40s' and %u more", places->of[first].pattern, n - 1);
    else if (n == 1)
        snprintf(text, size, "'%.40s'", places->of[first].pattern);
    return n > 0;
}

void places_tell(struct plan *plan, const struct plan_input *in) {
    struct places_decided decided;
    char text[80];
    if (!in->places || in->places->n == 0)
        return;
    places_decide(&decided, in->places, in->model, plan->dropped_places);
    const uint64_t kept = deciding(&decided, in->model->params.n_layers);
    for (uint32_t i = 0; i < plan->n_cards; i++) {
        if (name_those_of(text, sizeof text, in->places, kept, i))
            add(plan->cards[i].reason, "; placed by %s", text);
        if (name_those_of(text, sizeof text, in->places, plan->dropped_places, i))
            add(plan->cards[i].reason, "; %s is dropped", text);
    }
    if (plan->dropped_places & ~places_gone(in))
        add(plan->reason, "; not as placed: it would not fit then");
}
