/* SPDX-License-Identifier: Apache-2.0 */
/* error.h - the one carrier of failure text.
 *
 * Functions return 0 or a negative errno; those whose failure a person will read also take a
 * trailing `struct err *`, which may be NULL.  The text names what failed and where; it is made
 * where the facts are and logged or sent once, at the edge. */
#ifndef OCTARC_ERROR_H
#define OCTARC_ERROR_H

struct err {
    char text[512];
};

/* Format the text into *err (when not NULL) and return code, so that failing is one statement:
 * `return err_set(err, -EINVAL, "…")`. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
