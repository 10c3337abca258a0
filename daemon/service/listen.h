/* SPDX-License-Identifier: Apache-2.0 */
/* listen.h - the service's own socket, where systemd passes none. */
#ifndef OCTARC_SERVICE_LISTEN_H
#define OCTARC_SERVICE_LISTEN_H

#include <limits.h>

struct err;

#define LISTEN_BACKLOG 256

/* /run/octarc/octarc.sock for root, $XDG_RUNTIME_DIR/octarc/octarc.sock else.  -ENOENT: err says
 * what is missing. */
int listen_default_path(char path[PATH_MAX], struct err *err);

/* Bind, mode 0660, and listen; the descriptor.  A socket that nobody serves is replaced.
 *   -ENAMETOOLONG  -EADDRINUSE: a server answers there  -EEXIST: something else is there
 *   or what the system said; err names the path */
int listen_open(const char *path, struct err *err);
/* Remove the path if it is still the socket behind fd. */
void listen_remove(const char *path, int fd);

#endif
