/* SPDX-License-Identifier: Apache-2.0 */
/* nodes.c - preloaded into octarc's programs: the nodes of the simulated cards.
 *
 * What opens /dev/dri/by-path/pci-0000:BB:00.0-render gets card BB - 3 of the simulated driver,
 * which the process has loaded by then, and calls on it go to the model of the kernel there (xe.h).
 * All else goes where it went. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define FIRST_BUS 3u
#define FDS_MAX   1024

static unsigned char ours[FDS_MAX];

/* A function of the driver's; it is there where Level Zero was initialised. */
static void *of_driver(const char *name) {
    const char *path = getenv("ZE_ENABLE_ALT_DRIVERS");
    void *driver = path ? dlopen(path, RTLD_NOW | RTLD_NOLOAD) : NULL;
    return driver ? dlsym(driver, name) : NULL;
}

static int open_card(unsigned bus) {
    int (*open_it)(unsigned card) = NULL;
    *(void **)&open_it = of_driver("sim_xe_open");
    if (!open_it || bus < FIRST_BUS) {
        errno = ENOENT;
        return -1;
    }
    const int fd = open_it(bus - FIRST_BUS);
    if (fd >= 0 && fd < FDS_MAX)
        ours[fd] = 1;
    return fd;
}

static int open_any(const char *path, int flags, va_list more, const char *name) {
    int (*next)(const char *path, int flags, ...) = NULL;
    unsigned bus;
    char rest[8];
    if (sscanf(path, "/dev/dri/by-path/pci-0000:%x:00.0-%7s", &bus, rest) == 2)
        return open_card(bus);
    *(void **)&next = dlsym(RTLD_NEXT, name);
    const unsigned mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, unsigned) : 0;
    return next(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    const int fd = open_any(path, flags, more, "open");
    va_end(more);
    return fd;
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    const int fd = open_any(path, flags, more, "open64");
    va_end(more);
    return fd;
}

int ioctl(int fd, unsigned long request, ...) {
    int (*next)(int fd, unsigned long request, ...) = NULL;
    va_list more;
    va_start(more, request);
    void *argument = va_arg(more, void *);
    va_end(more);
    if (fd >= 0 && fd < FDS_MAX && ours[fd])
        *(void **)&next = of_driver("sim_xe_ioctl");
    else
        *(void **)&next = dlsym(RTLD_NEXT, "ioctl");
    return next(fd, request, argument);
}

/* The driver's own close comes here again, with a descriptor that is nobody's by then. */
int close(int fd) {
    int (*next)(int fd) = NULL;
    if (fd >= 0 && fd < FDS_MAX && ours[fd]) {
        ours[fd] = 0;
        *(void **)&next = of_driver("sim_xe_close");
    } else {
        *(void **)&next = dlsym(RTLD_NEXT, "close");
    }
    return next(fd);
}
