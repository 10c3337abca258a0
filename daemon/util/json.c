/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/util/json.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "daemon/util/utf8.h"
#include "octarc/error.h"

#define INTEGER_MAX 9007199254740992.0 /* 2^53: every integer up to it is exact in a double */

struct key {
    uint64_t hash;
    uint32_t at; /* of its opening quote */
};

struct scan {
    const char *text;
    size_t n, at;
    unsigned depth;
    size_t nodes, numbers, arrays;
    bool carried; /* numbers stay text */
    uint64_t seed;
    struct json *json; /* NULL: only check */
    char *writable;    /* the text, when json is set */
    struct err *err;
    unsigned n_keys;
    struct key keys[JSON_OPEN_KEYS_MAX];
};

static int fail(struct scan *s, const char *what) {
    return err_set(s->err, -EINVAL, "byte %zu: %s", s->at, what);
}

static int over(struct scan *s, const char *what, unsigned limit) {
    return err_set(s->err, -E2BIG, "byte %zu: more than %u %s", s->at, limit, what);
}

static void skip_space(struct scan *s) {
    while (s->at < s->n && (s->text[s->at] == ' ' || s->text[s->at] == '\t' ||
                            s->text[s->at] == '\n' || s->text[s->at] == '\r'))
        s->at++;
}

