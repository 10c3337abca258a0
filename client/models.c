/* SPDX-License-Identifier: Apache-2.0 */
/* models: what a model file says. */
#include <string.h>

#include "client/cli.h"

int verb_models(struct cli *cli) {
    if (strcmp(cli->words[0], "inspect") != 0)
        return cli_fail(cli, CLI_USAGE, "models knows no '%s'; see octarc help models",
                        cli->words[0]);
    return cli_become_octarcd(cli, "--inspect", cli->words[1]);
}
