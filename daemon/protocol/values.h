/* SPDX-License-Identifier: Apache-2.0 */
/* values.h - readers of the fields whose value is more than a number, a string or a boolean. */
#ifndef OCTARC_PROTOCOL_VALUES_H
#define OCTARC_PROTOCOL_VALUES_H

#include "daemon/protocol/fields.h"

struct field_place {
    const char *name;
    double max;
    void *at; /* in struct params; NULL: the reader knows where */
};

/* 0, or -1 with *failure filled. */
typedef int field_reader(struct params *params, const struct field_place *place,
                         const struct cJSON *value, struct failure *failure);

field_reader read_count_of_logprobs, read_false, read_id, read_logit_bias, read_no_suffix,
    read_response_format, read_seed, read_stop, read_stream_options, read_template_kwargs,
    read_unsupported;
field_reader read_reasoning_format, read_tool_choice, read_tools; /* tools.c */

#endif
