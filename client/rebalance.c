/* SPDX-License-Identifier: Apache-2.0 */
/* drain, online, rebalance: which cards are used. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli.h"
#include "client/json.h"
#include "client/table.h"

#define CARDS_KNOWN 8

/* --- drain, online --- */

int cli_card(struct cli *cli, const char *word) {
    char *end;
    const long card = strtol(word, &end, 10);
    if (*end || end == word || card < 0 || card >= CARDS_KNOWN)
        return cli_fail(cli, CLI_USAGE, "CARD is a number from 0 to %d, not '%s'", CARDS_KNOWN - 1,
                        word);
    cJSON_AddNumberToObject(cli->fields, "card", (double)card);
    return CLI_OK;
}

/* drain and online differ in their names only. */
int verb_card(struct cli *cli) {
    const char *method = cli->command->name;
    int status = cli_card(cli, cli->words[0]);
    if (status)
        return status;
    if (cli->wait_card)
        cJSON_AddTrueToObject(cli->fields, "wait");
    if (cli->release)
        cJSON_AddTrueToObject(cli->fields, "release");
    if (cli->json)
        return cli_print(cli, method, cli->fields);
    cJSON *answer;
    status = cli_call(cli, method, cli->fields, &answer);
    if (status)
        return status;
    printf("card %.0f is %s%s\n", number(answer, "card"), string(answer, "state"),
           cJSON_IsFalse(member(answer, "changed")) ? " already" : "");
    cJSON_Delete(answer);
    return CLI_OK;
}

/* --- rebalance --- */

/* From each card, and behind them from the file, to each. */
struct traffic {
    unsigned n[CARDS_KNOWN + 1][CARDS_KNOWN];
    double bytes[CARDS_KNOWN + 1][CARDS_KNOWN];
};

static void count_traffic(struct traffic *t, const cJSON *moves) {
    const cJSON *move;
    cJSON_ArrayForEach(move, moves) {
        const cJSON *from = member(move, "from");
        const int a = cJSON_IsNumber(from) ? from->valueint : CARDS_KNOWN;
        const int b = (int)number(move, "to");
        if (a < 0 || a > CARDS_KNOWN || b < 0 || b >= CARDS_KNOWN)
            continue;
        t->n[a][b]++;
        t->bytes[a][b] += number(move, "bytes");
    }
}

static void from_text(int from, char *out, size_t size) {
    if (from == CARDS_KNOWN)
        snprintf(out, size, "file");
    else
        snprintf(out, size, "%d", from);
}

static void print_traffic(const struct cli *cli, const cJSON *moves) {
    static const char *const head[] = {"FROM", "TO", "RANGES", "BYTES"};
    struct traffic t = {0};
    struct table table;
    char from[16], to[16], n[16], bytes[16];
    count_traffic(&t, moves);
    table_init(&table, "llrr");
    table_row(&table, head);
    for (int a = 0; a <= CARDS_KNOWN; a++)
        for (int b = 0; b < CARDS_KNOWN; b++) {
            if (t.n[a][b] == 0)
                continue;
            from_text(a, from, sizeof from);
            snprintf(to, sizeof to, "%d", b);
            snprintf(n, sizeof n, "%u", t.n[a][b]);
            const char *cells[] = {from, to, n, size_text(t.bytes[a][b], bytes, sizeof bytes)};
            table_row(&table, cells);
        }
    table_print(&table, cli->no_legend);
}

/* [begin, end) as "begin-last". */
static char *span_text(const cJSON *span, char *out, size_t size) {
    const cJSON *begin = cJSON_GetArrayItem(span, 0), *end = cJSON_GetArrayItem(span, 1);
    if (cJSON_IsNumber(begin) && cJSON_IsNumber(end))
        snprintf(out, size, "%.0f-%.0f", begin->valuedouble, end->valuedouble - 1);
    else
        snprintf(out, size, "-");
    return out;
}

static void print_moves(const struct cli *cli, const cJSON *moves) {
    static const char *const head[] = {"TENSOR", "ROWS", "COLUMNS", "FROM", "TO", "BYTES"};
    struct table table;
    const cJSON *move;
    char rows[32], cols[32], from[16], to[16], bytes[16];
    table_init(&table, "lllllr");
    table_row(&table, head);
    cJSON_ArrayForEach(move, moves) {
        const cJSON *source = member(move, "from");
        from_text(cJSON_IsNumber(source) ? source->valueint : CARDS_KNOWN, from, sizeof from);
        snprintf(to, sizeof to, "%.0f", number(move, "to"));
        const char *cells[] = {string(move, "tensor"),
                               span_text(member(move, "rows"), rows, sizeof rows),
                               span_text(member(move, "cols"), cols, sizeof cols),
                               from,
                               to,
                               size_text(number(move, "bytes"), bytes, sizeof bytes)};
        table_row(&table, cells);
    }
    table_print(&table, cli->no_legend);
}

int verb_rebalance(struct cli *cli) {
    char sizes[4][16];
    if (cli->dry_run)
        cJSON_AddTrueToObject(cli->fields, "dry_run");
    if (cli->json)
        return cli_print(cli, "rebalance", cli->fields);
    cJSON *answer;
    const int status = cli_call(cli, "rebalance", cli->fields, &answer);
    if (status)
        return status;
    if (!cJSON_IsTrue(member(answer, "changes"))) {
        puts("nothing to do: all lies as the plan for these cards wants it");
    } else {
        (cli->verbose ? print_moves : print_traffic)(cli, member(answer, "moves"));
        printf("%s between cards, %s only in the file; %s stay.  %s %s from the file.\n",
               size_text(number(answer, "moved_bytes"), sizes[0], sizeof sizes[0]),
               size_text(number(answer, "file_bytes"), sizes[1], sizeof sizes[1]),
               size_text(number(answer, "kept_bytes"), sizes[2], sizeof sizes[2]),
               cli->dry_run ? "Changing over would read" : "Changing over; it reads",
               size_text(number(answer, "reload_bytes"), sizes[3], sizeof sizes[3]));
    }
    cJSON_Delete(answer);
    return CLI_OK;
}
