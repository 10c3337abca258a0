/* SPDX-License-Identifier: Apache-2.0 */
/* Options and help, both from the tables in main.c. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli.h"

/* Understood before and after every verb. */
static const struct option_info global_options[] = {
    {"socket", "PATH", "of the service", 'S', OPTION_VALUE, offsetof(struct cli, socket)},
    {"json", NULL, "print the service's answer as one line of JSON", 'j', OPTION_SWITCH,
     offsetof(struct cli, json)},
    {"no-legend", NULL, "tables without their heads", 0, OPTION_SWITCH,
     offsetof(struct cli, no_legend)},
    {"verbose", NULL, "say more", 'v', OPTION_SWITCH, offsetof(struct cli, verbose)},
    {"help", NULL, "this text", 'h', OPTION_SWITCH, offsetof(struct cli, help)},
    {"version", NULL, "print the versions", 0, OPTION_SWITCH, offsetof(struct cli, version)},
    {0}};

static void print_options(const struct option_info *options) {
    for (; options && options->name; options++) {
        char left[64];
        snprintf(left, sizeof left, "%c%c%s--%s%s%s", options->letter ? '-' : ' ',
                 options->letter ? options->letter : ' ', options->letter ? ", " : "  ",
                 options->name, options->value ? " " : "", options->value ? options->value : "");
        printf("  %-24s %s\n", left, options->help);
    }
}

void usage_print(const struct command *command) {
    if (command) {
        printf("octarc %s [OPTION…] %s\n\n%s\n\n", command->name, command->words, command->help);
        print_options(command->options);
        print_options(global_options);
        return;
    }
    printf("octarc [OPTION…] VERB …\n\nTalk to octarcd, which serves a language model.\n\n");
    for (const struct command *c = commands; c->name; c++)
        printf("  %-9s %-*s %s\n", c->name, strstr(c->words, "…") ? 16 : 14, c->words, c->help);
    printf("\n");
    print_options(global_options);
    printf("\nThe socket is --socket, else $OCTARC_SOCKET, else " OCTARC_SOCKET ".\n"
           "octarc help VERB tells a verb's options; octarc(1) the rest.\n");
}

static const struct option_info *find_in(const struct option_info *options, const char *name,
                                         size_t n, char letter) {
    for (; options && options->name; options++)
        if (letter ? options->letter == letter
                   : !strncmp(options->name, name, n) && !options->name[n])
            return options;
    return NULL;
}

static const struct option_info *find(const struct cli *cli, const char *name, size_t n,
                                      char letter) {
    const struct option_info *found =
        cli->command ? find_in(cli->command->options, name, n, letter) : NULL;
    return found ? found : find_in(global_options, name, n, letter);
}

static int bad_value(struct cli *cli, const struct option_info *option, const char *must,
                     const char *value) {
    return cli_fail(cli, CLI_USAGE, "--%s must be %s, not '%s'", option->name, must, value);
}

static cJSON *number_field(const char *value, bool whole) {
    char *end;
    errno = 0;
    const double x = strtod(value, &end);
    const bool plain = strspn(value, whole ? "-+0123456789" : "-+.eE0123456789") == strlen(value);
    return errno || end == value || *end || !plain || !isfinite(x) ? NULL : cJSON_CreateNumber(x);
}

static cJSON *digits_field(const char *value) {
    char *end;
    errno = 0;
    strtoull(value, &end, 10);
    return errno || *end || *value < '0' || *value > '9' ? NULL : cJSON_CreateString(value);
}

static int pass_on(struct cli *cli, const struct option_info *option, const char *value) {
    if (cli->n_passed == PASSED_MAX)
        return cli_fail(cli, CLI_USAGE, "more than %d options to hand on", PASSED_MAX);
    cli->passed[cli->n_passed].name = option->name;
    cli->passed[cli->n_passed++].value = value;
    return 0;
}

