/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers are those of the SPIR-V specification, section 3. */
#include "tests/sim_level_zero/spirv.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC       0x07230203u
#define HEADER      5
#define BOUND_MAX   4194303u /* of ids, by the specification's universal limits */
#define ROUND(n, a) (((n) + (a)-1) / (a) * (a))

enum op {
    OP_ENTRY_POINT = 15,
    OP_EXECUTION_MODE = 16,
    OP_TYPE_INT = 21,
    OP_TYPE_FLOAT = 22,
    OP_TYPE_VECTOR = 23,
    OP_TYPE_ARRAY = 28,
    OP_TYPE_STRUCT = 30,
    OP_TYPE_POINTER = 32,
    OP_CONSTANT = 43,
    OP_FUNCTION = 54,
    OP_FUNCTION_PARAMETER = 55,
    OP_FUNCTION_END = 56
};
enum mode { MODE_LOCAL_SIZE = 17, MODE_SUBGROUP_SIZE = 35 };
enum storage { STORAGE_CONSTANT = 0, STORAGE_LOCAL = 4, STORAGE_GLOBAL = 5, STORAGE_PRIVATE = 7 };

/* Of an id: a type's size and alignment, a pointer's target, a constant's value. */
struct id {
    uint32_t size, align;
    uint32_t target;
    uint32_t storage;
    uint32_t value;
    bool pointer;
};

struct reader {
    struct id *ids;
    uint32_t bound;
    struct spirv made;
    struct id none;            /* what an id out of bounds is */
    struct spirv_kernel *open; /* whose parameters follow */
};

static struct id *id(struct reader *r, uint32_t n) {
    if (n < r->bound)
        return &r->ids[n];
    r->none = (struct id){0};
    return &r->none;
}

static struct spirv_kernel *of_function(struct reader *r, uint32_t function) {
    for (size_t i = 0; i < r->made.n; i++)
        if (r->made.kernels[i].function == function)
            return &r->made.kernels[i];
    return NULL;
}

static int entry_point(struct reader *r, const uint32_t *w, uint32_t n) {
    if (n < 4 || strnlen((const char *)&w[3], (n - 3) * 4) >= (n - 3) * 4 ||
        strlen((const char *)&w[3]) >= SPIRV_NAME_MAX)
        return -EINVAL;
    struct spirv_kernel *grown =
        realloc(r->made.kernels, (r->made.n + 1) * sizeof *r->made.kernels);
    if (!grown)
        return -ENOMEM;
    r->made.kernels = grown;
    struct spirv_kernel *k = &grown[r->made.n++];
    *k = (struct spirv_kernel){.function = w[2]};
    strcpy(k->name, (const char *)&w[3]);
    return 0;
}

static void execution_mode(struct reader *r, const uint32_t *w, uint32_t n) {
    struct spirv_kernel *k = of_function(r, w[1]);
    if (k && n >= 6 && w[2] == MODE_LOCAL_SIZE)
        memcpy(k->group, &w[3], sizeof k->group);
    if (k && n >= 4 && w[2] == MODE_SUBGROUP_SIZE)
        k->sub_group = w[3];
}

/* Sizes are those of OpenCL C: a vector of three takes the room of four. */
static void structure(struct reader *r, const uint32_t *w, uint32_t n) {
    struct id made = {.align = 1};
    for (uint32_t i = 2; i < n; i++) {
        const struct id *member = id(r, w[i]);
        if (!member->align)
            return;
        made.size = ROUND(made.size, member->align) + member->size;
        made.align = member->align > made.align ? member->align : made.align;
    }
    made.size = ROUND(made.size, made.align);
    *id(r, w[1]) = made;
}

static void type(struct reader *r, uint32_t op, const uint32_t *w, uint32_t n) {
    struct id made = {0};
    if (op == OP_TYPE_STRUCT && n >= 2) {
        structure(r, w, n);
        return;
    }
    if (n < 3)
        return;
    if (op == OP_TYPE_INT || op == OP_TYPE_FLOAT)
        made.size = made.align = w[2] / 8;
    if (op == OP_TYPE_VECTOR && n >= 4)
        made.size = made.align = id(r, w[2])->size * (w[3] == 3 ? 4 : w[3]);
    if (op == OP_TYPE_ARRAY && n >= 4)
        made = (struct id){.size = id(r, w[2])->size * id(r, w[3])->value,
                           .align = id(r, w[2])->align};
    if (op == OP_TYPE_POINTER && n >= 4)
        made = (struct id){.size = 8, .align = 8, .pointer = true, .storage = w[2], .target = w[3]};
    *id(r, w[1]) = made;
}

