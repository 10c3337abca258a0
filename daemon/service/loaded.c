/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/loaded.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "models/chat/chat.h"
#include "models/gguf.h"
#include "models/tokenizer/tokenizer.h"
#include "octarc/error.h"

/* --- the copies of the headers --- */

static int copy_bytes(int to, int from, uint64_t begin, uint64_t end) {
    char bytes[65536];
    while (begin < end) {
        const size_t n = end - begin < sizeof bytes ? (size_t)(end - begin) : sizeof bytes;
        const ssize_t got = pread(from, bytes, n, (off_t)begin);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -ESTALE;
        if (pwrite(to, bytes, (size_t)got, (off_t)begin) != got)
            return -ENOMEM;
        begin += (uint64_t)got;
    }
    return 0;
}

/* As long as the file, with holes where the weights are, so that it reads as the file does. */
static int copy_head(struct loaded *l, uint32_t part) {
    struct stat st;
    const int from = l->files.fds[part], to = l->head_fds[part];
    if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
        return -errno;
    uint64_t weights = (uint64_t)st.st_size;
    for (size_t i = 0; i < l->model.n_tensors; i++)
        if (l->model.tensors[i].part == part && l->model.tensors[i].file_offset < weights)
            weights = l->model.tensors[i].file_offset;
    int rc = copy_bytes(to, from, 0, weights);
    for (size_t i = 0; i < l->model.n_tensors && rc == 0; i++) {
        const struct model_tensor *t = &l->model.tensors[i];
        if (t->part == part && model_tensor_is_rotation(t))
            rc = copy_bytes(to, from, t->file_offset, t->file_offset + t->bytes);
    }
    if (rc == 0 &&
        fcntl(to, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        rc = -errno;
    return rc;
}

static int copy_heads(struct loaded *l) {
    int rc = 0;
    for (uint32_t i = 0; i < l->files.n && rc == 0; i++) {
        l->head_fds[i] = memfd_create("octarc-head", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        rc = l->head_fds[i] < 0 ? -errno : copy_head(l, i);
    }
    return rc;
}

static int keep_heads(struct loaded *l, const char *path, struct err *err) {
    struct file_identity now;
    l->sums_fd = memfd_create("octarc-sums", MFD_CLOEXEC);
    int rc = l->sums_fd < 0 ? -errno : copy_heads(l);
    if (rc == 0)
        rc = identity_of_all(l->files.fds, l->files.n, &now);
    if (rc == -ESTALE || (rc == 0 && !identity_equal(&now, &l->file)))
        return err_set(err, -ESTALE, "the model %s changed while it was opened", path);
    return rc < 0
               ? err_set(err, rc, "cannot keep the header of the model %s: %s", path, strerror(-rc))
               : 0;
}

static char *id_of(const char *path, uint32_t n_parts) {
    const char *slash = strrchr(path, '/');
    char *id = strdup(slash ? slash + 1 : path);
    const size_t n = id ? strlen(id) : 0;
    const size_t suffix = n_parts > 1 ? strlen("-00001-of-00002.gguf") : strlen(".gguf");
    if (n > suffix && !strcmp(id + n - 5, ".gguf"))
        id[n - suffix] = 0;
    return id;
}

static char *token_text(const struct tokenizer *tokenizer, int32_t id) {
    const char *bytes = "";
    size_t n = 0;
    if (id >= 0 && tokenizer_piece(tokenizer, id, true, &bytes, &n) < 0)
        n = 0;
    return strndup(bytes, n);
}

/* A template that cannot be used is no reason to refuse the model: chat says why, and the rest
 * works. */
static int read_template(struct loaded *l, const struct gguf *gguf) {
    struct gguf_string source;
    struct err why = {{0}};
    if (!gguf_has(gguf, "tokenizer.chat_template"))
        return 0;
    int rc = gguf_string(gguf, "tokenizer.chat_template", &source, &why);
    if (rc == 0)
        rc = chat_template_create(&l->chat, source.bytes, source.n, &why);
    if (rc == 0)
        return 0;
    l->chat_error = strdup(why.text);
    return rc == -ENOMEM || !l->chat_error ? -ENOMEM : 0;
}

static int read_all(struct loaded *l, const char *path, struct err *err) {
    struct gguf *gguf = NULL;
    int rc = gguf_open_parts(&gguf, l->files.fds, l->files.n, path, err);
    if (rc < 0)
        return rc;
    rc = model_read(&l->model, gguf, err);
    if (rc == 0)
        rc = tokenizer_create(&l->tokenizer, gguf, err);
    if (rc == 0 && read_template(l, gguf) < 0)
        rc = err_set(err, -ENOMEM, "no memory for the chat template of %s", path);
    gguf_close(gguf);
    return rc;
}

static int check_vocabulary(const struct loaded *l, struct err *err) {
    const uint32_t tokens = tokenizer_n_vocab(l->tokenizer), rows = l->model.params.n_vocab;
    if (tokens > rows)
        return err_set(err, -EINVAL, "%s: the tokenizer has %u tokens, the embedding %u rows",
                       l->path, tokens, rows);
    return 0;
}

static int fill(struct loaded *l, const char *path, struct err *err) {
    l->path = realpath(path, NULL);
    l->id = id_of(path, l->files.n);
    if (!l->path || !l->id)
        return err_set(err, -errno, "cannot open the model %s: %s", path, strerror(errno));
    int rc = identity_of_all(l->files.fds, l->files.n, &l->file);
    if (rc < 0)
        return err_set(err, rc, "cannot open the model %s: %s", path, strerror(-rc));
    rc = read_all(l, path, err);
    if (rc == 0)
        rc = check_vocabulary(l, err);
    if (rc == 0)
        rc = keep_heads(l, path, err);
    if (rc < 0)
        return rc;
    l->bos_text = token_text(l->tokenizer, tokenizer_bos(l->tokenizer));
    l->eos_text = token_text(l->tokenizer, tokenizer_eos(l->tokenizer));
    if (!l->bos_text || !l->eos_text)
        return err_set(err, -ENOMEM, "no memory for the model %s", path);
    for (size_t i = 0; i < l->model.n_tensors; i++)
        l->n_params += l->model.tensors[i].rows * l->model.tensors[i].cols;
    l->created = (uint64_t)time(NULL);
    return 0;
}

int loaded_open(struct loaded **loaded, const char *path, struct err *err) {
    struct loaded *l = calloc(1, sizeof *l);
    if (!l)
        return err_set(err, -ENOMEM, "no memory for the model %s", path);
    l->sums_fd = -1;
    memset(l->head_fds, -1, sizeof l->head_fds);
    int rc = gguf_files_open(&l->files, path, err);
    if (rc == 0)
        rc = fill(l, path, err);
    if (rc < 0) {
        loaded_close(l);
        return rc;
    }
    *loaded = l;
    return 0;
}

void loaded_close(struct loaded *l) {
    if (!l)
        return;
    if (l->tokenizer)
        tokenizer_destroy(l->tokenizer);
    if (l->chat)
        chat_template_destroy(l->chat);
    model_finish(&l->model);
    gguf_files_close(&l->files);
    for (uint32_t i = 0; i < GGUF_PARTS_MAX; i++)
        if (l->head_fds[i] >= 0)
            close(l->head_fds[i]);
    if (l->sums_fd >= 0)
        close(l->sums_fd);
    free(l->chat_error);
    free(l->bos_text);
    free(l->eos_text);
    free(l->path);
    free(l->id);
    free(l);
}
