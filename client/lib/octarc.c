/* SPDX-License-Identifier: Apache-2.0 */
/* liboctarc: JSON-RPC 2.0, one message a line, one call at a time. */
#include "octarc.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/lib/scan.h"

#define READ_BYTES 65536
#define METHOD_MAX 100 /* characters of a method's name */

struct octarc {
    int fd;
    atomic_int cancelled; /* set by octarc_cancel(), perhaps in a signal handler */
    long id;              /* of the call under way */
    char *bytes;          /* owned; [0, used) came in, [0, taken) is the message in hand */
    size_t used, taken, capacity;
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
};

static int fail(struct octarc_error *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(struct octarc_error *err, int code, const char *fmt, ...) {
    if (err) {
        va_list ap;
        *err = (struct octarc_error){.code = code};
        va_start(ap, fmt);
        vsnprintf(err->message, sizeof err->message, fmt, ap);
        va_end(ap);
    }
    return code;
}

/* A failure of the connection, or what octarc_cancel() made of it. */
static int fail_io(struct octarc *conn, struct octarc_error *err, int error) {
    if (conn->cancelled)
        return fail(err, -ECANCELED, "cancelled");
    if (error == EPIPE || error == ECONNRESET || error == 0)
        return fail(err, -ECONNRESET, "the service at %s closed the connection", conn->path);
    return fail(err, -error, "%s: %s", conn->path, strerror(error));
}

static int open_socket(const char *path, struct octarc_error *err) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return fail(err, -ENAMETOOLONG, "the socket's path has %zu bytes; the most is %zu: %.60s…",
                    strlen(path), sizeof address.sun_path - 1, path);
    memcpy(address.sun_path, path, strlen(path) + 1);

    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(err, -errno, "socket: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        const int error = errno;
        close(fd);
        return fail(err, -error, "cannot connect to %s: %s", path, strerror(error));
    }
    return fd;
}

/* The socket of a user's own service, where the system's does not exist. */
static const char *default_path(char *own, size_t size) {
    const char *path = getenv("OCTARC_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR");
    if (path && *path)
        return path;
    if (access(OCTARC_SOCKET, F_OK) == 0 || !runtime || !*runtime)
        return OCTARC_SOCKET;
    const int n = snprintf(own, size, "%s/octarc/octarc.sock", runtime);
    return n > 0 && (size_t)n < size && access(own, F_OK) == 0 ? own : OCTARC_SOCKET;
}

int octarc_connect(struct octarc **conn, const char *path, struct octarc_error *err) {
    char own[512];
    if (!path)
        path = default_path(own, sizeof own);
    const int fd = open_socket(path, err);
    if (fd < 0)
        return fd;
    struct octarc *made = calloc(1, sizeof *made);
    if (!made) {
        close(fd);
        return fail(err, -ENOMEM, "no memory for a connection");
    }
    made->fd = fd;
    memcpy(made->path, path, strlen(path) + 1);
    *conn = made;
    return 0;
}

const char *octarc_path(const struct octarc *conn) {
    return conn->path;
}

void octarc_cancel(struct octarc *conn) {
    const int error = errno;
    conn->cancelled = 1;
    shutdown(conn->fd, SHUT_RDWR);
    errno = error;
}

void octarc_close(struct octarc *conn) {
    if (!conn)
        return;
    close(conn->fd);
    free(conn->bytes);
    free(conn);
}

static int send_all(struct octarc *conn, const char *bytes, size_t n, struct octarc_error *err) {
    while (n) {
        const ssize_t sent = send(conn->fd, bytes, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR && !conn->cancelled)
            continue;
        if (sent < 0)
            return fail_io(conn, err, errno);
        bytes += sent;
        n -= (size_t)sent;
    }
    return 0;
}

/* Send one request.  The caller's parameters are passed on as they were written, but on one line:
 * in well-formed JSON a line's end is a blank. */
static int send_request(struct octarc *conn, const char *method, const char *params, bool stream,
                        struct octarc_error *err) {
    const struct span object = scan_object(params ? params : "{}", params ? strlen(params) : 2);
    if (!object.at)
        return fail(err, -EINVAL, "the parameters are not a JSON object");
    if (strlen(method) > METHOD_MAX || strcspn(method, "\"\\\n\r") != strlen(method))
        return fail(err, -EINVAL, "no method can have that name");
    const size_t blanks = strspn(object.at + 1, " \t\r\n");
    const bool empty = object.at[1 + blanks] == '}';
    const char *added = stream && empty ? "\"stream\":true" : stream ? "\"stream\":true," : "";

    char *text = malloc(METHOD_MAX + 128 + object.n);
    if (!text)
        return fail(err, -ENOMEM, "no memory for a request of %zu bytes", object.n);
    size_t n =
        (size_t)sprintf(text, "{\"jsonrpc\":\"2.0\",\"id\":%ld,\"method\":\"%s\",\"params\":{%s",
                        ++conn->id, method, added);
    for (size_t i = 1; i < object.n; i++)
        text[n++] = object.at[i] == '\n' || object.at[i] == '\r' ? ' ' : object.at[i];
    text[n++] = '}';
    text[n++] = '\n';
    int rc = send_all(conn, text, n, err);
    free(text);
    /* It may have refused the rest of a big request: then its reason can still be read. */
    return rc == -ECONNRESET ? 0 : rc;
}

