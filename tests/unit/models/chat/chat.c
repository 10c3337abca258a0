/* SPDX-License-Identifier: Apache-2.0 */
/* cases.json holds what Jinja itself makes of each template (make_cases.py). */
#include "models/chat/chat.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>

#include "models/gguf.h"
#include "octarc/error.h"
#include "tests/check.h"
#include "tests/shared.h"

static struct chat_value *from_json(const cJSON *j) {
    struct chat_value *v;
    const cJSON *c;
    if (cJSON_IsNull(j))
        return chat_none();
    if (cJSON_IsBool(j))
        return chat_bool(cJSON_IsTrue(j));
    if (cJSON_IsNumber(j))
        return (double)j->valueint == j->valuedouble ? chat_int(j->valueint)
                                                     : chat_float(j->valuedouble);
    if (cJSON_IsString(j))
        return chat_string(j->valuestring, strlen(j->valuestring));
    if (cJSON_IsArray(j)) {
        v = chat_list();
        cJSON_ArrayForEach(c, j) v = chat_append(v, from_json(c));
        return v;
    }
    v = chat_dict();
    cJSON_ArrayForEach(c, j) v = chat_set(v, c->string, from_json(c));
    return v;
}

static cJSON *read_json(const char *path) {
    static char text[1 << 20];
    FILE *f = fopen(path, "r");
    if (!f)
        return NULL;
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    cJSON *json = cJSON_Parse(text);
    CHECK(json != NULL);
    return json;
}

static int render(const char *source, struct chat_value *globals, char **text, struct err *err) {
    struct chat_template *t = NULL;
    size_t n;
    int rc = chat_template_create(&t, source, strlen(source), err);
    if (!rc)
        rc = chat_template_render(t, globals, text, &n, err);
    chat_template_destroy(t);
    return rc;
}

static void templates_render_as_jinja_renders_them(void) {
    cJSON *json = read_json("tests/unit/models/chat/cases.json");
    struct chat_value *globals = from_json(cJSON_GetObjectItemCaseSensitive(json, "context"));
    const cJSON *c;
    int wrong = 0, n = 0;
    cJSON_ArrayForEach(c, cJSON_GetObjectItemCaseSensitive(json, "cases")) {
        const char *source = cJSON_GetObjectItemCaseSensitive(c, "template")->valuestring;
        const cJSON *want = cJSON_GetObjectItemCaseSensitive(c, "output");
        struct err err = {{0}};
        char *text = NULL;
        const int rc = render(source, globals, &text, &err);
        if (want ? rc != 0 || strcmp(text, want->valuestring) : rc == 0) {
            printf("# %s\n#   got  %s\n#   want %s\n", source, rc ? err.text : text,
                   want ? want->valuestring : "an error");
            wrong++;
        }
        if (rc)
            CHECK(strstr(err.text, "line "));
        free(text);
        n++;
    }
    printf("# %d cases\n", n);
    CHECK(n > 180);
    CHECK_EQ(wrong, 0);
    chat_value_unref(globals);
    cJSON_Delete(json);
}

static void hostile_templates_end_with_an_error(void) {
    static const char *const sources[] = {
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 1000000000000 }}",
        "{% set ns = namespace(s='xxxxxxxxxxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s "
        "~ "
        "ns.s %}{% endfor %}{{ ns.s }}",
        "{{ range(1000000000) }}",
        "{{ 9223372036854775807 + 1 }}",
        "{{ 99999999999999999999 }}",
        "{% set ns = namespace() %}{% set ns.me = ns %}",
        "{% set l = [] %}{{ l.append(l) }}",
        "{{ 2 ** 99 }}",
        "{% if",
        "{{ 'open",
        "{# open",
        "{% for x in y %}",
        "{% endfor %}",
        "{{ }}",
        "{{ a b }}",
        "{% break %}",
        "{{ (1 }}",
        "{{ x.__class__.y.z }}",
        "{{ range(-9223372036854775807, 9223372036854775807) }}",
        "{{ 3 ** 9223372036854775807 }}",
        "{{ 9223372036854775807 | round(-1) }}",
        "{{ '9223372036854775808' | int }}",
        "{% set l = [] %}{% for x in [l] %}{% set _ = l.append(loop) %}{% endfor %}",
        "{% set d = {} %}{% set _ = d.update(me=[d]) %}",
        "{% set d = {} %}{% set _ = d.update({'a': {'b': d}}) %}",
        "{% set ns = namespace() %}{% for i in [1] %}{% macro f() %}{{ i }}{% endmacro %}"
        "{% set ns.f = f %}{% endfor %}{{ ns.f() }}",
        "{% for i in [1] recursive %}{{ loop([]) }}{% endfor %}",
        "{% macro f() %}{{ caller() }}{% endmacro %}"
        "{% call f(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16) %}{% endcall %}",
        "{{ [1] | batch(9223372036854775807, 0) }}",
        "{{ [1] | batch(0) }}",
        "{{ {1: 2} | groupby('a', 'b') }}",
        "{{ 'a'.replace('', 'b') }}",
        "{{ 'a'.count('') }}",
    };
    struct chat_value *globals = chat_dict();
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        struct err err = {{0}};
        char *text = NULL;
        const int rc = render(sources[i], globals, &text, &err);
        if (rc == 0)
            printf("# no error: %s -> %.60s\n", sources[i], text);
        CHECK(rc == -EINVAL || rc == -E2BIG);
        CHECK(err.text[0]);
    }
    chat_value_unref(globals);
}

