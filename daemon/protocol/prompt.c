/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/protocol/prompt.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/protocol/protocol.h"
#include "models/chat/chat.h"
#include "models/tokenizer/tokenizer.h"
#include "octarc/error.h"

static int no_memory(struct failure *failure) {
    return failure_set(failure, ERROR_FAILED, NULL, "no memory for the prompt");
}

static int append_ids(struct prompt *prompt, const int32_t *ids, size_t n,
                      struct failure *failure) {
    int32_t *grown = n ? realloc(prompt->ids, (prompt->n + n) * sizeof *grown) : prompt->ids;
    if (n && !grown)
        return no_memory(failure);
    prompt->ids = grown;
    if (n)
        memcpy(grown + prompt->n, ids, n * sizeof *ids);
    prompt->n += n;
    return 0;
}

static int append_text(struct prompt *prompt, const struct model_view *model, const char *text,
                       size_t n_text, unsigned flags, struct failure *failure) {
    struct err err;
    int32_t *ids = NULL;
    size_t n = 0;
    const int rc = tokenizer_encode(model->tokenizer, text, n_text, flags, &ids, &n, &err);
    if (rc)
        return failure_set(failure, rc == -E2BIG ? ERROR_TOO_BIG : ERROR_FAILED, "prompt", "%s",
                           err.text);
    const int appended = append_ids(prompt, ids, n, failure);
    free(ids);
    return appended;
}

static int check_id(double id, const struct model_view *model, struct failure *failure) {
    const uint32_t n_vocab = tokenizer_n_vocab(model->tokenizer);
    if (id != floor(id) || id < 0 || id >= n_vocab)
        return failure_set(failure, ERROR_BAD_FIELD, "prompt",
                           "'prompt' holds token %.10g; the vocabulary has %u", id, n_vocab);
    return 0;
}

static int append_numbers(struct prompt *prompt, const struct model_view *model,
                          const double *numbers, size_t n, struct failure *failure) {
    int32_t *ids = malloc(n * sizeof *ids);
    int rc = ids ? 0 : no_memory(failure);
    for (size_t i = 0; i < n && !rc; i++) {
        rc = check_id(numbers[i], model, failure);
        if (!rc)
            ids[i] = (int32_t)numbers[i];
    }
    if (!rc)
        rc = append_ids(prompt, ids, n, failure);
    free(ids);
    return rc;
}

/* One prompt: a string, or a list of ids and strings. */
static int build_one(struct prompt_set *set, const struct params *params,
                     const struct model_view *model, const cJSON *item, struct failure *failure) {
    if (set->n == PROMPTS_MAX)
        return failure_set(failure, ERROR_BAD_FIELD, "prompt", "'prompt' has more than %d prompts",
                           PROMPTS_MAX);
    struct prompt *prompt = &set->prompts[set->n++];
    size_t n;
    const double *numbers = json_numbers(params->doc, item, &n);
    if (numbers)
        return append_numbers(prompt, model, numbers, n, failure);
    if (cJSON_IsString(item))
        return append_text(prompt, model, item->valuestring, strlen(item->valuestring),
                           ENCODE_SPECIAL | ENCODE_PARSE, failure);
    for (const cJSON *part = item->child; part; part = part->next) {
        const unsigned special = part == item->child ? ENCODE_SPECIAL : 0;
        int rc;
        if (cJSON_IsNumber(part)) {
            rc = check_id(part->valuedouble, model, failure);
            const int32_t id = rc ? 0 : (int32_t)part->valuedouble;
            rc = rc ? rc : append_ids(prompt, &id, 1, failure);
        } else if (cJSON_IsString(part)) {
            rc = append_text(prompt, model, part->valuestring, strlen(part->valuestring),
                             special | ENCODE_PARSE, failure);
        } else {
            rc = failure_set(failure, ERROR_BAD_FIELD, "prompt",
                             "a prompt's list must hold strings and token ids");
        }
        if (rc)
            return rc;
    }
    return 0;
}

