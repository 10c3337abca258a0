/* SPDX-License-Identifier: Apache-2.0 */
/* sha256.h - the digest by which downloads are checked, as text; libcrypto makes it. */
#ifndef OCTARC_CLIENT_PULL_SHA256_H
#define OCTARC_CLIENT_PULL_SHA256_H

#include <stdbool.h>
#include <stddef.h>

#define SHA256_TEXT 65 /* lower-case hexadecimal and the terminator */

struct sha256 {
    void *state; /* owned */
    bool failed;
};

void sha256_init(struct sha256 *sha);
void sha256_add(struct sha256 *sha, const void *bytes, size_t n);
/* Ends it.  -ENOMEM: the digest could not be made; *out is "". */
int sha256_text(struct sha256 *sha, char out[SHA256_TEXT]);

#endif
