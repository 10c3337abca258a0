/* SPDX-License-Identifier: Apache-2.0 */
/* errors.h - the names of failures, on one screen, and their two shapes (docs/protocol.md). */
#ifndef OCTARC_PROTOCOL_ERRORS_H
#define OCTARC_PROTOCOL_ERRORS_H

#include "daemon/util/buffer.h"

enum error_id {
    ERROR_BAD_JSON,
    ERROR_BAD_REQUEST,
    ERROR_UNKNOWN_METHOD,
    ERROR_BAD_FIELD,
    ERROR_TOO_BIG,
    ERROR_PROMPT_TOO_LONG,
    ERROR_NOT_FOUND,
    ERROR_NOT_PERMITTED,
    ERROR_NOT_SUPPORTED,
    ERROR_OVERLOADED,
    ERROR_NO_MODEL,
    ERROR_LOADING,
    ERROR_DRAINING,
    ERROR_NO_DEVICE,
    ERROR_CANCELLED,
    ERROR_FAILED,
    ERROR_COUNT
};

struct error_info {
    const char *name;
    unsigned http;
    int rpc;
    const char *type;
};
extern const struct error_info error_infos[ERROR_COUNT];

/* What went wrong with one request. */
struct failure {
    enum error_id id;
    char param[64]; /* the field; empty: none */
    char message[512];
};

/* Fills *failure and returns -1, so that failing is one statement.  param may be NULL. */
int failure_set(struct failure *failure, enum error_id id, const char *param, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* {"code", "message", "type", "param", "name"}: the value of "error" over HTTP. */
int failure_write_http(const struct failure *failure, struct buffer *out);
/* {"code", "message", "data": {"name", "param", "status"}}: the value of "error" in JSON-RPC. */
int failure_write_rpc(const struct failure *failure, struct buffer *out);

#endif
