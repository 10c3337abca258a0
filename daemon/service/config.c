/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/config.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/service/card.h"
#include "daemon/service/config_value.h"
#include "octarc/error.h"

static const char *const backends[] = {"auto", "cpu", "level_zero", NULL};
static const char *const splits[] = {"auto", "layer", "tensor", "hybrid", NULL};
static const char *const storages[] = {"auto", "svm", "usm", NULL};
static const char *const weights[] = {"shared", "private", NULL};
static const char *const measures[] = {"changed", "always", "never", NULL};
static const char *const rebalances[] = {"running", "restart", NULL};
static const char *const kv_types[] = {"f16", "f32", "q8_0", NULL};
static const char *const isas[] = {"auto", "portable", "avx2", "avx512", NULL};
static const char *const no_yes[] = {"no", "yes", NULL};
static const char *const drills[] = {"auto", "no", "yes", NULL};
static const char *const levels[] = {"error", "warning", "notice", "info", "debug", NULL};

#define AT(field) offsetof(struct config, field), sizeof(((struct config *)0)->field)

/* Every key there is.  The command line's option is the key with '-' for '_'. */
static const struct config_key {
    const char *section, *name, *value;
    bool live, option;
    struct value_rule rule;
} keys[] = {
    {"engine", "model", "", false, true, {VALUE_TEXT, AT(model), 0, 0, 0, NULL, NULL}},
    {"engine", "context", "0", false, true, {VALUE_COUNT, AT(context), 0, 1u << 20, 0, NULL, NULL}},
    {"engine", "backend", "auto", false, true, {VALUE_NAME, AT(backend), 0, 0, 0, backends, NULL}},
    {"engine", "cards", "1", false, true, {VALUE_COUNT, AT(cards), 1, CARDS_MAX, 0, NULL, NULL}},
    {"engine",
     "card_memory",
     "",
     false,
     true,
     {VALUE_SIZES, AT(card_memory), 1u << 20, UINT64_C(1) << 46, 0, NULL, NULL}},
    {"engine",
     "host_spill",
     "",
     false,
     true,
     {VALUE_SHARE, AT(host_spill), 0, UINT64_C(1) << 46, 0, NULL, NULL}},
    {"engine", "split", "auto", false, true, {VALUE_NAME, AT(split), 0, 0, 0, splits, NULL}},
    {"engine", "place", "", false, true, {VALUE_PLACES, AT(places), 0, 0, 0, NULL, NULL}},
    {"engine", "storage", "auto", false, true, {VALUE_NAME, AT(storage), 0, 0, 0, storages, NULL}},
    {"engine", "weights", "shared", false, true, {VALUE_NAME, AT(weights), 0, 0, 0, weights, NULL}},
    {"engine",
     "rebalance",
     "running",
     true,
     false,
     {VALUE_NAME, AT(rebalance), 0, 0, 0, rebalances, NULL}},
    {"engine",
     "rebalance_stage",
     "1G",
     true,
     false,
     {VALUE_SHARE, AT(rebalance_stage), 0, UINT64_C(1) << 46, 0, NULL, NULL}},
    {"engine",
     "measure_links",
     "changed",
     false,
     false,
     {VALUE_NAME, AT(measure_links), 0, 0, 0, measures, NULL}},
    {"engine",
     "scrub",
     "86400",
     false,
     false,
     {VALUE_COUNT, AT(scrub_s), 0, SCRUB_MOST_S, 0, NULL, NULL}},
    {"engine", "kv_type", "f16", false, true, {VALUE_NAME, AT(kv_type), 0, 0, 0, kv_types, NULL}},
    {"engine", "threads", "0", false, true, {VALUE_COUNT, AT(threads), 0, 1024, 0, NULL, NULL}},
    {"engine",
     "pin_threads",
     "yes",
     false,
     false,
     {VALUE_NAME, AT(pin_threads), 0, 0, 0, no_yes, NULL}},
    {"engine",
     "max_sequences",
     "16",
     false,
     true,
     {VALUE_COUNT, AT(max_sequences), 1, 256, 0, NULL, NULL}},
    {"engine", "isa", "auto", false, true, {VALUE_NAME, AT(isa), 0, 0, 0, isas, NULL}},
    {"engine", "topology", "", false, true, {VALUE_TEXT, AT(topology), 0, 0, 0, NULL, NULL}},
    {"service", "listen", "", false, true, {VALUE_TEXT, AT(listen), 0, 0, 0, NULL, NULL}},
    {"service", "drill", "auto", true, false, {VALUE_NAME, AT(drill), 0, 0, 0, drills, NULL}},
    {"service",
     "drain_timeout",
     "10",
     true,
     false,
     {VALUE_COUNT, AT(drain_timeout_s), 0, 3600, 0, NULL, NULL}},
    {"service",
     "no_card_wait",
     "10",
     true,
     false,
     {VALUE_COUNT, AT(no_card_wait_s), 0, 3600, 0, NULL, NULL}},
    {"service",
     "engine_silence",
     "60",
     false,
     false,
     {VALUE_COUNT, AT(engine_silence_s), 0, 3600, 0, NULL, NULL}},
    {"service",
     "card_silence",
     "30",
     false,
     false,
     {VALUE_COUNT, AT(card_silence_s), 1, 3600, 0, NULL, NULL}},
    {"service",
     "probe_silence",
     "30",
     false,
     false,
     {VALUE_COUNT, AT(probe_silence_s), 1, 600, 0, NULL, NULL}},
    {"service",
     "card_quiet",
     "30",
     true,
     false,
     {VALUE_COUNT, AT(card_quiet_s), 0, 3600, 0, NULL, NULL}},
    {"service",
     "card_faults",
     "10",
     true,
     false,
     {VALUE_COUNT, AT(card_faults), 1, CARD_FAULTS_MOST, 0, NULL, NULL}},
    {"service",
     "memory_pressure",
     "auto",
     false,
     false,
     {VALUE_TEXT, AT(memory_pressure), 0, 0, 0, NULL, NULL}},
    {"service",
     "memory_stall",
     "10",
     false,
     false,
     {VALUE_COUNT, AT(memory_stall_percent), 1, 100, 0, NULL, NULL}},
    {"service",
     "memory_least",
     "256",
     true,
     false,
     {VALUE_COUNT, AT(memory_least_mib), 0, 1u << 24, 0, NULL, NULL}},
    {"service",
     "memory_quiet",
     "30",
     true,
     false,
     {VALUE_COUNT, AT(memory_quiet_s), 1, 3600, 0, NULL, NULL}},
    {"service",
     "memory_wait",
     "300",
     true,
     false,
     {VALUE_COUNT, AT(memory_wait_s), 0, 86400, 0, NULL, NULL}},
    {"service",
     "max_events",
     "1000",
     false,
     false,
     {VALUE_COUNT, AT(max_events), 16, 65536, 0, NULL, NULL}},
    {"service", "state_dir", "", false, false, {VALUE_TEXT, AT(state_dir), 0, 0, 0, NULL, NULL}},
    {"service",
     "warm_restart",
     "yes",
     false,
     false,
     {VALUE_NAME, AT(warm_restart), 0, 0, 0, no_yes, NULL}},
    {"service",
     "log_level",
     "info",
     true,
     false,
     {VALUE_NAME, AT(log_level), 0, 0, 3, levels, NULL}},
    {"service", "group", "octarc", false, false, {VALUE_TEXT, AT(group), 0, 0, 0, NULL, NULL}},
    {"queue",
     "max_queue",
     "1024",
     true,
     false,
     {VALUE_COUNT, AT(max_queue), 1, 65536, 0, NULL, NULL}},
    {"queue",
     "max_queue_per_user",
     "64",
     true,
     false,
     {VALUE_COUNT, AT(max_queue_per_user), 1, 65536, 0, NULL, NULL}},
    {"socket",
     "max_request_bytes",
     "8M",
     false,
     false,
     {VALUE_SIZE, AT(max_request_bytes), 4096, 1u << 30, 0, NULL, NULL}},
    {"socket",
     "max_connections",
     "1024",
     false,
     false,
     {VALUE_COUNT, AT(max_connections), 1, 65536, 0, NULL, NULL}},
    {"socket",
     "header_timeout",
     "10",
     false,
     false,
     {VALUE_COUNT, AT(header_timeout_s), 1, 3600, 0, NULL, NULL}},
    {"socket",
     "body_timeout",
     "30",
     false,
     false,
     {VALUE_COUNT, AT(body_timeout_s), 1, 3600, 0, NULL, NULL}},
    {"socket",
     "idle_timeout",
     "300",
     false,
     false,
     {VALUE_COUNT, AT(idle_timeout_s), 1, 86400, 0, NULL, NULL}},
    {"socket",
     "admin_group",
     "octarc-admin",
     false,
     false,
     {VALUE_TEXT, AT(admin_group), 0, 0, 0, NULL, NULL}},
};
#define N_KEYS (sizeof keys / sizeof *keys)

