/* SPDX-License-Identifier: Apache-2.0 */
/* text.h - the text of one choice as its tokens arrive.
 *
 * Tokens become bytes, bytes become whole UTF-8, and whatever may still turn out to be the front of
 * a stop string is held back.  A stop string matches where it is complete first (of two that end
 * together the one that begins first), so the result does not depend on how the text is cut into
 * tokens; nothing from its first byte on is given out.
 * Threads: the loop's. */
#ifndef OCTARC_SCHEDULER_TEXT_H
#define OCTARC_SCHEDULER_TEXT_H

#include "daemon/scheduler/scheduler.h"
#include "daemon/util/buffer.h"
#include "daemon/util/utf8.h"

#define TEXT_TOP_BYTES_MAX (256u << 20) /* log-probabilities that wait to be given out */

struct text {
    const struct tokenizer *tokenizer; /* borrowed */
    const struct text_stops {
        char **strings;
        size_t *lengths;
        uint32_t n;
        size_t longest;
    } * stops; /* borrowed */
    bool special;
    struct utf8_stream utf8;
    struct buffer bytes;          /* made, not yet taken */
    size_t n_final;               /* of these, the ones that are final */
    uint64_t n_taken;             /* before them */
    struct request_token *tokens; /* not yet taken; their tops are owned */
    uint32_t n_tokens, tokens_capacity, tokens_final;
    size_t top_bytes;
    bool stopped;
    uint32_t stop; /* which, when stopped */
};

void text_init(struct text *text, const struct tokenizer *tokenizer, const struct text_stops *stops,
               bool special);
void text_finish(struct text *text);

/* Add a token; afterwards text->stopped may be true and the rest is final.  -ENOMEM, -EINVAL (not
 * of the vocabulary), -EMSGSIZE (TEXT_TOP_BYTES_MAX). */
int text_push(struct text *text, const struct msg_token *msg);
/* No more tokens: all that is held becomes final. */
int text_end(struct text *text);

/* The final bytes and tokens are bytes.bytes[0 .. n_final) and tokens[0 .. tokens_final); forget
 * them. */
void text_take(struct text *text);

#endif
