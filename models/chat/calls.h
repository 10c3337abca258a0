/* SPDX-License-Identifier: Apache-2.0 */
/* calls.h - calls of tools as models write them: JSON, alone or in a list, or name[ARGS]{…}; and
 * two forms of which JSON is made. */
#ifndef OCTARC_MODELS_CHAT_CALLS_H
#define OCTARC_MODELS_CHAT_CALLS_H

#include <stdbool.h>
#include <stddef.h>

#include "daemon/util/buffer.h"

#define TOOL_NAME_MAX  64
#define TOOL_CALLS_MAX 64 /* of one reply's text between two markers */

struct tool_call {
    const char *name; /* letters, digits and ._-: ; both lie in the text */
    size_t n_name;
    const char *arguments; /* an object of JSON, as the model wrote it: digits are its own */
    size_t n_arguments;
};

/* All calls in the text, and nothing else but blanks, commas and semicolons between them.  Returns
 * how many; 0: that is not what it is. */
size_t calls_read(const char *text, size_t n, struct tool_call calls[TOOL_CALLS_MAX]);

/* Whether the text is one object of JSON: arguments, where the name is known. */
bool calls_arguments(const char *text, size_t n, const char **begin, size_t *length);

/* One call as gemma writes it (calls_gemma.c): call:NAME{key:<escape>text<escape>,key:1}.  Its
 * arguments are made as JSON in the buffer, which the caller finishes. */
bool calls_gemma(const char *text, size_t n, struct buffer *json, struct tool_call *call);

/* Types of JSON that a value may be of. */
enum {
    CALLS_STRING = 1,
    CALLS_NUMBER = 2,
    CALLS_BOOLEAN = 4,
    CALLS_OBJECT = 8,
    CALLS_ARRAY = 16,
    CALLS_NULL = 32,
};

/* What the tools' schemas say of a parameter: a mask of types; 0: nothing. */
struct calls_schema {
    unsigned (*types)(void *user, const struct tool_call *call, const char *key, size_t n);
    void *user;
};

/* Calls as qwen3-coder writes them (calls_coder.c): <function=NAME><parameter=KEY>value</parameter>
 * </function>, one or more.  opened: the first "<function=" is taken off already.  Returns how
 * many, as calls_read(); their arguments are made as JSON in the buffer, which the caller finishes.
 */
size_t calls_coder(const char *text, size_t n, bool opened, const struct calls_schema *schema,
                   struct buffer *json, struct tool_call calls[TOOL_CALLS_MAX]);

/* Append the text as a string of JSON; -ENOMEM. */
int calls_put_text(struct buffer *json, const char *text, size_t n);

/* A name that a tool may have. */
bool calls_name(const char *name, size_t n);

#endif
