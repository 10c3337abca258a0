/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/protocol/values.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/tokenizer/tokenizer.h"

static int bad(struct failure *failure, const struct field_place *place, const char *must) {
    return failure_set(failure, ERROR_BAD_FIELD, place->name, "'%s' must be %s", place->name, must);
}

int read_count_of_logprobs(struct params *params, const struct field_place *place,
                           const cJSON *value, struct failure *failure) {
    const double x = value->valuedouble;
    /* /completion goes up to the whole vocabulary. */
    const double max = params->kind == KIND_LLAMA && params->tokenizer
                           ? tokenizer_n_vocab(params->tokenizer)
                           : place->max;
    if (!cJSON_IsNumber(value) || x != floor(x) || x < 0 || x > max)
        return failure_set(failure, ERROR_BAD_FIELD, place->name,
                           "'%s' must be an integer between 0 and %.10g", place->name, max);
    params->n_logprobs = (int64_t)x;
    params->logprobs = params->kind == KIND_COMPLETE || x > 0;
    return 0;
}

int read_false(struct params *params, const struct field_place *place, const cJSON *value,
               struct failure *failure) {
    (void)params;
    if (cJSON_IsFalse(value))
        return 0;
    if (!cJSON_IsBool(value))
        return bad(failure, place, "true or false");
    return failure_set(failure, ERROR_NOT_SUPPORTED, place->name, "'%s' is not supported",
                       place->name);
}

int read_id(struct params *params, const struct field_place *place, const cJSON *value,
            struct failure *failure) {
    if (cJSON_IsString(value)) {
        params->id = value->valuestring;
        return 0;
    }
    if (!cJSON_IsNumber(value) || value->valuedouble < 0 || value->valuedouble > INTEGER_TOP ||
        value->valuedouble != floor(value->valuedouble))
        return bad(failure, place, "a string or an integer between 0 and 2^53");
    params->id_number = (int64_t)value->valuedouble;
    return 0;
}

int read_template_kwargs(struct params *params, const struct field_place *place, const cJSON *value,
                         struct failure *failure) {
    static const char *const taken[] = {"messages", "bos_token", "eos_token",
                                        "add_generation_prompt", "tools"};
    (void)params;
    if (!cJSON_IsObject(value))
        return bad(failure, place, "an object");
    for (const cJSON *item = value->child; item; item = item->next)
        for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
            if (!strcmp(item->string, taken[i]))
                return failure_set(failure, ERROR_BAD_FIELD, place->name,
                                   "'%s' must not set '%s', which the request or the model says",
                                   place->name, taken[i]);
    *(const cJSON **)place->at = value;
    return 0;
}

int read_unsupported(struct params *params, const struct field_place *place, const cJSON *value,
                     struct failure *failure) {
    size_t n;
    const bool empty =
        (cJSON_IsArray(value) && !json_numbers(params->doc, value, &n)) || cJSON_IsObject(value)
            ? !value->child
            : cJSON_IsString(value) && !*value->valuestring;
    if (empty)
        return 0;
    return failure_set(failure, ERROR_NOT_SUPPORTED, place->name, "'%s' is not supported",
                       place->name);
}

int read_no_suffix(struct params *params, const struct field_place *place, const cJSON *value,
                   struct failure *failure) {
    (void)params;
    if (cJSON_IsString(value) && !*value->valuestring)
        return 0;
    return failure_set(failure, ERROR_BAD_FIELD, place->name, "'%s' is not supported", place->name);
}

int read_response_format(struct params *params, const struct field_place *place, const cJSON *value,
                         struct failure *failure) {
    (void)params;
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(value, "type");
    if (!cJSON_IsObject(value) || !cJSON_IsString(type))
        return bad(failure, place, "an object with a \"type\"");
    if (!strcmp(type->valuestring, "text"))
        return 0;
    return failure_set(failure, ERROR_NOT_SUPPORTED, place->name,
                       "'%s' of type \"%.40s\" is not supported; only \"text\" is", place->name,
                       type->valuestring);
}

int read_seed(struct params *params, const struct field_place *place, const cJSON *value,
              struct failure *failure) {
    if (cJSON_IsNumber(value) && value->valuedouble == floor(value->valuedouble) &&
        fabs(value->valuedouble) <= INTEGER_TOP) {
        if (value->valuedouble >= 0)
            params->seed = (uint64_t)value->valuedouble;
        return 0; /* negative: keep the drawn one */
    }
    if (cJSON_IsString(value) && value->valuestring[0] >= '0' && value->valuestring[0] <= '9') {
        char *end;
        errno = 0;
        const unsigned long long seed = strtoull(value->valuestring, &end, 10);
        if (!errno && !*end) {
            params->seed = seed;
            return 0;
        }
    }
    return bad(failure, place, "an integer up to 2^53, or a string of digits below 2^64");
}

static int add_stop(struct params *params, const struct field_place *place, const cJSON *value,
                    struct failure *failure) {
    if (!cJSON_IsString(value))
        return bad(failure, place, "a string or a list of strings");
    const size_t n = strlen(value->valuestring);
    if (n == 0)
        return 0;
    if (n > STOP_STRING_BYTES_MAX)
        return failure_set(failure, ERROR_BAD_FIELD, place->name,
                           "a string of '%s' has %zu bytes; the most is %d", place->name, n,
                           STOP_STRING_BYTES_MAX);
    if (params->n_stops == STOP_STRINGS_MAX)
        return failure_set(failure, ERROR_BAD_FIELD, place->name, "'%s' has more than %d strings",
                           place->name, STOP_STRINGS_MAX);
    params->stops[params->n_stops++] = value->valuestring;
    return 0;
}

