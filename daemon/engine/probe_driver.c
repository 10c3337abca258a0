/* SPDX-License-Identifier: Apache-2.0 */
/* probe_driver.c - can the libraries that drive cards be loaded, and which cards do they find?
 *
 * What a library does while it is loaded is not known: so that happens in a process of its own,
 * which is waited for only so long. */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/engine/probe.h"
#include "octarc/error.h"

#define LOADER  "libze_loader.so.1"
#define DRIVER  "libze_intel_gpu.so.1"
#define DRIVERS "ZE_ENABLE_ALT_DRIVERS" /* names for the loader to try instead, with commas */

/* Its reason is kept where it cannot be loaded; whoever succeeds later clears it. */
static bool load(const char *name, struct missing_libraries *l) {
    if (dlopen(name, RTLD_LAZY | RTLD_LOCAL))
        return true;
    const char *why = dlerror();
    snprintf(l->why, sizeof l->why, "%.127s", why ? why : name);
    return false;
}

static bool load_any(const char *names, struct missing_libraries *l) {
    char name[256];
    for (const char *at = names; *at; at += *at == ',') {
        const size_t n = strcspn(at, ",");
        snprintf(name, sizeof name, "%.*s", (int)n, at);
        if (n > 0 && n < sizeof name && load(name, l))
            return true;
        at += n;
    }
    return false;
}

static void tell(int fd, const struct probe_driver *told) {
    if (write(fd, told, sizeof *told) != (ssize_t)sizeof *told)
        _exit(1);
}

static void ask(struct probe_driver *told) {
    const struct device_ops *backend = device_backend("level_zero");
    struct err err = {"the backend level_zero is not built in"};
    told->libraries.none[0] = 0;
    if (!backend || backend->probe(&told->cards, &err) < 0)
        snprintf(told->libraries.none, sizeof told->libraries.none, "%.159s", err.text);
}

/* Before the libraries are loaded: they look at it once. */
static void show_only(const struct device_options *only) {
    const struct device_ops *backend = device_backend("level_zero");
    if (only && backend && backend->hide)
        backend->hide(only);
}

/* Told after each step, so that it is known what was under way when this process died. */
static _Noreturn void load_and_tell(int fd, const struct device_options *only) {
    struct probe_driver told = {
        .libraries = {.why = "loading " LOADER " ended the process that tried"}};
    struct missing_libraries *l = &told.libraries;
    const char *drivers = getenv(DRIVERS);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* One that cannot even be killed must not hold the report's descriptor open. */
    if (fd > STDERR_FILENO + 1)
        close_range(STDERR_FILENO + 1, (unsigned)fd - 1, 0);
    close_range((unsigned)fd + 1, ~0u, 0);
    tell(fd, &told);
    show_only(only);
    l->loader = load(LOADER, l);
    if (l->loader) {
        snprintf(l->why, sizeof l->why, "loading the driver ended the process that tried");
        tell(fd, &told);
        l->driver = load_any(drivers && *drivers ? drivers : DRIVER, l);
    }
    if (l->driver) {
        l->why[0] = '\0';
        snprintf(l->none, sizeof l->none, "the driver ended the process that asked for cards");
        tell(fd, &told);
        ask(&told);
    }
    tell(fd, &told);
    _exit(0);
}

static void say_silent(struct probe_driver *l) {
    if (l->libraries.driver)
        snprintf(l->libraries.none, sizeof l->libraries.none,
                 "the driver did not tell its cards within %d s", PROBE_LIBRARY_S);
    else
        snprintf(l->libraries.why, sizeof l->libraries.why, "loading %s did not end within %d s",
                 l->libraries.loader ? "the driver" : LOADER, PROBE_LIBRARY_S);
}

/* The last that was said; false: it was never silent for so long. */
static bool hear(int fd, struct probe_driver *l) {
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    struct probe_driver told;
    ssize_t n = 1;
    while (n > 0) {
        const int rc = poll(&wait, 1, PROBE_LIBRARY_S * 1000);
        if (rc == 0)
            return true;
        n = rc < 0 && errno == EINTR ? 1 : read(fd, &told, sizeof told);
        if (rc > 0 && n == (ssize_t)sizeof told)
            *l = told;
    }
    return false;
}

void probe_libraries(struct probe_driver *driver, const struct device_options *only) {
    struct probe_driver l = {.libraries = {.why = "no process to load it in"}};
    int ends[2];
    if (pipe(ends) == 0) {
        const pid_t pid = fork();
        if (pid == 0) {
            close(ends[0]);
            load_and_tell(ends[1], only);
        }
        close(ends[1]);
        const bool hangs = pid > 0 && hear(ends[0], &l);
        if (hangs) {
            kill(pid, SIGKILL);
            say_silent(&l);
        }
        if (pid > 0)
            waitpid(pid, NULL, hangs ? WNOHANG : 0);
        close(ends[0]);
    }
    *driver = l;
}

void probe_driver(struct probe_driver *driver, const struct drm_box *box) {
    probe_libraries(driver, NULL);
    if (driver->libraries.driver && device_usable(&driver->cards) == 0)
        probe_one_by_one(driver, box);
    if (device_usable(&driver->cards) > 0)
        probe_compare(driver, box);
}
