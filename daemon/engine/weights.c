/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/weights.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/engine/behind.h"
#include "daemon/engine/header.h"
#include "daemon/engine/prove.h"
#include "daemon/engine/stage.h"
#include "daemon/engine/sums.h"
#include "daemon/engine/unused.h"
#include "daemon/placement/layout.h"
#include "models/gguf.h"
#include "octarc/error.h"

#define SLICE_BYTES      (1u << 20) /* read and repacked at a time by one thread */
#define LOAD_THREADS_MAX 16u
#define LOOK_US          1000  /* until who reports the progress looks again; an end waits for it */
#define PAUSE_US         20000 /* until a load that is paused looks again */

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

enum pass {
    PASS_READ,
    PASS_COPY, /* what fails it is left for the one that reads */
    PASS_DIGEST
};

struct loader {
    struct device *device;
    const struct runner_options *options;
    struct slice *slices;
    size_t n_slices;
    size_t buffer_bytes;    /* of the largest slice */
    const bool *in_place;   /* per card: its memory is that of the runner before */
    uint64_t *digests;      /* [n_ranges], of what is there */
    bool *kept;             /* [n_ranges]: it was found where it has to be */
    struct source *sources; /* [n_ranges]: of ranges that may be copied; NULL: none may */
    enum pass pass;
    struct sums sums;    /* of the file */
    _Atomic size_t next; /* slice to take */
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
        char name[PATH_MAX];
        gguf_part_name(l->options->file_name, t->part, name);
        atomic_store(&l->rc, rc);
        if (rc == -ESTALE)
            err_set(l->err, rc,
                    "the file %s changed since it was opened: tensor '%s' at byte %" PRIu64, name,
                    t->name, t->file_offset);
        else
            err_set(l->err, rc, "%s: tensor '%s' at byte %" PRIu64 ": %s", name, t->name,
                    t->file_offset, what);
    }
    pthread_mutex_unlock(&l->err_lock);
}

/* Where a range is filled: on its card, or where it waits until that has room. */
static struct plan_range filled_at(const struct loader *l, uint32_t range, struct device **device) {
    struct plan_range at = l->options->plan->ranges[range];
    const bool waits = stage_place(l->options->stage, range, &at);
    *device = waits ? stage_device(l->options->stage) : l->device;
    return at;
}

static void pack_slice(struct loader *l, const struct slice *s, char *bytes) {
    struct device *device;
    const struct plan_range at = filled_at(l, s->range, &device), *r = &at;
    const struct model_tensor *t = tensor_of(l, r);
    const struct tensor_type_info *type = tensor_type_info(t->type);
    const uint64_t row_bytes = t->cols / type->block_values * type->block_bytes;
    const uint64_t first_block = r->col_begin / type->block_values;
    /* All rows that share a checksum with these. */
    const uint64_t row = r->row_begin + s->row_begin, begin = row / SUM_ROWS * SUM_ROWS;
    uint64_t end = (row + s->rows + SUM_ROWS - 1) / SUM_ROWS * SUM_ROWS;
    end = end < t->rows ? end : t->rows;
    int rc = sums_pread(l->options->part_fds[t->part], bytes, (end - begin) * row_bytes,
                        t->file_offset + begin * row_bytes);
    if (rc == 0 && !sums_match(&l->sums, r->tensor, bytes, begin, end, row_bytes))
        rc = -ESTALE;
    if (rc) {
        fail(l, r, rc, strerror(-rc));
        return;
    }
    rc = l->options->backend->pack(
        device, r->card, r->offset, t->type, model_tensor_is_vector(t), r->row_end - r->row_begin,
        s->row_begin, s->rows, r->col_end - r->col_begin,
        (uint32_t)(r->col_begin % type->block_values),
        bytes + (row - begin) * row_bytes + first_block * type->block_bytes, row_bytes);
    if (rc)
        fail(l, r, rc, strerror(-rc));
    atomic_fetch_add(&l->done, s->rows * row_bytes * (r->col_end - r->col_begin) / t->cols);
}

static void digest_range(struct loader *l, const struct slice *s) {
    struct device *device;
    const struct plan_range at = filled_at(l, s->range, &device), *r = &at;
    const int rc = prove_digest(l->options, device, r, &l->digests[s->range]);
    if (rc == -ECANCELED)
        atomic_store(&l->rc, rc);
    else if (rc)
        fail(l, r, rc, strerror(-rc));
    atomic_fetch_add(&l->done, l->options->behind ? r->bytes : 0);
}

