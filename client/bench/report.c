/* SPDX-License-Identifier: Apache-2.0 */
/* report.c - what a benchmark says at its end: a table for people, an object for programs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/bench/bench.h"
#include "client/table.h"

static void cpu_model(char *out, size_t size) {
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "re");
    snprintf(out, size, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        snprintf(out, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (f)
        fclose(f);
}

static void today(char *out, size_t size) {
    const time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* --- the table --- */

/* In the unit that people read. */
static void cell(const char *unit, double value, char *out, size_t size) {
    if (!strcmp(unit, "bytes"))
        value /= 1 << 20;
    else if (!strcmp(unit, "bytes/s") || !strcmp(unit, "1/s"))
        value /= 1e9;
    else if (!*unit)
        value *= 100;
    snprintf(out, size, "%.*f", value >= 100 ? 0 : value >= 10 ? 1 : 2, value);
}

static const char *unit_name(const char *unit) {
    return !strcmp(unit, "bytes")     ? "MiB"
           : !strcmp(unit, "bytes/s") ? "GB/s"
           : !strcmp(unit, "1/s")     ? "GOPS"
           : !*unit                   ? "%"
                                      : unit;
}

static void add_row(struct table *table, const struct figure *f) {
    char name[64], ours[3][32], theirs[32] = "", ratios[3][32] = {"", "", ""};
    struct range range = range_of(f->samples[OURS], f->n[OURS]), ratio;
    const double values[] = {range.min, range.median, range.max};
    for (int i = 0; i < 3; i++)
        cell(f->unit, values[i], ours[i], sizeof ours[i]);
    if (figure_ratio(f, &ratio)) {
        const double parts[] = {ratio.min, ratio.median, ratio.max};
        range = range_of(f->samples[PEER], f->n[PEER]);
        cell(f->unit, range.median, theirs, sizeof theirs);
        for (int i = 0; i < 3; i++)
            snprintf(ratios[i], sizeof ratios[i], "%.2f", parts[i]);
    }
    table_row(table, (const char *[]){figure_name(f, name, sizeof name), ours[0], ours[1], ours[2],
                                      unit_name(f->unit), theirs, ratios[0], ratios[1], ratios[2]});
}

/* Those of one group of the sharding; NULL: all others. */
static void add_rows(struct table *table, const struct figures *figures, const char *sharding) {
    for (size_t i = 0; i < figures->n; i++) {
        const struct figure *f = &figures->all[i];
        if (f->n[OURS] && (sharding ? f->cards && !strcmp(f->group, sharding) : !f->cards))
            add_row(table, f);
    }
}

static void print_weights(const char *name, const struct limits *limits) {
    char whole[16], huge[16];
    printf("%s weights: %s of %s on huge pages\n", name,
           limits->huge_bytes < 0 ? "not known how much"
                                  : size_text(limits->huge_bytes, huge, sizeof huge),
           size_text(limits->weights_bytes, whole, sizeof whole));
}

/* What computes: the processor's threads, or cards. */
static void print_machine(const struct bench *b) {
    char cpu[128], date[32], threads[32];
    cpu_model(cpu, sizeof cpu);
    today(date, sizeof date);
    snprintf(threads, sizeof threads, "%u threads", b->limits.threads);
    printf("octarc %s, %s\n%s, %s, %s, %s, %u round%s%s\n", OCTARC_VERSION, base_name(b->model),
           cpu, b->on_cards ? b->options.backend : threads, b->limits.isa, date, b->runs,
           b->runs == 1 ? "" : "s", b->quick ? ", quick: too short to rely on" : "");
    if (b->on_cards) {
        char size[16];
        printf("weights on the cards: %s\n", size_text(b->limits.weights_bytes, size, sizeof size));
    } else {
        print_weights("shared", &b->limits);
        print_weights("private", &b->own_limits);
    }
    putchar('\n');
}

