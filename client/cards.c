/* SPDX-License-Identifier: Apache-2.0 */
/* cards: what each card is and holds, and the links between them. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/cli.h"
#include "client/json.h"
#include "client/table.h"

#define CARDS 32 /* that fit a set; a service has at most 8 */

/* [begin, end) as "begin-last"; "-" where it is empty. */
static char *range_text(const cJSON *range, char *out, size_t size) {
    const cJSON *begin = cJSON_GetArrayItem(range, 0), *end = cJSON_GetArrayItem(range, 1);
    if (!begin || !end || begin->valueint >= end->valueint)
        snprintf(out, size, "-");
    else if (begin->valueint + 1 == end->valueint)
        snprintf(out, size, "%d", begin->valueint);
    else
        snprintf(out, size, "%d-%d", begin->valueint, end->valueint - 1);
    return out;
}

/* How long it has been so; "-": as long as the service runs. */
static char *since_text(const cJSON *card, char *out, size_t size) {
    struct timespec t;
    const double since_ms = number(card, "since_ms");
    if (since_ms <= 0)
        return strcpy(out, "-");
    clock_gettime(CLOCK_REALTIME, &t);
    const double age_s = (double)t.tv_sec + (double)t.tv_nsec / 1e9 - since_ms / 1000;
    return age_text(age_s > 0 ? age_s : 0, out, size);
}

static double count_faults(const cJSON *card) {
    const cJSON *kind;
    double n = 0;
    cJSON_ArrayForEach(kind, member(card, "faults")) {
        n += kind->valuedouble;
    }
    return n;
}

/* How much of what was prefetched lies on its card. */
static const char *home_text(const cJSON *card, char *out, size_t size) {
    const double prefetched = number(card, "prefetched_bytes");
    if (prefetched <= 0)
        return "-";
    if (!cJSON_IsNumber(member(card, "resident_bytes")))
        return "unverified";
    /* Only all of it is 100 %. */
    snprintf(out, size, "%d %%", (int)(100 * number(card, "resident_bytes") / prefetched));
    return out;
}

static void add_card(struct table *table, const cJSON *card) {
    const cJSON *actual = member(card, "actual");
    char id[16], since[32], faults[16], layers[32], lanes[32], sizes[6][16], home[16];
    snprintf(id, sizeof id, "%.0f", number(card, "card"));
    snprintf(faults, sizeof faults, "%.0f", count_faults(card));
    const char *cells[] = {
        id,
        string(card, "state"),
        since_text(card, since, sizeof since),
        faults,
        range_text(member(card, "layers"), layers, sizeof layers),
        range_text(member(card, "lanes"), lanes, sizeof lanes),
        size_text(number(card, "capacity_bytes"), sizes[0], sizeof sizes[0]),
        size_text(number(actual, "weights_bytes"), sizes[1], sizeof sizes[1]),
        size_text(number(actual, "kv_bytes"), sizes[2], sizeof sizes[2]),
        size_text(number(actual, "scratch_bytes"), sizes[3], sizeof sizes[3]),
        size_text(number(card, "free_bytes"), sizes[4], sizeof sizes[4]),
        home_text(card, home, sizeof home),
        string(card, "name"),
        cJSON_IsNumber(member(card, "huge_bytes"))
            ? size_text(number(card, "huge_bytes"), sizes[5], sizeof sizes[5])
            : "-",
        string(card, "reason"),
    };
    table_row(table, cells);
}

static void print_history(const cJSON *card) {
    const cJSON *change;
    char when[64];
    cJSON_ArrayForEach(change, member(card, "history")) {
        printf("card %.0f (%s)  %s  %s to %s: ", number(card, "card"), string(card, "identity"),
               time_text(number(change, "at_ms"), when, sizeof when), string(change, "from"),
               string(change, "to"));
        text_print(stdout, string(change, "why"), strlen(string(change, "why")));
        putchar('\n');
    }
}

/* --- links --- */

/* Links that are alike: from each card of one set to each of the other, but not to itself. */
struct bundle {
    uint32_t from, to; /* bit per card */
    const cJSON *like; /* one of them */
};

static bool alike(const cJSON *a, const cJSON *b) {
    static const char *const keys[] = {"mode", "bytes_per_s", "latency_ns", "reason"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!cJSON_Compare(member(a, keys[i]), member(b, keys[i]), true))
            return false;
    return true;
}

/* Where each card's links like this one lead. */
static void find_reach(const cJSON *links, const cJSON *like, uint32_t reach[CARDS]) {
    const cJSON *link;
    memset(reach, 0, CARDS * sizeof *reach);
    cJSON_ArrayForEach(link, links) {
        const double from = number(link, "from"), to = number(link, "to");
        if (from >= 0 && from < CARDS && to >= 0 && to < CARDS && alike(link, like))
            reach[(int)from] |= 1u << (int)to;
    }
}

/* The cards whose links lead where those of `first` do; `mutual`: cards that all reach each other
 * count as one set, to which each of them belongs. */
static struct bundle gather(const uint32_t reach[CARDS], int first, bool mutual) {
    const uint32_t to = reach[first] | (mutual ? 1u << first : 0);
    struct bundle b = {.to = to};
    for (int i = first; i < CARDS; i++)
        if (reach[i] && (reach[i] | (mutual ? 1u << i : 0)) == to)
            b.from |= 1u << i;
    return b;
}

