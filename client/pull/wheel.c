/* SPDX-License-Identifier: Apache-2.0 */
#include "client/pull/wheel.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

#include "octarc/error.h"

#define CHUNK (128u << 10)

/* libzip closes what it is given, and moves its offset: a descriptor of its own file position. */
static int open_again(int fd, const char *name, struct err *err) {
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const int own = open(path, O_RDONLY | O_CLOEXEC);
    return own < 0 ? err_set(err, -errno, "%s: cannot be opened: %s", name, strerror(errno)) : own;
}

static bool is_named(const char *path, const char *member) {
    const size_t n = strlen(path), length = strlen(member);
    return n >= length && !strcmp(path + n - length, member) &&
           (n == length || path[n - length - 1] == '/');
}

static int find(struct wheel *w, const char *member, struct err *err) {
    const zip_int64_t n = zip_get_num_entries(w->archive, 0);
    bool found = false;
    for (zip_int64_t i = 0; i < n; i++) {
        const char *path = zip_get_name(w->archive, (zip_uint64_t)i, 0);
        if (!path || !is_named(path, member))
            continue;
        if (found)
            return err_set(err, -EEXIST, "%s holds more than one %s", w->name, member);
        found = true;
        w->member = (uint64_t)i;
    }
    return found ? 0 : err_set(err, -ENOENT, "%s holds no %s", w->name, member);
}

static int look(struct wheel *w, struct err *err) {
    const zip_uint64_t wanted =
        ZIP_STAT_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD | ZIP_STAT_CRC;
    zip_stat_t s;
    if (zip_stat_index(w->archive, w->member, 0, &s) || (s.valid & wanted) != wanted)
        return err_set(err, -EINVAL, "%s: its list says too little of a member", w->name);
    if (s.encryption_method != ZIP_EM_NONE ||
        (s.comp_method != ZIP_CM_STORE && s.comp_method != ZIP_CM_DEFLATE))
        return err_set(err, -ENOTSUP, "%s: a member that is encrypted or packed by method %u",
                       w->name, s.comp_method);
    w->bytes = s.size;
    return 0;
}

int wheel_open(struct wheel *wheel, int fd, const char *name, const char *member, struct err *err) {
    struct wheel made = {.name = name};
    int code = 0;
    const int own = open_again(fd, name, err);
    if (own < 0)
        return own;
    made.archive = zip_fdopen(own, ZIP_CHECKCONS, &code);
    if (!made.archive) {
        zip_error_t why;
        zip_error_init_with_code(&why, code);
        const int rc = err_set(err, code == ZIP_ER_MEMORY ? -ENOMEM : -EINVAL, "%s: %s", name,
                               zip_error_strerror(&why));
        zip_error_fini(&why);
        close(own);
        return rc;
    }
    int rc = find(&made, member, err);
    if (!rc)
        rc = look(&made, err);
    if (rc)
        zip_discard(made.archive);
    else
        *wheel = made;
    return rc;
}

/* libzip compares the length and the checksum with the archive's when it comes to the end. */
static int pass_on(const struct wheel *w, zip_file_t *file, char *chunk, wheel_sink sink,
                   void *user, struct err *err) {
    uint64_t bytes = 0;
    zip_int64_t got;
    while ((got = zip_fread(file, chunk, CHUNK)) > 0) {
        bytes += (uint64_t)got;
        const int rc = bytes > w->bytes ? 0 : sink(user, chunk, (size_t)got);
        if (rc || bytes > w->bytes)
            return rc ? rc
                      : err_set(err, -EINVAL, "%s: a member is longer than its list says", w->name);
    }
    if (got < 0)
        return err_set(err, -EINVAL, "%s: a member cannot be unpacked: %s", w->name,
                       zip_file_strerror(file));
    if (bytes != w->bytes)
        return err_set(err, -EINVAL, "%s: a member is damaged (%" PRIu64 " of %" PRIu64 " bytes)",
                       w->name, bytes, w->bytes);
    return 0;
}

int wheel_read(const struct wheel *w, wheel_sink sink, void *user, struct err *err) {
    char *chunk = malloc(CHUNK);
    if (!chunk)
        return err_set(err, -ENOMEM, "%s: no memory to unpack it", w->name);
    zip_file_t *file = zip_fopen_index(w->archive, w->member, 0);
    int rc = file ? pass_on(w, file, chunk, sink, user, err)
                  : err_set(err, -EINVAL, "%s: a member cannot be read: %s", w->name,
                            zip_strerror(w->archive));
    if (file)
        zip_fclose(file);
    free(chunk);
    return rc;
}

void wheel_close(struct wheel *wheel) {
    zip_discard(wheel->archive);
}
