/* SPDX-License-Identifier: Apache-2.0 */
/* generate.h - the life of a request that makes text (private to protocol/).
 *
 * generate.c reads the request, tokenizes (off the loop when long), submits one scheduler request a
 * prompt, gathers what each choice says, and ends the call.  A struct shape says how one kind of
 * answer looks: openai.c and llama.c. */
#ifndef OCTARC_PROTOCOL_GENERATE_H
#define OCTARC_PROTOCOL_GENERATE_H

#include "daemon/protocol/call.h"
#include "daemon/protocol/prompt.h"
#include "models/chat/reply.h"

struct choice {
    struct run *run;
    uint32_t index;          /* in the answer: prompt * n + choice */
    struct buffer text;      /* what was not sent yet; of a whole answer: all */
    struct reply *reply;     /* owned; takes the text apart; NULL: it is all text */
    struct buffer reasoning; /* as text */
    struct buffer calls;     /* of tools: items of a JSON list; as text */
    uint32_t n_calls;        /* so far */
    struct buffer tokens;    /* JSON numbers, comma between */
    /* Members of JSON lists, made token by token: completions use all, the others the first. */
    struct buffer entries, logprobs, tops, offsets;
    uint32_t n_tokens; /* so far */
    uint32_t chars;    /* of the text so far, prompt included when echoed */
    bool newline;      /* a line feed was made */
    bool ended;
    struct request_end end;
    char stop_word[STOP_STRING_BYTES_MAX + 1];
    uint32_t n_prompt_done; /* prompt tokens whose log-probabilities came */
};

/* One prompt, which is one request of the scheduler. */
struct run {
    struct generation *generation;
    struct request *request; /* NULL: ended */
    const struct prompt *prompt;
    struct choice *choices; /* owned; params.n */
};

struct shape {
    const char *kind;      /* shown by ps */
    const char *id_prefix; /* "cmpl-" */
    bool done_line;
    /* A stream begins; may be NULL. */
    void (*begin)(struct generation *g, struct choice *choice);
    /* A token was made; may be NULL when nothing is kept of it. */
    void (*token)(struct generation *g, struct choice *choice, const struct request_token *token);
    /* The object for what was gathered since the last one; `last`: the choice has ended. */
    void (*chunk)(struct generation *g, struct choice *choice, bool last, struct writer *w);
    /* Behind the last choice of a stream; may be NULL. */
    void (*finish)(struct generation *g);
    void (*whole)(struct generation *g, struct writer *w);
};
extern const struct shape completion_shape, chat_shape, llama_shape;

struct generation {
    struct call *call; /* NULL: ended, waits to be buried */
    struct protocol *protocol;
    const struct shape *shape;
    struct json doc;
    struct params params;
    struct model_view model;
    char *model_id; /* a copy: the view is lent */
    struct prompt_set set;
    struct run *runs; /* owned; set.n */
    uint32_t n_open;  /* choices that have not ended */
    size_t bytes;     /* gathered for a whole answer */
    uint64_t created; /* seconds since 1970 */
    int rc;           /* of the prompt */
    struct failure failure;
    bool away;      /* on a thread of the pool */
    bool no_memory; /* something of the answer is missing: it fails */
    struct generation *next_dead;
};

/* Free the generations that have ended and cancel what the scheduler still has of them. */
void generation_bury(struct protocol *protocol);

/* Send *json as a chunk and finish it; rc is the writer's. */
void generation_send(struct generation *g, struct buffer *json, int rc);
struct choice *generation_choice(struct generation *g, uint32_t index);

/* said.c: what a choice says becomes its text, its reasoning and its calls, or is all text. */
bool said_needed(const struct generation *g);
bool said_control(const struct generation *g); /* control tokens must be in the text */
int said_begin(struct choice *choice);         /* -1: no memory */
void said_more(struct choice *choice, const char *text, size_t n);
void said_all(struct choice *choice); /* nothing more comes */
void said_finish(struct choice *choice);

/* Parts that several shapes write. */
void write_timings(struct writer *w, const struct generation *g);
void write_piece(struct writer *w, const struct generation *g, int32_t token);
void generation_usage(const struct generation *g, struct request_usage *usage);

#endif
