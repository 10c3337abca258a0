/* SPDX-License-Identifier: Apache-2.0 */
/* scan.h - find the members of a JSON object without building a tree.
 *
 * The library needs five members of a message and passes the rest on as text, so numbers keep every
 * digit they came with.  Everything is checked to be well-formed; nesting is limited.
 *
 * Threads: no shared state. */
#ifndef OCTARC_CLIENT_SCAN_H
#define OCTARC_CLIENT_SCAN_H

#include <stdbool.h>
#include <stddef.h>

#define SCAN_DEPTH_MAX 128

/* A value inside a text that is borrowed. */
struct span {
    const char *at; /* NULL: no value */
    size_t n;
};

/* The object that is all of `text`, blanks around it aside.  at = NULL: it is not one. */
struct span scan_object(const char *text, size_t n);

/* The value of `key` in an object scan_object() or scan_member() gave; at = NULL: none.  The first
 * of several counts.  Keys are compared as they are written: one with an escape is never found. */
struct span scan_member(struct span object, const char *key);

/* Element i of an array found by scan_member(); at = NULL: none. */
struct span scan_item(struct span array, size_t i);

bool scan_is_object(struct span value);

/* Decode a JSON string into `out` of `size` bytes, cut at a whole character where it is longer, and
 * terminate it.  The bytes written, among which may be NUL; decoded, a string never gets longer.
 * Not a string: 0. */
size_t scan_string(struct span value, char *out, size_t size);

/* An integer; anything else: 0. */
long scan_long(struct span value);

#endif
