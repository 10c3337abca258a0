/* SPDX-License-Identifier: Apache-2.0 */
/* pull: have a model of the catalog, of the web or of a local file in the folder of models. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli.h"
#include "client/pull/catalog.h"
#include "client/pull/fetch.h"
#include "octarc/error.h"

#define INDEX_DEFAULT "https://pypi.org/simple/"

/* What is asked for, whatever the word was: a manifest, of which some is not known. */
struct wish {
    struct manifest manifest;
    const char *path; /* a local file; NULL: the manifest's source */
    uint32_t n_files; /* of the model */
};

static bool is_url(const char *word) {
    return !strncmp(word, "https://", 8) || !strncmp(word, "http://", 7);
}

static bool ends_in(const char *word, const char *end) {
    const size_t n = strlen(word), m = strlen(end);
    return n > m && !strcmp(word + n - m, end);
}

/* The last name of an address or a path, without what follows a question mark. */
static int name_of(const char *word, bool url, char out[MANIFEST_NAME_MAX], struct err *err) {
    const size_t all = url ? strcspn(word, "?#") : strlen(word);
    size_t begin = all;
    while (begin > 0 && word[begin - 1] != '/')
        begin--;
    const size_t n = all - begin;
    if (n == 0 || n >= MANIFEST_NAME_MAX || word[begin] == '.' || (url && begin < 9))
        return err_set(err, -EINVAL, "'%.200s' does not end in the name of a file", word);
    memcpy(out, word + begin, n);
    out[n] = 0;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)out[i] < ' ' || out[i] == 0x7f)
            return err_set(err, -EINVAL, "a file's name with control characters");
    return 0;
}

static int of_catalog(const struct cli *cli, struct wish *wish, struct err *err) {
    struct catalog catalog;
    const char *name = cli->words[0];
    int rc = catalog_open(&catalog, cli->catalog, err);
    if (rc)
        return rc;
    const struct manifest *found = catalog_find(&catalog, name);
    if (found)
        wish->manifest = *found;
    else
        rc = err_set(err, -ENOENT, "the catalog %s has no model '%.60s'; octarc models lists them",
                     catalog.folder, name);
    catalog_close(&catalog);
    return rc;
}

/* A name, an address, a manifest's path or a file's: in this order. */
static int find_wish(const struct cli *cli, struct wish *wish, struct err *err) {
    const char *word = cli->words[0];
    struct manifest *m = &wish->manifest;
    int rc;
    if (is_url(word)) {
        if (strlen(word) >= sizeof m->url)
            return err_set(err, -EINVAL, "an address of more than %zu bytes", sizeof m->url - 1);
        snprintf(m->url, sizeof m->url, "%s", word);
        rc = name_of(word, true, m->file, err);
    } else if (!strchr(word, '/') && access(word, F_OK) != 0) {
        rc = of_catalog(cli, wish, err);
    } else if (ends_in(word, ".json")) {
        rc = catalog_read(m, word, err);
    } else {
        wish->path = word;
        rc = strlen(word) < PATH_MAX
                 ? name_of(word, false, m->file, err)
                 : err_set(err, -ENAMETOOLONG, "a path of more than %d bytes", PATH_MAX - 1);
    }
    /* A manifest tells of all files, a name of how many there should be. */
    wish->n_files = *m->sha256 || rc ? 1 + m->n_further : parts_count(m->file, strlen(m->file));
    if (!rc && cli->sha256 && wish->n_files > 1)
        return err_set(err, -EINVAL, "--sha256 is of one file, %s is one of %u", m->file,
                       wish->n_files);
    if (!rc && cli->sha256 && *m->sha256 && strcmp(m->sha256, cli->sha256) != 0)
        rc = err_set(err, -EINVAL, "the catalog gives %s another sha256: %s", m->name, m->sha256);
    if (!rc && cli->sha256)
        snprintf(m->sha256, sizeof m->sha256, "%s", cli->sha256);
    if (!rc && !*m->name)
        memcpy(m->name, m->file, sizeof m->name);
    return rc;
}

static int fetch(const struct cli *cli, const struct wish *wish, struct place *place,
                 struct err *err) {
    const struct manifest *m = &wish->manifest;
    const char *set = getenv("PIP_INDEX_URL"), *index = cli->index ? cli->index : set;
    if (wish->path)
        return fetch_file(place, wish->path, err);
    if (*m->url)
        return fetch_url(place, m->url, m->bytes, err);
    return fetch_wheels(place, m, index && *index ? index : INDEX_DEFAULT, err);
}

/* A model begins with four letters; a page that says what went wrong does not. */
static int check_kind(struct place *place, struct err *err) {
    char head[4] = "";
    if (!ends_in(place->path, ".gguf"))
        return 0;
    if (pread(place->fd, head, sizeof head, 0) == sizeof head && !memcmp(head, "GGUF", 4))
        return 0;
    if (ftruncate(place->fd, 0) < 0)
        return err_set(err, -errno, "cannot write %s: %s", place->part, strerror(errno));
    return err_set(err, -EBADMSG, "what came is no GGUF file");
}

