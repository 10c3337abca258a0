/* SPDX-License-Identifier: Apache-2.0 */
#include "models/chat/reply.h"

#include <errno.h>
#include <string.h>

/* A whole reply is read as if it came in pieces: of what is held each marker moves the rest. */
#define PIECE_BYTES 4096u

struct marker {
    const char *text;
    enum reply_state from, to;
};

static const struct marker thinks[] = {{"<think>", IN_CONTENT, IN_REASONING},
                                       {"</think>", IN_REASONING, IN_CONTENT},
                                       {"[THINK]", IN_CONTENT, IN_REASONING},
                                       {"[/THINK]", IN_REASONING, IN_CONTENT},
                                       {0}};
static const struct marker tagged[] = {
    {"<tool_call>", IN_CONTENT, IN_CALL}, {"</tool_call>", IN_CALL, IN_CONTENT}, {0}};
/* The first one is forgotten at times. */
static const struct marker coder[] = {{"<tool_call>", IN_CONTENT, IN_CALL},
                                      {"<function=", IN_CONTENT, IN_CALL},
                                      {"</tool_call>", IN_CALL, IN_CONTENT},
                                      {0}};
static const struct marker llama[] = {{"<|python_tag|>", IN_CONTENT, IN_CALL}, {0}};
static const struct marker mistral[] = {
    {"[TOOL_CALLS]", IN_CONTENT, IN_CALL}, {"[TOOL_CALLS]", IN_CALL, IN_CALL}, {0}};
static const struct marker gemma[] = {{"<start_function_call>", IN_CONTENT, IN_CALL},
                                      {"<end_function_call>", IN_CALL, IN_CONTENT},
                                      {0}};
static const struct marker phi[] = {
    {"<|tool_call|>", IN_CONTENT, IN_CALL}, {"<|/tool_call|>", IN_CALL, IN_CONTENT}, {0}};
/* What a message is follows from its header: see enter_message(). */
static const struct marker harmony[] = {
    {"<|start|>", IN_CONTENT, IN_HEADER},   {"<|channel|>", IN_CONTENT, IN_HEADER},
    {"<|end|>", IN_CONTENT, IN_CONTENT},    {"<|return|>", IN_CONTENT, IN_CONTENT},
    {"<|start|>", IN_REASONING, IN_HEADER}, {"<|channel|>", IN_REASONING, IN_HEADER},
    {"<|end|>", IN_REASONING, IN_CONTENT},  {"<|return|>", IN_REASONING, IN_CONTENT},
    {"<|start|>", IN_CALL, IN_HEADER},      {"<|channel|>", IN_CALL, IN_HEADER},
    {"<|end|>", IN_CALL, IN_CONTENT},       {"<|call|>", IN_CALL, IN_CONTENT},
    {"<|message|>", IN_HEADER, IN_CONTENT}, {0}};

static const struct marker *const markers[] = {
    [REPLY_PLAIN] = NULL,      [REPLY_TAGGED] = tagged, [REPLY_LLAMA] = llama,
    [REPLY_MISTRAL] = mistral, [REPLY_GEMMA] = gemma,   [REPLY_PHI] = phi,
    [REPLY_HARMONY] = harmony, [REPLY_CODER] = coder,
};

/* --- which form --- */

static bool holds(const char *text, size_t n, const char *part) {
    return memmem(text, n, part, strlen(part)) != NULL;
}

