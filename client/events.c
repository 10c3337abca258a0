/* SPDX-License-Identifier: Apache-2.0 */
/* events, metrics: what happened, in words and in numbers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli.h"
#include "client/json.h"
#include "client/table.h"

static void print_event(const cJSON *event) {
    char when[64] = "-";
    const char *text = string(event, "text");
    if (number(event, "at_ms") > 0)
        time_text(number(event, "at_ms"), when, sizeof when);
    printf("%6.0f  %s  ", number(event, "number"), when);
    text_print(stdout, text, strlen(text));
    putchar('\n');
}

static int on_event(void *user, const char *chunk) {
    struct cli *cli = user;
    if (cli->json)
        return cli_puts(cli, chunk);
    cJSON *event = cJSON_Parse(chunk);
    if (event)
        print_event(event);
    cJSON_Delete(event);
    return cli_flush(cli);
}

static int follow_events(struct cli *cli) {
    struct octarc_error err;
    char *params = cJSON_PrintUnformatted(cli->fields);
    cli_catch_interrupt(cli);
    const int rc = octarc_stream(cli->conn, "events", params, on_event, cli, &err);
    free(params);
    return rc < 0 ? cli_fail_call(cli, rc, &err) : CLI_OK;
}

int verb_events(struct cli *cli) {
    if (cli->follow)
        return follow_events(cli);
    cJSON *answer;
    const cJSON *event;
    const int status = cli_call(cli, "events", cli->fields, &answer);
    if (status)
        return status;
    cJSON_ArrayForEach(event, member(answer, "events")) {
        char *text = cli->json ? cJSON_PrintUnformatted(event) : NULL;
        if (text)
            cli_puts(cli, text);
        else
            print_event(event);
        free(text);
    }
    cJSON_Delete(answer);
    return CLI_OK;
}

int verb_metrics(struct cli *cli) {
    if (cli->json)
        return cli_print(cli, "metrics", NULL);
    cJSON *answer;
    const int status = cli_call(cli, "metrics", NULL, &answer);
    if (status)
        return status;
    fputs(string(answer, "text"), stdout);
    cJSON_Delete(answer);
    return CLI_OK;
}
