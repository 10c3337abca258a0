/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_parts.c - a model that is split over several files: their headers as one.
 *
 * The first part has the keys; all have tensors.  Each part says which one it is and of how many,
 * and how many tensors there are in all; what only a part of another model would say is refused. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "models/gguf_file.h"
#include "octarc/error.h"

/* --- Names --------------------------------------------------------------------------------- */

#define SUFFIX       "-00001-of-00002.gguf"
#define SUFFIX_BYTES (sizeof SUFFIX - 1)

static bool read_digits(const char *at, uint32_t *number) {
    *number = 0;
    for (int i = 0; i < 5; i++) {
        if (at[i] < '0' || at[i] > '9')
            return false;
        *number = *number * 10 + (uint32_t)(at[i] - '0');
    }
    return true;
}

/* What a path that ends as a part's does says of it. */
static bool read_suffix(const char *path, uint32_t *number, uint32_t *of) {
    const size_t n = strlen(path);
    const char *at = path + n - SUFFIX_BYTES;
    return n > SUFFIX_BYTES && at[0] == '-' && read_digits(at + 1, number) &&
           !memcmp(at + 6, "-of-", 4) && read_digits(at + 10, of) && !strcmp(at + 15, ".gguf");
}

static int part_path(const char *path, uint32_t part, char out[PATH_MAX]) {
    uint32_t number, of;
    if (!read_suffix(path, &number, &of) || strlen(path) >= PATH_MAX)
        return -EINVAL;
    snprintf(out, PATH_MAX, "%.*s-%05u-of-%05u.gguf", (int)(strlen(path) - SUFFIX_BYTES), path,
             part + 1, of);
    return 0;
}

void gguf_part_name(const char *path, uint32_t part, char out[PATH_MAX]) {
    if (part == 0)
        snprintf(out, PATH_MAX, "%s", path);
    else if (part_path(path, part, out))
        snprintf(out, PATH_MAX, "%.4000s (part %u)", path, part + 1);
}

/* --- What a part says of itself ------------------------------------------------------------ */

struct split {
    uint32_t no, count, n_tensors; /* count 1: a whole file, which says nothing of the others */
};

static int read_split(const struct gguf *g, struct split *split, struct err *err) {
    struct split s = {.count = 1};
    int rc = gguf_has(g, "split.count") ? gguf_u32(g, "split.count", &s.count, err) : 0;
    if (!rc && s.count > GGUF_PARTS_MAX)
        rc = err_set(err, -EINVAL,
                     "%s: key 'split.count' is %u; a model of at most %u parts is read", g->name,
                     s.count, GGUF_PARTS_MAX);
    if (!rc && s.count > 1)
        rc = gguf_u32(g, "split.no", &s.no, err);
    if (!rc && s.count > 1)
        rc = gguf_u32(g, "split.tensors.count", &s.n_tensors, err);
    if (rc)
        return rc == -ENOENT ? -EINVAL : rc;
    s.count = s.count ? s.count : 1; /* 0: parts that were put together again */
    *split = s;
    return 0;
}

static int read_first(struct gguf **gguf, struct split *split, int fd, const char *path,
                      struct err *err) {
    char first[PATH_MAX];
    struct gguf *g = NULL;
    int rc = gguf_read_file(&g, fd, path, err);
    if (!rc)
        rc = read_split(g, split, err);
    if (!rc && split->no != 0) {
        const bool named = !part_path(path, 0, first);
        rc = err_set(
            err, -EINVAL,
            "%s: key 'split.no' is %u, so this is part %u of %u of a model; open the first%s%s",
            path, split->no, split->no + 1, split->count, named ? ", " : "", named ? first : "");
    }
    if (rc)
        gguf_close(g);
    else
        *gguf = g;
    return rc;
}

/* Bytes of a value that are compared; of an array's elements none. */
static uint64_t value_bytes(const struct gguf *g, const struct gguf_key *k) {
    uint64_t n = 0;
    if (k->type == GGUF_STRING)
        memcpy(&n, g->image + k->value, sizeof n);
    return k->type == GGUF_STRING ? sizeof n + n : gguf_type_bytes[k->type];
}

static bool same_value(const struct gguf *a, const struct gguf_key *x, const struct gguf *b,
                       const struct gguf_key *y) {
    return x->type == y->type && x->element == y->element && x->count == y->count &&
           value_bytes(a, x) == value_bytes(b, y) &&
           !memcmp(a->image + x->value, b->image + y->value, value_bytes(a, x));
}

