/* SPDX-License-Identifier: Apache-2.0 */
/* top: how fast the service is and what its cards and requests do, again and again. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "client/cli.h"
#include "client/json.h"
#include "client/table.h"

#define INTERVAL_S     2
#define INTERVAL_MIN_S 0.1
#define INTERVAL_MAX_S 3600
#define COUNT_MAX      1000000
#define CARDS          8
#define LINKS_SHOWN    5

/* What the service had counted at a look. */
struct counts {
    double at_s, in, out;
    double carried[CARDS][CARDS];
    double fetched;
};

struct busy_link {
    int from, to;
    double bytes, bytes_per_s; /* in all; since the look before */
};

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A number from `least` to `most` that is the whole text. */
static int read_number(const struct cli *cli, const char *option, const char *text, double least,
                       double most, double *out) {
    char *end;
    if (!text)
        return CLI_OK;
    *out = strtod(text, &end);
    if (*end || end == text || !(*out >= least && *out <= most))
        return cli_fail(cli, CLI_USAGE, "--%s must be a number from %g to %g, not '%s'", option,
                        least, most, text);
    return CLI_OK;
}

/* Rates are those since the look before; the first has none. */
static void print_speed(const cJSON *status, struct counts *last) {
    const cJSON *requests = member(status, "requests"), *tokens = member(status, "tokens");
    const struct counts now = {
        .at_s = now_s(), .in = number(tokens, "prompt"), .out = number(tokens, "completion")};
    const double seconds = now.at_s - last->at_s;
    printf("octarcd %s: %s, %.0f of %.0f cards online, %s split, generation %.0f, %.0f "
           "rebalances\n",
           string(status, "version"), string(status, "state"), number(status, "cards_online"),
           number(status, "cards"), string(status, "split"), number(status, "generation"),
           number(status, "rebalances"));
    printf("requests: %.0f running, %.0f queued, %.0f failed, %.0f recovered; tokens: ",
           number(requests, "running"), number(requests, "queued"), number(requests, "failed"),
           number(requests, "recovered"));
    if (last->at_s > 0 && seconds > 0)
        printf("%.1f in/s, %.1f out/s\n\n", (now.in - last->in) / seconds,
               (now.out - last->out) / seconds);
    else
        printf("%.0f in, %.0f out\n\n", now.in, now.out);
    last->in = now.in;
    last->out = now.out;
}

/* Weights that stay in host memory, where any do. */
static void print_fetches(const cJSON *status, const cJSON *cards, struct counts *last) {
    const double seconds = last->at_s > 0 ? now_s() - last->at_s : 0;
    const cJSON *card;
    char host[16], rate[16];
    double fetched = 0, faults = 0;
    cJSON_ArrayForEach(card, member(cards, "cards")) {
        fetched += number(card, "fetched_bytes");
        faults += number(card, "fetch_faults");
    }
    const double more = seconds > 0 ? (fetched - last->fetched) / seconds : 0;
    last->fetched = fetched;
    if (number(status, "host_bytes") > 0)
        printf("host memory: %s of weights; %s/s fetched, %.0f faults\n\n",
               size_text(number(status, "host_bytes"), host, sizeof host),
               size_text(more > 0 ? more : 0, rate, sizeof rate), faults);
}

static int busier(const void *a, const void *b) {
    const struct busy_link *x = a, *y = b;
    if (x->bytes_per_s != y->bytes_per_s)
        return x->bytes_per_s < y->bytes_per_s ? 1 : -1;
    return x->bytes != y->bytes ? (x->bytes < y->bytes ? 1 : -1) : x->from - y->from;
}

/* Of links that have carried anything, busiest first.  Returns how many. */
static size_t find_busy(const cJSON *answer, struct counts *last,
                        struct busy_link busy[CARDS * CARDS]) {
    const cJSON *link;
    const double now = now_s(), seconds = last->at_s > 0 ? now - last->at_s : 0;
    size_t n = 0;
    cJSON_ArrayForEach(link, member(answer, "links")) {
        const int from = (int)number(link, "from"), to = (int)number(link, "to");
        const double bytes = number(link, "carried_bytes");
        if (from < 0 || from >= CARDS || to < 0 || to >= CARDS || n == CARDS * CARDS || bytes <= 0)
            continue;
        const double more = bytes - last->carried[from][to];
        busy[n++] = (struct busy_link){from, to, bytes, seconds > 0 ? more / seconds : 0};
        last->carried[from][to] = bytes;
    }
    last->at_s = now;
    qsort(busy, n, sizeof *busy, busier);
    return n;
}

static void print_links(const struct cli *cli, const cJSON *answer, struct counts *last) {
    static const char *const head[] = {"FROM", "TO", "CARRIED", "A SECOND"};
    struct busy_link busy[CARDS * CARDS];
    struct table table;
    const size_t n = find_busy(answer, last, busy);
    if (n == 0)
        return;
    putchar('\n');
    table_init(&table, "rrrr");
    table_row(&table, head);
    for (size_t i = 0; i < n && i < LINKS_SHOWN; i++) {
        char from[16], to[16], all[16], rate[16];
        snprintf(from, sizeof from, "%d", busy[i].from);
        snprintf(to, sizeof to, "%d", busy[i].to);
        const char *cells[] = {from, to, size_text(busy[i].bytes, all, sizeof all),
                               size_text(busy[i].bytes_per_s, rate, sizeof rate)};
        table_row(&table, cells);
    }
    table_print(&table, cli->no_legend);
}

/* One screen, or with --json one line. */
static int look(struct cli *cli, struct counts *last) {
    static const char *const methods[] = {"status", "cards", "ps"};
    cJSON *answers[3] = {NULL};
    int status = CLI_OK;
    for (int i = 0; i < 3 && !status; i++)
        status = cli_call(cli, methods[i], NULL, &answers[i]);
    if (!status && cli->json) {
        cJSON *all = cJSON_CreateObject();
        for (int i = 0; i < 3; i++) {
            cJSON_AddItemToObject(all, methods[i], answers[i]);
            answers[i] = NULL;
        }
        char *text = cJSON_PrintUnformatted(all);
        status = text && cli_puts(cli, text) == 0 ? CLI_OK : CLI_FAILED;
        free(text);
        cJSON_Delete(all);
    } else if (!status) {
        if (isatty(1))
            fputs("\033[H\033[J", stdout);
        print_speed(answers[0], last);
        print_fetches(answers[0], answers[1], last);
        cli_print_cards(cli, answers[1]);
        print_links(cli, answers[1], last);
        putchar('\n');
        cli_print_requests(cli, answers[2]);
        status = cli_flush(cli) == 0 ? CLI_OK : CLI_FAILED;
    }
    for (int i = 0; i < 3; i++)
        cJSON_Delete(answers[i]);
    return status;
}

int verb_top(struct cli *cli) {
    double interval = INTERVAL_S, count = 0;
    struct counts last = {0};
    int status =
        read_number(cli, "interval", cli->interval, INTERVAL_MIN_S, INTERVAL_MAX_S, &interval);
    if (!status)
        status = read_number(cli, "count", cli->count, 1, COUNT_MAX, &count);
    for (double n = 1; !status; n++) {
        status = look(cli, &last);
        if (status || (cli->count && n >= count))
            return status;
        const double whole = (double)(long)interval;
        nanosleep(&(struct timespec){(time_t)whole, (long)((interval - whole) * 1e9)}, NULL);
        if (!cli->json && !isatty(1))
            putchar('\n');
    }
    return status;
}
