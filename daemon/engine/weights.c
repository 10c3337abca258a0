/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/weights.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/engine/sums.h"
#include "octarc/error.h"

#define HEADER_MAGIC     UINT64_C(0x737468676965774f) /* "Oweights" */
#define HEADER_VERSION   2u
#define RANGES_MAX       ((PLAN_WEIGHTS_HEADER - sizeof(struct weights_header)) / 8)
#define SLICE_BYTES      (1u << 20) /* read and repacked at a time by one thread */
#define LOAD_THREADS_MAX 16u
#define BEHIND_NICE      10
#define LOOK_US          1000  /* until who reports the progress looks again; an end waits for it */
#define PAUSE_US         20000 /* until a load that is paused looks again */

struct weights_header {
    uint64_t magic;
    uint32_t version, layout, numerics, zero;
    uint64_t file_bytes, file_mtime_ns, file_inode, file_device;
    uint64_t plan_key; /* digest of the card's ranges */
    uint64_t n_ranges;
    uint64_t digests_digest; /* of the digests that follow */
};

/* Rows [row_begin, row_begin + rows) of a range, or a whole range to be digested or copied. */
struct slice {
    uint32_t range;
    uint32_t row_begin, rows;
};

/* Where a range lies in the runner before, and what it must be like. */
struct source {
    bool known, copied;
    uint32_t card;
    uint64_t offset, digest;
};

struct loader {
    struct device *device;
    const struct runner_options *options;
    struct slice *slices;
    size_t n_slices;
    size_t buffer_bytes;    /* of the largest slice */
    uint64_t *digests;      /* of every range of the plan; digest passes only */
    struct source *sources; /* [n_ranges]: of ranges that may be copied; NULL: none may */
    bool copying;           /* this pass copies; what fails it is left for the one that reads */
    struct sums sums;       /* of the file */
    _Atomic size_t next;    /* slice to take */
    _Atomic uint64_t done, total;
    _Atomic int rc;           /* the first failure */
    pthread_mutex_t err_lock; /* guards err */
    struct err *err;
};

static const struct model_tensor *tensor_of(const struct loader *l, const struct plan_range *r) {
    return &l->options->model->tensors[r->tensor];
}

static void fail(struct loader *l, const struct plan_range *r, int rc, const char *what) {
    pthread_mutex_lock(&l->err_lock);
    if (!atomic_load(&l->rc)) {
        const struct model_tensor *t = tensor_of(l, r);
        atomic_store(&l->rc, rc);
        if (rc == -ESTALE)
            err_set(l->err, rc,
                    "the file %s changed since it was opened: tensor '%s' at byte %" PRIu64,
                    l->options->file_name, t->name, t->file_offset);
        else
            err_set(l->err, rc, "%s: tensor '%s' at byte %" PRIu64 ": %s", l->options->file_name,
                    t->name, t->file_offset, what);
    }
    pthread_mutex_unlock(&l->err_lock);
}

static void pack_slice(struct loader *l, const struct slice *s, char *bytes) {
    const struct plan_range *r = &l->options->plan->ranges[s->range];
    const struct model_tensor *t = tensor_of(l, r);
    const struct tensor_type_info *type = tensor_type_info(t->type);
    const uint64_t row_bytes = t->cols / type->block_values * type->block_bytes;
    const uint64_t first_block = r->col_begin / type->block_values;
    /* All rows that share a checksum with these. */
    const uint64_t row = r->row_begin + s->row_begin, begin = row / SUM_ROWS * SUM_ROWS;
    uint64_t end = (row + s->rows + SUM_ROWS - 1) / SUM_ROWS * SUM_ROWS;
    end = end < t->rows ? end : t->rows;
    int rc = sums_pread(l->options->model_fd, bytes, (end - begin) * row_bytes,
                        t->file_offset + begin * row_bytes);

    if (rc == 0 && !sums_match(&l->sums, r->tensor, bytes, begin, end, row_bytes))
        rc = -ESTALE;
    if (rc) {
        fail(l, r, rc, strerror(-rc));
        return;
    }
    rc = l->options->backend->pack(
        l->device, r->card, r->offset, t->type, model_tensor_is_vector(t),
        r->row_end - r->row_begin, s->row_begin, s->rows, r->col_end - r->col_begin,
        (uint32_t)(r->col_begin % type->block_values),
        bytes + (row - begin) * row_bytes + first_block * type->block_bytes, row_bytes);
    if (rc)
        fail(l, r, rc, strerror(-rc));
    atomic_fetch_add(&l->done, s->rows * row_bytes * (r->col_end - r->col_begin) / t->cols);
}