int read_stop(struct params *params, const struct field_place *place, const cJSON *value,
              struct failure *failure) {
    size_t n;
    if (!cJSON_IsArray(value))
        return add_stop(params, place, value, failure);
    if (json_numbers(params->doc, value, &n))
        return bad(failure, place, "a string or a list of strings");
    for (const cJSON *item = value->child; item; item = item->next)
        if (add_stop(params, place, item, failure))
            return -1;
    return 0;
}

int read_stream_options(struct params *params, const struct field_place *place, const cJSON *value,
                        struct failure *failure) {
    if (!cJSON_IsObject(value))
        return bad(failure, place, "an object");
    for (const cJSON *item = value->child; item; item = item->next) {
        const bool usage = !strcmp(item->string, "include_usage");
        if (!usage && strcmp(item->string, "include_obfuscation") != 0)
            return failure_set(failure, ERROR_BAD_FIELD, place->name,
                               "unknown field '%.100s' in '%s'", item->string, place->name);
        if (!cJSON_IsBool(item) && !cJSON_IsNull(item))
            return failure_set(failure, ERROR_BAD_FIELD, place->name,
                               "'%s' in '%s' must be true or false", item->string, place->name);
        if (usage)
            params->include_usage = cJSON_IsTrue(item);
    }
    return 0;
}

static int add_bias(struct params *params, const struct field_place *place, double id, double bias,
                    struct failure *failure) {
    const uint32_t n_vocab = params->tokenizer ? tokenizer_n_vocab(params->tokenizer) : 0;
    if (id != floor(id) || id < 0 || id >= n_vocab)
        return failure_set(failure, ERROR_BAD_FIELD, place->name,
                           "'%s' names token %.10g; the vocabulary has %u", place->name, id,
                           n_vocab);
    if (!(bias == -INFINITY || (bias >= -100 && bias <= 100)))
        return failure_set(failure, ERROR_BAD_FIELD, place->name,
                           "a bias of '%s' is %.10g; it must be between -100 and 100", place->name,
                           bias);
    if (params->n_bias == LOGIT_BIAS_MAX)
        return failure_set(failure, ERROR_BAD_FIELD, place->name, "'%s' has more than %u entries",
                           place->name, LOGIT_BIAS_MAX);
    if (!params->bias)
        params->bias = calloc(LOGIT_BIAS_MAX, sizeof *params->bias);
    if (!params->bias)
        return failure_set(failure, ERROR_FAILED, NULL, "no memory");
    params->bias[params->n_bias++] = (struct logit_bias){.token = (int32_t)id, .bias = (float)bias};
    return 0;
}

/* [token, bias] or ["text", bias]; a bias of false forbids. */
static int read_bias_pair(struct params *params, const struct field_place *place, const cJSON *pair,
                          struct failure *failure) {
    const cJSON *what = cJSON_IsArray(pair) ? pair->child : NULL;
    const cJSON *bias = what ? what->next : NULL;
    if (!bias || bias->next || !(cJSON_IsNumber(bias) || cJSON_IsFalse(bias)) ||
        !(cJSON_IsNumber(what) || cJSON_IsString(what)))
        return bad(failure, place, "an object, or a list of [token, bias]");
    const double by = cJSON_IsFalse(bias) ? -INFINITY : bias->valuedouble;
    if (cJSON_IsNumber(what))
        return add_bias(params, place, what->valuedouble, by, failure);
    int32_t *ids;
    size_t n;
    const size_t n_text = strlen(what->valuestring);
    if (n_text > 4096 || tokenizer_encode(params->tokenizer, what->valuestring, n_text,
                                          ENCODE_PARSE, &ids, &n, NULL))
        return bad(failure, place, "made of texts of at most 4096 bytes");
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++)
        rc = add_bias(params, place, ids[i], by, failure);
    free(ids);
    return rc;
}

/* A token's id as a key: the digits JSON writes integers with, nothing else.  -1: it is none. */
static double key_id(const char *key) {
    const size_t n = strspn(key, "0123456789");
    const bool is_id = n > 0 && n <= 10 && !key[n] && (key[0] != '0' || n == 1);
    return is_id ? strtod(key, NULL) : -1;
}

int read_logit_bias(struct params *params, const struct field_place *place, const cJSON *value,
                    struct failure *failure) {
    size_t n;
    const bool list = cJSON_IsArray(value);
    if (!params->tokenizer)
        return failure_set(failure, ERROR_NO_MODEL, NULL, "no model is loaded");
    if ((!list && !cJSON_IsObject(value)) || json_numbers(params->doc, value, &n))
        return bad(failure, place, "an object, or a list of [token, bias]");
    for (const cJSON *item = value->child; item; item = item->next) {
        if (list) {
            if (read_bias_pair(params, place, item, failure))
                return -1;
            continue;
        }
        const double id = key_id(item->string);
        if (id < 0 || !cJSON_IsNumber(item))
            return bad(failure, place, "an object of token ids and numbers");
        if (add_bias(params, place, id, item->valuedouble, failure))
            return -1;
    }
    return 0;
}
