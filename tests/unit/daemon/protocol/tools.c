/* SPDX-License-Identifier: Apache-2.0 */
/* Tools and reasoning in chats: what is taken, and what an answer's parts become. */
#include "tests/unit/daemon/fake_server.h"

static struct fake_server f;

static void start(void) {
    fake_server_init(&f);
    fake_server_start(&f);
}

#define TOOLS                                                                                      \
    "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"get_it\", \"parameters\": "   \
    "{}}}]"
#define SAY(text) "\"messages\": [{\"role\": \"user\", \"content\": \"say " text "\"}]"
#define CALL                                                                                       \
    "<tool_call>{\\\"name\\\": \\\"get_it\\\", \\\"arguments\\\": {\\\"x\\\": [1]}}</tool_call>"

static void a_call_is_no_text(void) {
    start();
    char *reply =
        http(&f, "POST", "/v1/chat/completions", "{" SAY("Yes. " CALL "\\n" CALL) ", " TOOLS "}");
    HAS(reply, "\"message\": {\"role\": \"assistant\", \"content\": \"Yes.\", \"tool_calls\": "
               "[{\"id\": \"call_");
    HAS(reply, "_0_0\", \"type\": \"function\", \"function\": {\"name\": \"get_it\", "
               "\"arguments\": \"{\\\"x\\\": [1]}\"}}, {\"id\": \"call_");
    HAS(reply, "_0_1\", ");
    HAS(reply, "\"finish_reason\": \"tool_calls\"");
    free(reply);
    reply = http(&f, "POST", "/v1/chat/completions", "{" SAY(CALL) ", " TOOLS "}");
    HAS(reply, "\"content\": null, \"tool_calls\": [{");
    free(reply);
    reply =
        http(&f, "POST", "/v1/chat/completions", "{" SAY(CALL) ", " TOOLS ", \"max_tokens\": 20}");
    HAS(reply, "\"content\": \"<tool_call>{\\\"name\\\": \", \"refusal\"");
    HAS(reply, "\"finish_reason\": \"length\"");
    free(reply);
    fake_server_stop(&f);
}

static void a_streamed_call_comes_whole(void) {
    start();
    char *reply = http(&f, "POST", "/v1/chat/completions",
                       "{" SAY("<think>Hm</think>Yes. " CALL) ", " TOOLS ", \"stream\": true}");
    HAS(reply, "\"delta\": {\"reasoning_content\": \"H\"}");
    HAS(reply, "\"delta\": {\"reasoning_content\": \"m\"}");
    HAS(reply, "\"delta\": {\"content\": \"Y\"}");
    HAS(reply, "\"delta\": {\"content\": \".\"}");
    HAS(reply, "\"delta\": {\"tool_calls\": [{\"index\": 0, \"id\": \"call_");
    HAS(reply, "\"arguments\": \"{\\\"x\\\": [1]}\"}}]}");
    HAS(reply, "\"delta\": {}, \"logprobs\": null, \"finish_reason\": \"tool_calls\"");
    HAS_NOT(reply, "tool_call>");
    HAS_NOT(reply, "think");
    HAS_NOT(reply, "\"content\": \" \"");
    free(reply);
    fake_server_stop(&f);
}

static void without_tools_it_is_text(void) {
    static const char *const more[] = {"", ", \"tools\": []", ", \"tools\": null",
                                       ", " TOOLS ", \"tool_choice\": \"none\""};
    start();
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        char body[1024];
        snprintf(body, sizeof body, "{" SAY(CALL) "%s}", more[i]);
        char *reply = http(&f, "POST", "/v1/chat/completions", body);
        HAS(reply, "\"content\": \"<tool_call>{\\\"name\\\"");
        HAS(reply, "\"finish_reason\": \"stop\"");
        HAS_NOT(reply, "tool_calls");
        free(reply);
    }
    fake_server_stop(&f);
}

static void reasoning_stays_where_it_is_only_when_asked(void) {
    start();
    char *reply =
        http(&f, "POST", "/v1/chat/completions", "{" SAY("<think>\\nHm\\n</think>\\n\\nSo.") "}");
    HAS(reply, "\"reasoning_content\": \"Hm\", \"content\": \"So.\"");
    free(reply);
    reply = http(&f, "POST", "/v1/chat/completions",
                 "{" SAY("<think>Hm</think>So.") ", \"reasoning_format\": \"none\"}");
    HAS(reply, "\"content\": \"<think>Hm</think>So.\"");
    HAS_NOT(reply, "reasoning_content");
    free(reply);
    fake_server_stop(&f);
}

#define TYPED                                                                                      \
    "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {"       \
    "\"properties\": {\"i\": {\"type\": \"integer\"}, \"s\": {\"type\": \"string\"}, "             \
    "\"a\": {\"anyOf\": [{\"type\": \"number\"}, {\"type\": \"null\"}]}, "                         \
    "\"t\": {\"type\": [\"boolean\", \"null\"]}, \"e\": {\"enum\": [1, 2]}, \"x\": {}}}}}]"

