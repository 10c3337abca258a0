/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/pressure.h"

#include <errno.h>
#include <string.h>

static bool is_sign(const struct pressure_sample *s, const struct pressure_rules *r) {
    return s->stalled || s->stall_percent >= r->stall_percent ||
           s->available_bytes < r->least_bytes;
}

enum pressure_news pressure_judge(struct pressure *p, const struct pressure_sample *sample,
                                  const struct pressure_rules *rules, uint64_t now_ns) {
    const bool sign = is_sign(sample, rules);
    if (sign)
        p->sign_ns = now_ns;
    if (!p->pressed) {
        if (!sign)
            return PRESSURE_SAME;
        *p = (struct pressure){true, rules->wait_ns > 0, now_ns, now_ns};
        return PRESSURE_BEGINS;
    }
    if (now_ns - p->sign_ns >= rules->quiet_ns && !sign) {
        *p = (struct pressure){false, false, now_ns, p->sign_ns};
        return PRESSURE_ENDS;
    }
    if (p->puts_off && now_ns - p->since_ns >= rules->wait_ns) {
        p->puts_off = false;
        return PRESSURE_LASTS;
    }
    return PRESSURE_SAME;
}

/* --- texts --- */

static const char *find(const char *text, size_t n, const char *word) {
    return memmem(text, n, word, strlen(word));
}

/* Digits, a point, digits; not by strtod(), which a locale or a missing end would mislead. */
static int read_percent(const char *at, const char *end, double *percent) {
    double value = 0, place = 1;
    const char *begin = at;
    for (; at < end && *at >= '0' && *at <= '9'; at++)
        value = value * 10 + (*at - '0');
    if (at == begin || at == end || *at != '.')
        return -EBADMSG;
    for (at++; at < end && *at >= '0' && *at <= '9'; at++)
        value += (*at - '0') * (place /= 10);
    if (!(value <= 100))
        return -EBADMSG;
    *percent = value;
    return 0;
}

int pressure_read(const char *text, size_t n, double *percent) {
    static const char key[] = "avg10=";
    const char *end = text + n, *some = find(text, n, "some ");
    if (!some)
        return -EBADMSG;
    const char *line_end = memchr(some, '\n', (size_t)(end - some));
    line_end = line_end ? line_end : end;
    const char *at = find(some, (size_t)(line_end - some), key);
    return at ? read_percent(at + sizeof key - 1, line_end, percent) : -EBADMSG;
}

static int digit_of(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

int pressure_decode(const char *base64, void *out, size_t size, size_t *n) {
    uint8_t *bytes = out;
    uint32_t bits = 0, n_bits = 0;
    size_t length = strlen(base64), made = 0;
    if (length % 4)
        return -EBADMSG;
    for (int i = 0; i < 2 && length && base64[length - 1] == '='; i++)
        length--;
    for (size_t i = 0; i < length; i++) {
        const int digit = digit_of(base64[i]);
        if (digit < 0)
            return -EBADMSG;
        bits = bits << 6 | (uint32_t)digit;
        n_bits += 6;
        if (n_bits < 8)
            continue;
        n_bits -= 8;
        if (made == size)
            return -E2BIG;
        bytes[made++] = (uint8_t)(bits >> n_bits);
    }
    *n = made;
    return 0;
}
