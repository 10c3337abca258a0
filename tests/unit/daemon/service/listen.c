/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/listen.h"

#include <errno.h>
#include <grp.h>
#include <sys/stat.h>

#include "octarc/error.h"
#include "tests/check.h"

static char folder[64] = "/tmp/octarc-listen-XXXXXX", path[128];

static void make_place(void) {
    CHECK(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/s", folder);
}

static void drop_place(void) {
    unlink(path);
    rmdir(folder);
}

static void a_stale_socket_is_replaced_and_a_live_one_is_not(void) {
    struct listen_id first, second, none;
    struct err err = {{0}};
    struct stat st;
    make_place();
    const int a = listen_open(path, NULL, &first, &err);
    CHECK(a >= 0 && stat(path, &st) == 0);
    CHECK_EQ(st.st_mode & 0777, 0660);
    CHECK_EQ(listen_open(path, NULL, &none, &err), -EADDRINUSE);
    CHECK(strstr(err.text, path));
    close(a);
    const int b = listen_open(path, NULL, &second, &err);
    CHECK(b >= 0);
    close(b);
    first.inode++; /* a socket of another server stays */
    listen_remove(path, &first);
    CHECK(access(path, F_OK) == 0 || first.inode == second.inode);
    listen_remove(path, &second);
    CHECK(access(path, F_OK) < 0);
    drop_place();
}

static void what_is_no_socket_stays(void) {
    struct listen_id id;
    struct err err = {{0}};
    make_place();
    FILE *file = fopen(path, "we");
    CHECK(file && fputs("x", file) >= 0 && fclose(file) == 0);
    CHECK_EQ(listen_open(path, NULL, &id, &err), -EEXIST);
    CHECK(access(path, F_OK) == 0);
    drop_place();
}

static void the_socket_goes_to_its_group_where_that_is_possible(void) {
    struct listen_id id;
    struct err err = {{0}};
    struct stat st;
    const struct group *other = getgrnam("nogroup");
    if (geteuid() != 0 || !other)
        SKIP("only root gives files to another group");
    const gid_t gid = other->gr_gid;
    make_place();
    const int a = listen_open(path, "nogroup", &id, &err);
    CHECK(a >= 0 && stat(path, &st) == 0);
    CHECK_EQ(st.st_gid, gid);
    CHECK_EQ(st.st_mode & 0777, 0660);
    close(a);
    const int b = listen_open(path, "no such group", &id, &err);
    CHECK(b >= 0 && stat(path, &st) == 0);
    CHECK_EQ(st.st_gid, getegid());
    close(b);
    listen_remove(path, &id);
    drop_place();
}

static void a_long_path_is_refused_with_both_lengths(void) {
    struct listen_id id;
    struct err err = {{0}};
    char name[200];
    memset(name, 'x', sizeof name - 1);
    name[0] = '/';
    name[sizeof name - 1] = 0;
    CHECK_EQ(listen_open(name, NULL, &id, &err), -ENAMETOOLONG);
    CHECK(strstr(err.text, "199") && strstr(err.text, "107"));
}

CHECK_MAIN(T(a_stale_socket_is_replaced_and_a_live_one_is_not), T(what_is_no_socket_stays),
           T(the_socket_goes_to_its_group_where_that_is_possible),
           T(a_long_path_is_refused_with_both_lengths))
