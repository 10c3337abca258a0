/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/config.h"

#include <errno.h>

#include "daemon/placement/plan.h"
#include "daemon/service/options.h"
#include "octarc/error.h"
#include "tests/check.h"

static int parse(struct config *config, const char *text, struct err *err) {
    return config_parse(config, text, strlen(text), "file", err);
}

/* The text is refused with all of these words, and the configuration stays as it was. */
static void refused(const char *text, const char *const *words) {
    struct config before, after;
    struct err err = {{0}};
    config_default(&before);
    config_default(&after);
    CHECK(parse(&after, text, &err) < 0);
    CHECK(!memcmp(&before, &after, sizeof before));
    for (; *words; words++)
        if (!strstr(err.text, *words)) {
            printf("# '%s' lacks '%s'\n", err.text, *words);
            CHECK(false);
        }
}
#define REFUSED(text, ...) refused(text, (const char *const[]){__VA_ARGS__, NULL})

static void defaults_are_those_of_the_manual(void) {
    struct config c;
    config_default(&c);
    CHECK_EQ(c.cards, 1);
    CHECK_EQ(c.max_sequences, 16);
    CHECK_EQ(c.kv_type, KV_F16);
    CHECK_EQ(c.split, SPLIT_AUTO);
    CHECK_EQ(c.weights, WEIGHTS_SHARED);
    CHECK_EQ(c.pin_threads, 1);
    CHECK_EQ(c.max_queue, 1024);
    CHECK_EQ(c.max_request_bytes, 8u << 20);
    CHECK_EQ(c.log_level, 6);
    CHECK(!config_drill(&c));
}

static void a_file_sets_keys(void) {
    struct config c;
    struct err err;
    config_default(&c);
    CHECK_EQ(
        parse(&c,
              "# a comment\n[engine]\nmodel = /m/a b.gguf\ncards = 3\n"
              "card_memory = 2G,1G,512M\nsplit = tensor\nkv_type=q8_0\n[service]\ndrill = yes\n",
              &err),
        0);
    CHECK(!strcmp(c.model, "/m/a b.gguf"));
    CHECK_EQ(c.cards, 3);
    CHECK_EQ(c.card_memory.n, 3);
    CHECK_EQ(c.card_memory.bytes[2], 512u << 20);
    CHECK_EQ(c.split, SPLIT_TENSOR);
    CHECK_EQ(c.kv_type, KV_Q8_0);
    CHECK(config_drill(&c));
    CHECK_EQ(config_check(&c, &err), 0);
}

static void an_error_names_file_line_key_and_value(void) {
    REFUSED("[engine]\n\ncards = 9\n", "file:3", "cards", "'9'", "1 to 8");
    REFUSED("[engine]\ncards = 99999999999999999999\n", "file:2", "cards");
    REFUSED("[engine]\ncards = 2x\n", "file:2", "'2x'");
    REFUSED("[engine]\ncolour = red\n", "file:2", "colour", "[engine]", "context");
    REFUSED("[motor]\ncards = 2\n", "file:2", "[motor]", "engine, service, queue, socket");
    REFUSED("cards = 2\n", "file:1", "cards");
    REFUSED("[engine]\nsplit = half\n", "file:2", "split", "'half'", "auto, layer, tensor, hybrid");
    REFUSED("[engine]\npin_threads = 1\n", "file:2", "'1' is none of no, yes");
    REFUSED("[engine]\nweights = secret\n", "file:2", "'secret' is none of shared, private");
    REFUSED("[engine]\nstorage = disk\n", "file:2", "'disk' is none of auto");
    REFUSED("[engine]\nbackend = cuda\n", "file:2", "'cuda'", "auto, cpu, level_zero");
    REFUSED("[engine]\ncard_memory = 1G,,2G\n", "file:2", "card_memory");
    REFUSED("[engine]\ncards = 2\ncards = 3\n", "file:3", "second time");
    REFUSED("[engine]\nwhat is this\n", "file:2");
}

