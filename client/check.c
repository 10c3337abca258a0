/* SPDX-License-Identifier: Apache-2.0 */
/* check: are the weights in use what was loaded. */
#include <stdio.h>
#include <stdlib.h>

#include "client/cli.h"
#include "client/json.h"
#include "client/table.h"

static void print_cards(const struct cli *cli, const cJSON *cards) {
    static const char *const head[] = {"CARD", "RANGES", "BYTES", "SECONDS", "HARMED", "REPAIRED"};
    struct table table;
    const cJSON *card;
    char text[5][24], bytes[16];
    table_init(&table, "lrrrrr");
    table_row(&table, head);
    cJSON_ArrayForEach(card, cards) {
        snprintf(text[0], sizeof text[0], "%.0f", number(card, "card"));
        snprintf(text[1], sizeof text[1], "%.0f", number(card, "ranges"));
        snprintf(text[2], sizeof text[2], "%.3f", number(card, "seconds"));
        snprintf(text[3], sizeof text[3], "%.0f", number(card, "harmed"));
        snprintf(text[4], sizeof text[4], "%.0f", number(card, "repaired"));
        const char *cells[] = {
            text[0], text[1], size_text(number(card, "bytes"), bytes, sizeof bytes),
            text[2], text[3], text[4]};
        table_row(&table, cells);
    }
    table_print(&table, cli->no_legend);
}

/* What was harmed is a failure, though it was repaired: something was computed with it. */
int verb_check(struct cli *cli) {
    char *text;
    if (cli->n_words && cli_card(cli, cli->words[0]))
        return CLI_USAGE;
    const int status = cli_ask(cli, "check", cli->fields, &text);
    if (status)
        return status;
    cJSON *answer = cJSON_Parse(text);
    if (cli->json)
        cli_puts(cli, text);
    else
        print_cards(cli, member(answer, "cards"));
    const bool harmed = number(answer, "harmed") > 0;
    cJSON_Delete(answer);
    free(text);
    return harmed ? CLI_FAILED : CLI_OK;
}
