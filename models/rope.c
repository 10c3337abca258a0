/* SPDX-License-Identifier: Apache-2.0 */
#include "models/rope.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define PI 0x1.921fb54442d18p+1
/* pi / 2 and ln 2, each as a double and the double of what that one leaves out. */
#define PIO2_HIGH 0x1.921fb54442d18p+0
#define PIO2_LOW  0x1.1a62633145c07p-54
#define LN2_HIGH  0x1.62e42fefa39efp-1
#define LN2_LOW   0x1.abc9e3b39803fp-56

/* Natural logarithm of a finite positive normal x; a few units in the last place.
 *
 * x = 2^e * m with m in [sqrt(1/2), sqrt(2)); ln m = 2 atanh(s), s = (m - 1) / (m + 1), |s| <
 * 0.172: the series s^(2k+1) / (2k+1) ends below 2^-60 at k = 11. */
static double natural_log(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52) - 1023;
    bits = (bits & UINT64_C(0xfffffffffffff)) | UINT64_C(0x3ff0000000000000);
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 0x1.6a09e667f3bcdp+0) {
        m *= 0.5;
        exponent++;
    }
    const double s = (m - 1.0) / (m + 1.0), s2 = s * s;
    double series = 0.0;
    for (int k = 11; k > 0; k--)
        series = fma(series, s2, 1.0 / (2 * k + 1));
    series = fma(s * s2, series, s) * 2.0;
    const double e = exponent;
    return fma(e, LN2_HIGH, fma(e, LN2_LOW, series));
}

/* exp(x) for |x| <= 700; a few units in the last place.
 *
 * x = n ln 2 + r, |r| <= 0.35; the Taylor series of r ends below 2^-60 at r^14 / 14!. */
static double natural_exp(double x) {
    const double n = floor(fma(x, 1.0 / LN2_HIGH, 0.5));
    const double r = fma(-n, LN2_LOW, fma(-n, LN2_HIGH, x));
    double series = 1.0;
    for (int k = 14; k > 0; k--)
        series = fma(series, r / k, 1.0);
    return ldexp(series, (int)n);
}

/* Sine and cosine of x in [0, ROPE_ANGLE_MAX]; absolute error below 2^-50.
 *
 * x = n pi/2 + r, |r| <= pi/4.  n has at most 33 bits and x - n * PIO2_HIGH is exact in the fma
 * (all its bits lie between 2^-53 and 1), so only the product with PIO2_LOW rounds.  The Taylor
 * series end below 2^-60 at r^17 / 17! and r^18 / 18!. */
static void sin_cos(double x, double *sine, double *cosine) {
    const double n = floor(fma(x, 1.0 / PIO2_HIGH, 0.5));
    const double r = fma(-n, PIO2_LOW, fma(-n, PIO2_HIGH, x)), r2 = r * r;
    double s = 1.0, c = 1.0;
    for (int k = 16; k > 0; k -= 2)
        s = fma(s * r2, -1.0 / (k * (k + 1)), 1.0);
    for (int k = 18; k > 0; k -= 2)
        c = fma(c * r2, -1.0 / (k * (k - 1)), 1.0);
    s *= r;
    switch ((uint64_t)n & 3) {
    case 0:
        *sine = s, *cosine = c;
        break;
    case 1:
        *sine = c, *cosine = -s;
        break;
    case 2:
        *sine = -s, *cosine = -c;
        break;
    default:
        *sine = -c, *cosine = s;
    }
}

static bool positive(double x) {
    return x > 0.0 && isfinite(x);
}

/* The pair, as a fraction, that turns `turns` times within the original context. */
static double pair_of_turns(const struct rope_params *p, double turns) {
    return p->dims * natural_log(p->original_context / (turns * 2.0 * PI)) /
           (2.0 * natural_log(p->freq_base));
}

/* Yarn's ramp over the pairs: 1 up to low, 0 from high on. */
struct ramp {
    double low, high;
};

static struct ramp yarn_ramp(const struct rope_params *p) {
    const double low = floor(pair_of_turns(p, p->beta_fast));
    const double high = ceil(pair_of_turns(p, p->beta_slow));
    return (struct ramp){low > 0.0 ? low : 0.0, high < p->dims - 1 ? high : p->dims - 1};
}

static double ramp_weight(struct ramp ramp, uint32_t pair) {
    const double width = ramp.high - ramp.low;
    const double y = (pair - ramp.low) / (width > 0.001 ? width : 0.001);
    return 1.0 - (y < 0.0 ? 0.0 : y > 1.0 ? 1.0 : y);
}

static int check(const struct rope_params *p) {
    if (p->dims == 0 || p->dims % 2 || !positive(p->freq_base) || p->freq_base < 1.0f ||
        !positive(p->factor) || !positive(p->attn_factor))
        return -EINVAL;
    if (p->scaling == ROPE_YARN &&
        (!positive(p->beta_fast) || !positive(p->beta_slow) || p->original_context == 0 ||
         p->freq_base == 1.0f || !(p->log_multiplier >= 0.0f) ||
         !(p->ext_factor >= 0.0f && p->ext_factor <= 1.0f)))
        return -EINVAL;
    return 0;
}

float rope_temperature(uint32_t original_context, float scale, uint32_t position) {
    return (float)fma(natural_log(1.0 + position / original_context), scale, 1.0);
}

int rope_table(const struct rope_params *p, const float *freqs, uint32_t position, float *cos_sin) {
    const int rc = check(p);
    if (rc)
        return rc;
    const bool yarn = p->scaling == ROPE_YARN && p->ext_factor > 0.0f;
    const struct ramp ramp = yarn ? yarn_ramp(p) : (struct ramp){0};
    const double factor = p->scaling == ROPE_NONE ? 1.0 : p->factor;
    const double log_base = natural_log(p->freq_base);
    double magnitude = p->attn_factor;
    if (yarn && factor > 1.0)
        magnitude *= (1.0 + 0.1 * natural_log(factor)) /
                     (1.0 + 0.1 * p->log_multiplier * natural_log(factor));

    for (uint32_t i = 0; i < p->dims / 2; i++) {
        if (freqs && !positive(freqs[i]))
            return -EINVAL;
        const double extrapolated =
            natural_exp(log_base * (-2.0 * i / p->dims)) / (freqs ? (double)freqs[i] : 1.0);
        double frequency = extrapolated / factor;
        if (yarn) {
            const double weight = ramp_weight(ramp, i) * p->ext_factor;
            frequency = extrapolated * weight + frequency * (1.0 - weight);
        }
        const double angle = frequency * position;
        double sine, cosine;
        if (!(angle <= ROPE_ANGLE_MAX))
            return -ERANGE;
        sin_cos(angle, &sine, &cosine);
        cos_sin[2 * i] = (float)(cosine * magnitude);
        cos_sin[2 * i + 1] = (float)(sine * magnitude);
    }
    return 0;
}
