/* SPDX-License-Identifier: Apache-2.0 */
/* octarc: the command line client of octarcd.  One row a verb. */
#include <locale.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "client/cli.h"

#define SAMPLING                                                                                   \
    {"max-tokens", "N", "end after N tokens", 'n', FIELD_INTEGER, 0},                              \
        {"temperature", "T", "0 takes the likeliest token each time", 't', FIELD_NUMBER, 0},       \
        {"top-k", "K", "draw among the K likeliest tokens; 0: all", 0, FIELD_INTEGER, 0},          \
        {"top-p", "P", "draw among those that make up probability P", 0, FIELD_NUMBER, 0},         \
        {"min-p", "P", "drop those below P times the likeliest", 0, FIELD_NUMBER, 0},              \
        {"seed", "S", "the same seed draws the same tokens", 0, FIELD_DIGITS, 0},                  \
        {"stop", "TEXT", "end before TEXT; may be repeated", 0, FIELD_STRINGS, 0},                 \
        {"model", "NAME", "refuse to be answered by another model", 'm', FIELD_STRING, 0}, {       \
        "n", "N", "N answers to the same prompt", 0, FIELD_INTEGER, 0                              \
    }

static const struct option_info complete_options[] = {
    SAMPLING,
    {"logprobs", "K", "with --json: the K likeliest of each position", 0, FIELD_INTEGER, 0},
    {0}};

static const struct option_info chat_options[] = {
    SAMPLING,
    {"system", "TEXT", "the system message", 's', OPTION_VALUE, offsetof(struct cli, system)},
    {0}};

static const struct option_info call_options[] = {{"stream", NULL,
                                                   "print each piece of the answer as a line", 0,
                                                   OPTION_SWITCH, offsetof(struct cli, stream)},
                                                  {0}};

static const struct option_info status_options[] = {{"wait", "SECONDS",
                                                     "until a model is served, at most so long",
                                                     'w', OPTION_VALUE, offsetof(struct cli, wait)},
                                                    {0}};

static const struct option_info tokenize_options[] = {
    {"add-special", NULL, "with the tokens the model begins a text with", 0, OPTION_SWITCH,
     offsetof(struct cli, add_special)},
    {0}};

static const struct option_info bench_options[] = {
    {"runs", "N", "rounds, of each thing once", 0, FIELD_INTEGER, 0},
    {"quick", NULL, "much shorter, one round: does it work at all", 0, OPTION_SWITCH,
     offsetof(struct cli, quick)},
    {"threads", "N", "of the computation; else one a usable core", 0, FIELD_INTEGER, 0},
    {"backend", "NAME", "auto, cpu or level_zero: all cards", 0, OPTION_VALUE,
     offsetof(struct cli, backend)},
    {"against", "DIR", "beside llama-bench and llama-server found there", 0, OPTION_VALUE,
     offsetof(struct cli, against)},
    {"selftest", NULL, "instead: are cards, kernels and links right; octarcd(8)", 0, OPTION_SWITCH,
     offsetof(struct cli, selftest)},
    {"config", "FILE", "of --selftest, instead of /etc/octarc/octarc.conf", 0, OPTION_PASS, 0},
    {0}};

static const struct option_info drain_options[] = {
    {"wait", NULL, "until it is drained", 'w', OPTION_SWITCH, offsetof(struct cli, wait_card)},
    {"release", NULL, "give back what it holds, too: then it may be unplugged", 0, OPTION_SWITCH,
     offsetof(struct cli, release)},
    {0}};

static const struct option_info drill_options[] = {{"silent", NULL,
                                                    "with corrupt: the card does not report it", 0,
                                                    OPTION_SWITCH, offsetof(struct cli, silent)},
                                                   {0}};

static const struct option_info online_options[] = {
    {"wait", NULL, "until it is used again", 'w', OPTION_SWITCH, offsetof(struct cli, wait_card)},
    {0}};

static const struct option_info rebalance_options[] = {
    {"dry-run", NULL, "only show what would move", 'n', OPTION_SWITCH,
     offsetof(struct cli, dry_run)},
    {0}};

static const struct option_info events_options[] = {
    {"follow", NULL, "go on with those to come", 'f', OPTION_SWITCH, offsetof(struct cli, follow)},
    {"since", "N", "those behind number N", 0, FIELD_INTEGER, 0},
    {0}};

static const struct option_info plan_options[] = {
    {"cards", "N", "simulated cards", 0, OPTION_PASS, 0},
    {"card-memory", "SIZES", "of each card, as in 24G or 24G,16G", 0, OPTION_PASS, 0},
    {"host-spill", "SIZE", "of the host's memory, for weights", 0, OPTION_PASS, 0},
    {"topology", "FILE", "the box: octarc-topology(5)", 0, OPTION_PASS, 0},
    {"without", "CARD", "as if it were not there; may be repeated", 0, OPTION_PASS, 0},
    {"context", "N", "tokens of one sequence", 0, OPTION_PASS, 0},
    {"max-sequences", "N", "at once", 0, OPTION_PASS, 0},
    {"kv-type", "TYPE", "f16, f32 or q8_0", 0, OPTION_PASS, 0},
    {"split", "SPLIT", "auto, layer, tensor or hybrid", 0, OPTION_PASS, 0},
    {"place", "PLACE", "'PATTERN = card N': tensors lie there; repeatable", 0, OPTION_PASS, 0},
    {"config", "FILE", "instead of /etc/octarc/octarc.conf", 0, OPTION_PASS, 0},
    {"svg", NULL, "a picture on standard output", 0, OPTION_PASS, 0},
    {0}};

