/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/protocol/fields.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/protocol/protocol.h"
#include "daemon/protocol/values.h"

enum type {
    F_BOOL,    /* bool */
    F_INT,     /* int64_t: a number without fraction */
    F_NUMBER,  /* double */
    F_STRING,  /* const char * */
    F_ANY,     /* const cJSON *: its reader judges it */
    F_READ,    /* by a function of values.h */
    F_IGNORED, /* any value, no effect */
};

#define NOWHERE SIZE_MAX /* checked, not kept: only the neutral value is accepted */

struct field {
    const char *name;
    unsigned kinds;
    enum type type;
    double min, max; /* F_INT and F_NUMBER */
    size_t at;       /* offset in struct params */
    field_reader *read;
};

#define AT(member) offsetof(struct params, member)
#define ALL        (KIND_GENERATE | KIND_TOKENIZE | KIND_DETOKENIZE | KIND_TEMPLATE)
#define GEN        KIND_GENERATE
#define OPENAI     (KIND_COMPLETE | KIND_CHAT)
#define INT_TOP    2147483647.0
#define NEUTRAL(v) F_NUMBER, v, v, NOWHERE, NULL
#define IGNORED    F_IGNORED, 0, 0, NOWHERE, NULL

/* Sorted by name; a name may stand for different things in different requests. */
static const struct field fields[] = {
    {"add_generation_prompt", KIND_CHAT | KIND_TEMPLATE, F_BOOL, 0, 0, AT(add_generation_prompt),
     NULL},
    {"add_special", KIND_TOKENIZE, F_BOOL, 0, 0, AT(add_special), NULL},
    {"audio", KIND_CHAT, F_READ, 0, 0, NOWHERE, read_unsupported},
    {"best_of", KIND_COMPLETE, F_INT, 1, 1, NOWHERE, NULL},
    {"cache_prompt", GEN, F_BOOL, 0, 0, AT(cache_prompt), NULL},
    {"card", KIND_DRILL | KIND_CARD | KIND_CHECK, F_INT, 0, CARDS_MAX - 1, AT(card), NULL},
    {"chat_template_kwargs", KIND_CHAT | KIND_TEMPLATE, F_READ, 0, 0, AT(template_kwargs),
     read_template_kwargs},
    {"content", KIND_TOKENIZE, F_STRING, 0, 0, AT(content), NULL},
    {"dry_allowed_length", GEN, IGNORED},
    {"dry_base", GEN, IGNORED},
    {"dry_multiplier", GEN, NEUTRAL(0)},
    {"dry_penalty_last_n", GEN, IGNORED},
    {"dry_run", KIND_REBALANCE, F_BOOL, 0, 0, AT(dry_run), NULL},
    {"dry_sequence_breakers", GEN, IGNORED},
    {"dynatemp_exponent", GEN, IGNORED},
    {"dynatemp_range", GEN, NEUTRAL(0)},
    {"echo", KIND_COMPLETE, F_BOOL, 0, 0, AT(echo), NULL},
    {"fault", KIND_DRILL, F_STRING, 0, 0, AT(fault), NULL},
    {"frequency_penalty", GEN, F_NUMBER, -2, 2, AT(frequency_penalty), NULL},
    {"function_call", KIND_CHAT, F_READ, 0, 0, NOWHERE, read_unsupported},
    {"functions", KIND_CHAT, F_READ, 0, 0, NOWHERE, read_unsupported},
    {"grammar", GEN, F_READ, 0, 0, NOWHERE, read_unsupported},
    {"id", KIND_CANCEL, F_READ, 0, 0, NOWHERE, read_id},
    {"id", KIND_MODELS, F_STRING, 0, 0, AT(id), NULL},
    {"id_slot", GEN, IGNORED},
    {"ignore_eos", GEN, F_BOOL, 0, 0, AT(ignore_eos), NULL},
    {"json_schema", GEN, F_READ, 0, 0, NOWHERE, read_unsupported},
    {"logit_bias", GEN, F_READ, 0, 0, NOWHERE, read_logit_bias},
    {"logprobs", KIND_CHAT, F_BOOL, 0, 0, AT(logprobs), NULL},
    {"logprobs", KIND_COMPLETE, F_READ, 0, COMPLETION_LOGPROBS, NOWHERE, read_count_of_logprobs},
    {"lora", GEN, F_READ, 0, 0, NOWHERE, read_unsupported},
    {"max_completion_tokens", OPENAI, F_INT, -1, INT_TOP, AT(max_tokens), NULL},
    {"max_tokens", GEN, F_INT, -1, INT_TOP, AT(max_tokens), NULL},
    {"messages", KIND_CHAT | KIND_TEMPLATE, F_ANY, 0, 0, AT(messages), NULL},
    {"metadata", OPENAI, IGNORED},
    {"min_keep", GEN, F_INT, 0, 1024, AT(min_keep), NULL},
    {"min_p", GEN, F_NUMBER, 0, 1, AT(min_p), NULL},
    {"mirostat", GEN, NEUTRAL(0)},
    {"mirostat_eta", GEN, IGNORED},
    {"mirostat_tau", GEN, IGNORED},
    {"modalities", KIND_CHAT, IGNORED},
    {"model", ALL, F_STRING, 0, 0, AT(model), NULL},
    {"moderation", OPENAI, IGNORED},
    {"n", GEN, F_INT, 1, CHOICES_MAX, AT(n), NULL},
    {"n_indent", GEN, NEUTRAL(0)},
    {"n_keep", GEN, IGNORED},
    {"n_predict", GEN, F_INT, -1, INT_TOP, AT(max_tokens), NULL},
    {"n_probs", KIND_LLAMA, F_READ, 0, INT_TOP, NOWHERE, read_count_of_logprobs},
    {"parallel_tool_calls", KIND_CHAT, F_BOOL, 0, 0, AT(parallel_calls), NULL},
    {"parse_special", KIND_TOKENIZE, F_BOOL, 0, 0, AT(parse_special), NULL},
    {"post_sampling_probs", KIND_LLAMA, F_READ, 0, 0, NOWHERE, read_false},
    {"prediction", KIND_CHAT, IGNORED},
    {"presence_penalty", GEN, F_NUMBER, -2, 2, AT(presence_penalty), NULL},
    {"prompt", KIND_COMPLETE | KIND_LLAMA, F_ANY, 0, 0, AT(prompt), NULL},
    {"prompt_cache_key", OPENAI, IGNORED},
    {"prompt_cache_options", OPENAI, IGNORED},
    {"prompt_cache_retention", OPENAI, IGNORED},
    {"reasoning_effort", KIND_CHAT | KIND_TEMPLATE, F_STRING, 0, 0, AT(reasoning_effort), NULL},
    {"reasoning_format", KIND_CHAT, F_READ, 0, 0, AT(raw_reasoning), read_reasoning_format},
    {"release", KIND_CARD, F_BOOL, 0, 0, AT(release), NULL},
    {"repeat_last_n", GEN, F_INT, -1, INT_TOP, AT(repeat_last_n), NULL},
    {"repeat_penalty", GEN, F_NUMBER, 0.01, 100, AT(repeat_penalty), NULL},
    {"repetition_penalty", GEN, F_NUMBER, 0.01, 100, AT(repeat_penalty), NULL},
    {"response_format", OPENAI, F_READ, 0, 0, NOWHERE, read_response_format},
    {"return_progress", GEN, F_READ, 0, 0, NOWHERE, read_false},
    {"return_tokens", KIND_LLAMA, F_BOOL, 0, 0, AT(return_tokens), NULL},
    {"rpc_id", KIND_CANCEL, F_ANY, 0, 0, AT(rpc_id), NULL},
    {"safety_identifier", OPENAI, IGNORED},
    {"samplers", GEN, IGNORED},
    {"seed", GEN, F_READ, 0, 0, NOWHERE, read_seed},
    {"service_tier", OPENAI, IGNORED},
    {"silent", KIND_DRILL, F_BOOL, 0, 0, AT(silent), NULL},
    {"since", KIND_EVENTS, F_INT, 0, INTEGER_TOP, AT(since), NULL},
    {"stop", GEN, F_READ, 0, 0, NOWHERE, read_stop},
    {"store", OPENAI, IGNORED},
    {"stream", GEN | KIND_EVENTS, F_BOOL, 0, 0, AT(stream), NULL},
    {"stream_options", GEN, F_READ, 0, 0, NOWHERE, read_stream_options},
    {"suffix", KIND_COMPLETE, F_READ, 0, 0, NOWHERE, read_no_suffix},
    {"temperature", GEN, F_NUMBER, 0, 100, AT(temperature), NULL},
    {"timings_per_token", GEN, IGNORED},
    {"tokens", KIND_DETOKENIZE, F_ANY, 0, 0, AT(tokens), NULL},
    {"tool_choice", KIND_CHAT | KIND_TEMPLATE, F_READ, 0, 0, AT(no_tools), read_tool_choice},
    {"tools", KIND_CHAT | KIND_TEMPLATE, F_READ, 0, 0, AT(tools), read_tools},
    {"top_k", GEN, F_INT, -1, INT_TOP, AT(top_k), NULL},
    {"top_logprobs", KIND_CHAT, F_INT, 0, TOP_LOGPROBS_MAX, AT(n_logprobs), NULL},
    {"top_n_sigma", GEN, NEUTRAL(-1)},
    {"top_p", GEN, F_NUMBER, 0, 1, AT(top_p), NULL},
    {"typical_p", GEN, NEUTRAL(1)},
    {"user", OPENAI, IGNORED},
    {"verbosity", KIND_CHAT, IGNORED},
    {"wait", KIND_CARD, F_BOOL, 0, 0, AT(wait), NULL},
    {"web_search_options", KIND_CHAT, F_READ, 0, 0, NOWHERE, read_unsupported},
    {"with_pieces", KIND_TOKENIZE, F_BOOL, 0, 0, AT(with_pieces), NULL},
    {"xtc_probability", GEN, NEUTRAL(0)},
    {"xtc_threshold", GEN, IGNORED},
};

