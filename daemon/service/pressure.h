/* SPDX-License-Identifier: Apache-2.0 */
/* pressure.h - is memory short on the host, and for how long: a rule over samples.
 *
 * It is when the kernel says that tasks stall for memory, or when less is available than there
 * should be; it is no more when neither was so for a while.  What may be put off is put off
 * meanwhile, but not for ever: an order that waits holds memory itself.
 *
 *   normal -> pressed, putting off -> pressed -> normal
 *                        \---------------------->
 *
 * Pure: no file is read and no clock asked here. */
#ifndef OCTARC_SERVICE_PRESSURE_H
#define OCTARC_SERVICE_PRESSURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pressure_rules {
    double stall_percent; /* of the time, over ten seconds */
    uint64_t least_bytes; /* to be available; 0: any */
    uint64_t quiet_ns;    /* without a sign of it, until it is over */
    uint64_t wait_ns;     /* work is put off at most */
};

struct pressure_sample {
    bool stalled;         /* the kernel, or systemd, said so since the sample before */
    double stall_percent; /* 0 where it is not told */
    uint64_t available_bytes;
};

enum pressure_news {
    PRESSURE_SAME,
    PRESSURE_BEGINS,
    PRESSURE_LASTS, /* what was put off must go on all the same */
    PRESSURE_ENDS
};

struct pressure {
    bool pressed, puts_off;
    uint64_t since_ns, sign_ns; /* it began; the latest sign of it */
};

enum pressure_news pressure_judge(struct pressure *pressure, const struct pressure_sample *sample,
                                  const struct pressure_rules *rules, uint64_t now_ns);

/* The share of the last ten seconds in which some task stalled, out of a text as the kernel's
 * memory.pressure is one.  -EBADMSG. */
int pressure_read(const char *text, size_t n, double *percent);

/* What systemd wants written, out of base64.  -EBADMSG, -E2BIG; *n bytes. */
int pressure_decode(const char *base64, void *out, size_t size, size_t *n);

#endif