struct reply_form reply_form_of(const char *t, size_t n) {
    struct reply_form form = {.thinks = holds(t, n, "</think>") || holds(t, n, "[/THINK]") ||
                                        holds(t, n, "[THINK]")};
    const bool tools = holds(t, n, "tools");
    if (holds(t, n, "<|channel|>") && holds(t, n, "<|message|>"))
        form = (struct reply_form){REPLY_HARMONY, false};
    else if (tools && holds(t, n, "[TOOL_CALLS]"))
        form.kind = REPLY_MISTRAL;
    else if (tools && holds(t, n, "<start_function_call>"))
        form.kind = REPLY_GEMMA;
    else if (tools && holds(t, n, "<|tool_call|>"))
        form.kind = REPLY_PHI;
    else if (tools && holds(t, n, "<tool_call>") && holds(t, n, "<function=") &&
             holds(t, n, "<parameter="))
        form.kind = REPLY_CODER;
    /* Calls that are not JSON inside the tags are of a form that cannot be read. */
    else if (tools && holds(t, n, "<tool_call>") && !holds(t, n, "<function="))
        form.kind = REPLY_TAGGED;
    else if (tools && (holds(t, n, "<|python_tag|>") ||
                       (holds(t, n, "<|start_header_id|>") && holds(t, n, "ipython"))))
        form.kind = REPLY_LLAMA;
    return form;
}

bool reply_form_control(struct reply_form form) {
    return form.kind == REPLY_LLAMA || form.kind == REPLY_GEMMA || form.kind == REPLY_MISTRAL ||
           form.kind == REPLY_PHI || form.kind == REPLY_HARMONY;
}

/* --- giving out --- */

static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static bool all_blank(const char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!is_blank(bytes[i]))
            return false;
    return true;
}

static void keep(struct reply *r, struct buffer *buffer, const char *bytes, size_t n) {
    if (n && buffer_append(buffer, bytes, n))
        r->rc = -ENOMEM;
}

static void give(struct reply *r, enum reply_part part, const char *bytes, size_t n) {
    if (n)
        r->events->text(r->user, part, bytes, n);
}

/* Blanks at the end wait: they are no text where a marker follows that takes them. */
static void say(struct reply *r, enum reply_part part, const char *bytes, size_t n) {
    const bool waits = part == REPLY_REASONING || r->tools || (r->form.thinks && !r->said);
    size_t end = n;
    while (r->trim && n && is_blank(*bytes))
        bytes++, n--, end--;
    if (n == 0)
        return;
    r->trim = false;
    while (waits && end && is_blank(bytes[end - 1]))
        end--;
    if (end) {
        give(r, part, r->blank.bytes, r->blank.n);
        r->blank.n = 0;
        give(r, part, bytes, end);
        r->said |= part == REPLY_CONTENT;
    }
    keep(r, &r->blank, bytes + end, n - end);
}

/* --- calls --- */

/* A call that no marker opened: what is held may be one. */
static bool is_bare(const struct reply *r) {
    return r->state == IN_CALL && !*r->opened && !*r->name;
}

/* Give out the calls that the text is; false: it is none. */
static bool give_calls(struct reply *r, const char *text, size_t n) {
    struct tool_call calls[TOOL_CALLS_MAX];
    size_t n_calls;
    if (*r->name) {
        calls[0] = (struct tool_call){.name = r->name, .n_name = strlen(r->name)};
        n_calls = calls_arguments(text, n, &calls[0].arguments, &calls[0].n_arguments);
    } else if (r->form.kind == REPLY_CODER) {
        const struct calls_schema schema = {r->events->types, r->user};
        n_calls =
            calls_coder(text, n, !strcmp(r->opened, "<function="), &schema, &r->arguments, calls);
    } else if (r->form.kind == REPLY_GEMMA) {
        n_calls = calls_gemma(text, n, &r->arguments, &calls[0]);
    } else {
        n_calls = calls_read(text, n, calls);
    }
    for (size_t i = 0; i < n_calls && is_bare(r); i++)
        n_calls = r->events->knows(r->user, &calls[i]) ? n_calls : 0;
    for (size_t i = 0; i < n_calls; i++)
        r->events->call(r->user, &calls[i]);
    if (n_calls) {
        r->blank.n = 0;
        r->trim = true;
    }
    return n_calls > 0;
}

static void read_calls(struct reply *r, const char *text, size_t n, const char *closed) {
    if (give_calls(r, text, n))
        return;
    r->trim = false;
    say(r, REPLY_CONTENT, r->opened, strlen(r->opened));
    say(r, REPLY_CONTENT, text, n);
    say(r, REPLY_CONTENT, closed, strlen(closed));
}

