/* SPDX-License-Identifier: Apache-2.0 */
/* A model in several files: by descriptors, by path, and what is wrong with it. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "models/gguf.h"
#include "octarc/error.h"
#include "octarc/model.h"
#include "tests/check.h"
#include "tests/gguf_bytes.h"

#define PARTS 3u

/* What a part says and holds; a test changes one thing of it. */
struct part {
    uint32_t no, count, n_tensors;
    bool silent; /* it says nothing of these */
    const char *architecture;
    const char *tensor; /* NULL: it holds none */
    size_t short_by;    /* bytes that are missing at its end */
};

static struct part parts[PARTS];
static char folder[] = "/tmp/octarc-parts-XXXXXX";

static void make_good(void) {
    static const char *const names[PARTS] = {NULL, "b", "a"};
    for (uint32_t i = 0; i < PARTS; i++)
        parts[i] = (struct part){i, PARTS, 2, false, i ? NULL : "none", names[i], 0};
}

static int file_of(const struct part *p) {
    static struct gguf_bytes b;
    put_header(&b, p->tensor != NULL, (p->silent ? 0 : 3) + (p->architecture != NULL) + 1);
    put_key_u32(&b, "general.alignment", 64);
    if (p->architecture)
        put_key_string(&b, "general.architecture", p->architecture);
    if (!p->silent) {
        put_key(&b, "split.no", GGUF_U16), put(&b, &p->no, 2);
        put_key(&b, "split.count", GGUF_U16), put(&b, &p->count, 2);
        put_key(&b, "split.tensors.count", GGUF_I32), put_u32(&b, p->n_tensors);
    }
    if (p->tensor)
        put_tensor(&b, p->tensor, TENSOR_F32, 8, 4, 0);
    put_data(&b, 64, p->tensor ? 128 : 0);
    return bytes_file(b.data, b.n - p->short_by);
}

static int open_all(struct gguf **gguf, uint32_t n, const char *name, struct err *err) {
    int fds[PARTS];
    for (uint32_t i = 0; i < PARTS; i++)
        fds[i] = file_of(&parts[i]);
    const int rc = gguf_open_parts(gguf, fds, n, name, err);
    for (uint32_t i = 0; i < PARTS; i++)
        close(fds[i]);
    return rc;
}

static void refused(const char *file, const char *part, const char *other) {
    struct gguf *gguf = (void *)folder;
    struct err err = {""};
    const int rc = open_all(&gguf, PARTS, "dir/m-00001-of-00003.gguf", &err);
    if (rc != -EINVAL || !strstr(err.text, file) || !strstr(err.text, part) ||
        !strstr(err.text, other))
        printf("# %d: %s\n", rc, err.text);
    CHECK_EQ(rc, -EINVAL);
    CHECK(strstr(err.text, file) && strstr(err.text, part) && strstr(err.text, other));
    CHECK(gguf == (void *)folder);
    make_good();
}

static void parts_are_one_model(void) {
    struct gguf *g;
    make_good();
    CHECK_EQ(open_all(&g, PARTS, "m-00001-of-00003.gguf", NULL), 0);
    CHECK_EQ(gguf_n_parts(g), 3);
    CHECK_EQ(gguf_n_tensors(g), 2);
    const struct gguf_tensor *a = gguf_find_tensor(g, "a"), *second = gguf_find_tensor(g, "b");
    CHECK(a && second && !gguf_find_tensor(g, "c"));
    CHECK_EQ(a->part, 2);
    CHECK_EQ(second->part, 1);
    CHECK_EQ(a->offset % 64, 0);
    CHECK(gguf_has(g, "general.architecture"));
    CHECK_EQ(gguf_file_bytes(g) > 3 * 128, 1);
    gguf_close(g);
}

static void what_is_not_the_next_part_is_refused(void) {
    const char *second = "dir/m-00002-of-00003.gguf", *third = "dir/m-00003-of-00003.gguf";
    make_good();
    parts[1].no = 2;
    refused(second, "'split.no' is 2; 1 was expected", "part 2 of 3");
    parts[2].count = 4;
    refused(third, "'split.count' is 4", "dir/m-00001-of-00003.gguf, says 3");
    parts[2].n_tensors = 3;
    refused(third, "'split.tensors.count' is 3", "says 2: a part of another model");
    parts[1].architecture = "other";
    refused(second, "'general.architecture'", "a part of another model");
    parts[1].architecture = "none"; /* what is the same twice is no contradiction */
    parts[2].tensor = "b";
    refused("dir/m-00001-of-00003.gguf", "tensor 'b' occurs twice", "in parts 2 and 3");
    parts[1].tensor = NULL;
    refused("dir/m-00001-of-00003.gguf", "'split.tensors.count' is 2", "3 parts have 1 tensors");
    parts[1].silent = true;
    refused(second, "'split.count' is 1", "says 3");
    parts[2].short_by = 1;
    refused(third, "tensor 'a'", "cut short?");
    parts[0].no = 1;
    refused("dir/m-00001-of-00003.gguf", "'split.no' is 1, so this is part 2 of 3",
            "open the first");
    parts[0].count = 65;
    refused("dir/m-00001-of-00003.gguf", "'split.count' is 65", "at most 64 parts");
}

