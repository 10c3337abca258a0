/* SPDX-License-Identifier: Apache-2.0 */
/* Replies of every family, whole and in pieces of every size. */
#include "models/chat/reply.h"

#include <stdio.h>
#include <string.h>

#include "tests/check.h"

static char got[4096]; /* "text" as it is, {reasoning}, <name arguments> */
static int part;       /* of what came last; -1: none */

static void on_text(void *user, enum reply_part of, const char *bytes, size_t n) {
    (void)user;
    if (part == REPLY_REASONING && of != REPLY_REASONING)
        strcat(got, "}");
    if (part != REPLY_REASONING && of == REPLY_REASONING)
        strcat(got, "{");
    CHECK(n > 0 && strlen(got) + n < sizeof got - 8);
    strncat(got, bytes, n);
    part = of;
}

static void on_call(void *user, const struct tool_call *call) {
    char text[1024];
    (void)user;
    if (part == REPLY_REASONING)
        strcat(got, "}");
    snprintf(text, sizeof text, "<%.*s %.*s>", (int)call->n_name, call->name,
             (int)call->n_arguments, call->arguments);
    strcat(got, text);
    part = -1;
}

static bool knows(void *user, const struct tool_call *call) {
    (void)user;
    return call->n_name == 1; /* f, g … */
}

static unsigned types(void *user, const struct tool_call *call, const char *key, size_t n) {
    static const struct {
        const char *key;
        unsigned types;
    } known[] = {{"s", CALLS_STRING},  {"n", CALLS_NUMBER},
                 {"b", CALLS_BOOLEAN}, {"o", CALLS_OBJECT},
                 {"l", CALLS_ARRAY},   {"ns", CALLS_STRING | CALLS_NUMBER | CALLS_NULL}};
    (void)user;
    for (size_t i = 0; i < sizeof known / sizeof *known && call->n_name == 1; i++)
        if (strlen(known[i].key) == n && !memcmp(known[i].key, key, n))
            return known[i].types;
    return 0;
}

static const struct reply_events events = {on_text, on_call, knows, types};

static void read_in_pieces(struct reply_form form, bool tools, bool thinking, const char *text,
                           size_t size) {
    struct reply r;
    const size_t n = strlen(text);
    got[0] = 0;
    part = -1;
    reply_init(&r, form, tools, thinking, &events, NULL);
    for (size_t at = 0; at < n; at += size)
        reply_push(&r, text + at, n - at < size ? n - at : size);
    reply_end(&r);
    CHECK_EQ(r.rc, 0);
    reply_finish(&r);
    if (part == REPLY_REASONING)
        strcat(got, "}");
}

static void check(struct reply_form form, bool tools, bool thinking, const char *text,
                  const char *want) {
    for (size_t size = 1; size <= strlen(text) + 1; size++) {
        read_in_pieces(form, tools, thinking, text, size);
        if (strcmp(got, want) != 0) {
            printf("# '%s' in pieces of %zu: '%s', want '%s'\n", text, size, got, want);
            CHECK(false);
        }
    }
}

static struct reply_form form_of(const char *chat_template) {
    return reply_form_of(chat_template, strlen(chat_template));
}

static void the_template_tells_the_form(void) {
    CHECK_EQ(form_of("{{ messages }}").kind, REPLY_PLAIN);
    CHECK_EQ(form_of("{% if tools %}<tool_call>").kind, REPLY_TAGGED);
    CHECK_EQ(form_of("<tool_call>").kind, REPLY_PLAIN);
    CHECK_EQ(form_of("{% if tools %}<tool_call><function=").kind, REPLY_PLAIN);
    CHECK_EQ(form_of("{% if tools %}<tool_call><function=<parameter=").kind, REPLY_CODER);
    CHECK_EQ(form_of("<tool_call><function=<parameter=").kind, REPLY_PLAIN);
    CHECK_EQ(form_of("tools <|start_header_id|>ipython").kind, REPLY_LLAMA);
    CHECK_EQ(form_of("tools <|python_tag|>").kind, REPLY_LLAMA);
    CHECK_EQ(form_of("tools [TOOL_CALLS]").kind, REPLY_MISTRAL);
    CHECK_EQ(form_of("tools <start_function_call>").kind, REPLY_GEMMA);
    CHECK_EQ(form_of("tools <|tool_call|>").kind, REPLY_PHI);
    CHECK_EQ(form_of("tools <|channel|> <|message|>").kind, REPLY_HARMONY);
    CHECK(form_of("x.split('</think>')").thinks && !form_of("think").thinks);
    CHECK(!reply_form_control(form_of("{% if tools %}<tool_call>")));
    CHECK(reply_form_control(form_of("tools [TOOL_CALLS]")));
}

