/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/config_value.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/service/config.h"
#include "octarc/error.h"

/* Digits, and with `units` a suffix.  Returns the first byte after it, or NULL. */
static const char *parse_number(const char *text, bool units, uint64_t *value) {
    uint64_t v = 0;
    if (!isdigit((unsigned char)*text))
        return NULL;
    for (; isdigit((unsigned char)*text); text++)
        if (__builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*text - '0'), &v))
            return NULL;
    const char *const suffixes = "KMGT";
    const char *suffix = units && *text ? strchr(suffixes, toupper((unsigned char)*text)) : NULL;
    if (suffix) {
        text++;
        for (int i = 0; i <= suffix - suffixes; i++)
            if (__builtin_mul_overflow(v, 1024, &v))
                return NULL;
        if (text[0] == 'i' && text[1] == 'B')
            text += 2;
    }
    *value = v;
    return text;
}

static int parse_whole(const struct value_rule *rule, const char *text, uint32_t *field,
                       struct err *err) {
    const bool units = rule->kind == VALUE_SIZE;
    uint64_t v;
    const char *end = parse_number(text, units, &v);
    if (!end || *end || v < rule->least || v > rule->most)
        return err_set(err, -EINVAL, "'%.64s' is not a %s from %llu to %llu", text,
                       units ? "size" : "whole number", (unsigned long long)rule->least,
                       (unsigned long long)rule->most);
    *field = (uint32_t)v;
    return 0;
}

static int parse_sizes(const struct value_rule *rule, const char *text, struct config_sizes *field,
                       struct err *err) {
    struct config_sizes sizes = {0};
    const char *at = text;
    while (*at) {
        uint64_t v;
        const char *end = sizes.n < CARDS_MAX ? parse_number(at, true, &v) : NULL;
        if (!end || (*end && *end != ',') || (*end && !end[1]) || v < rule->least || v > rule->most)
            return err_set(err, -EINVAL,
                           "'%.64s' is not a list of 1 to %d sizes like 2G,512M (each at least 1M)",
                           text, CARDS_MAX);
        sizes.bytes[sizes.n++] = v;
        at = *end ? end + 1 : end;
    }
    *field = sizes;
    return 0;
}

static int parse_share(const struct value_rule *rule, const char *text, uint64_t *field,
                       struct err *err) {
    uint64_t v = SHARE_FREE;
    const char *end = *text ? parse_number(text, true, &v) : text;
    if (!end || *end || (*text && (v < rule->least || v > rule->most)))
        return err_set(err, -EINVAL, "'%.64s' is not a size from %llu to %llu", text,
                       (unsigned long long)rule->least, (unsigned long long)rule->most);
    *field = v;
    return 0;
}

static bool is_later(const struct value_rule *rule, const char *text) {
    for (uint32_t i = 0; rule->later && rule->later[i]; i++)
        if (!strcmp(rule->later[i], text))
            return true;
    return false;
}

static int parse_name(const struct value_rule *rule, const char *text, uint32_t *field,
                      struct err *err) {
    char allowed[128] = "";
    size_t n = 0;
    if (is_later(rule, text))
        return err_set(err, -ENOTSUP, "'%s' is not supported by this version", text);
    for (uint32_t i = 0; rule->names[i]; i++) {
        if (!strcmp(rule->names[i], text)) {
            *field = rule->first + i;
            return 0;
        }
        if (is_later(rule, rule->names[i]))
            continue;
        n += (size_t)snprintf(allowed + n, sizeof allowed - n, "%s%s", n ? ", " : "",
                              rule->names[i]);
    }
    return err_set(err, -EINVAL, "'%.64s' is none of %s", text, allowed);
}

int value_parse(const struct value_rule *rule, const char *value, void *config, struct err *err) {
    void *field = (char *)config + rule->offset;
    switch (rule->kind) {
    case VALUE_TEXT:
        if (strlen(value) >= rule->size)
            return err_set(err, -EINVAL, "the value has %zu bytes, %zu are allowed", strlen(value),
                           rule->size - 1);
        memset(field, 0, rule->size);
        memcpy(field, value, strlen(value));
        return 0;
    case VALUE_SIZES:
        return parse_sizes(rule, value, field, err);
    case VALUE_SHARE:
        return parse_share(rule, value, field, err);
    case VALUE_NAME:
        return parse_name(rule, value, field, err);
    case VALUE_PLACES:
        return value[0] ? places_add(field, value, err) : 0;
    default:
        return parse_whole(rule, value, field, err);
    }
}

bool rule_equal(const struct value_rule *rule, const void *a, const void *b) {
    return !memcmp((const char *)a + rule->offset, (const char *)b + rule->offset, rule->size);
}

void rule_copy(const struct value_rule *rule, void *to, const void *from) {
    memcpy((char *)to + rule->offset, (const char *)from + rule->offset, rule->size);
}
