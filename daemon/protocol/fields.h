/* SPDX-License-Identifier: Apache-2.0 */
/* fields.h - the fields of every request: one table of name, type, range and what becomes of it.
 *
 * A field that the table does not know for this kind of request, or whose value does not fit, fails
 * the request by name; null means absent.  A field whose only accepted value is the one that
 * changes nothing is a promise not kept yet, and says so when another value comes. */
#ifndef OCTARC_PROTOCOL_FIELDS_H
#define OCTARC_PROTOCOL_FIELDS_H

#include "daemon/protocol/errors.h"
#include "daemon/scheduler/scheduler.h"
#include "daemon/util/json.h"

struct cJSON;
struct tokenizer;

#define INTEGER_TOP 9007199254740992.0 /* 2^53: a JSON number beyond it may stand for another */

/* Which requests know a field; the kind of a method. */
enum kind {
    KIND_NONE = 0,
    KIND_COMPLETE = 1, /* /v1/completions */
    KIND_CHAT = 2,     /* /v1/chat/completions */
    KIND_LLAMA = 4,    /* /completion */
    KIND_TOKENIZE = 8,
    KIND_DETOKENIZE = 16,
    KIND_TEMPLATE = 32, /* /apply-template */
    KIND_CANCEL = 64,
    KIND_DRILL = 128,
    KIND_MODELS = 256,
    KIND_CARD = 512, /* drain, online */
    KIND_REBALANCE = 1024,
    KIND_EVENTS = 2048,
    KIND_CHECK = 4096,
    KIND_GENERATE = KIND_COMPLETE | KIND_CHAT | KIND_LLAMA,
};

struct params {
    enum kind kind;
    const struct json *doc;            /* borrowed: strings and nodes below point into it */
    const struct tokenizer *tokenizer; /* borrowed while reading */
    const char *model;
    const struct cJSON *prompt, *messages, *template_kwargs, *tokens;
    const struct cJSON *tools; /* NULL: none, or none wanted */
    bool no_tools, raw_reasoning, parallel_calls;
    const char *content;
    const char *reasoning_effort; /* NULL: as the template has it */
    bool stream, include_usage;
    int64_t max_tokens; /* -1: until the context is full */
    int64_t n;
    double temperature, top_p, min_p, repeat_penalty, frequency_penalty, presence_penalty;
    int64_t top_k, repeat_last_n, min_keep;
    uint64_t seed; /* drawn when none was sent */
    bool ignore_eos, cache_prompt;
    const char *stops[STOP_STRINGS_MAX];
    uint32_t n_stops;
    struct logit_bias *bias; /* owned */
    uint32_t n_bias;
    bool logprobs;      /* chat: asked for; else set when n_logprobs was given */
    int64_t n_logprobs; /* logprobs, top_logprobs, n_probs */
    bool echo, return_tokens;
    bool add_special, parse_special, with_pieces, add_generation_prompt;
    const char *id, *fault; /* cancel, drill, models */
    const struct cJSON *rpc_id;
    int64_t id_number;  /* -1: none */
    int64_t card;       /* drain, online, check: -1: none */
    bool wait, release; /* drain, online */
    bool dry_run;       /* rebalance */
    bool silent;        /* drill */
    int64_t since;      /* events */
};

/* Read the members of `object` (NULL: none sent) by the table.  0, or -1 with *failure filled and
 * *params to be finished all the same. */
int params_read(struct params *params, enum kind kind, const struct json *doc,
                const struct cJSON *object, const struct tokenizer *tokenizer,
                struct failure *failure);
void params_finish(struct params *params);

#endif