static void text_without_markers_is_text_to_the_byte(void) {
    static const char *const texts[] = {
        "",       "a",          " a \n", "\n\n",  "a < b <",    "{\"name\": 1}",
        "<think", "<tool_call", "<|",    "[TOOL", "x <think> y"};
    for (int kind = REPLY_PLAIN; kind <= REPLY_HARMONY; kind++)
        for (int with = 0; with < 4; with++)
            for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
                check((struct reply_form){(enum reply_kind)kind, with & 1}, with & 2, false,
                      texts[i], texts[i]);
}

static void reasoning_is_told_from_the_answer(void) {
    const struct reply_form f = {REPLY_PLAIN, true};
    check(f, false, false, "<think>\nWhy? \n</think>\n\nSo. ", "{Why?}So. ");
    check(f, false, false, " <think>a</think>b</think>", "{a}b</think>");
    check(f, false, true, "\nWhy?\n</think>\nSo.", "{Why?}So.");
    check(f, false, true, "still at it \n", "{still at it}");
    check(f, false, false, "<think>\n\n</think>\n\nSo.", "So.");
    check(f, false, false, "[THINK]a[/THINK]b", "{a}b");
    check(f, false, false, "no <think>a</think>", "no <think>a</think>");
    check((struct reply_form){REPLY_TAGGED, true}, true, false,
          "<think>a</think>\n<tool_call>\n{\"name\": \"f\"}\n</tool_call>", "{a}<f {}>");
}

static void qwen_calls_tools(void) {
    const struct reply_form f = {REPLY_TAGGED, false};
    check(f, true, false,
          "Let me see.\n<tool_call>\n{\"name\": \"get\", \"arguments\": {\"a\": [1, \"}\\\"\"]}}\n"
          "</tool_call>\n<tool_call>\n{\"arguments\": {}, \"name\": \"put\"}\n</tool_call>\n",
          "Let me see.<get {\"a\": [1, \"}\\\"\"]}><put {}>");
    check(f, true, false, "<tool_call>{\"name\": \"f\", \"arguments\": {}}", "<f {}>");
    check(f, false, false, "<tool_call>{\"name\": \"f\"}</tool_call>",
          "<tool_call>{\"name\": \"f\"}</tool_call>");
    check(f, true, false, " {\"name\": \"f\", \"arguments\": {}}\n", "<f {}>");
    check(f, true, false, "{\"name\": \"unknown\"} ", "{\"name\": \"unknown\"} ");
    check((struct reply_form){REPLY_TAGGED, true}, true, false, /* found by the fuzzer */
          "<think>a</think>\n{<tool_call>x</tool_call>", "{a}{<tool_call>x</tool_call>");
    static const char *const none[] = {"a <tool_call>x</tool_call> b",
                                       "<tool_call>{\"name\": \"a b\"}</tool_call>",
                                       "<tool_call>{\"name\": 1}</tool_call>",
                                       "<tool_call>{\"name\": \"f\", \"arguments\": 1}</tool_call>",
                                       "<tool_call>{\"name\": \"f\", </tool_call>",
                                       "<tool_call>{\"name\": \"f\"} and</tool_call>",
                                       "<tool_call></tool_call>",
                                       "<tool_call>[]</tool_call>",
                                       "<tool_call>{\"name\": \"f",
                                       "<tool_call>"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        check(f, true, false, none[i], none[i]);
}

/* A double has no room for them, the text has. */
static void long_integers_keep_their_digits(void) {
    check((struct reply_form){REPLY_TAGGED, false}, true, false,
          "<tool_call>{\"name\": \"f\", \"arguments\": {\"id\": 12345678901234567891, \"a\": "
          "[-9007199254740993]}}</tool_call>",
          "<f {\"id\": 12345678901234567891, \"a\": [-9007199254740993]}>");
    check((struct reply_form){REPLY_MISTRAL, false}, true, false,
          "[TOOL_CALLS]f[ARGS]{\"id\": 12345678901234567891}",
          "<f {\"id\": 12345678901234567891}>");
    check((struct reply_form){REPLY_GEMMA, false}, true, false,
          "<start_function_call>call:f{id:12345678901234567891}<end_function_call>",
          "<f {\"id\": 12345678901234567891}>");
}

/* A reply may begin with a brace and call a tool later on. */
static void braces_in_front_swallow_no_call(void) {
    static const enum reply_kind kinds[] = {REPLY_TAGGED, REPLY_LLAMA};
    static const char *const fronts[] = {
        "{x} is a set.",        "{}",     "{",
        "{ \"a\": 1} is JSON.", "{\"a\"", "{\"name\": \"unknown\"}",
        "{\"name\": \"f\"} no"};
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < sizeof fronts / sizeof *fronts; i++) {
            const char *call =
                k ? "<|python_tag|>{\"name\": \"f\"}" : "<tool_call>{\"name\": \"f\"}</tool_call>";
            char text[256], want[256];
            snprintf(text, sizeof text, "%s %s", fronts[i], call);
            snprintf(want, sizeof want, "%s<f {}>", fronts[i]);
            check((struct reply_form){kinds[k], false}, true, false, text, want);
        }
    /* Inside of a call without marks they are what it says. */
    check((struct reply_form){REPLY_TAGGED, false}, true, false,
          "{\"name\": \"f\", \"arguments\": {\"a\": \"<tool_call>\"}}",
          "<f {\"a\": \"<tool_call>\"}>");
}

