/* SPDX-License-Identifier: Apache-2.0 */
/* calls.h - calls of tools as models write them: JSON, alone or in a list, or name[ARGS]{…}. */
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

/* A name that a tool may have. */
bool calls_name(const char *name, size_t n);

#endif