static const struct option_info models_options[] = {
    {"context", "N", "inspect: tokens of one sequence", 0, OPTION_PASS, 0},
    {"max-sequences", "N", "inspect: at once", 0, OPTION_PASS, 0},
    {"kv-type", "TYPE", "inspect: f16, f32 or q8_0", 0, OPTION_PASS, 0},
    {"split", "SPLIT", "inspect: auto, layer, tensor or hybrid", 0, OPTION_PASS, 0},
    {"config", "FILE", "inspect: instead of /etc/octarc/octarc.conf", 0, OPTION_PASS, 0},
    {"to", "DIR", "look there, instead of in the cache", 0, OPTION_VALUE, offsetof(struct cli, to)},
    {"catalog", "DIR", "of manifests", 0, OPTION_VALUE, offsetof(struct cli, catalog)},
    {0}};

static const struct option_info pull_options[] = {
    {"to", "DIR", "have it there, instead of in the cache", 0, OPTION_VALUE,
     offsetof(struct cli, to)},
    {"sha256", "DIGEST", "what it must have", 0, OPTION_VALUE, offsetof(struct cli, sha256)},
    {"index", "URL", "of Python packages; else $PIP_INDEX_URL, pypi.org", 0, OPTION_VALUE,
     offsetof(struct cli, index)},
    {"catalog", "DIR", "of manifests", 0, OPTION_VALUE, offsetof(struct cli, catalog)},
    {0}};

static const struct option_info top_options[] = {
    {"interval", "SECONDS", "between two looks; else 2", 'i', OPTION_VALUE,
     offsetof(struct cli, interval)},
    {"count", "N", "looks; else until interrupted", 0, OPTION_VALUE, offsetof(struct cli, count)},
    {0}};

const struct command commands[] = {
    {"bench", "[MODEL]", "measure speed, on services of its own", bench_options, 0, 1, true,
     verb_bench},
    {"call", "METHOD [JSON]", "call any method of the service", call_options, 1, 2, false,
     verb_call},
    {"cards", "", "what each card holds", NULL, 0, 0, false, verb_cards},
    {"chat", "[MESSAGE…]", "talk; without a message, in turns", chat_options, 0, -1, false,
     verb_chat},
    {"check", "[CARD]", "are the weights in use what was loaded", NULL, 0, 1, false, verb_check},
    {"complete", "[PROMPT…]", "continue a text", complete_options, 0, -1, false, verb_complete},
    {"drain", "CARD", "take a card out; nothing is lost", drain_options, 1, 1, false, verb_card},
    {"drill", "FAULT [CARD]", "rehearse: lose, hang, return or corrupt CARD", drill_options, 1, 2,
     false, verb_drill},
    {"events", "", "what happened to cards and engines", events_options, 0, 0, false, verb_events},
    {"help", "[VERB]", "this text, or a verb's options", NULL, 0, 1, true, verb_help},
    {"metrics", "", "counters, as Prometheus reads them", NULL, 0, 0, false, verb_metrics},
    {"models", "[inspect FILE]", "of the catalog; or what a model file says", models_options, 0, 2,
     true, verb_models},
    {"online", "CARD", "take a card back", online_options, 1, 1, false, verb_card},
    {"plan", "MODEL", "where a model would lie, and how fast it would be", plan_options, 1, 1, true,
     verb_plan},
    {"ps", "", "the requests under way", NULL, 0, 0, false, verb_ps},
    {"pull", "NAME|URL|FILE", "fetch a model, check it, put it in its place", pull_options, 1, 1,
     true, verb_pull},
    {"rebalance", "", "plan anew for the cards there are", rebalance_options, 0, 0, false,
     verb_rebalance},
    {"run", "[MESSAGE…]", "the same as chat", chat_options, 0, -1, false, verb_chat},
    {"status", "", "is a model served, and how busy is it", status_options, 0, 0, true,
     verb_status},
    {"tokenize", "[TEXT…]", "the token numbers of a text", tokenize_options, 0, -1, false,
     verb_tokenize},
    {"top", "", "speed, cards and requests, again and again", top_options, 0, 0, false, verb_top},
    {"version", "", "versions of client and service", NULL, 0, 0, true, verb_version},
    {0}};

static int run(struct cli *cli) {
    if (cli->version)
        return verb_version(cli);
    if (cli->help || !cli->command) {
        usage_print(cli->command);
        return cli->help ? CLI_OK : CLI_USAGE;
    }
    const int status = cli->command->offline ? 0 : cli_connect(cli);
    return status ? status : cli->command->run(cli);
}

int main(int argc, char **argv) {
    struct cli cli = {0};
    setlocale(LC_CTYPE, "");
    int status = usage_parse(&cli, argc, argv);
    if (status == CLI_OK)
        status = run(&cli);
    octarc_close(cli.conn);
    cJSON_Delete(cli.fields);
    /* A full disk or a closed pipe must not look like success. */
    cli_flush(&cli);
    if (cli.write_error && (status == CLI_OK || status == CLI_FAILED))
        status = cli_fail(&cli, CLI_FAILED, "cannot write: %s", strerror(cli.write_error));
    return status;
}
