/* SPDX-License-Identifier: Apache-2.0 */
#include "client/bench/figures.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

struct range range_of(const double *values, size_t n) {
    double sorted[RUNS_MAX];
    if (n > RUNS_MAX)
        n = RUNS_MAX;
    memcpy(sorted, values, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare);
    return (struct range){sorted[0], (sorted[(n - 1) / 2] + sorted[n / 2]) / 2, sorted[n - 1]};
}

static struct figure *find(struct figures *figures, const char *group, const char *key,
                           uint32_t cards, const char *split, const char *unit) {
    for (size_t i = 0; i < figures->n; i++) {
        struct figure *f = &figures->all[i];
        if (!strcmp(f->group, group) && !strcmp(f->key, key) && f->cards == cards &&
            !strcmp(f->split, split))
            return f;
    }
    /* Beyond the room there is: a last one that nobody looks at. */
    struct figure *f = &figures->all[figures->n < FIGURES_MAX - 1 ? figures->n++ : FIGURES_MAX - 1];
    memset(f, 0, sizeof *f);
    snprintf(f->group, sizeof f->group, "%s", group);
    snprintf(f->key, sizeof f->key, "%s", key);
    snprintf(f->split, sizeof f->split, "%s", split);
    snprintf(f->unit, sizeof f->unit, "%s", unit);
    f->cards = cards;
    return f;
}

struct figure *figures_at(struct figures *figures, const char *group, const char *key,
                          const char *unit) {
    return find(figures, group, key ? key : "", 0, "", unit);
}

struct figure *figures_shard(struct figures *figures, const char *group, uint32_t cards,
                             const char *split, const char *unit) {
    return find(figures, group, "", cards, split, unit);
}

void figure_add(struct figure *f, enum side side, double value) {
    if (isfinite(value) && value > 0 && f->n[side] < RUNS_MAX)
        f->samples[side][f->n[side]++] = value;
}

bool figure_ratio(const struct figure *f, struct range *ratio) {
    double ratios[RUNS_MAX];
    const size_t n = f->n[OURS] < f->n[PEER] ? f->n[OURS] : f->n[PEER];
    for (size_t i = 0; i < n; i++)
        ratios[i] = f->samples[OURS][i] / f->samples[PEER][i];
    if (n)
        *ratio = range_of(ratios, n);
    return n > 0;
}

char *figure_name(const struct figure *f, char *out, size_t size) {
    /* The unit is a column of its own. */
    static const char *const units[] = {"_tokens_per_s", "_bytes_per_s", "_ops_per_s", "_bytes",
                                        "_ms"};
    int n = (int)strlen(f->group);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (n > (int)strlen(units[i]) && !strcmp(f->group + n - strlen(units[i]), units[i])) {
            n -= (int)strlen(units[i]);
            break;
        }
    const bool fraction = !strncmp(f->group, "fraction_of_", 12);
    if (f->cards)
        snprintf(out, size, "%.*s, %u card%s, %s", n, f->group, f->cards, f->cards == 1 ? "" : "s",
                 f->split);
    else if (fraction)
        snprintf(out, size, "of %s", f->group + 12);
    else
        snprintf(out, size, "%.*s%s%s", n, f->group, f->key[0] ? " " : "", f->key);
    for (char *at = out; *at; at++)
        *at = *at == '_' ? ' ' : *at;
    return out;
}

cJSON *range_json(const struct range *range) {
    cJSON *object = cJSON_CreateObject();
    cJSON_AddNumberToObject(object, "min", range->min);
    cJSON_AddNumberToObject(object, "median", range->median);
    cJSON_AddNumberToObject(object, "max", range->max);
    return object;
}

static cJSON *member_of(cJSON *object, const char *name, cJSON *(*make)(void)) {
    cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!item) {
        item = make();
        cJSON_AddItemToObject(object, name, item);
    }
    return item;
}

static cJSON *shard_of(cJSON *object, const struct figure *f) {
    cJSON *list = member_of(object, "sharding", cJSON_CreateArray), *item;
    cJSON_ArrayForEach(item, list) {
        const cJSON *cards = cJSON_GetObjectItemCaseSensitive(item, "cards");
        const cJSON *split = cJSON_GetObjectItemCaseSensitive(item, "split");
        if (cards && split && cards->valuedouble == f->cards &&
            !strcmp(split->valuestring, f->split))
            return item;
    }
    item = cJSON_CreateObject();
    cJSON_AddNumberToObject(item, "cards", f->cards);
    cJSON_AddStringToObject(item, "split", f->split);
    cJSON_AddItemToArray(list, item);
    return item;
}

static void place(cJSON *object, const struct figure *f, const struct range *range) {
    if (f->cards)
        object = shard_of(object, f);
    if (f->key[0])
        cJSON_AddItemToObject(member_of(object, f->group, cJSON_CreateObject), f->key,
                              range_json(range));
    else
        cJSON_AddItemToObject(object, f->group, range_json(range));
}

void figures_add_json(const struct figures *figures, enum side side, cJSON *object) {
    for (size_t i = 0; i < figures->n; i++) {
        const struct figure *f = &figures->all[i];
        if (!f->n[side])
            continue;
        const struct range range = range_of(f->samples[side], f->n[side]);
        place(object, f, &range);
    }
}

void figures_add_ratios(const struct figures *figures, cJSON *object) {
    for (size_t i = 0; i < figures->n; i++) {
        struct range ratio;
        if (figure_ratio(&figures->all[i], &ratio))
            place(object, &figures->all[i], &ratio);
    }
}
