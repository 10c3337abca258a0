/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/util/identity.h"

#include <errno.h>
#include <sys/stat.h>

int identity_of(int fd, struct file_identity *identity) {
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    *identity = (struct file_identity){
        .bytes = (uint64_t)st.st_size,
        .mtime_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec,
        .inode = st.st_ino,
        .device = st.st_dev,
    };
    return 0;
}

bool identity_equal(const struct file_identity *a, const struct file_identity *b) {
    return a->bytes == b->bytes && a->mtime_ns == b->mtime_ns && a->inode == b->inode &&
           a->device == b->device;
}
