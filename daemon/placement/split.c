/* SPDX-License-Identifier: Apache-2.0 */
/* split.c - the search for the layers (layer split) or lanes (tensor split) of each card. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/placement/share.h"
#include "octarc/error.h"

static uint64_t context_pages(const struct plan *plan) {
    return (plan->context + PAGE_TOKENS - 1) / PAGE_TOKENS;
}

static uint32_t list_online(const struct plan *plan, uint32_t cards[CARDS_MAX]) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < plan->n_cards; i++)
        if (plan->cards[i].online)
            cards[n++] = i;
    return n;
}

static void set_layers(struct plan *plan, uint32_t card, uint32_t begin, uint32_t end) {
    struct plan_card *c = &plan->cards[card];
    c->layer_begin = begin;
    c->layer_end = end;
    c->lane_begin = 0;
    c->lane_end = begin < end ? LANES : 0;
}

/* Packed bytes of a whole layer, and the KV that one full context needs in it. */
static uint64_t layer_bytes(const struct plan *plan, const struct plan_input *input,
                            uint32_t layer) {
    const struct model *model = input->model;
    uint64_t bytes = context_pages(plan) * model->params.n_kv_heads *
                     plan_kv_slot_bytes(plan->kv_type, model->params.head_dim);
    for (size_t i = 0; i < model->n_tensors; i++) {
        const struct model_tensor *t = &model->tensors[i];
        if (t->layer == (int32_t)layer)
            bytes += input->backend->packed_bytes(t->type, t->rows, t->cols);
    }
    return bytes;
}

/* Bytes of a card before it gets its layers: header, head, embedding, scratch. */
static uint64_t base_bytes(struct plan *plan, const struct plan_input *input, uint32_t card) {
    set_layers(plan, card, 0, 1);
    share_derive(plan, input->model);
    const uint64_t scratch = share_scratch_bytes(plan, input->model, card);
    set_layers(plan, card, 0, 0);
    share_derive(plan, input->model);
    return share_weights_bytes(plan, input, card) + scratch;
}

static double larger(double a, double b) {
    return a > b ? a : b;
}

int split_layer(struct plan *plan, const struct plan_input *input, struct err *err) {
    const uint32_t n_layers = input->model->params.n_layers;
    uint32_t cards[CARDS_MAX];
    const uint32_t n = list_online(plan, cards);
    /* sum[l]: bytes of layers 0 .. l - 1.  full[i][l]: how full the fullest of the first i cards
     * is when they hold layers 0 .. l - 1 in the best way; from[i][l]: where card i begins then. */
    uint64_t *sum = calloc(n_layers + 1, sizeof *sum);
    double(*full)[LAYERS_MAX + 1] = calloc(n + 1, sizeof *full);
    uint32_t(*from)[LAYERS_MAX + 1] = calloc(n + 1, sizeof *from);
    int rc = 0;

    if (!sum || !full || !from) {
        rc = err_set(err, -ENOMEM, "no memory to plan %u layers", n_layers);
        goto out;
    }
    for (uint32_t l = 0; l < n_layers; l++)
        sum[l + 1] = sum[l] + layer_bytes(plan, input, l);
    for (uint32_t l = 1; l <= n_layers; l++)
        full[0][l] = 1e300;
    for (uint32_t i = 0; i < n; i++) {
        const double capacity = (double)plan->cards[cards[i]].capacity_bytes;
        const uint64_t base = base_bytes(plan, input, cards[i]);
        for (uint32_t l = 0; l <= n_layers; l++) {
            full[i + 1][l] = 1e301;
            for (uint32_t b = 0; b <= l; b++) {
                const double mine = (double)(base + sum[l] - sum[b]) / capacity;
                const double all = larger(full[i][b], mine);
                if (all < full[i + 1][l]) {
                    full[i + 1][l] = all;
                    from[i + 1][l] = b;
                }
            }
        }
    }
    for (uint32_t i = n, l = n_layers; i > 0; l = from[i][l], i--)
        set_layers(plan, cards[i - 1], from[i][l], l);
    share_derive(plan, input->model);
out:
    free(sum);
    free(full);
    free(from);
    return rc;
}

/* How full the fullest card is with these lanes. */
static double lanes_fullness(struct plan *plan, const struct plan_input *input,
                             const uint32_t *cards, uint32_t n, const uint32_t *edges) {
    double worst = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct plan_card *c = &plan->cards[cards[i]];
        c->layer_begin = 0;
        c->layer_end = input->model->params.n_layers;
        c->lane_begin = edges[i];
        c->lane_end = edges[i + 1];
    }
    share_derive(plan, input->model);
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t used =
            share_weights_bytes(plan, input, cards[i]) +
            share_scratch_bytes(plan, input->model, cards[i]) +
            context_pages(plan) * share_page_bytes(plan, &input->model->params, cards[i]);
        worst = larger(worst, (double)used / (double)plan->cards[cards[i]].capacity_bytes);
    }
    return worst;
}

/* Step to the next way of cutting LANES into n runs of at least one lane; false after the last. */
static bool next_edges(uint32_t *edges, uint32_t n) {
    for (uint32_t i = n - 1; i > 0; i--)
        if (edges[i] > edges[i - 1] + 1) {
            edges[i]--;
            for (uint32_t j = i + 1; j < n; j++)
                edges[j] = LANES - (n - j);
            return true;
        }
    return false;
}

int split_tensor(struct plan *plan, const struct plan_input *input, struct err *err) {
    uint32_t cards[CARDS_MAX], edges[CARDS_MAX + 1] = {0}, best[CARDS_MAX + 1] = {0};
    const uint32_t n = list_online(plan, cards);
    double least = 1e300;
    (void)err;

    /* Longest run first: at most 35 ways (7 choose 3), so all of them are looked at. */
    for (uint32_t i = 1; i <= n; i++)
        edges[i] = LANES - (n - i);
    do {
        const double worst = lanes_fullness(plan, input, cards, n, edges);
        if (worst < least) {
            least = worst;
            memcpy(best, edges, sizeof best);
        }
    } while (next_edges(edges, n));
    lanes_fullness(plan, input, cards, n, best);
    return 0;
}
