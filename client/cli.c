/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_BYTES_MAX (64u << 20) /* of a prompt from stdin */

static struct cli *volatile interrupt_target;
static volatile sig_atomic_t interrupted;

int cli_fail(const struct cli *cli, int code, const char *fmt, ...) {
    va_list ap;
    fflush(stdout);
    fprintf(stderr, "octarc: ");
    if (cli->command)
        fprintf(stderr, "%s: ", cli->command->name);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return code;
}

int cli_fail_call(const struct cli *cli, int rc, const struct octarc_error *err) {
    if (rc == -ECANCELED && cli_interrupted())
        return CLI_INTERRUPTED;
    if (cli->write_error) /* why the callback stopped the call; main() says it */
        return CLI_FAILED;
    return cli_fail(cli, rc == -ECONNRESET ? CLI_NOT_RUNNING : CLI_FAILED, "%s", err->message);
}

int cli_connect(struct cli *cli) {
    struct octarc_error err;
    const int rc = octarc_connect(&cli->conn, cli->socket, &err);
    return rc < 0 ? cli_fail_connect(cli, rc, &err) : CLI_OK;
}

int cli_fail_connect(const struct cli *cli, int rc, const struct octarc_error *err) {
    if (rc == -ENOENT || rc == -ECONNREFUSED)
        return cli_fail(cli, CLI_NOT_RUNNING, "%s; is octarcd running?", err->message);
    if (rc == -EACCES || rc == -EPERM)
        return cli_fail(cli, CLI_FAILED, "%s; members of the group octarc may connect",
                        err->message);
    return cli_fail(cli, rc == -ENAMETOOLONG ? CLI_USAGE : CLI_FAILED, "%s", err->message);
}

int cli_flush(struct cli *cli) {
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    if (!cli->write_error)
        cli->write_error = errno ? errno : EIO;
    return -1;
}

int cli_puts(struct cli *cli, const char *line) {
    if (puts(line) == EOF && !cli->write_error)
        cli->write_error = errno;
    return cli_flush(cli);
}

/* The parameters as text; NULL: none were given.  *text is the caller's. */
static int print_params(const struct cli *cli, const cJSON *params, char **text) {
    *text = params ? cJSON_PrintUnformatted(params) : NULL;
    return params && !*text ? cli_fail(cli, CLI_FAILED, "no memory") : CLI_OK;
}

int cli_ask(struct cli *cli, const char *method, const cJSON *params, char **answer) {
    struct octarc_error err;
    char *text;
    const int status = print_params(cli, params, &text);
    if (status)
        return status;
    cli_catch_interrupt(cli);
    const int rc = octarc_call(cli->conn, method, text, answer, &err);
    free(text);
    return rc < 0 ? cli_fail_call(cli, rc, &err) : CLI_OK;
}

int cli_call(struct cli *cli, const char *method, const cJSON *params, cJSON **answer) {
    char *text;
    const int status = cli_ask(cli, method, params, &text);
    if (status)
        return status;
    cJSON *parsed = cJSON_Parse(text);
    free(text);
    if (!cJSON_IsObject(parsed)) {
        cJSON_Delete(parsed);
        return cli_fail(cli, CLI_FAILED, "the service's answer cannot be read");
    }
    *answer = parsed;
    return CLI_OK;
}

int cli_print(struct cli *cli, const char *method, const cJSON *params) {
    char *text;
    const int status = cli_ask(cli, method, params, &text);
    if (status)
        return status;
    cli_puts(cli, text);
    free(text);
    return CLI_OK;
}

static char *join_words(const struct cli *cli) {
    size_t n = 1;
    for (int i = 0; i < cli->n_words; i++)
        n += strlen(cli->words[i]) + 1;
    char *text = malloc(n), *end = text;
    for (int i = 0; text && i < cli->n_words; i++)
        end = stpcpy(stpcpy(end, i ? " " : ""), cli->words[i]);
    return text;
}

static char *read_stdin(struct cli *cli, int *status) {
    char *text = NULL;
    size_t n = 0, capacity = 0, got = 1;
    while (got && n <= TEXT_BYTES_MAX) {
        if (n + 1 >= capacity) {
            capacity = capacity ? capacity * 2 : 65536;
            char *more = realloc(text, capacity);
            if (!more)
                break;
            text = more;
        }
        got = fread(text + n, 1, capacity - n - 1, stdin);
        n += got;
    }
    if (ferror(stdin) || got) {
        *status = ferror(stdin) ? cli_fail(cli, CLI_FAILED, "cannot read stdin")
                  : n > TEXT_BYTES_MAX
                      ? cli_fail(cli, CLI_FAILED, "more than %u bytes on stdin", TEXT_BYTES_MAX)
                      : cli_fail(cli, CLI_FAILED, "no memory for stdin");
        free(text);
        return NULL;
    }
    if (memchr(text, 0, n)) {
        *status = cli_fail(cli, CLI_FAILED, "stdin holds a NUL byte: not a text");
        free(text);
        return NULL;
    }
    n -= n && text[n - 1] == '\n';
    text[n] = '\0';
    return text;
}

char *cli_text(struct cli *cli, int *status) {
    const bool from_stdin = cli->n_words == 0 || (cli->n_words == 1 && !strcmp(*cli->words, "-"));
    if (cli->n_words == 0 && isatty(0)) {
        *status = cli_fail(cli, CLI_USAGE, "missing words: octarc %s %s", cli->command->name,
                           cli->command->words);
        return NULL;
    }
    if (from_stdin)
        return read_stdin(cli, status);
    char *text = join_words(cli);
    if (!text)
        *status = cli_fail(cli, CLI_FAILED, "no memory");
    return text;
}

static void on_interrupt(int number) {
    (void)number;
    struct cli *cli = interrupt_target;
    interrupted = 1;
    if (cli && cli->conn)
        octarc_cancel(cli->conn);
}

void cli_catch_interrupt(struct cli *cli) {
    /* Without SA_RESTART, so that a read of the keyboard ends too.  The second one kills. */
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    interrupt_target = cli;
    sigaction(SIGINT, &action, NULL);
}

bool cli_interrupted(void) {
    return interrupted;
}

void cli_forget_interrupt(void) {
    interrupted = 0;
}
