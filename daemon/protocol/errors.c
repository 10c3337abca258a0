/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/protocol/errors.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/protocol/protocol.h"
#include "daemon/protocol/writer.h"

const struct error_info error_infos[ERROR_COUNT] = {
    [ERROR_BAD_JSON] = {"bad_json", 400, -32700, "invalid_request_error"},
    [ERROR_BAD_REQUEST] = {"bad_request", 400, -32600, "invalid_request_error"},
    [ERROR_UNKNOWN_METHOD] = {"unknown_method", 404, -32601, "not_found_error"},
    [ERROR_BAD_FIELD] = {"bad_field", 400, -32602, "invalid_request_error"},
    [ERROR_TOO_BIG] = {"too_big", 413, -32010, "invalid_request_error"},
    [ERROR_PROMPT_TOO_LONG] = {"prompt_too_long", 400, -32011, "invalid_request_error"},
    [ERROR_NOT_FOUND] = {"not_found", 404, -32012, "not_found_error"},
    [ERROR_NOT_PERMITTED] = {"not_permitted", 403, -32013, "permission_error"},
    [ERROR_NOT_SUPPORTED] = {"not_supported", 400, -32014, "not_supported_error"},
    [ERROR_OVERLOADED] = {"overloaded", 429, -32020, "unavailable_error"},
    [ERROR_NO_MODEL] = {"no_model", 503, -32021, "unavailable_error"},
    [ERROR_LOADING] = {"loading", 503, -32022, "unavailable_error"},
    [ERROR_DRAINING] = {"draining", 503, -32023, "unavailable_error"},
    [ERROR_NO_DEVICE] = {"no_device", 503, -32024, "unavailable_error"},
    [ERROR_CANCELLED] = {"cancelled", 499, -32025, "server_error"},
    [ERROR_FAILED] = {"failed", 500, -32000, "server_error"},
};

int failure_set(struct failure *failure, enum error_id id, const char *param, const char *fmt,
                ...) {
    va_list ap;
    failure->id = id;
    snprintf(failure->param, sizeof failure->param, "%s", param ? param : "");
    va_start(ap, fmt);
    vsnprintf(failure->message, sizeof failure->message, fmt, ap);
    va_end(ap);
    return -1;
}

int failure_write_http(const struct failure *failure, struct buffer *out) {
    const struct error_info *info = &error_infos[failure->id];
    struct writer w = {.out = out};
    write_open(&w, '{');
    write_key_int(&w, "code", info->http);
    write_key_string(&w, "message", failure->message);
    write_key_string(&w, "type", info->type);
    write_key_string(&w, "param", failure->param[0] ? failure->param : NULL);
    write_key_string(&w, "name", info->name);
    write_close(&w, '}');
    return w.rc;
}

int failure_write_rpc(const struct failure *failure, struct buffer *out) {
    const struct error_info *info = &error_infos[failure->id];
    struct writer w = {.out = out};
    write_open(&w, '{');
    write_key_int(&w, "code", info->rpc);
    write_key_string(&w, "message", failure->message);
    write_key(&w, "data");
    write_open(&w, '{');
    write_key_string(&w, "name", info->name);
    write_key_string(&w, "param", failure->param[0] ? failure->param : NULL);
    write_key_int(&w, "status", info->http);
    write_close(&w, '}');
    write_close(&w, '}');
    return w.rc;
}

unsigned protocol_refusal(const char *name, const char *message, bool line, struct buffer *out) {
    struct failure failure;
    enum error_id id = ERROR_FAILED;
    for (unsigned i = 0; i < ERROR_COUNT; i++)
        if (!strcmp(error_infos[i].name, name))
            id = (enum error_id)i;
    failure_set(&failure, id, NULL, "%s", message);
    if (line) {
        buffer_printf(out, "{\"jsonrpc\": \"2.0\", \"id\": null, \"error\": ");
        failure_write_rpc(&failure, out);
        buffer_append(out, "}\n", 2);
    } else {
        buffer_printf(out, "{\"error\": ");
        failure_write_http(&failure, out);
        buffer_append(out, "}", 1);
    }
    return error_infos[id].http;
}