/* A form in which every value is text: the schema says what it means. */
static void parameters_between_tags_are_of_their_types(void) {
    static const char *const ways[] = {"", ", \"stream\": true"};
    start();
    fake_form = (struct reply_form){REPLY_CODER, false};
    for (size_t i = 0; i < 2; i++) {
        char body[2048];
        snprintf(body, sizeof body,
                 "{" SAY("<tool_call>\\n<function=f>\\n<parameter=i>\\n7\\n</parameter>\\n"
                         "<parameter=s>7</parameter><parameter=a>null</parameter>"
                         "<parameter=t>true</parameter><parameter=e>2</parameter>"
                         "<parameter=x>3</parameter></function></tool_call>") ", " TYPED "%s}",
                 ways[i]);
        char *reply = http(&f, "POST", "/v1/chat/completions", body);
        HAS(reply, "\"name\": \"f\", \"arguments\": \"{\\\"i\\\": 7, \\\"s\\\": \\\"7\\\", "
                   "\\\"a\\\": null, \\\"t\\\": true, \\\"e\\\": 2, \\\"x\\\": \\\"3\\\"}\"");
        HAS(reply, "\"finish_reason\": \"tool_calls\"");
        HAS_NOT(reply, "parameter=");
        free(reply);
    }
    fake_server_stop(&f);
}

static void one_call_at_a_time_where_that_is_asked(void) {
    static const struct {
        const char *more;
        bool second;
    } cases[] = {{"", true},
                 {", \"parallel_tool_calls\": true", true},
                 {", \"parallel_tool_calls\": false", false},
                 {", \"parallel_tool_calls\": false, \"stream\": true", false}};
    start();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[1024];
        snprintf(body, sizeof body, "{" SAY(CALL "\\n" CALL) ", " TOOLS "%s}", cases[i].more);
        char *reply = http(&f, "POST", "/v1/chat/completions", body);
        HAS(reply, "_0_0\", ");
        CHECK_EQ(strstr(reply, "_0_1\", ") != NULL, cases[i].second);
        HAS(reply, "\"finish_reason\": \"tool_calls\"");
        HAS_NOT(reply, "tool_call>");
        free(reply);
    }
    char *reply =
        http(&f, "POST", "/v1/chat/completions", "{" SAY("a") ", \"parallel_tool_calls\": 1}");
    HAS(reply, "HTTP/1.1 400");
    HAS(reply, "'parallel_tool_calls'");
    free(reply);
    fake_server_stop(&f);
}

/* Of a family whose marks are control tokens, "as the model wrote it" has them. */
static void marks_of_reasoning_that_stays_are_text(void) {
    static const struct {
        struct reply_form form;
        const char *more;
        bool special;
    } cases[] = {
        {{REPLY_MISTRAL, true}, "", true},
        {{REPLY_MISTRAL, true}, ", \"reasoning_format\": \"none\"", true},
        {{REPLY_MISTRAL, false}, ", \"reasoning_format\": \"none\"", false},
        {{REPLY_MISTRAL, false}, ", " TOOLS, true},
        {{REPLY_HARMONY, false}, "", true},
        {{REPLY_HARMONY, false}, ", \"reasoning_format\": \"none\"", true},
        {{REPLY_TAGGED, true}, ", \"reasoning_format\": \"none\"", false},
    };
    start();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[512];
        fake_form = cases[i].form;
        snprintf(body, sizeof body, "{" SAY("x") "%s}", cases[i].more);
        free(http(&f, "POST", "/v1/chat/completions", body));
        CHECK_EQ(f.fake.scheduler.last.special, cases[i].special);
    }
    fake_server_stop(&f);
}

static void tools_and_calls_reach_the_template(void) {
    start();
    char *reply = http(&f, "POST", "/apply-template", "{" SAY("x") ", " TOOLS "}");
    HAS(reply, "1 tools");
    free(reply);
    reply =
        http(&f, "POST", "/apply-template", "{" SAY("x") ", " TOOLS ", \"tool_choice\": \"none\"}");
    HAS_NOT(reply, "1 tools");
    free(reply);
    reply = http(&f, "POST", "/apply-template",
                 "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": "
                 "\"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"1\", \"type\": "
                 "\"function\", \"function\": {\"name\": \"f\", \"arguments\": \"{}\"}}]}, "
                 "{\"role\": \"tool\", \"content\": \"b\", \"tool_call_id\": \"1\"}]}");
    HAS(reply, "a|user\\n|assistant\\nb|tool\\n");
    free(reply);
    fake_server_stop(&f);
}

#define CALLED(content)                                                                            \
    "{\"messages\": [{\"role\": \"assistant\", \"content\": " content                              \
    ", \"reasoning_content\": \"Hm\", \"tool_calls\": [{\"id\": \"1\", \"type\": \"function\", "   \
    "\"function\": {\"name\": \"f\", \"arguments\": \"{}\"}}]}]}"

