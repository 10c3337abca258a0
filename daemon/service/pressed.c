/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/pressed.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "daemon/service/daemon.h"
#include "daemon/util/log.h"

#define SECOND_NS UINT64_C(1000000000)

static struct pressure_rules rules_of(const struct config *c) {
    return (struct pressure_rules){.stall_percent = c->memory_stall_percent,
                                   .least_bytes = (uint64_t)c->memory_least_mib << 20,
                                   .quiet_ns = c->memory_quiet_s * SECOND_NS,
                                   .wait_ns = c->memory_wait_s * SECOND_NS};
}

__attribute__((format(printf, 3, 4))) static void tell(struct daemon *d, double seconds,
                                                       const char *fmt, ...) {
    struct event told = {.kind = "pressure", .card = -1, .seconds = seconds};
    va_list args;
    va_start(args, fmt);
    vsnprintf(told.text, sizeof told.text, fmt, args);
    va_end(args);
    log_notice("%s", told.text);
    events_add(&d->events, &told);
}

static void begin(struct daemon *d, const struct pressure_sample *s) {
    struct pressed *p = &d->pressed;
    p->n++;
    tell(d, -1,
         "memory is short on the host: tasks stall %.1f %% of the time%s, %llu MiB are available",
         s->stall_percent, s->stalled ? " or more" : "",
         (unsigned long long)s->available_bytes >> 20);
    const uint64_t bytes = engines_press(&d->engines, true, p->pressure.puts_off);
    malloc_trim(0);
    if (bytes)
        tell(d, -1, "%llu MiB of weights that drained cards held were dropped",
             (unsigned long long)(bytes + (1u << 20) - 1) >> 20);
}

/* Weights in host memory leave it the least that should be available. */
static void note_room(struct daemon *d, const struct pressure_sample *s,
                      const struct pressure_rules *rules) {
    const uint64_t there = s->available_bytes, least = rules->least_bytes;
    engines_note_room(&d->engines, there > least ? there - least : 0);
}

static void judge(struct daemon *d) {
    struct pressed *p = &d->pressed;
    const struct pressure_rules rules = rules_of(&d->config);
    const uint64_t now = uv_hrtime(), since = p->pressure.since_ns;
    struct pressure_sample sample;
    pressure_source_sample(&p->source, &sample);
    note_room(d, &sample, &rules);
    switch (pressure_judge(&p->pressure, &sample, &rules, now)) {
    case PRESSURE_BEGINS:
        begin(d, &sample);
        break;
    case PRESSURE_LASTS:
        tell(d, (double)(now - since) * 1e-9,
             "memory is still short; what was put off goes on (key memory_wait)");
        engines_press(&d->engines, false, false);
        break;
    case PRESSURE_ENDS:
        tell(d, (double)(now - since) * 1e-9, "memory is not short any more");
        engines_press(&d->engines, false, false);
        break;
    default:
        break;
    }
}

static void on_told(void *user) {
    judge(user);
}

int pressed_start(struct daemon *d, struct err *err) {
    struct pressed *p = &d->pressed;
    if (!strcmp(d->config.memory_pressure, "no"))
        return 0;
    const int rc = pressure_source_open(&p->source, &d->loop, d->config.memory_pressure,
                                        d->config.memory_stall_percent, on_told, d, err);
    if (rc < 0)
        return rc;
    p->watches = !p->source.off;
    if (p->watches)
        log_info("memory pressure is watched at %s",
                 p->source.path[0] ? p->source.path : "nothing but what is available");
    return 0;
}

void pressed_tick(struct daemon *d) {
    if (d->pressed.watches)
        judge(d);
}

void pressed_finish(struct daemon *d) {
    if (d->pressed.watches)
        pressure_source_finish(&d->pressed.source);
}
