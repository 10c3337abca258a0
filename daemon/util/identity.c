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

/* One step of a multiply-and-fold; what it gives depends on the order. */
static uint64_t mix(uint64_t sum, uint64_t value) {
    const __uint128_t product =
        (__uint128_t)(sum ^ UINT64_C(0x9e3779b97f4a7c15)) * (value ^ UINT64_C(0xd6e8feb86659fd93));
    return (uint64_t)product ^ (uint64_t)(product >> 64) ^ (sum << 1 | sum >> 63);
}

int identity_of_all(const int *fds, uint32_t n, struct file_identity *identity) {
    struct file_identity all, next;
    int rc = identity_of(fds[0], &all);
    for (uint32_t i = 1; i < n && !rc; i++) {
        rc = identity_of(fds[i], &next);
        if (rc)
            break;
        all.bytes += next.bytes;
        all.mtime_ns = mix(mix(all.mtime_ns, next.mtime_ns), next.bytes);
        all.inode = mix(all.inode, next.inode);
        all.device = mix(all.device, next.device);
    }
    if (!rc)
        *identity = all;
    return rc;
}

bool identity_equal(const struct file_identity *a, const struct file_identity *b) {
    return a->bytes == b->bytes && a->mtime_ns == b->mtime_ns && a->inode == b->inode &&
           a->device == b->device;
}
