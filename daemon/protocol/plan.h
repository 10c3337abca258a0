/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - a plan in JSON, whole: cards, ranges, links, the account and the prediction. */
#ifndef OCTARC_PROTOCOL_PLAN_H
#define OCTARC_PROTOCOL_PLAN_H

#include "daemon/placement/predict.h"
#include "daemon/protocol/writer.h"

struct plan_view {
    const struct model *model;
    const struct plan *plan;
    const struct topology *topology;
    const struct prediction *prediction;
};

/* One object. */
void write_plan(struct writer *w, const struct plan_view *view);

const char *kv_type_name(enum kv_type type);

#endif
