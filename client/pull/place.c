/* SPDX-License-Identifier: Apache-2.0 */
#include "client/pull/place.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/pull/bar.h"
#include "octarc/error.h"

#define CHUNK (1u << 20)
#define TRIES 8 /* to lock the file that has the name, and not one that has just got its place */

int place_folder(char folder[PATH_MAX], struct err *err) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n;
    if (cache && *cache)
        n = snprintf(folder, PATH_MAX, "%s/octarc/models", cache);
    else if (home && *home)
        n = snprintf(folder, PATH_MAX, "%s/.cache/octarc/models", home);
    else
        return err_set(err, -ENOENT, "neither XDG_CACHE_HOME nor HOME is set; --to names a folder");
    return n < PATH_MAX ? 0 : err_set(err, -ENAMETOOLONG, "the path of the cache is too long");
}

int place_init(struct place *p, const char *folder, const char *file, struct err *err) {
    *p = (struct place){.fd = -1};
    if (snprintf(p->path, PATH_MAX, "%s/%s", folder, file) >= PATH_MAX ||
        snprintf(p->part, PATH_MAX, "%s/.%s.part", folder, file) >= PATH_MAX ||
        snprintf(p->from, PATH_MAX, "%s/.%s.from", folder, file) >= PATH_MAX ||
        snprintf(p->stamp, PATH_MAX, "%s/%s.ok", folder, file) >= PATH_MAX)
        return err_set(err, -ENAMETOOLONG, "the path %s/%s is too long", folder, file);
    return 0;
}

static int make_folders(const char *path, struct err *err) {
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(folder, 0777) < 0 && errno != EEXIST)
            return err_set(err, -errno, "cannot make the folder %s: %s", folder, strerror(errno));
        *slash = '/';
    }
    return 0;
}