void config_default(struct config *config) {
    *config = (struct config){0};
    for (size_t i = 0; i < N_KEYS; i++)
        value_parse(&keys[i].rule, keys[i].value, config, NULL);
}

size_t config_n_keys(void) {
    return N_KEYS;
}

struct config_key_view config_key(size_t i) {
    return (struct config_key_view){keys[i].section, keys[i].name, keys[i].value, keys[i].live};
}

bool config_key_equal(size_t i, const struct config *a, const struct config *b) {
    return rule_equal(&keys[i].rule, a, b);
}

void config_take_live(struct config *to, const struct config *from) {
    for (size_t i = 0; i < N_KEYS; i++)
        if (keys[i].live)
            rule_copy(&keys[i].rule, to, from);
}

const char *config_weights_name(const struct config *config) {
    return weights[config->weights == WEIGHTS_PRIVATE]; /* what is held outlives an engine, too */
}

bool config_drill(const struct config *config) {
    return config->drill == DRILL_ON || (config->drill == DRILL_AUTO && config->simulated);
}

/* --- the file --- */

struct reading {
    struct config config;
    const char *name, *at, *end;
    int line; /* given to the library last */
    struct err err;
    int rc;
    bool seen[N_KEYS];
};

/* The names of the sections, or of a section's keys, for messages. */
static void list_names(const char *section, char *out, size_t size) {
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < N_KEYS && n < size; i++) {
        if (section && strcmp(section, keys[i].section))
            continue;
        if (!section && i > 0 && !strcmp(keys[i].section, keys[i - 1].section))
            continue;
        const int rc = snprintf(out + n, size - n, "%s%s", n ? ", " : "",
                                section ? keys[i].name : keys[i].section);
        n += rc > 0 ? (size_t)rc : 0;
    }
}

