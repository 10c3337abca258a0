/* SPDX-License-Identifier: Apache-2.0 */
/* complete, chat, run: text from the model, shown as it comes. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli.h"
#include "client/lib/scan.h"
#include "client/table.h"

/* What one streamed answer leaves behind. */
struct answer {
    struct cli *cli;
    char *text; /* owned; all of it, terminated; NULL: nothing yet */
    size_t n, capacity;
    char finish[24];       /* why it ended */
    bool reasons;          /* its reasoning is being shown */
    double in, out, per_s; /* tokens read and made, and the speed; 0: not told */
};

static int keep_text(struct answer *answer, const char *text, size_t n) {
    if (answer->n + n + 1 > answer->capacity) {
        const size_t capacity = (answer->n + n + 1) * 2;
        char *more = realloc(answer->text, capacity);
        if (!more)
            return -1;
        answer->text = more;
        answer->capacity = capacity;
    }
    memcpy(answer->text + answer->n, text, n);
    answer->text[answer->n + n] = '\0';
    answer->n += n;
    return 0;
}

static double number_of(struct span object, const char *key) {
    const struct span value = scan_member(object, key);
    return value.at ? strtod(value.at, NULL) : 0; /* it ends at the comma or brace behind it */
}

static void note_counts(struct answer *answer, struct span chunk) {
    const struct span usage = scan_member(chunk, "usage");
    const struct span timings = scan_member(chunk, "timings");
    if (scan_is_object(usage)) {
        answer->in = number_of(usage, "prompt_tokens");
        answer->out = number_of(usage, "completion_tokens");
    }
    if (scan_is_object(timings))
        answer->per_s = number_of(timings, "predicted_per_second");
}

/* A text of a choice, decoded; NULL: it has none, or no memory.  free() it.  cJSON cannot be used:
 * it ends a string at the first NUL, which is a token like any other. */
static char *choice_member(struct span choice, const char *member, size_t *n) {
    struct span from = scan_member(choice, "delta");
    if (!from.at)
        from = scan_member(choice, "message");
    const struct span value = from.at ? scan_member(from, member) : scan_member(choice, "text");
    char *text = value.at && *value.at == '"' ? malloc(value.n) : NULL;
    if (text)
        *n = scan_string(value, text, value.n);
    return text;
}

static char *choice_text(struct span choice, size_t *n) {
    return choice_member(choice, "content", n);
}

/* Somebody who watches sees that it thinks; whoever reads the output gets the answer alone. */
static void show_reasoning(struct answer *answer, struct span choice) {
    size_t n = 0;
    const bool chat = scan_member(choice, "delta").at != NULL;
    if (!chat || !(answer->cli->verbose || isatty(STDERR_FILENO)))
        return;
    char *text = choice_member(choice, "reasoning_content", &n);
    const bool ends =
        !text && answer->reasons && scan_member(scan_member(choice, "delta"), "content").at;
    const bool dim = colour_wanted(stderr);
    if (text) {
        fputs(dim ? "\033[2m" : "", stderr);
        text_print(stderr, text, n);
        fputs(dim ? "\033[0m" : "", stderr);
        answer->reasons = true;
    } else if (ends) {
        fputs("\n\n", stderr);
        answer->reasons = false;
    }
    free(text);
}

static int on_chunk(void *user, const char *json) {
    struct answer *answer = user;
    const struct span chunk = scan_object(json, strlen(json));
    const struct span choice = scan_item(scan_member(chunk, "choices"), 0);
    const struct span finish = scan_member(choice, "finish_reason");
    int rc = 0;
    size_t n = 0;
    show_reasoning(answer, choice);
    char *text = choice_text(choice, &n);
    if (text) {
        text_print(stdout, text, n);
        rc = cli_flush(answer->cli) ? -1 : keep_text(answer, text, n);
    }
    if (finish.at && *finish.at == '"')
        scan_string(finish, answer->finish, sizeof answer->finish);
    note_counts(answer, chunk);
    free(text);
    return rc;
}

static void tell_counts(const struct cli *cli, const struct answer *answer) {
    if (cli->verbose)
        fprintf(stderr, "%.0f tokens in, %.0f out, %.1f a second, ended by %s\n", answer->in,
                answer->out, answer->per_s, *answer->finish ? answer->finish : "nothing");
}

/* Stream one answer to stdout and end the line.  *answer is kept for the caller. */
static int stream_answer(struct cli *cli, const char *method, struct answer *answer) {
    struct octarc_error err;
    if (cli->verbose && !cJSON_HasObjectItem(cli->fields, "stream_options"))
        cJSON_AddTrueToObject(cJSON_AddObjectToObject(cli->fields, "stream_options"),
                              "include_usage");
    char *params = cJSON_PrintUnformatted(cli->fields);
    if (!params)
        return cli_fail(cli, CLI_FAILED, "no memory");
    *answer = (struct answer){.cli = cli};
    cli_catch_interrupt(cli);
    const int rc = octarc_stream(cli->conn, method, params, on_chunk, answer, &err);
    free(params);
    if (rc == 0 || answer->n)
        putchar('\n');
    if (rc < 0)
        return cli_fail_call(cli, rc, &err);
    if (cli_flush(cli) == 0)
        tell_counts(cli, answer);
    return CLI_OK;
}

