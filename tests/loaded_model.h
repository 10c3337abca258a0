/* SPDX-License-Identifier: Apache-2.0 */
/* loaded_model.h - a generated tiny model opened on simulated cards, for tests of the engine. */
#ifndef OCTARC_TESTS_LOADED_MODEL_H
#define OCTARC_TESTS_LOADED_MODEL_H

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "daemon/engine/runner.h"
#include "daemon/placement/share.h"
#include "models/gguf.h"
#include "octarc/error.h"
#include "tests/check.h"

#define MIB      (UINT64_C(1) << 20)
#define MAX_ROWS 64u

struct loaded {
    int fd, sums_fd;
    int head_fd; /* 0: fd */
    struct file_identity file;
    struct model model;
    struct plan plan;
    struct runner *runner;
    int weight_fds[CARDS_MAX];
};

struct setup {
    uint32_t n_cards;
    enum split split;
    enum kv_type kv_type;
    bool isolate, memfds, profile, behind;
    enum instruction_set isa;
    uint32_t n_threads;
    uint32_t context;                   /* 0: 128 */
    uint64_t capacity_bytes[CARDS_MAX]; /* 0: 256 MiB */
    const struct topology *topology;    /* NULL: nothing is known of it */
    const struct device_ops *backend;   /* NULL: cpu */
    uint32_t *lost;                     /* as of runner_options */
    enum device_storage storage;        /* level_zero */
    struct device_calls *calls;         /* as of device_options */
};

static inline const char *tiny_path(const char *name) {
    static char path[512];
    const char *dir = getenv("OCTARC_TINY");
    if (!dir)
        SKIP("OCTARC_TINY does not name the folder of the tiny models (make tiny)");
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static inline void must(int rc, const struct err *err) {
    if (rc)
        printf("# %d: %s\n", rc, err->text);
    CHECK_EQ(rc, 0);
}

static inline int try_runner(struct loaded *l, const struct setup *s, struct err *err) {
    struct runner_options o = {.backend = s->backend ? s->backend : device_backend("cpu"),
                               .model = &l->model,
                               .plan = &l->plan,
                               .part_fds = &l->fd,
                               .file_name = "the model",
                               .file = l->file,
                               .head_fds = l->head_fd ? &l->head_fd : &l->fd,
                               .n_parts = 1,
                               .sums_fd = l->sums_fd,
                               .lost = s->lost,
                               .behind = s->behind};
    o.device.isolate = s->isolate;
    o.device.profile = s->profile;
    o.device.isa = s->isa;
    o.device.storage = s->storage;
    o.device.calls = s->calls;
    o.device.n_threads = s->n_threads ? s->n_threads : 2;
    memcpy(o.weight_fds, l->weight_fds, sizeof o.weight_fds);
    return runner_open(&l->runner, &o, err);
}

static inline void open_runner(struct loaded *l, const struct setup *s) {
    struct err err = {{0}};
    must(try_runner(l, s, &err), &err);
}

/* The model and its plan: 0 or -ENOSPC. */
static inline int plan_model(struct loaded *l, const char *file, const struct setup *s) {
    struct gguf *gguf = NULL;
    struct err err = {{0}};
    const char *path = file[0] == '/' ? file : tiny_path(file);
    *l = (struct loaded){.fd = open(path, O_RDONLY | O_CLOEXEC)};
    CHECK(l->fd >= 0);
    CHECK_EQ(identity_of(l->fd, &l->file), 0);
    l->sums_fd = s->memfds ? memfd_create("sums", MFD_CLOEXEC) : -1;
    must(gguf_open(&gguf, l->fd, path, &err), &err);
    must(model_read(&l->model, gguf, &err), &err);
    gguf_close(gguf);
    struct plan_input in = {.model = &l->model,
                            .backend = s->backend ? s->backend : device_backend("cpu"),
                            .n_cards = s->n_cards,
                            .topology = s->topology,
                            .split = s->split,
                            .kv_type = s->kv_type,
                            .context = s->context ? s->context : 128,
                            .max_sequences = 4,
                            .max_rows = MAX_ROWS};
    for (uint32_t i = 0; i < s->n_cards; i++) {
        in.online[i] = true;
        in.capacity_bytes[i] = s->capacity_bytes[i] ? s->capacity_bytes[i] : 256 * MIB;
    }
    const int rc = plan_build(&l->plan, &in, &err);
    if (rc != -ENOSPC)
        must(rc, &err);
    for (uint32_t i = 0; i < CARDS_MAX; i++) {
        l->weight_fds[i] = -1;
        if (!rc && s->memfds && i < s->n_cards) {
            l->weight_fds[i] = memfd_create("weights", MFD_CLOEXEC);
            CHECK_EQ(ftruncate(l->weight_fds[i], (off_t)l->plan.cards[i].weights_bytes), 0);
        }
    }
    return rc;
}

static inline void load(struct loaded *l, const char *file, const struct setup *s) {
    CHECK_EQ(plan_model(l, file, s), 0);
    open_runner(l, s);
}

/* A plan that keeps so many layers of every card in host memory, on cards with not a byte to spare.
 */
static inline void plan_spilled_layers(struct loaded *l, const char *file, const struct setup *s,
                                       uint32_t n_spilled) {
    CHECK_EQ(plan_model(l, file, s), 0);
    struct plan_input in = {.model = &l->model,
                            .backend = s->backend ? s->backend : device_backend("cpu")};
    for (uint32_t i = 0; i < l->plan.n_cards; i++) {
        struct plan_card *c = &l->plan.cards[i];
        const uint32_t n = c->layer_end - c->layer_begin;
        c->n_spilled = n_spilled < n ? n_spilled : n;
    }
    free(l->plan.ranges);
    CHECK_EQ(share_ranges(&l->plan, &in), 0);
    for (uint32_t i = 0; i < l->plan.n_cards; i++)
        l->plan.cards[i].capacity_bytes = plan_card_bytes(&l->plan.cards[i]);
    for (uint32_t i = 0; i < s->n_cards && s->memfds; i++)
        CHECK_EQ(ftruncate(l->weight_fds[i], (off_t)l->plan.cards[i].weights_bytes), 0);
}

static inline void unload(struct loaded *l) {
    runner_close(l->runner);
    plan_finish(&l->plan);
    model_finish(&l->model);
    for (uint32_t i = 0; i < CARDS_MAX; i++)
        if (l->weight_fds[i] >= 0)
            close(l->weight_fds[i]);
    close(l->fd);
    if (l->sums_fd >= 0)
        close(l->sums_fd);
}

#endif
