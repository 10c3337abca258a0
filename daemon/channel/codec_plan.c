/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/channel/codec_plan.h"

static void put_card(struct writer *w, const struct plan_card *c) {
    const uint32_t u32s[] = {c->layer_begin, c->layer_end, c->lane_begin, c->lane_end,
                             c->head_begin,  c->head_end,  c->kv_begin,   c->kv_end,
                             c->own_begin,   c->own_end,   c->n_spilled};
    const uint64_t u64s[] = {c->capacity_bytes, c->vocab_begin,   c->vocab_end, c->embd_begin,
                             c->embd_end,       c->weights_bytes, c->kv_bytes,  c->scratch_bytes,
                             c->spilled_bytes,  c->landing_bytes};
    put_u8(w, c->online);
    for (size_t i = 0; i < sizeof u32s / sizeof *u32s; i++)
        put_u32(w, u32s[i]);
    for (size_t i = 0; i < sizeof u64s / sizeof *u64s; i++)
        put_u64(w, u64s[i]);
    put_string(w, c->reason);
}

static void get_card(struct reader *r, struct plan_card *c) {
    uint32_t *const u32s[] = {&c->layer_begin, &c->layer_end, &c->lane_begin, &c->lane_end,
                              &c->head_begin,  &c->head_end,  &c->kv_begin,   &c->kv_end,
                              &c->own_begin,   &c->own_end,   &c->n_spilled};
    uint64_t *const u64s[] = {&c->capacity_bytes, &c->vocab_begin,   &c->vocab_end,
                              &c->embd_begin,     &c->embd_end,      &c->weights_bytes,
                              &c->kv_bytes,       &c->scratch_bytes, &c->spilled_bytes,
                              &c->landing_bytes};
    c->online = get_bool(r);
    for (size_t i = 0; i < sizeof u32s / sizeof *u32s; i++)
        *u32s[i] = get_u32(r);
    for (size_t i = 0; i < sizeof u64s / sizeof *u64s; i++)
        *u64s[i] = get_u64(r);
    get_string(r, c->reason, sizeof c->reason);
    r->bad |= c->layer_begin > c->layer_end || c->layer_end > LAYERS_MAX || c->lane_end > LANES ||
              c->lane_begin > c->lane_end || c->head_begin > c->head_end ||
              c->kv_begin > c->kv_end || c->own_begin > c->own_end ||
              c->vocab_begin > c->vocab_end || c->embd_begin > c->embd_end ||
              c->n_spilled > c->layer_end - c->layer_begin || c->spilled_bytes > c->weights_bytes;
}

#define RANGE_BYTES (4 + 4 + 6 * 8 + 1)

void put_plan(struct writer *w, const struct plan *plan) {
    put_u32(w, plan->split);
    put_u32(w, plan->n_cards);
    for (uint32_t i = 0; i < plan->n_cards; i++)
        put_card(w, &plan->cards[i]);
    put_u32(w, plan->context);
    put_u32(w, plan->max_sequences);
    put_u32(w, plan->max_rows);
    put_u32(w, plan->max_outputs);
    put_u32(w, plan->kv_type);
    put_u32(w, plan->n_pages);
    put_u8(w, plan->dense);
    put_u8(w, plan->apart);
    put_string(w, plan->reason);
    put_u32(w, (uint32_t)plan->n_ranges);
    for (size_t i = 0; i < plan->n_ranges; i++) {
        const struct plan_range *g = &plan->ranges[i];
        const uint64_t u64s[] = {g->row_begin, g->row_end, g->col_begin,
                                 g->col_end,   g->offset,  g->bytes};
        put_u32(w, g->tensor);
        put_u32(w, g->card);
        for (size_t k = 0; k < 6; k++)
            put_u64(w, u64s[k]);
        put_u8(w, g->copy);
    }
}

