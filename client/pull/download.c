/* SPDX-License-Identifier: Apache-2.0 */
#include "client/pull/download.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "client/pull/bar.h"
#include "octarc/error.h"

#define TRIES_MAX      4 /* in a row without a byte */
#define SILENCE_S      60L
#define CONNECT_S      30L
#define REDIRECTS_MAX  10L
#define STATUS_PARTIAL 206
#define STATUS_RANGE   416

struct transfer {
    struct download *d;
    CURL *curl;
    struct bar bar;
    char etag[PLACE_VALIDATOR_MAX], modified[PLACE_VALIDATOR_MAX];
    uint64_t range_begin;
    bool has_range, begun;
    int rc; /* why a callback stopped it */
    struct err *err;
};

/* "name: value", the value without blanks around; NULL: another header. */
static const char *header_value(const char *line, size_t n, const char *name, size_t *length) {
    const size_t m = strlen(name);
    if (n <= m || strncasecmp(line, name, m) != 0 || line[m] != ':')
        return NULL;
    size_t at = m + 1;
    while (at < n && (line[at] == ' ' || line[at] == '\t'))
        at++;
    while (n > at && (line[n - 1] == '\r' || line[n - 1] == '\n' || line[n - 1] == ' '))
        n--;
    *length = n - at;
    return line + at;
}

static void keep(char out[PLACE_VALIDATOR_MAX], const char *value, size_t n) {
    if (n < PLACE_VALIDATOR_MAX) {
        memcpy(out, value, n);
        out[n] = 0;
    }
}

static size_t on_header(char *line, size_t one, size_t n, void *user) {
    struct transfer *t = user;
    size_t length;
    const char *value;
    n *= one;
    if (n > 5 && !memcmp(line, "HTTP/", 5)) { /* of the next answer, behind a redirect */
        t->etag[0] = t->modified[0] = 0;
        t->has_range = false;
    } else if ((value = header_value(line, n, "etag", &length))) {
        if (length && *value == '"') /* a weak one says nothing of single bytes */
            keep(t->etag, value, length);
    } else if ((value = header_value(line, n, "last-modified", &length))) {
        keep(t->modified, value, length);
    } else if ((value = header_value(line, n, "content-range", &length))) {
        char text[64] = "";
        snprintf(text, sizeof text, "%.*s", (int)(length < 60 ? length : 60), value);
        t->has_range = sscanf(text, "bytes %" SCNu64 "-", &t->range_begin) == 1;
    }
    return n;
}

static int stop(struct transfer *t, int rc, const char *why) {
    t->rc = err_set(t->err, rc, "%s: %s", t->d->url, why);
    return t->rc;
}

/* With the first bytes: does it go on, or begin anew? */
static int begin(struct transfer *t) {
    struct download *d = t->d;
    long status = 0;
    curl_off_t length = -1;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(t->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    if (status == STATUS_PARTIAL && (!t->has_range || t->range_begin != d->have))
        return stop(t, -EREMOTEIO, "the server sends another range than the one asked for");
    if (status != STATUS_PARTIAL) {
        d->have = 0;
        if (ftruncate(d->fd, (off_t)d->at) < 0)
            return stop(t, -errno, strerror(errno));
    }
    keep(d->validator, *t->etag ? t->etag : t->modified, strlen(*t->etag ? t->etag : t->modified));
    if (d->begins)
        d->begins(d->user);
    const uint64_t total = d->bytes ? d->bytes : length > 0 ? d->have + (uint64_t)length : 0;
    if (d->what)
        bar_begin(&t->bar, d->what, total, d->have);
    t->begun = true;
    return 0;
}

static size_t on_body(char *bytes, size_t one, size_t n, void *user) {
    struct transfer *t = user;
    struct download *d = t->d;
    n *= one;
    if (!t->begun && begin(t))
        return 0;
    if (d->have > d->bytes_max || n > d->bytes_max - d->have) {
        char why[80];
        snprintf(why, sizeof why, "it has more than the %" PRIu64 " bytes expected", d->bytes_max);
        stop(t, -EBADMSG, why);
        return 0;
    }
    for (size_t done = 0; done < n;) {
        const ssize_t put = pwrite(d->fd, bytes + done, n - done, (off_t)(d->at + d->have));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) {
            stop(t, put ? -errno : -EIO, strerror(put ? errno : EIO));
            return 0;
        }
        done += (size_t)put;
        d->have += (uint64_t)put;
    }
    if (d->what)
        bar_show(&t->bar, d->have);
    return n;
}

