/* SPDX-License-Identifier: Apache-2.0 */
/* The processor of the simulated cards: an OpenCL runtime for CPUs that takes SPIR-V, or PoCL
 * (pocl.h).
 *
 * Addresses go to kernels as they are, which runtimes for CPUs allow.  Modules of the same bytes
 * and flags share one program, for eight cards build the same eight times. */
#define CL_TARGET_OPENCL_VERSION 300
#include <CL/cl.h>
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/sim_level_zero/cache.h"
#include "tests/sim_level_zero/pocl.h"
#include "tests/sim_level_zero/sim.h"

#define SIGNALS 32
#define MATRIX  "_matrix_mad_k"

struct sim_program {
    struct sim_program *next;
    uint8_t *il;
    size_t size;
    char *flags;
    cl_program program;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sim_program *programs;
static cl_device_id device;
static bool translated; /* it takes no SPIR-V, but what pocl.h makes of it */
static cl_context context;
static cl_command_queue queue;
static const char *missing = "no OpenCL runtime: tests/sim_level_zero/fetch-runtime gets one, "
                             "OCL_ICD_VENDORS names its folder, or PoCL's file";

/* The first device of any platform that takes SPIR-V, else the first one that it is translated
 * for. */
static bool find_device(void) {
    cl_platform_id platforms[8];
    cl_device_id other = NULL;
    cl_uint n = 0;
    if (clGetPlatformIDs(8, platforms, &n) != CL_SUCCESS)
        return false;
    for (cl_uint i = 0; i < n && i < 8; i++) {
        char il[256] = "";
        if (clGetDeviceIDs(platforms[i], CL_DEVICE_TYPE_CPU, 1, &device, NULL) != CL_SUCCESS)
            continue;
        clGetDeviceInfo(device, CL_DEVICE_IL_VERSION, sizeof il, il, NULL);
        if (strstr(il, "SPIR-V"))
            return true;
        if (!other && pocl_can(device, &missing))
            other = device;
    }
    device = other;
    translated = other != NULL;
    return translated;
}

static bool started(void) {
    if (queue)
        return true;
    cl_int error = CL_SUCCESS;
    if (!find_device())
        return false;
    context = clCreateContext(NULL, 1, &device, NULL, NULL, &error);
    if (error == CL_SUCCESS)
        queue = clCreateCommandQueueWithProperties(context, device, NULL, &error);
    if (error == CL_SUCCESS)
        return true;
    missing = "the OpenCL runtime does not start";
    return false;
}

static char *build_log(cl_program program, cl_int error) {
    size_t n = 0;
    clGetProgramBuildInfo(program, device, CL_PROGRAM_BUILD_LOG, 0, NULL, &n);
    char *text = calloc(1, n + 64);
    if (!text)
        return NULL;
    snprintf(text, 64, "the OpenCL runtime says %d\n", error);
    clGetProgramBuildInfo(program, device, CL_PROGRAM_BUILD_LOG, n, text + strlen(text), NULL);
    return text;
}

static bool beside(const char *name, char *path, size_t room) {
    Dl_info of = {0};
    if (!dladdr((const void *)&sim, &of) || !of.dli_fname)
        return false;
    const char *slash = strrchr(of.dli_fname, '/');
    const int folder = slash ? (int)(slash - of.dli_fname) : 0;
    return snprintf(path, room, "%.*s/%s", folder, of.dli_fname, name) < (int)room;
}

/* A file that lies beside the driver. */
static void *read_beside(const char *name, size_t *size) {
    char path[PATH_MAX];
    struct stat st;
    FILE *f = beside(name, path, sizeof path) ? fopen(path, "rb") : NULL;
    if (!f)
        return NULL;
    void *bytes = fstat(fileno(f), &st) == 0 ? malloc((size_t)st.st_size) : NULL;
    *size = bytes ? fread(bytes, 1, (size_t)st.st_size, f) : 0;
    fclose(f);
    return bytes;
}

static cl_program compile(const void *il, size_t size, const char *flags, char **log) {
    cl_int error = CL_SUCCESS;
    cl_program program = clCreateProgramWithIL(context, il, size, &error);
    if (error != CL_SUCCESS) {
        *log = strdup("clCreateProgramWithIL refuses the module");
        return NULL;
    }
    error = clCompileProgram(program, 1, &device, flags, 0, NULL, NULL, NULL, NULL);
    if (error == CL_SUCCESS)
        return program;
    *log = build_log(program, error);
    clReleaseProgram(program);
    return NULL;
}

/* What a card has and no processor: joined to every module that imports it. */
static cl_program matrix_functions(char **log) {
    static cl_program made;
    size_t size = 0;
    void *il = made ? NULL : read_beside("kernels/xmx.spv", &size);
    if (!made && !il)
        *log = strdup("kernels/xmx.spv is not beside the driver");
    if (il)
        made = compile(il, size, "", log);
    free(il);
    return made;
}

bool sim_program_needs_matrix(const uint8_t *il, size_t size) {
    return memmem(il, size, MATRIX, strlen(MATRIX)) != NULL;
}

static cl_program link_program(const uint8_t *il, size_t size, const char *flags, char **log) {
    cl_int error = CL_SUCCESS;
    cl_program parts[2] = {compile(il, size, flags, log), NULL};
    cl_uint n = 1;
    if (!parts[0])
        return NULL;
    if (sim_program_needs_matrix(il, size) && (parts[n++] = matrix_functions(log)) == NULL) {
        clReleaseProgram(parts[0]);
        return NULL;
    }
    cl_program program = clLinkProgram(context, 1, &device, "", n, parts, NULL, NULL, &error);
    clReleaseProgram(parts[0]);
    if (error == CL_SUCCESS)
        return program;
    *log = program ? build_log(program, error) : strdup("clLinkProgram refuses the module");
    if (program)
        clReleaseProgram(program);
    return NULL;
}

static cl_program translate(const uint8_t *il, size_t size, const char *flags, char **log) {
    char path[PATH_MAX];
    size_t bytes = 0;
    if (sim_program_needs_matrix(il, size)) {
        *log = strdup("PoCL is given no matrix functions: it does not end building what uses them");
        return NULL;
    }
    void *bitcode = beside("pocl/translate", path, sizeof path)
                        ? pocl_translate(il, size, path, &bytes, log)
                        : NULL;
    cl_program program = bitcode ? pocl_build(context, device, bitcode, bytes, flags, log) : NULL;
    free(bitcode);
    return program;
}

static cl_program find_or_build(const uint8_t *il, size_t size, const char *flags, char **log) {
    if (translated)
        return translate(il, size, flags, log);
    cl_program program = sim_program_cached(context, device, il, size, flags);
    if (!program && (program = link_program(il, size, flags, log)))
        sim_program_cache(program, device, il, size, flags);
    return program;
}

static struct sim_program *build(const uint8_t *il, size_t size, const char *flags, char **log) {
    cl_program program = find_or_build(il, size, flags, log);
    struct sim_program *made = program ? calloc(1, sizeof *made) : NULL;
    if (made) {
        *made = (struct sim_program){
            .il = malloc(size), .size = size, .flags = strdup(flags), .program = program};
        if (made->il && made->flags) {
            memcpy(made->il, il, size);
            return made;
        }
        free(made->il);
        free(made->flags);
    }
    free(made);
    if (program)
        clReleaseProgram(program);
    return NULL;
}

/* How the program takes signals, and this thread's stack for them. */
struct signals {
    struct sigaction actions[SIGNALS];
    stack_t stack;
};

/* Intel's runtime puts handlers and a stack of its own in the place of the program's: they go
 * again. */
static void keep_signals(struct signals *kept) {
    for (int i = 1; i < SIGNALS; i++)
        sigaction(i, NULL, &kept->actions[i]);
    sigaltstack(NULL, &kept->stack);
}

static void restore_signals(const struct signals *kept) {
    for (int i = 1; i < SIGNALS; i++)
        sigaction(i, &kept->actions[i], NULL);
    sigaltstack(&kept->stack, NULL);
}

struct sim_program *sim_program_build(const uint8_t *il, size_t size, const char *flags,
                                      char **log) {
    struct sim_program *p = NULL;
    struct signals kept;
    pthread_mutex_lock(&lock);
    keep_signals(&kept);
    if (!started()) {
        *log = strdup(missing);
    } else {
        for (p = programs; p; p = p->next)
            if (p->size == size && !memcmp(p->il, il, size) && !strcmp(p->flags, flags))
                break;
        if (!p && (p = build(il, size, flags, log))) {
            p->next = programs;
            programs = p;
        }
    }
    restore_signals(&kept);
    pthread_mutex_unlock(&lock);
    return p;
}

const uint8_t *sim_program_il(const struct sim_program *program, size_t *size) {
    *size = program->size;
    return program->il;
}

struct _cl_kernel *sim_program_kernel(struct sim_program *program, const char *name) {
    cl_int error = CL_SUCCESS;
    cl_kernel kernel = clCreateKernel(program->program, name, &error);
    return error == CL_SUCCESS ? kernel : NULL;
}

/* PoCL's kernels lie in files, and so are not told from the host's code by where they are. */
bool sim_launches_run_here(void) {
    return translated;
}

static bool set_args(const struct sim_launch *launch) {
    const struct spirv_kernel *shape = launch->kernel->shape;
    for (uint32_t i = 0; i < shape->n_args; i++) {
        const struct spirv_arg *arg = &shape->args[i];
        cl_int error = CL_SUCCESS;
        if (arg->kind == SPIRV_POINTER) {
            void *p = NULL;
            memcpy(&p, launch->args + arg->at, sizeof p);
            error = clSetKernelArgSVMPointer(launch->kernel->kernel, i, p);
        } else if (arg->kind == SPIRV_LOCAL) {
            error = clSetKernelArg(launch->kernel->kernel, i, launch->local_bytes[i], NULL);
        } else {
            error = clSetKernelArg(launch->kernel->kernel, i, arg->size, launch->args + arg->at);
        }
        if (error != CL_SUCCESS)
            return false;
    }
    return true;
}

const char *sim_launch_run(const struct sim_launch *launch) {
    size_t global[3], local[3];
    for (unsigned i = 0; i < 3; i++) {
        local[i] = launch->group[i];
        global[i] = (size_t)launch->group[i] * launch->groups[i];
        if (!global[i])
            return NULL;
    }
    const char *why = translated ? pocl_refuses(launch->kernel->shape, launch->group) : NULL;
    if (why)
        return why;
    if (!set_args(launch))
        return "the OpenCL runtime refuses an argument";
    if (clEnqueueNDRangeKernel(queue, launch->kernel->kernel, 3, NULL, global, local, 0, NULL,
                               NULL) != CL_SUCCESS)
        return "the OpenCL runtime refuses the kernel";
    return clFinish(queue) == CL_SUCCESS ? NULL : "the OpenCL runtime did not finish the kernel";
}