/* How a file is laid out is its own matter. */
static bool is_of_file(const uint8_t *name, uint64_t n) {
    static const char alignment[] = "general.alignment";
    return (n > 6 && !memcmp(name, "split.", 6)) ||
           (n == sizeof alignment - 1 && !memcmp(name, alignment, n));
}

static int check_keys(const struct gguf *whole, const struct gguf *part, struct err *err) {
    for (size_t i = 0; i < part->n_keys; i++) {
        const struct gguf_key *k = &part->keys[i];
        const uint8_t *name = gguf_key_name(part, k);
        const struct gguf_key *first =
            is_of_file(name, k->n) ? NULL : gguf_find_key(whole, name, k->n);
        if (first && !same_value(whole, first, part, k))
            return err_set(
                err, -EINVAL,
                "%s: %s is not what it is in the first part, %s: a part of another model",
                part->name, gguf_key_label(part, k).text, whole->name);
    }
    return 0;
}

static int check_part(const struct gguf *whole, const struct split *first, const struct gguf *part,
                      uint32_t number, struct err *err) {
    struct split s;
    const int rc = read_split(part, &s, err);
    if (rc)
        return rc;
    if (s.count != first->count)
        return err_set(err, -EINVAL, "%s: key 'split.count' is %u; the first part, %s, says %u",
                       part->name, s.count, whole->name, first->count);
    if (s.no != number)
        return err_set(err, -EINVAL, "%s: key 'split.no' is %u; %u was expected in part %u of %u",
                       part->name, s.no, number, number + 1, first->count);
    if (s.n_tensors != first->n_tensors)
        return err_set(err, -EINVAL,
                       "%s: key 'split.tensors.count' is %u; the first part, %s, says %u: a part "
                       "of another model",
                       part->name, s.n_tensors, whole->name, first->n_tensors);
    return check_keys(whole, part, err);
}

/* --- All of them as one -------------------------------------------------------------------- */

static int compare_tensors(const void *a, const void *b, void *context) {
    const struct gguf *g = context;
    return strcmp(g->tensors[*(const uint32_t *)a].name, g->tensors[*(const uint32_t *)b].name);
}

int gguf_index_tensors(struct gguf *g, struct err *err) {
    for (uint32_t i = 0; i < g->n_tensors; i++)
        g->tensors_sorted[i] = i;
    if (g->n_tensors > 1) /* an empty array may be NULL, which qsort must not be given */
        qsort_r(g->tensors_sorted, g->n_tensors, sizeof *g->tensors_sorted, compare_tensors, g);
    for (size_t i = 1; i < g->n_tensors; i++) {
        const struct gguf_tensor *a = &g->tensors[g->tensors_sorted[i - 1]];
        const struct gguf_tensor *b = &g->tensors[g->tensors_sorted[i]];
        if (strcmp(a->name, b->name))
            continue;
        if (a->part != b->part)
            return err_set(err, -EINVAL, "%s: tensor '%s' occurs twice, in parts %u and %u",
                           g->name, a->name, a->part + 1, b->part + 1);
        return err_set(err, -EINVAL,
                       "%s: tensor '%s' occurs twice, at bytes %" PRIu64 " and %" PRIu64, g->name,
                       a->name, a->offset, b->offset);
    }
    return 0;
}

static int add_part(struct gguf *g, const struct gguf *part, uint32_t number, struct err *err) {
    const size_t n = g->n_tensors + part->n_tensors;
    if (n > GGUF_TENSORS_MAX)
        return err_set(err, -EINVAL, "%s: with it there are %zu tensors, at most %u are allowed",
                       part->name, n, GGUF_TENSORS_MAX);
    struct gguf_tensor *tensors = realloc(g->tensors, (n + 1) * sizeof *tensors);
    g->tensors = tensors ? tensors : g->tensors;
    void *names = realloc(g->tensor_names, (n + 1) * sizeof *g->tensor_names);
    g->tensor_names = names ? names : g->tensor_names;
    uint32_t *sorted = realloc(g->tensors_sorted, (n + 1) * sizeof *sorted);
    g->tensors_sorted = sorted ? sorted : g->tensors_sorted;
    if (!tensors || !names || !sorted)
        return err_set(err, -ENOMEM, "%s: no memory for %zu tensors", g->name, n);
    memcpy(g->tensor_names + g->n_tensors, part->tensor_names,
           part->n_tensors * sizeof *g->tensor_names);
    memcpy(g->tensors + g->n_tensors, part->tensors, part->n_tensors * sizeof *g->tensors);
    for (size_t i = g->n_tensors; i < n; i++)
        g->tensors[i].part = number;
    for (size_t i = 0; i < n; i++)
        g->tensors[i].name = g->tensor_names[i];
    g->n_tensors = n;
    g->file_bytes += part->file_bytes;
    return 0;
}

