/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/options.h"

#include <errno.h>
#include <string.h>

#include "octarc/error.h"

const char options_help[] =
    "usage: octarcd [OPTION]...\n"
    "Serve a language model on a Unix socket.\n"
    "\n"
    "  --config FILE          read FILE (" CONFIG_FILE_DEFAULT " where it exists)\n"
    "  --check-config         check the configuration and end\n"
    "  --listen PATH          the socket\n"
    "  --model FILE           a GGUF file; none: serve without a model\n"
    "  --context N            tokens of one sequence (the trained context, at most 4096)\n"
    "  --backend auto|cpu|level_zero\n"
    "                         what computes\n"
    "  --cards N              simulated cards, 1 to 8 (1)\n"
    "  --card-memory SIZES    of each card, as in 2G or 2G,1G (a share of the free memory)\n"
    "  --host-spill SIZE      of the host's memory, for weights that the cards have no room for\n"
    "                         (a share of what is free)\n"
    "  --split auto|layer|tensor|hybrid\n"
    "                         how the model lies on the cards\n"
    "  --place 'PATTERN = card N'\n"
    "                         tensors that match lie there; may be repeated\n"
    "  --storage auto|svm|usm how real cards hold the weights (auto)\n"
    "  --weights shared|private\n"
    "                         memory that outlives an engine, or the engine's own (shared)\n"
    "  --kv-type f16|f32|q8_0 how keys and values are kept (f16)\n"
    "  --threads N            of the computation (one a usable core)\n"
    "  --max-sequences N      that run at once (16)\n"
    "  --isa auto|portable|avx2|avx512\n"
    "                         instruction set of the cpu backend\n"
    "  --topology FILE        the box to simulate, instead of --cards: octarc-topology(5)\n"
    "  --plan MODEL           print where the model would lie and how fast it would be, and end\n"
    "  --inspect FILE         print what a model file says and what it would need, and end\n"
    "  --probe                print which cards this machine has and what they lack, and end\n"
    "  --selftest             the same, try each card, its kernels and its links, and end\n"
    "  --without CARD         with --plan: as if that card were not there; may be repeated\n"
    "  --json, --svg          with --plan: all of it as JSON, or a picture; --json with --inspect\n"
    "                         --probe and --selftest too\n"
    "  --help, --version\n"
    "\n"
    "Exit status: 0 stopped in good order, or the configuration is good; 1 failure; 2 usage;\n"
    "3 --probe, --selftest: no card can be used; 4 --selftest: something is wrong; 78 the\n"
    "configuration or the model cannot be served, and trying again would not help.\n";

/* Options that are no keys. */
static bool is_own(const char *name) {
    return !strcmp(name, "config") || !strcmp(name, "plan") || !strcmp(name, "inspect") ||
           !strcmp(name, "without");
}

static int take_card(struct options *o, const char *value, struct err *err) {
    if (value[0] < '0' || value[0] >= '0' + CARDS_MAX || value[1])
        return err_set(err, -EINVAL, "--without: '%.64s' is not a card, 0 to %d", value,
                       CARDS_MAX - 1);
    o->without |= 1u << (value[0] - '0');
    return 0;
}

static int take(struct options *o, const char *name, const char *value, struct err *err) {
    if (!strcmp(name, "without"))
        return take_card(o, value, err);
    if (!strcmp(name, "config")) {
        o->config_path = value;
    } else if (!strcmp(name, "plan")) {
        o->plan = value;
    } else if (!strcmp(name, "inspect")) {
        o->inspect = value;
    } else {
        o->set[o->n].name = name;
        o->set[o->n++].value = value;
    }
    return 0;
}

/* Which options go together. */
static int check(const struct options *o, struct err *err) {
    const char *alone = o->svg ? "svg" : o->without ? "without" : NULL;
    if ((o->plan != NULL) + (o->inspect != NULL) + o->probe + o->selftest > 1)
        return err_set(err, -EINVAL, "--plan, --inspect, --probe and --selftest: one of them");
    if (o->json && !o->plan && !o->inspect && !o->probe && !o->selftest)
        return err_set(err, -EINVAL, "--json belongs to --plan, --inspect, --probe or --selftest");
    if (!o->plan && alone)
        return err_set(err, -EINVAL, "--%s belongs to --plan", alone);
    if (o->json && o->svg)
        return err_set(err, -EINVAL, "--json and --svg: one of them");
    for (uint32_t i = 0; i < o->n && (o->plan || o->inspect); i++)
        if (!strcmp(o->set[i].name, "model"))
            return err_set(err, -EINVAL, "--%s and --model both name a model",
                           o->plan ? "plan" : "inspect");
    return 0;
}

static bool take_flag(struct options *o, const char *name) {
    bool *flag = !strcmp(name, "check-config") ? &o->check_config
                 : !strcmp(name, "help")       ? &o->help
                 : !strcmp(name, "version")    ? &o->version
                 : !strcmp(name, "json")       ? &o->json
                 : !strcmp(name, "svg")        ? &o->svg
                 : !strcmp(name, "probe")      ? &o->probe
                 : !strcmp(name, "selftest")   ? &o->selftest
                                               : NULL;
    if (flag)
        *flag = true;
    return flag;
}

/* "--name=value" is cut in place. */
int options_parse(struct options *options, int argc, char **argv, struct err *err) {
    struct options o = {0};
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-h")) {
            o.help = true;
            continue;
        }
        if (strncmp(argv[i], "--", 2) || !argv[i][2])
            return err_set(err, -EINVAL, "'%.64s' is not an option", argv[i]);
        char *name = argv[i] + 2, *value = strchr(name, '=');
        if (!value && take_flag(&o, name))
            continue;
        if (value)
            *value++ = 0;
        else if (i + 1 < argc)
            value = argv[++i];
        struct config scratch;
        config_default(&scratch);
        if (!is_own(name) && config_option(&scratch, name, value ? value : "", err) == -ENOENT)
            return -EINVAL;
        if (!value)
            return err_set(err, -EINVAL, "--%s needs a value", name);
        if (o.n == OPTIONS_MAX)
            return err_set(err, -EINVAL, "more than %d options", OPTIONS_MAX);
        const int rc = take(&o, name, value, err);
        if (rc < 0)
            return rc;
    }
    const int rc = check(&o, err);
    if (rc == 0)
        *options = o;
    return rc;
}

int options_config(const struct options *options, struct config *config, bool *usage,
                   struct err *err) {
    struct config made;
    config_default(&made);
    *usage = false;
    const char *path = options->config_path ? options->config_path : CONFIG_FILE_DEFAULT;
    int rc = config_read(&made, path, err);
    if (rc == -ENOENT && !options->config_path)
        rc = 0; /* all defaults */
    for (uint32_t i = 0; i < options->n && rc == 0; i++) {
        rc = config_option(&made, options->set[i].name, options->set[i].value, err);
        *usage = rc < 0;
    }
    if (rc == 0) {
        rc = config_check(&made, err);
        *usage = rc < 0 && options->n > 0;
    }
    if (rc == 0)
        *config = made;
    return rc;
}
