/* SPDX-License-Identifier: Apache-2.0 */
/* The fields about tools and reasoning. */
#include <cjson/cJSON.h>
#include <string.h>

#include "daemon/protocol/protocol.h"
#include "daemon/protocol/values.h"
#include "models/chat/calls.h"

static int bad_tool(struct failure *failure, size_t i, const char *what) {
    return failure_set(failure, ERROR_BAD_FIELD, "tools", "tools[%zu]: %s", i, what);
}

static int check_tool(const cJSON *tool, size_t i, struct failure *failure) {
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(tool, "type");
    const cJSON *function = cJSON_GetObjectItemCaseSensitive(tool, "function");
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(function, "name");
    if (!cJSON_IsObject(tool) || !cJSON_IsString(type))
        return bad_tool(failure, i, "a tool must be an object with a 'type'");
    if (strcmp(type->valuestring, "function") != 0)
        return failure_set(failure, ERROR_NOT_SUPPORTED, "tools",
                           "tools[%zu]: type \"%.40s\" is not supported; only \"function\" is", i,
                           type->valuestring);
    if (!cJSON_IsObject(function) || !cJSON_IsString(name))
        return bad_tool(failure, i, "'function' must be an object with a 'name'");
    if (!calls_name(name->valuestring, strlen(name->valuestring)))
        return failure_set(failure, ERROR_BAD_FIELD, "tools",
                           "tools[%zu]: a name is at most %d letters, digits and . _ - :", i,
                           TOOL_NAME_MAX);
    return 0;
}

int read_tools(struct params *params, const struct field_place *place, const cJSON *value,
               struct failure *failure) {
    size_t n, i = 0;
    if (!cJSON_IsArray(value) || json_numbers(params->doc, value, &n))
        return failure_set(failure, ERROR_BAD_FIELD, place->name, "'%s' must be a list of tools",
                           place->name);
    for (const cJSON *tool = value->child; tool; tool = tool->next, i++) {
        if (i == TOOLS_MAX)
            return failure_set(failure, ERROR_BAD_FIELD, place->name, "'%s' has more than %d tools",
                               place->name, TOOLS_MAX);
        if (check_tool(tool, i, failure))
            return -1;
    }
    *(const cJSON **)place->at = value->child ? value : NULL;
    return 0;
}

int read_tool_choice(struct params *params, const struct field_place *place, const cJSON *value,
                     struct failure *failure) {
    (void)params;
    const char *choice = cJSON_IsString(value) ? value->valuestring : "";
    *(bool *)place->at = !strcmp(choice, "none");
    if (!strcmp(choice, "none") || !strcmp(choice, "auto"))
        return 0;
    if (!strcmp(choice, "required") || cJSON_IsObject(value))
        return failure_set(failure, ERROR_NOT_SUPPORTED, place->name,
                           "'%s' that forces a call is not supported; \"auto\" and \"none\" are",
                           place->name);
    return failure_set(failure, ERROR_BAD_FIELD, place->name,
                       "'%s' must be \"auto\", \"none\", \"required\" or an object", place->name);
}

int read_reasoning_format(struct params *params, const struct field_place *place,
                          const cJSON *value, struct failure *failure) {
    (void)params;
    const char *format = cJSON_IsString(value) ? value->valuestring : "";
    *(bool *)place->at = !strcmp(format, "none");
    if (!strcmp(format, "none") || !strcmp(format, "auto") || !strcmp(format, "deepseek"))
        return 0;
    return failure_set(failure, ERROR_BAD_FIELD, place->name,
                       "'%s' must be \"auto\", \"deepseek\" or \"none\"", place->name);
}