/* Several answers come whole, with a blank line between two. */
static int print_choices(struct cli *cli, const char *method) {
    char *json;
    const int status = cli_ask(cli, method, cli->fields, &json);
    if (status)
        return status;
    const struct span choices = scan_member(scan_object(json, strlen(json)), "choices");
    for (size_t i = 0; scan_item(choices, i).at; i++) {
        size_t n = 0;
        char *text = choice_text(scan_item(choices, i), &n);
        if (i)
            putchar('\n');
        text_print(stdout, text ? text : "", n);
        putchar('\n');
        free(text);
    }
    free(json);
    return CLI_OK;
}

static int show_answer(struct cli *cli, const char *method) {
    struct answer answer = {0};
    if (cli->json)
        return cli_print(cli, method, cli->fields);
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(cli->fields, "n");
    if (n && n->valuedouble > 1)
        return print_choices(cli, method);
    const int status = stream_answer(cli, method, &answer);
    free(answer.text);
    return status;
}

int verb_complete(struct cli *cli) {
    int status = CLI_OK;
    if (!cli->json && cJSON_HasObjectItem(cli->fields, "logprobs"))
        return cli_fail(cli, CLI_USAGE, "--logprobs needs --json: the text shows none");
    char *prompt = cli_text(cli, &status);
    if (!prompt)
        return status;
    cJSON_AddStringToObject(cli->fields, "prompt", prompt);
    free(prompt);
    return show_answer(cli, "complete");
}

static void add_message(cJSON *messages, const char *role, const char *content) {
    cJSON *message = cJSON_CreateObject();
    cJSON_AddStringToObject(message, "role", role);
    cJSON_AddStringToObject(message, "content", content);
    cJSON_AddItemToArray(messages, message);
}

static cJSON *begin_messages(struct cli *cli) {
    cJSON_DeleteItemFromObjectCaseSensitive(cli->fields, "messages");
    cJSON *messages = cJSON_AddArrayToObject(cli->fields, "messages");
    if (cli->system)
        add_message(messages, "system", cli->system);
    return messages;
}

/* One turn.  An answer that failed or was interrupted takes the question back with it. */
static int chat_turn(struct cli *cli, cJSON *messages, const char *line) {
    struct answer answer = {0};
    add_message(messages, "user", line);
    const int status = stream_answer(cli, "chat", &answer);
    if (status == CLI_OK)
        add_message(messages, "assistant", answer.text ? answer.text : "");
    else
        cJSON_DeleteItemFromArray(messages, cJSON_GetArraySize(messages) - 1);
    free(answer.text);
    return status;
}

/* After an interrupt or a lost connection the next turn needs a new one. */
static int connect_again(struct cli *cli) {
    octarc_close(cli->conn);
    cli->conn = NULL;
    cli_forget_interrupt();
    return cli_connect(cli);
}

/* Reads one line; 0: end of input or an interrupt at the prompt. */
static size_t read_line(struct cli *cli, char **line, size_t *capacity) {
    fputs(">>> ", stdout);
    fflush(stdout);
    cli_catch_interrupt(cli);
    const ssize_t n = getline(line, capacity, stdin);
    if (n <= 0)
        return 0;
    if ((*line)[n - 1] == '\n')
        (*line)[n - 1] = '\0';
    return (size_t)n;
}

static int chat_loop(struct cli *cli) {
    char *line = NULL;
    size_t capacity = 0;
    int status = CLI_OK;
    cJSON *messages = begin_messages(cli);
    fputs("/clear forgets, /bye or Ctrl-D ends, Ctrl-C stops an answer.\n", stderr);
    while (status == CLI_OK && read_line(cli, &line, &capacity)) {
        if (!strcmp(line, "/bye"))
            break;
        if (!strcmp(line, "/clear"))
            messages = begin_messages(cli);
        else if (*line && chat_turn(cli, messages, line) != CLI_OK)
            status = connect_again(cli);
    }
    if (cli_interrupted())
        status = CLI_INTERRUPTED;
    putchar('\n');
    free(line);
    return status;
}

int verb_chat(struct cli *cli) {
    int status = CLI_OK;
    if (cli->n_words == 0 && isatty(0) && isatty(1) && !cli->json)
        return chat_loop(cli);
    char *message = cli_text(cli, &status);
    if (!message)
        return status;
    add_message(begin_messages(cli), "user", message);
    free(message);
    return show_answer(cli, "chat");
}