static int join(struct gguf *g, const struct split *split, const int *fds, struct err *err) {
    char name[PATH_MAX];
    g->n_parts = split->count;
    for (uint32_t i = 1; i < split->count; i++) {
        struct gguf *part = NULL;
        gguf_part_name(g->name, i, name);
        int rc = gguf_read_file(&part, fds[i], name, err);
        if (!rc)
            rc = check_part(g, split, part, i, err);
        if (!rc)
            rc = add_part(g, part, i, err);
        gguf_close(part);
        if (rc)
            return rc;
    }
    const int rc = split->count > 1 ? gguf_index_tensors(g, err) : 0;
    if (!rc && split->count > 1 && g->n_tensors != split->n_tensors)
        return err_set(err, -EINVAL,
                       "%s: key 'split.tensors.count' is %u; its %u parts have %zu tensors",
                       g->name, split->n_tensors, split->count, g->n_tensors);
    return rc;
}

/* By which the other parts are found. */
static int check_name(const char *path, const struct split *split, struct err *err) {
    uint32_t number, of;
    if (split->count == 1 || (read_suffix(path, &number, &of) && number == 1 && of == split->count))
        return 0;
    return err_set(err, -EINVAL,
                   "%s: key 'split.count' is %u, so its name should end in -00001-of-%05u.gguf, by "
                   "which the other parts are found",
                   path, split->count, split->count);
}

int gguf_open_parts(struct gguf **gguf, const int *fds, uint32_t n, const char *name,
                    struct err *err) {
    struct gguf *g = NULL;
    struct split split;
    int rc = read_first(&g, &split, fds[0], name, err);
    if (rc)
        return rc;
    if (n == 1)
        rc = check_name(name, &split, err);
    if (!rc && split.count != n)
        rc = err_set(err, -EINVAL, "%s: key 'split.count' is %u; %u part%s given", name,
                     split.count, n, n == 1 ? " was" : "s were");
    if (!rc)
        rc = join(g, &split, fds, err);
    if (rc)
        gguf_close(g);
    else
        *gguf = g;
    return rc;
}

int gguf_open(struct gguf **gguf, int fd, const char *name, struct err *err) {
    return gguf_open_parts(gguf, &fd, 1, name, err);
}

/* --- By path ------------------------------------------------------------------------------- */

static int open_file(const char *path, const char *what, struct err *err) {
    struct stat st;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set(err, -errno, "cannot open %s %s: %s", what, path, strerror(errno));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return err_set(err, -EINVAL, "%s %s is not a file", what, path);
    }
    return fd;
}

static int open_others(struct gguf_files *files, const char *path, const struct split *split,
                       struct err *err) {
    char name[PATH_MAX], what[64];
    for (uint32_t i = 1; i < split->count; i++) {
        gguf_part_name(path, i, name);
        snprintf(what, sizeof what, "part %u of %u of the model,", i + 1, split->count);
        const int fd = open_file(name, what, err);
        if (fd < 0)
            return fd;
        files->fds[files->n++] = fd;
    }
    return 0;
}

/* The others are of interest only where the first is called as one. */
static int find_others(struct gguf_files *files, const char *path, struct err *err) {
    uint32_t number, of;
    struct split split;
    struct gguf *g = NULL;
    if (!read_suffix(path, &number, &of))
        return 0;
    int rc = read_first(&g, &split, files->fds[0], path, err);
    gguf_close(g);
    if (!rc)
        rc = check_name(path, &split, err);
    return rc ? rc : open_others(files, path, &split, err);
}

int gguf_files_open(struct gguf_files *files, const char *path, struct err *err) {
    struct gguf_files f = {.n = 0};
    const int fd = open_file(path, "the model", err);
    if (fd < 0)
        return fd;
    f.fds[f.n++] = fd;
    const int rc = find_others(&f, path, err);
    if (rc)
        gguf_files_close(&f);
    else
        *files = f;
    return rc;
}

int gguf_open_path(struct gguf **gguf, const char *path, struct err *err) {
    struct gguf_files files;
    int rc = gguf_files_open(&files, path, err);
    if (rc)
        return rc;
    rc = gguf_open_parts(gguf, files.fds, files.n, path, err);
    gguf_files_close(&files);
    return rc;
}

void gguf_files_close(struct gguf_files *files) {
    for (uint32_t i = 0; i < files->n; i++)
        close(files->fds[i]);
    files->n = 0;
}
