/* For j0 and j1, which are in POSIX and not in C. */
#define _DEFAULT_SOURCE
#define _XOPEN_SOURCE 700

#include "functions.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "../common/vectors.h"

#define W KANSERVE_WIDTH

typedef int64_t whole __attribute__((vector_size(8 * W), aligned(8), may_alias));

KANSERVE_INLINE kanserve_wide choose(whole yes, kanserve_wide a, kanserve_wide b)
{
    return (kanserve_wide)((yes & (whole)a) | (~yes & (whole)b));
}

KANSERVE_INLINE kanserve_wide every(double value)
{
    return (kanserve_wide){0} + value;
}

/* exp(x) for x ≤ 0, accurate to the last bit or two; 0 below -708, so that silu(x) is 0 for large negative x. NaN stays
NaN.

x = n·log 2 + f with |f| ≤ ½·log 2, the Taylor series of exp(f) up to f^13 (the next term is below 1e-17), times 2^n. */
KANSERVE_INLINE kanserve_wide exponential(kanserve_wide v)
{
    static const double terms[] = {1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880,
        1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1, 1};
    const double shift = 6755399441055744.0; /* 1.5·2^52: adding it leaves the nearest whole number in the low bits */
    const whole far = v < -708.0;
    const kanserve_wide x = choose(far, every(-708), v);
    const kanserve_wide shifted = x * 1.4426950408889634 + shift, n = shifted - shift;
    const kanserve_wide f = (x - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33;
    kanserve_wide sum = every(terms[0]);
#pragma GCC unroll 16
    for (int term = 1; term < 14; term++)
        sum = sum * f + terms[term];
    const kanserve_wide power = (kanserve_wide)(((whole)shifted + 1023) << 52);
    return choose(far, every(0), sum * power);
}

void kanserve_rows_silu(int64_t count, const double *x, double *values, double *slopes)
{
    for (int64_t n = 0; n < count; n += W) {
        kanserve_wide own = {0};
        const size_t bytes = (size_t)(count - n < W ? count - n : W) * sizeof *x;
        memcpy(&own, x + n, bytes);
        const whole negative = own < 0.0;
        const kanserve_wide small = exponential(choose(negative, own, -own));
        const kanserve_wide sigmoid = choose(negative, small, every(1)) / (1 + small), value = own * sigmoid;
        memcpy(values + n, &value, bytes);
        if (slopes != NULL) {
            const kanserve_wide slope = sigmoid * (1 + own * (1 - sigmoid));
            memcpy(slopes + n, &slope, bytes);
        }
    }
}

static double sigmoid_of(double x)
{
    const double small = exp(x < 0 ? x : -x);
    return (x < 0 ? small : 1) / (1 + small);
}

static double sign_of(double x)
{
    return x > 0 ? 1 : x < 0 ? -1 : x;
}

static double gamma_of(double x)
{
    return x > 0 ? tgamma(x) : NAN;
}

/* The derivative of log(gamma(x)) for x > 0, by the asymptotic series at x ≥ 10, as in kanserve/network/special.py. */
static double digamma_of(double x)
{
    static const double terms[] = {
        -3617.0 / 8160, 1.0 / 12, -691.0 / 32760, 1.0 / 132, -1.0 / 240, 1.0 / 252, -1.0 / 120, 1.0 / 12};
    double sum = 0, series = 0, square;
    if (!(x > 0))
        return NAN;
    for (; x < 10; x++)
        sum += 1 / x;
    square = 1 / (x * x);
    for (int term = 0; term < 8; term++)
        series = series * square + terms[term];
    return log(x) - 0.5 / x - square * series - sum;
}

/* Not of infinities, where libraries differ. */
static double j0_of(double x)
{
    return x - x == 0 ? j0(x) : NAN;
}

static double j1_of(double x)
{
    return x - x == 0 ? j1(x) : NAN;
}

/* f(x), then f'(x), where `y` is f(x); the other functions are in the order of kanserve/network/functions.py. */
#define POWERS \
    ROW(KANSERVE_POWER, pow(x, exponent), exponent * pow(x, exponent - 1)) \
    ROW(KANSERVE_EVEN_POWER, pow(fabs(x), exponent), (x < 0 ? -exponent : exponent) * pow(fabs(x), exponent - 1)) \
    ROW(KANSERVE_ODD_POWER, copysign(pow(fabs(x), exponent), x), exponent * pow(fabs(x), exponent - 1))

/* Not by isinf: of 0.5 / sqrt(x) with signed zeros switched off, compilers leave out the check for -infinity. */
static inline double finite_slope(double slope)
{
    return slope - slope == 0 || slope != slope ? slope : 0;
}

void kanserve_named_function(
    int64_t number, double exponent, int64_t count, const double *arguments, double *values, double *slopes)
{
#define ROW(n, f, derivative) \
    case n: \
        for (int64_t at = 0; at < count; at++) { \
            const double x = arguments[at], y = f; \
            values[at] = y; \
            if (slopes != NULL) \
                slopes[at] = finite_slope(derivative); \
        } \
        break;
    switch (number) {
#include "function_table.h"
        POWERS
    }
#undef ROW
}