static void digest_range(struct loader *l, const struct slice *s) {
    const struct plan_range *r = &l->options->plan->ranges[s->range];
    const int rc =
        l->options->backend->digest(l->device, r->card, r->offset, r->bytes, &l->digests[s->range]);
    if (rc)
        fail(l, r, rc, strerror(-rc));
}

static bool cancelled(struct loader *l) {
    const _Atomic bool *flag = l->options->cancelled;
    return flag && atomic_load(flag);
}

/* A piece at a time, so that it can be cancelled; and proven where it arrived. */
static void copy_range(struct loader *l, const struct slice *s) {
    const struct plan_range *r = &l->options->plan->ranges[s->range];
    const struct device_ops *ops = l->options->backend;
    struct source *from = &l->sources[s->range];
    struct device *before = runner_device(l->options->before);
    uint64_t digest = 0;
    int rc = 0;
    for (uint64_t at = 0; at < r->bytes && !rc; at += SLICE_BYTES) {
        const uint64_t n = r->bytes - at < SLICE_BYTES ? r->bytes - at : SLICE_BYTES;
        rc = cancelled(l) ? -ECANCELED
                          : ops->copy(before, from->card, AREA_WEIGHTS, from->offset + at,
                                      l->device, r->card, r->offset + at, n);
        atomic_fetch_add(&l->done, rc ? 0 : n);
    }
    if (!rc)
        rc = ops->digest(l->device, r->card, r->offset, r->bytes, &digest);
    from->copied = !rc && digest == from->digest;
}

/* Beside a runner that serves, loading takes what that leaves of the cores. */
static void step_behind(void) {
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), BEHIND_NICE);
}

static void wait_while_paused(struct loader *l) {
    const _Atomic bool *flag = l->options->paused;
    while (flag && atomic_load(flag) && !cancelled(l))
        usleep(PAUSE_US);
}

static void work_slices(struct loader *l, char *bytes) {
    size_t i;
    while (!atomic_load(&l->rc) && (i = atomic_fetch_add(&l->next, 1)) < l->n_slices) {
        wait_while_paused(l);
        if (cancelled(l))
            atomic_store(&l->rc, -ECANCELED);
        else if (l->digests)
            digest_range(l, &l->slices[i]);
        else if (l->copying)
            copy_range(l, &l->slices[i]);
        else
            pack_slice(l, &l->slices[i], bytes);
    }
}

static void *work(void *arg) {
    struct loader *l = arg;
    const bool reads = !l->digests && !l->copying;
    char *bytes = reads ? malloc(l->buffer_bytes) : NULL;
    if (l->options->behind)
        step_behind();
    if (reads && !bytes)
        atomic_store(&l->rc, -ENOMEM);
    else
        work_slices(l, bytes);
    free(bytes);
    return NULL;
}