void get_plan(struct reader *r, struct plan *plan) {
    plan->split = (enum split)get_u32(r);
    plan->n_cards = get_u32(r);
    r->bad |= plan->split >= SPLITS || plan->n_cards == 0 || plan->n_cards > CARDS_MAX;
    for (uint32_t i = 0; i < plan->n_cards && !r->bad; i++)
        get_card(r, &plan->cards[i]);
    plan->context = get_u32(r);
    plan->max_sequences = get_u32(r);
    plan->max_rows = get_u32(r);
    plan->max_outputs = get_u32(r);
    plan->kv_type = (enum kv_type)get_u32(r);
    plan->n_pages = get_u32(r);
    plan->dense = get_bool(r);
    plan->apart = get_bool(r);
    r->bad |= plan->kv_type > KV_Q8_0 || plan->context == 0 || plan->max_rows == 0 ||
              plan->max_sequences == 0 || plan->max_outputs == 0 || plan->n_pages == 0;
    get_string(r, plan->reason, sizeof plan->reason);
    const uint32_t n = get_count(r, RANGE_BYTES);
    plan->ranges = get_array(r, n, sizeof *plan->ranges);
    for (uint32_t i = 0; i < n && !r->bad; i++) {
        struct plan_range *g = &plan->ranges[i];
        uint64_t *const u64s[] = {&g->row_begin, &g->row_end, &g->col_begin,
                                  &g->col_end,   &g->offset,  &g->bytes};
        g->tensor = get_u32(r);
        g->card = get_u32(r);
        for (size_t k = 0; k < 6; k++)
            *u64s[k] = get_u64(r);
        g->copy = get_bool(r);
        r->bad |=
            g->card >= plan->n_cards || g->row_begin > g->row_end || g->col_begin > g->col_end;
    }
    plan->n_ranges = r->bad ? 0 : n;
}

void put_setup(struct writer *w, const struct msg_setup *m) {
    put_u64(w, m->generation);
    put_string(w, m->backend);
    put_string(w, m->model_name);
    put_u32(w, m->n_parts);
    put_u64(w, m->file.bytes);
    put_u64(w, m->file.mtime_ns);
    put_u64(w, m->file.inode);
    put_u64(w, m->file.device);
    put_u32(w, m->n_threads);
    put_u8(w, m->pin);
    put_u32(w, m->isa);
    put_u8(w, m->isolate);
    put_u32(w, m->n_eog);
    for (uint32_t i = 0; i < m->n_eog; i++)
        put_u32(w, (uint32_t)m->eog[i]);
    put_u8(w, m->log_content);
    put_u32(w, m->scrub_s);
    put_u32(w, m->card_silence_s);
    put_u32(w, m->storage);
    put_u8(w, m->try_cards);
    put_u8(w, m->beside);
    put_u8(w, m->hold);
    for (uint32_t i = 0; i < CARDS_MAX; i++) {
        for (uint32_t k = 0; k < DEVICE_PIECES_MAX; k++)
            put_u64(w, m->memory_bytes[i][k]);
        put_u64(w, m->kv_bytes[i]);
        put_string(w, m->slots[i]);
        put_u32(w, m->staged[i]);
    }
    put_plan(w, &m->plan);
}

void get_setup(struct reader *r, struct msg_setup *m) {
    m->generation = get_u64(r);
    get_string(r, m->backend, sizeof m->backend);
    get_string(r, m->model_name, sizeof m->model_name);
    m->n_parts = get_u32(r);
    r->bad |= m->n_parts == 0 || m->n_parts > GGUF_PARTS_MAX;
    m->file.bytes = get_u64(r);
    m->file.mtime_ns = get_u64(r);
    m->file.inode = get_u64(r);
    m->file.device = get_u64(r);
    m->n_threads = get_u32(r);
    m->pin = get_bool(r);
    m->isa = get_u32(r);
    m->isolate = get_bool(r);
    m->n_eog = get_count(r, 4);
    r->bad |= m->n_eog > EOG_MAX || m->isa > ISA_AVX512;
    for (uint32_t i = 0; i < m->n_eog && !r->bad; i++)
        m->eog[i] = (int32_t)get_u32(r);
    m->log_content = get_bool(r);
    m->scrub_s = get_u32(r);
    m->card_silence_s = get_u32(r);
    m->storage = get_u32(r);
    r->bad |= m->storage > DEVICE_SVM;
    m->try_cards = get_bool(r);
    m->beside = get_bool(r);
    m->hold = get_bool(r);
    for (uint32_t i = 0; i < CARDS_MAX; i++) {
        for (uint32_t k = 0; k < DEVICE_PIECES_MAX; k++)
            m->memory_bytes[i][k] = get_u64(r);
        m->kv_bytes[i] = get_u64(r);
        get_string(r, m->slots[i], sizeof m->slots[i]);
        m->staged[i] = get_u32(r);
    }
    if (!r->bad)
        get_plan(r, &m->plan);
}
