/* SPDX-License-Identifier: Apache-2.0 */
/* octarc.h - talk to octarcd over its Unix socket.
 *
 * A connection carries one call at a time: open it, call methods, close it.  What methods there
 * are, their parameters and their answers: octarc-protocol(7).  Parameters and answers are JSON
 * text; bring the JSON library you like, this one needs none.
 *
 *     struct octarc *conn;
 *     struct octarc_error err;
 *     char *answer;
 *     if (octarc_connect(&conn, NULL, &err) < 0)
 *         errx(1, "%s", err.message);
 *     if (octarc_call(conn, "complete", "{\"prompt\": \"Once\"}", &answer, &err) < 0)
 *         errx(1, "%s", err.message);
 *     puts(answer);
 *     free(answer);
 *     octarc_close(conn);
 *
 * Results: 0, or a negative errno; *err (which may be NULL) then says more.  Outputs are untouched
 * on failure.
 *   -EREMOTEIO  the service answered with an error: code, name, param and message are its own
 *   -ECANCELED  octarc_cancel() was called, or a callback asked to stop
 *   -EPROTO     the other side does not speak this protocol
 *   -ECONNRESET the service went away before it answered
 *   -EINVAL     the parameters are not a JSON object
 * and what socket(2), connect(2), read(2) and write(2) say.  After any failure but -EREMOTEIO and
 * -EINVAL the connection can only be closed.
 *
 * Threads: a connection belongs to one thread at a time; connections are independent of each other.
 * octarc_cancel() alone may be called from any thread, and from a signal handler. */
#ifndef OCTARC_H
#define OCTARC_H

#ifdef __cplusplus
extern "C" {
#endif

#define OCTARC_SOCKET       "/run/octarc/octarc.sock"
#define OCTARC_MESSAGE_MAX  (64u << 20) /* bytes of one message from the service; more: -EPROTO */
#define OCTARC_ERROR_NAME   32
#define OCTARC_ERROR_PARAM  64
#define OCTARC_ERROR_LENGTH 512

struct octarc; /* a connection */

struct octarc_error {
    int code;                       /* -EREMOTEIO: the JSON-RPC code; else the errno returned */
    char name[OCTARC_ERROR_NAME];   /* "no_model", …; "" where the failure is not the service's */
    char param[OCTARC_ERROR_PARAM]; /* the field that is wrong; "": none */
    char message[OCTARC_ERROR_LENGTH]; /* one line for a person */
};

/* Called for each piece of a streamed answer, in the calling thread.  `chunk` is JSON text, valid
 * during the call only.  Anything but 0 ends the call with -ECANCELED. */
typedef int (*octarc_chunk_fn)(void *user, const char *chunk);

/* Connect to `path`.  NULL: $OCTARC_SOCKET, else OCTARC_SOCKET, else, where that does not exist,
 * $XDG_RUNTIME_DIR/octarc/octarc.sock.  On success close *conn with octarc_close(). */
int octarc_connect(struct octarc **conn, const char *path, struct octarc_error *err);

/* The path that octarc_connect() used. */
const char *octarc_path(const struct octarc *conn);

/* Call a method and wait for its answer.  params: a JSON object, or NULL for none.  *answer is the
 * JSON text of the result; free() it. */
int octarc_call(struct octarc *conn, const char *method, const char *params, char **answer,
                struct octarc_error *err);

/* Call a method whose answer comes in pieces.  params must not hold "stream": it is added.  The
 * chunks are those of the same request over HTTP.  Returns 0 when the answer is whole. */
int octarc_stream(struct octarc *conn, const char *method, const char *params,
                  octarc_chunk_fn on_chunk, void *user, struct octarc_error *err);

/* End the call under way, in whatever thread it is; the service drops the request.  It makes the
 * connection useless: close it afterwards, in its own thread. */
void octarc_cancel(struct octarc *conn);

/* NULL is fine. */
void octarc_close(struct octarc *conn);

#ifdef __cplusplus
}
#endif

#endif
