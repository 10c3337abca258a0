/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/loaded.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>

#include "octarc/error.h"
#include "tests/check.h"

#define KEY "tokenizer.chat_template"

/* A copy of the tiny model, whose template `change` may alter: `value` begins with its type. */
static struct loaded *load_changed(void (*change)(uint8_t *value)) {
    static uint8_t bytes[4 << 20];
    char path[512], copy[] = "/tmp/octarc-loaded-XXXXXX";
    const char *dir = getenv("OCTARC_TINY");
    struct loaded *l = NULL;
    struct err err = {{0}};
    snprintf(path, sizeof path, "%s/tiny-f32.gguf", dir ? dir : "");
    const int from = open(path, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        SKIP("OCTARC_TINY does not name the folder of the tiny models (make tiny)");
    const ssize_t n = read(from, bytes, sizeof bytes);
    CHECK(n > 0 && n < (ssize_t)sizeof bytes);
    uint8_t *key = memmem(bytes, (size_t)n, KEY, strlen(KEY));
    CHECK(key != NULL);
    if (change)
        change(key + strlen(KEY));
    const int to = mkstemp(copy);
    CHECK(to >= 0);
    CHECK_EQ(write(to, bytes, (size_t)n), n);
    const int rc = loaded_open(&l, copy, &err);
    unlink(copy);
    close(to);
    close(from);
    if (rc)
        printf("# %s\n", err.text);
    CHECK_EQ(rc, 0);
    return l;
}

/* The string becomes an array of as many bytes. */
static void to_array(uint8_t *value) {
    uint64_t n;
    memcpy(&n, value + 4, sizeof n);
    n -= 4;
    memcpy(value, (uint32_t[]){9, 0}, 8);
    memcpy(value + 8, &n, sizeof n);
}

static void to_open_tag(uint8_t *value) {
    memcpy(value + 12, "{% if", 5);
}

static void an_unusable_template_is_no_reason_to_refuse_the_model(void) {
    struct loaded *l = load_changed(NULL);
    CHECK(l->chat && !l->chat_error);
    loaded_close(l);
    l = load_changed(to_open_tag);
    CHECK(!l->chat && l->chat_error);
    CHECK(strstr(l->chat_error, "chat template, line 1"));
    loaded_close(l);
    l = load_changed(to_array);
    CHECK(!l->chat && l->chat_error);
    if (!strstr(l->chat_error, KEY))
        printf("# %s\n", l->chat_error);
    CHECK(strstr(l->chat_error, KEY) && strstr(l->chat_error, "array"));
    loaded_close(l);
}

CHECK_MAIN(T(an_unusable_template_is_no_reason_to_refuse_the_model))