static int pull(const struct cli *cli, struct wish *wish, struct place *place, struct err *err) {
    struct manifest *m = &wish->manifest;
    int rc = place_open(place, err);
    if (rc)
        return rc;
    rc = fetch(cli, wish, place, err);
    if (!rc)
        rc = check_kind(place, err);
    if (!rc)
        rc = place_check(place, m->bytes, m->sha256, m->sha256, err);
    if (!rc)
        rc = place_finish(place, m->sha256, err);
    if (rc && lseek(place->fd, 0, SEEK_END) == 0) { /* nothing came: nothing is left */
        unlink(place->part);
        unlink(place->from);
    }
    place_close(place);
    return rc;
}

/* What is asked for of one file of several; path: room for its path. */
static void wish_of(const struct wish *wish, uint32_t file, struct wish *one, char path[PATH_MAX]) {
    const struct manifest *m = &wish->manifest;
    *one = *wish;
    if (file == 0)
        return;
    parts_name(m->file, strlen(m->file), file, one->manifest.file);
    if (*m->url)
        parts_name(m->url, strcspn(m->url, "?#"), file, one->manifest.url);
    if (wish->path) {
        parts_name(wish->path, strlen(wish->path), file, path);
        one->path = path;
    }
    one->manifest.bytes = file <= m->n_further ? m->further[file - 1].bytes : 0;
    one->manifest.sha256[0] = 0;
    if (file <= m->n_further)
        memcpy(one->manifest.sha256, m->further[file - 1].sha256, SHA256_TEXT);
}

/* Have one file; *bytes grows by what it has. */
static int have(const struct cli *cli, struct wish *one, const char *folder, struct place *place,
                uint64_t *bytes, struct err *err) {
    struct stat st;
    const struct manifest *m = &one->manifest;
    int rc = place_init(place, folder, m->file, err);
    /* Without a checksum what is there may be anything, and is fetched again. */
    if (!rc && (!*m->sha256 || !place_has(place, m->bytes, m->sha256)))
        rc = pull(cli, one, place, err);
    if (!rc && stat(place->path, &st) == 0)
        *bytes += (uint64_t)st.st_size;
    return rc;
}

/* All files, the first one last: where that one is they all are.  *first and *place become what it
 * is and where it lies. */
static int have_all(const struct cli *cli, const struct wish *wish, const char *folder,
                    struct wish *first, struct place *place, uint64_t *bytes, struct err *err) {
    char path[PATH_MAX];
    struct wish one;
    struct place other;
    int rc = 0;
    *bytes = 0;
    for (uint32_t i = wish->n_files; i-- > 0 && !rc;) {
        wish_of(wish, i, &one, path);
        rc = have(cli, &one, folder, i ? &other : place, bytes, err);
    }
    *first = one;
    return rc;
}

static int print_place(struct cli *cli, const struct wish *wish, const struct place *place,
                       uint64_t bytes) {
    if (!cli->json)
        return cli_puts(cli, place->path);
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "name", wish->manifest.name);
    cJSON_AddStringToObject(object, "path", place->path);
    cJSON_AddNumberToObject(object, "bytes", (double)bytes);
    if (wish->n_files > 1)
        cJSON_AddNumberToObject(object, "files", wish->n_files);
    if (*wish->manifest.sha256)
        cJSON_AddStringToObject(object, "sha256", wish->manifest.sha256);
    char *text = cJSON_PrintUnformatted(object);
    const int rc = text ? cli_puts(cli, text) : -1;
    free(text);
    cJSON_Delete(object);
    return rc;
}

int verb_pull(struct cli *cli) {
    struct wish wish = {.path = NULL}, first;
    struct place place;
    uint64_t bytes;
    struct err err;
    char folder[PATH_MAX];
    if (cli->sha256 && (strlen(cli->sha256) != SHA256_TEXT - 1 ||
                        strspn(cli->sha256, "0123456789abcdef") != SHA256_TEXT - 1))
        return cli_fail(cli, CLI_USAGE, "--sha256 must be 64 digits of lower-case hexadecimal");
    int rc = find_wish(cli, &wish, &err);
    if (!rc && cli->to)
        snprintf(folder, sizeof folder, "%s", cli->to);
    else if (!rc)
        rc = place_folder(folder, &err);
    if (rc)
        return cli_fail(cli, CLI_FAILED, "%s", err.text);
    rc = have_all(cli, &wish, folder, &first, &place, &bytes, &err);
    if (rc)
        return cli_fail(cli, CLI_FAILED, "%s: %s", wish.manifest.name, err.text);
    print_place(cli, &first, &place, bytes);
    return CLI_OK;
}
