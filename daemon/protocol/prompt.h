/* SPDX-License-Identifier: Apache-2.0 */
/* prompt.h - from a request's prompt or messages to token ids.
 *
 * prompt_build() touches nothing but its arguments, so it may run on any thread. */
#ifndef OCTARC_PROTOCOL_PROMPT_H
#define OCTARC_PROTOCOL_PROMPT_H

#include "daemon/protocol/fields.h"
#include "daemon/protocol/host.h"

struct prompt {
    int32_t *ids; /* owned */
    size_t n;
};

struct prompt_set {
    struct prompt prompts[64]; /* PROMPTS_MAX */
    size_t n;
    bool list;     /* the request had a list of prompts */
    bool thinking; /* the answer goes on inside the reasoning that the prompt begins */
};

/* 0, or -1 with *failure filled; release with prompt_set_finish() either way. */
int prompt_build(struct prompt_set *set, const struct params *params,
                 const struct model_view *model, struct failure *failure);
void prompt_set_finish(struct prompt_set *set);

/* The text that the messages become, which the caller frees.  0, or -1 with *failure filled. */
int chat_text(const struct params *params, const struct model_view *model, char **text, size_t *n,
              struct failure *failure);

/* About how many bytes of text the prompt or the messages hold: what tells long from short. */
size_t prompt_weight(const struct params *params);

#endif