static bool cancelled(struct loader *l) {
    const _Atomic bool *flag = l->options->cancelled;
    return flag && atomic_load(flag);
}

/* A piece at a time, so that it can be cancelled; and proven where it arrived. */
static void copy_range(struct loader *l, const struct slice *s) {
    struct device *device;
    const struct plan_range to = filled_at(l, s->range, &device), *r = &to;
    const struct device_ops *ops = l->options->backend;
    struct source *from = &l->sources[s->range];
    struct device *before = runner_device(l->options->before);
    uint64_t digest = 0;
    int rc = 0;
    for (uint64_t at = 0; at < r->bytes && !rc; at += SLICE_BYTES) {
        const uint64_t n = r->bytes - at < SLICE_BYTES ? r->bytes - at : SLICE_BYTES;
        rc = cancelled(l) ? -ECANCELED
                          : ops->copy(before, from->card, AREA_WEIGHTS, from->offset + at, device,
                                      r->card, r->offset + at, n);
        atomic_fetch_add(&l->done, rc ? 0 : n);
        behind_pause();
    }
    if (!rc)
        rc = prove_digest(l->options, device, r, &digest);
    from->copied = !rc && digest == from->digest;
}

static bool is_paused(struct loader *l) {
    const _Atomic bool *flag = l->options->paused;
    return flag && atomic_load(flag) && !cancelled(l);
}

/* bytes: room for the largest slice.  False: no more is to be done. */
static bool work_slice(struct loader *l, const struct slice *s, char *bytes) {
    while (is_paused(l))
        usleep(PAUSE_US);
    if (cancelled(l))
        atomic_store(&l->rc, -ECANCELED);
    else if (l->pass == PASS_DIGEST)
        digest_range(l, s);
    else if (l->pass == PASS_COPY)
        copy_range(l, s);
    else
        pack_slice(l, s, bytes);
    return !atomic_load(&l->rc);
}

static bool make_buffer(struct loader *l, char **bytes) {
    *bytes = l->pass == PASS_READ ? malloc(l->buffer_bytes) : NULL;
    if (l->pass == PASS_READ && !*bytes)
        atomic_store(&l->rc, -ENOMEM);
    return !atomic_load(&l->rc);
}

static void *work(void *arg) {
    struct loader *l = arg;
    char *bytes;
    size_t i;
    bool more = make_buffer(l, &bytes);
    while (more && !atomic_load(&l->rc) && (i = atomic_fetch_add(&l->next, 1)) < l->n_slices)
        more = work_slice(l, &l->slices[i], bytes);
    free(bytes);
    return NULL;
}