/* The bundles of the links that are like this one.  Returns how many. */
static size_t bundle_links(const cJSON *links, const cJSON *like, struct bundle bundles[CARDS]) {
    uint32_t reach[CARDS];
    size_t n = 0;
    find_reach(links, like, reach);
    for (int i = 0; i < CARDS; i++) {
        if (!reach[i])
            continue;
        const struct bundle one = gather(reach, i, false), all = gather(reach, i, true);
        bundles[n] = __builtin_popcount(all.from) > __builtin_popcount(one.from) ? all : one;
        bundles[n].like = like;
        for (int k = 0; k < CARDS; k++)
            if (bundles[n].from >> k & 1)
                reach[k] = 0;
        n++;
    }
    return n;
}

/* "0-3,6" */
static char *set_text(uint32_t set, char *out, size_t size) {
    size_t n = 0;
    out[0] = '\0';
    for (int i = 0; i < CARDS && n < size; i++) {
        if (!(set >> i & 1))
            continue;
        int last = i;
        while (last + 1 < CARDS && set >> (last + 1) & 1)
            last++;
        n += (size_t)snprintf(out + n, size - n, last > i ? "%s%d-%d" : "%s%d", n ? "," : "", i,
                              last);
        i = last;
    }
    return out;
}

static void add_bundle(struct table *table, const struct bundle *b) {
    char from[64], to[64], rate[24] = "unknown", latency[24] = "unknown";
    const double bytes_per_s = number(b->like, "bytes_per_s"), ns = number(b->like, "latency_ns");
    if (bytes_per_s > 0)
        snprintf(rate, sizeof rate, "%.3g GB/s", bytes_per_s / 1e9);
    if (ns > 0)
        snprintf(latency, sizeof latency, "%.3g µs", ns / 1e3);
    const char *cells[] = {set_text(b->from, from, sizeof from),
                           set_text(b->to, to, sizeof to),
                           string(b->like, "mode"),
                           rate,
                           latency,
                           string(b->like, "reason")};
    table_row(table, cells);
}

static bool is_first_of_its_like(const cJSON *links, const cJSON *link) {
    const cJSON *earlier;
    cJSON_ArrayForEach(earlier, links) {
        if (earlier == link || alike(earlier, link))
            return earlier == link;
    }
    return true;
}

/* All in one go, but for those that were judged anew since. */
static void print_measured(const cJSON *links) {
    const time_t at = (time_t)(number(links->child, "measured_ms") / 1000);
    char text[32] = "?";
    struct tm local;
    if (localtime_r(&at, &local))
        strftime(text, sizeof text, "%Y-%m-%d %H:%M", &local);
    printf("The links were measured on %s.\n", text);
}

static void print_links(const cJSON *answer) {
    static const char *const head[] = {"FROM", "TO", "LINK", "BANDWIDTH", "LATENCY", "WHY"};
    const cJSON *links = member(answer, "links"), *link, *topology = member(answer, "topology");
    struct bundle bundles[CARDS];
    struct table table;
    if (!links || !links->child)
        return;
    putchar('\n');
    table_init(&table, "lllrrl");
    table_row(&table, head);
    cJSON_ArrayForEach(link, links) {
        const size_t n = is_first_of_its_like(links, link) ? bundle_links(links, link, bundles) : 0;
        for (size_t i = 0; i < n; i++)
            add_bundle(&table, &bundles[i]);
    }
    table_print(&table, false);
    const char *file = string(topology, "file");
    if (strcmp(file, "-") != 0) {
        fputs("The cards are simulated; the figures of the links are those of ", stdout);
        text_print(stdout, file, strlen(file));
        puts(", and not measured.");
    } else if (cJSON_IsTrue(member(topology, "measured"))) {
        print_measured(links);
    }
}

void cli_print_cards(const struct cli *cli, const cJSON *answer) {
    static const char *const head[] = {"CARD",  "STATE",   "SINCE",   "FAULTS", "LAYERS",
                                       "LANES", "MEMORY",  "WEIGHTS", "KV",     "SCRATCH",
                                       "FREE",  "AT HOME", "NAME",    "HUGE",   "REASON"};
    struct table table;
    const cJSON *card;
    table_init(&table, cli->verbose ? "rlrrllrrrrrrlrl" : "rlrrllrrrrrrl");
    table_row(&table, head);
    cJSON_ArrayForEach(card, member(answer, "cards")) {
        add_card(&table, card);
    }
    table_print(&table, cli->no_legend);
}

int verb_cards(struct cli *cli) {
    if (cli->json)
        return cli_print(cli, "cards", NULL);
    cJSON *answer;
    const int status = cli_call(cli, "cards", NULL, &answer);
    if (status)
        return status;
    const cJSON *card;
    cli_print_cards(cli, answer);
    if (!cli->no_legend)
        print_links(answer);
    cJSON_ArrayForEach(card, member(answer, "cards")) {
        if (cli->verbose)
            print_history(card);
    }
    cJSON_Delete(answer);
    return CLI_OK;
}
