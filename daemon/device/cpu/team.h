/* SPDX-License-Identifier: Apache-2.0 */
/* team.h - a fixed set of threads that run one function together.
 *
 * The caller is member 0.  Members wait for each other by spinning for a moment and then sleeping,
 * so an idle team uses no processor and a busy one makes no system call. */
#ifndef OCTARC_DEVICE_CPU_TEAM_H
#define OCTARC_DEVICE_CPU_TEAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define TEAM_MAX 256

struct team;
struct err;

/* n members.  -ENOMEM, -EAGAIN. */
int team_create(struct team **team, uint32_t n, struct err *err);
void team_destroy(struct team *team);
uint32_t team_size(const struct team *team);

/* Bind each member to a core of its own, as cores_choose() says, but for the caller: threads that
 * it makes, such as those that load another plan's weights or its team, would inherit its one core.
 * Where binding is refused, or there are too few cores, a member runs where the kernel puts it, as
 * it does when its core is taken away later.  Returns how many were bound. */
uint32_t team_pin(struct team *team);

/* Run fn(arg, member) on every member; returns when all have. */
void team_run(struct team *team, void (*fn)(void *arg, uint32_t member), void *arg);
/* Inside fn: wait until every member has come here. */
void team_meet(struct team *team);

/* Inside fn: a gate is 0 until one member opens it; the others wait for that.  A member that comes
 * late holds nobody up. */
void team_open(struct team *team, _Atomic uint32_t *gate);
/* Meanwhile `idle` is called, as long as it finds something to do; NULL: nothing. */
void team_pass(struct team *team, _Atomic uint32_t *gate, bool (*idle)(void *arg), void *arg);

#endif
