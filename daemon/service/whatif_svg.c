/* SPDX-License-Identifier: Apache-2.0 */
/* A plan as a picture: layers against cards, then each card's bytes by purpose, then the peer
 * links.
 *
 * A column is a card.  Within it a layer's bar is as wide as the card's lanes of it, so a tensor
 * split shows eighths side by side.  Nothing is fetched: no font, no script, no style sheet. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/service/whatif.h"
#include "models/shown.h"

#define LEFT      110.0 /* where the first column begins */
#define COLUMN    144.0
#define GAP       16.0  /* between the bars of two columns */
#define TOP       112.0 /* of the first row */
#define ROWS_HIGH 420.0 /* all layers together */
#define END_ROW   18.0  /* embedding and output matrix, above and below the layers */
#define BAR_HIGH  150.0 /* a card's memory */
#define CELL_HIGH 26.0  /* a link */
#define TEXT_MAX  512

static const char colour_weights[] = "#3b6fb6", colour_embd[] = "#2f9e77",
                  colour_head[] = "#8a5bb5", colour_kv[] = "#e0a030", colour_scratch[] = "#b0524a",
                  colour_landing[] = "#7f8fa6", colour_spilled[] = "#9db8dc",
                  colour_free[] = "#e9ecef", colour_direct[] = "#cfe8d5",
                  colour_staged[] = "#f4d3b0", colour_absent[] = "#d9d9d9";

struct svg {
    const struct plan_view *view;
    struct buffer *out;
    double width, y; /* y: where the next part begins */
    int rc;
};