static struct curl_slist *set_up(struct transfer *t, char *said) {
    const struct download *d = t->d;
    const bool secure = !strncasecmp(d->url, "https:", 6);
    const char *ca = getenv("CURL_CA_BUNDLE");
    struct curl_slist *headers = NULL;
    char line[PLACE_VALIDATOR_MAX + 16];
    CURL *c = t->curl;
    curl_easy_setopt(c, CURLOPT_URL, d->url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(c, CURLOPT_MAXREDIRS, REDIRECTS_MAX);
    curl_easy_setopt(c, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, SILENCE_S);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "octarc/" OCTARC_VERSION);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, said);
    if (ca && *ca)
        curl_easy_setopt(c, CURLOPT_CAINFO, ca);
    if (d->have) {
        snprintf(line, sizeof line, "Range: bytes=%" PRIu64 "-", d->have);
        headers = curl_slist_append(headers, line);
        snprintf(line, sizeof line, "If-Range: %s", d->validator);
        headers = curl_slist_append(headers, line);
        curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    }
    return headers;
}

/* What may be otherwise in a moment. */
static bool passes(CURLcode code, long status) {
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return true;
    case CURLE_HTTP_RETURNED_ERROR:
        return status >= 500 || status == 429;
    default:
        return false;
    }
}

/* What became of it.  *again: another try may do better. */
static int judge(struct transfer *t, CURLcode code, const char *said, bool *again) {
    struct download *d = t->d;
    long status = 0;
    *again = false;
    if (code == CURLE_OK)
        return t->begun ? 0 : begin(t); /* nothing at all is a file, too */
    if (t->rc)
        return t->rc;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    const bool refused = code == CURLE_HTTP_RETURNED_ERROR;
    *again = passes(code, status);
    if (refused && status == STATUS_RANGE && d->have) {
        d->validator[0] = 0; /* it is shorter than what is there: from its beginning */
        *again = true;
    }
    return err_set(t->err, refused ? -EREMOTEIO : -EIO, "%s: %s", d->url,
                   *said ? said : curl_easy_strerror(code));
}

static int try_once(struct download *d, bool *again, struct err *err) {
    char said[CURL_ERROR_SIZE] = "", *final = NULL;
    struct transfer t = {.d = d, .curl = curl_easy_init(), .err = err};
    *again = false;
    if (!t.curl)
        return err_set(err, -ENOMEM, "%s: no memory for a connection", d->url);
    /* Without a word of which state it is, what is there cannot be gone on with. */
    if (!*d->validator)
        d->have = 0;
    struct curl_slist *headers = set_up(&t, said);
    const CURLcode code = curl_easy_perform(t.curl);
    if (curl_easy_getinfo(t.curl, CURLINFO_EFFECTIVE_URL, &final) == CURLE_OK && final)
        snprintf(d->final_url, sizeof d->final_url, "%s", final);
    if (d->what && t.begun)
        bar_end(&t.bar, d->have);
    const int rc = judge(&t, code, said, again);
    curl_slist_free_all(headers);
    curl_easy_cleanup(t.curl);
    return rc;
}

int download_run(struct download *d, struct err *err) {
    static const long waits_ms[TRIES_MAX] = {0, 200, 600, 1500};
    uint64_t most = d->have;
    bool again;
    int rc = 0;
    for (int i = 0; i < TRIES_MAX; i++) {
        nanosleep(&(struct timespec){waits_ms[i] / 1000, waits_ms[i] % 1000 * 1000000}, NULL);
        rc = try_once(d, &again, err);
        if (!again)
            return rc;
        if (d->have > most) {
            most = d->have;
            i = 0; /* the next one is the second try again */
        }
    }
    return rc;
}
