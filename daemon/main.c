/* SPDX-License-Identifier: Apache-2.0 */
/* octarcd: options, then run. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/service/box.h"
#include "daemon/service/daemon.h"
#include "daemon/service/inspect.h"
#include "daemon/service/probe.h"
#include "daemon/service/selftest.h"
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
    const int code = (options->probe ? probe_run : selftest_run)(options, &d->config, &d->spawner);
    spawner_stop(&d->spawner);
    return code;
}

/* Which cards there are, and what computes: the machine's own are looked at only to serve. */
static int make_box(struct daemon *d, bool serves, struct err *err) {
    const uint64_t kept_bytes = serves ? store_bytes(&d->store) : 0;
    d->backend = (struct backend){.name = "cpu", .ops = device_backend("cpu")};
    /* Before anything else exists that an engine could inherit. */
    int rc = serves ? spawner_fork(&d->spawner, err) : 0;
    if (rc == 0 && serves)
        rc = backend_choose(&d->backend, &d->config, &d->spawner, err);
    if (rc < 0)
        return rc;
    if (d->backend.why[0])
        log_warning("the CPU computes, for no card is used: %s", d->backend.why);
    if (!d->backend.ops->probe)
        return box_read(&d->config, kept_bytes, &d->topology, err);
    d->config.simulated = false;
    if (d->config.weights == WEIGHTS_SHARED)
        d->config.weights = WEIGHTS_HELD;    /* a card's memory is no file of the front's */
    d->config.rebalance = REBALANCE_RESTART; /* a lost card takes its process with it */
    return box_found(&d->config, &d->backend.cards, &d->topology, err);
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
    if (options->probe || options->selftest)
        return probe(options, d);
    const bool serves = !options->check_config && !options->plan;
    if (serves && daemon_inherit(d, &err) < 0) {
        log_error("%s", err.text);
        return 1;
    }
    const int rc = make_box(d, serves, &err);
    if (rc < 0) {
        spawner_stop(&d->spawner);
        if (rc == -ERANGE && options->n > 0)
            return usage_error(&err);
        log_error("%s", err.text);
        return options->check_config ? 1 : EXIT_CONFIG;
    }
    if (options->check_config) {
        puts("OK");
        return 0;
    }
    if (options->plan)
        return whatif_run(options, &d->config, &d->topology);
    const int code = daemon_run(d);
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
