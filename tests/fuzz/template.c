/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a chat template: parse, and render with a small conversation. */
#include <stdint.h>
#include <stdlib.h>

#include "models/chat/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct chat_template *t = NULL;
    char *text = NULL;
    size_t n;
    if (size > 4096 || chat_template_create(&t, (const char *)data, size, NULL))
        return 0;
    struct chat_value *m = chat_dict(), *g = chat_dict();
    m = chat_set(m, "role", chat_string("user", 4));
    m = chat_set(m, "content", chat_string("Hi\n\"x\"", 6));
    g = chat_set(g, "messages", chat_append(chat_list(), m));
    g = chat_set(g, "add_generation_prompt", chat_bool(true));
    if (g && chat_template_render(t, g, &text, &n, NULL) == 0)
        free(text);
    chat_value_unref(g);
    chat_template_destroy(t);
    return 0;
}