#define OFTEN(what)                                                                                \
    "{% for i in range(100000) %}{% for j in range(100000) %}" what "{% endfor %}{% endfor %}"
#define TEXT   "{% set t = 'x' * 16000000 %}"
#define LIST   "{% set l = range(100000) | list %}"
#define DICT   "{% set d = {} %}{% for i in range(3000) %}{% set _ = d.update({i: 1}) %}{% endfor %}"
#define TWICE  "{% set a = [a, a] %}{% set b = [b, b] %}"
#define TWICE8 TWICE TWICE TWICE TWICE TWICE TWICE TWICE TWICE

/* Each does little at a time and never ends; without the limits they would run for minutes, for
 * years, or take all memory.  What ends them is a count and no clock. */
static void check_ended(const char *const sources[], size_t n) {
    struct chat_value *globals = chat_dict();
    for (size_t i = 0; i < n; i++) {
        struct err err = {{0}};
        char *text = NULL;
        const int rc = render(sources[i], globals, &text, &err);
        if (rc != -E2BIG || !strstr(err.text, "line "))
            printf("# %d '%s': %.200s\n", rc, err.text, sources[i]);
        CHECK_EQ(rc, -E2BIG);
        CHECK(strstr(err.text, "line "));
    }
    chat_value_unref(globals);
}

static void work_on_text_ends(void) {
    static const char *const sources[] = {
        OFTEN(""),
        OFTEN("{{ i }}"),
        OFTEN("{{ loop.index }}"),
        OFTEN("{% set x %}{% endset %}"),

        TEXT OFTEN("{{ 'y' in t }}"),
        TEXT OFTEN("{{ t | upper }}"),
        TEXT OFTEN("{{ t.strip('x') }}"),
        TEXT OFTEN("{{ t | length }}"),

        TEXT OFTEN("{{ t[2:3] }}"),
        TEXT OFTEN("{{ t[::1000000] }}"),
        TEXT OFTEN("{{ t.split('x') | length }}"),
        TEXT OFTEN("{{ t.split('yx') | length }}"),
        TEXT OFTEN("{{ t.rsplit('y' * 9) | length }}"),
        TEXT OFTEN("{{ t.replace('x', '') }}"),
        TEXT OFTEN("{{ t.count('x') }}"),
        TEXT OFTEN("{{ t.find('x' * 100000 ~ 'y') }}"),
        TEXT OFTEN("{{ t | wordcount }}"),
        TEXT OFTEN("{{ t.splitlines() | length }}"),
        TEXT OFTEN("{{ t | tojson | length }}"),
        TEXT OFTEN("{{ [t] | string | length }}"),
        TEXT OFTEN("{{ t is lower }}"),

        TEXT OFTEN("{{ t == 'x' * 15999999 ~ 'y' }}"),
        TEXT OFTEN("{{ t.removeprefix('y') | length }}"),
        TEXT OFTEN("{{ t | float }}"),

        TEXT "{{ t | list | length }}",
        "{% set s = '%%' * 1000000 %}" OFTEN("{{ (s % ()) | length }}"),
        "{% set s = '<' * 1000000 %}" OFTEN("{{ s | escape | length }}"),
        "{% set s = '\n' * 1000000 %}" OFTEN("{{ s | indent | length }}"),
    };
    check_ended(sources, sizeof sources / sizeof *sources);
}