static int refuse_unknown(struct reading *r, const char *section, const char *name, int line) {
    char known[300];
    list_names(section, known, sizeof known);
    if (known[0])
        return err_set(&r->err, -EINVAL, "%s:%d: section [%s] has no key '%.64s'; it has %s",
                       r->name, line, section, name, known);
    list_names(NULL, known, sizeof known);
    return err_set(&r->err, -EINVAL, "%s:%d: key '%.64s' in unknown section [%.64s]; there are %s",
                   r->name, line, name, section, known);
}

static int take_key(void *user, const char *section, const char *name, const char *value) {
    struct reading *r = user;
    const int line = r->line;
    struct err why;
    size_t i = 0;
    if (r->rc < 0)
        return 1; /* the first error is the one to show */
    while (i < N_KEYS && (strcmp(keys[i].section, section) || strcmp(keys[i].name, name)))
        i++;
    if (i == N_KEYS) {
        r->rc = refuse_unknown(r, section, name, line);
        return 1;
    }
    if (r->seen[i] && keys[i].rule.kind != VALUE_PLACES) {
        r->rc = err_set(&r->err, -EINVAL, "%s:%d: key '%s' is here for the second time", r->name,
                        line, name);
        return 1;
    }
    r->seen[i] = true;
    const int rc = value_parse(&keys[i].rule, value, &r->config, &why);
    r->config.cards_given |= !strcmp(name, "cards");
    if (rc < 0)
        r->rc = err_set(&r->err, rc, "%s:%d: key '%s': %.300s", r->name, line, name, why.text);
    return 1;
}

/* A line for the library, which takes its keys before it asks for the next.  None is longer than
 * its buffer: check_lines(). */
static char *next_line(char *line, int size, void *user) {
    struct reading *r = user;
    int n = 0;
    if (r->at == r->end)
        return NULL;
    while (r->at < r->end && n < size - 1) {
        line[n++] = *r->at++;
        if (line[n - 1] == '\n')
            break;
    }
    line[n] = 0;
    r->line++;
    return line;
}

