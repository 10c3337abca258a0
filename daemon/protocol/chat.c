/* SPDX-License-Identifier: Apache-2.0 */
/* Messages to text: what the file's chat template makes of them. */
#include "models/chat/chat.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/protocol/prompt.h"
#include "daemon/protocol/protocol.h"
#include "octarc/error.h"

/* Any JSON as a value of the template language.  The depth is the reader's: at most 64. */
static struct chat_value *to_value(const struct json *doc, const cJSON *item) {
    struct chat_value *value;
    size_t n;
    const double *numbers = json_numbers(doc, item, &n);
    if (numbers) {
        value = chat_list();
        for (size_t i = 0; i < n; i++)
            value = chat_append(value, chat_float(numbers[i]));
        return value;
    }
    if (cJSON_IsString(item))
        return chat_string(item->valuestring, strlen(item->valuestring));
    if (cJSON_IsBool(item))
        return chat_bool(cJSON_IsTrue(item));
    if (cJSON_IsNumber(item))
        return item->valuedouble == floor(item->valuedouble) && fabs(item->valuedouble) < 9e15
                   ? chat_int((int64_t)item->valuedouble)
                   : chat_float(item->valuedouble);
    if (cJSON_IsArray(item)) {
        value = chat_list();
        for (const cJSON *child = item->child; child; child = child->next)
            value = chat_append(value, to_value(doc, child));
        return value;
    }
    if (cJSON_IsObject(item)) {
        value = chat_dict();
        for (const cJSON *child = item->child; child; child = child->next)
            value = chat_set(value, child->string, to_value(doc, child));
        return value;
    }
    return chat_none();
}

/* Clients send the arguments of a call as text, templates write them as a value.  Text that is no
 * JSON stays text. */
static struct chat_value *to_arguments(const struct json *outer, const cJSON *item) {
    struct json doc;
    const size_t n = cJSON_IsString(item) ? strlen(item->valuestring) : 0;
    char *text = n ? strdup(item->valuestring) : NULL;
    if (!text || json_read(&doc, text, n, NULL)) {
        free(text);
        return to_value(outer, item);
    }
    struct chat_value *value = to_value(&doc, doc.root);
    json_finish(&doc);
    free(text);
    return value;
}

static struct chat_value *to_function(const struct json *doc, const cJSON *function) {
    struct chat_value *value = chat_dict();
    for (const cJSON *member = function->child; member; member = member->next)
        value = chat_set(value, member->string,
                         !strcmp(member->string, "arguments") ? to_arguments(doc, member)
                                                              : to_value(doc, member));
    return value;
}

static struct chat_value *to_calls(const struct json *doc, const cJSON *calls) {
    struct chat_value *list = chat_list();
    for (const cJSON *call = calls->child; call; call = call->next) {
        struct chat_value *value = chat_dict();
        for (const cJSON *member = call->child; member; member = member->next)
            value = chat_set(value, member->string,
                             !strcmp(member->string, "function") ? to_function(doc, member)
                                                                 : to_value(doc, member));
        list = chat_append(list, value);
    }
    return list;
}

static int bad(struct failure *failure, size_t i, const char *what) {
    return failure_set(failure, ERROR_BAD_FIELD, "messages", "messages[%zu]: %s", i, what);
}

/* A list of {"type": "text", "text": …} becomes one string, which every template can show. */
static int join_parts(const cJSON *parts, size_t i, struct buffer *text, struct failure *failure) {
    for (const cJSON *part = parts->child; part; part = part->next) {
        const cJSON *type = cJSON_GetObjectItemCaseSensitive(part, "type");
        const cJSON *body = cJSON_GetObjectItemCaseSensitive(part, "text");
        if (!cJSON_IsString(type))
            return bad(failure, i, "a part of 'content' has no 'type'");
        if (strcmp(type->valuestring, "text") != 0)
            return failure_set(failure, ERROR_NOT_SUPPORTED, "messages",
                               "messages[%zu]: content of type \"%.40s\" is not supported", i,
                               type->valuestring);
        if (!cJSON_IsString(body))
            return bad(failure, i, "a part of 'content' has no 'text'");
        if (buffer_append(text, body->valuestring, strlen(body->valuestring)))
            return failure_set(failure, ERROR_FAILED, NULL, "no memory");
    }
    return 0;
}

static int check_calls(const struct json *doc, const cJSON *calls, size_t i,
                       struct failure *failure) {
    size_t n;
    if (!cJSON_IsArray(calls) || json_numbers(doc, calls, &n))
        return bad(failure, i, "'tool_calls' must be a list");
    for (const cJSON *call = calls->child; call; call = call->next) {
        const cJSON *function = cJSON_GetObjectItemCaseSensitive(call, "function");
        if (!cJSON_IsObject(function) ||
            !cJSON_IsString(cJSON_GetObjectItemCaseSensitive(function, "name")))
            return bad(failure, i, "a call of 'tool_calls' must have a 'function' with a 'name'");
    }
    return 0;
}

/* What was thought before a call belongs to it: the templates of gpt-oss show it then, by a name of
 * their own. */
