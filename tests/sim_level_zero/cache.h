/* SPDX-License-Identifier: Apache-2.0 */
/* cache.h - programs that were built before, on disk.
 *
 * A file a program in ~/.cache/octarc/sim-ze (XDG_CACHE_HOME moves it), named by a digest of the
 * module, the flags, the OpenCL runtime and the processor.  It begins with what it was built from,
 * so that one digest of two modules is no harm; what is damaged is built again. */
#ifndef OCTARC_SIM_LEVEL_ZERO_CACHE_H
#define OCTARC_SIM_LEVEL_ZERO_CACHE_H

#ifndef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 300
#endif
#include <CL/cl.h>
#include <stddef.h>

/* A program ready for kernels, or NULL. */
cl_program sim_program_cached(cl_context context, cl_device_id device, const void *il, size_t size,
                              const char *flags);
/* Keeps it; does nothing where it cannot. */
void sim_program_cache(cl_program program, cl_device_id device, const void *il, size_t size,
                       const char *flags);

#endif
