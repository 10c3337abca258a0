/* SPDX-License-Identifier: Apache-2.0 */
/* loaded.h - the front's part of a model: the open files, its tokenizer and chat template.
 *
 * Opening reads the header and builds the vocabulary, which takes a moment: it may run on any
 * thread.  Afterwards all of it is read-only. */
#ifndef OCTARC_SERVICE_LOADED_H
#define OCTARC_SERVICE_LOADED_H

#include "daemon/util/identity.h"
#include "models/gguf.h"
#include "octarc/model.h"

struct err;
struct tokenizer;
struct chat_template;

struct loaded {
    char *path, *id;           /* id: the file's name without .gguf, or without
                                * what makes it that of a first part */
    struct gguf_files files;   /* of the model; the master copy of the weights */
    struct file_identity file; /* of them as one, as they were opened */
    /* Of each file a sealed copy of its header and of the tensors that every engine reads again:
     * what becomes of the file changes nothing in them. */
    int head_fds[GGUF_PARTS_MAX];
    int sums_fd; /* checksums of its tensors, by the first engine for the later ones */
    struct model model;
    struct tokenizer *tokenizer;
    struct chat_template *chat; /* NULL: none … */
    char *chat_error;           /* … and why, where the file has one; NULL: it has none */
    char *bos_text, *eos_text;  /* empty: none */
    uint64_t created, n_params;
};

/* On failure *loaded is untouched; err names the file and what is wrong in it.  -ESTALE: it changed
 * meanwhile. */
int loaded_open(struct loaded **loaded, const char *path, struct err *err);
void loaded_close(struct loaded *loaded); /* NULL is fine */

#endif
