/* The active functions of one input at some rows, for either precision: see layer.c, which includes this twice. */

/* One input, or forwards up to INPUTS, at up to ROWS rows; function r of row b is at basis[r·ROWS + b]. */
typedef struct {
    _Alignas(LINE) REAL base[INPUTS * ROWS];
    REAL base_slope[ROWS];
    REAL parts[ROWS * PART];      /* of the sums over outputs */
    int32_t first[INPUTS * ROWS]; /* the first active function */
    int32_t sorted[ROWS];         /* rows by their first function */
    REAL *basis;                  /* (INPUTS, order + 1, ROWS) */
    REAL *slope;                  /* (order + 1, ROWS) */
    REAL *own;                    /* ((functions + 1)·padded): the input's coefficients, see `turn` */
    REAL *total;                  /* the same of a gradient */
    REAL *sums;                   /* (ROWS, padded) */
    int32_t *starts;              /* (functions + 1) */
} TYPED(column);

#ifdef DOUBLE
typedef uint64_t TYPED(bits);
#define SHIFT 0x1.8p52 /* adding it leaves the nearest whole number in the low bits */
#define LEAST -708.0   /* exp of it is still normal */
#define EXPONENT 1023
#define MANTISSA 52
#define HIGH 0x1.62e42feep-1 /* log 2 in two parts */
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

/* exp(x) for x ≤ 0, to the last bit or two: x = n·log 2 + f with |f| ≤ ½·log 2, and Taylor's series of exp(f). It is 0
from LEAST on, so that silu ends at 0 however far out. */
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

/* How many breaks are ≤ v; for NaN any number there is. */
INLINE int64_t TYPED(piece_of)(const REAL *breaks, int64_t count, REAL v)
{
    int64_t low = 0;
    for (int64_t rest = count; rest > 1; rest -= rest / 2)
        low += breaks[low + rest / 2 - 1] <= v ? rest / 2 : 0;
    return low + (breaks[low] <= v);
}

/* Any order, any derivative, any knots. */
static void TYPED(locate_pieces)(const kanserve_spline_layer *layer, const REAL *record, int64_t derivative,
    int64_t count, const REAL *x, int32_t *restrict places, REAL *restrict basis)
{
    const int64_t pieces = layer->pieces, order = layer->order, active = order + 1;
    const REAL *breaks = record + KANSERVE_HEAD, *origins = breaks + pieces - 1, *first = origins + pieces;
    for (int64_t b = 0; b < count; b++) {
        const int64_t piece = TYPED(piece_of)(breaks, pieces - 1, x[b]);
        const REAL *polynomials = first + pieces + piece * active * active, offset = x[b] - origins[piece];
        places[b] = (int32_t)first[piece];
        for (int64_t r = 0; r < active; r++)
            basis[r * ROWS + b] = 0;
        for (int64_t power = order; power >= derivative; power--) {
            REAL factor = 1;
            for (int64_t n = 0; n < derivative; n++)
                factor *= (REAL)(power - n);
            for (int64_t r = 0; r < active; r++)
                basis[r * ROWS + b] = basis[r * ROWS + b] * offset + factor * polynomials[power * active + r];
        }
    }
}

/* Cubics on equal steps, straight beyond both ends: their values and first derivatives, as far as they are wanted. */
INLINE void TYPED(locate_cubics)(const REAL *record, REAL last, int values, int slopes, int64_t count,
    const REAL *x, int32_t *restrict places, REAL *restrict basis, REAL *restrict slope)
{
    const REAL low = record[0], step = record[1], rest = record[2], inverse = record[3];
    const REAL half = (REAL)0.5, sixth = (REAL)(1.0 / 6);
    for (int64_t b = 0; b < count; b++) {
        REAL place = (x[b] - low) * inverse;
        place = place > 0 ? place : 0; /* NaN becomes 0 */
        const int32_t interval = (int32_t)(place < last ? place : last);
        /* Less the interval's knot, which is rounded, and less what the rounding took (Knuth's sum of two). */
        const REAL steps = (REAL)interval, along = steps * step, knot = low + along, part = knot - low;
        const REAL lost = (low - (knot - part)) + (along - part);
        const REAL u = ((x[b] - knot) - (lost + steps * rest)) * inverse;
        REAL t = u > 0 ? u : 0;
        t = t < 1 ? t : 1;
        const REAL s = 1 - t, beyond = u - t;
        const REAL by0 = -half * s * s, by3 = half * t * t;
        const REAL by1 = t * ((REAL)1.5 * t - 2), by2 = half + t - (REAL)1.5 * t * t;
        places[b] = interval;
        if (values) {
            basis[b] = sixth * s * s * s + beyond * by0;
            basis[ROWS + b] = sixth * (4 + t * t * (3 * t - 6)) + beyond * by1;
            basis[2 * ROWS + b] = sixth * (1 + 3 * t * (1 + t * s)) + beyond * by2;
            basis[3 * ROWS + b] = sixth * t * t * t + beyond * by3;
        }
        if (slopes) {
            slope[b] = inverse * by0;
            slope[ROWS + b] = inverse * by1;
            slope[2 * ROWS + b] = inverse * by2;
            slope[3 * ROWS + b] = inverse * by3;
        }
    }
}

/* The active functions, or a derivative of theirs. */
static void TYPED(locate)(const kanserve_spline_layer *layer, const REAL *record, int64_t derivative, int64_t count,
    const REAL *x, int32_t *places, REAL *basis)
{
    const REAL last = (REAL)(layer->functions - layer->order - 1);
    if (record[3] == 0 || derivative > 1) /* a second derivative jumps at the ends, where rounding must not matter */
        TYPED(locate_pieces)(layer, record, derivative, count, x, places, basis);
    else if (derivative == 1)
        TYPED(locate_cubics)(record, last, 0, 1, count, x, places, NULL, basis);
    else
        TYPED(locate_cubics)(record, last, 1, 0, count, x, places, basis, NULL);
}

/* The same into column->basis and, for the next derivative, column->slope, as far as they are wanted. */
static void TYPED(locate_both)(const kanserve_spline_layer *layer, const REAL *record, int64_t derivative,
    int64_t count, const REAL *x, TYPED(column) *column, int values, int slopes)
{
    const REAL last = (REAL)(layer->functions - layer->order - 1);
    if (record[3] != 0 && derivative == 0 && values && slopes) {
        TYPED(locate_cubics)(record, last, 1, 1, count, x, column->first, column->basis, column->slope);
        return;
    }
    if (values)
        TYPED(locate)(layer, record, derivative, count, x, column->first, column->basis);
    if (slopes)
        TYPED(locate)(layer, record, derivative + 1, count, x, column->first, column->slope);
}

/* The base function and, unless `slopes` is NULL, its slope. */
static void TYPED(locate_base)(
    const kanserve_spline_layer *layer, int64_t count, const REAL *x, REAL *restrict values, REAL *restrict slopes)
{
    if (layer->base == KANSERVE_SILU && slopes != NULL)
        TYPED(silu)(count, x, values, slopes);
    else if (layer->base == KANSERVE_SILU)
        TYPED(silu)(count, x, values, NULL);
    else
        for (int64_t b = 0; b < count; b++) {
            values[b] = x[b];
            if (slopes != NULL)
                slopes[b] = 1;
        }
}

#undef SHIFT
#undef LEAST
#undef EXPONENT
#undef MANTISSA
#undef HIGH
#undef LOW
#undef TERMS
