/* SPDX-License-Identifier: Apache-2.0 */
/* json_fields.h - the members of a JSON object, by a table: for files that people write.
 *
 * Every member must be in the table and every value within its bounds; an error names the place, as
 * in "cards[3].pcie_lanes", and what is allowed there.  What is absent leaves its field as it was,
 * so the caller's values are the defaults.
 *
 * Threads: no shared state. */
#ifndef OCTARC_UTIL_JSON_FIELDS_H
#define OCTARC_UTIL_JSON_FIELDS_H

#include "daemon/util/json.h"

#define JSON_PATH_MAX 96 /* bytes of a place, with its end */

enum json_kind {
    JSON_TEXT,   /* char[]: printable, not empty, and shorter than the field */
    JSON_NUMBER, /* uint64_t: the number times the unit, rounded; least and most are before it */
    JSON_COUNT,  /* uint32_t: a whole number */
    JSON_BOOL,   /* bool */
    JSON_NAME,   /* uint32_t: index into names */
    JSON_LIST,   /* const struct cJSON *: of objects, at most `most` */
    JSON_OBJECT, /* const struct cJSON * */
};

struct json_field {
    const char *key;
    enum json_kind kind;
    bool required;
    size_t offset, size; /* in the struct that is filled */
    double least, most, unit;
    const char *const *names; /* ends with NULL */
};

/* Read an object into *out.  `path` is its place, empty for the whole text.  -EINVAL: err says
 * where and what; *out may be half written then. */
int json_fields(const struct json *json, const struct cJSON *object, const char *path,
                const struct json_field *fields, size_t n_fields, void *out, struct err *err);

/* The members of a JSON_LIST, in order; NULL starts and ends. */
const struct cJSON *json_next(const struct cJSON *list, const struct cJSON *before);

#endif