/* A list with a number in it is one prompt; a list of strings or of lists is several. */
static bool is_one_prompt(const struct params *params, const cJSON *prompt) {
    size_t n;
    if (!cJSON_IsArray(prompt) || json_numbers(params->doc, prompt, &n))
        return true;
    for (const cJSON *item = prompt->child; item; item = item->next)
        if (cJSON_IsNumber(item))
            return true;
    return false;
}

static int build_prompts(struct prompt_set *set, const struct params *params,
                         const struct model_view *model, struct failure *failure) {
    const cJSON *prompt = params->prompt;
    if (!prompt)
        return failure_set(failure, ERROR_BAD_FIELD, "prompt", "'prompt' is missing");
    if (!cJSON_IsString(prompt) && !cJSON_IsArray(prompt))
        return failure_set(failure, ERROR_BAD_FIELD, "prompt",
                           "'prompt' must be a string, or a list of strings, ids or lists of ids");
    if (is_one_prompt(params, prompt))
        return build_one(set, params, model, prompt, failure);
    set->list = true;
    for (const cJSON *item = prompt->child; item; item = item->next) {
        if (!cJSON_IsString(item) && !cJSON_IsArray(item))
            return failure_set(failure, ERROR_BAD_FIELD, "prompt",
                               "'prompt' must be a list of strings or of lists of ids");
        if (build_one(set, params, model, item, failure))
            return -1;
    }
    return 0;
}

/* Whether the answer goes on inside the reasoning that the prompt begins. */
static bool opens_reasoning(const char *text, size_t n) {
    static const char *const openers[] = {"<think>", "[THINK]"};
    while (n && (text[n - 1] == '\n' || text[n - 1] == ' '))
        n--;
    for (size_t i = 0; i < sizeof openers / sizeof *openers; i++) {
        const size_t length = strlen(openers[i]);
        if (n >= length && !memcmp(text + n - length, openers[i], length))
            return true;
    }
    return false;
}

int prompt_build(struct prompt_set *set, const struct params *params,
                 const struct model_view *model, struct failure *failure) {
    const char *field = params->kind == KIND_CHAT ? "messages" : "prompt";
    memset(set, 0, sizeof *set);
    if (params->kind == KIND_CHAT) {
        char *text;
        size_t n;
        if (chat_text(params, model, &text, &n, failure))
            return -1;
        set->thinking = chat_template_form(model->chat).thinks && opens_reasoning(text, n);
        /* Most templates write the beginning themselves; it must not be there twice. */
        const size_t n_bos = model->bos_text ? strlen(model->bos_text) : 0;
        const bool has_bos = n_bos && n >= n_bos && !memcmp(text, model->bos_text, n_bos);
        set->n = 1;
        const int rc = append_text(&set->prompts[0], model, text, n,
                                   ENCODE_PARSE | (has_bos ? 0 : ENCODE_SPECIAL), failure);
        free(text);
        if (rc)
            return rc;
    } else if (build_prompts(set, params, model, failure)) {
        return -1;
    }
    if (set->n == 0)
        return failure_set(failure, ERROR_BAD_FIELD, field, "'%s' is empty", field);
    for (size_t i = 0; i < set->n; i++)
        if (set->prompts[i].n == 0)
            return failure_set(failure, ERROR_BAD_FIELD, field, "'%s' is empty", field);
    return 0;
}

void prompt_set_finish(struct prompt_set *set) {
    for (size_t i = 0; i < set->n; i++)
        free(set->prompts[i].ids);
    memset(set, 0, sizeof *set);
}

static size_t weight(const cJSON *item) {
    size_t bytes = cJSON_IsString(item) ? strlen(item->valuestring) : 0;
    for (const cJSON *child = item ? item->child : NULL; child; child = child->next)
        bytes += weight(child);
    return bytes;
}

size_t prompt_weight(const struct params *params) {
    return params->kind & (KIND_CHAT | KIND_TEMPLATE)
               ? weight(params->messages) + weight(params->tools)
               : weight(params->prompt);
}
