/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/link_file.h"

#include <stdio.h>
#include <string.h>

#include "daemon/protocol/writer.h"
#include "daemon/util/json_fields.h"
#include "octarc/error.h"

#define COUNT_TOP          9007199254740991.0 /* the largest whole number that JSON keeps for sure */
#define FIELD(type, field) offsetof(type, field), sizeof(((type *)0)->field)
#define N(table)           (sizeof table / sizeof *table)

const struct link_known *links_known_find(const struct links_known *known, const char *from,
                                          const char *to) {
    for (uint32_t i = 0; i < known->n; i++)
        if (!strcmp(known->links[i].from, from) && !strcmp(known->links[i].to, to))
            return &known->links[i];
    return NULL;
}

void links_known_write(struct writer *w, const struct links_known *known) {
    write_open(w, '{');
    write_key_string(w, "box", known->box);
    write_key_int(w, "measured_ms", (int64_t)known->measured_ms);
    write_key(w, "pairs");
    write_open(w, '[');
    for (uint32_t i = 0; i < known->n; i++) {
        const struct link_known *l = &known->links[i];
        write_open(w, '{');
        write_key_string(w, "from", l->from);
        write_key_string(w, "to", l->to);
        write_key_string(w, "mode", link_mode_name(l->mode));
        write_key_int(w, "bytes_per_s", (int64_t)l->bytes_per_s);
        write_key_int(w, "latency_ns", (int64_t)l->latency_ns);
        if (l->why[0])
            write_key_string(w, "why", l->why);
        write_close(w, '}');
    }
    write_close(w, ']');
    write_close(w, '}');
}

struct links_reading {
    struct links_known known;
    const struct cJSON *pairs;
};

static int read_pair(const struct json *json, const struct cJSON *object, uint32_t number,
                     struct link_known *link, struct err *err) {
    static const char *const modes[] = {"staged", "direct", NULL};
    static const struct json_field fields[] = {
        {"from", JSON_TEXT, true, FIELD(struct link_known, from), 0, 0, 0, NULL},
        {"to", JSON_TEXT, true, FIELD(struct link_known, to), 0, 0, 0, NULL},
        {"mode", JSON_NAME, true, FIELD(struct link_known, mode), 0, 0, 0, modes},
        {"bytes_per_s", JSON_NUMBER, true, FIELD(struct link_known, bytes_per_s), 0, COUNT_TOP, 1,
         NULL},
        {"latency_ns", JSON_NUMBER, true, FIELD(struct link_known, latency_ns), 0, COUNT_TOP, 1,
         NULL},
        {"why", JSON_TEXT, false, FIELD(struct link_known, why), 0, 0, 0, NULL},
    };
    _Static_assert(sizeof link->mode == sizeof(uint32_t), "JSON_NAME fills 32 bits");
    char path[JSON_PATH_MAX];
    snprintf(path, sizeof path, "links.pairs[%u]", number);
    return json_fields(json, object, path, fields, N(fields), link, err);
}

int links_known_read(struct links_known *known, const struct json *json, const struct cJSON *object,
                     struct err *err) {
    static const struct json_field fields[] = {
        {"box", JSON_TEXT, true, FIELD(struct links_reading, known.box), 0, 0, 0, NULL},
        {"measured_ms", JSON_NUMBER, true, FIELD(struct links_reading, known.measured_ms), 0,
         COUNT_TOP, 1, NULL},
        {"pairs", JSON_LIST, true, FIELD(struct links_reading, pairs), 0, LINKS_KNOWN_MAX, 0, NULL},
    };
    struct links_reading r = {.pairs = NULL};
    int rc = json_fields(json, object, "links", fields, N(fields), &r, err);
    for (const struct cJSON *p = NULL; rc == 0 && (p = json_next(r.pairs, p));) {
        rc = read_pair(json, p, r.known.n, &r.known.links[r.known.n], err);
        r.known.n++;
    }
    if (rc == 0)
        *known = r.known;
    return rc;
}