static void work_on_lists_ends(void) {
    static const char *const sources[] = {
        LIST OFTEN("{{ -1 in l }}"),
        LIST OFTEN("{{ l | join | length }}"),

        LIST OFTEN("{{ (l | sort)[0] }}"),
        LIST OFTEN("{{ (l | reverse)[0] }}"),
        LIST "{{ l | unique | length }}",
        LIST "{% set m = range(100000) | list %}" OFTEN("{{ l == m }}"),
        LIST OFTEN("{{ l | max }}"),
        LIST OFTEN("{{ l | sum }}"),

        LIST OFTEN("{{ l | map('string') | length }}"),
        LIST OFTEN("{{ l[1:] | length }}"),
        LIST OFTEN("{{ l | select('odd') | list | length }}"),
        LIST OFTEN("{{ l | batch(1) | length }}"),
        LIST OFTEN("{{ l | string | length }}"),
        LIST OFTEN("{% for x in l if false %}{% endfor %}"),
        "{% set l = range(99999) | list %}" OFTEN("{{ (l + [1]) | length }}"),
        "{% set l = [1.1234567890123456e-300] * 100000 %}" OFTEN("{{ l | tojson | length }}"),
        "{% set l = ['1' * 300] * 100000 %}" OFTEN("{{ l | map('float') | length }}"),
        "{% set l = [{}] * 100000 %}" OFTEN("{{ l | map(attribute='a.b.c') | length }}"),
        "{% set l = [{'a': 1}] * 100000 %}" OFTEN("{{ l | groupby('a') | length }}"),
        "{% set l = [] %}" OFTEN("{% set _ = l.append(range(100000)) %}"),
        "{% set l = [] %}" OFTEN("{% set _ = l.append(loop) %}"),
        "{% set l = [[]] * 100000 %}" OFTEN("{% set _ = [].append(l) %}"),
    };
    check_ended(sources, sizeof sources / sizeof *sources);
}

static void work_on_dicts_and_shared_parts_ends(void) {
    static const char *const sources[] = {
        "{% set d = {} %}{% for i in range(100000) %}{% set _ = d.update({i: 1}) %}{% endfor %}",
        DICT OFTEN("{{ d.get(-1) }}"),

        DICT OFTEN("{{ dict(d) | length }}"),
        DICT OFTEN("{{ d | dictsort | length }}"),
        DICT OFTEN("{{ d.values() | length }}"),
        DICT OFTEN("{{ d | items | list | length }}"),

        "{% set a = [1] %}{% set b = [1] %}" TWICE8 TWICE8 TWICE8 TWICE8 TWICE8 "{{ a == b }}",
        "{% set a = [1] %}{% set b = [1] %}" TWICE8 TWICE8 TWICE8 TWICE8 TWICE8 "{{ b in [a] }}",
        "{% set a = [1] %}{% set b = [1] %}" TWICE8 TWICE8 TWICE8 TWICE8 TWICE8
        "{% set l = [] %}{% set _ = l.append(a) %}",
        "{% set a = [1] %}{% set b = [1] %}" TWICE8 TWICE8 TWICE8 TWICE8 TWICE8 "{{ a }}",
        ("{% set ns = namespace(a=[], b=[]) %}{% for i in range(1000) %}{% set ns.a = [ns.a] %}"
         "{% set ns.b = [ns.b] %}{% endfor %}{{ ns.a == ns.b }}"),
    };
    check_ended(sources, sizeof sources / sizeof *sources);
}

static void many_names_end_by_their_count(void) {
    static char source[1 << 20];
    struct chat_value *globals = chat_dict();
    char *text = NULL;
    size_t at = 0;
    for (int i = 0; i < 50000; i++)
        at += (size_t)sprintf(source + at, "{%%set a%d=1%%}", i);
    CHECK_EQ(render(source, globals, &text, NULL), -E2BIG);
    chat_value_unref(globals);
}

/* Each call takes stack, so their own limit must end them, not the one of work. */
static void macros_call_each_other_only_so_deep(void) {
    struct chat_value *globals = chat_dict();
    struct err err;
    char *text = NULL;
    CHECK_EQ(render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", globals, &text, &err),
             -E2BIG);
    CHECK(strstr(err.text, "too deeply"));
    chat_value_unref(globals);
}

static void deep_nesting_needs_no_deep_stack(void) {
    static char source[300000];
    struct chat_value *globals = chat_dict();
    static const char *const opens[] = {
        "{{ (", "{{ [", "{{ {1: ", "{{ not ", "{{ -", "{{ a if b else "};
    for (size_t k = 0; k < sizeof opens / sizeof *opens; k++) {
        char *text = NULL;
        struct err err;
        size_t at = (size_t)sprintf(source, "{{ ");
        for (int i = 0; i < 20000; i++)
            at = (size_t)(stpcpy(source + at, opens[k] + 3) - source);
        CHECK(render(source, globals, &text, &err) != 0);
    }
    strcpy(source, "");
    size_t at = 0;
    for (int i = 0; i < 20000; i++)
        at += (size_t)sprintf(source + at, "{%% if 1 %%}");
    char *text = NULL;
    CHECK(render(source, globals, &text, NULL) != 0);
    at = (size_t)sprintf(source, "{{ 1");
    for (int i = 0; i < 50000; i++)
        at += (size_t)sprintf(source + at, "+1");
    sprintf(source + at, " }}");
    CHECK(render(source, globals, &text, NULL) != 0);
    chat_value_unref(globals);
}

