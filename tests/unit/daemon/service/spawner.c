/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/spawner.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "octarc/error.h"
#include "tests/check.h"

static char script[64];

/* An engine that is a shell script: the channel is its descriptor 3. */
static void fork_spawner(struct spawner *spawner, const char *body) {
    struct err err;
    snprintf(script, sizeof script, "/tmp/octarc-spawner-%d", (int)getpid());
    FILE *file = fopen(script, "we");
    CHECK(file && fprintf(file, "#!/bin/sh\n%s\n", body) > 0 && fclose(file) == 0);
    CHECK_EQ(chmod(script, 0700), 0);
    setenv("OCTARC_ENGINE", script, 1);
    CHECK_EQ(spawner_fork(spawner, &err), 0);
}

static struct spawner_report next(struct spawner *spawner) {
    struct spawner_report r;
    struct pollfd fd = {.fd = spawner->fd, .events = POLLIN};
    int rc;
    while ((rc = spawner_read(spawner, &r)) == -EAGAIN)
        poll(&fd, 1, 1000);
    CHECK_EQ(rc, 0);
    return r;
}

static int start_engine(struct spawner *spawner, uint64_t generation) {
    int ends[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    CHECK_EQ(spawner_start_engine(spawner, generation, ends[1]), 0);
    close(ends[1]);
    const struct spawner_report r = next(spawner);
    CHECK_EQ(r.event, SPAWNER_STARTED);
    CHECK_EQ(r.generation, generation);
    return ends[0];
}

static void an_engine_gets_the_channel_and_its_end_is_reported(void) {
    struct spawner spawner;
    char text[16] = "";
    fork_spawner(&spawner, "echo \"$1 $2\" >&3; exit 5");
    const int fd = start_engine(&spawner, 7);
    CHECK_EQ(read(fd, text, sizeof text - 1), 12);
    CHECK(!strcmp(text, "--channel 3\n"));
    const struct spawner_report r = next(&spawner);
    CHECK_EQ(r.event, SPAWNER_EXITED);
    CHECK_EQ(r.generation, 7);
    CHECK_EQ(WEXITSTATUS(r.status), 5);
    spawner_stop(&spawner);
    unlink(script);
}

static void it_kills_its_engines_and_nobody_else(void) {
    struct spawner spawner;
    fork_spawner(&spawner, "echo $$ >&3; exec sleep 60");
    char text[16] = "";
    const int fd = start_engine(&spawner, 1);
    CHECK(read(fd, text, sizeof text - 1) > 0);
    const pid_t other = fork();
    if (other == 0) {
        pause();
        _exit(0);
    }
    CHECK_EQ(spawner_kill(&spawner, other), 0);
    CHECK_EQ(spawner_kill(&spawner, (pid_t)atoi(text)), 0);
    const struct spawner_report r = next(&spawner);
    CHECK(WIFSIGNALED(r.status) && WTERMSIG(r.status) == SIGKILL);
    CHECK_EQ(waitpid(other, NULL, WNOHANG), 0); /* alive */
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
    spawner_stop(&spawner);
    unlink(script);
}

static void engines_end_with_the_spawner(void) {
    struct spawner spawner;
    fork_spawner(&spawner, "echo . >&3; exec sleep 60");
    char text[16];
    const int fd = start_engine(&spawner, 1);
    CHECK_EQ(read(fd, text, sizeof text), 2);
    spawner_stop(&spawner);
    CHECK_EQ(read(fd, text, sizeof text), 0);
    unlink(script);
}

static void a_missing_program_is_an_exit_of_127(void) {
    struct spawner spawner;
    struct err err;
    setenv("OCTARC_ENGINE", "/nonexistent/engine", 1);
    CHECK_EQ(spawner_fork(&spawner, &err), 0);
    start_engine(&spawner, 1);
    CHECK_EQ(WEXITSTATUS(next(&spawner).status), 127);
    spawner_stop(&spawner);
}

CHECK_MAIN(T(an_engine_gets_the_channel_and_its_end_is_reported),
           T(it_kills_its_engines_and_nobody_else), T(engines_end_with_the_spawner),
           T(a_missing_program_is_an_exit_of_127))