/* What can be no call is not waited for. */
static void text_in_braces_is_given_out_at_once(void) {
    struct reply r;
    got[0] = 0;
    part = -1;
    reply_init(&r, (struct reply_form){REPLY_TAGGED, false}, true, false, &events, NULL);
    reply_push(&r, "{", 1);
    CHECK(!*got);
    reply_push(&r, "x} is", 5);
    CHECK(!strcmp(got, "{x} is"));
    reply_end(&r);
    reply_finish(&r);
}

#define PARAMETER(key, value) "<parameter=" key ">\n" value "\n</parameter>\n"
#define FUNCTION(name, rest)  "<function=" name ">\n" rest "</function>\n"

static void qwen_coder_calls_tools(void) {
    const struct reply_form f = {REPLY_CODER, false};
    check(f, true, false,
          "Let me see.\n<tool_call>\n" FUNCTION(
              "f", PARAMETER("s", "12") PARAMETER("n", "12") PARAMETER("b", "True")
                       PARAMETER("o", "{\"a\": [1]}") PARAMETER("l", "[1, 2]")) "</tool_call>\n",
          "Let me see.<f {\"s\": \"12\", \"n\": 12, \"b\": true, \"o\": {\"a\": [1]}, \"l\": [1, "
          "2]}>");
    /* What is not of its type is text, and so is what no schema knows. */
    check(f, true, false,
          "<tool_call>\n" FUNCTION("f", PARAMETER("n", "twelve") PARAMETER("b", "1")
                                            PARAMETER("o", "[1]") PARAMETER("l", "[1")
                                                PARAMETER("x", "7")) "</tool_call>",
          "<f {\"n\": \"twelve\", \"b\": \"1\", \"o\": \"[1]\", \"l\": \"[1\", \"x\": \"7\"}>");
    check(f, true, false, "<tool_call>" FUNCTION("f", PARAMETER("ns", "7")) "</tool_call>",
          "<f {\"ns\": \"7\"}>");
    check(f, true, false, "<tool_call>" FUNCTION("f", PARAMETER("ns", "null")) "</tool_call>",
          "<f {\"ns\": null}>");
    /* Lines, quotes, tags and blanks of a text are its own, but for one newline on each side. */
    check(f, true, false,
          "<tool_call>\n" FUNCTION(
              "f", PARAMETER("s", "\n  if \"a\" < 1:\n\t</parameter> \\n\n")) "</tool_call>",
          "<f {\"s\": \"\\u000a  if \\\"a\\\" < 1:\\u000a\\u0009</parameter> \\\\n\\u000a\"}>");
    check(f, true, false, "<tool_call>" FUNCTION("f", "<parameter=s></parameter>") "</tool_call>",
          "<f {\"s\": \"\"}>");
    /* Several, none of its parameters, and without what opens it. */
    check(f, true, false,
          "<tool_call>\n" FUNCTION("f", "") "</tool_call>\n<tool_call>\n" FUNCTION(
              "g", "") "</tool_call>",
          "<f {}><g {}>");
    check(f, true, false, "Yes.\n" FUNCTION("f", PARAMETER("n", "-1")) "</tool_call> Done.",
          "Yes.<f {\"n\": -1}>Done.");
    check(f, true, false, "<tool_call>\n" FUNCTION("f", ""), "<f {}>");
    check(f, false, false, "<tool_call>\n" FUNCTION("f", "") "</tool_call>",
          "<tool_call>\n" FUNCTION("f", "") "</tool_call>");
    check((struct reply_form){REPLY_CODER, true}, true, false,
          "<think>\nHm\n</think>\n\n<tool_call>\n" FUNCTION("f", "") "</tool_call>", "{Hm}<f {}>");
    static const char *const none[] = {
        "<tool_call>{\"name\": \"f\"}</tool_call>",
        "<tool_call>" FUNCTION("a b", "") "</tool_call>",
        "<tool_call><function=f><parameter=s>1</parameter></tool_call>",
        "<tool_call><function=f><parameter=s>1</function></tool_call>",
        "<tool_call>" FUNCTION("f", PARAMETER("s", "1") PARAMETER("s", "2")) "</tool_call>",
        "<tool_call>" FUNCTION("f", "") "x</tool_call>",
        "<tool_call>" FUNCTION("f", "<parameter=>1</parameter>") "</tool_call>",
        "a <function=f and no more",
        "<tool_call></tool_call>"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        check(f, true, false, none[i], none[i]);
}

static void llama_calls_tools(void) {
    const struct reply_form f = {REPLY_LLAMA, false};
    check(f, true, false, "{\"name\": \"f\", \"parameters\": {\"x\": 1}}", "<f {\"x\": 1}>");
    check(f, true, false, "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\"}",
          "<f {}><g {}>");
    check(f, true, false, "{\"type\": \"function\", \"function\": {\"name\": \"f\"}}", "<f {}>");
    check(f, true, false, "{\"colour\": \"red\"}", "{\"colour\": \"red\"}");
    check(f, true, false, "Here: {\"name\": \"f\"}", "Here: {\"name\": \"f\"}");
    check(f, true, false, "<|python_tag|>print(1)", "<|python_tag|>print(1)");
    check(f, true, false, "{\"name\": \"unknown\"}", "{\"name\": \"unknown\"}");
    check(f, true, false, "<|python_tag|>{\"name\": \"unknown\"}", "<unknown {}>");
}

static void mistral_calls_tools(void) {
    const struct reply_form f = {REPLY_MISTRAL, true};
    check(f, true, false,
          "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}, \"id\": \"x\"}, {\"name\": \"g\"}]",
          "<f {}><g {}>");
    check(f, true, false, "Yes. [TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]g[CALL_ID]7[ARGS]{}",
          "Yes.<f {\"a\": 1}><g {}>");
    check(f, true, false, "[TOOL_CALLS]f{\"a\": 1}", "<f {\"a\": 1}>");
    check(f, true, false, "[TOOL_CALLS]f[ARGS]{\"a\": ", "[TOOL_CALLS]f[ARGS]{\"a\": ");
}

static void gemma_calls_tools(void) {
    const struct reply_form f = {REPLY_GEMMA, false};
    check(f, true, false,
          "<start_function_call>call:get_it{city:<escape>Paris, \"F\"<escape>,days:3,hot:false,"
          "tags:[<escape>a<escape>,b],in:{x:-1.5}}<end_function_call>",
          "<get_it {\"city\": \"Paris, \\\"F\\\"\", \"days\": 3, \"hot\": false, \"tags\": "
          "[\"a\", \"b\"], \"in\": {\"x\": -1.5}}>");
    check(f, true, false,
          "<start_function_call>call:f{}<end_function_call>\n"
          "<start_function_call>call:g{}",
          "<f {}><g {}>");
    static const char *const none[] = {"<start_function_call>call:f{a:<end_function_call>",
                                       "<start_function_call>call:f{a}<end_function_call>",
                                       "<start_function_call>call:f<end_function_call>",
                                       "<start_function_call>f{}<end_function_call>",
                                       "<start_function_call>call:f{} x<end_function_call>",
                                       "<start_function_call>call:f{a:1,a:2}<end_function_call>",
                                       "<start_function_call>call:f{a:<escape>"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        check(f, true, false, none[i], none[i]);
}

static void phi_calls_tools(void) {
    const struct reply_form f = {REPLY_PHI, false};
    check(f, true, false, "<|tool_call|>[{\"name\": \"f\", \"arguments\": {}}]<|/tool_call|>",
          "<f {}>");
    check(f, true, false, "<|tool_call|>{\"name\": \"f\"}", "<f {}>");
}

static void gpt_oss_speaks_in_channels(void) {
    const struct reply_form f = {REPLY_HARMONY, false};
    check(f, true, false,
          "<|channel|>analysis<|message|>Hm. <|end|><|start|>assistant<|channel|>final<|message|>"
          "So.<|return|>",
          "{Hm.}So.");
    check(f, true, false,
          "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary "
          "to=functions.get_it <|constrain|>json<|message|>{\"x\": 1}<|call|>",
          "{a}<get_it {\"x\": 1}>");
    check(f, true, false,
          "<|channel|>commentary<|message|>First.<|end|><|start|>assistant to=functions.f"
          "<|channel|>commentary json<|message|>{}",
          "First.<f {}>");
    check(f, true, false, " to=functions.f<|channel|>commentary json<|message|>{\"x\": 1}",
          "<f {\"x\": 1}>");
    check(f, true, false,
          "<|channel|>analysis<|message|>a<|end|><|start|>assistant to=functions.f<|channel|>"
          "commentary <|constrain|>json<|message|>{}<|call|>",
          "{a}<f {}>");
    check(f, true, false, " to=functions.f", " to=functions.f");
    check(f, true, false, " to=functions.f no message", " to=functions.f no message");
    check(f, true, false, "to=function: what?", "to=function: what?");
    check(f, true, false, " to", " to");
    check(f, true, false, "<|channel|>final<|message|> to=functions.f<|return|>",
          " to=functions.f");
    check(f, true, false, "<|channel|>commentary to=functions.a b<|message|>{}<|call|>", "<a {}>");
    check(f, true, false, "<|channel|>commentary to=functions.<|message|>{}<|end|>", "{}");
    check(f, false, false, "<|channel|>final<|message|>a<|end|>", "a");
    check(f, true, false, "<|channel|>commentary to=functions.f<|message|>{\"x\": ", "{\"x\": ");
}

static void a_long_call_takes_no_long_time(void) {
    struct reply r;
    const struct reply_form f = {REPLY_TAGGED, true};
    got[0] = 0;
    part = -1;
    reply_init(&r, f, true, false, &events, NULL);
    reply_push(&r, "<tool_call>", 11);
    for (int i = 0; i < 4 << 20;
         i++) /* four million pushes; looked through again and again: hours */
        reply_push(&r, "[", 1);
    CHECK_EQ(r.held.n, 4u << 20);
    CHECK_EQ(got[0], 0);
    reply_finish(&r);
}

CHECK_MAIN(T(the_template_tells_the_form), T(text_without_markers_is_text_to_the_byte),
           T(reasoning_is_told_from_the_answer), T(qwen_calls_tools),
           T(long_integers_keep_their_digits), T(braces_in_front_swallow_no_call),
           T(text_in_braces_is_given_out_at_once), T(qwen_coder_calls_tools), T(llama_calls_tools),
           T(mistral_calls_tools), T(gemma_calls_tools), T(phi_calls_tools),
           T(gpt_oss_speaks_in_channels), T(a_long_call_takes_no_long_time))