__attribute__((format(printf, 2, 3))) static void put(struct svg *s, const char *fmt, ...) {
    char line[2 * TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (s->rc == 0 && n > 0 && (size_t)n < sizeof line)
        s->rc = buffer_append(s->out, line, (size_t)n);
}

/* Text from outside, or cut anywhere, made safe for XML. */
static void put_escaped(struct svg *s, const char *text) {
    char shown[TEXT_MAX];
    shown_text(shown, sizeof shown, text, strlen(text));
    for (const char *c = shown; *c; c++) {
        if (*c == '<' || *c == '>' || *c == '&')
            put(s, "%s", *c == '<' ? "&lt;" : *c == '>' ? "&gt;" : "&amp;");
        else if (!strncmp(c, "\xEF\xBF\xBE", 3) || !strncmp(c, "\xEF\xBF\xBF", 3))
            c += 2; /* characters that XML has not */
        else
            put(s, "%c", *c);
    }
}

static void text_at(struct svg *s, double x, double y, const char *anchor, int size,
                    const char *fmt, ...) __attribute__((format(printf, 6, 7)));
static void text_at(struct svg *s, double x, double y, const char *anchor, int size,
                    const char *fmt, ...) {
    char text[TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    put(s, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" font-size=\"%d\">", x, y, anchor, size);
    put_escaped(s, text);
    put(s, "</text>\n");
}

/* A box with a text that shows where the pointer rests. */
static void box_at(struct svg *s, double x, double y, double wide, double high, const char *fill,
                   const char *fmt, ...) __attribute__((format(printf, 7, 8)));
static void box_at(struct svg *s, double x, double y, double wide, double high, const char *fill,
                   const char *fmt, ...) {
    char text[TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    put(s, "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill=\"%s\"><title>", x, y,
        wide, high, fill);
    put_escaped(s, text);
    put(s, "</title></rect>\n");
}

static double column(uint32_t card) {
    return LEFT + card * COLUMN;
}

/* --- title --- */

static void draw_title(struct svg *s) {
    const struct plan *plan = s->view->plan;
    const struct prediction *p = s->view->prediction;
    text_at(s, 16, 28, "start", 18, "%s", s->view->model->params.name);
    text_at(s, 16, 48, "start", 12, "%s", plan->reason);
    text_at(s, 16, 65, "start", 12, "context %u tokens, %u sequences, KV %s, %u pages; %s",
            plan->context, plan->max_sequences, kv_type_name(plan->kv_type), plan->n_pages,
            s->view->topology->origin[0] ? s->view->topology->origin : "simulated cards");
    if (p->decode_tokens_per_s > 0 && p->prefill_tokens_per_s > 0)
        text_at(s, 16, 82, "start", 12,
                "predicted for one sequence, at most: prefill %.0f tokens/s, decode %.1f tokens/s",
                p->prefill_tokens_per_s, p->decode_tokens_per_s);
    else
        text_at(s, 16, 82, "start", 12, "no prediction: the box does not state %s",
                p->decode_lacks[0] ? p->decode_lacks : p->prefill_lacks);
}

static void draw_legend(struct svg *s) {
    const struct {
        const char *colour, *name;
    } purposes[] = {{colour_weights, "layers"},     {colour_embd, "embedding"},
                    {colour_head, "output matrix"}, {colour_kv, "KV"},
                    {colour_scratch, "scratch"},    {colour_landing, "landing"},
                    {colour_spilled, "in host"},    {colour_free, "free"},
                    {colour_direct, "direct link"}, {colour_staged, "staged link"}};
    double x = 16;
    for (size_t i = 0; i < sizeof purposes / sizeof *purposes; i++) {
        box_at(s, x, s->y, 11, 11, purposes[i].colour, "%s", purposes[i].name);
        text_at(s, x + 15, s->y + 10, "start", 11, "%s", purposes[i].name);
        x += 28 + 6.2 * (double)strlen(purposes[i].name);
    }
    s->y += 30;
}

/* --- layers against cards --- */

/* A run of eighths of one row, [begin, end) of `all`. */
static void draw_part(struct svg *s, uint32_t card, double y, double high, uint64_t begin,
                      uint64_t end, uint64_t all, const char *fill, const char *what) {
    if (begin >= end)
        return;
    const double room = COLUMN - GAP;
    box_at(s, column(card) + room * (double)begin / (double)all, y,
           room * (double)(end - begin) / (double)all, high, fill, "card %u: %s", card, what);
}

static void draw_rows(struct svg *s) {
    const struct model_params *p = &s->view->model->params;
    const double row = ROWS_HIGH / p->n_layers, first = s->y + END_ROW, last = first + ROWS_HIGH;
    char what[64];
    for (uint32_t c = 0; c < s->view->plan->n_cards; c++) {
        const struct plan_card *card = &s->view->plan->cards[c];
        box_at(s, column(c), s->y, COLUMN - GAP, ROWS_HIGH + 2 * END_ROW,
               card->online ? "#f8f9fa" : colour_absent, "card %u: %s", c, card->reason);
        draw_part(s, c, s->y, END_ROW - 3, card->embd_begin, card->embd_end, p->n_vocab,
                  colour_embd,
                  p->tied ? "the embedding, which is the output matrix too" : "the embedding");
        for (uint32_t l = card->layer_begin; l < card->layer_end; l++) {
            const bool spilled = plan_spills(card, l);
            snprintf(what, sizeof what, "layer %u, lanes %u to %u%s", l, card->lane_begin,
                     card->lane_end - 1, spilled ? ", in host memory" : "");
            draw_part(s, c, first + l * row, row > 4 ? row - 1 : row * 0.8, card->lane_begin,
                      card->lane_end, LANES, spilled ? colour_spilled : colour_weights, what);
        }
        draw_part(s, c, last + 3, END_ROW - 3, card->vocab_begin, card->vocab_end, p->n_vocab,
                  colour_head, "the output matrix");
    }
    text_at(s, LEFT - 8, s->y + 12, "end", 11, "embedding");
    text_at(s, LEFT - 8, last + 14, "end", 11, "output");
    const uint32_t stride = p->n_layers > 40 ? 8 : p->n_layers > 16 ? 4 : 1;
    for (uint32_t l = 0; l < p->n_layers; l += stride)
        text_at(s, LEFT - 8, first + (l + 0.5) * row + 4, "end", 11, "layer %u", l);
    s->y = last + END_ROW + 14;
}

static void draw_heads(struct svg *s) {
    for (uint32_t c = 0; c < s->view->plan->n_cards; c++) {
        const double middle = column(c) + (COLUMN - GAP) / 2;
        text_at(s, middle, s->y + 12, "middle", 13, "card %u", c);
        text_at(s, middle, s->y + 27, "middle", 11, "%.17s", s->view->topology->cards[c].name);
        if (!s->view->plan->cards[c].online)
            text_at(s, middle, s->y + 41, "middle", 11, "not online");
    }
    s->y += 48;
}

/* --- bytes --- */

static void draw_account(struct svg *s) {
    char size[16];
    text_at(s, LEFT - 8, s->y + 14, "end", 11, "memory");
    for (uint32_t c = 0; c < s->view->plan->n_cards; c++) {
        const struct plan_card *card = &s->view->plan->cards[c];
        if (!card->online)
            continue;
        const struct {
            const char *name, *fill;
            uint64_t bytes;
        } parts[] = {{"weights", colour_weights, card->weights_bytes - card->spilled_bytes},
                     {"KV", colour_kv, card->kv_bytes},
                     {"scratch", colour_scratch, card->scratch_bytes},
                     {"landing", colour_landing, card->landing_bytes},
                     {"free", colour_free, card->capacity_bytes - plan_card_bytes(card)}};
        double y = s->y;
        for (int i = 0; i < 5; i++) {
            const double high = card->capacity_bytes ? BAR_HIGH * (double)parts[i].bytes /
                                                           (double)card->capacity_bytes
                                                     : 0;
            if (high > 0)
                box_at(s, column(c), y, 26, high, parts[i].fill, "card %u: %s %s", c, parts[i].name,
                       whatif_size(size, parts[i].bytes));
            y += high;
            text_at(s, column(c) + 32, s->y + 14 + 18 * i, "start", 11, "%s %s", parts[i].name,
                    whatif_size(size, parts[i].bytes));
        }
        text_at(s, column(c) + 32, s->y + 14 + 18 * 5, "start", 11, "of %s",
                whatif_size(size, card->capacity_bytes));
        if (card->spilled_bytes)
            text_at(s, column(c) + 32, s->y + 14 + 18 * 6, "start", 11, "in host: %s",
                    whatif_size(size, card->spilled_bytes));
    }
    s->y += BAR_HIGH + 28;
}

/* --- links --- */

static void draw_link(struct svg *s, uint32_t from, uint32_t to, double y) {
    const struct peer_link *link = &s->view->topology->links[from][to];
    const bool there = s->view->plan->cards[from].online && s->view->plan->cards[to].online;
    const double x = column(to), wide = COLUMN - GAP;
    char rate[24] = "unknown", latency[24] = "";
    if (link->bytes_per_s)
        snprintf(rate, sizeof rate, "%.3g GB/s", (double)link->bytes_per_s / 1e9);
    if (link->latency_ns)
        snprintf(latency, sizeof latency, ", %.3g us", (double)link->latency_ns / 1e3);
    box_at(s, x, y, wide, CELL_HIGH - 3,
           !there                      ? colour_absent
           : link->mode == LINK_DIRECT ? colour_direct
                                       : colour_staged,
           "card %u to card %u: %s, %s%s: %s", from, to, link_mode_name(link->mode), rate, latency,
           link->reason);
    text_at(s, x + wide / 2, y + 15, "middle", 11, "%s%s", rate, latency);
}

static void draw_links(struct svg *s) {
    const uint32_t n = s->view->topology->n_cards;
    if (n < 2)
        return;
    text_at(s, 16, s->y + 10, "start", 12,
            "Peer links, from the card of the row to that of the column");
    s->y += 20;
    for (uint32_t from = 0; from < n; from++) {
        text_at(s, LEFT - 8, s->y + 15, "end", 11, "from card %u", from);
        for (uint32_t to = 0; to < n; to++)
            if (from != to)
                draw_link(s, from, to, s->y);
        s->y += CELL_HIGH;
    }
}

static double height_of(const struct plan_view *view) {
    const uint32_t n = view->topology->n_cards;
    return TOP + 30 + 48 + ROWS_HIGH + 2 * END_ROW + 14 + BAR_HIGH + 28 +
           (n < 2 ? 0 : 20 + n * CELL_HIGH) + 16;
}

int whatif_svg(const struct plan_view *view, struct buffer *out) {
    const double wide = LEFT + view->plan->n_cards * COLUMN + 8;
    struct svg s = {.view = view, .out = out, .width = wide < 640 ? 640 : wide, .y = TOP - 14};
    const double high = height_of(view);
    put(&s,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 "
        "%.0f %.0f\" font-family=\"sans-serif\" fill=\"#212529\">\n",
        s.width, high, s.width, high);
    put(&s, "<title>");
    put_escaped(&s, view->model->params.name);
    put(&s, "</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n");
    draw_title(&s);
    draw_legend(&s);
    draw_heads(&s);
    draw_rows(&s);
    draw_account(&s);
    draw_links(&s);
    put(&s, "</svg>\n");
    return s.rc;
}