static struct chat_value *add_thinking(struct chat_value *dict, const cJSON *message) {
    const cJSON *reasoning = cJSON_GetObjectItemCaseSensitive(message, "reasoning_content");
    if (!cJSON_IsString(reasoning) || cJSON_GetObjectItemCaseSensitive(message, "thinking"))
        return dict;
    const char *text = reasoning->valuestring;
    return chat_set(dict, "thinking", chat_string(text, strlen(text)));
}

static int add_message(const struct params *params, struct reply_form form,
                       struct chat_value **list, const cJSON *message, size_t i,
                       struct failure *failure) {
    const cJSON *role = cJSON_GetObjectItemCaseSensitive(message, "role");
    const cJSON *content = cJSON_GetObjectItemCaseSensitive(message, "content");
    const cJSON *calls = cJSON_GetObjectItemCaseSensitive(message, "tool_calls");
    size_t n;
    if (!cJSON_IsObject(message))
        return bad(failure, i, "a message must be an object");
    if (!cJSON_IsString(role))
        return bad(failure, i, "'role' must be a string");
    calls = cJSON_IsNull(calls) ? NULL : calls;
    if (calls && check_calls(params->doc, calls, i, failure))
        return -1;
    const bool empty = calls && calls->child && (!content || cJSON_IsNull(content));
    if (!empty && !cJSON_IsString(content) && !cJSON_IsArray(content))
        return bad(failure, i, "'content' must be a string or a list of text parts");
    if (json_numbers(params->doc, content, &n))
        return bad(failure, i, "a part of 'content' must be an object");

    struct buffer text = {0};
    if (cJSON_IsArray(content) && join_parts(content, i, &text, failure)) {
        buffer_finish(&text);
        return -1;
    }
    struct chat_value *dict = chat_dict();
    for (const cJSON *member = message->child; member; member = member->next)
        if (member == calls)
            dict = chat_set(dict, member->string, to_calls(params->doc, member));
        else if (member == content && (empty || cJSON_IsArray(content)))
            dict = chat_set(dict, member->string, chat_string(text.n ? text.bytes : "", text.n));
        else if (strcmp(member->string, "tool_calls") != 0) /* null: none */
            dict = chat_set(dict, member->string, to_value(params->doc, member));
    if (empty && !content) /* what every template can join with other text */
        dict = chat_set(dict, "content", chat_string("", 0));
    if (empty && form.kind == REPLY_HARMONY)
        dict = add_thinking(dict, message);
    *list = chat_append(*list, dict);
    buffer_finish(&text);
    return 0;
}

static struct chat_value *make_globals(const struct params *params, const struct model_view *model,
                                       struct chat_value *messages) {
    struct chat_value *globals = chat_dict();
    const char *bos = model->bos_text ? model->bos_text : "";
    const char *eos = model->eos_text ? model->eos_text : "";
    globals = chat_set(globals, "messages", messages);
    globals = chat_set(globals, "bos_token", chat_string(bos, strlen(bos)));
    globals = chat_set(globals, "eos_token", chat_string(eos, strlen(eos)));
    globals = chat_set(globals, "add_generation_prompt", chat_bool(params->add_generation_prompt));
    if (params->tools)
        globals = chat_set(globals, "tools", to_value(params->doc, params->tools));
    const char *effort = params->reasoning_effort;
    if (effort)
        globals = chat_set(globals, "reasoning_effort", chat_string(effort, strlen(effort)));
    const cJSON *more = params->template_kwargs;
    for (const cJSON *member = more ? more->child : NULL; member; member = member->next)
        globals = chat_set(globals, member->string, to_value(params->doc, member));
    return globals;
}

int chat_text(const struct params *params, const struct model_view *model, char **text, size_t *n,
              struct failure *failure) {
    const cJSON *messages = params->messages;
    struct err err;
    size_t i = 0, n_numbers;
    if (!model->chat)
        return failure_set(failure, ERROR_NOT_SUPPORTED, "messages",
                           "the model has no usable chat template: %s",
                           model->chat_error ? model->chat_error : "its file holds none");
    if (params->tools && chat_template_form(model->chat).kind == REPLY_PLAIN)
        return failure_set(failure, ERROR_NOT_SUPPORTED, "tools",
                           "the model's chat template takes no tools");
    if (!cJSON_IsArray(messages))
        return failure_set(failure, ERROR_BAD_FIELD, "messages",
                           messages ? "'messages' must be a list" : "'messages' is missing");
    if (json_numbers(params->doc, messages, &n_numbers))
        return bad(failure, 0, "a message must be an object");
    if (!messages->child)
        return failure_set(failure, ERROR_BAD_FIELD, "messages", "'messages' is empty");

    struct chat_value *list = chat_list();
    for (const cJSON *message = messages->child; message; message = message->next)
        if (add_message(params, chat_template_form(model->chat), &list, message, i++, failure)) {
            chat_value_unref(list);
            return -1;
        }
    struct chat_value *globals = make_globals(params, model, list);
    if (!globals)
        return failure_set(failure, ERROR_FAILED, NULL, "no memory for the messages");
    const int rc = chat_template_render(model->chat, globals, text, n, &err);
    chat_value_unref(globals);
    if (rc)
        return failure_set(failure,
                           rc == -E2BIG    ? ERROR_TOO_BIG
                           : rc == -ENOMEM ? ERROR_FAILED
                                           : ERROR_BAD_FIELD,
                           rc == -ENOMEM ? NULL : "messages", "%s", err.text);
    return 0;
}
