/* SPDX-License-Identifier: Apache-2.0 */
#include "client/pull/manifest.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/util/json.h"
#include "octarc/error.h"

struct reading {
    const char *path;
    struct err *err;
};

static int bad(const struct reading *r, const char *key, const char *must) {
    return err_set(r->err, -EINVAL, "%s: '%s' must be %s", r->path, key, must);
}

/* Printable, and short enough. */
static int take_text(const struct reading *r, const cJSON *object, const char *key, char *out,
                     size_t size, const char *otherwise) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    const char *text = cJSON_IsString(item) ? item->valuestring : otherwise;
    if (!text || (item && !cJSON_IsString(item)) || strlen(text) >= size)
        return bad(r, key, "a text, not a long one");
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return bad(r, key, "a text without control characters");
    memcpy(out, text, strlen(text) + 1);
    return 0;
}

/* What becomes the name of a file. */
static int take_name(const struct reading *r, const cJSON *object, const char *key, char *out,
                     size_t size, const char *otherwise) {
    const int rc = take_text(r, object, key, out, size, otherwise);
    if (rc)
        return rc;
    return !*out || *out == '.' || strchr(out, '/') ? bad(r, key, "a file's name") : 0;
}

static int take_count(const struct reading *r, const cJSON *object, const char *key, double most,
                      uint64_t *out, uint64_t otherwise) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    const double value = item ? item->valuedouble : (double)otherwise;
    if (item &&
        (!cJSON_IsNumber(item) || value < 1 || value > most || value != (double)(uint64_t)value))
        return bad(r, key, "a number of at least 1 within limits");
    *out = (uint64_t)value;
    return 0;
}

static int check_keys(const struct reading *r, const cJSON *object, const char *known) {
    char padded[64];
    for (const cJSON *item = object->child; item; item = item->next) {
        const int n = snprintf(padded, sizeof padded, " %s ", item->string);
        if (n < 0 || (size_t)n >= sizeof padded || !strstr(known, padded))
            return err_set(r->err, -EINVAL, "%s: '%.60s' is not one of%s", r->path, item->string,
                           known);
    }
    return 0;
}

static int take_digest(const struct reading *r, const cJSON *object, char out[SHA256_TEXT]) {
    const int rc = take_text(r, object, "sha256", out, SHA256_TEXT, NULL);
    if (rc)
        return rc;
    return strspn(out, "0123456789abcdef") == SHA256_TEXT - 1
               ? 0
               : bad(r, "sha256", "64 digits of lower-case hexadecimal");
}

/* "package==version" */
static int take_wheel(const struct reading *r, const cJSON *source, struct manifest *m) {
    char wheel[2 * MANIFEST_NAME_MAX];
    uint64_t parts = 1;
    int rc = take_text(r, source, "wheel", wheel, sizeof wheel, NULL);
    if (!rc)
        rc = take_name(r, source, "member", m->member, sizeof m->member, m->file);
    if (!rc)
        rc = take_count(r, source, "parts", MANIFEST_PARTS_MAX, &parts, 1);
    if (rc)
        return rc;
    char *equals = strstr(wheel, "==");
    if (!equals || equals == wheel || !equals[2] || strchr(wheel, '/') ||
        (size_t)(equals - wheel) >= sizeof m->package || strlen(equals + 2) >= sizeof m->version)
        return bad(r, "wheel", "package==version");
    *equals = 0;
    memcpy(m->package, wheel, strlen(wheel) + 1);
    memcpy(m->version, equals + 2, strlen(equals + 2) + 1);
    m->parts = (uint32_t)parts;
    if (parts > 1 && !strstr(m->package, "{part}"))
        return bad(r, "wheel", "a name with {part} where there are parts");
    return 0;
}

static int take_source(const struct reading *r, const cJSON *source, struct manifest *m) {
    if (!cJSON_IsObject(source))
        return bad(r, "source", "an object");
    const bool url = cJSON_GetObjectItemCaseSensitive(source, "url");
    int rc = check_keys(r, source, url ? " url " : " wheel member parts ");
    if (rc || !url)
        return rc ? rc : take_wheel(r, source, m);
    rc = take_text(r, source, "url", m->url, sizeof m->url, NULL);
    if (!rc && strncmp(m->url, "https://", 8) != 0 && strncmp(m->url, "http://", 7) != 0)
        rc = bad(r, "url", "one of http:// or https://");
    return rc;
}

