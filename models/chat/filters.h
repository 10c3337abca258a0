/* SPDX-License-Identifier: Apache-2.0 */
/* filters.h - inside chat: what the filters share.  All return one reference, or NULL after a
 * failure; the value is borrowed. */
#ifndef OCTARC_MODELS_CHAT_FILTERS_H
#define OCTARC_MODELS_CHAT_FILTERS_H

#include "models/chat/eval.h"

typedef struct chat_value *(*filter)(struct eval *e, struct chat_value *v, const struct args *args);

static inline int64_t int_arg(const struct args *args, size_t i, const char *name,
                              int64_t otherwise) {
    const struct chat_value *v = args_get(args, i, name);
    return v && v->kind == V_INT ? v->integer : otherwise;
}

static inline bool true_arg(const struct args *args, size_t i, const char *name) {
    const struct chat_value *v = args_get(args, i, name);
    return v && value_true(v);
}

static inline const char *text_arg(const struct args *args, size_t i, const char *name) {
    const struct chat_value *v = args_get(args, i, name);
    return v && v->kind == V_STRING ? v->string.bytes : NULL;
}

/* lists.c */
struct chat_value *f_batch(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_dictsort(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_first(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_groupby(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_items(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_join(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_last(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_list(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_map(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_max(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_min(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_reject(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_rejectattr(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_reverse(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_select(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_selectattr(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_sort(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_sum(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_unique(struct eval *e, struct chat_value *v, const struct args *args);

/* numbers.c */
struct chat_value *f_abs(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_float(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_int(struct eval *e, struct chat_value *v, const struct args *args);
struct chat_value *f_round(struct eval *e, struct chat_value *v, const struct args *args);

#endif
