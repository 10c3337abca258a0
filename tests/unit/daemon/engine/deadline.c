/* SPDX-License-Identifier: Apache-2.0 */
/* How long a step may take: arithmetic alone. */
#include "daemon/engine/deadline.h"

#include "tests/check.h"

#define MS UINT64_C(1000000)
#define S  (1000 * MS)

static void before_anything_was_measured_the_bound_holds(void) {
    const struct deadline d = {.first_ns = 30 * S};
    CHECK_EQ(deadline_predict(&d, 1), 0);
    CHECK_EQ(deadline_of(&d, 1), 30 * S);
    CHECK_EQ(deadline_of(&d, UINT32_MAX), 30 * S);
}

static void a_step_has_ten_times_what_such_steps_took_and_at_least_a_second(void) {
    struct deadline d = {.first_ns = 30 * S};
    deadline_learn(&d, 4, 150 * MS);
    CHECK_EQ(deadline_of(&d, 4), 1500 * MS);
    CHECK_EQ(deadline_of(&d, 7), 1500 * MS); /* of the same power of two */
    deadline_learn(&d, 1, 2 * MS);
    CHECK_EQ(deadline_of(&d, 1), 1 * S);
    CHECK_EQ(deadline_of(&d, 4), 1500 * MS);
}

static void what_was_not_measured_is_predicted_by_its_rows(void) {
    struct deadline d = {.first_ns = 30 * S};
    deadline_learn(&d, 4, 100 * MS);
    CHECK_EQ(deadline_predict(&d, 2), 100 * MS); /* fewer rows take no longer */
    CHECK_EQ(deadline_predict(&d, 32), 800 * MS);
    deadline_learn(&d, 16, 150 * MS);
    CHECK_EQ(deadline_predict(&d, 32), 300 * MS); /* the nearest one */
    CHECK_EQ(deadline_predict(&d, 8), 150 * MS);
}

static void the_mean_follows_what_is_measured(void) {
    struct deadline d = {.first_ns = 30 * S};
    deadline_learn(&d, 1, 1000 * MS);
    for (int i = 0; i < 100; i++)
        deadline_learn(&d, 1, 200 * MS);
    CHECK(deadline_predict(&d, 1) >= 200 * MS && deadline_predict(&d, 1) < 202 * MS);
    deadline_learn(&d, 1, 1000 * MS); /* one that is out of line */
    CHECK(deadline_predict(&d, 1) < 320 * MS);
    deadline_learn(&d, 1, 0);
    CHECK(deadline_predict(&d, 1) > 0);
}

CHECK_MAIN(T(before_anything_was_measured_the_bound_holds),
           T(a_step_has_ten_times_what_such_steps_took_and_at_least_a_second),
           T(what_was_not_measured_is_predicted_by_its_rows), T(the_mean_follows_what_is_measured))
