/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/engine/rotations.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/rope.h"
#include "octarc/error.h"

/* Of one kind of layer. */
struct rotation {
    const struct rope_params *params; /* NULL: the model has no such layer */
    const float *freqs;               /* [dims / 2], NULL: none */
    float *cache;                     /* [context][dims / 2][cos, sin], filled as positions occur */
    bool *known;                      /* [context] */
    float *step;                      /* [max_rows][dims / 2][cos, sin] */
};

struct rotations {
    const struct model *model;
    const struct plan *plan;
    float *freqs; /* of the file, for this context; NULL: it has none */
    const char *freqs_name;
    struct rotation of[ROPE_TABLES_MAX];
    float *q_scale; /* [max_rows] of the step; NULL: none */
};

/* The divisors that count for the plan's context. */
static bool counts(const struct rotations *r, const struct model_tensor *t) {
    const bool fits = r->plan->context <= r->model->params.rope.original_context;
    return t->role == ROLE_ROPE_FREQS || t->role == (fits ? ROLE_ROPE_SHORT : ROLE_ROPE_LONG);
}

/* The divisors of the rotation frequencies, when the model has them. */
static int read_freqs(struct rotations *r, const int *head_fds, struct err *err) {
    const struct model *model = r->model;
    for (size_t i = 0; i < model->n_tensors; i++) {
        const struct model_tensor *t = &model->tensors[i];
        if (!counts(r, t))
            continue;
        r->freqs_name = t->name;
        const struct tensor_type_info *type = tensor_type_info(t->type);
        void *blocks = malloc(t->bytes);
        r->freqs = malloc(t->cols * sizeof *r->freqs);
        if (!blocks || !r->freqs) {
            free(blocks);
            return err_set(err, -ENOMEM, "no memory for '%s'", t->name);
        }
        if (pread(head_fds[t->part], blocks, t->bytes, (off_t)t->file_offset) !=
            (ssize_t)t->bytes) {
            free(blocks);
            return err_set(err, -EIO, "%s: tensor '%s' cannot be read whole", model->params.name,
                           t->name);
        }
        const int rc = tensor_dequantise(t->type, blocks, t->cols / type->block_values, r->freqs);
        free(blocks);
        return rc ? err_set(err, rc, "%s: tensor '%s' has a type that cannot be read",
                            model->params.name, t->name)
                  : 0;
    }
    return 0;
}

/* Angles grow with the position, so what is right at the last one is right at all. */
static int check(const struct rotations *r, const struct rotation *of, struct err *err) {
    const struct rope_params *p = of->params;
    const char *name = r->model->params.name;
    const uint32_t last = r->plan->context - 1;
    const int rc = rope_table(p, of->freqs, last, of->cache);
    uint32_t least = 0;
    if (!rc)
        return 0;
    for (uint32_t i = 0; of->freqs && i < p->dims / 2; i++) {
        if (!(of->freqs[i] > 0 && isfinite(of->freqs[i])))
            return err_set(err, -EINVAL,
                           "%s: value %u of tensor '%s' is %g, not a finite number above 0", name,
                           i, r->freqs_name, (double)of->freqs[i]);
        least = of->freqs[i] < of->freqs[least] ? i : least;
    }
    if (of->freqs)
        return err_set(err, -EINVAL,
                       "%s: position %u cannot be rotated; value %u of tensor '%s' is %g, "
                       "rope.freq_base %g, rope.scaling.factor %g",
                       name, last, least, r->freqs_name, (double)of->freqs[least],
                       (double)p->freq_base, (double)p->factor);
    return err_set(err, -EINVAL,
                   "%s: position %u cannot be rotated; rope.freq_base is %g, rope.scaling.factor "
                   "%g",
                   name, last, (double)p->freq_base, (double)p->factor);
}

static int prepare(const struct rotations *r, struct rotation *of, struct err *err) {
    const size_t dims = of->params->dims;
    of->cache = malloc(r->plan->context * dims * sizeof(float));
    of->known = calloc(r->plan->context, sizeof(bool));
    of->step = malloc(r->plan->max_rows * dims * sizeof(float));
    if (!of->cache || !of->known || !of->step)
        return err_set(err, -ENOMEM, "no memory for the rotations of %u positions",
                       r->plan->context);
    return check(r, of, err);
}

int rotations_open(struct rotations **rotations, const struct model *model, const struct plan *plan,
                   const int *head_fds, struct err *err) {
    const struct model_params *p = &model->params;
    struct rotations *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, -ENOMEM, "no memory for rotations");
    r->model = model;
    r->plan = plan;
    int rc = read_freqs(r, head_fds, err);
    r->of[ROPE_ALL] = (struct rotation){.params = &p->rope, .freqs = r->freqs};
    r->of[ROPE_WINDOW].params = p->window ? &p->window_rope : NULL;
    for (int i = 0; i < ROPE_TABLES_MAX && !rc; i++)
        if (r->of[i].params)
            rc = prepare(r, &r->of[i], err);
    if (!rc && p->temperature_scale > 0) {
        r->q_scale = malloc(plan->max_rows * sizeof *r->q_scale);
        rc = r->q_scale ? 0 : err_set(err, -ENOMEM, "no memory for %u rows", plan->max_rows);
    }
    if (rc)
        rotations_close(r);
    else
        *rotations = r;
    return rc;
}

void rotations_close(struct rotations *r) {
    for (int i = 0; r && i < ROPE_TABLES_MAX; i++) {
        free(r->of[i].cache);
        free(r->of[i].known);
        free(r->of[i].step);
    }
    if (r) {
        free(r->freqs);
        free(r->q_scale);
    }
    free(r);
}

/* cos and sin of every row's position; each position is computed once. */
static int fill(struct rotation *of, const struct step_params *params) {
    const size_t dims = of->params->dims;
    for (uint32_t i = 0; i < params->n_rows; i++) {
        const uint32_t position = params->rows[i].position;
        float *cached = of->cache + position * dims;
        if (!of->known[position]) {
            const int rc = rope_table(of->params, of->freqs, position, cached);
            if (rc)
                return rc;
            of->known[position] = true;
        }
        memcpy(of->step + i * dims, cached, dims * sizeof *cached);
    }
    return 0;
}

int rotations_fill(struct rotations *r, struct step_params *params) {
    const struct model_params *p = &r->model->params;
    int rc = 0;
    for (uint32_t i = 0; i < params->n_rows; i++)
        if (params->rows[i].position >= r->plan->context)
            return -EINVAL;
    for (int i = 0; i < ROPE_TABLES_MAX && !rc; i++)
        if (r->of[i].params) {
            rc = fill(&r->of[i], params);
            params->rope[i] = r->of[i].step;
        }
    for (uint32_t i = 0; r->q_scale && i < params->n_rows; i++)
        r->q_scale[i] = rope_temperature(p->rope.original_context, p->temperature_scale,
                                         params->rows[i].position);
    params->q_scale = r->q_scale;
    return rc;
}
