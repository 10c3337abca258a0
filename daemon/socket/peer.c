/* SPDX-License-Identifier: Apache-2.0 */
/* Who is behind a connection, and what that may do. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/socket/conn.h"

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

/* SO_PEERCRED has the primary group only; the supplementary ones are asked for separately. */
static bool in_group(int fd, gid_t gid) {
    gid_t few[64], *groups = few;
    socklen_t n = sizeof few;
    bool found = false;
    int rc = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, few, &n);
    if (rc < 0 && errno == ERANGE) { /* n is what it takes */
        groups = malloc(n);
        rc = groups ? getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &n) : -1;
    }
    for (size_t i = 0; rc == 0 && i < n / sizeof *groups; i++)
        found |= groups[i] == gid;
    if (groups != few)
        free(groups);
    return found;
}

void peer_read(const struct server *server, int fd, bool admin_allowed, struct peer *peer) {
    struct ucred cred;
    socklen_t n = sizeof cred;
    /* Nobody, when the kernel will not say who. */
    *peer = (struct peer){.uid = 65534, .gid = 65534, .role = ROLE_USER};
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
        return;
    peer->uid = cred.uid;
    peer->gid = cred.gid;
    peer->pid = (uint32_t)cred.pid;
    const bool own = cred.uid == 0 || cred.uid == geteuid();
    const bool member =
        server->has_admin_gid && (cred.gid == server->admin_gid || in_group(fd, server->admin_gid));
    if (admin_allowed && (own || member))
        peer->role = ROLE_ADMIN;
}
