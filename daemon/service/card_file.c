/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/card_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/protocol/writer.h"
#include "daemon/util/json_fields.h"
#include "daemon/util/utf8.h"
#include "octarc/error.h"

#define VERSION   1
#define COUNT_TOP 9007199254740991.0 /* the largest whole number that JSON keeps for sure */

/* --- what is known --- */

const struct card *cards_known_find(const struct cards_known *known, const char *identity) {
    for (uint32_t i = 0; i < known->n; i++)
        if (!strcmp(known->cards[i].identity.text, identity))
            return &known->cards[i];
    return NULL;
}

void cards_known_put(struct cards_known *known, const struct card *card) {
    const struct card *old = cards_known_find(known, card->identity.text);
    const struct card copy = *card; /* it may be one of these */
    uint32_t at = known->n;
    if (old)
        at = (uint32_t)(old - known->cards);
    else if (known->n < CARDS_KNOWN_MAX)
        known->n++;
    else
        at = CARDS_KNOWN_MAX - 1;
    memmove(known->cards + 1, known->cards, at * sizeof *known->cards);
    known->cards[0] = copy;
}

/* --- writing --- */

/* What is no text, or would not be read again, becomes '?'. */
static void clean(const char *text, char out[CARD_WHY_MAX]) {
    const size_t n = strnlen(text, CARD_WHY_MAX - 1);
    for (size_t i = 0; i < n;) {
        const size_t length = utf8_length(text + i, n - i);
        const unsigned char c = (unsigned char)text[i];
        const bool control =
            c < ' ' || c == 0x7F || (c == 0xC2 && (unsigned char)text[i + 1] < 0xA0);
        if (length == 0 || control) {
            const size_t bad = length ? length : 1;
            memset(out + i, '?', bad);
            i += bad;
        } else {
            memcpy(out + i, text + i, length);
            i += length;
        }
    }
    out[n] = 0;
}

static void write_count(struct writer *w, const char *key, uint64_t count) {
    write_key_int(w, key, count < (uint64_t)COUNT_TOP ? (int64_t)count : (int64_t)COUNT_TOP);
}

static void write_change(struct writer *w, const struct card_change *change) {
    char why[CARD_WHY_MAX];
    clean(change->why, why);
    write_open(w, '{');
    write_count(w, "at_ms", change->ms);
    write_key_string(w, "from", card_state_name(change->from));
    write_key_string(w, "to", card_state_name(change->to));
    if (change->fault)
        write_key_bool(w, "fault", true);
    if (why[0])
        write_key_string(w, "why", why);
    write_close(w, '}');
}

static void write_card(struct writer *w, const struct card *card) {
    write_open(w, '{');
    write_key_string(w, "identity", card->identity.text);
    write_key_string(w, "state", card_state_name(card->state));
    write_count(w, "since_ms", card->since_ms);
    for (int i = 0; i < CARD_FAULT_COUNT; i++)
        write_count(w, card_fault_name((enum card_fault)i), card->faults[i]);
    write_key(w, "history");
    write_open(w, '[');
    for (uint32_t i = 0; i < card->n_history; i++)
        write_change(w, &card->history[i]);
    write_close(w, ']');
    write_close(w, '}');
}

int card_file_write(const struct cards_known *known, struct buffer *out) {
    struct writer w = {.out = out};
    write_open(&w, '{');
    write_key_int(&w, "version", VERSION);
    write_key(&w, "cards");
    write_open(&w, '[');
    for (uint32_t i = 0; i < known->n; i++)
        write_card(&w, &known->cards[i]);
    write_close(&w, ']');
    if (known->links.box[0]) {
        write_key(&w, "links");
        links_known_write(&w, &known->links);
    }
    write_close(&w, '}');
    return w.rc ? w.rc : buffer_append(out, "\n", 1);
}

/* --- reading --- */

#define FIELD(type, field) offsetof(type, field), sizeof(((type *)0)->field)
#define N(table)           (sizeof table / sizeof *table)

static const char *const states[] = {"online",  "draining", "drained",     "lost", "fenced",
                                     "offline", "probing",  "quarantined", NULL};
_Static_assert(N(states) == CARD_STATE_COUNT + 1, "a name for each state");

struct change_reading {
    uint64_t ms;
    uint32_t from, to;
    bool fault;
    char why[CARD_WHY_MAX];
};

