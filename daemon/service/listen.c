/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/listen.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/util/log.h"
#include "octarc/error.h"

int listen_default_path(char path[PATH_MAX], struct err *err) {
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (geteuid() == 0)
        runtime = "/run";
    else if (!runtime || !*runtime)
        return err_set(err, -ENOENT, "XDG_RUNTIME_DIR is not set; name a socket with --listen");
    snprintf(path, PATH_MAX, "%s/octarc/octarc.sock", runtime);
    return 0;
}

/* The folder of the default path may not be there yet. */
static void make_folder(const char *path) {
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (!slash || slash == folder)
        return;
    *slash = 0;
    mkdir(folder, 0755); /* bind says what is wrong, if anything is */
}

/* 0: free to bind. */
static int clear_path(const struct sockaddr_un *address, struct err *err) {
    struct stat st;
    const char *path = address->sun_path;
    if (lstat(path, &st) < 0)
        return errno == ENOENT
                   ? 0
                   : err_set(err, -errno, "cannot use the socket %s: %s", path, strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, -EEXIST, "cannot listen on %s: it exists and is no socket", path);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set(err, -errno, "cannot make a socket: %s", strerror(errno));
    const int rc = connect(fd, (const struct sockaddr *)address, sizeof *address);
    const int why = errno;
    close(fd);
    if (rc == 0 || why == EAGAIN)
        return err_set(err, -EADDRINUSE, "another server answers on %s", path);
    if (why != ECONNREFUSED)
        return err_set(err, -why, "cannot use the socket %s: %s", path, strerror(why));
    if (unlink(path) < 0)
        return err_set(err, -errno, "cannot replace the stale socket %s: %s", path,
                       strerror(errno));
    return 0;
}

/* Without the group the socket still works, for fewer people: no reason to fail. */
static void give_to_group(const char *path, const char *group) {
    if (!group || !*group)
        return;
    const struct group *entry = getgrnam(group);
    if (!entry)
        log_debug("%s: there is no group %s; members of group %u may connect", path, group,
                  (unsigned)getegid());
    else if (lchown(path, (uid_t)-1, entry->gr_gid) < 0)
        log_info("%s: cannot be given to the group %s: %s", path, group, strerror(errno));
}

int listen_open(const char *path, const char *group, struct listen_id *id, struct err *err) {
    struct stat st = {0};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return err_set(err, -ENAMETOOLONG, "the socket path has %zu bytes, %zu are allowed: %.200s",
                       strlen(path), sizeof address.sun_path - 1, path);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    make_folder(path);
    int rc = clear_path(&address, err);
    if (rc < 0)
        return rc;
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set(err, -errno, "cannot make a socket: %s", strerror(errno));
    const mode_t mask = umask(0117);
    rc = bind(fd, (const struct sockaddr *)&address, sizeof address);
    const int why = errno;
    umask(mask);
    if (rc < 0 || listen(fd, LISTEN_BACKLOG) < 0) {
        rc = rc < 0 ? -why : -errno;
        close(fd);
        return err_set(err, rc, "cannot listen on %s: %s", path, strerror(-rc));
    }
    give_to_group(path, group);
    lstat(path, &st);
    *id = (struct listen_id){st.st_dev, st.st_ino};
    return fd;
}

void listen_remove(const char *path, const struct listen_id *id) {
    struct stat st;
    if (lstat(path, &st) == 0 && st.st_dev == id->device && st.st_ino == id->inode)
        unlink(path);
}