int place_open(struct place *p, struct err *err) {
    struct stat open_one, named;
    int rc = make_folders(p->path, err);
    for (int i = 0; i < TRIES && rc == 0; i++) {
        p->fd = open(p->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (p->fd < 0)
            return err_set(err, -errno, "cannot write %s: %s", p->part, strerror(errno));
        if (flock(p->fd, LOCK_EX | LOCK_NB) < 0)
            rc = err_set(err, -EBUSY, "another pull has %s", p->part);
        else if (fstat(p->fd, &open_one) == 0 && stat(p->part, &named) == 0 &&
                 open_one.st_ino == named.st_ino)
            return 0;
        place_close(p);
    }
    return rc ? rc : err_set(err, -EBUSY, "others have %s again and again", p->part);
}

void place_close(struct place *p) {
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}

/* --- where it is from --- */

static bool take_line(FILE *f, char *out, size_t size) {
    if (!fgets(out, (int)size, f))
        return false;
    char *end = strchr(out, '\n');
    if (!end)
        return false;
    *end = 0;
    return true;
}

void place_read_note(const struct place *p, const char *source, struct place_note *note) {
    struct place_note read = {.parts = 0};
    char counts[64];
    FILE *f = fopen(p->from, "re");
    memset(note, 0, sizeof *note);
    snprintf(note->source, sizeof note->source, "%s", source);
    if (!f)
        return;
    if (take_line(f, read.source, sizeof read.source) && !strcmp(read.source, source) &&
        take_line(f, read.validator, sizeof read.validator) &&
        take_line(f, counts, sizeof counts) &&
        sscanf(counts, "%" SCNu32 " %" SCNu64, &read.parts, &read.parts_bytes) == 2)
        *note = read;
    fclose(f);
}

int place_write_note(const struct place *p, const struct place_note *note, struct err *err) {
    FILE *f = fopen(p->from, "we");
    bool failed = !f;
    if (f) {
        failed = fprintf(f, "%s\n%s\n%" PRIu32 " %" PRIu64 "\n", note->source, note->validator,
                         note->parts, note->parts_bytes) < 0;
        failed = fclose(f) != 0 || failed;
    }
    return failed ? err_set(err, -errno, "cannot write %s: %s", p->from, strerror(errno)) : 0;
}

/* --- whether it is right --- */

static int digest(int fd, const char *what, uint64_t bytes, char out[SHA256_TEXT]) {
    struct sha256 sha;
    struct bar bar;
    uint64_t at = 0;
    ssize_t got = 1;
    char *chunk = malloc(CHUNK);
    sha256_init(&sha);
    bar_begin(&bar, what, bytes, 0);
    while (chunk && got > 0) {
        got = pread(fd, chunk, CHUNK, (off_t)at);
        if (got < 0 && errno == EINTR)
            got = 1;
        else if (got > 0)
            sha256_add(&sha, chunk, (size_t)got);
        at += got > 0 ? (uint64_t)got : 0;
        bar_show(&bar, at);
    }
    bar_end(&bar, at);
    const int rc = !chunk ? -ENOMEM : got < 0 ? -errno : 0;
    free(chunk);
    const int made = sha256_text(&sha, out);
    return rc ? rc : made;
}

static void stamp_text(const struct stat *st, const char *sha256, char *out, size_t size) {
    const uint64_t ns = (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
    snprintf(out, size, "%s %" PRIu64 " %" PRIu64, sha256, (uint64_t)st->st_size, ns);
}

/* It is only a shortcut. */
static void write_stamp(const struct place *p, const struct stat *st, const char *sha256) {
    char text[160];
    FILE *f = fopen(p->stamp, "we");
    if (!f)
        return;
    stamp_text(st, sha256, text, sizeof text);
    fputs(text, f);
    fclose(f);
}

bool place_has(const struct place *p, uint64_t bytes, const char *sha256) {
    struct stat st;
    char want[160], stamp[160] = "", got[SHA256_TEXT];
    const int fd = open(p->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool right = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
                 (bytes == 0 || (uint64_t)st.st_size == bytes);
    if (right && *sha256) {
        FILE *f = fopen(p->stamp, "re");
        stamp_text(&st, sha256, want, sizeof want);
        if (f) {
            stamp[fread(stamp, 1, sizeof stamp - 1, f)] = 0;
            fclose(f);
        }
        if (strcmp(stamp, want) != 0) {
            right = digest(fd, "checking", (uint64_t)st.st_size, got) == 0 && !strcmp(got, sha256);
            if (right)
                write_stamp(p, &st, sha256);
        }
    }
    if (fd >= 0)
        close(fd);
    return right;
}

/* Nothing of it may be gone on with. */
static void forget(const struct place *p) {
    if (ftruncate(p->fd, 0) == 0)
        unlink(p->from);
}

int place_check(struct place *p, uint64_t bytes, const char *sha256, char got[SHA256_TEXT],
                struct err *err) {
    struct stat st;
    char is[SHA256_TEXT];
    const char *file = strrchr(p->path, '/') + 1;
    if (fstat(p->fd, &st) < 0)
        return err_set(err, -errno, "cannot examine %s: %s", p->part, strerror(errno));
    if (bytes && (uint64_t)st.st_size != bytes) {
        forget(p);
        return err_set(err, -EBADMSG, "%s has %" PRIu64 " bytes, not %" PRIu64, file,
                       (uint64_t)st.st_size, bytes);
    }
    const int rc = digest(p->fd, "checking", (uint64_t)st.st_size, is);
    if (rc)
        return err_set(err, rc, "cannot read %s: %s", p->part, strerror(-rc));
    if (*sha256 && strcmp(is, sha256) != 0) {
        forget(p);
        return err_set(err, -EBADMSG, "%s has the sha256 %s, not %s", file, is, sha256);
    }
    if (got)
        memcpy(got, is, SHA256_TEXT);
    return 0;
}

int place_finish(struct place *p, const char *sha256, struct err *err) {
    struct stat st;
    if (fsync(p->fd) < 0 || fstat(p->fd, &st) < 0)
        return err_set(err, -errno, "cannot write %s: %s", p->part, strerror(errno));
    if (rename(p->part, p->path) < 0)
        return err_set(err, -errno, "cannot move %s to %s: %s", p->part, p->path, strerror(errno));
    unlink(p->from);
    write_stamp(p, &st, sha256);
    place_close(p);
    return 0;
}
