/* SPDX-License-Identifier: Apache-2.0 */
/* models: what the catalog has and what of it is here; or what a model file says. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/cli.h"
#include "client/pull/catalog.h"
#include "client/pull/place.h"
#include "client/table.h"
#include "octarc/error.h"

static bool has_bytes(const char *path, uint64_t bytes) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
           (bytes == 0 || (uint64_t)st.st_size == bytes);
}

/* By its size: `octarc pull` looks closer. */
static bool is_here(const struct place *place, const struct manifest *m) {
    char path[PATH_MAX];
    bool here = has_bytes(place->path, m->bytes);
    for (uint32_t i = 0; i < m->n_further && here; i++) {
        parts_name(place->path, strlen(place->path), i + 1, path);
        here = has_bytes(path, m->further[i].bytes);
    }
    return here;
}

static void add_row(struct table *table, const struct manifest *m, const char *path) {
    char size[32] = "-", needs[32] = "-";
    if (manifest_bytes(m))
        size_text((double)manifest_bytes(m), size, sizeof size);
    if (m->needs_bytes)
        size_text((double)m->needs_bytes, needs, sizeof needs);
    table_row(table, (const char *const[]){m->name, size, needs, m->licence, path ? path : "-"});
}

static void add_object(cJSON *list, const struct manifest *m, const char *path) {
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "name", m->name);
    cJSON_AddStringToObject(object, "file", m->file);
    cJSON_AddNumberToObject(object, "bytes", (double)manifest_bytes(m));
    cJSON_AddNumberToObject(object, "needs_bytes", (double)m->needs_bytes);
    cJSON_AddStringToObject(object, "sha256", m->sha256);
    cJSON_AddStringToObject(object, "licence", m->licence);
    if (path)
        cJSON_AddStringToObject(object, "path", path);
    else
        cJSON_AddNullToObject(object, "path");
    cJSON_AddItemToArray(list, object);
}

static int show(struct cli *cli, const struct catalog *catalog, const char *folder,
                struct err *err) {
    struct table table;
    cJSON *root = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(root, "models");
    table_init(&table, "lrrll");
    table_row(&table, (const char *const[]){"NAME", "SIZE", "NEEDS", "LICENCE", "HERE"});
    int rc = root ? 0 : err_set(err, -ENOMEM, "no memory for the list");
    for (size_t i = 0; i < catalog->n && !rc; i++) {
        const struct manifest *m = &catalog->models[i];
        struct place place;
        rc = place_init(&place, folder, m->file, err);
        const char *path = !rc && is_here(&place, m) ? place.path : NULL;
        if (cli->json)
            add_object(list, m, path);
        else if (!rc)
            add_row(&table, m, path);
    }
    char *text = cli->json && !rc ? cJSON_PrintUnformatted(root) : NULL;
    if (text)
        cli_puts(cli, text);
    else if (cli->json && !rc)
        rc = err_set(err, -ENOMEM, "no memory for the list");
    free(text);
    cJSON_Delete(root);
    table_print(&table, cli->no_legend || cli->json);
    return rc;
}

static int list_models(struct cli *cli) {
    struct catalog catalog;
    struct err err;
    char cache[PATH_MAX];
    int rc = cli->to ? 0 : place_folder(cache, &err);
    if (!rc)
        rc = catalog_open(&catalog, cli->catalog, &err);
    if (rc)
        return cli_fail(cli, CLI_FAILED, "%s", err.text);
    rc = show(cli, &catalog, cli->to ? cli->to : cache, &err);
    catalog_close(&catalog);
    return rc ? cli_fail(cli, CLI_FAILED, "%s", err.text) : CLI_OK;
}

int verb_models(struct cli *cli) {
    if (cli->n_words == 0)
        return list_models(cli);
    if (strcmp(cli->words[0], "inspect") != 0 || cli->n_words != 2)
        return cli_fail(cli, CLI_USAGE, "models, or models inspect FILE; see octarc help models");
    return cli_become_octarcd(cli, "--inspect", cli->words[1]);
}
