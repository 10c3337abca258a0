/* SPDX-License-Identifier: Apache-2.0 */
/* status, ps: the state of the service, for people. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/cli.h"
#include "client/json.h"
#include "client/table.h"

#define POLL_NS   100000000l /* between two questions of status --wait */
#define BAR_CELLS 30

/* What the text adds to the state's name: 1: it begins with it and goes on ("loading: 5 %"), 0: it
 * is something else, -1: it is the name in words and nothing more ("no model"). */
static int compare_words(const char *state, const char *text) {
    for (; *state; state++, text++)
        if (*state != *text && !(*state == '_' && *text == ' '))
            return 0;
    return *text ? 1 : -1;
}

static void print_state(const cJSON *answer) {
    const char *state = string(answer, "state"), *text = string(answer, "status");
    const int told = compare_words(state, text);
    const bool ready = !strcmp(state, "ready"), colour = colour_wanted(stdout);
    printf("%s●%s octarcd %s: %s",
           !colour ? ""
           : ready ? "\033[32m"
                   : "\033[33m",
           colour ? "\033[0m" : "", string(answer, "version"), told > 0 ? "" : state);
    if (told >= 0)
        printf("%s%s", told ? "" : ", ", text);
    putchar('\n');
}

/* What the kernel does not tell is "not known". */
static const char *huge_text(const cJSON *object, char *out, size_t size) {
    return cJSON_IsNumber(member(object, "huge_bytes"))
               ? size_text(number(object, "huge_bytes"), out, size)
               : "not known how much";
}

