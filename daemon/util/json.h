/* SPDX-License-Identifier: Apache-2.0 */
/* json.h - a strict reader in front of cJSON.
 *
 * The text is checked before anything is allocated: RFC 8259, valid UTF-8, and the limits below.
 * Long lists of plain numbers (token ids) do not become nodes: json_numbers() gives them as one
 * array.  Every error names the byte it stopped at.
 *
 * Threads: no shared state. */
#ifndef OCTARC_UTIL_JSON_H
#define OCTARC_UTIL_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_DEPTH_MAX     64
#define JSON_NODES_MAX     100000
#define JSON_NUMBERS_MAX   2000000 /* in lists of numbers only, longer than JSON_RUN_MIN */
#define JSON_RUN_MIN       16
#define JSON_KEYS_MAX      1024 /* of an object */
#define JSON_OPEN_KEYS_MAX 8192 /* of all objects around a point */
#define JSON_NUMBER_MAX    60   /* characters of a number */

struct cJSON;
struct err;

struct json {
    struct cJSON *root;
    struct json_run *runs; /* owned; in the order of the text */
    size_t n_runs;
};

struct json_run {
    size_t array; /* how many arrays begin before it */
    double *values;
    size_t n;
};

/* -EINVAL: not JSON as said above (duplicate keys, \u0000, lone surrogates and integers beyond 2^53
 * included); -E2BIG: a limit, which err names.  No allocation. */
int json_check(const char *text, size_t n, struct err *err);
/* The same of text that is carried on as it is: integers may have any size. */
int json_check_carried(const char *text, size_t n, struct err *err);

/* Check and parse.  The text is written to (lists of numbers become blanks) and not needed
 * afterwards.  As json_check, and -ENOMEM.  On success release with json_finish(). */
int json_read(struct json *json, char *text, size_t n, struct err *err);
void json_finish(struct json *json); /* a zeroed json is fine */

/* The numbers of a list that was kept as an array; NULL: `item` is not one (its nodes, if it is a
 * list, are at most JSON_RUN_MIN numbers or not only numbers). */
const double *json_numbers(const struct json *json, const struct cJSON *item, size_t *n);

#endif
