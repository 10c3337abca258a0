/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels, one symbol a module; images.c has their names.  As SPIR-V; with -DNATIVE= as images
 * for a card's processor: none (each is empty), those of Intel's offline compiler, or what the
 * simulated driver takes for one. */
#define native_none 1
#define native_bmg  2
#define native_sim  3

    .section .rodata
    .macro module name
#ifdef NATIVE
    symbols ze_native_\name, \name
#else
    symbols ze_spirv_\name, \name
#endif
    .endm
    .macro symbols symbol, name
    .balign 16
    .global \symbol
    .hidden \symbol
\symbol:
#ifndef NATIVE
    .incbin "\name\().spv"
#elif NATIVE == native_bmg
    .incbin "\name\().bmg"
#elif NATIVE == native_sim
    .asciz "simze\0\001"
    .incbin "\name\().spv"
#endif
    .global \symbol\()_end
    .hidden \symbol\()_end
\symbol\()_end:
    .endm

    module rows
    module attention
    module exchange
    module routes
    module measure
    module measure_xmx
    module digest
    .irp type, 0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23, 30, 39
    module matmul_\type
    module expert_\type
    .endr
    .irp type, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23, 39
    module matmul_xmx_\type
    module expert_xmx_\type
    .endr
    .section .note.GNU-stack,"",@progbits
