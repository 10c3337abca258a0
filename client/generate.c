/* SPDX-License-Identifier: Apache-2.0 */
/* complete, chat, run: text from the model, shown as it comes. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli.h"
#include "client/table.h"

/* What one streamed answer leaves behind. */
struct answer {
    char *text; /* owned; all of it, terminated; NULL: nothing yet */
    size_t n, capacity;
    char finish[24];       /* why it ended */
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
    memcpy(answer->text + answer->n, text, n + 1);
    answer->n += n;
    return 0;
}

static double number_of(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static void note_counts(struct answer *answer, const cJSON *chunk) {
    const cJSON *usage = cJSON_GetObjectItemCaseSensitive(chunk, "usage");
    const cJSON *timings = cJSON_GetObjectItemCaseSensitive(chunk, "timings");
    if (cJSON_IsObject(usage)) {
        answer->in = number_of(usage, "prompt_tokens");
        answer->out = number_of(usage, "completion_tokens");
    }
    if (cJSON_IsObject(timings))
        answer->per_s = number_of(timings, "predicted_per_second");
}

static const cJSON *choice_text(const cJSON *choice) {
    const cJSON *delta = cJSON_GetObjectItemCaseSensitive(choice, "delta");
    if (!delta)
        delta = cJSON_GetObjectItemCaseSensitive(choice, "message");
    return delta ? cJSON_GetObjectItemCaseSensitive(delta, "content")
                 : cJSON_GetObjectItemCaseSensitive(choice, "text");
}

static int on_chunk(void *user, const char *text) {
    struct answer *answer = user;
    cJSON *chunk = cJSON_Parse(text);
    const cJSON *choices = cJSON_GetObjectItemCaseSensitive(chunk, "choices");
    const cJSON *choice = cJSON_GetArrayItem(choices, 0), *piece = choice_text(choice);
    const cJSON *finish = cJSON_GetObjectItemCaseSensitive(choice, "finish_reason");
    int rc = 0;
    if (cJSON_IsString(piece)) {
        const size_t n = strlen(piece->valuestring);
        text_print(stdout, piece->valuestring, n);
        rc = fflush(stdout) ? -1 : keep_text(answer, piece->valuestring, n);
    }
    if (cJSON_IsString(finish))
        snprintf(answer->finish, sizeof answer->finish, "%s", finish->valuestring);
    note_counts(answer, chunk);
    cJSON_Delete(chunk);
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
    *answer = (struct answer){0};
    cli_catch_interrupt(cli);
    const int rc = octarc_stream(cli->conn, method, params, on_chunk, answer, &err);
    free(params);
    if (rc == 0 || answer->n)
        putchar('\n');
    if (rc < 0)
        return cli_fail_call(cli, rc, &err);
    fflush(stdout);
    tell_counts(cli, answer);
    return CLI_OK;
}

/* Several answers come whole, with a blank line between two. */
static int print_choices(struct cli *cli, const char *method) {
    cJSON *answer;
    const int status = cli_call(cli, method, cli->fields, &answer);
    if (status)
        return status;
    const cJSON *choice, *choices = cJSON_GetObjectItemCaseSensitive(answer, "choices");
    cJSON_ArrayForEach(choice, choices) {
        const cJSON *text = choice_text(choice);
        if (choice != choices->child)
            putchar('\n');
        if (cJSON_IsString(text))
            text_print(stdout, text->valuestring, strlen(text->valuestring));
        putchar('\n');
    }
    cJSON_Delete(answer);
    return CLI_OK;
}

static int show_answer(struct cli *cli, const char *method) {
    struct answer answer = {0};
    if (cli->json)
        return cli_print(cli, method, cli->fields);
    if (number_of(cli->fields, "n") > 1)
        return print_choices(cli, method);
    const int status = stream_answer(cli, method, &answer);
    free(answer.text);
    return status;
}

int verb_complete(struct cli *cli) {
    int status = CLI_OK;
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
