/* SPDX-License-Identifier: Apache-2.0 */
#include "client/pull/sha256.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>

void sha256_init(struct sha256 *sha) {
    sha->state = EVP_MD_CTX_new();
    sha->failed = !sha->state || !EVP_DigestInit_ex(sha->state, EVP_sha256(), NULL);
}

void sha256_add(struct sha256 *sha, const void *bytes, size_t n) {
    sha->failed = sha->failed || !EVP_DigestUpdate(sha->state, bytes, n);
}

int sha256_text(struct sha256 *sha, char out[SHA256_TEXT]) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    const bool made = !sha->failed && EVP_DigestFinal_ex(sha->state, digest, &n);
    EVP_MD_CTX_free(sha->state);
    *out = 0;
    for (unsigned i = 0; made && i < n && i < (SHA256_TEXT - 1) / 2; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
    return made ? 0 : -ENOMEM;
}