static void where_memory_is_watched_is_a_file_or_one_of_two_words(void) {
    static const struct {
        const char *text;
        int rc;
    } cases[] = {{"auto", 0},   {"no", 0},        {"/proc/pressure/memory", 0},
                 {"", -EINVAL}, {"yes", -EINVAL}, {"pressure", -EINVAL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config c;
        struct err err = {{0}};
        char text[96];
        config_default(&c);
        snprintf(text, sizeof text, "[service]\nmemory_pressure = %s\n", cases[i].text);
        CHECK_EQ(parse(&c, text, &err), 0);
        CHECK_EQ(config_check(&c, &err), cases[i].rc);
        CHECK(cases[i].rc == 0 || strstr(err.text, "memory_pressure"));
    }
    REFUSED("[service]\nmemory_stall = 0\n", "file:2", "memory_stall", "1 to 100");
    REFUSED("[service]\nmemory_least = 16777217\n", "file:2", "memory_least");
    REFUSED("[service]\nmemory_quiet = 0\n", "file:2", "memory_quiet", "1 to 3600");
    REFUSED("[service]\nmemory_wait = 86401\n", "file:2", "memory_wait");
}

static void a_long_line_is_refused(void) {
    char text[400] = "[engine]\nmodel = ";
    memset(text + strlen(text), 'x', 300);
    REFUSED(text, "file:2", "190");
}

static int options(struct options *o, struct err *err, const char *const *words) {
    static char copies[16][64];
    char *argv[17] = {"octarcd"};
    int n = 1;
    for (; *words; words++, n++) {
        snprintf(copies[n - 1], sizeof copies[0], "%s", *words);
        argv[n] = copies[n - 1];
    }
    return options_parse(o, n, argv, err);
}
#define OPTIONS(o, err, ...) options(o, err, (const char *const[]){__VA_ARGS__, NULL})

static void the_command_line_wins_over_the_file(void) {
    char path[] = "/tmp/octarc-config-XXXXXX";
    const int fd = mkstemp(path);
    const char text[] = "[engine]\ncards = 5\ncontext = 100\n";
    CHECK(fd >= 0 && write(fd, text, sizeof text - 1) == sizeof text - 1);
    close(fd);
    struct options o;
    struct config c;
    struct err err;
    bool usage;
    CHECK_EQ(OPTIONS(&o, &err, "--config", path, "--cards=2", "--card-memory", "1G"), 0);
    CHECK_EQ(options_config(&o, &c, &usage, &err), 0);
    unlink(path);
    CHECK_EQ(c.cards, 2);
    CHECK_EQ(c.context, 100);
    CHECK(config_drill(&c)); /* --cards: simulated */
    CHECK(c.cards_given);
    CHECK_EQ(OPTIONS(&o, &err, "--config", "/dev/null", "--topology", "/x"), 0);
    CHECK_EQ(options_config(&o, &c, &usage, &err), 0);
    CHECK(config_drill(&c) && !c.cards_given && !strcmp(c.topology, "/x"));
}

static void overrides_add_up(void) {
    char path[] = "/tmp/octarc-config-XXXXXX";
    const int fd = mkstemp(path);
    const char text[] = "[engine]\nplace = blk.[0-4].* = card 0\nplace=output.weight = card 2\n";
    CHECK(fd >= 0 && write(fd, text, sizeof text - 1) == sizeof text - 1);
    close(fd);
    struct options o;
    struct config c, d;
    struct err err;
    bool usage;
    CHECK_EQ(OPTIONS(&o, &err, "--config", path, "--place", "blk.4.* = card 1"), 0);
    CHECK_EQ(options_config(&o, &c, &usage, &err), 0);
    CHECK_EQ(c.places.n, 3);
    CHECK(!strcmp(c.places.of[0].pattern, "blk.[0-4].*") && c.places.of[0].card == 0);
    CHECK(!strcmp(c.places.of[1].pattern, "output.weight") && c.places.of[1].card == 2);
    CHECK(!strcmp(c.places.of[2].pattern, "blk.4.*") && c.places.of[2].card == 1);
    CHECK_EQ(OPTIONS(&o, &err, "--config", path), 0);
    CHECK_EQ(options_config(&o, &d, &usage, &err), 0);
    unlink(path);
    size_t n_unlike = 0;
    for (size_t i = 0; i < config_n_keys(); i++)
        n_unlike += !config_key_equal(i, &c, &d);
    CHECK_EQ(n_unlike, 1);
    REFUSED("[engine]\nplace = blk.* = 0\n", "file:2", "place", "'blk.* = 0'", "PATTERN = card N");
}

static void reserved_and_unknown_options_are_refused_by_name(void) {
    struct options o;
    struct config c;
    struct err err;
    bool usage = false;
    CHECK_EQ(OPTIONS(&o, &err, "--config", "/dev/null", "--storage", "usm"), 0);
    CHECK(options_config(&o, &c, &usage, &err) < 0 && usage);
    CHECK(strstr(err.text, "--storage") && strstr(err.text, "backend = level_zero"));
    CHECK_EQ(
        OPTIONS(&o, &err, "--config", "/dev/null", "--storage", "svm", "--backend", "level_zero"),
        0);
    CHECK_EQ(options_config(&o, &c, &usage, &err), 0);
    CHECK_EQ(c.storage, STORAGE_SVM);
    CHECK_EQ(OPTIONS(&o, &err, "--config", "/dev/null", "--storage", "auto"), 0);
    CHECK_EQ(options_config(&o, &c, &usage, &err), 0);
    CHECK_EQ(OPTIONS(&o, &err, "--config", "/dev/null", "--weights", "private"), 0);
    CHECK_EQ(options_config(&o, &c, &usage, &err), 0);
    CHECK(!strcmp(config_weights_name(&c), "private"));
    CHECK_EQ(OPTIONS(&o, &err, "--probe", "--json"), 0);
    CHECK(o.probe && o.json);
    CHECK_EQ(OPTIONS(&o, &err, "--probe=x"), -EINVAL);
    CHECK_EQ(OPTIONS(&o, &err, "--probe", "--plan", "m"), -EINVAL);
    CHECK_EQ(OPTIONS(&o, &err, "--probe", "--svg"), -EINVAL);
    CHECK_EQ(OPTIONS(&o, &err, "--plan", "m", "--without", "3", "--without=5", "--svg"), 0);
    CHECK(!strcmp(o.plan, "m") && o.without == (1u << 3 | 1u << 5) && o.svg && !o.json);
    CHECK_EQ(OPTIONS(&o, &err, "--plan", "m", "--without", "8"), -EINVAL);
    CHECK(strstr(err.text, "'8'") && strstr(err.text, "0 to 7"));
    CHECK_EQ(OPTIONS(&o, &err, "--without", "1"), -EINVAL);
    CHECK(strstr(err.text, "--without belongs to --plan"));
    CHECK_EQ(OPTIONS(&o, &err, "--inspect", "m", "--json", "--context=64"), 0);
    CHECK(!strcmp(o.inspect, "m") && !o.plan && o.json && o.n == 1);
    CHECK_EQ(OPTIONS(&o, &err, "--inspect", "m", "--plan", "n"), -EINVAL);
    CHECK(strstr(err.text, "one of them"));
    CHECK_EQ(OPTIONS(&o, &err, "--inspect", "m", "--svg"), -EINVAL);
    CHECK_EQ(OPTIONS(&o, &err, "--colour", "red"), -EINVAL);
    CHECK(strstr(err.text, "--colour"));
    CHECK_EQ(OPTIONS(&o, &err, "--cards"), -EINVAL);
    CHECK(strstr(err.text, "needs a value"));
    CHECK_EQ(OPTIONS(&o, &err, "--config", "/dev/null", "--storage", "usm"), 0);
    CHECK(options_config(&o, &c, &usage, &err) < 0 && usage);
    CHECK(strstr(err.text, "--storage") && strstr(err.text, "usm"));
    CHECK_EQ(
        OPTIONS(&o, &err, "--config", "/dev/null", "--cards", "2", "--card-memory", "1G,1G,1G"), 0);
    CHECK(options_config(&o, &c, &usage, &err) < 0 && usage);
}

static void a_reload_takes_every_live_key_and_no_other(void) {
    struct config before, taken, after;
    config_default(&before);
    taken = before;
    memset(&after, 1, sizeof after);
    config_take_live(&taken, &after);
    for (size_t i = 0; i < config_n_keys(); i++) {
        CHECK_EQ(config_key_equal(i, &taken, &after), config_key(i).live);
        CHECK_EQ(config_key_equal(i, &taken, &before), !config_key(i).live);
    }
}

/* Every key, in its section, with its default, commented out, and [live] before those that are. */
static void the_shipped_file_lists_every_key_with_its_default(void) {
    FILE *file = fopen("systemd/octarc.conf", "re");
    if (!file)
        SKIP("systemd/octarc.conf is not here: run from the top of the tree");
    char line[256], section[64] = "";
    size_t found = 0;
    bool live = false;
    while (fgets(line, sizeof line, file)) {
        if (strstr(line, "[live]") && !strstr(line, "Keys marked"))
            live = true;
        char name[64], value[64] = "";
        if (sscanf(line, "[%63[^]]]", section) == 1)
            continue;
        if (sscanf(line, "#%63[a-z_] = %63[^\n]", name, value) < 1 || !strstr(line, " ="))
            continue;
        if (line[1] == ' ')
            continue;
        const struct config_key_view key = config_key(found);
        CHECK(found < config_n_keys());
        CHECK(!strcmp(key.section, section) && !strcmp(key.name, name));
        CHECK(!strcmp(key.value, value));
        if (live != key.live)
            printf("# %s: marked %d, is %d\n", name, live, key.live);
        CHECK_EQ(live, key.live);
        live = false;
        found++;
    }
    fclose(file);
    CHECK_EQ(found, config_n_keys());
}

CHECK_MAIN(T(defaults_are_those_of_the_manual), T(a_file_sets_keys), T(overrides_add_up),
           T(an_error_names_file_line_key_and_value),
           T(where_memory_is_watched_is_a_file_or_one_of_two_words), T(a_long_line_is_refused),
           T(the_command_line_wins_over_the_file),
           T(reserved_and_unknown_options_are_refused_by_name),
           T(a_reload_takes_every_live_key_and_no_other),
           T(the_shipped_file_lists_every_key_with_its_default))