static const char to_function[] = "to=functions.";

/* "analysis", "final", "assistant<|channel|>commentary to=functions.NAME <|constrain|>json" */
static enum reply_state enter_message(struct reply *r, const char *header, size_t n) {
    const char *called = memmem(header, n, to_function, sizeof to_function - 1);
    r->name[0] = 0;
    r->opened = "";
    if (called && r->tools) {
        const char *name = called + sizeof to_function - 1;
        size_t length = 0;
        while (name + length < header + n && calls_name(name + length, 1))
            length++;
        if (calls_name(name, length)) {
            memcpy(r->name, name, length);
            r->name[length] = 0;
            return IN_CALL;
        }
    }
    return holds(header, n, "analysis") ? IN_REASONING : IN_CONTENT;
}

/* --- markers --- */

/* The reasoning comes first, or is none: later on the same words are text. */
static bool counts(const struct reply *r, const struct marker *m) {
    if (m->from != r->state)
        return false;
    if (m->to == IN_REASONING)
        return !r->said;
    return !(m->from == IN_CONTENT && m->to == IN_CALL) || r->tools;
}

/* A list's marker that comes first; *held: at the end, what may be the front of one. */
static const struct marker *find_in(const struct reply *r, const struct marker *list, size_t *at,
                                    size_t *held) {
    const struct marker *found = NULL;
    for (const struct marker *m = list; m && m->text; m++) {
        if (!counts(r, m))
            continue;
        const size_t n = strlen(m->text);
        const char *p = r->held.n > r->searched ? memmem(r->held.bytes + r->searched,
                                                         r->held.n - r->searched, m->text, n)
                                                : NULL;
        if (p && m->to == IN_REASONING && !all_blank(r->held.bytes, (size_t)(p - r->held.bytes)))
            p = NULL;
        if (p && (size_t)(p - r->held.bytes) < *at) {
            found = m;
            *at = (size_t)(p - r->held.bytes);
        }
        for (size_t k = n - 1 < r->held.n ? n - 1 : r->held.n; k > *held; k--)
            if (!memcmp(r->held.bytes + r->held.n - k, m->text, k))
                *held = k;
    }
    return found;
}

static const struct marker *find(const struct reply *r, size_t *at, size_t *held) {
    *at = r->held.n;
    *held = 0;
    const struct marker *found = find_in(r, markers[r->form.kind], at, held);
    const struct marker *other = r->form.thinks ? find_in(r, thinks, at, held) : NULL;
    return other ? other : found;
}

/* n bytes of what is held were what they were in this state; a marker follows, or the end. */
static void leave(struct reply *r, size_t n, const struct marker *m) {
    if (r->state == IN_CONTENT || r->state == IN_REASONING)
        say(r, r->state == IN_CONTENT ? REPLY_CONTENT : REPLY_REASONING, r->held.bytes, n);
    else if (r->state == IN_CALL)
        read_calls(r, r->held.bytes, n, m && m->to != IN_CALL ? m->text : "");
}

/* What is held is text after all, in which markers count as in any other. */
static void take_as_text(struct reply *r) {
    r->state = IN_CONTENT;
    r->said = true;
    r->trim = false;
    r->searched = 0;
}

static void pass(struct reply *r, size_t at, const struct marker *m) {
    const bool bare = is_bare(r);
    if (bare && !give_calls(r, r->held.bytes, at)) {
        take_as_text(r);
        return;
    }
    if (!bare)
        leave(r, at, m);
    enum reply_state next = m->to;
    if (r->state == IN_HEADER) {
        next = enter_message(r, r->held.bytes, at);
        r->bare = false;
    } else if (m->to == IN_CALL) {
        r->opened = m->text;
    }
    if (r->state == IN_REASONING || next == IN_REASONING) {
        r->blank.n = 0; /* reasoning has no blanks around it */
        r->trim = true;
    }
    r->state = next;
    buffer_drop(&r->held, at + strlen(m->text));
}

