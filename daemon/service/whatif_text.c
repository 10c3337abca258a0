/* SPDX-License-Identifier: Apache-2.0 */
/* A plan for people: a row a card, then what follows from it. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/service/whatif.h"

struct text {
    struct buffer *out;
    int rc;
};

__attribute__((format(printf, 2, 3))) static void say(struct text *t, const char *fmt, ...) {
    char line[1024];
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (t->rc == 0 && n > 0)
        t->rc = buffer_append(t->out, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

const char *whatif_size(char out[16], uint64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1024;
        unit++;
    }
    snprintf(out, 16, unit && value < 100 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return out;
}

/* [begin, end) as "begin-last"; "-" where it is empty. */
static const char *range_text(char out[24], uint32_t begin, uint32_t end) {
    if (begin >= end)
        snprintf(out, 24, "-");
    else if (begin + 1 == end)
        snprintf(out, 24, "%u", begin);
    else
        snprintf(out, 24, "%u-%u", begin, end - 1);
    return out;
}

static int name_width(const struct topology *topology) {
    size_t width = 4;
    for (uint32_t i = 0; i < topology->n_cards; i++)
        width = strlen(topology->cards[i].name) > width ? strlen(topology->cards[i].name) : width;
    return (int)width;
}

/* The columns from MEMORY on; two more where anything is spilled. */
static void say_sizes(struct text *t, const struct plan_card *c, bool spills) {
    char s[7][16];
    say(t, " %10s %10s %10s %10s", whatif_size(s[0], c->capacity_bytes),
        whatif_size(s[1], c->weights_bytes - c->spilled_bytes), whatif_size(s[2], c->kv_bytes),
        whatif_size(s[3], c->scratch_bytes));
    if (spills)
        say(t, " %10s", whatif_size(s[4], c->landing_bytes));
    say(t, " %10s", whatif_size(s[5], c->capacity_bytes - plan_card_bytes(c)));
    if (spills)
        say(t, " %10s", whatif_size(s[6], c->spilled_bytes));
}

static void say_cards(struct text *t, const struct plan_view *view) {
    const int width = name_width(view->topology);
    const bool spills = plan_host_bytes(view->plan) > 0;
    struct plan_card sum = {0};
    char layers[24], lanes[24];
    say(t,
        "CARD  %-*s  LAYERS   LANES     MEMORY    WEIGHTS         KV    SCRATCH%s       FREE%s  "
        "WHY\n",
        width, "NAME", spills ? "    LANDING" : "", spills ? "    IN HOST" : "");
    for (uint32_t i = 0; i < view->plan->n_cards; i++) {
        const struct plan_card *c = &view->plan->cards[i];
        say(t, "%4u  %-*s  %-7s  %-5s", i, width, view->topology->cards[i].name,
            range_text(layers, c->layer_begin, c->layer_end),
            range_text(lanes, c->lane_begin, c->lane_end));
        say_sizes(t, c, spills);
        say(t, "  %s\n", c->reason);
        sum.capacity_bytes += c->capacity_bytes;
        sum.weights_bytes += c->weights_bytes;
        sum.kv_bytes += c->kv_bytes;
        sum.scratch_bytes += c->scratch_bytes;
        sum.landing_bytes += c->landing_bytes;
        sum.spilled_bytes += c->spilled_bytes;
    }
    say(t, " all  %-*s  %-7s  %-5s", width, "", "", "");
    say_sizes(t, &sum, spills);
    say(t, "\n");
}

static void say_rate(struct text *t, const char *what, double rate, const char *lacks) {
    if (rate > 0)
        say(t, "  %s: %.*f tokens/s", what, rate < 100 ? 1 : 0, rate);
    else
        say(t, "  %s: unknown, for the box does not state %s", what, lacks);
}

static void say_prediction(struct text *t, const struct prediction *p) {
    say(t, "predicted for one sequence, a prompt of %u tokens (an upper bound: octarcd(8)):\n",
        p->tokens);
    say_rate(t, "prefill", p->prefill_tokens_per_s, p->prefill_lacks);
    say(t, "\n");
    say_rate(t, "decode", p->decode_tokens_per_s, p->decode_lacks);
    if (p->decode_tokens_per_s > 0 && p->exchange_share > 0)
        say(t, ", %.1f %% of the time for exchanges", p->exchange_share * 100);
    say(t, "\n");
}

static void say_box(struct text *t, const struct topology *box) {
    if (box->origin[0])
        say(t, "box: %s\n", box->origin);
    else
        say(t, "box: %u simulated card%s\n", box->n_cards, box->n_cards == 1 ? "" : "s");
    if (box->description[0])
        say(t, "  %s\n", box->description);
}

/* Links that are alike but for where they are make one line. */
static void say_links(struct text *t, const struct topology *box) {
    uint32_t n[2] = {0}, n_stated = 0;
    for (uint32_t a = 0; a < box->n_cards; a++)
        for (uint32_t b = 0; b < box->n_cards; b++)
            if (a != b) {
                n[box->links[a][b].mode]++;
                n_stated += box->links[a][b].stated;
            }
    if (box->n_cards < 2)
        return;
    say(t, "peer links: %u direct, %u staged through host memory; ", n[LINK_DIRECT],
        n[LINK_STAGED]);
    if (!box->origin[0])
        say(t, "simulated cards share the host's memory\n");
    else
        say(t, "%u as the file states them, %u derived from it, none measured\n", n_stated,
            n[LINK_DIRECT] + n[LINK_STAGED] - n_stated);
}

/* Whether the fullest card's pages would find room in the host when that card leaves. */
static void say_evacuation(struct text *t, const struct plan_view *view) {
    const uint64_t room = view->topology->host.evacuation_bytes;
    uint32_t fullest = 0;
    char a[16], b[16];
    if (!view->topology->host.memory_bytes)
        return;
    for (uint32_t i = 0; i < view->plan->n_cards; i++)
        if (plan_card_bytes(&view->plan->cards[i]) > plan_card_bytes(&view->plan->cards[fullest]))
            fullest = i;
    const uint64_t most = plan_card_bytes(&view->plan->cards[fullest]);
    say(t, "host memory: room for %s of a card that leaves; card %u holds %s, %s\n",
        whatif_size(a, room), fullest, whatif_size(b, most),
        most <= room ? "which fits" : "which does NOT fit");
}

int whatif_text(const struct plan_view *view, struct buffer *out) {
    const struct plan *plan = view->plan;
    struct text t = {.out = out};
    char size[16];
    say(&t, "model: %s, %s, %u layers, %zu tensors, %s\n", view->model->params.name,
        view->model->params.arch, view->model->params.n_layers, view->model->n_tensors,
        whatif_size(size, view->model->file_bytes));
    say_box(&t, view->topology);
    say(&t, "%s\n", plan->reason);
    say(&t,
        "context: %u tokens, %u sequences, KV %s: %u pages of %d tokens, %.1f whole contexts\n\n",
        plan->context, plan->max_sequences, kv_type_name(plan->kv_type), plan->n_pages, PAGE_TOKENS,
        (double)plan->n_pages * PAGE_TOKENS / plan->context);
    say_cards(&t, view);
    say(&t, "\n");
    say_prediction(&t, view->prediction);
    say_links(&t, view->topology);
    say_evacuation(&t, view);
    return t.rc;
}
