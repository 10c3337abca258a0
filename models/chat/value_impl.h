/* SPDX-License-Identifier: Apache-2.0 */
/* value_impl.h - inside chat: what a value is made of. */
#ifndef OCTARC_MODELS_CHAT_VALUE_IMPL_H
#define OCTARC_MODELS_CHAT_VALUE_IMPL_H

#include <stdatomic.h>

#include "models/chat/value.h"

enum value_kind {
    V_NONE,
    V_UNDEFINED,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STRING,
    V_LIST, /* a tuple too: only printing one tells them apart */
    V_DICT,
    V_LOOP,    /* "loop" inside a for */
    V_MACRO,   /* ast */
    V_BUILTIN, /* a function, by its place in the table */
};

struct node;

struct entry {
    struct chat_value *key; /* a string, or another hashable value */
    struct chat_value *item;
};

struct chat_value {
    union {
        atomic_uint refs;             /* the constants of a template are shared by its renderings */
        struct chat_value *next_dead; /* while it is being freed */
    };
    enum value_kind kind;
    bool is_namespace; /* V_DICT: attributes may be set */
    bool is_tuple;     /* V_LIST: printed with parentheses, and never changed */
    bool is_group;     /* V_LIST of two: also known as grouper and list */
    union {
        bool boolean;
        int64_t integer;
        double real;
        struct {
            char *bytes; /* terminated */
            size_t n;
        } string;
        struct {
            struct chat_value **items;
            size_t n, capacity;
        } list;
        struct {
            struct entry *entries; /* in order of insertion */
            size_t n, capacity;
        } dict;
        struct {
            struct chat_value *list;
            size_t at;
        } loop;
        struct {
            const struct node *macro;
            const char *name; /* V_UNDEFINED: of what is not there; V_BUILTIN */
            uint64_t scope;   /* V_MACRO: the names around it */
        } ref;
    };
};

struct chat_value *value_new(enum value_kind kind);
struct chat_value *value_undefined(const char *name); /* borrowed; may be NULL */
/* Take over a malloc'ed, terminated string. */
struct chat_value *value_take_string(char *bytes, size_t n);
struct chat_value *value_text(const char *text);

bool value_true(const struct chat_value *v);
bool value_is_number(const struct chat_value *v); /* booleans count, as in Python */
double value_real(const struct chat_value *v);
const char *value_type_name(const struct chat_value *v);

/* What walking through values has cost: one for each that is looked at, more for long texts.  The
 * functions below add to *work.  Values may share parts, so that a walk can be endless though the
 * values are small: beyond VALUE_WORK_MAX nothing is looked at any more, and what they return means
 * nothing; whoever called looks at *work. */
#ifndef VALUE_WORK_MAX /* less under sanitizers, which make everything many times slower */
#define VALUE_WORK_MAX (UINT64_C(1) << 24) /* at the worst about half a second */
#endif
#define VALUE_TOO_DEEP (UINT64_C(1) << 62) /* *work after nesting that is too deep to walk */

bool value_same(const struct chat_value *a, const struct chat_value *b, uint64_t *work);
/* -1, 0, 1; *ok false when the two cannot be ordered. */
int value_compare(const struct chat_value *a, const struct chat_value *b, bool *ok, uint64_t *work);
/* Whether storing v inside the container `what` would make it hold itself. */
bool value_holds(const struct chat_value *v, const struct chat_value *what, uint64_t *work);

/* Lent; NULL when the key is not there. */
struct chat_value *dict_get(const struct chat_value *dict, const char *key, size_t n,
                            uint64_t *work);
struct chat_value *dict_find(const struct chat_value *dict, const struct chat_value *key,
                             uint64_t *work);
/* Takes over the item; the key is referenced.  -ENOMEM. */
int dict_put(struct chat_value *dict, struct chat_value *key, struct chat_value *item,
             uint64_t *work);
/* Room for n items in an empty list; false: no memory. */
bool list_reserve(struct chat_value *list, size_t n);

#endif
