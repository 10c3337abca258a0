/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h - what the verbs of octarc share.
 *
 * A verb is a row of the table in main.c: its words and options are parsed and its connection is
 * opened before run() is called.  run() returns the exit status.  Answers go to stdout, everything
 * else to stderr. */
#ifndef OCTARC_CLIENT_CLI_H
#define OCTARC_CLIENT_CLI_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "octarc.h"

enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_NOT_RUNNING = 3,
    CLI_INTERRUPTED = 130, /* 128 + SIGINT */
};

/* Where the value of an option goes. */
enum option_kind {
    OPTION_SWITCH, /* a bool of struct cli */
    OPTION_VALUE,  /* a const char * of struct cli */
    OPTION_PASS,   /* handed on, with its name, to the program that the verb becomes */
    FIELD_INTEGER, /* the rest: the field of the request that has the option's name with _ for - */
    FIELD_NUMBER,
    FIELD_DIGITS, /* an integer of up to 64 bits: sent as a string, for JSON would round it */
    FIELD_STRING,
    FIELD_STRINGS, /* may be given several times */
};

struct option_info {
    const char *name, *value, *help; /* value: its name in the help; NULL: a switch */
    char letter;                     /* '\0': none */
    enum option_kind kind;
    size_t at; /* offset in struct cli; OPTION_… only */
};

#define PASSED_MAX 32 /* OPTION_PASS on a command line */

struct cli;

struct command {
    const char *name, *words, *help;
    const struct option_info *options; /* ends with a nameless one; NULL: none */
    int words_min, words_max;          /* words_max < 0: any number */
    bool offline;                      /* run() opens the connection itself, if it needs one */
    int (*run)(struct cli *cli);
};

extern const struct command commands[]; /* sorted; ends with a nameless one */

struct cli {
    const struct command *command;
    struct octarc *conn;
    cJSON *fields; /* owned; from the options */
    char **words;  /* borrowed from argv */
    int n_words;
    struct {
        const char *name, *value; /* value: NULL for a switch */
    } passed[PASSED_MAX];         /* OPTION_PASS, in their order */
    int n_passed;
    const char *socket; /* NULL: the default */
    const char *system, *wait, *against, *backend, *interval, *count;
    const char *to, *sha256, *index, *catalog;
    bool json, no_legend, verbose, help, version, stream, add_special, quick, selftest;
    bool wait_card, release, dry_run, follow, silent;
    int write_error; /* errno of the first write to stdout that failed; 0: none did */
};

/* cli.c */
/* "octarc: VERB: text" on stderr; returns `code`. */
int cli_fail(const struct cli *cli, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same with what the library said; its exit status. */
int cli_fail_call(const struct cli *cli, int rc, const struct octarc_error *err);
/* Open cli->conn; 0 or an exit status, said on stderr. */
int cli_connect(struct cli *cli);
/* What to say, and which exit status to end with, where octarc_connect() gave `rc`. */
int cli_fail_connect(const struct cli *cli, int rc, const struct octarc_error *err);
/* Call.  *answer is the caller's, free() it.  0 or an exit status, said on stderr. */
int cli_ask(struct cli *cli, const char *method, const cJSON *params, char **answer);
/* Call and parse.  *answer is the caller's, cJSON_Delete() it.  0 or an exit status, said. */
int cli_call(struct cli *cli, const char *method, const cJSON *params, cJSON **answer);
/* Write what stdout holds back.  -1: it cannot be written; why is kept in cli->write_error. */
int cli_flush(struct cli *cli);
/* Print a line and flush.  The same. */
int cli_puts(struct cli *cli, const char *line);
/* Call and print the answer as one line. */
int cli_print(struct cli *cli, const char *method, const cJSON *params);
/* The words joined by blanks, or, for none or "-", stdin without its last newline.  NULL: said on
 * stderr, *status tells the exit status.  free() it. */
char *cli_text(struct cli *cli, int *status);
/* From here on SIGINT cancels the call under way on cli->conn. */
void cli_catch_interrupt(struct cli *cli);
bool cli_interrupted(void);
void cli_forget_interrupt(void);

/* usage.c */
void usage_print(const struct command *command); /* NULL: of octarc itself */
/* Parse argv into *cli.  0, or CLI_USAGE, said on stderr. */
int usage_parse(struct cli *cli, int argc, char **argv);

/* plan.c */
/* Go on as octarcd with this option, its file where it has one, the passed ones and --json; an exit
 * status where it cannot. */
int cli_become_octarcd(struct cli *cli, const char *option, const char *file);

/* rebalance.c */
/* The word as the field "card".  0, or CLI_USAGE, said on stderr. */
int cli_card(struct cli *cli, const char *word);

/* The tables of cards and of requests, as those methods answer. */
void cli_print_cards(const struct cli *cli, const cJSON *answer);
void cli_print_requests(const struct cli *cli, const cJSON *answer);

/* The verbs: cards.c, check.c, generate.c, models.c, plan.c, pull.c, show.c, rebalance.c, events.c,
 * top.c, raw.c, bench/bench.c. */
int verb_bench(struct cli *cli);
int verb_call(struct cli *cli);
int verb_card(struct cli *cli); /* drain, online */
int verb_cards(struct cli *cli);
int verb_chat(struct cli *cli);
int verb_check(struct cli *cli);
int verb_complete(struct cli *cli);
int verb_drill(struct cli *cli);
int verb_events(struct cli *cli);
int verb_help(struct cli *cli);
int verb_metrics(struct cli *cli);
int verb_models(struct cli *cli);
int verb_plan(struct cli *cli);
int verb_ps(struct cli *cli);
int verb_pull(struct cli *cli);
int verb_rebalance(struct cli *cli);
int verb_status(struct cli *cli);
int verb_tokenize(struct cli *cli);
int verb_top(struct cli *cli);
int verb_version(struct cli *cli);

#endif
