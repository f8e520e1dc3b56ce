/* Vectors, SiLU and spline helpers for either precision: include this twice, with REAL, TYPED, LANES and, the second
time, DOUBLE defined. See lanes.h. */

typedef REAL TYPED(wide) __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));

INLINE TYPED(wide) TYPED(load)(const REAL *from)
{
    return *(const TYPED(wide) *)from;
}

INLINE void TYPED(store)(REAL *to, TYPED(wide) value)
{
    *(TYPED(wide) *)to = value;
}

static int64_t TYPED(padded)(int64_t outputs)
{
    return (outputs + LANES - 1) / LANES * LANES;
}

static int TYPED(finite)(int64_t count, const REAL *values)
{
    int yes = 1;
    for (int64_t n = 0; n < count; n++)
        yes &= values[n] - values[n] == 0; /* NaN for an infinity too */
    return yes;
}

#ifdef DOUBLE
typedef uint64_t TYPED(bits);
#define SHIFT 0x1.8p52 /* adding it leaves the nearest whole number in the low bits */
#define LEAST -708.0   /* exp of it is still normal */
#define EXPONENT 1023
#define MANTISSA 52
#define HIGH 0x1.62e42feep-1 /* log 2 as HIGH + LOW */
#define LOW 0x1.a39ef35793c76p-33
#define TERMS 13
#else
typedef uint32_t TYPED(bits);
#define SHIFT 0x1.8p23f
#define LEAST -87.0f
#define EXPONENT 127
#define MANTISSA 23
#define HIGH 0x1.62e4p-1f
#define LOW 0x1.7f7d1cp-20f
#define TERMS 7
#endif

/* exp(x) for x ≤ 0, accurate to the last bit or two: x = n·log 2 + f with |f| ≤ ½·log 2, and the Taylor series of
exp(f). It is 0 at and below LEAST, so that silu(x) is 0 for large negative x. */
INLINE REAL TYPED(exponential)(REAL v)
{
    static const REAL factorials[] = {1, 1, 2, 6, 24, 120, 720, 5040, 40320, 362880, 3628800, 39916800, 479001600,
        6227020800};
    const REAL x = v > LEAST ? v : LEAST;
    const REAL shifted = x * (REAL)1.4426950408889634 + SHIFT, n = shifted - SHIFT;
    const REAL f = (x - n * HIGH) - n * LOW;
    REAL sum = 1 / factorials[TERMS], power;
#pragma GCC unroll 16
    for (int term = TERMS - 1; term >= 0; term--)
        sum = sum * f + 1 / factorials[term];
    TYPED(bits) whole;
    memcpy(&whole, &shifted, sizeof whole);
    whole = (TYPED(bits))((whole + EXPONENT) << MANTISSA);
    memcpy(&power, &whole, sizeof power);
    return v > LEAST ? sum * power : 0;
}

INLINE void TYPED(silu)(int64_t count, const REAL *x, REAL *restrict values, REAL *restrict slopes)
{
    for (int64_t b = 0; b < count; b++) {
        const REAL v = x[b], small = TYPED(exponential)(v < 0 ? v : -v);
        const REAL sigmoid = (v < 0 ? small : 1) / (1 + small);
        values[b] = v * sigmoid;
        if (slopes != NULL)
            slopes[b] = sigmoid * (1 + v * (1 - sigmoid));
    }
}

/* The number of breaks ≤ v, by binary search; any valid number for NaN. */
INLINE int64_t TYPED(find_interval)(const REAL *breaks, int64_t count, REAL v)
{
    int64_t low = 0;
    for (int64_t rest = count; rest > 1; rest -= rest / 2)
        low += breaks[low + rest / 2 - 1] <= v ? rest / 2 : 0;
    return low + (breaks[low] <= v);
}

/* The four cubic B-splines on a uniform grid that are not 0 at t, from 0 at a knot to 1 at the next, and their slopes
by t; extrapolated linearly by `beyond` steps. */
INLINE void TYPED(cardinal_bsplines)(REAL t, REAL beyond, REAL values[CUBIC], REAL slopes[CUBIC])
{
    const REAL half = (REAL)0.5, sixth = (REAL)(1.0 / 6), s = 1 - t;
    slopes[0] = -half * s * s;
    slopes[1] = t * ((REAL)1.5 * t - 2);
    slopes[2] = half + t - (REAL)1.5 * t * t;
    slopes[3] = half * t * t;
    values[0] = sixth * s * s * s + beyond * slopes[0];
    values[1] = sixth * (4 + t * t * (3 * t - 6)) + beyond * slopes[1];
    values[2] = sixth * (1 + 3 * t * (1 + t * s)) + beyond * slopes[2];
    values[3] = sixth * t * t * t + beyond * slopes[3];
}

#undef SHIFT
#undef LEAST
#undef EXPONENT
#undef MANTISSA
#undef HIGH
#undef LOW
#undef TERMS
