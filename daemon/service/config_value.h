/* SPDX-License-Identifier: Apache-2.0 */
/* config_value.h - the kinds of values a key of the configuration may have. */
#ifndef OCTARC_SERVICE_CONFIG_VALUE_H
#define OCTARC_SERVICE_CONFIG_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

enum value_kind {
    VALUE_TEXT,   /* char[] */
    VALUE_COUNT,  /* uint32_t */
    VALUE_SIZE,   /* uint32_t: bytes, with K, M, G, T as powers of 1024 */
    VALUE_SIZES,  /* struct config_sizes: up to CARDS_MAX of them, between commas; may be empty */
    VALUE_SHARE,  /* uint64_t: bytes, as before; empty: SHARE_FREE */
    VALUE_NAME,   /* uint32_t: first + index into names */
    VALUE_PLACES, /* struct places: one is added; empty: none is */
};

struct value_rule {
    enum value_kind kind;
    size_t offset, size;  /* of the field, in struct config */
    uint64_t least, most; /* of counts and sizes */
    uint32_t first;
    const char *const *names; /* NULL-terminated */
    const char *const *later; /* of these, those that are reserved and refused; or NULL */
};

/* -EINVAL: err holds the value and what is allowed; -ENOTSUP: a reserved name; -E2BIG: one more
 * than there may be.  The field is untouched then. */
int value_parse(const struct value_rule *rule, const char *value, void *config, struct err *err);
bool rule_equal(const struct value_rule *rule, const void *a, const void *b);
void rule_copy(const struct value_rule *rule, void *to, const void *from);

#endif