static void channels_are_taken_apart_and_put_together(void) {
    static const char *const call[] = {
        "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>commentary "
        "to=functions.get_it <|constrain|>json<|message|>{\\\"x\\\": [1]}<|call|>",
        "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant to=functions.get_it"
        "<|channel|>commentary json<|message|>{\\\"x\\\": [1]}"};
    char body[1024];
    start();
    fake_form = (struct reply_form){REPLY_HARMONY, false};
    for (int i = 0; i < 4; i++) {
        snprintf(body, sizeof body, "{" SAY("%s") ", " TOOLS "%s}", call[i % 2],
                 i / 2 ? ", \"stream\": true" : "");
        char *reply = http(&f, "POST", "/v1/chat/completions", body);
        HAS(reply, i / 2 ? "\"delta\": {\"reasoning_content\": \"H\"}"
                         : "\"content\": null, \"reasoning_content\": \"Hm\"");
        HAS(reply, "\"name\": \"get_it\", \"arguments\": \"{\\\"x\\\": [1]}\"");
        HAS(reply, "\"finish_reason\": \"tool_calls\"");
        HAS_NOT(reply, "channel");
        HAS_NOT(reply, "to=");
        free(reply);
    }
    char *reply = http(&f, "POST", "/v1/chat/completions",
                       "{" SAY("<|channel|>analysis<|message|>Hm<|end|><|start|>assistant"
                               "<|channel|>final<|message|>So.<|return|>") "}");
    HAS(reply, "\"reasoning_content\": \"Hm\", \"content\": \"So.\"");
    free(reply);
    reply = http(&f, "POST", "/apply-template", CALLED("null"));
    HAS(reply, "(Hm)|assistant");
    free(reply);
    reply = http(&f, "POST", "/apply-template", CALLED("\"both are refused\""));
    HAS(reply, "\"both are refused|assistant");
    free(reply);
    fake_form = (struct reply_form){REPLY_TAGGED, true};
    reply = http(&f, "POST", "/apply-template", CALLED("null"));
    HAS_NOT(reply, "(Hm)");
    free(reply);
    fake_server_stop(&f);
}

static void the_effort_reaches_the_template(void) {
    start();
    char *reply = http(&f, "POST", "/apply-template",
                       "{" SAY("x") ", \"reasoning_effort\": "
                                    "\"high\"}");
    HAS(reply, "effort high");
    free(reply);
    reply = http(&f, "POST", "/apply-template", "{" SAY("x") ", \"reasoning_effort\": null}");
    HAS_NOT(reply, "effort");
    free(reply);
    reply = http(&f, "POST", "/v1/chat/completions", "{" SAY("x") ", \"reasoning_effort\": 1}");
    HAS(reply, "'reasoning_effort' must be a string");
    free(reply);
    fake_server_stop(&f);
}

static void what_is_wrong_is_named(void) {
    static const struct {
        const char *field, *part;
    } wrong[] = {
        {"\"tools\": {}", "'tools' must be a list"},
        {"\"tools\": [1]", "tools[0]: a tool must be an object"},
        {"\"tools\": [{\"type\": \"x\"}]", "\\\"x\\\" is not supported"},
        {"\"tools\": [{\"type\": \"function\"}]", "'function' must be an object with a 'name'"},
        {"\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"a b\"}}]",
         "at most 64 letters"},
        {"\"tool_choice\": \"required\"", "forces a call is not supported"},
        {"\"tool_choice\": {\"type\": \"function\"}", "forces a call is not supported"},
        {"\"tool_choice\": \"maybe\"", "'tool_choice' must be"},
        {"\"reasoning_format\": \"x\"", "'reasoning_format' must be"},
    };
    start();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char body[1024];
        snprintf(body, sizeof body, "{" SAY("a") ", %s}", wrong[i].field);
        char *reply = http(&f, "POST", "/v1/chat/completions", body);
        HAS(reply, "HTTP/1.1 400");
        HAS(reply, wrong[i].part);
        free(reply);
    }
    char *many = malloc(1 << 16), *at = many;
    at += sprintf(at, "{" SAY("a") ", \"tools\": [");
    for (int i = 0; i < 129; i++)
        at += sprintf(at, "%s{\"type\": \"function\", \"function\": {\"name\": \"f\"}}",
                      i ? ", " : "");
    strcpy(at, "]}");
    char *reply = http(&f, "POST", "/v1/chat/completions", many);
    HAS(reply, "'tools' has more than 128 tools");
    free(reply);
    reply = http(&f, "POST", "/v1/chat/completions",
                 "{\"messages\": [{\"role\": \"assistant\", \"tool_calls\": [{}]}]}");
    HAS(reply, "messages[0]: a call of 'tool_calls' must have");
    free(reply);
    free(many);
    fake_server_stop(&f);
}

CHECK_MAIN(T(a_call_is_no_text), T(a_streamed_call_comes_whole), T(without_tools_it_is_text),
           T(reasoning_stays_where_it_is_only_when_asked),
           T(parameters_between_tags_are_of_their_types), T(one_call_at_a_time_where_that_is_asked),
           T(marks_of_reasoning_that_stays_are_text), T(tools_and_calls_reach_the_template),
           T(channels_are_taken_apart_and_put_together), T(the_effort_reaches_the_template),
           T(what_is_wrong_is_named))