static int print_table(const struct bench *b) {
    struct table table;
    print_machine(b);
    table_init(&table, b->against ? "lrrrlrrrr" : "lrrrl");
    table_row(&table, (const char *[]){"FIGURE", "MIN", "MEDIAN", "MAX", "UNIT", "PEER",
                                       "RATIO MIN", "MEDIAN", "MAX"});
    add_rows(&table, &b->figures, NULL);
    add_rows(&table, &b->figures, "decode_tokens_per_s");
    add_rows(&table, &b->figures, "prefill_tokens_per_s");
    table_print(&table, b->cli->no_legend);
    if (b->no_sharding[0])
        printf("\nno sharding: %s\n", b->no_sharding);
    if (b->against)
        printf("\nThe peer is llama.cpp; ratios are ours / peer's, round by round.\n");
    if (b->peer.no_bench[0])
        printf("no llama-bench: %s\n", b->peer.no_bench);
    if (b->peer.no_server[0])
        printf("no llama-server: %s\n", b->peer.no_server);
    return CLI_OK;
}

/* --- the object --- */

static cJSON *against_json(const struct bench *b) {
    cJSON *against = cJSON_CreateObject();
    cJSON *skipped = cJSON_AddObjectToObject(against, "skipped");
    if (b->peer.no_bench[0])
        cJSON_AddStringToObject(skipped, "llama-bench", b->peer.no_bench);
    if (b->peer.no_server[0])
        cJSON_AddStringToObject(skipped, "llama-server", b->peer.no_server);
    figures_add_json(&b->figures, PEER, cJSON_AddObjectToObject(against, "figures"));
    figures_add_ratios(&b->figures, cJSON_AddObjectToObject(against, "ratio"));
    return against;
}

static void add_weights(cJSON *all, const char *name, const struct limits *limits) {
    cJSON *weights = cJSON_AddObjectToObject(all, name);
    cJSON_AddNumberToObject(weights, "bytes", limits->weights_bytes);
    if (limits->huge_bytes < 0)
        cJSON_AddNullToObject(weights, "huge_bytes");
    else
        cJSON_AddNumberToObject(weights, "huge_bytes", limits->huge_bytes);
}

static int print_json(const struct bench *b) {
    char cpu[128], date[32];
    cJSON *all = cJSON_CreateObject();
    cpu_model(cpu, sizeof cpu);
    today(date, sizeof date);
    cJSON_AddStringToObject(all, "version", OCTARC_VERSION);
    cJSON_AddStringToObject(all, "model", base_name(b->model));
    cJSON *machine = cJSON_AddObjectToObject(all, "machine");
    cJSON_AddStringToObject(machine, "cpu", cpu);
    if (b->options.backend)
        cJSON_AddStringToObject(machine, "backend", b->options.backend);
    cJSON_AddNumberToObject(machine, "threads", b->limits.threads);
    cJSON_AddStringToObject(machine, "isa", b->limits.isa);
    cJSON_AddStringToObject(machine, "date", date);
    cJSON_AddNumberToObject(all, "runs", b->runs);
    cJSON_AddBoolToObject(all, "quick", b->quick);
    cJSON_AddNumberToObject(all, "token_bytes", b->limits.token_bytes);
    cJSON_AddNumberToObject(all, "layer_params", b->limits.layer_params);
    add_weights(all, "shared_weights", &b->limits);
    if (!b->on_cards)
        add_weights(all, "private_weights", &b->own_limits);
    figures_add_json(&b->figures, OURS, all);
    if (b->no_sharding[0])
        cJSON_AddStringToObject(all, "no_sharding", b->no_sharding);
    if (b->against)
        cJSON_AddItemToObject(all, "against", against_json(b));
    char *text = cJSON_PrintUnformatted(all);
    cJSON_Delete(all);
    if (!text)
        return cli_fail(b->cli, CLI_FAILED, "no memory");
    puts(text);
    free(text);
    return CLI_OK;
}

int report_print(const struct bench *b) {
    return b->cli->json ? print_json(b) : print_table(b);
}