/* A list in a list in a list, hundreds of thousands deep, is freed without a deep stack. */
static void deep_values_need_no_deep_stack(void) {
    static char source[1 << 20];
    struct chat_value *globals = chat_dict();
    struct err err;
    char *text = NULL;
    size_t at = (size_t)sprintf(source, "{%%set x=0%%}");
    while (at + 64 < sizeof source)
        at = (size_t)(stpcpy(source + at, "{%set x=[[[[[[[[[[[[[[[[[[[x]]]]]]]]]]]]]]]]]]]%}") -
                      source);
    CHECK_EQ(render(source, globals, &text, &err), 0);
    CHECK(!strcmp(text, ""));
    free(text);
    struct chat_value *v = chat_none();
    for (int i = 0; i < 1000000; i++)
        v = i % 2 ? chat_append(chat_list(), v) : chat_set(chat_dict(), "k", v);
    chat_value_unref(v);
    chat_value_unref(globals);
}

#define SHARED_RENDERINGS 2000

static void *render_often(void *user) {
    for (int i = 0; i < SHARED_RENDERINGS; i++) {
        struct chat_value *globals = chat_dict();
        char *text;
        size_t n;
        CHECK_EQ(chat_template_render(user, globals, &text, &n, NULL), 0);
        CHECK(!strcmp(text, "ab7ab7ab7"));
        free(text);
        chat_value_unref(globals);
    }
    return NULL;
}

/* Its constants are values that all renderings refer to at once. */
static void threads_share_a_template(void) {
    static const char source[] = "{% for i in [1, 2, 3] %}{{ 'a' ~ 'b' }}{{ 7 }}{% endfor %}";
    struct chat_template *t = NULL;
    pthread_t threads[4];
    CHECK_EQ(chat_template_create(&t, source, strlen(source), NULL), 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, render_often, t), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    chat_template_destroy(t);
}

static struct chat_template *model_template(const char *file) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char path[512];
    struct gguf *gguf;
    struct gguf_string source;
    struct chat_template *t;
    snprintf(path, sizeof path, "%s%s/octarc/models/%s", cache ? cache : home,
             cache ? "" : "/.cache", file);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        SKIP("the model is not in the cache");
    CHECK_EQ(gguf_open(&gguf, fd, path, NULL), 0);
    CHECK_EQ(gguf_string(gguf, "tokenizer.chat_template", &source, NULL), 0);
    CHECK_EQ(chat_template_create(&t, source.bytes, source.n, NULL), 0);
    gguf_close(gguf);
    close(fd);
    return t;
}

static void compare_renderings(const char *golden, const char *model) {
    cJSON *json = read_json(shared(golden));
    CHECK(json);
    struct chat_template *t = model_template(model);
    const cJSON *c;
    cJSON_ArrayForEach(c, json) {
        struct chat_value *g = chat_dict();
        char *text;
        size_t n;
        g = chat_set(g, "messages", from_json(cJSON_GetObjectItemCaseSensitive(c, "messages")));
        g = chat_set(g, "add_generation_prompt", chat_bool(true));
        CHECK_EQ(chat_template_render(t, g, &text, &n, NULL), 0);
        const char *want = cJSON_GetObjectItemCaseSensitive(c, "prompt")->valuestring;
        if (strcmp(text, want))
            printf("# got %s\n# want %s\n", text, want);
        CHECK(!strcmp(text, want));
        free(text);
        chat_value_unref(g);
    }
    chat_template_destroy(t);
    cJSON_Delete(json);
}

static void the_default_models_template_matches_the_reference(void) {
    compare_renderings("goldens/chat/smollm2.json", "SmolLM2-135M-Instruct.Q4_1.gguf");
}

static void a_template_with_tools_matches_the_reference(void) {
    compare_renderings("goldens/chat/qwen2.5-coder.json",
                       "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf");
}

CHECK_MAIN(T(templates_render_as_jinja_renders_them), T(hostile_templates_end_with_an_error),
           T(work_on_text_ends), T(work_on_lists_ends), T(work_on_dicts_and_shared_parts_ends),
           T(many_names_end_by_their_count), T(macros_call_each_other_only_so_deep),
           T(deep_nesting_needs_no_deep_stack), T(deep_values_need_no_deep_stack),
           T(threads_share_a_template), T(the_default_models_template_matches_the_reference),
           T(a_template_with_tools_matches_the_reference))
