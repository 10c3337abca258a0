/* SPDX-License-Identifier: Apache-2.0 */
/* numbers.c - the filters that make or change numbers. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/chat/filters.h"

#define NUMBER_MAX 400 /* bytes of a number in a string */

/* The characters of a number as Python reads one: without blanks around and underscores between
 * digits, and nothing that only C reads as one (0x10).  false: it is none. */
static bool number_text(struct eval *e, const struct chat_value *v, char text[NUMBER_MAX],
                        bool letters) {
    const char *p = v->string.bytes;
    size_t begin = 0, end = v->string.n, n = 0;
    if (!eval_work_text(e, v->string.n))
        return false;
    while (begin < end && isspace((unsigned char)p[begin]))
        begin++;
    while (end > begin && isspace((unsigned char)p[end - 1]))
        end--;
    if (begin == end || end - begin >= NUMBER_MAX)
        return false;
    for (size_t i = begin; i < end; i++) {
        const bool between = i > begin && i + 1 < end && isalnum((unsigned char)p[i - 1]) &&
                             isalnum((unsigned char)p[i + 1]);
        if (p[i] == '_' && between)
            continue;
        if (!p[i] || !strchr(letters ? "+-0123456789abcdefghijklmnopqrstuvwxyz"
                                       "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                     : "+-.0123456789eEinfatyINFATY",
                             p[i]))
            return false;
        text[n++] = p[i];
    }
    text[n] = 0;
    return true;
}

static bool read_real(struct eval *e, const struct chat_value *v, double *value) {
    char text[NUMBER_MAX], *end;
    if (!number_text(e, v, text, false) || !eval_work(e, 600))
        return false;
    *value = strtod(text, &end);
    return !*end;
}

static struct chat_value *or_default(struct eval *e, const struct args *args,
                                     struct chat_value *otherwise) {
    struct chat_value *given = args_get(args, 0, "default");
    if (!given)
        return eval_made(e, otherwise);
    chat_value_unref(otherwise);
    return e->rc ? NULL : chat_value_ref(given);
}

struct chat_value *f_float(struct eval *e, struct chat_value *v, const struct args *args) {
    double value = 0;
    if (value_is_number(v))
        return eval_made(e, chat_float(value_real(v)));
    if (v->kind == V_STRING && read_real(e, v, &value))
        return eval_made(e, chat_float(value));
    return or_default(e, args, chat_float(0));
}

/* 1: done; 0: it is no integer of that base; -ERANGE. */
static int read_integer(struct eval *e, const struct chat_value *v, int base, int64_t *value) {
    char text[NUMBER_MAX], *digits = text, *end;
    if (!number_text(e, v, text, true))
        return 0;
    digits += *digits == '+' || *digits == '-';
    const char mark = digits[0] == '0' ? (char)tolower((unsigned char)digits[1]) : 0;
    if ((mark == 'b' && base == 2) || (mark == 'o' && base == 8))
        memmove(digits, digits + 2, strlen(digits + 2) + 1);
    if (!isalnum((unsigned char)*digits))
        return 0;
    errno = 0;
    *value = strtoll(text, &end, base);
    return *end ? 0 : errno == ERANGE ? -ERANGE : 1;
}

static struct chat_value *whole_of(struct eval *e, double value) {
    return fabs(value) < 0x1p63 ? eval_made(e, chat_int((int64_t)value))
                                : eval_fail(e, "an integer is too large");
}

/* An integer as it is written; else the whole part of a number. */
struct chat_value *f_int(struct eval *e, struct chat_value *v, const struct args *args) {
    const int64_t base = int_arg(args, 1, "base", 10);
    int64_t whole;
    double value = 0;
    if (base < 2 || base > 36)
        return eval_fail(e, "int: a base of 2 to 36 is expected");
    if (v->kind == V_INT)
        return chat_value_ref(v);
    if (value_is_number(v) && isfinite(value_real(v)))
        return whole_of(e, value_real(v));
    const int read = v->kind == V_STRING ? read_integer(e, v, (int)base, &whole) : 0;
    if (read < 0)
        return eval_fail(e, "an integer is too large");
    if (read)
        return eval_made(e, chat_int(whole));
    if (v->kind == V_STRING && read_real(e, v, &value) && isfinite(value))
        return whole_of(e, value);
    return or_default(e, args, chat_int(0));
}

struct chat_value *f_abs(struct eval *e, struct chat_value *v, const struct args *args) {
    (void)args;
    if (v->kind == V_FLOAT)
        return eval_made(e, chat_float(fabs(v->real)));
    if (v->kind == V_INT && v->integer != INT64_MIN)
        return eval_made(e, chat_int(v->integer < 0 ? -v->integer : v->integer));
    return eval_fail(e, "abs of %s", value_type_name(v));
}

/* To a multiple of 10^-precision, halves to the even one. */
static struct chat_value *round_integer(struct eval *e, int64_t value, int64_t precision) {
    int64_t unit = 1;
    if (precision < -18)
        return eval_made(e, chat_int(0));
    for (; precision < 0; precision++)
        unit *= 10;
    const int64_t rest = (value % unit + unit) % unit; /* value may be below zero */
    const bool odd = (value / unit - (value % unit < 0)) % 2 != 0;
    const bool up = rest > unit - rest || (rest == unit - rest && odd && rest);
    int64_t rounded;
    if (__builtin_sub_overflow(value, rest, &rounded) ||
        (up && __builtin_add_overflow(rounded, unit, &rounded)))
        return eval_fail(e, "an integer is too large");
    return eval_made(e, chat_int(rounded));
}

struct chat_value *f_round(struct eval *e, struct chat_value *v, const struct args *args) {
    const int64_t precision = int_arg(args, 0, "precision", 0);
    const char *method = text_arg(args, 1, "method");
    char digits[360];
    if (!value_is_number(v))
        return eval_fail(e, "round of %s", value_type_name(v));
    if (method && strcmp(method, "common") && strcmp(method, "ceil") && strcmp(method, "floor"))
        return eval_fail(e, "round: common, ceil or floor is expected");
    if (method && strcmp(method, "common")) {
        const double scale = pow(10, (double)precision), x = value_real(v) * scale;
        return eval_made(e, chat_float((*method == 'c' ? ceil(x) : floor(x)) / scale));
    }
    if (v->kind != V_FLOAT)
        return round_integer(e, v->kind == V_BOOL ? v->boolean : v->integer, precision);
    if (precision > 22 || !isfinite(v->real))
        return chat_value_ref(v);
    if (precision < 0) {
        const double scale = pow(10, (double)-precision);
        return eval_made(e, chat_float(isfinite(scale) ? nearbyint(v->real / scale) * scale : 0));
    }
    /* Printing rounds the exact value, as Python does; a product with the scale would be rounded
     * before. */
    eval_work(e, 600);
    snprintf(digits, sizeof digits, "%.*f", (int)precision, v->real);
    return eval_made(e, chat_float(strtod(digits, NULL)));
}