static int take_further(const struct reading *r, const cJSON *list, struct manifest *m) {
    const cJSON *item;
    if (!list)
        return 0;
    const size_t n = strlen(m->file), n_url = strcspn(m->url, "?#");
    if (!cJSON_IsArray(list))
        return bad(r, "further_parts", "a list");
    if (parts_count(m->file, n) != (uint32_t)cJSON_GetArraySize(list) + 1 ||
        parts_count(m->url, n_url) != parts_count(m->file, n))
        return bad(r, "further_parts",
                   "as many as file and source.url say, which end in -00001-of-000NN.gguf");
    cJSON_ArrayForEach(item, list) {
        struct manifest_further *f = &m->further[m->n_further++];
        int rc = cJSON_IsObject(item) ? check_keys(r, item, " bytes sha256 ")
                                      : bad(r, "further_parts", "a list of objects");
        if (!rc)
            rc = take_count(r, item, "bytes", 9e15, &f->bytes, 0);
        if (!rc)
            rc = take_digest(r, item, f->sha256);
        if (rc)
            return rc;
    }
    return 0;
}

static int take_all(const struct reading *r, const cJSON *root, struct manifest *m) {
    int rc = cJSON_IsObject(root) ? 0 : err_set(r->err, -EINVAL, "%s: not an object", r->path);
    if (!rc)
        rc = check_keys(r, root,
                        " name file bytes sha256 licence needs_bytes source further_parts ");
    if (!rc)
        rc = take_name(r, root, "name", m->name, sizeof m->name, NULL);
    if (!rc)
        rc = take_name(r, root, "file", m->file, sizeof m->file, NULL);
    if (!rc)
        rc = take_text(r, root, "licence", m->licence, sizeof m->licence, NULL);
    if (!rc)
        rc = take_count(r, root, "bytes", 9e15, &m->bytes, 0);
    if (!rc)
        rc = take_count(r, root, "needs_bytes", 9e15, &m->needs_bytes, 0);
    if (!rc)
        rc = take_digest(r, root, m->sha256);
    if (!rc)
        rc = take_source(r, cJSON_GetObjectItemCaseSensitive(root, "source"), m);
    return rc ? rc : take_further(r, cJSON_GetObjectItemCaseSensitive(root, "further_parts"), m);
}

int manifest_read(struct manifest *manifest, char *text, size_t n, const char *path,
                  struct err *err) {
    const struct reading r = {path, err};
    struct manifest m = {.bytes = 0};
    struct json doc;
    struct err why;
    int rc = json_read(&doc, text, n, &why);
    if (rc)
        return err_set(err, rc == -ENOMEM ? rc : -EINVAL, "%s: %s", path, why.text);
    rc = take_all(&r, doc.root, &m);
    json_finish(&doc);
    if (rc == 0)
        *manifest = m;
    return rc;
}

uint64_t manifest_bytes(const struct manifest *m) {
    uint64_t bytes = m->bytes;
    for (uint32_t i = 0; i < m->n_further; i++) {
        if (m->further[i].bytes == 0)
            return 0;
        bytes += m->bytes ? m->further[i].bytes : 0;
    }
    return bytes;
}

void manifest_part(const char *pattern, uint32_t part, int digits, char *out, size_t size) {
    static const char one[] = "{part}", zero[] = "{part-1}";
    const char *hole = strstr(pattern, one), *other = strstr(pattern, zero);
    const size_t n = hole ? sizeof one - 1 : sizeof zero - 1;
    const uint32_t number = hole ? part : part - 1;
    hole = hole ? hole : other;
    if (hole)
        snprintf(out, size, "%.*s%0*u%s", (int)(hole - pattern), pattern, digits, number, hole + n);
    else
        snprintf(out, size, "%s", pattern);
}