/* Put the value into the request under the option's name. */
static int set_field(struct cli *cli, const struct option_info *option, const char *value) {
    char field[32] = {0};
    cJSON *item = NULL;
    const char *must = "a string";
    for (size_t i = 0; option->name[i] && i + 1 < sizeof field; i++)
        field[i] = option->name[i] == '-' ? '_' : option->name[i];

    cJSON *before = cJSON_GetObjectItemCaseSensitive(cli->fields, field);
    if (option->kind == FIELD_INTEGER || option->kind == FIELD_NUMBER) {
        item = number_field(value, option->kind == FIELD_INTEGER);
        must = option->kind == FIELD_INTEGER ? "an integer" : "a number";
    } else if (option->kind == FIELD_DIGITS) {
        item = digits_field(value);
        must = "an integer from 0 to 18446744073709551615";
    } else {
        item = cJSON_CreateString(value);
    }
    if (!item)
        return bad_value(cli, option, must, value);
    if (option->kind == FIELD_STRINGS) {
        if (!before)
            before = cJSON_AddArrayToObject(cli->fields, field);
        cJSON_AddItemToArray(before, item);
        return 0;
    }
    cJSON_DeleteItemFromObjectCaseSensitive(cli->fields, field); /* the last one counts */
    cJSON_AddItemToObject(cli->fields, field, item);
    return 0;
}

static int set_option(struct cli *cli, const struct option_info *option, const char *value) {
    char *at = (char *)cli + option->at;
    if (option->kind == OPTION_PASS)
        return pass_on(cli, option, value);
    if (option->kind == OPTION_SWITCH)
        *(bool *)at = true;
    else if (option->kind == OPTION_VALUE)
        *(const char **)(void *)at = value;
    else
        return set_field(cli, option, value);
    return 0;
}

/* argv[*i] begins with '-'.  *i moves to the last word that was used. */
static int parse_option(struct cli *cli, int argc, char **argv, int *i) {
    const char *word = argv[*i], *value = NULL;
    const bool longer = word[1] == '-';
    const char *name = word + (longer ? 2 : 1);
    const size_t n = longer ? strcspn(name, "=") : 1;
    const struct option_info *option = find(cli, name, n, longer ? '\0' : *name);
    if (!option)
        return cli_fail(cli, CLI_USAGE, "unknown option %s%s", word,
                        cli->command ? "; see octarc help" : " before the verb; see octarc help");
    if (name[n])
        value = longer ? name + n + 1 : name + n;
    if (option->value && !value) {
        if (*i + 1 == argc)
            return cli_fail(cli, CLI_USAGE, "--%s needs a value: %s", option->name, option->value);
        value = argv[++*i];
    } else if (!option->value && value) {
        return cli_fail(cli, CLI_USAGE, "--%s takes no value", option->name);
    }
    return set_option(cli, option, value);
}

static int take_verb(struct cli *cli, const char *name) {
    for (const struct command *c = commands; c->name; c++)
        if (!strcmp(c->name, name)) {
            cli->command = c;
            return 0;
        }
    return cli_fail(cli, CLI_USAGE, "unknown verb '%s'; see octarc help", name);
}

static int check_words(struct cli *cli) {
    const struct command *c = cli->command;
    if (!c || cli->help || cli->version)
        return 0;
    if (cli->n_words < c->words_min)
        return cli_fail(cli, CLI_USAGE, "missing words: octarc %s %s", c->name, c->words);
    if (c->words_max >= 0 && cli->n_words > c->words_max)
        return cli_fail(cli, CLI_USAGE, "too many words: octarc %s %s", c->name, c->words);
    return 0;
}

int usage_parse(struct cli *cli, int argc, char **argv) {
    bool options = true;
    cli->fields = cJSON_CreateObject();
    cli->words = argv; /* words are moved to the front: there are never more than were read */
    if (!cli->fields)
        return cli_fail(cli, CLI_FAILED, "no memory");
    for (int i = 1; i < argc; i++) {
        int status = 0;
        if (options && !strcmp(argv[i], "--"))
            options = false;
        else if (options && argv[i][0] == '-' && argv[i][1])
            status = parse_option(cli, argc, argv, &i);
        else if (!cli->command)
            status = take_verb(cli, argv[i]);
        else
            cli->words[cli->n_words++] = argv[i];
        if (status)
            return status;
    }
    return check_words(cli);
}
