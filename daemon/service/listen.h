/* SPDX-License-Identifier: Apache-2.0 */
/* listen.h - the service's own socket, where systemd passes none. */
#ifndef OCTARC_SERVICE_LISTEN_H
#define OCTARC_SERVICE_LISTEN_H

#include <limits.h>
#include <sys/types.h>

struct err;

/* Which socket lies at a path. */
struct listen_id {
    dev_t device;
    ino_t inode;
};

#define LISTEN_BACKLOG 256

/* /run/octarc/octarc.sock for root, $XDG_RUNTIME_DIR/octarc/octarc.sock else.  -ENOENT: err says
 * what is missing. */
int listen_default_path(char path[PATH_MAX], struct err *err);

/* Bind, mode 0660, and listen; the descriptor.  *id is set.  A socket that nobody serves is
 * replaced.  The socket is given to `group` where there is such a group and this process may; NULL
 * or empty: it keeps the process's own.
 *   -ENAMETOOLONG   -EADDRINUSE: a server answers there  -EEXIST: something else is there
 *   or what the system said; err names the path */
int listen_open(const char *path, const char *group, struct listen_id *id, struct err *err);
/* Remove the path while it is still that socket and no later server's. */
void listen_remove(const char *path, const struct listen_id *id);

#endif
