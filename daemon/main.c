/* SPDX-License-Identifier: Apache-2.0 */
/* octarcd: options, then run. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/service/box.h"
#include "daemon/service/daemon.h"
#include "daemon/service/inspect.h"
#include "daemon/service/probe.h"
#include "daemon/service/whatif.h"
#include "daemon/util/log.h"
#include "octarc/error.h"

#define EXIT_USAGE 2

static int usage_error(const struct err *err) {
    fprintf(stderr, "octarcd: %s\nTry 'octarcd --help'.\n", err->text);
    return EXIT_USAGE;
}

/* Who looks at the cards is started as an engine is. */
static int probe(const struct options *options, struct daemon *d) {
    struct err err;
    if (spawner_fork(&d->spawner, &err) < 0) {
        log_error("%s", err.text);
        return 1;
    }
    const int code = probe_run(options, &d->config, &d->spawner);
    spawner_stop(&d->spawner);
    return code;
}

static int run(const struct options *options, struct daemon *d) {
    struct err err;
    bool usage;
    d->options = options;
    if (options_config(options, &d->config, &usage, &err) < 0) {
        if (usage)
            return usage_error(&err);
        log_error("%s", err.text);
        return options->check_config ? 1 : EXIT_CONFIG;
    }
    log_init("octarcd", (enum log_priority)d->config.log_level);
    if (options->inspect)
        return inspect_run(options, &d->config);
    if (options->probe)
        return probe(options, d);
    const bool serves = !options->check_config && !options->plan;
    if (serves && daemon_inherit(d, &err) < 0) {
        log_error("%s", err.text);
        return 1;
    }
    const uint64_t kept_bytes = serves ? store_bytes(&d->store) : 0;
    const int rc = box_read(&d->config, kept_bytes, &d->topology, &err);
    if (rc == -ERANGE && options->n > 0)
        return usage_error(&err);
    if (rc < 0) {
        log_error("%s", err.text);
        return options->check_config ? 1 : EXIT_CONFIG;
    }
    if (options->check_config) {
        puts("OK");
        return 0;
    }
    if (options->plan)
        return whatif_run(options, &d->config, &d->topology);
    /* Before anything else exists that an engine could inherit. */
    if (spawner_fork(&d->spawner, &err) < 0) {
        log_error("%s", err.text);
        return 1;
    }
    const int chosen = backend_choose(&d->backend, &d->config, &d->spawner, &err);
    if (chosen < 0)
        log_error("%s", err.text);
    else if (d->backend.why[0])
        log_warning("the CPU computes, for no card is used: %s", d->backend.why);
    const int code = chosen < 0 ? EXIT_CONFIG : daemon_run(d);
    spawner_stop(&d->spawner);
    return code;
}

int main(int argc, char **argv) {
    struct options options;
    struct err err;
    log_init("octarcd", LOG_P_INFO);
    if (options_parse(&options, argc, argv, &err) < 0)
        return usage_error(&err);
    if (options.help || options.version) {
        fputs(options.help ? options_help : "octarcd " OCTARC_VERSION "\n", stdout);
        return 0;
    }
    struct daemon *d = calloc(1, sizeof *d);
    if (!d) {
        log_error("no memory to start");
        return 1;
    }
    const int code = run(&options, d);
    free(d);
    return code;
}