static int read_more(struct octarc *conn, struct octarc_error *err) {
    if (conn->used + READ_BYTES > conn->capacity) {
        const size_t capacity = conn->capacity ? conn->capacity * 2 : 2 * READ_BYTES;
        if (conn->used > OCTARC_MESSAGE_MAX)
            return fail(err, -EPROTO, "a message of more than %u bytes from %s", OCTARC_MESSAGE_MAX,
                        conn->path);
        char *bytes = realloc(conn->bytes, capacity);
        if (!bytes)
            return fail(err, -ENOMEM, "no memory for a message of %zu bytes", conn->used);
        conn->bytes = bytes;
        conn->capacity = capacity;
    }
    ssize_t n;
    do
        n = read(conn->fd, conn->bytes + conn->used, READ_BYTES);
    while (n < 0 && errno == EINTR && !conn->cancelled);
    if (n <= 0)
        return fail_io(conn, err, n ? errno : 0);
    conn->used += (size_t)n;
    return 0;
}

/* The next line, as an object.  It stays valid until the next call. */
static int read_message(struct octarc *conn, struct span *message, struct octarc_error *err) {
    if (conn->taken)
        memmove(conn->bytes, conn->bytes + conn->taken, conn->used - conn->taken);
    conn->used -= conn->taken;
    conn->taken = 0;
    const char *newline = conn->used ? memchr(conn->bytes, '\n', conn->used) : NULL;
    while (!newline) {
        const size_t seen = conn->used;
        const int rc = read_more(conn, err);
        if (rc < 0)
            return rc;
        newline = memchr(conn->bytes + seen, '\n', conn->used - seen);
    }
    conn->taken = (size_t)(newline - conn->bytes) + 1;
    const struct span object = scan_object(conn->bytes, conn->taken);
    if (!object.at)
        return fail(err, -EPROTO, "%s does not speak octarc's protocol", conn->path);
    *message = object;
    return 0;
}

static int fail_remote(struct span error, struct octarc_error *err) {
    const struct span data = scan_member(error, "data");
    if (!err)
        return -EREMOTEIO;
    *err = (struct octarc_error){.code = (int)scan_long(scan_member(error, "code"))};
    scan_string(scan_member(data, "name"), err->name, sizeof err->name);
    scan_string(scan_member(data, "param"), err->param, sizeof err->param);
    scan_string(scan_member(error, "message"), err->message, sizeof err->message);
    return -EREMOTEIO;
}

/* Hand a chunk to the caller, terminated. */
static int give_chunk(struct span message, long id, octarc_chunk_fn on_chunk, void *user,
                      struct octarc_error *err) {
    const struct span params = scan_member(message, "params");
    const struct span chunk = scan_member(params, "chunk");
    if (!on_chunk || !chunk.at || scan_long(scan_member(params, "id")) != id)
        return 0;                             /* news of another kind */
    char *text = (char *)(uintptr_t)chunk.at; /* inside conn->bytes; the ',' or '}' behind it */
    const char behind = text[chunk.n];
    text[chunk.n] = '\0';
    const int stop = on_chunk(user, text);
    text[chunk.n] = behind;
    return stop ? fail(err, -ECANCELED, "stopped by the caller") : 0;
}

/* Read up to the answer to the call under way. */
static int read_answer(struct octarc *conn, octarc_chunk_fn on_chunk, void *user,
                       struct span *answer, struct octarc_error *err) {
    for (;;) {
        struct span message;
        int rc = read_message(conn, &message, err);
        if (rc < 0)
            return rc;
        const struct span id = scan_member(message, "id");
        if (!id.at) {
            rc = give_chunk(message, conn->id, on_chunk, user, err);
            if (rc < 0)
                return rc;
            continue;
        }
        const struct span error = scan_member(message, "error");
        /* Where the service could not read the request, its error has no id. */
        if (scan_is_object(error) && (*id.at == 'n' || scan_long(id) == conn->id))
            return fail_remote(error, err);
        *answer = scan_member(message, "result");
        if (answer->at && scan_long(id) == conn->id)
            return 0;
        return fail(err, -EPROTO, "%s sent an answer nobody asked for", conn->path);
    }
}

int octarc_call(struct octarc *conn, const char *method, const char *params, char **answer,
                struct octarc_error *err) {
    struct span result;
    int rc = send_request(conn, method, params, false, err);
    if (rc == 0)
        rc = read_answer(conn, NULL, NULL, &result, err);
    if (rc < 0)
        return rc;
    char *copy = strndup(result.at, result.n);
    if (!copy)
        return fail(err, -ENOMEM, "no memory for an answer of %zu bytes", result.n);
    *answer = copy;
    return 0;
}

int octarc_stream(struct octarc *conn, const char *method, const char *params,
                  octarc_chunk_fn on_chunk, void *user, struct octarc_error *err) {
    struct span result;
    const int rc = send_request(conn, method, params, true, err);
    return rc < 0 ? rc : read_answer(conn, on_chunk, user, &result, err);
}
