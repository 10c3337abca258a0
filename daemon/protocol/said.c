/* SPDX-License-Identifier: Apache-2.0 */
/* What a choice says, where reasoning and calls of tools are taken out of its text. */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/protocol/generate.h"
#include "models/chat/chat.h"

static void on_text(void *user, enum reply_part part, const char *bytes, size_t n) {
    struct choice *choice = user;
    struct buffer *to = part == REPLY_REASONING ? &choice->reasoning : &choice->text;
    choice->run->generation->no_memory |= buffer_append(to, bytes, n) != 0;
}

/* As an item of tool_calls: a stream tells which of them it is. */
static void on_call(void *user, const struct tool_call *call) {
    struct choice *choice = user;
    struct generation *g = choice->run->generation;
    if (choice->n_calls && !g->params.parallel_calls)
        return;
    struct writer w = {.out = &choice->calls, .comma = choice->calls.n > 0};
    struct buffer id = {0};
    const int rc = buffer_printf(&id, "call_%s_%u_%u", g->call->id + strlen(g->shape->id_prefix),
                                 choice->index, choice->n_calls);
    write_open(&w, '{');
    if (g->params.stream)
        write_key_int(&w, "index", choice->n_calls);
    write_key(&w, "id");
    write_text(&w, id.bytes ? id.bytes : "", id.n);
    write_key_string(&w, "type", "function");
    write_key(&w, "function");
    write_open(&w, '{');
    write_key(&w, "name");
    write_text(&w, call->name, call->n_name);
    write_key(&w, "arguments");
    write_text(&w, call->arguments, call->n_arguments);
    write_close(&w, '}');
    write_close(&w, '}');
    choice->n_calls++;
    g->no_memory |= rc || w.rc;
    buffer_finish(&id);
}

/* The 'function' of the tool that is called; NULL: there is no such tool. */
static const cJSON *find_tool(const struct choice *choice, const struct tool_call *call) {
    const cJSON *tools = choice->run->generation->params.tools;
    for (const cJSON *tool = tools ? tools->child : NULL; tool; tool = tool->next) {
        const cJSON *function = cJSON_GetObjectItemCaseSensitive(tool, "function");
        const char *name = cJSON_GetObjectItemCaseSensitive(function, "name")->valuestring;
        if (strlen(name) == call->n_name && !memcmp(name, call->name, call->n_name))
            return function;
    }
    return NULL;
}

static bool knows(void *user, const struct tool_call *call) {
    return find_tool(user, call) != NULL;
}

static unsigned type_named(const char *name) {
    static const struct {
        const char *name;
        unsigned type;
    } known[] = {{"string", CALLS_STRING},   {"integer", CALLS_NUMBER}, {"number", CALLS_NUMBER},
                 {"boolean", CALLS_BOOLEAN}, {"object", CALLS_OBJECT},  {"array", CALLS_ARRAY},
                 {"null", CALLS_NULL}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].name, name))
            return known[i].type;
    return 0;
}

static unsigned type_of_value(const cJSON *value) {
    return cJSON_IsString(value)   ? CALLS_STRING
           : cJSON_IsNumber(value) ? CALLS_NUMBER
           : cJSON_IsBool(value)   ? CALLS_BOOLEAN
           : cJSON_IsNull(value)   ? CALLS_NULL
                                   : 0;
}

/* Every type that a schema of a parameter names, here or in its alternatives; their depth is the
 * reader's. */
static unsigned types_of(const cJSON *schema) {
    static const char *const lists[] = {"anyOf", "oneOf", "allOf"};
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(schema, "type"), *item;
    unsigned types = cJSON_IsString(type) ? type_named(type->valuestring) : 0;
    if (cJSON_IsArray(type))
        cJSON_ArrayForEach(item, type) types |=
            cJSON_IsString(item) ? type_named(item->valuestring) : 0;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(schema, lists[i])) types |=
            types_of(item);
    if (!types)
        cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(schema, "enum")) types |=
            type_of_value(item);
    return types;
}

static unsigned types(void *user, const struct tool_call *call, const char *key, size_t n) {
    const cJSON *function = find_tool(user, call), *property;
    const cJSON *parameters = cJSON_GetObjectItemCaseSensitive(function, "parameters");
    cJSON_ArrayForEach(property, cJSON_GetObjectItemCaseSensitive(parameters, "properties")) {
        if (strlen(property->string) == n && !memcmp(property->string, key, n))
            return types_of(property);
    }
    return 0;
}

static const struct reply_events events = {on_text, on_call, knows, types};

/* What it thinks is told from its answer. */
static bool thinks(struct reply_form form) {
    return form.thinks || form.kind == REPLY_HARMONY;
}

bool said_needed(const struct generation *g) {
    if (g->params.kind != KIND_CHAT || !g->model.chat || g->params.raw_reasoning)
        return g->params.kind == KIND_CHAT && g->params.tools;
    const struct reply_form form = chat_template_form(g->model.chat);
    return g->params.tools || thinks(form);
}

/* Reasoning that stays in the text has its marks there, which some families have control tokens
 * for. */
bool said_control(const struct generation *g) {
    if (g->params.kind != KIND_CHAT || !g->model.chat)
        return false;
    const struct reply_form form = chat_template_form(g->model.chat);
    return reply_form_control(form) &&
           (said_needed(g) || (g->params.raw_reasoning && thinks(form)));
}

int said_begin(struct choice *choice) {
    struct generation *g = choice->run->generation;
    if (!said_needed(g))
        return 0;
    choice->reply = malloc(sizeof *choice->reply);
    if (!choice->reply)
        return -1;
    struct reply_form form = chat_template_form(g->model.chat);
    form.thinks = form.thinks && !g->params.raw_reasoning;
    reply_init(choice->reply, form, g->params.tools, form.thinks && g->set.thinking, &events,
               choice);
    return 0;
}

void said_more(struct choice *choice, const char *text, size_t n) {
    struct generation *g = choice->run->generation;
    if (choice->reply)
        reply_push(choice->reply, text, n);
    else
        g->no_memory |= buffer_append(&choice->text, text, n) != 0;
    g->no_memory |= choice->reply && choice->reply->rc;
}

void said_all(struct choice *choice) {
    if (!choice->reply)
        return;
    reply_end(choice->reply);
    choice->run->generation->no_memory |= choice->reply->rc != 0;
}

void said_finish(struct choice *choice) {
    if (choice->reply)
        reply_finish(choice->reply);
    free(choice->reply);
    choice->reply = NULL;
    buffer_finish(&choice->reasoning);
    buffer_finish(&choice->calls);
}