static int parameter(struct reader *r, uint32_t t) {
    struct spirv_kernel *k = r->open;
    const struct id *type_of = id(r, t);
    if (!k)
        return 0;
    if (k->n_args == SPIRV_ARGS_MAX)
        return -EINVAL;
    struct spirv_arg *arg = &k->args[k->n_args];
    *arg = (struct spirv_arg){.kind = SPIRV_VALUE, .size = type_of->size};
    uint32_t align = type_of->align;
    if (type_of->pointer && type_of->storage == STORAGE_LOCAL) {
        *arg = (struct spirv_arg){.kind = SPIRV_LOCAL};
        align = 8;
    } else if (type_of->pointer && type_of->storage == STORAGE_PRIVATE) {
        arg->size = id(r, type_of->target)->size; /* a structure passed by value */
        align = id(r, type_of->target)->align;
    } else if (type_of->pointer) {
        if (type_of->storage != STORAGE_GLOBAL && type_of->storage != STORAGE_CONSTANT)
            return -EINVAL;
        arg->kind = SPIRV_POINTER;
    }
    if (!align || (!arg->size && arg->kind != SPIRV_LOCAL))
        return -EINVAL;
    const struct spirv_arg *before = k->n_args ? arg - 1 : NULL;
    arg->at = ROUND(before ? before->at + (before->size ? before->size : 8) : 0, align);
    if (arg->at > SPIRV_BYTES_MAX || arg->size > SPIRV_BYTES_MAX - arg->at)
        return -EINVAL;
    k->n_args++;
    return 0;
}

static int instruction(struct reader *r, uint32_t op, const uint32_t *w, uint32_t n) {
    switch (op) {
    case OP_ENTRY_POINT:
        return entry_point(r, w, n);
    case OP_EXECUTION_MODE:
        if (n >= 3)
            execution_mode(r, w, n);
        return 0;
    case OP_TYPE_INT:
    case OP_TYPE_FLOAT:
    case OP_TYPE_VECTOR:
    case OP_TYPE_ARRAY:
    case OP_TYPE_STRUCT:
    case OP_TYPE_POINTER:
        type(r, op, w, n);
        return 0;
    case OP_CONSTANT:
        if (n >= 4)
            id(r, w[2])->value = w[3];
        return 0;
    case OP_FUNCTION:
        r->open = n >= 3 ? of_function(r, w[2]) : NULL;
        return 0;
    case OP_FUNCTION_PARAMETER:
        return n >= 3 ? parameter(r, w[1]) : -EINVAL;
    case OP_FUNCTION_END:
        r->open = NULL;
        return 0;
    default:
        return 0;
    }
}

static int read_words(struct reader *r, const uint32_t *words, size_t n, const char **why) {
    for (size_t at = HEADER; at < n;) {
        const uint32_t length = words[at] >> 16;
        if (!length || length > n - at) {
            *why = "an instruction runs over the end of the module";
            return -EINVAL;
        }
        const int rc = instruction(r, words[at] & 0xffff, &words[at], length);
        if (rc) {
            *why = "a kernel's name or one of its arguments is not what OpenCL allows, or too long";
            return rc;
        }
        at += length;
    }
    return 0;
}

int spirv_read(struct spirv *spirv, const void *module, size_t bytes, const char **why) {
    uint32_t *words = bytes >= HEADER * 4 && bytes % 4 == 0 ? malloc(bytes) : NULL;
    *why = "this is no SPIR-V";
    if (!words)
        return -EINVAL;
    memcpy(words, module, bytes); /* which may lie anywhere */
    struct reader r = {.bound = words[3]};
    int rc = -EINVAL;
    if (words[0] == MAGIC && r.bound && r.bound <= BOUND_MAX) {
        r.ids = calloc(r.bound, sizeof *r.ids);
        rc = r.ids ? read_words(&r, words, bytes / 4, why) : -ENOMEM;
    }
    free(r.ids);
    free(words);
    if (rc) {
        spirv_finish(&r.made);
        return rc;
    }
    *spirv = r.made;
    return 0;
}

void spirv_finish(struct spirv *spirv) {
    free(spirv->kernels);
    *spirv = (struct spirv){0};
}

const struct spirv_kernel *spirv_find(const struct spirv *spirv, const char *name) {
    for (size_t i = 0; i < spirv->n; i++)
        if (!strcmp(spirv->kernels[i].name, name))
            return &spirv->kernels[i];
    return NULL;
}
