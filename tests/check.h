/* SPDX-License-Identifier: Apache-2.0 */
/* check.h - the whole test framework: one binary per file, TAP on stdout.
 *
 * Each test runs in a forked child under a timeout, so a crash, a hang or a sanitizer report fails
 * one line and not the run.  Arguments name the tests to run; none means all; a name that no test
 * has is a failure. */
#ifndef OCTARC_TESTS_CHECK_H
#define OCTARC_TESTS_CHECK_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct check_test {
    const char *name;
    void (*run)(void);
};

/* Many times what the longest test takes under a sanitizer: a machine that is busy with other
 * things is no failure, and only one that hangs waits so long. */
#define CHECK_TIMEOUT_S 600
#define CHECK_SKIPPED   77

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            printf("# %s:%d: not true: %s\n", __FILE__, __LINE__, #cond);                          \
            fflush(stdout);                                                                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK_EQ(got, want)                                                                        \
    do {                                                                                           \
        const intmax_t got_ = (intmax_t)(got), want_ = (intmax_t)(want);                           \
        if (got_ != want_) {                                                                       \
            printf("# %s:%d: %s is %jd, want %jd\n", __FILE__, __LINE__, #got, got_, want_);       \
            fflush(stdout);                                                                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define SKIP(why)                                                                                  \
    do {                                                                                           \
        printf("# SKIP %s\n", why);                                                                \
        fflush(stdout);                                                                            \
        exit(CHECK_SKIPPED);                                                                       \
    } while (0)

static inline int check_one(const struct check_test *t, int n) {
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        alarm(CHECK_TIMEOUT_S);
        t->run();
        exit(0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (code == CHECK_SKIPPED) {
        printf("ok %d - %s # SKIP\n", n, t->name);
        return 0;
    }
    if (WIFSIGNALED(status))
        printf("# %s: killed by signal %d\n", t->name, WTERMSIG(status));
    printf("%sok %d - %s\n", code ? "not " : "", n, t->name);
    return code != 0;
}

static inline int check_main(int argc, char **argv, const struct check_test *tests, size_t n) {
    int failed = 0, ran = 0;
    for (size_t i = 0; i < n; i++) {
        int wanted = argc < 2;
        for (int a = 1; a < argc; a++)
            wanted |= !strcmp(argv[a], tests[i].name);
        if (wanted)
            failed += check_one(&tests[i], ++ran);
    }
    for (int a = 1; a < argc; a++) {
        size_t i = 0;
        while (i < n && strcmp(argv[a], tests[i].name))
            i++;
        if (i < n)
            continue;
        printf("not ok %d - %s: there is no such test\n", ++ran, argv[a]);
        failed++;
    }
    printf("1..%d\n", ran);
    return failed != 0;
}

#define CHECK_MAIN(...)                                                                            \
    int main(int argc, char **argv) {                                                              \
        static const struct check_test tests[] = {__VA_ARGS__};                                    \
        return check_main(argc, argv, tests, sizeof tests / sizeof *tests);                        \
    }
#define T(fn)                                                                                      \
    { #fn, fn }

#endif
