/* SPDX-License-Identifier: Apache-2.0 */
/* spirv.h - the kernels of a SPIR-V module and what arguments they take. */
#ifndef OCTARC_SIM_LEVEL_ZERO_SPIRV_H
#define OCTARC_SIM_LEVEL_ZERO_SPIRV_H

#include <stddef.h>
#include <stdint.h>

#define SPIRV_ARGS_MAX  64
#define SPIRV_NAME_MAX  128
#define SPIRV_BYTES_MAX 2048 /* of a kernel's arguments together */

enum spirv_arg_kind {
    SPIRV_VALUE,   /* bytes, a structure included */
    SPIRV_POINTER, /* an address of global or constant memory, 8 bytes */
    SPIRV_LOCAL    /* memory of a group; its size is what is set */
};

struct spirv_arg {
    enum spirv_arg_kind kind;
    uint32_t size; /* bytes; 0 for local memory */
    uint32_t at;   /* where it lies among the arguments */
};

struct spirv_kernel {
    char name[SPIRV_NAME_MAX];
    uint32_t function;
    uint32_t n_args;
    struct spirv_arg args[SPIRV_ARGS_MAX];
    uint32_t group[3];  /* required, or 0 */
    uint32_t sub_group; /* required, or 0 */
};

struct spirv {
    struct spirv_kernel *kernels; /* owned */
    size_t n;
};

/* Reads `bytes` of a module.  Returns 0, or -EINVAL with a sentence in *why: no SPIR-V, damaged,
 * an argument of a type that no kernel may take; -ENOMEM. */
int spirv_read(struct spirv *spirv, const void *module, size_t bytes, const char **why);
void spirv_finish(struct spirv *spirv);
const struct spirv_kernel *spirv_find(const struct spirv *spirv, const char *name);

#endif
