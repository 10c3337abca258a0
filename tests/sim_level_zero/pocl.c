/* SPDX-License-Identifier: Apache-2.0 */
/* What is translated is the very SPIR-V that a card gets, with the tools that made it: they are
 * there where kernels were built. */
#include "tests/sim_level_zero/pocl.h"

#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LANES     16u /* of a sub-group: LANES of pocl/functions.cl */
#define BYTES_MAX (64l << 20)
#define BITCODE   "-x spir -spir-std=1.2 "

bool pocl_can(cl_device_id device, const char **why) {
    char name[256] = "", version[256] = "", extensions[8192] = "";
    clGetDeviceInfo(device, CL_DEVICE_VERSION, sizeof version, version, NULL);
    clGetDeviceInfo(device, CL_DEVICE_NAME, sizeof name, name, NULL);
    clGetDeviceInfo(device, CL_DEVICE_EXTENSIONS, sizeof extensions, extensions, NULL);
    *why = "the OpenCL runtime takes no SPIR-V";
    if (!strstr(version, "PoCL"))
        return false;
    *why = "PoCL takes neither SPIR-V nor SPIR";
    if (!strstr(extensions, "cl_khr_spir"))
        return false;
    *why = "PoCL runs groups on threads of its own: POCL_DEVICES=basic has it use the caller's";
    return !strncmp(name, "basic", 5);
}

static void *read_all(const char *path, size_t *bytes) {
    struct stat st;
    FILE *f = fopen(path, "rb");
    char *made = NULL;
    if (f && fstat(fileno(f), &st) == 0 && st.st_size <= BYTES_MAX)
        made = calloc(1, (size_t)st.st_size + 1);
    *bytes = made ? fread(made, 1, (size_t)st.st_size, f) : 0;
    if (f)
        fclose(f);
    return made;
}

static bool write_all(const char *path, const void *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    const bool written = f && fwrite(bytes, 1, n, f) == n;
    return f && fclose(f) == 0 && written;
}

/* Runs pocl/translate, without what the program preloads.  Whether it succeeded. */
static bool ran(char *const argv[], const char *said) {
    char path[PATH_MAX];
    const char *own = getenv("PATH");
    snprintf(path, sizeof path, "PATH=%s", own ? own : "/usr/bin:/bin");
    char *const environment[] = {path, NULL};
    posix_spawn_file_actions_t files;
    pid_t child = 0;
    int status = 0;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 1, said, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&files, 1, 2);
    const int failed = posix_spawn(&child, argv[0], &files, NULL, argv, environment);
    posix_spawn_file_actions_destroy(&files);
    return !failed && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

static char *complaint(const char *path) {
    size_t n = 0;
    char *said = read_all(path, &n), *made = NULL;
    if (asprintf(&made, "pocl/translate: %s", n ? said : "it cannot be run") < 0)
        made = NULL;
    free(said);
    return made;
}

static void *translate_in(const char *folder, const void *il, size_t size, const char *translate,
                          size_t *bytes, char **log) {
    static const char *const names[] = {"module", "whole", "said", "module.bc"};
    char path[4][PATH_MAX];
    void *made = NULL;
    for (int i = 0; i < 4; i++)
        snprintf(path[i], sizeof path[i], "%s/%s", folder, names[i]);
    char *const argv[] = {(char *)translate, path[0], path[1], NULL};
    if (!write_all(path[0], il, size))
        *log = strdup("a module cannot be written where temporary files go");
    else if (!ran(argv, path[2]))
        *log = complaint(path[2]);
    else if (!(made = read_all(path[1], bytes)))
        *log = strdup("pocl/translate made nothing that can be read");
    for (int i = 0; i < 4; i++)
        unlink(path[i]);
    return made;
}

void *pocl_translate(const void *il, size_t size, const char *translate, size_t *bytes,
                     char **log) {
    const char *temporary = getenv("TMPDIR");
    char folder[PATH_MAX / 2];
    snprintf(folder, sizeof folder, "%s/octarc-sim-ze-XXXXXX", temporary ? temporary : "/tmp");
    if (!mkdtemp(folder)) {
        *log = strdup("there is no folder for temporary files");
        return NULL;
    }
    void *made = translate_in(folder, il, size, translate, bytes, log);
    rmdir(folder);
    return made;
}

static char *build_log(cl_program program, cl_device_id device) {
    size_t n = 0;
    clGetProgramBuildInfo(program, device, CL_PROGRAM_BUILD_LOG, 0, NULL, &n);
    char *text = calloc(1, n + 16);
    if (text) {
        strcpy(text, "PoCL: ");
        clGetProgramBuildInfo(program, device, CL_PROGRAM_BUILD_LOG, n, text + 6, NULL);
    }
    return text;
}

cl_program pocl_build(cl_context context, cl_device_id device, const void *bitcode, size_t bytes,
                      const char *flags, char **log) {
    const unsigned char *binary = bitcode;
    cl_int error = CL_SUCCESS, status = CL_SUCCESS;
    char *options = NULL;
    if (asprintf(&options, BITCODE "%s", flags) < 0)
        return NULL;
    cl_program program =
        clCreateProgramWithBinary(context, 1, &device, &bytes, &binary, &status, &error);
    if (error == CL_SUCCESS)
        error = clBuildProgram(program, 1, &device, options, NULL, NULL);
    free(options);
    if (error == CL_SUCCESS)
        return program;
    *log = program ? build_log(program, device) : strdup("PoCL refuses the bitcode");
    if (program)
        clReleaseProgram(program);
    return NULL;
}

const char *pocl_refuses(const struct spirv_kernel *kernel, const uint32_t group[3]) {
    if (!kernel->sub_group)
        return NULL;
    if (kernel->sub_group != LANES || group[0] != LANES || group[1] != 1 || group[2] != 1)
        return "PoCL has no sub-groups, and ours are whole groups of 16";
    return NULL;
}
