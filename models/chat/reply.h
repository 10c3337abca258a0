/* SPDX-License-Identifier: Apache-2.0 */
/* reply.h - what a model said, taken apart: text, reasoning, calls of tools.
 *
 * How a model spells them it learned with its chat template, so the template tells.  The text may
 * come in any pieces; what may still turn out to be the front of a marker is held back, and blanks
 * around what is taken out go with it.  What looks like a call and is none is text, to the byte.
 *
 * Threads: a reply belongs to one. */
#ifndef OCTARC_MODELS_CHAT_REPLY_H
#define OCTARC_MODELS_CHAT_REPLY_H

#include "daemon/util/buffer.h"
#include "models/chat/calls.h"

enum reply_kind {
    REPLY_PLAIN,   /* no tools */
    REPLY_TAGGED,  /* qwen, hermes: <tool_call>{"name", "arguments"}</tool_call>, or bare */
    REPLY_LLAMA,   /* the whole reply is {"name", "parameters"}, perhaps behind <|python_tag|> */
    REPLY_MISTRAL, /* [TOOL_CALLS][{"name", "arguments"}], or name[ARGS]{…} */
    REPLY_GEMMA,   /* <start_function_call>call:name{…}<end_function_call> */
    REPLY_PHI,     /* <|tool_call|>[{"name", "arguments"}]<|/tool_call|> */
    REPLY_HARMONY, /* gpt-oss: <|channel|>analysis<|message|>… */
    REPLY_CODER,   /* qwen3-coder: <tool_call><function=NAME><parameter=KEY>… */
    REPLY_KINDS,
};

struct reply_form {
    enum reply_kind kind;
    bool thinks; /* reasoning between <think> and </think>, or [THINK] and [/THINK] */
};

struct reply_form reply_form_of(const char *chat_template, size_t n);
/* Some of the markers are control tokens, which must be in the text. */
bool reply_form_control(struct reply_form form);

enum reply_part { REPLY_CONTENT, REPLY_REASONING };

struct reply_events {
    void (*text)(void *user, enum reply_part part, const char *bytes, size_t n);
    void (*call)(void *user, const struct tool_call *call);
    /* Whether there is such a tool: asked where no marker says that it is a call. */
    bool (*knows)(void *user, const struct tool_call *call);
    /* As calls_schema.types. */
    unsigned (*types)(void *user, const struct tool_call *call, const char *key, size_t n);
};

enum reply_state { IN_CONTENT, IN_REASONING, IN_CALL, IN_HEADER };

struct reply {
    struct reply_form form;
    bool tools;      /* calls are looked for */
    bool said, trim; /* text was given out; blanks that come next are not */
    bool begun;      /* whether the first message's header goes on is known */
    bool bare;       /* it is a header whose beginning the prompt has */
    enum reply_state state;
    const char *opened;           /* the marker that a call began with */
    char name[TOOL_NAME_MAX + 1]; /* of the call, where the header told it */
    struct buffer held;           /* not yet decided */
    size_t searched;              /* bytes of it in which no marker begins */
    struct buffer blank;          /* blanks that go out before more text */
    struct buffer arguments;      /* of a call, where they are to be written as JSON first */
    const struct reply_events *events;
    void *user;
    int rc; /* -ENOMEM: something is missing */
};

/* thinking: the prompt has opened the reasoning already.  Borrows events. */
void reply_init(struct reply *reply, struct reply_form form, bool tools, bool thinking,
                const struct reply_events *events, void *user);
void reply_push(struct reply *reply, const char *bytes, size_t n);
void reply_end(struct reply *reply); /* nothing more comes: what is held goes out */
void reply_finish(struct reply *reply);

#endif