static int read_change(const struct json *json, const struct cJSON *object, const char *path,
                       struct card_change *change, struct err *err) {
    static const struct json_field fields[] = {
        {"at_ms", JSON_NUMBER, true, FIELD(struct change_reading, ms), 0, COUNT_TOP, 1, NULL},
        {"from", JSON_NAME, true, FIELD(struct change_reading, from), 0, 0, 0, states},
        {"to", JSON_NAME, true, FIELD(struct change_reading, to), 0, 0, 0, states},
        {"fault", JSON_BOOL, false, FIELD(struct change_reading, fault), 0, 0, 0, NULL},
        {"why", JSON_TEXT, false, FIELD(struct change_reading, why), 0, 0, 0, NULL},
    };
    struct change_reading r = {0};
    const int rc = json_fields(json, object, path, fields, N(fields), &r, err);
    if (rc < 0)
        return rc;
    *change = (struct card_change){
        .ms = r.ms, .from = (enum card_state)r.from, .to = (enum card_state)r.to, .fault = r.fault};
    memcpy(change->why, r.why, sizeof r.why);
    return 0;
}

struct card_reading {
    struct card card;
    uint32_t state;
    const struct cJSON *history;
};

static int read_card(const struct json *json, const struct cJSON *object, uint32_t number,
                     struct card *card, struct err *err) {
    static const struct json_field fields[] = {
        {"identity", JSON_TEXT, true, FIELD(struct card_reading, card.identity.text), 0, 0, 0,
         NULL},
        {"state", JSON_NAME, true, FIELD(struct card_reading, state), 0, 0, 0, states},
        {"since_ms", JSON_NUMBER, true, FIELD(struct card_reading, card.since_ms), 0, COUNT_TOP, 1,
         NULL},
        {"lost", JSON_NUMBER, false, FIELD(struct card_reading, card.faults[CARD_FAULT_LOST]), 0,
         COUNT_TOP, 1, NULL},
        {"silent", JSON_NUMBER, false, FIELD(struct card_reading, card.faults[CARD_FAULT_SILENT]),
         0, COUNT_TOP, 1, NULL},
        {"corrupt", JSON_NUMBER, false, FIELD(struct card_reading, card.faults[CARD_FAULT_CORRUPT]),
         0, COUNT_TOP, 1, NULL},
        {"history", JSON_LIST, true, FIELD(struct card_reading, history), 0, CARD_HISTORY_MAX, 0,
         NULL},
    };
    char path[JSON_PATH_MAX];
    struct card_reading r = {0};
    snprintf(path, sizeof path, "cards[%u]", number);
    int rc = json_fields(json, object, path, fields, N(fields), &r, err);
    r.card.state = (enum card_state)r.state;
    for (const struct cJSON *c = NULL; rc == 0 && (c = json_next(r.history, c));) {
        snprintf(path, sizeof path, "cards[%u].history[%u]", number, r.card.n_history);
        rc = read_change(json, c, path, &r.card.history[r.card.n_history++], err);
    }
    if (rc == 0)
        *card = r.card;
    return rc;
}

struct file_reading {
    uint32_t version;
    const struct cJSON *cards, *links;
};

static int read_all(struct cards_known *made, const struct json *json, struct err *err) {
    static const struct json_field fields[] = {
        {"version", JSON_COUNT, true, FIELD(struct file_reading, version), VERSION, VERSION, 0,
         NULL},
        {"cards", JSON_LIST, true, FIELD(struct file_reading, cards), 0, CARDS_KNOWN_MAX, 0, NULL},
        {"links", JSON_OBJECT, false, FIELD(struct file_reading, links), 0, 0, 0, NULL},
    };
    struct file_reading r = {0};
    int rc = json_fields(json, json->root, "", fields, N(fields), &r, err);
    for (const struct cJSON *c = NULL; rc == 0 && (c = json_next(r.cards, c));) {
        struct card *card = &made->cards[made->n];
        rc = read_card(json, c, made->n, card, err);
        if (rc == 0 && cards_known_find(made, card->identity.text))
            rc = err_set(err, -EINVAL, "cards[%u].identity: '%s' is here for the second time",
                         made->n, card->identity.text);
        made->n += rc == 0;
    }
    return rc || !r.links ? rc : links_known_read(&made->links, json, r.links, err);
}

int card_file_read(struct cards_known *known, char *text, size_t n, struct err *err) {
    struct json json = {0};
    struct cards_known *made = calloc(1, sizeof *made);
    if (!made)
        return err_set(err, -ENOMEM, "no memory to read what is known of cards");
    int rc = json_read(&json, text, n, err);
    if (rc == 0)
        rc = read_all(made, &json, err);
    if (rc == 0)
        *known = *made;
    json_finish(&json);
    free(made);
    return rc;
}