#define LINE_BYTES_MAX 190 /* the library reads 200 */

static int check_lines(const char *text, size_t n, const char *name, struct err *err) {
    int line = 1;
    size_t begin = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == 0)
            return err_set(err, -EINVAL, "%s:%d: a zero byte", name, line);
        if (i - begin > LINE_BYTES_MAX)
            return err_set(err, -EINVAL, "%s:%d: the line has more than %d bytes", name, line,
                           LINE_BYTES_MAX);
        if (text[i] == '\n') {
            line++;
            begin = i + 1;
        }
    }
    return 0;
}

int config_parse(struct config *config, const char *text, size_t n, const char *name,
                 struct err *err) {
    if (n > CONFIG_BYTES_MAX)
        return err_set(err, -E2BIG, "%s: more than %d bytes", name, CONFIG_BYTES_MAX);
    int rc = check_lines(text, n, name, err);
    if (rc < 0)
        return rc;
    struct reading *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, -ENOMEM, "no memory to read %s", name);
    r->config = *config;
    r->name = name;
    r->at = text;
    r->end = text + n;
    const int bad_line = ini_parse_stream(next_line, r, take_key, r);
    rc = r->rc;
    if (rc < 0)
        err_set(err, rc, "%s", r->err.text);
    else if (bad_line < 0)
        rc = err_set(err, -ENOMEM, "no memory to read %s", name);
    else if (bad_line > 0)
        rc = err_set(err, -EINVAL, "%s:%d: neither [section], nor key = value, nor # comment", name,
                     bad_line);
    else
        *config = r->config;
    free(r);
    return rc;
}

int config_read(struct config *config, const char *path, struct err *err) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set(err, -errno, "cannot read the configuration %s: %s", path, strerror(errno));
    char *text = malloc(CONFIG_BYTES_MAX + 1);
    if (!text) {
        close(fd);
        return err_set(err, -ENOMEM, "no memory to read %s", path);
    }
    size_t n = 0;
    ssize_t got;
    while ((got = read(fd, text + n, CONFIG_BYTES_MAX + 1 - n)) > 0)
        n += (size_t)got;
    int rc = got < 0 ? err_set(err, -errno, "cannot read the configuration %s: %s", path,
                               strerror(errno))
                     : config_parse(config, text, n, path, err);
    free(text);
    close(fd);
    return rc;
}

/* --- the command line --- */

static bool is_option(const char *key, const char *option) {
    for (; *key && *option; key++, option++)
        if (*key != *option && !(*key == '_' && *option == '-'))
            return false;
    return *key == *option;
}

int config_option(struct config *config, const char *option, const char *value, struct err *err) {
    struct err why;
    for (size_t i = 0; i < N_KEYS; i++) {
        if (!keys[i].option || strchr(option, '_') || !is_option(keys[i].name, option))
            continue;
        const int rc = value_parse(&keys[i].rule, value, config, &why);
        if (rc < 0)
            return err_set(err, rc, "--%s: %.400s", option, why.text);
        config->cards_given |= !strcmp(option, "cards");
        config->simulated |= !strcmp(option, "cards") || !strcmp(option, "topology");
        return 0;
    }
    return err_set(err, -ENOENT, "there is no option --%.64s", option);
}

int config_check(const struct config *config, struct err *err) {
    const bool counted = !config->topology[0] || config->cards_given;
    if (counted && config->card_memory.n > 1 && config->card_memory.n != config->cards)
        return err_set(err, -EINVAL,
                       "card_memory has %u sizes for %u cards; give one for all, or one a card",
                       config->card_memory.n, config->cards);
    if (config->storage != STORAGE_AUTO && config->backend != BACKEND_LEVEL_ZERO)
        return err_set(err, -EINVAL,
                       "storage (--storage) is %s, which real cards have alone: backend = "
                       "level_zero",
                       storages[config->storage]);
    if (config->memory_pressure[0] != '/' && strcmp(config->memory_pressure, "auto") != 0 &&
        strcmp(config->memory_pressure, "no") != 0)
        return err_set(err, -EINVAL,
                       "memory_pressure is '%.64s', which is none of auto, no, or a file from / on",
                       config->memory_pressure);
    return 0;
}
