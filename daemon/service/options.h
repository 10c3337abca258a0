/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - octarcd's command line. */
#ifndef OCTARC_SERVICE_OPTIONS_H
#define OCTARC_SERVICE_OPTIONS_H

#include "daemon/service/config.h"

#define OPTIONS_MAX 32 /* settings on one command line */

struct options {
    const char *config_path; /* NULL: CONFIG_FILE_DEFAULT where it exists */
    bool check_config, help, version;
    const char *plan;    /* a model: print its plan and end; NULL: serve */
    const char *inspect; /* a model file: print what it says and end */
    uint32_t without;    /* plan: bit per card that is thought away */
    bool probe;          /* print what cards there are and end */
    bool selftest;       /* the same, try them, and end */
    bool json, svg;      /* plan, inspect, probe, selftest: how it is printed; else for people */
    uint32_t n;
    struct {
        const char *name, *value; /* lent by argv */
    } set[OPTIONS_MAX];
};

/* -EINVAL (err says which and what is known), -ENOTSUP (a value of later versions). */
int options_parse(struct options *options, int argc, char **argv, struct err *err);
/* Defaults, then the file, then the command line.  *usage: the error is the command line's. */
int options_config(const struct options *options, struct config *config, bool *usage,
                   struct err *err);
extern const char options_help[];

#endif
