/* The active functions of one input at some rows, for either precision: see layer.c, which includes this twice. */

/* One input, or up to INPUTS in the forward pass, at up to ROWS rows; function r of row b is basis[r·ROWS + b]. */
typedef struct {
    _Alignas(LINE) REAL base[INPUTS * ROWS];
    REAL base_slope[ROWS];
    REAL parts[ROWS * PART];      /* partial sums over outputs */
    int32_t first[INPUTS * ROWS]; /* the first active function */
    int32_t sorted[ROWS];         /* rows by their first function */
    REAL *basis;                  /* (INPUTS, order + 1, ROWS) */
    REAL *slope;                  /* (order + 1, ROWS) */
    REAL *own;                    /* ((functions + 1)·padded): the input's coefficients, transposed */
    REAL *total;                  /* their gradient, in the same layout */
    REAL *sums;                   /* (ROWS, padded) */
    int32_t *starts;              /* (functions + 1) */
} TYPED(column);

/* For any order, derivative and knots. */
static void TYPED(locate_pieces)(const kanserve_spline_layer *layer, const REAL *record, int64_t derivative,
    int64_t count, const REAL *x, int32_t *restrict places, REAL *restrict basis)
{
    const int64_t pieces = layer->pieces, order = layer->order, active = order + 1;
    const REAL *breaks = record + KANSERVE_HEAD, *origins = breaks + pieces - 1, *first = origins + pieces;
    for (int64_t b = 0; b < count; b++) {
        const int64_t piece = TYPED(find_interval)(breaks, pieces - 1, x[b]);
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

/* Cubic splines on a uniform grid with linear extrapolation: values and first derivatives, each if wanted. */
INLINE void TYPED(locate_cubics)(const REAL *record, REAL last, int values, int slopes, int64_t count,
    const REAL *x, int32_t *restrict places, REAL *restrict basis, REAL *restrict slope)
{
    const REAL low = record[0], step = record[1], rest = record[2], inverse = record[3];
    for (int64_t b = 0; b < count; b++) {
        REAL place = (x[b] - low) * inverse;
        place = place > 0 ? place : 0; /* NaN becomes 0 */
        const int32_t interval = (int32_t)(place < last ? place : last);
        /* Subtract the interval's knot, which is rounded, and its rounding error (Knuth's TwoSum). */
        const REAL steps = (REAL)interval, along = steps * step, knot = low + along, part = knot - low;
        const REAL lost = (low - (knot - part)) + (along - part);
        const REAL u = ((x[b] - knot) - (lost + steps * rest)) * inverse;
        REAL t = u > 0 ? u : 0;
        t = t < 1 ? t : 1;
        REAL value[CUBIC], slope_of[CUBIC];
        TYPED(cardinal_bsplines)(t, u - t, value, slope_of);
        places[b] = interval;
        if (values) {
            basis[b] = value[0];
            basis[ROWS + b] = value[1];
            basis[2 * ROWS + b] = value[2];
            basis[3 * ROWS + b] = value[3];
        }
        if (slopes) {
            slope[b] = inverse * slope_of[0];
            slope[ROWS + b] = inverse * slope_of[1];
            slope[2 * ROWS + b] = inverse * slope_of[2];
            slope[3 * ROWS + b] = inverse * slope_of[3];
        }
    }
}

/* The active functions, or their derivative. */
static void TYPED(locate)(const kanserve_spline_layer *layer, const REAL *record, int64_t derivative, int64_t count,
    const REAL *x, int32_t *places, REAL *basis)
{
    const REAL last = (REAL)(layer->functions - layer->order - 1);
    if (record[3] == 0 || derivative > 1) /* a second derivative jumps at the ends, so rounding matters there */
        TYPED(locate_pieces)(layer, record, derivative, count, x, places, basis);
    else if (derivative == 1)
        TYPED(locate_cubics)(record, last, 0, 1, count, x, places, NULL, basis);
    else
        TYPED(locate_cubics)(record, last, 1, 0, count, x, places, basis, NULL);
}

/* The same into column->basis, and the next derivative into column->slope, each if wanted. */
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
