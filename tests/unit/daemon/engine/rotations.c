/* SPDX-License-Identifier: Apache-2.0 */
/* Which tables of cos and sin a step gets: of layers with a window, and of a context that is longer
 * than the trained one.  What a file may have wrong in them is tested in runner.c. */
#include "daemon/engine/rotations.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "models/rope.h"
#include "tests/check.h"

#define DIMS 8u

static struct model model;
static struct model_tensor factors[2];
static const float short_factors[DIMS / 2] = {1, 1.5f, 2, 3}, long_factors[DIMS / 2] = {2, 4, 6, 9};

static struct rope_params rope(float base) {
    return (struct rope_params){
        .dims = DIMS, .freq_base = base, .factor = 1, .attn_factor = 1, .original_context = 64};
}

static void start(void) {
    model = (struct model){.params = {.n_ctx_train = 256, .rope = rope(10000)}};
}

/* The tables of one row at a position. */
static void tables_at(uint32_t context, int head_fd, uint32_t position,
                      float got[ROPE_TABLES_MAX][DIMS]) {
    struct rotations *r;
    const struct plan plan = {.context = context, .max_rows = 2};
    const struct step_row rows[] = {{0, position, 0}, {0, 0, 0}};
    struct step_params p = {.rows = rows, .n_rows = 2};
    CHECK_EQ(rotations_open(&r, &model, &plan, &head_fd, NULL), 0);
    CHECK_EQ(rotations_fill(r, &p), 0);
    for (int i = 0; i < ROPE_TABLES_MAX; i++)
        if (p.rope[i])
            memcpy(got[i], p.rope[i], sizeof got[i]);
    CHECK(!p.rope[ROPE_WINDOW] == !model.params.window);
    const struct step_row beyond = {0, context, 0};
    p.rows = &beyond;
    p.n_rows = 1;
    CHECK_EQ(rotations_fill(r, &p), -EINVAL);
    rotations_close(r);
}

static void layers_with_a_window_have_a_table_of_their_own(void) {
    float got[ROPE_TABLES_MAX][DIMS], want[DIMS];
    start();
    tables_at(100, -1, 41, got);
    CHECK_EQ(rope_table(&model.params.rope, NULL, 41, want), 0);
    CHECK(!memcmp(got[ROPE_ALL], want, sizeof want));

    model.params.window = 16;
    model.params.window_period = 2;
    model.params.window_rope = rope(500);
    tables_at(100, -1, 41, got);
    CHECK(!memcmp(got[ROPE_ALL], want, sizeof want));
    CHECK_EQ(rope_table(&model.params.window_rope, NULL, 41, want), 0);
    CHECK(!memcmp(got[ROPE_WINDOW], want, sizeof want));
    CHECK(memcmp(got[ROPE_ALL], want, sizeof want) != 0);
}

static void the_context_says_which_divisors_count(void) {
    const int fd = memfd_create("factors", MFD_CLOEXEC);
    float got[ROPE_TABLES_MAX][DIMS], want[DIMS];
    start();
    CHECK_EQ(write(fd, long_factors, sizeof long_factors), (ssize_t)sizeof long_factors);
    CHECK_EQ(write(fd, short_factors, sizeof short_factors), (ssize_t)sizeof short_factors);
    for (uint32_t i = 0; i < 2; i++)
        factors[i] = (struct model_tensor){.role = i ? ROLE_ROPE_SHORT : ROLE_ROPE_LONG,
                                           .type = TENSOR_F32,
                                           .layer = -1,
                                           .rows = 1,
                                           .cols = DIMS / 2,
                                           .file_offset = i * sizeof long_factors,
                                           .bytes = sizeof long_factors};
    model.tensors = factors;
    model.n_tensors = 2;
    for (uint32_t context = 63; context < 66; context++) {
        tables_at(context, fd, 41, got);
        const float *divisors = context > 64 ? long_factors : short_factors;
        CHECK_EQ(rope_table(&model.params.rope, divisors, 41, want), 0);
        CHECK(!memcmp(got[ROPE_ALL], want, sizeof want));
    }
    close(fd);
}

CHECK_MAIN(T(layers_with_a_window_have_a_table_of_their_own),
           T(the_context_says_which_divisors_count))
