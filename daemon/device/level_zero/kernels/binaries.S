/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels as SPIR-V, one symbol a module; modules.c has their names. */
    .section .rodata
    .macro module name
    .balign 16
    .global ze_spirv_\name
    .hidden ze_spirv_\name
ze_spirv_\name:
    .incbin "\name\().spv"
    .global ze_spirv_\name\()_end
    .hidden ze_spirv_\name\()_end
ze_spirv_\name\()_end:
    .endm

    module rows
    module attention
    module exchange
    module routes
    module measure
    module measure_xmx
    .irp type, 0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23, 30, 39
    module matmul_\type
    module expert_\type
    .endr
    .irp type, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23, 39
    module matmul_xmx_\type
    module expert_xmx_\type
    .endr
    .section .note.GNU-stack,"",@progbits
