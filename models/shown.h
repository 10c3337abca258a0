/* SPDX-License-Identifier: Apache-2.0 */
/* shown.h - text of a file as people may see it: in an error, a list, a journal.
 *
 * A file's bytes may spell escape sequences that command a terminal, or be no UTF-8 at all. */
#ifndef OCTARC_MODELS_SHOWN_H
#define OCTARC_MODELS_SHOWN_H

#include <stddef.h>

/* Copy what fits of n bytes into to[size], terminated: whole valid UTF-8 characters stay, each
 * control character (C0, DEL, C1) and each other byte becomes '?'. */
void shown_text(char *to, size_t size, const char *from, size_t n);

#define SHOWN_MAX 48

/* The beginning of a text, for one argument of an error: shown(bytes, n).text */
struct shown {
    char text[SHOWN_MAX];
};
struct shown shown(const char *from, size_t n);

#endif
