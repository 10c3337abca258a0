/* SPDX-License-Identifier: Apache-2.0 */
/* chat.h - chat templates: the Jinja that occurs in published GGUF files.
 *
 * A template can do nothing but produce text: no call leaves the interpreter.  Depth, steps, what
 * they look at, memory and output are limited, so a hostile template ends with an error within
 * about a second, not with the process. Threads: a compiled template is read-only and may render on
 * any thread. */
#ifndef OCTARC_MODELS_CHAT_CHAT_H
#define OCTARC_MODELS_CHAT_CHAT_H

#include <stddef.h>

#include "models/chat/reply.h"
#include "models/chat/value.h"

#define CHAT_SOURCE_MAX (1u << 20)  /* bytes of a template */
#define CHAT_DEPTH_MAX  64          /* nested expressions, blocks, macro calls */
#define CHAT_STEPS_MAX  1000000     /* evaluated nodes of one rendering */
#define CHAT_OUTPUT_MAX (16u << 20) /* bytes */

struct err;
struct chat_template;

/* -EINVAL: syntax (err names line, column and what was expected) or a construct outside the subset;
 * -E2BIG, -ENOMEM. */
int chat_template_create(struct chat_template **tmpl, const char *source, size_t n,
                         struct err *err);
void chat_template_destroy(struct chat_template *tmpl);

/* How a model of this template spells reasoning and calls of tools. */
struct reply_form chat_template_form(const struct chat_template *tmpl);

/* Render with `globals`, a dict that stays the caller's (messages, tools, bos_token, eos_token,
 * add_generation_prompt, …).  The text is the caller's, terminated, *n bytes.
 *   -EINVAL  the template raised an error or misused a value; err holds its message and line
 *   -E2BIG   more than CHAT_OUTPUT_MAX bytes, CHAT_STEPS_MAX steps or CHAT_DEPTH_MAX levels, or too
 *            many values and too much text looked at or made on the way
 *   -ENOMEM */
int chat_template_render(const struct chat_template *tmpl, struct chat_value *globals, char **text,
                         size_t *n, struct err *err);

#endif