/* Run the slices on a few threads while this one reports the progress. */
static int run(struct loader *l) {
    const uint32_t asked = l->options->behind ? 1 : l->options->device.n_threads;
    long n = asked ? (long)asked : sysconf(_SC_NPROCESSORS_ONLN);
    pthread_t threads[LOAD_THREADS_MAX];
    long started = 0;
    n = n < 1 ? 1 : n > (long)LOAD_THREADS_MAX ? (long)LOAD_THREADS_MAX : n;
    while (started < n && !pthread_create(&threads[started], NULL, work, l))
        started++;
    if (started == 0)
        work(l);
    while (l->options->progress && !l->digests && !atomic_load(&l->rc) &&
           atomic_load(&l->next) < l->n_slices) {
        l->options->progress(l->options->user, atomic_load(&l->done), atomic_load(&l->total));
        usleep(LOOK_US);
    }
    for (long i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    return atomic_load(&l->rc);
}

/* The slices of a range, or (whole) one for all of it. */
static int add_range(struct loader *l, uint32_t range, bool whole) {
    const struct plan_range *r = &l->options->plan->ranges[range];
    const struct model_tensor *t = tensor_of(l, r);
    const struct tensor_type_info *type = tensor_type_info(t->type);
    const uint64_t row_bytes = t->cols / type->block_values * type->block_bytes;
    const uint64_t rows = r->row_end - r->row_begin;
    uint64_t step = whole ? rows : SLICE_BYTES / row_bytes / 16 * 16;
    step = step < 16 ? 16 : step;
    struct slice *more =
        realloc(l->slices, (l->n_slices + (rows + step - 1) / step) * sizeof *l->slices);
    if (!more)
        return -ENOMEM;
    l->slices = more;
    for (uint64_t row = 0; row < rows; row += step) {
        const uint64_t n = rows - row < step ? rows - row : step;
        l->slices[l->n_slices++] = (struct slice){range, (uint32_t)row, (uint32_t)n};
        const uint64_t bytes = (n + 2 * (SUM_ROWS - 1)) * row_bytes;
        l->buffer_bytes = l->buffer_bytes < bytes ? bytes : l->buffer_bytes;
    }
    l->total += row_bytes * rows * (r->col_end - r->col_begin) / t->cols;
    return 0;
}

/* Of every range of a card that is not copied. */
static int add_slices(struct loader *l, uint32_t card, bool whole) {
    const struct plan *plan = l->options->plan;
    int rc = 0;
    for (uint32_t i = 0; i < plan->n_ranges && !rc; i++)
        if (plan->ranges[i].card == card && !(l->sources && l->sources[i].copied))
            rc = add_range(l, i, whole);
    return rc;
}

static int make_header(const struct loader *l, uint32_t card, struct weights_header *h) {
    const struct plan *plan = l->options->plan;
    const struct file_identity *file = &l->options->file;
    uint64_t n = 0;
    *h = (struct weights_header){
        .magic = HEADER_MAGIC,
        .version = HEADER_VERSION,
        .layout = LAYOUT_VERSION,
        .numerics = NUMERICS_VERSION,
    };
    h->file_bytes = file->bytes;
    h->file_mtime_ns = file->mtime_ns;
    h->file_inode = file->inode;
    h->file_device = file->device;

    uint64_t(*key)[8] = calloc(plan->n_ranges + 1, sizeof *key);
    if (!key)
        return -ENOMEM;
    for (size_t i = 0; i < plan->n_ranges; i++) {
        const struct plan_range *r = &plan->ranges[i];
        if (r->card != card)
            continue;
        const uint64_t row[8] = {r->tensor,    tensor_of(l, r)->type,
                                 r->row_begin, r->row_end,
                                 r->col_begin, r->col_end,
                                 r->offset,    r->bytes};
        memcpy(key[n++], row, sizeof row);
    }
    h->plan_key = device_digest(key, n * sizeof *key);
    h->n_ranges = n;
    free(key);
    return 0;
}

/* The digests of a card's ranges as they are in its memory now, in the plan's order. */
static uint64_t *digest_card(struct loader *l, uint32_t card, int *rc) {
    const struct plan *plan = l->options->plan;
    uint64_t *of_card = calloc(plan->n_ranges + 1, sizeof *of_card), n = 0;
    struct loader pass = {.device = l->device, .options = l->options, .err = l->err};
    pass.digests = calloc(plan->n_ranges + 1, sizeof *pass.digests);
    pthread_mutex_init(&pass.err_lock, NULL);
    *rc = of_card && pass.digests ? add_slices(&pass, card, true) : -ENOMEM;
    if (!*rc)
        *rc = run(&pass);
    for (size_t i = 0; !*rc && i < plan->n_ranges; i++)
        if (plan->ranges[i].card == card)
            of_card[n++] = pass.digests[i];
    pthread_mutex_destroy(&pass.err_lock);
    free(pass.slices);
    free(pass.digests);
    if (*rc) {
        free(of_card);
        return NULL;
    }
    return of_card;
}

int weights_card_digests(const struct device_ops *ops, struct device *device, uint32_t card,
                         uint64_t n, uint64_t **out) {
    struct weights_header h;
    uint64_t *digests = malloc((n + 1) * sizeof *digests);
    int rc = digests ? ops->peek(device, card, 0, &h, sizeof h) : -ENOMEM;
    if (!rc && (h.magic != HEADER_MAGIC || h.n_ranges != n))
        rc = -EBADMSG;
    if (!rc)
        rc = ops->peek(device, card, sizeof h, digests, n * sizeof *digests);
    if (!rc && device_digest(digests, n * sizeof *digests) != h.digests_digest)
        rc = -EBADMSG;
    if (rc)
        free(digests);
    else
        *out = digests;
    return rc;
}

/* NULL: the card holds nothing that can be proven. */
static uint64_t *read_digests(const struct device_ops *ops, struct device *device, uint32_t card,
                              uint64_t n) {
    uint64_t *digests;
    return weights_card_digests(ops, device, card, n, &digests) ? NULL : digests;
}

/* Whether the card's memory holds just what the plan wants, unharmed, and so does its header: what
 * is used is verified by the digests there later on. */
static int find_whole(struct loader *l, uint32_t card, bool *whole) {
    const struct device_ops *ops = l->options->backend;
    struct weights_header want, have;
    int rc = make_header(l, card, &want);
    *whole = false;
    if (rc)
        return rc;
    rc = ops->peek(l->device, card, 0, &have, sizeof have);
    if (rc)
        return rc;
    want.digests_digest = have.digests_digest;
    if (memcmp(&want, &have, sizeof want) != 0 || want.n_ranges > RANGES_MAX)
        return 0;
    uint64_t *kept = read_digests(ops, l->device, card, want.n_ranges);
    uint64_t *digests = kept ? digest_card(l, card, &rc) : NULL;
    if (digests)
        *whole = memcmp(digests, kept, want.n_ranges * sizeof *kept) == 0;
    free(digests);
    free(kept);
    return rc;
}

static int seal_card(struct loader *l, uint32_t card) {
    const struct device_ops *ops = l->options->backend;
    struct weights_header h;
    int rc = make_header(l, card, &h);
    if (rc)
        return rc;
    if (h.n_ranges > RANGES_MAX)
        return err_set(l->err, -E2BIG, "card %u: %" PRIu64 " ranges, at most %zu fit the header",
                       card, h.n_ranges, (size_t)RANGES_MAX);
    uint64_t *digests = digest_card(l, card, &rc);
    if (!digests)
        return rc;
    h.digests_digest = device_digest(digests, h.n_ranges * 8);
    rc = ops->poke(l->device, card, sizeof h, digests, h.n_ranges * 8);
    if (!rc)
        rc = ops->poke(l->device, card, 0, &h, sizeof h);
    free(digests);
    return rc;
}

/* Before there are checksums, the file must look as it did when it was opened. */
static int check_file(const struct loader *l) {
    struct file_identity now;
    const int rc = l->sums.known ? 0 : identity_of(l->options->model_fd, &now);
    if (rc || l->sums.known || identity_equal(&now, &l->options->file))
        return rc;
    return err_set(l->err, -ESTALE, "the file %s changed since it was opened",
                   l->options->file_name);
}

/* --- the runner before --- */

/* Behind the last range of the card whose first one is `begin`. */
static size_t card_end(const struct plan *plan, size_t begin) {
    size_t end = begin;
    while (end < plan->n_ranges && plan->ranges[end].card == plan->ranges[begin].card)
        end++;
    return end;
}

static bool same_values(const struct plan_range *a, const struct plan_range *b) {
    return a->tensor == b->tensor && a->row_begin == b->row_begin && a->row_end == b->row_end &&
           a->col_begin == b->col_begin && a->col_end == b->col_end && a->bytes == b->bytes;
}

/* Offer a range of the runner before to all ranges that want the same. */
static void offer(struct loader *l, const struct plan_range *from, uint64_t digest) {
    const struct plan *plan = l->options->plan;
    for (size_t i = 0; i < plan->n_ranges; i++)
        if (!l->sources[i].known && same_values(&plan->ranges[i], from))
            l->sources[i] = (struct source){
                .known = true, .card = from->card, .offset = from->offset, .digest = digest};
}

static int find_sources(struct loader *l) {
    const struct plan *old = runner_options(l->options->before)->plan;
    l->sources = calloc(l->options->plan->n_ranges + 1, sizeof *l->sources);
    if (!l->sources)
        return -ENOMEM;
    for (size_t begin = 0, end; begin < old->n_ranges; begin = end) {
        end = card_end(old, begin);
        uint64_t *digests = read_digests(l->options->backend, runner_device(l->options->before),
                                         old->ranges[begin].card, end - begin);
        for (size_t i = begin; digests && i < end; i++)
            offer(l, &old->ranges[i], digests[i - begin]);
        free(digests);
    }
    return 0;
}

/* Copy what the cards of the runner before hold; what arrives harmed is read instead. */
static int copy_ranges(struct loader *l, struct weights_origin origin[CARDS_MAX]) {
    const struct plan *plan = l->options->plan;
    int rc = find_sources(l);
    if (rc)
        return rc;
    l->slices = malloc((plan->n_ranges + 1) * sizeof *l->slices);
    if (!l->slices)
        return -ENOMEM;
    for (uint32_t i = 0; i < plan->n_ranges; i++)
        if (l->sources[i].known && !origin[plan->ranges[i].card].reused) {
            l->slices[l->n_slices++] = (struct slice){.range = i};
            l->total += plan->ranges[i].bytes;
        }
    l->copying = true;
    rc = run(l);
    for (size_t i = 0; i < plan->n_ranges; i++)
        if (l->sources[i].copied) {
            struct weights_origin *of = &origin[plan->ranges[i].card];
            of->copied_bytes += plan->ranges[i].bytes;
            of->from_bytes[l->sources[i].card] += plan->ranges[i].bytes;
        }
    free(l->slices);
    l->slices = NULL;
    l->n_slices = 0;
    l->copying = false;
    atomic_store(&l->next, 0);
    return rc;
}

/* From here until seal_card() the memory is neither the old content nor the new. */
static int unseal_cards(struct loader *l, const struct weights_origin origin[CARDS_MAX]) {
    static const struct weights_header blank;
    const struct plan *plan = l->options->plan;
    int rc = 0;
    for (uint32_t c = 0; c < plan->n_cards && !rc; c++)
        if (plan->cards[c].weights_bytes && !origin[c].reused)
            rc = l->options->backend->poke(l->device, c, 0, &blank, sizeof blank);
    return rc;
}

/* Read and repack what was neither found nor copied. */
static int read_ranges(struct loader *l, const struct weights_origin origin[CARDS_MAX]) {
    const struct plan *plan = l->options->plan;
    int rc = sums_read(&l->sums, l->options->model, &l->options->file, l->options->sums_fd);
    for (uint32_t c = 0; c < plan->n_cards && !rc; c++)
        if (plan->cards[c].weights_bytes && !origin[c].reused)
            rc = add_slices(l, c, false);
    if (rc || l->n_slices == 0)
        return rc;
    rc = check_file(l);
    if (!rc)
        rc = run(l);
    return rc ? rc : check_file(l);
}

/* Fill the cards that were not found whole.  The checksums of what was read are kept before the
 * first card is sealed: sealed memory never mixes two states of the file. */
static int fill_cards(struct loader *l, struct weights_origin origin[CARDS_MAX]) {
    const struct plan *plan = l->options->plan;
    int rc = unseal_cards(l, origin);
    if (!rc && l->options->before)
        rc = copy_ranges(l, origin);
    if (!rc)
        rc = read_ranges(l, origin);
    if (!rc && !l->sums.known && l->n_slices)
        rc = sums_write(&l->sums, &l->options->file, l->options->sums_fd);
    for (uint32_t c = 0; c < plan->n_cards && !rc; c++)
        if (plan->cards[c].weights_bytes && !origin[c].reused)
            rc = seal_card(l, c);
    sums_finish(&l->sums);
    free(l->slices);
    free(l->sources);
    return rc;
}

int weights_load(struct device *device, const struct runner_options *options,
                 struct weights_origin origin[CARDS_MAX], struct err *err) {
    struct loader l = {.device = device, .options = options, .err = err};
    bool whole = true;
    int rc = 0;

    pthread_mutex_init(&l.err_lock, NULL);
    for (uint32_t c = 0; c < options->plan->n_cards && !rc; c++) {
        origin[c] = (struct weights_origin){0};
        if (options->plan->cards[c].weights_bytes) {
            rc = find_whole(&l, c, &origin[c].reused);
            whole &= origin[c].reused;
        }
    }
    if (!rc && !whole)
        rc = fill_cards(&l, origin);
    if (!rc && options->progress)
        options->progress(options->user, l.total, l.total);
    if (rc == -ENOMEM)
        err_set(err, rc, "no memory to load '%s'", options->model->params.name);
    pthread_mutex_destroy(&l.err_lock);
    return rc;
}

/* --- after the loading --- */

int weights_digests(struct device *device, const struct runner_options *options,
                    uint64_t **digests) {
    const struct plan *plan = options->plan;
    uint64_t *all = calloc(plan->n_ranges + 1, sizeof *all);
    int rc = all ? 0 : -ENOMEM;
    for (size_t begin = 0, end; begin < plan->n_ranges && !rc; begin = end) {
        end = card_end(plan, begin);
        uint64_t *of_card =
            read_digests(options->backend, device, plan->ranges[begin].card, end - begin);
        if (of_card)
            memcpy(all + begin, of_card, (end - begin) * sizeof *all);
        else
            rc = -EBADMSG;
        free(of_card);
    }
    if (rc)
        free(all);
    else
        *digests = all;
    return rc;
}

/* What lies between the rows' ends is of the digest too, and nobody writes it. */
static int blank(struct device *device, const struct runner_options *options, uint32_t range) {
    static const char zeros[64u << 10];
    const struct plan_range *r = &options->plan->ranges[range];
    int rc = 0;
    for (uint64_t at = 0; at < r->bytes && !rc; at += sizeof zeros)
        rc = options->backend->poke(device, r->card, r->offset + at, zeros,
                                    r->bytes - at < sizeof zeros ? r->bytes - at : sizeof zeros);
    return rc;
}

int weights_restore(struct device *device, const struct runner_options *options, uint32_t range,
                    uint64_t digest, struct err *err) {
    const struct plan_range *r = &options->plan->ranges[range];
    struct runner_options whole_team = *options;
    struct loader l = {.device = device, .options = &whole_team, .err = err};
    uint64_t found = 0;
    whole_team.behind = false; /* steps wait for it */
    pthread_mutex_init(&l.err_lock, NULL);
    int rc = sums_read(&l.sums, options->model, &options->file, options->sums_fd);
    if (!rc)
        rc = add_range(&l, range, false);
    if (!rc)
        rc = check_file(&l);
    if (!rc)
        rc = blank(device, options, range);
    if (!rc)
        rc = run(&l);
    if (!rc)
        rc = options->backend->digest(device, r->card, r->offset, r->bytes, &found);
    if (!rc && found != digest)
        fail(&l, r, rc = -ESTALE, "");
    if (rc == -ENOMEM)
        err_set(err, rc, "no memory to read '%s' again", tensor_of(&l, r)->name);
    pthread_mutex_destroy(&l.err_lock);
    sums_finish(&l.sums);
    free(l.slices);
    return rc;
}