/* On a few threads; this one reports the progress. */
static void run_together(struct loader *l) {
    const uint32_t asked = l->options->device.n_threads;
    long n = asked ? (long)asked : sysconf(_SC_NPROCESSORS_ONLN);
    pthread_t threads[LOAD_THREADS_MAX];
    long started = 0;
    n = n < 1 ? 1 : n > (long)LOAD_THREADS_MAX ? (long)LOAD_THREADS_MAX : n;
    while (started < n && !pthread_create(&threads[started], NULL, work, l))
        started++;
    if (started == 0)
        work(l);
    while (l->options->progress && l->pass != PASS_DIGEST && !atomic_load(&l->rc) &&
           atomic_load(&l->next) < l->n_slices) {
        l->options->progress(l->options->user, atomic_load(&l->done), atomic_load(&l->total));
        usleep(LOOK_US);
    }
    for (long i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
}

struct beside {
    struct loader *loader;
    char *bytes[BEHIND_WORKERS]; /* NULL: not needed yet */
};

static bool slice_beside(void *user, size_t i, enum behind_worker by) {
    struct beside *b = user;
    struct loader *l = b->loader;
    if (atomic_load(&l->rc) || (!b->bytes[by] && !make_buffer(l, &b->bytes[by])))
        return false;
    return work_slice(l, &l->slices[i], b->bytes[by]);
}

/* What is proven counts too: whoever waits is to hear that there is somebody. */
static void look_beside(void *user) {
    const struct beside *b = user;
    struct loader *l = b->loader;
    if (l->options->progress)
        l->options->progress(l->options->user, atomic_load(&l->done), atomic_load(&l->total));
}

static bool rests_beside(void *user) {
    const struct beside *b = user;
    return is_paused(b->loader);
}

/* What is computed meanwhile goes first. */
static void run_beside(struct loader *l) {
    struct beside b = {.loader = l};
    const struct behind behind = {l->n_slices, slice_beside, look_beside, rests_beside, &b};
    behind_run(&behind);
    for (int i = 0; i < BEHIND_WORKERS; i++)
        free(b.bytes[i]);
}

static int run(struct loader *l, enum pass pass) {
    l->pass = pass;
    atomic_store(&l->next, 0);
    for (size_t i = 0; l->options->behind && pass == PASS_DIGEST && i < l->n_slices; i++)
        l->total += l->options->plan->ranges[l->slices[i].range].bytes;
    if (l->options->behind)
        run_beside(l);
    else
        run_together(l);
    free(l->slices);
    l->slices = NULL;
    l->n_slices = 0;
    return atomic_load(&l->rc);
}

/* One slice for all of a range, to be digested or copied. */
static int add_whole(struct loader *l, uint32_t range) {
    struct slice *more = realloc(l->slices, (l->n_slices + 1) * sizeof *l->slices);
    if (!more)
        return -ENOMEM;
    l->slices = more;
    l->slices[l->n_slices++] = (struct slice){.range = range};
    return 0;
}

/* The slices of a range, to be read. */
static int add_range(struct loader *l, uint32_t range) {
    const struct plan_range *r = &l->options->plan->ranges[range];
    const struct model_tensor *t = tensor_of(l, r);
    const struct tensor_type_info *type = tensor_type_info(t->type);
    const uint64_t row_bytes = t->cols / type->block_values * type->block_bytes;
    const uint64_t rows = r->row_end - r->row_begin;
    uint64_t step = SLICE_BYTES / row_bytes / 16 * 16;
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

static uint64_t key_of(const struct loader *l, const struct plan_range *r) {
    return header_key(tensor_of(l, r), r);
}

/* Behind the last range of the card whose first one is `begin`. */
static size_t card_end(const struct plan *plan, size_t begin) {
    size_t end = begin;
    while (end < plan->n_ranges && plan->ranges[end].card == plan->ranges[begin].card)
        end++;
    return end;
}

/* --- what is there --- */

/* What the runner before has on a card; in the order of the keys that header_find() wants. */
static int list_before(const struct loader *l, uint32_t card, struct header_entry **out,
                       size_t *n) {
    const struct runner *before = l->options->before;
    const struct plan *plan = runner_options(before)->plan;
    const struct plan_range *ranges = plan_card_ranges(plan, card, n);
    struct header_entry *entries = malloc((*n + 1) * sizeof *entries);
    if (!entries)
        return -ENOMEM;
    for (size_t i = 0; i < *n; i++)
        entries[i] = (struct header_entry){key_of(l, &ranges[i]),
                                           runner_digests(before)[ranges + i - plan->ranges]};
    *out = entries;
    return 0;
}

/* Ranges of a card that may be there are to be digested; said: what they must have. */
static int find_said(struct loader *l, size_t begin, size_t end, uint64_t *said) {
    const struct plan_range *ranges = l->options->plan->ranges;
    const uint32_t card = ranges[begin].card;
    struct header_entry *entries = NULL;
    size_t n = 0;
    int rc = l->in_place[card] ? list_before(l, card, &entries, &n)
                               : header_read(l->options->backend, l->device, card,
                                             &l->options->file, &entries, &n);
    for (size_t i = begin; i < end && !rc; i++)
        if (header_says(entries, n, !l->in_place[card], key_of(l, &ranges[i]), &said[i])) {
            l->kept[i] = true;
            rc = add_whole(l, (uint32_t)i);
        }
    free(entries);
    return rc;
}

/* What is in use and harmed cannot be read again here: steps read it. */
static int check_said(struct loader *l, const uint64_t *said) {
    const struct plan *plan = l->options->plan;
    for (size_t i = 0; i < plan->n_ranges; i++) {
        if (!l->kept[i] || l->digests[i] == said[i])
            continue;
        l->kept[i] = false;
        if (l->in_place[plan->ranges[i].card])
            return err_set(l->err, -EBADMSG, "card %u: tensor '%s' was harmed",
                           plan->ranges[i].card, tensor_of(l, &plan->ranges[i])->name);
    }
    return 0;
}

/* What lies where it has to be, unharmed. */
static int find_kept(struct loader *l) {
    const struct plan *plan = l->options->plan;
    uint64_t *said = calloc(plan->n_ranges + 1, sizeof *said);
    int rc = said ? 0 : -ENOMEM;
    for (size_t begin = 0, end; begin < plan->n_ranges && !rc; begin = end) {
        end = card_end(plan, begin);
        rc = find_said(l, begin, end, said);
    }
    if (!rc && l->n_slices)
        rc = run(l, PASS_DIGEST);
    if (!rc)
        rc = check_said(l, said);
    free(said);
    return rc;
}

/* Offer a range of the runner before to all ranges that want the same. */
static void offer(struct loader *l, const struct plan_range *from, uint64_t digest) {
    const struct plan *plan = l->options->plan;
    for (size_t i = 0; i < plan->n_ranges; i++)
        if (!l->sources[i].known && layout_same_values(&plan->ranges[i], from))
            l->sources[i] = (struct source){
                .known = true, .card = from->card, .offset = from->offset, .digest = digest};
}

static int find_sources(struct loader *l) {
    const struct plan *old = runner_options(l->options->before)->plan;
    l->sources = calloc(l->options->plan->n_ranges + 1, sizeof *l->sources);
    if (!l->sources)
        return -ENOMEM;
    for (size_t i = 0; i < old->n_ranges; i++)
        offer(l, &old->ranges[i], runner_digests(l->options->before)[i]);
    return 0;
}

/* Copy what the cards of the runner before hold; what arrives harmed is read instead. */
static int copy_ranges(struct loader *l) {
    const struct plan *plan = l->options->plan;
    int rc = find_sources(l);
    for (uint32_t i = 0; i < plan->n_ranges && !rc; i++)
        if (l->sources[i].known && !l->kept[i]) {
            rc = add_whole(l, i);
            l->total += plan->ranges[i].bytes;
        }
    return rc ? rc : run(l, PASS_COPY);
}

static bool is_copied(const struct loader *l, size_t range) {
    return l->sources && l->sources[range].copied;
}

/* Before there are checksums, the files must look as they did when they were opened. */
static int check_file(const struct loader *l) {
    struct file_identity now;
    const int rc =
        l->sums.known ? 0 : identity_of_all(l->options->part_fds, l->options->n_parts, &now);
    if (rc || l->sums.known || identity_equal(&now, &l->options->file))
        return rc;
    return err_set(l->err, -ESTALE, "the file %s changed since it was opened",
                   l->options->file_name);
}

/* Read and repack what was neither found nor copied. */
static int read_ranges(struct loader *l) {
    const struct plan *plan = l->options->plan;
    int rc = sums_read(&l->sums, l->options->model, &l->options->file, l->options->sums_fd);
    for (uint32_t i = 0; i < plan->n_ranges && !rc; i++)
        if (!l->kept[i] && !is_copied(l, i))
            rc = add_range(l, i);
    if (rc || l->n_slices == 0)
        return rc;
    rc = check_file(l);
    if (!rc)
        rc = run(l, PASS_READ);
    if (!rc)
        rc = check_file(l);
    return rc || l->sums.known ? rc : sums_write(&l->sums, &l->options->file, l->options->sums_fd);
}

static int digest_new(struct loader *l) {
    const struct plan *plan = l->options->plan;
    int rc = 0;
    for (uint32_t i = 0; i < plan->n_ranges && !rc; i++)
        if (!l->kept[i])
            rc = add_whole(l, i);
    if (!rc)
        rc = run(l, PASS_DIGEST);
    for (uint32_t i = 0; i < plan->n_ranges && !rc; i++)
        if (is_copied(l, i) && l->digests[i] != l->sources[i].digest)
            rc = err_set(l->err, -EIO, "card %u: '%s' changed after it was copied",
                         plan->ranges[i].card,
                         l->options->model->tensors[plan->ranges[i].tensor].name);
    return rc;
}

/* The card's header says what is there now: what the runner before still uses, too. */
static int write_header(struct loader *l, size_t begin, size_t end) {
    const struct plan_range *ranges = l->options->plan->ranges;
    const uint32_t card = ranges[begin].card;
    struct header_entry *before = NULL;
    size_t n = 0;
    int rc = l->in_place[card] ? list_before(l, card, &before, &n) : 0;
    struct header_entry *all = rc ? NULL : malloc((n + end - begin) * sizeof *all);
    if (n && all)
        memcpy(all, before, n * sizeof *all);
    free(before);
    if (!all)
        return -ENOMEM;
    for (size_t i = begin; i < end; i++)
        if (!l->in_place[card] || !l->kept[i])
            all[n++] = (struct header_entry){key_of(l, &ranges[i]), l->digests[i]};
    rc = header_write(l->options->backend, l->device, card, &l->options->file, all, n);
    free(all);
    if (rc == -E2BIG)
        err_set(l->err, rc, "card %u: %zu ranges, at most %u fit the header", card, n,
                HEADER_ENTRIES_MAX);
    return rc;
}

static int write_headers(struct loader *l) {
    const struct plan *plan = l->options->plan;
    int rc = 0;
    for (size_t begin = 0, end; begin < plan->n_ranges && !rc; begin = end) {
        end = card_end(plan, begin);
        rc = write_header(l, begin, end);
    }
    return rc;
}

/* The checksums of what was read are kept before the first header says that it is there: memory
 * that is believed never mixes two states of the file. */
static int fill(struct loader *l) {
    int rc = l->options->before ? copy_ranges(l) : 0;
    if (!rc)
        rc = read_ranges(l);
    if (!rc)
        rc = digest_new(l);
    return rc ? rc : write_headers(l);
}

static void count_origin(const struct loader *l, struct weights_origin origin[CARDS_MAX]) {
    const struct plan *plan = l->options->plan;
    size_t n_else[CARDS_MAX] = {0}; /* ranges that were not there */
    memset(origin, 0, CARDS_MAX * sizeof *origin);
    for (size_t i = 0; i < plan->n_ranges; i++) {
        struct weights_origin *o = &origin[plan->ranges[i].card];
        o->kept_bytes += l->kept[i] ? plan->ranges[i].bytes : 0;
        n_else[plan->ranges[i].card] += !l->kept[i];
        o->copied_bytes += is_copied(l, i) ? plan->ranges[i].bytes : 0;
        if (is_copied(l, i))
            o->from_bytes[l->sources[i].card] += plan->ranges[i].bytes;
    }
    for (uint32_t c = 0; c < plan->n_cards; c++)
        if (n_else[c] == 0)
            origin[c].kept_bytes = plan->cards[c].weights_bytes;
}

int weights_load(struct device *device, const struct runner_options *options,
                 const bool in_place[CARDS_MAX], uint64_t *digests,
                 struct weights_origin origin[CARDS_MAX], struct err *err) {
    const size_t n = options->plan->n_ranges;
    struct loader l = {.device = device,
                       .options = options,
                       .in_place = in_place,
                       .digests = digests,
                       .kept = calloc(n + 1, sizeof *l.kept),
                       .err = err};
    size_t n_kept = 0;
    pthread_mutex_init(&l.err_lock, NULL);
    int rc = l.kept ? find_kept(&l) : -ENOMEM;
    for (size_t i = 0; i < n && !rc; i++)
        n_kept += l.kept[i];
    /* What an engine that was killed had of an order, or of the plan before, too. */
    if (!rc)
        rc = unused_clear(device, options, l.kept, in_place);
    if (!rc && n_kept < n)
        rc = fill(&l);
    if (!rc)
        count_origin(&l, origin);
    if (!rc && options->progress)
        options->progress(options->user, l.total, l.total);
    if (rc == -ENOMEM)
        err_set(err, rc, "no memory to load '%s'", options->model->params.name);
    pthread_mutex_destroy(&l.err_lock);
    sums_finish(&l.sums);
    free(l.slices);
    free(l.sources);
    free(l.kept);
    return rc;
}

/* --- after the loading --- */

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
    whole_team.stage = NULL;
    pthread_mutex_init(&l.err_lock, NULL);
    int rc = sums_read(&l.sums, options->model, &options->file, options->sums_fd);
    if (!rc)
        rc = add_range(&l, range);
    if (!rc)
        rc = check_file(&l);
    if (!rc)
        rc = blank(device, options, range);
    if (!rc)
        rc = run(&l, PASS_READ);
    if (!rc)
        rc = options->backend->digest(device, r->card, AREA_WEIGHTS, r->offset, r->bytes, &found);
    if (!rc && found != digest)
        fail(&l, r, rc = -ESTALE, "");
    if (rc == -ENOMEM)
        err_set(err, rc, "no memory to read '%s' again", tensor_of(&l, r)->name);
    pthread_mutex_destroy(&l.err_lock);
    sums_finish(&l.sums);
    free(l.slices);
    return rc;
}
