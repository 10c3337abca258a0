/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim_level_zero/cache.h"

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT     "octarc-sim-ze 1"
#define BINARY_MAX (UINT64_C(256) << 20)

/* FNV-1a: the file's beginning is compared too. */
static uint64_t digest(uint64_t h, const void *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const uint8_t *)bytes)[i]) * UINT64_C(0x100000001b3);
    return h;
}

/* All that the build depends on besides the module, as one text. */
static void describe(cl_device_id device, const char *flags, char *out, size_t size) {
    char version[256] = "", name[256] = "", extensions[8192] = "";
    clGetDeviceInfo(device, CL_DRIVER_VERSION, sizeof version, version, NULL);
    clGetDeviceInfo(device, CL_DEVICE_NAME, sizeof name, name, NULL);
    clGetDeviceInfo(device, CL_DEVICE_EXTENSIONS, sizeof extensions, extensions, NULL);
    snprintf(out, size, "%s|%s|%s|%s|%llx", FORMAT, version, name, flags,
             (unsigned long long)digest(0, extensions, strlen(extensions)));
}

static int path_of(const char *described, const void *il, size_t size, char *out, size_t room) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char folder[PATH_MAX];
    if (!cache && !home)
        return -1;
    snprintf(folder, sizeof folder, "%s%s/octarc", cache ? cache : home, cache ? "" : "/.cache");
    mkdir(folder, 0755);
    strncat(folder, "/sim-ze", sizeof folder - strlen(folder) - 1);
    mkdir(folder, 0755);
    const uint64_t h =
        digest(digest(UINT64_C(0xcbf29ce484222325), il, size), described, strlen(described));
    return snprintf(out, room, "%s/%016llx", folder, (unsigned long long)h) < (int)room ? 0 : -1;
}

/* The file's beginning: the text with its zero, the module.  Whether it is this one's. */
static int is_of(FILE *f, const char *described, const void *il, size_t size) {
    const size_t n = strlen(described) + 1 + size;
    char *seen = malloc(n);
    const int same = seen && fread(seen, 1, n, f) == n &&
                     !memcmp(seen, described, strlen(described) + 1) &&
                     !memcmp(seen + strlen(described) + 1, il, size);
    free(seen);
    return same;
}

static cl_program read_program(FILE *f, cl_context context, cl_device_id device) {
    const long begin = ftell(f);
    if (begin < 0 || fseek(f, 0, SEEK_END))
        return NULL;
    const long end = ftell(f);
    if (end <= begin || (uint64_t)(end - begin) > BINARY_MAX || fseek(f, begin, SEEK_SET))
        return NULL;
    const size_t n = (size_t)(end - begin);
    unsigned char *bytes = malloc(n);
    cl_program program = NULL;
    cl_int error = CL_SUCCESS, status = CL_SUCCESS;
    if (bytes && fread(bytes, 1, n, f) == n)
        program = clCreateProgramWithBinary(
            context, 1, &device, &n, (const unsigned char **)(void *)&bytes, &status, &error);
    free(bytes);
    if (program && (error != CL_SUCCESS || status != CL_SUCCESS ||
                    clBuildProgram(program, 1, &device, "", NULL, NULL) != CL_SUCCESS)) {
        clReleaseProgram(program);
        return NULL;
    }
    return program;
}

cl_program sim_program_cached(cl_context context, cl_device_id device, const void *il, size_t size,
                              const char *flags) {
    char described[2048], path[PATH_MAX];
    describe(device, flags, described, sizeof described);
    FILE *f = path_of(described, il, size, path, sizeof path) ? NULL : fopen(path, "rb");
    if (!f)
        return NULL;
    cl_program program = is_of(f, described, il, size) ? read_program(f, context, device) : NULL;
    fclose(f);
    return program;
}

void sim_program_cache(cl_program program, cl_device_id device, const void *il, size_t size,
                       const char *flags) {
    char described[2048], path[PATH_MAX], made[PATH_MAX + 32];
    size_t n = 0;
    describe(device, flags, described, sizeof described);
    if (clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof n, &n, NULL) != CL_SUCCESS ||
        !n || n > BINARY_MAX || path_of(described, il, size, path, sizeof path))
        return;
    unsigned char *bytes = malloc(n);
    snprintf(made, sizeof made, "%s.%d", path, (int)getpid());
    FILE *f = bytes ? fopen(made, "wb") : NULL;
    if (f) {
        int ok = clGetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof bytes, &bytes, NULL) ==
                     CL_SUCCESS &&
                 fwrite(described, strlen(described) + 1, 1, f) == 1 &&
                 fwrite(il, size, 1, f) == 1 && fwrite(bytes, n, 1, f) == 1;
        ok = fclose(f) == 0 && ok;
        if (!ok || rename(made, path))
            unlink(made);
    }
    free(bytes);
}
