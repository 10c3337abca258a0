/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/util/log.h"
#include "octarc/error.h"

/* --- the directory --- */

static int make_dir(const char *dir, struct err *err) {
    struct stat st;
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return err_set(err, -errno, "cannot make the state directory %s: %s", dir, strerror(errno));
    if (stat(dir, &st) < 0)
        return err_set(err, -errno, "cannot use the state directory %s: %s", dir, strerror(errno));
    return S_ISDIR(st.st_mode) ? 0 : err_set(err, -ENOTDIR, "%s (state_dir) is no directory", dir);
}

int state_open(struct state *s, uv_loop_t *loop, const char *dir, struct err *err) {
    const char *given = getenv("STATE_DIRECTORY");
    *s = (struct state){.loop = loop, .known = calloc(1, sizeof *s->known)};
    s->work.data = s;
    if (!s->known)
        return err_set(err, -ENOMEM, "no memory for what is known of cards");
    if (dir[0])
        snprintf(s->dir, sizeof s->dir, "%s", dir);
    else if (given)
        snprintf(s->dir, sizeof s->dir, "%.*s", (int)strcspn(given, ":"), given);
    if (!s->dir[0]) {
        log_info(
            "no state directory (key state_dir): what happens to cards is forgotten at the end");
        return 0;
    }
    const int rc = make_dir(s->dir, err);
    s->kept = rc == 0;
    return rc;
}

static int path_of(const struct state *s, const char *suffix, char *out) {
    const int n = snprintf(out, PATH_MAX, "%s/" STATE_FILE "%s", s->dir, suffix);
    return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* --- reading --- */

static int read_file(const char *path, struct buffer *text, struct err *err) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set(err, -errno, "%s", strerror(errno));
    int rc = buffer_reserve(text, STATE_BYTES_MAX + 1);
    ssize_t got = 1;
    while (rc == 0 && got > 0 && text->n <= STATE_BYTES_MAX) {
        got = read(fd, text->bytes + text->n, STATE_BYTES_MAX + 1 - text->n);
        text->n += got > 0 ? (size_t)got : 0;
    }
    if (rc == 0 && got < 0)
        rc = err_set(err, -errno, "%s", strerror(errno));
    else if (rc == 0 && text->n > STATE_BYTES_MAX)
        rc = err_set(err, -E2BIG, "more than %u bytes", STATE_BYTES_MAX);
    close(fd);
    return rc;
}

void state_load(struct state *s) {
    char path[PATH_MAX], aside[PATH_MAX];
    struct buffer text = {0};
    struct err err = {{0}};
    if (!s->kept || path_of(s, "", path) < 0 || path_of(s, ".damaged", aside) < 0)
        return;
    int rc = read_file(path, &text, &err);
    if (rc == 0)
        rc = card_file_read(s->known, text.bytes, text.n, &err);
    buffer_finish(&text);
    if (rc == 0 || rc == -ENOENT)
        return;
    const bool moved = rename(path, aside) == 0;
    log_warning("%s cannot be used: %s; %s, and what was known of cards is forgotten", path,
                err.text,
                moved ? "it was moved to " STATE_FILE ".damaged" : "it cannot be moved either");
}

const struct card *state_find(const struct state *s, const char *identity) {
    return cards_known_find(s->known, identity);
}

/* --- writing --- */

static int write_all(int fd, const struct buffer *text) {
    for (size_t at = 0; at < text->n;) {
        const ssize_t n = write(fd, text->bytes + at, text->n - at);
        if (n < 0 && errno != EINTR)
            return -errno;
        at += n > 0 ? (size_t)n : 0;
    }
    return fsync(fd) < 0 ? -errno : 0;
}

static int sync_dir(const char *dir) {
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int rc = fd < 0 || fsync(fd) < 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    return rc;
}

/* On a thread of the pool. */
static void write_work(uv_work_t *work) {
    struct state *s = work->data;
    char path[PATH_MAX], fresh[PATH_MAX];
    s->rc = path_of(s, "", path);
    if (s->rc == 0)
        s->rc = path_of(s, ".new", fresh);
    if (s->rc < 0)
        return;
    const int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    s->rc = fd < 0 ? -errno : write_all(fd, &s->text);
    if (fd >= 0)
        close(fd);
    if (s->rc == 0 && rename(fresh, path) < 0)
        s->rc = -errno;
    if (s->rc == 0)
        s->rc = sync_dir(s->dir);
}

static void begin_write(struct state *s);

static void write_done(uv_work_t *work, int status) {
    struct state *s = work->data;
    (void)status; /* never cancelled */
    s->busy = false;
    buffer_finish(&s->text);
    if (s->rc < 0 && !s->failed)
        log_warning("what is known of cards cannot be kept in %s: %s", s->dir, strerror(-s->rc));
    s->failed = s->rc < 0;
    if (s->again)
        begin_write(s);
}

static void begin_write(struct state *s) {
    s->again = false;
    if (card_file_write(s->known, &s->text) < 0 ||
        uv_queue_work(s->loop, &s->work, write_work, write_done) < 0) {
        buffer_finish(&s->text); /* the next change brings it with it */
        return;
    }
    s->busy = true;
}

static void write_soon(struct state *s) {
    if (s->busy)
        s->again = true;
    else
        begin_write(s);
}

void state_save(struct state *s, const struct card *card) {
    if (!s->kept)
        return;
    cards_known_put(s->known, card);
    write_soon(s);
}

const struct links_known *state_links(const struct state *s) {
    return &s->known->links;
}

void state_save_links(struct state *s, const struct links_known *links) {
    s->known->links = *links;
    if (s->kept)
        write_soon(s);
}

void state_finish(struct state *s) {
    buffer_finish(&s->text);
    free(s->known);
    *s = (struct state){0};
}
