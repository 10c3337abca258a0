/* SPDX-License-Identifier: Apache-2.0 */
#include "client/pull/index.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

bool index_name(const char *package, char *out, size_t size) {
    size_t n = 0;
    for (const char *p = package; *p; p++) {
        const bool dash = *p == '-' || *p == '_' || *p == '.';
        if (dash && n && out[n - 1] == '-')
            continue;
        if (n + 1 >= size)
            return false;
        out[n++] = dash ? '-' : (char)tolower((unsigned char)*p);
    }
    out[n] = 0;
    return n > 0;
}

/* The characters that a link in HTML writes as words. */
static size_t unescape(const char *from, size_t n, char *out, size_t size) {
    static const struct {
        const char *word;
        char c;
    } words[] = {{"&amp;", '&'}, {"&#38;", '&'}, {"&quot;", '"'}, {"&#39;", '\''}};
    size_t made = 0;
    for (size_t i = 0; i < n;) {
        size_t used = 1;
        char c = from[i];
        for (size_t k = 0; k < sizeof words / sizeof *words; k++) {
            const size_t length = strlen(words[k].word);
            if (n - i >= length && !memcmp(from + i, words[k].word, length)) {
                c = words[k].c;
                used = length;
            }
        }
        if (made + 1 >= size || (unsigned char)c < ' ' || c == 0x7f)
            return 0; /* too long, or nothing that a link holds */
        out[made++] = c;
        i += used;
    }
    out[made] = 0;
    return made;
}

/* "name-1.0-py3-none-any.whl": the name in any spelling, the version to the letter. */
static bool is_wheel(const char *file, const char *package, const char *version) {
    char want[256], got[256], part[256];
    const size_t n = strcspn(file, "-"), length = strlen(version), all = strlen(file);
    if (n >= sizeof part || file[n] != '-' || all < 4 || strcmp(file + all - 4, ".whl") != 0)
        return false;
    memcpy(part, file, n);
    part[n] = 0;
    return index_name(package, want, sizeof want) && index_name(part, got, sizeof got) &&
           !strcmp(want, got) && !strncmp(file + n + 1, version, length) &&
           file[n + 1 + length] == '-';
}

static bool take_digest(const char *fragment, char out[SHA256_TEXT]) {
    static const char key[] = "sha256=";
    const char *hex = strstr(fragment, key);
    out[0] = 0;
    if (!hex)
        return true;
    hex += sizeof key - 1;
    if (strspn(hex, "0123456789abcdefABCDEF") < SHA256_TEXT - 1)
        return false;
    for (size_t i = 0; i < SHA256_TEXT - 1; i++)
        out[i] = (char)tolower((unsigned char)hex[i]);
    out[SHA256_TEXT - 1] = 0;
    return true;
}

/* A link's text between its quotes. */
static bool take_link(const char *p, size_t n, const char *package, const char *version,
                      struct index_link *link) {
    struct index_link made;
    if (!unescape(p, n, made.href, sizeof made.href))
        return false;
    char *fragment = strchr(made.href, '#'), empty[1] = "";
    if (fragment)
        *fragment++ = 0;
    const char *slash = strrchr(made.href, '/');
    if (!is_wheel(slash ? slash + 1 : made.href, package, version) ||
        !take_digest(fragment ? fragment : empty, made.sha256))
        return false;
    *link = made;
    return true;
}

bool index_find(const char *page, size_t n, const char *package, const char *version,
                struct index_link *link) {
    static const char key[] = "href=";
    for (const char *p = page, *end = page + n; p + sizeof key < end; p++) {
        if (strncasecmp(p, key, sizeof key - 1) != 0)
            continue;
        p += sizeof key - 1;
        const char quote = *p;
        if (quote != '"' && quote != '\'')
            continue;
        const char *stop = memchr(p + 1, quote, (size_t)(end - p - 1));
        if (!stop)
            return false;
        if (take_link(p + 1, (size_t)(stop - p - 1), package, version, link))
            return true;
        p = stop;
    }
    return false;
}
