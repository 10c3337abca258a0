/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/util/json_fields.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "octarc/error.h"

struct place {
    const char *path, *key;
    struct err *err;
};

__attribute__((format(printf, 2, 3))) static int refuse(const struct place *at, const char *fmt,
                                                        ...) {
    char what[300];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    return err_set(at->err, -EINVAL, "%s%s%.40s: %s", at->path,
                   at->path[0] && at->key[0] ? "." : "", at->key, what);
}

static int read_text(const struct place *at, const struct json_field *f, const cJSON *item,
                     char *field) {
    if (!cJSON_IsString(item))
        return refuse(at, "a text is needed");
    const char *text = item->valuestring;
    if (!text[0])
        return refuse(at, "the text is empty");
    if (strlen(text) >= f->size)
        return refuse(at, "the text has %zu bytes, %zu are allowed", strlen(text), f->size - 1);
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7F ||
            ((unsigned char)c[0] == 0xC2 && (unsigned char)c[1] < 0xA0))
            return refuse(at, "a control character is in the text");
    snprintf(field, f->size, "%s", text);
    return 0;
}

static int read_number(const struct place *at, const struct json_field *f, const cJSON *item,
                       double *value) {
    const bool whole = f->kind == JSON_COUNT;
    const double v = cJSON_IsNumber(item) ? item->valuedouble : NAN;
    if (!(v >= f->least && v <= f->most) || (whole && v != floor(v)))
        return refuse(at, "a %snumber from %.15g to %.15g is needed", whole ? "whole " : "",
                      f->least, f->most);
    *value = v;
    return 0;
}

static int read_name(const struct place *at, const struct json_field *f, const cJSON *item,
                     uint32_t *field) {
    char allowed[160] = "";
    size_t n = 0;
    for (uint32_t i = 0; f->names[i]; i++) {
        if (cJSON_IsString(item) && !strcmp(item->valuestring, f->names[i])) {
            *field = i;
            return 0;
        }
        n += (size_t)snprintf(allowed + n, sizeof allowed - n, "%s%s", n ? ", " : "", f->names[i]);
    }
    return refuse(at, "one of %s is needed", allowed);
}

static int read_list(const struct place *at, const struct json *json, const struct json_field *f,
                     const cJSON *item, const cJSON **field) {
    size_t n_numbers;
    if (!cJSON_IsArray(item) || json_numbers(json, item, &n_numbers))
        return refuse(at, "a list of objects is needed");
    if (cJSON_GetArraySize(item) > (int)f->most)
        return refuse(at, "%d are in the list, at most %.0f are allowed", cJSON_GetArraySize(item),
                      f->most);
    const cJSON *each;
    cJSON_ArrayForEach(each, item) {
        if (!cJSON_IsObject(each))
            return refuse(at, "a list of objects is needed");
    }
    *field = item;
    return 0;
}

static int read_field(const struct place *at, const struct json *json, const struct json_field *f,
                      const cJSON *item, void *field) {
    double v = 0;
    int rc = 0;
    switch (f->kind) {
    case JSON_TEXT:
        return read_text(at, f, item, field);
    case JSON_NUMBER:
        rc = read_number(at, f, item, &v);
        if (rc == 0)
            *(uint64_t *)field = (uint64_t)(v * f->unit + 0.5);
        return rc;
    case JSON_COUNT:
        rc = read_number(at, f, item, &v);
        if (rc == 0)
            *(uint32_t *)field = (uint32_t)v;
        return rc;
    case JSON_BOOL:
        if (!cJSON_IsBool(item))
            return refuse(at, "true or false is needed");
        *(bool *)field = cJSON_IsTrue(item);
        return 0;
    case JSON_NAME:
        return read_name(at, f, item, field);
    case JSON_LIST:
        return read_list(at, json, f, item, field);
    case JSON_OBJECT:
        if (!cJSON_IsObject(item))
            return refuse(at, "an object is needed");
        *(const cJSON **)field = item;
        return 0;
    }
    return -EINVAL;
}

static int refuse_unknown(const struct place *at, const struct json_field *fields, size_t n) {
    char known[240] = "";
    size_t used = 0;
    for (size_t i = 0; i < n && used < sizeof known; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "",
                                 fields[i].key);
    return refuse(at, "there is no such key; there are %s", known);
}

int json_fields(const struct json *json, const struct cJSON *object, const char *path,
                const struct json_field *fields, size_t n, void *out, struct err *err) {
    const cJSON *item;
    if (!cJSON_IsObject(object))
        return err_set(err, -EINVAL, "%s%san object is needed", path, path[0] ? ": " : "");
    cJSON_ArrayForEach(item, object) {
        const struct place at = {path, item->string, err};
        size_t i = 0;
        while (i < n && strcmp(fields[i].key, item->string) != 0)
            i++;
        if (i == n)
            return refuse_unknown(&at, fields, n);
        const int rc = read_field(&at, json, &fields[i], item, (char *)out + fields[i].offset);
        if (rc < 0)
            return rc;
    }
    for (size_t i = 0; i < n; i++)
        if (fields[i].required && !cJSON_GetObjectItemCaseSensitive(object, fields[i].key)) {
            const struct place at = {path, fields[i].key, err};
            return refuse(&at, "this key is needed");
        }
    return 0;
}

const struct cJSON *json_next(const struct cJSON *list, const struct cJSON *before) {
    return before ? before->next : list ? list->child : NULL;
}
