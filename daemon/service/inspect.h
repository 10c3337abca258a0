/* SPDX-License-Identifier: Apache-2.0 */
/* inspect.h - octarcd --inspect: what a model file says, and what serving it would need.
 *
 * Only the header is read; nothing is loaded, and no service and no card is needed.  A file of an
 * architecture that is not served is shown all the same, with the reason. */
#ifndef OCTARC_SERVICE_INSPECT_H
#define OCTARC_SERVICE_INSPECT_H

#include "daemon/placement/plan.h"
#include "daemon/service/options.h"
#include "daemon/util/buffer.h"
#include "models/gguf.h"
#include "octarc/error.h"

#define INSPECT_ELEMENTS_MAX 16 /* of a list that are shown */

/* Tensors of one type. */
struct inspect_type {
    uint32_t type;
    uint64_t n_tensors, n_values, bytes;
};

/* What each of so many equal cards must have. */
struct inspect_need {
    enum split split;     /* with the least memory */
    uint64_t least_bytes; /* with a single whole context; 0: no memory is enough */
    uint64_t full_bytes;  /* with whole contexts for all sequences */
};

struct inspection {
    const struct gguf *gguf;
    struct inspect_type types[64];
    size_t n_types;
    uint32_t n_vocab;                /* tokens; 0: no tokenizer that is understood */
    struct gguf_string chat;         /* the template; n 0: none */
    bool served, chat_served;        /* by this octarcd */
    struct err why, why_chat;        /* not */
    uint32_t context, max_sequences; /* of the needs; served models only */
    enum kv_type kv_type;
    struct inspect_need needs[CARDS_MAX]; /* of 1, 2, … cards; served models only */
};

/* Print it, or on stderr why it cannot be read; the exit status, 0 or 1. */
int inspect_run(const struct options *options, const struct config *config);

/* For people (inspect_text.c), and as JSON (inspect_json.c).  0 or -ENOMEM. */
int inspect_text(const struct inspection *inspection, struct buffer *out);
int inspect_json(const struct inspection *inspection, struct buffer *out);

#endif
