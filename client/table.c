/* SPDX-License-Identifier: Apache-2.0 */
#include "client/table.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

static bool is_control(unsigned char c) {
    return c < ' ' || c == 0x7F;
}

size_t text_width(const char *text) {
    size_t width = 0, left = strlen(text);
    mbstate_t state = {0};
    while (left) {
        wchar_t c;
        const size_t n = mbrtowc(&c, text, left, &state);
        if (n == 0 || n > left) { /* not in this locale: count characters of UTF-8 */
            width += ((unsigned char)*text & 0xC0) != 0x80;
            text++;
            left--;
            memset(&state, 0, sizeof state);
            continue;
        }
        const int columns = wcwidth(c);
        width += columns > 0 ? (size_t)columns : 0;
        text += n;
        left -= n;
    }
    return width;
}

void text_print(FILE *f, const char *text, size_t n) {
    if (!isatty(fileno(f))) {
        fwrite(text, 1, n, f);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        /* C1 controls are U+0080 to U+009F: C2 80 to C2 9F. */
        const unsigned char c = (unsigned char)text[i];
        const bool second = c == 0xC2 && i + 1 < n && (unsigned char)text[i + 1] < 0xA0;
        if ((is_control(c) && c != '\n' && c != '\t') || second)
            fputs("\xEF\xBF\xBD", f);
        else
            putc(c, f);
        i += second;
    }
}

void table_init(struct table *table, const char *alignment) {
    *table = (struct table){.n_columns = strlen(alignment), .alignment = alignment};
    table->rows = calloc(TABLE_ROWS_MAX, sizeof *table->rows);
}

/* A copy without control characters. */
static char *copy_cell(const char *text) {
    char *copy = strndup(text ? text : "-", TABLE_CELL_BYTES);
    for (char *p = copy; p && *p; p++)
        if (is_control((unsigned char)*p))
            *p = '?';
    return copy;
}

void table_row(struct table *table, const char *const *cells) {
    if (!table->rows || table->n_rows == TABLE_ROWS_MAX)
        return;
    char **row = table->rows[table->n_rows++];
    for (size_t c = 0; c < table->n_columns; c++)
        row[c] = copy_cell(cells[c]);
}

static void print_row(char *const *row, const struct table *table, const size_t *widths) {
    for (size_t c = 0; c < table->n_columns; c++) {
        const char *cell = row[c] ? row[c] : "";
        const size_t width = text_width(cell), pad = widths[c] > width ? widths[c] - width : 0;
        const bool right = table->alignment[c] == 'r', last = c + 1 == table->n_columns;
        printf("%*s%s%*s", right ? (int)pad : 0, "", cell, right || last ? 0 : (int)pad, "");
        fputs(last ? "\n" : "  ", stdout);
    }
}

void table_print(struct table *table, bool no_head) {
    size_t widths[TABLE_COLUMNS_MAX] = {0};
    for (size_t r = no_head; r < table->n_rows; r++)
        for (size_t c = 0; c < table->n_columns; c++) {
            const size_t width = table->rows[r][c] ? text_width(table->rows[r][c]) : 0;
            widths[c] = width > widths[c] ? width : widths[c];
        }
    for (size_t r = 0; r < table->n_rows; r++) {
        if (r || !no_head)
            print_row(table->rows[r], table, widths);
        for (size_t c = 0; c < table->n_columns; c++)
            free(table->rows[r][c]);
    }
    free(table->rows);
    *table = (struct table){0};
}

char *size_text(double bytes, char *out, size_t size) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (bytes >= 1024 && unit + 1 < sizeof units / sizeof *units) {
        bytes /= 1024;
        unit++;
    }
    snprintf(out, size, unit && bytes < 100 ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return out;
}

char *age_text(double seconds, char *out, size_t size) {
    if (seconds < 120)
        snprintf(out, size, "%.0f s", seconds);
    else if (seconds < 7200)
        snprintf(out, size, "%.0f min", seconds / 60);
    else if (seconds < 172800)
        snprintf(out, size, "%.0f h", seconds / 3600);
    else
        snprintf(out, size, "%.0f days", seconds / 86400);
    return out;
}

char *time_text(double ms, char *out, size_t size) {
    const time_t s = (time_t)(ms / 1000);
    struct tm tm;
    char text[32];
    localtime_r(&s, &tm);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
    snprintf(out, size, "%s.%03d", text, (int)(ms - (double)s * 1000));
    return out;
}

bool colour_wanted(FILE *f) {
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(fileno(f)) && !(no && *no) && term && strcmp(term, "dumb") != 0;
}
