/* SPDX-License-Identifier: Apache-2.0 */
/* JSON texts: what the check accepts is read, by cJSON too, and says the same when it is written
 * and read again; json_check and json_read agree. */
#include <cjson/cJSON.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/util/json.h"
#include "octarc/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond))                                                                               \
            abort();                                                                               \
    } while (0)

static size_t count(const struct json *json, const cJSON *item) {
    size_t n = 1, k;
    if (json_numbers(json, item, &k)) {
        MUST(!item->child && k > JSON_RUN_MIN);
        return n + k;
    }
    for (const cJSON *child = item->child; child; child = child->next)
        n += count(json, child);
    return n;
}

static size_t count_plain(const cJSON *item) {
    size_t n = 1;
    for (const cJSON *child = item->child; child; child = child->next)
        n += count_plain(child);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct json json = {0};
    struct err err;
    /* Exactly as long as the text, so that a read behind it is seen. */
    char *text = malloc(size + !size);
    memcpy(text, data, size);
    const int checked = json_check(text, size, &err);
    const int carried = json_check_carried(text, size, &err);
    cJSON *plain = cJSON_ParseWithLength(text, size);
    const int read = json_read(&json, text, size, &err);
    MUST(checked == read);
    MUST(checked || !carried);
    if (read == 0) {
        MUST(plain); /* accepted here: accepted there */
        MUST(count(&json, json.root) == count_plain(plain));
        char *again = cJSON_PrintUnformatted(plain);
        MUST(again);
        /* cJSON may write 9007199254740993.5 as an integer that the check refuses: it is a double.
         */
        cJSON *twice = cJSON_ParseWithLength(again, strlen(again));
        MUST(twice && count_plain(twice) == count_plain(plain));
        cJSON_Delete(twice);
        cJSON_free(again);
    } else {
        MUST(!json.root && !json.n_runs && strlen(err.text) > 0);
    }
    cJSON_Delete(plain);
    json_finish(&json);
    free(text);
    return 0;
}
