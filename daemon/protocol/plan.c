/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/protocol/plan.h"

#include "daemon/protocol/box.h"

const char *kv_type_name(enum kv_type type) {
    return type == KV_F32 ? "f32" : type == KV_Q8_0 ? "q8_0" : "f16";
}

static void write_model(struct writer *w, const struct model *model) {
    write_key(w, "model");
    write_open(w, '{');
    write_key_string(w, "name", model->params.name);
    write_key_string(w, "arch", model->params.arch);
    write_key_int(w, "layers", model->params.n_layers);
    write_key_int(w, "tensors", (int64_t)model->n_tensors);
    write_key_int(w, "file_bytes", (int64_t)model->file_bytes);
    write_close(w, '}');
}

static void write_card(struct writer *w, const struct plan_view *view, uint32_t i) {
    const struct plan_card *c = &view->plan->cards[i];
    const struct account planned = account_of(c);
    write_open(w, '{');
    write_key_int(w, "card", i);
    write_described(w, &view->topology->cards[i]);
    write_key_bool(w, "online", c->online);
    write_key_int(w, "capacity_bytes", (int64_t)c->capacity_bytes);
    write_range(w, "layers", c->layer_begin, c->layer_end);
    write_range(w, "lanes", c->lane_begin, c->lane_end);
    write_range(w, "heads", c->head_begin, c->head_end);
    write_range(w, "kv_heads", c->kv_begin, c->kv_end);
    write_range(w, "vocabulary", c->vocab_begin, c->vocab_end);
    write_range(w, "embedding", c->embd_begin, c->embd_end);
    write_account(w, "planned", &planned);
    write_key_int(w, "free_bytes", (int64_t)(c->capacity_bytes - plan_card_bytes(c)));
    write_key_string(w, "reason", c->reason);
    write_close(w, '}');
}

static void write_totals(struct writer *w, const struct plan *plan) {
    struct account sum = {0};
    for (uint32_t i = 0; i < plan->n_cards; i++) {
        const struct account a = account_of(&plan->cards[i]);
        sum.weights += a.weights;
        sum.kv += a.kv;
        sum.scratch += a.scratch;
        sum.landing += a.landing;
        sum.spilled += a.spilled;
    }
    write_account(w, "totals", &sum);
}

static void write_ranges(struct writer *w, const struct plan *plan, const struct model *model) {
    write_key(w, "ranges");
    write_open(w, '[');
    for (size_t i = 0; i < plan->n_ranges; i++) {
        const struct plan_range *r = &plan->ranges[i];
        write_open(w, '{');
        write_key_string(w, "tensor", model->tensors[r->tensor].name);
        write_key_int(w, "card", r->card);
        write_range(w, "rows", r->row_begin, r->row_end);
        write_range(w, "columns", r->col_begin, r->col_end);
        write_key_int(w, "offset", (int64_t)r->offset);
        write_key_int(w, "bytes", (int64_t)r->bytes);
        write_key_bool(w, "copy", r->copy);
        write_key_bool(w, "spilled", plan_spilled(plan, r));
        write_close(w, '}');
    }
    write_close(w, ']');
}

static void write_rate(struct writer *w, const char *key, double rate) {
    if (rate > 0)
        write_key_number(w, key, rate);
    else
        write_key_string(w, key, NULL);
}

static void write_lack(struct writer *w, const char *key, const char *lacks) {
    write_key_string(w, key, lacks[0] ? lacks : NULL);
}

static void write_prediction(struct writer *w, const struct prediction *p) {
    write_key(w, "predicted");
    write_open(w, '{');
    write_key_int(w, "tokens", p->tokens);
    write_rate(w, "prefill_tokens_per_s", p->prefill_tokens_per_s);
    write_rate(w, "decode_tokens_per_s", p->decode_tokens_per_s);
    write_key_number(w, "exchange_share", p->exchange_share);
    write_lack(w, "prefill_lacks", p->prefill_lacks);
    write_lack(w, "decode_lacks", p->decode_lacks);
    write_close(w, '}');
}

void write_plan(struct writer *w, const struct plan_view *view) {
    const struct plan *plan = view->plan;
    write_open(w, '{');
    write_key_bool(w, "fits", true);
    write_model(w, view->model);
    write_key_string(w, "split", plan_split_name(plan->split));
    write_key_string(w, "reason", plan->reason);
    write_key_int(w, "context", plan->context);
    write_key_int(w, "max_sequences", plan->max_sequences);
    write_key_int(w, "max_rows", plan->max_rows);
    write_key_string(w, "kv_type", kv_type_name(plan->kv_type));
    write_key_int(w, "kv_pages", plan->n_pages);
    write_totals(w, plan);
    write_prediction(w, view->prediction);
    write_box(w, view->topology);
    write_key(w, "cards");
    write_open(w, '[');
    for (uint32_t i = 0; i < plan->n_cards; i++)
        write_card(w, view, i);
    write_close(w, ']');
    write_links(w, view->topology, NULL);
    write_ranges(w, plan, view->model);
    write_close(w, '}');
}
