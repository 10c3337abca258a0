/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/device/level_zero/limits.h"

#include "daemon/device/matrices.h"
#include "daemon/device/pack.h"

/* Of the phase under way by card, and of those before it; and the seconds that these take. */
struct demand {
    const double *read_per_s, *int8_per_s;
    double bytes[CARDS_MAX], products[CARDS_MAX];
    double all_bytes, all_products, read_s, products_s;
};

static void add_op(struct demand *of, uint32_t card, const struct op *op) {
    const struct matrix *m[OP_MATRICES_MAX];
    const uint32_t n = op_matrices(op, m);
    for (uint32_t i = 0; i < n; i++) {
        of->bytes[card] += (double)pack_bytes(m[i]->type, false, m[i]->rows, m[i]->cols);
        if (op->layer >= 0)
            of->products[card] += (double)m[i]->rows * m[i]->cols;
    }
}

static void end_phase(struct demand *of) {
    double read_s = 0, products_s = 0;
    for (uint32_t i = 0; i < CARDS_MAX; i++) {
        const double r = of->bytes[i] > 0 ? of->bytes[i] / of->read_per_s[i] : 0;
        const double p = of->products[i] > 0 ? of->products[i] / of->int8_per_s[i] : 0;
        read_s = r > read_s ? r : read_s;
        products_s = p > products_s ? p : products_s;
        of->all_bytes += of->bytes[i];
        of->all_products += of->products[i];
        of->bytes[i] = of->products[i] = 0;
    }
    of->read_s += read_s;
    of->products_s += products_s;
}

/* Launches are in the order of their phases, and those of an operation lie side by side. */
void limits_of(const struct device *d, const double read_per_s[CARDS_MAX],
               const double int8_per_s[CARDS_MAX], struct device_limits *limits) {
    struct demand of = {.read_per_s = read_per_s, .int8_per_s = int8_per_s};
    limits->read_bytes_per_s = limits->int8_ops_per_s = 0;
    for (size_t i = 0; i < d->n_launches; i++) {
        const struct ze_launch *l = &d->launches[i];
        if (i && l->phase != l[-1].phase)
            end_phase(&of);
        if (!i || l->op != l[-1].op)
            add_op(&of, l->card, l->op);
    }
    end_phase(&of);
    for (uint32_t i = 0; i < CARDS_MAX; i++) {
        limits->read_bytes_per_s += read_per_s[i];
        limits->int8_ops_per_s += int8_per_s[i];
    }
    if (of.read_s > 0)
        limits->read_bytes_per_s = of.all_bytes / of.read_s;
    if (of.products_s > 0)
        limits->int8_ops_per_s = of.all_products / of.products_s;
}