static int hex4(const char *p, const char *end) {
    int value = 0;
    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        const char c = p[i];
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* One character of a string, escapes resolved; *at moves behind it.  -1 with *why: not allowed. */
static int32_t next_char(const char *text, size_t n, size_t *at, const char **why) {
    const char *p = text + *at, *end = text + n;
    if ((unsigned char)*p < 0x20) {
        *why = "a control character in a string";
        return -1;
    }
    if (*p != '\\') {
        const size_t length = utf8_length(p, (size_t)(end - p));
        static const unsigned char first[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
        if (length == 0) {
            *why = "invalid UTF-8";
            return -1;
        }
        int32_t c = (unsigned char)*p & first[length];
        for (size_t i = 1; i < length; i++)
            c = c << 6 | ((unsigned char)p[i] & 0x3F);
        *at += length;
        return c;
    }
    *why = "an unknown escape in a string";
    if (end - p < 2)
        return -1;
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *name = p[1] ? strchr(names, p[1]) : NULL;
    if (name) {
        *at += 2;
        return values[name - names];
    }
    if (p[1] != 'u')
        return -1;
    const int high = hex4(p + 2, end);
    if (high < 0)
        return -1;
    *at += 6;
    *why = high == 0 ? "\\u0000 is not allowed" : "a lone surrogate in a string";
    if (high == 0 || (high >= 0xDC00 && high <= 0xDFFF))
        return -1;
    if (high < 0xD800 || high > 0xDBFF)
        return high;
    const int low = end - p >= 12 && p[6] == '\\' && p[7] == 'u' ? hex4(p + 8, end) : -1;
    if (low < 0xDC00 || low > 0xDFFF)
        return -1;
    *at += 6;
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
}

/* A string; *hash is of its decoded characters. */
static int scan_string(struct scan *s, uint64_t *hash) {
    if (s->at >= s->n || s->text[s->at] != '"')
        return fail(s, "expected a string");
    s->at++;
    uint64_t h = s->seed;
    for (;;) {
        if (s->at >= s->n)
            return fail(s, "the text ends inside a string");
        if (s->text[s->at] == '"')
            break;
        const char *why = "";
        const int32_t c = next_char(s->text, s->n, &s->at, &why);
        if (c < 0)
            return fail(s, why);
        h = (h ^ (uint64_t)c) * 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
    }
    s->at++;
    *hash = h;
    return 0;
}

static bool same_string(const struct scan *s, size_t a, size_t b) {
    const char *why = "";
    for (a++, b++;;) {
        const bool end_a = s->text[a] == '"', end_b = s->text[b] == '"';
        if (end_a || end_b)
            return end_a && end_b;
        if (next_char(s->text, s->n, &a, &why) != next_char(s->text, s->n, &b, &why))
            return false;
    }
}

static size_t digits(struct scan *s) {
    const size_t from = s->at;
    while (s->at < s->n && s->text[s->at] >= '0' && s->text[s->at] <= '9')
        s->at++;
    return s->at - from;
}

static double number_value(const char *text, size_t n) {
    char copy[JSON_NUMBER_MAX + 1];
    memcpy(copy, text, n);
    copy[n] = 0;
    return strtod(copy, NULL);
}

static int scan_number(struct scan *s) {
    const size_t from = s->at;
    bool integer = true;
    if (s->text[s->at] == '-')
        s->at++;
    const size_t first = s->at, n_int = digits(s);
    if (n_int == 0)
        return fail(s, "expected a value");
    if (n_int > 1 && s->text[first] == '0')
        return fail(s, "a number with a leading zero");
    if (s->at < s->n && s->text[s->at] == '.') {
        integer = false;
        s->at++;
        if (digits(s) == 0)
            return fail(s, "expected digits behind the point");
    }
    if (s->at < s->n && (s->text[s->at] == 'e' || s->text[s->at] == 'E')) {
        integer = false;
        s->at++;
        if (s->at < s->n && (s->text[s->at] == '+' || s->text[s->at] == '-'))
            s->at++;
        if (digits(s) == 0)
            return fail(s, "expected digits of an exponent");
    }
    if (s->at - from > JSON_NUMBER_MAX)
        return over(s, "characters of a number", JSON_NUMBER_MAX);
    if (integer && (n_int < 16 || s->carried))
        return 0;
    const double value = number_value(s->text + from, s->at - from);
    /* 2^53 + 1 reads as 2^53: the text decides. */
    if (integer && (fabs(value) > INTEGER_MAX || (fabs(value) == INTEGER_MAX &&
                                                  memcmp(s->text + first, "9007199254740992", 16))))
        return fail(s, "an integer beyond 2^53; send it as a string");
    if (!isfinite(value))
        return fail(s, "a number out of range");
    return 0;
}

static int scan_value(struct scan *s, bool *number);

static int add_key(struct scan *s, size_t at, uint64_t hash, unsigned first) {
    for (unsigned i = first; i < s->n_keys; i++)
        if (s->keys[i].hash == hash && same_string(s, s->keys[i].at, at)) {
            s->at = at;
            return fail(s, "a key that the object already has");
        }
    if (s->n_keys - first >= JSON_KEYS_MAX)
        return over(s, "keys in an object", JSON_KEYS_MAX);
    if (s->n_keys >= JSON_OPEN_KEYS_MAX)
        return over(s, "keys in nested objects", JSON_OPEN_KEYS_MAX);
    s->keys[s->n_keys++] = (struct key){.hash = hash, .at = (uint32_t)at};
    return 0;
}

static int scan_object(struct scan *s) {
    const unsigned first = s->n_keys;
    s->at++;
    skip_space(s);
    if (s->at < s->n && s->text[s->at] == '}') {
        s->at++;
        return 0;
    }
    for (;;) {
        const size_t at = s->at;
        uint64_t hash;
        bool number;
        int rc = scan_string(s, &hash);
        if (!rc)
            rc = add_key(s, at, hash, first);
        if (rc)
            return rc;
        skip_space(s);
        if (s->at >= s->n || s->text[s->at] != ':')
            return fail(s, "expected ':'");
        s->at++;
        skip_space(s);
        rc = scan_value(s, &number);
        if (rc)
            return rc;
        s->nodes += number;
        skip_space(s);
        if (s->at < s->n && s->text[s->at] == '}')
            break;
        if (s->at >= s->n || s->text[s->at] != ',')
            return fail(s, "expected ',' or '}'");
        s->at++;
        skip_space(s);
    }
    s->at++;
    s->n_keys = first;
    return 0;
}

/* Take a list of n plain numbers out of the text. */
static int take_run(struct scan *s, size_t array, size_t from, size_t n) {
    struct json *json = s->json;
    struct json_run *runs = realloc(json->runs, (json->n_runs + 1) * sizeof *runs);
    if (!runs)
        return err_set(s->err, -ENOMEM, "no memory for a list of %zu numbers", n);
    json->runs = runs;
    double *values = malloc(n * sizeof *values);
    if (!values)
        return err_set(s->err, -ENOMEM, "no memory for a list of %zu numbers", n);
    size_t k = 0;
    for (size_t at = from; at < s->at;) {
        size_t end = at;
        while (end < s->at && strchr("+-.0123456789eE", s->text[end]))
            end++;
        if (end > at)
            values[k++] = number_value(s->text + at, end - at);
        at = end + 1;
    }
    memset(s->writable + from, ' ', s->at - from);
    json->runs[json->n_runs++] = (struct json_run){.array = array, .values = values, .n = k};
    return 0;
}

static int scan_array(struct scan *s) {
    const size_t array = s->arrays++;
    size_t n = 0, n_numbers = 0;
    s->at++;
    const size_t from = s->at;
    skip_space(s);
    if (s->at < s->n && s->text[s->at] == ']') {
        s->at++;
        return 0;
    }
    for (;; n++) {
        bool number;
        int rc = scan_value(s, &number);
        if (rc)
            return rc;
        n_numbers += number;
        if (n_numbers > JSON_NUMBERS_MAX)
            return over(s, "numbers", JSON_NUMBERS_MAX);
        skip_space(s);
        if (s->at < s->n && s->text[s->at] == ']')
            break;
        if (s->at >= s->n || s->text[s->at] != ',')
            return fail(s, "expected ',' or ']'");
        s->at++;
        skip_space(s);
    }
    n++;
    int rc = 0;
    if (n_numbers == n && n > JSON_RUN_MIN) {
        s->numbers += n;
        if (s->numbers > JSON_NUMBERS_MAX)
            return over(s, "numbers", JSON_NUMBERS_MAX);
        rc = s->json ? take_run(s, array, from, n) : 0;
    } else {
        s->nodes += n_numbers;
        if (s->nodes > JSON_NODES_MAX)
            return over(s, "values", JSON_NODES_MAX);
    }
    s->at++;
    return rc;
}

static int scan_word(struct scan *s, const char *word) {
    const size_t n = strlen(word);
    if (s->n - s->at < n || memcmp(s->text + s->at, word, n) != 0)
        return fail(s, "expected a value");
    s->at += n;
    return 0;
}

/* Numbers are counted by the caller, who knows whether they stand in a list of numbers. */
static int scan_value(struct scan *s, bool *number) {
    uint64_t hash;
    int rc;
    *number = false;
    if (s->at >= s->n)
        return fail(s, "expected a value, the text ends");
    const char c = s->text[s->at];
    if (c == '-' || (c >= '0' && c <= '9')) {
        *number = true;
        return scan_number(s);
    }
    if (++s->nodes > JSON_NODES_MAX)
        return over(s, "values", JSON_NODES_MAX);
    switch (c) {
    case '{':
    case '[':
        if (++s->depth > JSON_DEPTH_MAX)
            return over(s, "levels", JSON_DEPTH_MAX);
        rc = c == '{' ? scan_object(s) : scan_array(s);
        s->depth--;
        return rc;
    case '"':
        return scan_string(s, &hash);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    default:
        return fail(s, "expected a value");
    }
}

static int scan_text(struct scan *s) {
    bool number;
    /* Hashes of keys start from the process's own random bytes, so that nobody can choose keys
     * that collide. */
    const void *random = (const void *)getauxval(AT_RANDOM); /* NOLINT: an address by contract */
    if (random)
        memcpy(&s->seed, random, sizeof s->seed);
    if (s->n >= UINT32_MAX)
        return err_set(s->err, -E2BIG, "a text of %zu bytes", s->n);
    skip_space(s);
    const int rc = scan_value(s, &number);
    if (rc)
        return rc;
    skip_space(s);
    return s->at < s->n ? fail(s, "something behind the value") : 0;
}

static int check(const char *text, size_t n, bool carried, struct err *err) {
    struct scan s;
    memset(&s, 0, offsetof(struct scan, keys));
    s.text = text;
    s.n = n;
    s.carried = carried;
    s.err = err;
    return scan_text(&s);
}

int json_check(const char *text, size_t n, struct err *err) {
    return check(text, n, false, err);
}

int json_check_carried(const char *text, size_t n, struct err *err) {
    return check(text, n, true, err);
}

/* Note at each array that was taken out which run it is; the order is the text's. */
static void mark_runs(const struct json *json, cJSON *item, size_t *array, size_t *run) {
    if (cJSON_IsArray(item)) {
        if (*run < json->n_runs && json->runs[*run].array == *array)
            item->valueint = (int)++*run;
        ++*array;
    }
    for (cJSON *child = item->child; child; child = child->next)
        mark_runs(json, child, array, run);
}

int json_read(struct json *json, char *text, size_t n, struct err *err) {
    struct json made = {0};
    struct scan s;
    memset(&s, 0, offsetof(struct scan, keys));
    s.text = s.writable = text;
    s.n = n;
    s.json = &made;
    s.err = err;
    int rc = scan_text(&s);
    if (rc)
        goto fail;
    made.root = cJSON_ParseWithLength(text, n);
    if (!made.root) {
        rc = err_set(err, -ENOMEM, "no memory to read %zu bytes of JSON", n);
        goto fail;
    }
    size_t array = 0, run = 0;
    mark_runs(&made, made.root, &array, &run);
    *json = made;
    return 0;
fail:
    json_finish(&made);
    return rc;
}

void json_finish(struct json *json) {
    cJSON_Delete(json->root);
    for (size_t i = 0; i < json->n_runs; i++)
        free(json->runs[i].values);
    free(json->runs);
    *json = (struct json){0};
}

const double *json_numbers(const struct json *json, const cJSON *item, size_t *n) {
    if (!cJSON_IsArray(item) || item->valueint <= 0 || (size_t)item->valueint > json->n_runs)
        return NULL;
    const struct json_run *run = &json->runs[item->valueint - 1];
    *n = run->n;
    return run->values;
}