static void print_status(const cJSON *answer) {
    const cJSON *requests = member(answer, "requests"), *tokens = member(answer, "tokens");
    const cJSON *load = member(answer, "load");
    char age[32], done[32], total[32], found[32];
    print_state(answer);
    printf("     Model: %s\n", string(answer, "model"));
    printf("     Cards: %.0f of %.0f online, backend %s, split %s\n",
           number(answer, "cards_online"), number(answer, "cards"), string(answer, "backend"),
           string(answer, "split"));
    if (cJSON_IsString(member(answer, "cards_why")))
        printf("   Missing: %s\n", string(answer, "cards_why"));
    if (cJSON_IsString(member(answer, "backend_why")))
        printf("No card is used: %s\n", string(answer, "backend_why"));
    if (cJSON_IsString(member(answer, "products_why")))
        printf("  Products: %s: %s\n", string(answer, "products"), string(answer, "products_why"));
    if (cJSON_IsString(member(answer, "kernels")))
        printf("   Kernels: %s%s%s\n", string(answer, "kernels"),
               cJSON_IsString(member(answer, "kernels_why")) ? ": " : "",
               cJSON_IsString(member(answer, "kernels_why")) ? string(answer, "kernels_why") : "");
    if (cJSON_IsString(member(answer, "storage")))
        printf("   Storage: %s%s%s\n", string(answer, "storage"),
               cJSON_IsString(member(answer, "storage_why")) ? ": " : "",
               cJSON_IsString(member(answer, "storage_why")) ? string(answer, "storage_why") : "");
    printf("   Weights: %s, %s, %s found in memory, %s on huge pages\n", string(answer, "weights"),
           size_text(number(answer, "weights_bytes"), total, sizeof total),
           size_text(number(answer, "reused_bytes"), found, sizeof found),
           huge_text(answer, done, sizeof done));
    if (number(answer, "host_bytes") > 0)
        printf("      Host: %s of these in host memory, of at most %s; each step fetches them\n",
               size_text(number(answer, "host_bytes"), done, sizeof done),
               size_text(number(answer, "host_spill"), total, sizeof total));
    printf("   Context: %.0f tokens, KV %s, at most %.0f sequences\n", number(answer, "context"),
           string(answer, "kv_type"), number(answer, "max_sequences"));
    if (number(load, "done_bytes") < number(load, "total_bytes"))
        printf("      Load: %s of %s\n", size_text(number(load, "done_bytes"), done, sizeof done),
               size_text(number(load, "total_bytes"), total, sizeof total));
    printf("  Requests: %.0f running, %.0f queued; %.0f finished, %.0f cancelled, %.0f failed, "
           "%.0f recovered\n",
           number(requests, "running"), number(requests, "queued"), number(requests, "finished"),
           number(requests, "cancelled"), number(requests, "failed"),
           number(requests, "recovered"));
    printf("    Tokens: %.0f in, %.0f out\n", number(tokens, "prompt"),
           number(tokens, "completion"));
    printf("        Up: %s, engine generation %.0f\n",
           age_text(number(answer, "uptime_s"), age, sizeof age), number(answer, "generation"));
    if (*string(answer, "last_event") && strcmp(string(answer, "last_event"), "-") != 0)
        printf("Last event: %s\n", string(answer, "last_event"));
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* How far the load is: a bar on a terminal, else a line at each tenth.  *told: tenths so far. */
static void show_load(const cJSON *answer, int *told) {
    const cJSON *load = member(answer, "load");
    const double done = number(load, "done_bytes"), total = number(load, "total_bytes");
    char left[32], right[32], bar[BAR_CELLS + 1] = {0};
    if (total <= 0 || done > total)
        return;
    const int tenth = (int)(10 * done / total), cells = (int)(BAR_CELLS * done / total);
    memset(bar, ' ', BAR_CELLS);
    memset(bar, '#', (size_t)cells);
    size_text(done, left, sizeof left);
    size_text(total, right, sizeof right);
    if (isatty(2))
        fprintf(stderr, "\rloading [%s] %s of %s   ", bar, left, right);
    else if (tenth != *told)
        fprintf(stderr, "loading: %s of %s\n", left, right);
    *told = tenth;
}

/* One question of status --wait.  A service that does not answer yet counts as one that loads.
 * *text is the caller's; NULL: none came. */
static int ask_once(struct cli *cli, char **text, struct octarc_error *err) {
    int rc = cli->conn ? 0 : octarc_connect(&cli->conn, cli->socket, err);
    if (rc == 0)
        rc = octarc_call(cli->conn, "status", NULL, text, err);
    if (rc < 0) {
        octarc_close(cli->conn);
        cli->conn = NULL;
    }
    return rc;
}

/* Ask until something is served or the time is over. */
static int wait_ready(struct cli *cli, double seconds, char **text, cJSON **answer) {
    const double end = now_s() + seconds;
    int told = -1;
    for (;;) {
        struct octarc_error err;
        char *said = NULL;
        const int rc = ask_once(cli, &said, &err);
        cJSON *now = rc == 0 ? cJSON_Parse(said) : NULL;
        const char *state = string(now, "state");
        const bool served = !strcmp(state, "ready") || !strcmp(state, "no_model");
        if (now && !served)
            show_load(now, &told);
        if (now && (served || now_s() > end)) {
            if (told >= 0 && isatty(2))
                fputc('\n', stderr);
            *text = said;
            *answer = now;
            return CLI_OK;
        }
        cJSON_Delete(now);
        free(said);
        if (rc == -ENAMETOOLONG || (rc < 0 && now_s() > end))
            return cli_fail_connect(cli, rc == -ECONNRESET ? -ECONNREFUSED : rc, &err);
        nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
    }
}

/* Text and tree of the answer are the caller's. */
static int ask_status(struct cli *cli, char **text, cJSON **answer) {
    if (cli->wait) {
        char *end;
        const double seconds = strtod(cli->wait, &end);
        if (*end || end == cli->wait || !(seconds >= 0 && seconds <= 86400))
            return cli_fail(cli, CLI_USAGE, "--wait must be seconds from 0 to 86400, not '%s'",
                            cli->wait);
        return wait_ready(cli, seconds, text, answer);
    }
    int status = cli_connect(cli);
    if (status == CLI_OK)
        status = cli_ask(cli, "status", NULL, text);
    if (status == CLI_OK)
        *answer = cJSON_Parse(*text);
    return status;
}

int verb_status(struct cli *cli) {
    cJSON *answer = NULL;
    char *text = NULL;
    int status = ask_status(cli, &text, &answer);
    if (status)
        return status;
    if (cli->json)
        cli_puts(cli, text);
    else
        print_status(answer);
    if (cli->wait && strcmp(string(answer, "state"), "ready") != 0)
        status = cli_fail(cli, CLI_FAILED, "no model is served: %s", string(answer, "state"));
    cJSON_Delete(answer);
    free(text);
    return status;
}

static void add_request(struct table *table, const cJSON *request) {
    char id[32], uid[16], n[16], in[16], out[16], replays[16], age[32];
    const cJSON *name = member(request, "id");
    snprintf(id, sizeof id, "%.0f", number(request, "id"));
    snprintf(uid, sizeof uid, "%.0f", number(request, "uid"));
    snprintf(n, sizeof n, "%.0f", number(request, "n"));
    snprintf(in, sizeof in, "%.0f", number(request, "prompt_tokens"));
    snprintf(out, sizeof out, "%.0f", number(request, "completion_tokens"));
    snprintf(replays, sizeof replays, "%.0f", number(request, "replays"));
    const char *cells[] = {cJSON_IsString(name) ? name->valuestring : id,
                           uid,
                           string(request, "kind"),
                           string(request, "state"),
                           n,
                           in,
                           out,
                           replays,
                           age_text(number(request, "age_s"), age, sizeof age)};
    table_row(table, cells);
}

void cli_print_requests(const struct cli *cli, const cJSON *answer) {
    static const char *const head[] = {"ID", "UID", "KIND",    "STATE", "N",
                                       "IN", "OUT", "REPLAYS", "AGE"};
    struct table table;
    const cJSON *request;
    table_init(&table, "lrllrrrrr");
    table_row(&table, head);
    cJSON_ArrayForEach(request, member(answer, "requests")) {
        add_request(&table, request);
    }
    table_print(&table, cli->no_legend);
}

int verb_ps(struct cli *cli) {
    if (cli->json)
        return cli_print(cli, "ps", NULL);
    cJSON *answer;
    const int status = cli_call(cli, "ps", NULL, &answer);
    if (status)
        return status;
    cli_print_requests(cli, answer);
    cJSON_Delete(answer);
    return CLI_OK;
}
