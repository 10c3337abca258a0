/* SPDX-License-Identifier: Apache-2.0 */
/* plan, models inspect, bench --selftest: become octarcd, which needs no service and no card for
 * these. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/bench/child.h"
#include "client/cli.h"
#include "octarc/error.h"

int cli_become_octarcd(struct cli *cli, const char *option, const char *file) {
    char program[PATH_MAX];
    const char *argv[2 * PASSED_MAX + 5] = {"octarcd", option, file};
    char names[PASSED_MAX][32];
    int n = file ? 3 : 2;
    struct err err;
    if (child_find("octarcd", program, &err) < 0)
        return cli_fail(cli, CLI_FAILED, "%s", err.text);
    if (cli->json)
        argv[n++] = "--json";
    for (int i = 0; i < cli->n_passed; i++) {
        snprintf(names[i], sizeof names[i], "--%s", cli->passed[i].name);
        argv[n++] = names[i];
        if (cli->passed[i].value)
            argv[n++] = cli->passed[i].value;
    }
    execv(program, (char *const *)argv);
    return cli_fail(cli, CLI_FAILED, "cannot start %s: %s", program, strerror(errno));
}

int verb_plan(struct cli *cli) {
    return cli_become_octarcd(cli, "--plan", cli->words[0]);
}
