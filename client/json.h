/* SPDX-License-Identifier: Apache-2.0 */
/* json.h - members of an answer; one that is not there is 0 or "-". */
#ifndef OCTARC_CLIENT_JSON_H
#define OCTARC_CLIENT_JSON_H

#include <cjson/cJSON.h>

static inline const cJSON *member(const cJSON *object, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static inline double number(const cJSON *object, const char *key) {
    const cJSON *item = member(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static inline const char *string(const cJSON *object, const char *key) {
    const cJSON *item = member(object, key);
    return cJSON_IsString(item) ? item->valuestring : "-";
}

#endif
