/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/pressure_source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/util/available.h"
#include "daemon/util/log.h"
#include "octarc/error.h"

#define WINDOW_US  2000000u /* the only window that a service without privileges may ask for */
#define TEXT_BYTES 512u

static int refuse(const char *path, int rc, struct err *err) {
    return err_set(err, rc, "memory pressure cannot be watched at %.400s: %s", path, strerror(-rc));
}

/* --- opening --- */

static int open_socket(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path));
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd < 0 ? -errno : fd;
    const int rc = -errno;
    close(fd);
    return rc;
}

/* A fifo is opened for both, so that it never ends, whoever writes to it. */
static int open_watched(struct pressure_source *s) {
    struct stat st;
    if (stat(s->path, &st) < 0)
        return -errno;
    s->stream = S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode);
    if (S_ISSOCK(st.st_mode))
        return open_socket(s->path);
    const int fd = open(s->path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    return fd < 0 ? -errno : fd;
}

static int write_first(int fd, const void *bytes, size_t n) {
    const ssize_t written = n ? write(fd, bytes, n) : 0;
    return written == (ssize_t)n ? 0 : written < 0 ? -errno : -EIO;
}

static void on_sign(uv_poll_t *poll, int status, int what) {
    struct pressure_source *s = poll->data;
    char rest[TEXT_BYTES];
    ssize_t n = 1;
    while (s->stream && status >= 0 && (n = read(s->fd, rest, sizeof rest)) > 0)
        ;
    /* A control group that is gone, or the other end of a socket, says nothing any more. */
    if (status < 0 || n == 0 || what & UV_DISCONNECT) {
        uv_poll_stop(poll);
        return;
    }
    s->stalled = true;
    if (s->told)
        s->told(s->user);
}

static int watch(struct pressure_source *s, uv_loop_t *loop, int fd) {
    const int rc = uv_poll_init(loop, &s->poll, fd); /* -EPERM: nothing can wait for it */
    if (rc < 0) {
        close(fd);
        return rc;
    }
    s->fd = fd;
    s->poll.data = s;
    return uv_poll_start(&s->poll, s->stream ? UV_READABLE : UV_PRIORITIZED, on_sign);
}

/* As systemd says it.  A plain file is read. */
static int open_told(struct pressure_source *s, uv_loop_t *loop, struct err *err) {
    const char *first = getenv("MEMORY_PRESSURE_WRITE");
    char bytes[TEXT_BYTES];
    size_t n = 0;
    int rc = pressure_decode(first ? first : "", bytes, sizeof bytes, &n);
    if (rc < 0)
        return err_set(err, rc, "$MEMORY_PRESSURE_WRITE is not base64 of at most %zu bytes",
                       sizeof bytes);
    const int fd = open_watched(s);
    if (fd < 0)
        return refuse(s->path, fd, err);
    rc = write_first(fd, bytes, n);
    if (rc < 0) {
        close(fd);
        return refuse(s->path, rc, err);
    }
    rc = watch(s, loop, fd);
    return rc < 0 && rc != -EPERM ? refuse(s->path, rc, err) : 0;
}

/* The kernel's own file: with a trigger, or else to be read. */
static bool open_kernel(struct pressure_source *s, uv_loop_t *loop, uint32_t percent) {
    char trigger[64];
    if (access(s->path, R_OK) < 0)
        return false;
    const int n =
        snprintf(trigger, sizeof trigger, "some %u %u", percent * (WINDOW_US / 100), WINDOW_US);
    const int fd = open(s->path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return true;
    if (write_first(fd, trigger, (size_t)n + 1) < 0)
        close(fd);
    else
        watch(s, loop, fd);
    return true;
}

/* memory.pressure of the group that this process is in, where groups are the unified ones. */
static bool own_group(char *path, size_t size) {
    char line[PATH_MAX];
    bool found = false;
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file && !found && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        if (!strncmp(line, "0::/", 4) && line[4])
            found = snprintf(path, size, "/sys/fs/cgroup%s/memory.pressure", line + 3) < (int)size;
    }
    if (file)
        fclose(file);
    return found;
}

static void find_kernel(struct pressure_source *s, uv_loop_t *loop, uint32_t percent) {
    if (own_group(s->path, sizeof s->path) && open_kernel(s, loop, percent))
        return;
    snprintf(s->path, sizeof s->path, "/proc/pressure/memory");
    if (!open_kernel(s, loop, percent))
        s->path[0] = '\0';
}

int pressure_source_open(struct pressure_source *s, uv_loop_t *loop, const char *where,
                         uint32_t percent, void (*told)(void *user), void *user, struct err *err) {
    const char *watched = getenv("MEMORY_PRESSURE_WATCH");
    struct err why = {{0}};
    *s = (struct pressure_source){.fd = -1, .told = told, .user = user};
    if (strcmp(where, "auto") != 0) {
        snprintf(s->path, sizeof s->path, "%s", where);
        return access(s->path, R_OK) < 0 ? refuse(s->path, -errno, err) : 0;
    }
    if (!watched || !watched[0]) {
        find_kernel(s, loop, percent);
        return 0;
    }
    s->off = !strcmp(watched, "/dev/null");
    if (s->off)
        return 0;
    snprintf(s->path, sizeof s->path, "%s", watched);
    if (open_told(s, loop, &why) < 0) {
        log_warning("%s; the kernel is asked instead", why.text);
        s->stream = false;
        find_kernel(s, loop, percent);
    }
    return 0;
}

void pressure_source_finish(struct pressure_source *s) {
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

/* --- samples --- */

/* A file that another one takes the place of is looked for anew each time. */
static double read_stall(const struct pressure_source *s) {
    char text[TEXT_BYTES];
    double percent = 0;
    if (!s->path[0] || s->stream)
        return 0;
    const int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    const ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
    if (fd >= 0)
        close(fd);
    return n > 0 && pressure_read(text, (size_t)n, &percent) == 0 ? percent : 0;
}

void pressure_source_sample(struct pressure_source *s, struct pressure_sample *sample) {
    *sample = (struct pressure_sample){.stalled = s->stalled,
                                       .stall_percent = read_stall(s),
                                       .available_bytes = memory_available()};
    s->stalled = false;
}