#define N_FIELDS (sizeof fields / sizeof *fields)

static const struct field *find_field(const char *name, enum kind kind) {
    size_t low = 0, high = N_FIELDS;
    while (low < high) {
        const size_t mid = (low + high) / 2;
        if (strcmp(fields[mid].name, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    for (; low < N_FIELDS && !strcmp(fields[low].name, name); low++)
        if (fields[low].kinds & (unsigned)kind)
            return &fields[low];
    return NULL;
}

static int read_plain_number(struct params *params, const struct field *field, const cJSON *value,
                             struct failure *failure) {
    const bool whole = field->type == F_INT;
    if (!cJSON_IsNumber(value) || (whole && value->valuedouble != floor(value->valuedouble)))
        return failure_set(failure, ERROR_BAD_FIELD, field->name, "'%s' must be %s", field->name,
                           whole ? "an integer" : "a number");
    const double x = value->valuedouble;
    if (!(x >= field->min && x <= field->max)) {
        if (field->at == NOWHERE)
            return failure_set(failure, ERROR_BAD_FIELD, field->name,
                               "'%s' is not supported; only %g is accepted", field->name,
                               field->min);
        return failure_set(failure, ERROR_BAD_FIELD, field->name,
                           "'%s' is %.10g; it must be between %.10g and %.10g", field->name, x,
                           field->min, field->max);
    }
    if (field->at == NOWHERE)
        return 0;
    if (whole)
        *(int64_t *)((char *)params + field->at) = (int64_t)x;
    else
        *(double *)((char *)params + field->at) = x;
    return 0;
}

static int read_field(struct params *params, const struct field *field, const cJSON *value,
                      struct failure *failure) {
    void *at = (char *)params + (field->at == NOWHERE ? 0 : field->at);
    switch (field->type) {
    case F_BOOL:
        if (!cJSON_IsBool(value))
            return failure_set(failure, ERROR_BAD_FIELD, field->name, "'%s' must be true or false",
                               field->name);
        *(bool *)at = cJSON_IsTrue(value);
        return 0;
    case F_INT:
    case F_NUMBER:
        return read_plain_number(params, field, value, failure);
    case F_STRING:
        if (!cJSON_IsString(value))
            return failure_set(failure, ERROR_BAD_FIELD, field->name, "'%s' must be a string",
                               field->name);
        *(const char **)at = value->valuestring;
        return 0;
    case F_ANY:
        *(const cJSON **)at = value;
        return 0;
    case F_READ: {
        const struct field_place place = {
            .name = field->name, .max = field->max, .at = field->at == NOWHERE ? NULL : at};
        return field->read(params, &place, value, failure);
    }
    case F_IGNORED:
        break;
    }
    return 0;
}

static void set_defaults(struct params *params, enum kind kind) {
    /* The OpenAI routes sample from the whole distribution; /completion as its clients expect. */
    const bool llama = kind == KIND_LLAMA;
    *params = (struct params){
        .kind = kind,
        .max_tokens = kind == KIND_COMPLETE ? 16 : -1,
        .n = 1,
        .temperature = llama ? 0.8 : 1.0,
        .top_k = llama ? 40 : 0,
        .top_p = llama ? 0.95 : 1.0,
        .min_p = llama ? 0.05 : 0.0,
        .repeat_penalty = 1.0,
        .repeat_last_n = 64,
        .cache_prompt = true,
        .parallel_calls = true,
        .parse_special = true,
        .add_generation_prompt = true,
        .id_number = -1,
        .card = kind == KIND_CARD || kind == KIND_CHECK ? -1 : 0,
    };
}

int params_read(struct params *params, enum kind kind, const struct json *doc, const cJSON *object,
                const struct tokenizer *tokenizer, struct failure *failure) {
    set_defaults(params, kind);
    params->doc = doc;
    params->tokenizer = tokenizer;
    if (getrandom(&params->seed, sizeof params->seed, 0) != sizeof params->seed)
        return failure_set(failure, ERROR_FAILED, NULL, "no random number for a seed");
    params->seed >>= 11; /* 53 bits: it goes back to the client as a number */
    if (object && !cJSON_IsObject(object))
        return failure_set(failure, ERROR_BAD_REQUEST, NULL, "the parameters must be an object");
    for (const cJSON *value = object ? object->child : NULL; value; value = value->next) {
        const struct field *field = find_field(value->string, kind);
        if (!field)
            return failure_set(failure, ERROR_BAD_FIELD, value->string, "unknown field '%.200s'",
                               value->string);
        if (!cJSON_IsNull(value) && read_field(params, field, value, failure))
            return -1;
    }
    if (params->no_tools)
        params->tools = NULL;
    if (kind == KIND_CHAT && params->n_logprobs > 0 && !params->logprobs)
        return failure_set(failure, ERROR_BAD_FIELD, "top_logprobs",
                           "'top_logprobs' needs 'logprobs': true");
    return 0;
}

void params_finish(struct params *params) {
    free(params->bias);
    params->bias = NULL;
    params->n_bias = 0;
}
