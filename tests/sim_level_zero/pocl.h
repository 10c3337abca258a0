/* SPDX-License-Identifier: Apache-2.0 */
/* pocl.h - PoCL, which stands in where Intel's runtime is not.  Debian 12's takes no SPIR-V, but
 * bitcode of LLVM, and has no sub-groups: modules are translated, and joined to functions of ours,
 * for which a group is one sub-group, and one thread runs all its lanes. */
#ifndef OCTARC_SIM_LEVEL_ZERO_POCL_H
#define OCTARC_SIM_LEVEL_ZERO_POCL_H

#ifndef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 300
#endif
#include <CL/cl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim_level_zero/spirv.h"

/* Whether a device takes modules so; false with a sentence in *why where it is PoCL's and cannot be
 * used: it has several threads, say. */
bool pocl_can(cl_device_id device, const char **why);

/* The module as bitcode (owned), or NULL with a text in *log (owned). `translate`: the path of
 * pocl/translate as it is built. */
void *pocl_translate(const void *il, size_t size, const char *translate, size_t *bytes, char **log);

/* A program of such bitcode, built; NULL with a text in *log (owned), which names what PoCL has
 * not. */
cl_program pocl_build(cl_context context, cl_device_id device, const void *bitcode, size_t bytes,
                      const char *flags, char **log);

/* Why a kernel cannot be launched in such groups, or NULL. */
const char *pocl_refuses(const struct spirv_kernel *kernel, const uint32_t group[3]);

#endif
