/* SPDX-License-Identifier: Apache-2.0 */
/* The library against a service that says what the test tells it to. */
#include "octarc.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/check.h"

static char folder[] = "/tmp/octarc-test-XXXXXX";
static char path[64];

/* Reads one request and writes `reply`; ends when the other side does. */
static pid_t serve(const char *reply, const char *want) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CHECK(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/sock", folder);
    strcpy(address.sun_path, path);
    const int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_EQ(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQ(listen(listener, 1), 0);
    const pid_t pid = fork();
    if (pid)
        return pid;
    char request[4096];
    const int fd = accept(listener, NULL, NULL);
    ssize_t n = read(fd, request, sizeof request - 1);
    request[n > 0 ? n : 0] = '\0';
    if (want && strcmp(request, want) != 0) {
        printf("# got %s# want %s", request, want);
        fflush(stdout);
        _exit(1);
    }
    for (size_t i = 0; reply && reply[i]; i++) /* byte by byte: any cut must do */
        if (write(fd, reply + i, 1) != 1)
            _exit(2);
    if (!reply)
        while (read(fd, request, sizeof request) > 0)
            ;
    _exit(0);
}

static void end(pid_t pid, struct octarc *conn) {
    int status = -1;
    octarc_close(conn);
    unlink(path);
    rmdir(folder);
    waitpid(pid, &status, 0);
    CHECK_EQ(status, 0);
}

static void a_call_gives_the_result_as_it_was_written(void) {
    const pid_t pid = serve("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"n\":9007199254740993}}\n",
                            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\",\"params\":"
                            "{\"a\": 1 }}\n");
    struct octarc *conn;
    char *answer;
    CHECK_EQ(octarc_connect(&conn, path, NULL), 0);
    CHECK_EQ(octarc_call(conn, "status", " {\"a\":\n1\n}\n", &answer, NULL), 0);
    CHECK(!strcmp(answer, "{\"n\":9007199254740993}"));
    free(answer);
    end(pid, conn);
}

static void an_error_of_the_service_keeps_its_parts(void) {
    const pid_t pid = serve("{\"id\":1,\"error\":{\"code\":-32602,\"message\":\"'n' is \\u00e4\","
                            "\"data\":{\"name\":\"bad_field\",\"param\":\"n\"}}}\n",
                            NULL);
    struct octarc *conn;
    struct octarc_error err;
    char *answer = NULL;
    CHECK_EQ(octarc_connect(&conn, path, NULL), 0);
    CHECK_EQ(octarc_call(conn, "complete", NULL, &answer, &err), -EREMOTEIO);
    CHECK_EQ(err.code, -32602);
    CHECK(!strcmp(err.name, "bad_field") && !strcmp(err.param, "n"));
    CHECK(!strcmp(err.message, "'n' is ä"));
    CHECK(!answer);
    end(pid, conn);
}

static int join(void *user, const char *chunk) {
    strcat(user, chunk);
    return 0;
}

static void a_stream_gives_its_chunks_in_order(void) {
    const pid_t pid =
        serve("{\"method\":\"chunk\",\"params\":{\"id\":1,\"chunk\":{\"t\":\"a\"}}}\n"
              "{\"method\":\"chunk\",\"params\":{\"id\":7,\"chunk\":{\"t\":\"not mine\"}}}\n"
              "{\"method\":\"news\",\"params\":{}}\n"
              "{\"method\":\"chunk\",\"params\":{\"id\":1,\"chunk\":{\"t\":\"b\"}}}\n"
              "{\"id\":1,\"result\":{\"done\":true}}\n",
              "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"complete\",\"params\":{\"stream\":true,"
              "\"prompt\":\"x\"}}\n");
    struct octarc *conn;
    char got[128] = "";
    CHECK_EQ(octarc_connect(&conn, path, NULL), 0);
    CHECK_EQ(octarc_stream(conn, "complete", "{\"prompt\":\"x\"}", join, got, NULL), 0);
    CHECK(!strcmp(got, "{\"t\":\"a\"}{\"t\":\"b\"}"));
    end(pid, conn);
}

static int refuse(void *user, const char *chunk) {
    (void)user;
    (void)chunk;
    return 1;
}

static void a_callback_can_stop_the_call(void) {
    const pid_t pid =
        serve("{\"method\":\"chunk\",\"params\":{\"id\":1,\"chunk\":{}}}\n",
              "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"chat\",\"params\":{\"stream\":true}}\n");
    struct octarc *conn;
    CHECK_EQ(octarc_connect(&conn, path, NULL), 0);
    CHECK_EQ(octarc_stream(conn, "chat", NULL, refuse, NULL, NULL), -ECANCELED);
    end(pid, conn);
}

static void *cancel_soon(void *conn) {
    usleep(20000);
    octarc_cancel(conn);
    return NULL;
}

static void another_thread_can_cancel(void) {
    const pid_t pid = serve(NULL, NULL);
    struct octarc *conn;
    struct octarc_error err;
    char *answer;
    pthread_t thread;
    CHECK_EQ(octarc_connect(&conn, path, NULL), 0);
    CHECK_EQ(pthread_create(&thread, NULL, cancel_soon, conn), 0);
    CHECK_EQ(octarc_call(conn, "complete", NULL, &answer, &err), -ECANCELED);
    pthread_join(thread, NULL);
    end(pid, conn);
}

static void what_is_not_the_protocol_is_named(void) {
    static const struct {
        const char *reply;
        int rc;
    } cases[] = {{"HTTP/1.1 400 Bad Request\r\n", -EPROTO},
                 {"{\"id\":1,\"result\":{}\n", -EPROTO},
                 {"{\"id\":2,\"result\":{}}\n", -EPROTO},
                 {"{\"id\":1,\"result\":{}}", -ECONNRESET}, /* no end of line */
                 {"", -ECONNRESET}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        strcpy(folder, "/tmp/octarc-test-XXXXXX");
        const pid_t pid = serve(cases[i].reply, NULL);
        struct octarc *conn;
        struct octarc_error err;
        char *answer;
        CHECK_EQ(octarc_connect(&conn, path, NULL), 0);
        CHECK_EQ(octarc_call(conn, "status", NULL, &answer, &err), cases[i].rc);
        CHECK(strstr(err.message, path));
        end(pid, conn);
    }
}

static void bad_parameters_are_not_sent(void) {
    const pid_t pid = serve("{\"id\":1,\"result\":{}}\n", NULL);
    struct octarc *conn;
    char *answer;
    CHECK_EQ(octarc_connect(&conn, path, NULL), 0);
    CHECK_EQ(octarc_call(conn, "status", "[1]", &answer, NULL), -EINVAL);
    CHECK_EQ(octarc_call(conn, "status", "{", &answer, NULL), -EINVAL);
    CHECK_EQ(octarc_call(conn, "a\"b", NULL, &answer, NULL), -EINVAL);
    CHECK_EQ(octarc_call(conn, "status", "{}", &answer, NULL), 0); /* still of use */
    free(answer);
    end(pid, conn);
}

static void a_path_that_cannot_be_connected_to_is_named(void) {
    char longer[300];
    struct octarc *conn = NULL;
    struct octarc_error err;
    memset(longer, 'a', sizeof longer);
    longer[0] = '/';
    longer[sizeof longer - 1] = '\0';
    CHECK_EQ(octarc_connect(&conn, longer, &err), -ENAMETOOLONG);
    CHECK(strstr(err.message, "107"));
    CHECK_EQ(octarc_connect(&conn, "/nonexistent/sock", &err), -ENOENT);
    CHECK(strstr(err.message, "/nonexistent/sock"));
    setenv("OCTARC_SOCKET", "/nonexistent/other", 1);
    CHECK_EQ(octarc_connect(&conn, NULL, &err), -ENOENT);
    CHECK(strstr(err.message, "/nonexistent/other"));
    CHECK(!conn);
}

CHECK_MAIN(T(a_call_gives_the_result_as_it_was_written), T(an_error_of_the_service_keeps_its_parts),
           T(a_stream_gives_its_chunks_in_order), T(a_callback_can_stop_the_call),
           T(another_thread_can_cancel), T(what_is_not_the_protocol_is_named),
           T(bad_parameters_are_not_sent), T(a_path_that_cannot_be_connected_to_is_named))
