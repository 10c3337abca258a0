/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a chat template: parse, and render with a small conversation. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "models/chat/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct chat_value *text(const char *t) {
    return chat_string(t, strlen(t));
}

/* A conversation with a call, a list of numbers, texts of several scripts, none, a float. */
static struct chat_value *made_globals(void) {
    static const char *const roles[] = {"system", "user", "assistant", "user"};
    static const char *const contents[] = {"Be brief.", "Hi\n\"x\"", "h\xc3\xa9 \xe2\x82\xac",
                                           " <b> "};
    struct chat_value *messages = chat_list(), *l = chat_list(), *g = chat_dict();
    struct chat_value *tool = chat_set(chat_dict(), "name", text("add"));
    for (size_t i = 0; i < 4; i++) {
        struct chat_value *m = chat_set(chat_dict(), "role", text(roles[i]));
        m = chat_set(m, "content", text(contents[i]));
        messages = chat_append(messages, i == 2 ? chat_set(m, "tool_calls", chat_none()) : m);
    }
    for (int i = 0; i < 40; i++)
        l = chat_append(l, i % 7 ? chat_int(i * i % 11) : chat_float(i / 3.0));
    tool = chat_set(tool, "arguments", chat_append(chat_list(), chat_bool(true)));
    g = chat_set(g, "messages", messages);
    g = chat_set(g, "tools", chat_append(chat_list(), tool));
    g = chat_set(g, "l", l);
    g = chat_set(g, "s", text("Hello, World\r\nand \xe4\xb8\x96"));
    g = chat_set(g, "n", chat_int(INT64_MAX));
    g = chat_set(g, "x", chat_float(-2.5e-7));
    g = chat_set(g, "bos_token", text("<s>"));
    return chat_set(g, "add_generation_prompt", chat_bool(true));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct chat_template *t = NULL;
    char *out = NULL;
    size_t n;
    if (size > 4096 || chat_template_create(&t, (const char *)data, size, NULL))
        return 0;
    struct chat_value *g = made_globals();
    if (g && chat_template_render(t, g, &out, &n, NULL) == 0)
        free(out);
    chat_value_unref(g);
    chat_template_destroy(t);
    return 0;
}