/* An object with members, as far as it is there: text in braces is let go at once. */
static bool may_be_object(const char *bytes, size_t n) {
    size_t at = 1;
    while (at < n && is_blank(bytes[at]))
        at++;
    return n == 0 || (bytes[0] == '{' && (at >= n || bytes[at] == '"'));
}

/* A whole reply in braces is a call of a tool that there is: one family marks it in no other way,
 * small models of another forget the marks. */
static void enter_bare_call(struct reply *r) {
    size_t at = 0;
    if (is_bare(r) && !may_be_object(r->held.bytes, r->held.n))
        take_as_text(r);
    if ((r->form.kind != REPLY_LLAMA && r->form.kind != REPLY_TAGGED) || !r->tools || r->said ||
        r->state != IN_CONTENT)
        return;
    while (at < r->held.n && is_blank(r->held.bytes[at]))
        at++;
    if (at == r->held.n || !may_be_object(r->held.bytes + at, r->held.n - at))
        return;
    leave(r, at, NULL);
    buffer_drop(&r->held, at);
    r->searched = 0;
    r->state = IN_CALL;
    r->opened = "";
}

/* The prompt has the front of the first message's header, which may go on with the tool that is
 * called: " to=functions.NAME<|channel|>commentary json<|message|>{…}".  False: it may yet. */
static bool begin(struct reply *r) {
    const size_t n = sizeof to_function - 1;
    size_t at = 0;
    while (at < r->held.n && is_blank(r->held.bytes[at]))
        at++;
    const size_t left = r->held.n - at;
    const bool same = !memcmp(r->held.bytes + at, to_function, left < n ? left : n);
    if (same && left < n)
        return false;
    r->bare = same;
    r->state = same ? IN_HEADER : r->state;
    r->begun = true;
    return true;
}

static void work(struct reply *r) {
    const struct marker *m;
    size_t at, held;
    if (!r->begun && !begin(r))
        return;
    for (enter_bare_call(r); (m = find(r, &at, &held)); enter_bare_call(r)) {
        r->searched = 0;
        pass(r, at, m);
    }
    r->searched = r->held.n - held;
    if (r->state == IN_CONTENT || r->state == IN_REASONING) {
        leave(r, r->held.n - held, NULL);
        buffer_drop(&r->held, r->held.n - held);
        r->searched = 0;
    }
}

void reply_init(struct reply *r, struct reply_form form, bool tools, bool thinking,
                const struct reply_events *events, void *user) {
    *r = (struct reply){.form = form,
                        .tools = tools,
                        .trim = thinking,
                        .begun = form.kind != REPLY_HARMONY || !tools,
                        .state = thinking ? IN_REASONING : IN_CONTENT,
                        .opened = "",
                        .events = events,
                        .user = user};
}

void reply_push(struct reply *r, const char *bytes, size_t n) {
    for (size_t at = 0, some; at < n && !r->rc; at += some) {
        some = n - at < PIECE_BYTES ? n - at : PIECE_BYTES;
        keep(r, &r->held, bytes + at, some);
        if (!r->rc)
            work(r);
    }
}

void reply_end(struct reply *r) {
    if (is_bare(r) && give_calls(r, r->held.bytes, r->held.n)) {
        r->held.n = 0;
    } else if (is_bare(r)) {
        take_as_text(r);
        work(r);
    }
    if (r->state == IN_HEADER && r->bare) /* no message followed, so it was text */
        r->state = IN_CONTENT;
    leave(r, r->held.n, NULL);
    r->held.n = r->searched = 0;
    if (r->state != IN_REASONING)
        give(r, REPLY_CONTENT, r->blank.bytes, r->blank.n);
    r->blank.n = 0;
}

void reply_finish(struct reply *r) {
    buffer_finish(&r->held);
    buffer_finish(&r->blank);
    buffer_finish(&r->arguments);
}
