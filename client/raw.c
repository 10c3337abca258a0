/* SPDX-License-Identifier: Apache-2.0 */
/* call, drill, tokenize, version, help. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli.h"
#include "client/table.h"

static int print_chunk(void *user, const char *chunk) {
    return cli_puts(user, chunk);
}

int verb_call(struct cli *cli) {
    struct octarc_error err;
    char *answer = NULL;
    const char *params = cli->n_words > 1 ? cli->words[1] : NULL;
    cli_catch_interrupt(cli);
    const int rc = cli->stream
                       ? octarc_stream(cli->conn, cli->words[0], params, print_chunk, cli, &err)
                       : octarc_call(cli->conn, cli->words[0], params, &answer, &err);
    if (rc == -EINVAL)
        return cli_fail(cli, CLI_USAGE, "%s", err.message);
    if (rc < 0)
        return cli_fail_call(cli, rc, &err);
    if (answer)
        cli_puts(cli, answer);
    free(answer);
    return CLI_OK;
}

int verb_drill(struct cli *cli) {
    const bool corrupts = !strcmp(cli->words[0], "corrupt");
    const bool of_card = corrupts || !strcmp(cli->words[0], "lose") ||
                         !strcmp(cli->words[0], "hang") || !strcmp(cli->words[0], "return");
    cJSON_AddStringToObject(cli->fields, "fault", cli->words[0]);
    if (of_card && cli->n_words < 2)
        return cli_fail(cli, CLI_USAGE, "which card? octarc drill %s CARD", cli->words[0]);
    if (!of_card && cli->n_words > 1)
        return cli_fail(cli, CLI_USAGE, "%s takes no card", cli->words[0]);
    if (cli->silent && !corrupts)
        return cli_fail(cli, CLI_USAGE, "--silent is for corrupt");
    if (of_card && cli_card(cli, cli->words[1]))
        return CLI_USAGE;
    if (cli->silent)
        cJSON_AddTrueToObject(cli->fields, "silent");
    if (cli->json)
        return cli_print(cli, "drill", cli->fields);
    cJSON *answer;
    const int status = cli_call(cli, "drill", cli->fields, &answer);
    if (status == CLI_OK)
        cJSON_Delete(answer);
    return status;
}

/* A token's piece, quoted; one that is not UTF-8 comes as a list of bytes. */
static char *piece_text(const cJSON *piece, char *out, size_t size) {
    if (cJSON_IsString(piece)) {
        char *quoted = cJSON_PrintUnformatted(piece);
        snprintf(out, size, "%s", quoted ? quoted : "");
        free(quoted);
        return out;
    }
    size_t n = 0;
    out[0] = '\0';
    for (const cJSON *byte = piece ? piece->child : NULL; byte && n + 8 < size; byte = byte->next)
        n += (size_t)snprintf(out + n, size - n, "%s%02X", n ? " " : "", (unsigned)byte->valueint);
    return out;
}

static void print_tokens(const struct cli *cli, const cJSON *tokens) {
    const cJSON *token;
    cJSON_ArrayForEach(token, tokens) {
        char piece[TABLE_CELL_BYTES];
        if (cli->verbose)
            printf(
                "%8d  %s\n", cJSON_GetObjectItemCaseSensitive(token, "id")->valueint,
                piece_text(cJSON_GetObjectItemCaseSensitive(token, "piece"), piece, sizeof piece));
        else
            printf("%s%d", token->prev && token != tokens->child ? " " : "", token->valueint);
    }
    if (!cli->verbose)
        putchar('\n');
}

int verb_tokenize(struct cli *cli) {
    int status = CLI_OK;
    char *text = cli_text(cli, &status);
    if (!text)
        return status;
    cJSON_AddStringToObject(cli->fields, "content", text);
    free(text);
    if (cli->add_special)
        cJSON_AddTrueToObject(cli->fields, "add_special");
    if (cli->verbose)
        cJSON_AddTrueToObject(cli->fields, "with_pieces");
    if (cli->json)
        return cli_print(cli, "tokenize", cli->fields);
    cJSON *answer;
    status = cli_call(cli, "tokenize", cli->fields, &answer);
    if (status)
        return status;
    print_tokens(cli, cJSON_GetObjectItemCaseSensitive(answer, "tokens"));
    cJSON_Delete(answer);
    return CLI_OK;
}

/* The service's version; "" where none answers: that is no failure here, but a path that no socket
 * can have is. */
static int ask_version(struct cli *cli, char *out, size_t size) {
    struct octarc_error err;
    char *text = NULL;
    out[0] = '\0';
    const int rc = octarc_connect(&cli->conn, cli->socket, &err);
    if (rc == -ENAMETOOLONG)
        return cli_fail_connect(cli, rc, &err);
    if (rc < 0 || octarc_call(cli->conn, "version", NULL, &text, NULL) < 0)
        return CLI_OK;
    cJSON *answer = cJSON_Parse(text);
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(answer, "version");
    if (cJSON_IsString(version))
        snprintf(out, size, "%s", version->valuestring);
    cJSON_Delete(answer);
    free(text);
    return CLI_OK;
}

int verb_version(struct cli *cli) {
    char service[64];
    const int status = ask_version(cli, service, sizeof service);
    if (status)
        return status;
    if (!cli->json) {
        printf("octarc %s\noctarcd %s\n", OCTARC_VERSION, *service ? service : "not running");
        return CLI_OK;
    }
    cJSON *answer = cJSON_CreateObject();
    cJSON_AddStringToObject(answer, "client", OCTARC_VERSION);
    cJSON_AddItemToObject(answer, "service",
                          *service ? cJSON_CreateString(service) : cJSON_CreateNull());
    char *text = cJSON_PrintUnformatted(answer);
    cli_puts(cli, text ? text : "{}");
    free(text);
    cJSON_Delete(answer);
    return CLI_OK;
}

int verb_help(struct cli *cli) {
    const struct command *command = NULL;
    for (const struct command *c = commands; cli->n_words && c->name; c++)
        if (!strcmp(c->name, cli->words[0]))
            command = c;
    if (cli->n_words && !command)
        return cli_fail(cli, CLI_USAGE, "unknown verb '%s'", cli->words[0]);
    usage_print(command);
    return CLI_OK;
}
