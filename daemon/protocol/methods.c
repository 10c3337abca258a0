/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "daemon/protocol/call.h"

/* Sorted by name. */
static const struct method methods[] = {
    {"apply_template", "POST", {"/apply-template"}, KIND_TEMPLATE, ROLE_USER, run_apply_template},
    {"cancel", "POST", {"/octarc/v1/cancel"}, KIND_CANCEL, ROLE_USER, run_cancel},
    {"cards", "GET", {"/octarc/v1/cards"}, KIND_NONE, ROLE_USER, run_cards},
    {"chat",
     "POST",
     {"/v1/chat/completions", "/chat/completions"},
     KIND_CHAT,
     ROLE_USER,
     run_generate},
    {"check", "POST", {"/octarc/v1/check"}, KIND_CHECK, ROLE_ADMIN, run_check},
    {"complete",
     "POST",
     {"/v1/completions", "/completions"},
     KIND_COMPLETE,
     ROLE_USER,
     run_generate},
    {"completion", "POST", {"/completion"}, KIND_LLAMA, ROLE_USER, run_generate},
    {"detokenize", "POST", {"/detokenize"}, KIND_DETOKENIZE, ROLE_USER, run_detokenize},
    {"drain", "POST", {"/octarc/v1/drain"}, KIND_CARD, ROLE_ADMIN, run_drain},
    {"drill", "POST", {"/octarc/v1/drill"}, KIND_DRILL, ROLE_ADMIN, run_drill},
    {"events",
     "GET",
     {"/octarc/v1/events", "/octarc/v1/events/"},
     KIND_EVENTS,
     ROLE_USER,
     run_events},
    {"health", "GET", {"/health", "/v1/health"}, KIND_NONE, ROLE_USER, run_health},
    {"measure", "POST", {"/octarc/v1/measure"}, KIND_NONE, ROLE_ADMIN, run_measure},
    {"metrics", "GET", {"/metrics"}, KIND_NONE, ROLE_USER, run_metrics},
    {"models",
     "GET",
     {"/v1/models", "/models", "/v1/models/", "/models/"},
     KIND_MODELS,
     ROLE_USER,
     run_models},
    {"online", "POST", {"/octarc/v1/online"}, KIND_CARD, ROLE_ADMIN, run_online},
    {"ps", "GET", {"/octarc/v1/ps"}, KIND_NONE, ROLE_USER, run_ps},
    {"rebalance", "POST", {"/octarc/v1/rebalance"}, KIND_REBALANCE, ROLE_ADMIN, run_rebalance},
    {"reload", "POST", {"/octarc/v1/reload"}, KIND_NONE, ROLE_ADMIN, run_reload},
    {"status", "GET", {"/octarc/v1/status"}, KIND_NONE, ROLE_USER, run_status},
    {"tokenize", "POST", {"/tokenize"}, KIND_TOKENIZE, ROLE_USER, run_tokenize},
    {"version", "GET", {"/version"}, KIND_NONE, ROLE_USER, run_version},
};

#define N_METHODS (sizeof methods / sizeof *methods)

const struct method *method_find(const char *name) {
    for (size_t i = 0; i < N_METHODS; i++)
        if (!strcmp(methods[i].name, name))
            return &methods[i];
    return NULL;
}

static bool path_matches(const char *pattern, const char *path, const char **id) {
    const size_t n = strlen(pattern);
    *id = NULL;
    if (pattern[n - 1] != '/')
        return !strcmp(pattern, path);
    if (strncmp(pattern, path, n) != 0 || !path[n])
        return false;
    *id = path + n;
    return true;
}

int method_route(const char *verb, const char *path, const struct method **method, const char **id,
                 struct failure *failure) {
    const struct method *other = NULL;
    for (size_t i = 0; i < N_METHODS; i++)
        for (size_t p = 0; p < 4 && methods[i].paths[p]; p++) {
            if (!path_matches(methods[i].paths[p], path, id))
                continue;
            if (!strcmp(methods[i].verb, verb) ||
                (!strcmp(verb, "HEAD") && !strcmp(methods[i].verb, "GET"))) {
                *method = &methods[i];
                return 0;
            }
            other = &methods[i];
        }
    if (other)
        return failure_set(failure, ERROR_UNKNOWN_METHOD, NULL, "%.20s %.100s: this path takes %s",
                           verb, path, other->verb);
    return failure_set(failure, ERROR_UNKNOWN_METHOD, NULL, "no such path: %.20s %.200s", verb,
                       path);
}
