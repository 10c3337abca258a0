/* SPDX-License-Identifier: Apache-2.0 */
/* value.h - the values a chat template works on: none, booleans, numbers, strings, lists, dicts.
 *
 * Values are counted references; every function that takes a `struct chat_value *` to store it
 * takes over one reference, and every function that returns one from a container lends it.
 * NULL means "no memory" and may be stored anywhere: the container then becomes NULL too, so a
 * caller checks once, at the root.
 * Threads: references may be taken and given back on any thread; a container that is being changed
 * belongs to one. */
#ifndef OCTARC_MODELS_CHAT_VALUE_H
#define OCTARC_MODELS_CHAT_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chat_value;

struct chat_value *chat_none(void);
struct chat_value *chat_bool(bool value);
struct chat_value *chat_int(int64_t value);
struct chat_value *chat_float(double value);
struct chat_value *chat_string(const char *bytes, size_t n); /* copied */
struct chat_value *chat_list(void);
struct chat_value *chat_dict(void); /* keeps the order of insertion */

/* Both return the container, or NULL (and release it) when memory ran out. */
struct chat_value *chat_append(struct chat_value *list, struct chat_value *item);
struct chat_value *chat_set(struct chat_value *dict, const char *key, struct chat_value *item);

struct chat_value *chat_value_ref(struct chat_value *value);
void chat_value_unref(struct chat_value *value); /* NULL is fine */

#endif
