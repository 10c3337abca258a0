/* SPDX-License-Identifier: Apache-2.0 */
/* codec_counts.c - READY and CREDIT: what an engine has, and has done. */
#include "daemon/channel/codec_counts.h"

void put_ready(struct writer *w, const struct msg_ready *m) {
    put_u64(w, m->generation);
    put_u32(w, m->n_cards);
    for (uint32_t i = 0; i < m->n_cards; i++) {
        put_u64(w, m->cards[i].weights_bytes);
        put_u64(w, m->cards[i].kv_bytes);
        put_u64(w, m->cards[i].scratch_bytes);
        put_u64(w, m->cards[i].landing_bytes);
        put_u64(w, (uint64_t)m->cards[i].huge_bytes);
        put_u64(w, m->cards[i].copied_bytes);
        put_u64(w, m->cards[i].advised_bytes);
        put_u64(w, m->cards[i].prefetched_bytes);
        put_u64(w, (uint64_t)m->cards[i].resident_bytes);
        put_u64(w, m->cards[i].kept_bytes);
        for (uint32_t k = 0; k < DEVICE_PIECES_MAX; k++)
            put_u64(w, m->cards[i].held_bytes[k]);
        put_u64(w, m->cards[i].held_kv_bytes);
        put_u32(w, m->cards[i].misread);
    }
    put_u8(w, m->svm);
    put_string(w, m->storage_why);
    put_string(w, m->unheld_why);
    put_u64(w, m->kept_tokens);
    put_string(w, m->unkept_why);
    put_u8(w, m->xmx);
    put_string(w, m->xmx_why);
    put_u8(w, m->native);
    put_string(w, m->native_why);
}

void get_ready(struct reader *r, struct msg_ready *m) {
    m->generation = get_u64(r);
    m->n_cards = get_count(r, 124);
    r->bad |= m->n_cards > CARDS_MAX;
    for (uint32_t i = 0; i < m->n_cards && !r->bad; i++) {
        m->cards[i].weights_bytes = get_u64(r);
        m->cards[i].kv_bytes = get_u64(r);
        m->cards[i].scratch_bytes = get_u64(r);
        m->cards[i].landing_bytes = get_u64(r);
        m->cards[i].huge_bytes = (int64_t)get_u64(r);
        m->cards[i].copied_bytes = get_u64(r);
        m->cards[i].advised_bytes = get_u64(r);
        m->cards[i].prefetched_bytes = get_u64(r);
        m->cards[i].resident_bytes = (int64_t)get_u64(r);
        m->cards[i].kept_bytes = get_u64(r);
        for (uint32_t k = 0; k < DEVICE_PIECES_MAX; k++)
            m->cards[i].held_bytes[k] = get_u64(r);
        m->cards[i].held_kv_bytes = get_u64(r);
        m->cards[i].misread = get_u32(r);
    }
    m->svm = get_bool(r);
    get_string(r, m->storage_why, sizeof m->storage_why);
    get_string(r, m->unheld_why, sizeof m->unheld_why);
    m->kept_tokens = get_u64(r);
    get_string(r, m->unkept_why, sizeof m->unkept_why);
    m->xmx = get_bool(r);
    get_string(r, m->xmx_why, sizeof m->xmx_why);
    m->native = get_bool(r);
    get_string(r, m->native_why, sizeof m->native_why);
}

/* Of the links that have carried anything: both cards, bytes. */
static void put_links(struct writer *w, const struct link_bytes *bytes) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < CARDS_MAX * CARDS_MAX; i++)
        n += bytes->n[i / CARDS_MAX][i % CARDS_MAX] > 0;
    put_u32(w, n);
    for (uint32_t i = 0; i < CARDS_MAX * CARDS_MAX; i++)
        if (bytes->n[i / CARDS_MAX][i % CARDS_MAX]) {
            put_u8(w, (uint8_t)i);
            put_u64(w, bytes->n[i / CARDS_MAX][i % CARDS_MAX]);
        }
}

/* Ascending, as they were put, so that no link comes twice. */
static void get_links(struct reader *r, struct link_bytes *bytes) {
    const uint32_t n = get_count(r, 9);
    int before = -1;
    for (uint32_t i = 0; i < n && !r->bad; i++) {
        const int at = get_u8(r);
        const uint64_t carried = get_u64(r);
        r->bad |= at <= before || at >= CARDS_MAX * CARDS_MAX || carried == 0;
        if (!r->bad)
            bytes->n[at / CARDS_MAX][at % CARDS_MAX] = carried;
        before = at;
    }
}

/* Of the cards to which anything came. */
static void put_fetched(struct writer *w, const struct fetch_counts *counts) {
    uint32_t cards = 0;
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        cards |= (uint32_t)(counts->bytes[i] || counts->faults[i]) << i;
    put_u8(w, (uint8_t)cards);
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        if (cards >> i & 1) {
            put_u64(w, counts->bytes[i]);
            put_u64(w, counts->faults[i]);
        }
}

static void get_fetched(struct reader *r, struct fetch_counts *counts) {
    const uint32_t cards = get_u8(r);
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        if (cards >> i & 1) {
            counts->bytes[i] = get_u64(r);
            counts->faults[i] = get_u64(r);
            r->bad |= !counts->bytes[i] && !counts->faults[i];
        }
}

void put_credit(struct writer *w, const struct msg_credit *m) {
    const uint32_t u32s[] = {m->free_sequences, m->free_pages, m->n_pages, m->running, m->waiting};
    for (size_t i = 0; i < 5; i++)
        put_u32(w, u32s[i]);
    put_u64(w, m->steps);
    put_u64(w, m->rows);
    put_links(w, &m->carried);
    put_fetched(w, &m->fetched);
}

void get_credit(struct reader *r, struct msg_credit *m) {
    uint32_t *const u32s[] = {&m->free_sequences, &m->free_pages, &m->n_pages, &m->running,
                              &m->waiting};
    for (size_t i = 0; i < 5; i++)
        *u32s[i] = get_u32(r);
    m->steps = get_u64(r);
    m->rows = get_u64(r);
    get_links(r, &m->carried);
    get_fetched(r, &m->fetched);
}
