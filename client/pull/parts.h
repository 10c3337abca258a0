/* SPDX-License-Identifier: Apache-2.0 */
/* parts.h - names of a model in several files: NAME-00001-of-00003.gguf and so on. */
#ifndef OCTARC_CLIENT_PULL_PARTS_H
#define OCTARC_CLIENT_PULL_PARTS_H

#include <stddef.h>
#include <stdint.h>

#define PARTS_MAX 64u /* files of a model, as octarcd reads them */

/* How many files there are, where the first n bytes of the word end as a first part's name does;
 * else 1, also of more than PARTS_MAX. */
uint32_t parts_count(const char *word, size_t n);

/* The word with another part's number (from 0) in the place of the first one's; for words of which
 * parts_count() says more than 1.  `out` has room for the word. */
void parts_name(const char *word, size_t n, uint32_t part, char *out);

#endif
