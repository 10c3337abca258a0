/* SPDX-License-Identifier: Apache-2.0 */
/* table.h - text for a terminal: aligned columns, sizes, colour.
 *
 * Text from the service is shown without its control characters, so that no name or model can
 * drive the terminal. */
#ifndef OCTARC_CLIENT_TABLE_H
#define OCTARC_CLIENT_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 16
#define TABLE_ROWS_MAX    2048
#define TABLE_CELL_BYTES  512

struct table {
    char *(*rows)[TABLE_COLUMNS_MAX]; /* owned, as are the cells */
    size_t n_rows, n_columns;
    const char *alignment; /* a character a column: 'l' or 'r' */
};

/* As many columns as `alignment` has characters. */
void table_init(struct table *table, const char *alignment);
/* Append a row of one string a column; rows over the limit and those without memory are lost. */
void table_row(struct table *table, const char *const *cells);
/* Print it, columns two blanks apart, and free it.  no_head: without the first row. */
void table_print(struct table *table, bool no_head);

/* 1.5 GiB; `out` of at least 16 bytes is returned. */
char *size_text(double bytes, char *out, size_t size);
/* 90 s, 4 min, 3 h, 2 days. */
/* Milliseconds since 1970, as the clock on the wall shows them. */
char *time_text(double ms, char *out, size_t size);
char *age_text(double seconds, char *out, size_t size);

/* How many columns the text takes on a terminal. */
size_t text_width(const char *text);
/* Print n bytes; control characters but line ends and tabs become U+FFFD where `f` is a
 * terminal. */
void text_print(FILE *f, const char *text, size_t n);

/* Whether `f` is a terminal that takes colours (NO_COLOR and TERM=dumb say no). */
bool colour_wanted(FILE *f);

#endif