static void as_many_as_it_has_must_be_given(void) {
    struct gguf *g = NULL;
    struct err err;
    make_good();
    CHECK_EQ(open_all(&g, 2, "m", &err), -EINVAL);
    CHECK(strstr(err.text, "'split.count' is 3; 2 parts were given"));
    parts[0].count = 0; /* put together again: it has them all */
    CHECK_EQ(open_all(&g, 1, "m", &err), 0);
    CHECK_EQ(gguf_n_parts(g), 1);
    gguf_close(g);
    CHECK_EQ(open_all(&g, 3, "m", &err), -EINVAL);
}

/* --- by path --- */

static void path_of(uint32_t part, char path[128]) {
    snprintf(path, 128, "%s/m-%05u-of-00003.gguf", folder, part + 1);
}

static void write_part(uint32_t part) {
    char path[128], bytes[4096];
    ssize_t n;
    path_of(part, path);
    const int from = file_of(&parts[part]), to = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(from >= 0 && to >= 0 && lseek(from, 0, SEEK_SET) == 0);
    while ((n = read(from, bytes, sizeof bytes)) > 0)
        CHECK_EQ(write(to, bytes, (size_t)n), n);
    close(from);
    close(to);
}

static void open_refused(const char *path, int code, const char *part, const char *other) {
    struct gguf *gguf = NULL;
    struct err err = {""};
    const int rc = gguf_open_path(&gguf, path, &err);
    if (rc != code || !strstr(err.text, part) || !strstr(err.text, other))
        printf("# %d: %s\n", rc, err.text);
    CHECK_EQ(rc, code);
    CHECK(strstr(err.text, part) && strstr(err.text, other));
    CHECK(!gguf);
}

static void the_others_are_found_beside_the_first(void) {
    char path[3][128], renamed[128];
    struct gguf *gguf = NULL;
    struct gguf_files files = {.n = 0};
    make_good();
    CHECK(mkdtemp(folder));
    for (uint32_t i = 0; i < PARTS; i++) {
        write_part(i);
        path_of(i, path[i]);
    }
    CHECK_EQ(gguf_files_open(&files, path[0], NULL), 0);
    CHECK_EQ(files.n, 3);
    gguf_files_close(&files);
    CHECK_EQ(gguf_open_path(&gguf, path[0], NULL), 0);
    CHECK_EQ(gguf_n_tensors(gguf), 2);
    gguf_close(gguf);

    open_refused(path[2], -EINVAL, "part 3 of 3", path[0]);
    CHECK_EQ(unlink(path[1]), 0);
    open_refused(path[0], -ENOENT, path[1], "part 2 of 3");
    CHECK_EQ(mkdir(path[1], 0700), 0);
    open_refused(path[0], -EINVAL, path[1], "is not a file");
    CHECK_EQ(rmdir(path[1]), 0);
    snprintf(renamed, sizeof renamed, "%s/model.gguf", folder);
    CHECK_EQ(rename(path[0], renamed), 0);
    open_refused(renamed, -EINVAL, "'split.count' is 3", "-00001-of-00003.gguf");
    CHECK_EQ(unlink(renamed), 0);
    CHECK_EQ(unlink(path[2]), 0);
    open_refused(path[0], -ENOENT, path[0], "cannot open the model");
    CHECK_EQ(rmdir(folder), 0);
}

static void a_name_that_is_none_gets_a_number(void) {
    char name[PATH_MAX];
    gguf_part_name("a/b-00001-of-00012.gguf", 11, name);
    CHECK(!strcmp(name, "a/b-00012-of-00012.gguf"));
    gguf_part_name("a/b-0001-of-00012.gguf", 1, name);
    CHECK(!strcmp(name, "a/b-0001-of-00012.gguf (part 2)"));
    gguf_part_name("a/b.gguf", 0, name);
    CHECK(!strcmp(name, "a/b.gguf"));
}

CHECK_MAIN(T(parts_are_one_model), T(what_is_not_the_next_part_is_refused),
           T(as_many_as_it_has_must_be_given), T(the_others_are_found_beside_the_first),
           T(a_name_that_is_none_gets_a_number))
