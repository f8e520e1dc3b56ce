/* Compute a prepared layer, for either precision: see spline_layer.c, which includes this twice. */

/* Some inputs at some rows of x: value (b, i) has number b·apart + i, its function r is basis[r·stride + number]. */
typedef struct {
    int64_t rows, inputs, apart, stride;
    REAL *scaled; /* all inputs (rows, inputs) normalised, if the layer normalises them */
    REAL *x, *basis, *base;
    int32_t *first; /* the row of the table for function 0 */
    REAL *sums;     /* (rows, padded) */
} TYPED(tile);

/* The active functions of splines on uniform grids, for whole vectors of values. */
INLINE void TYPED(find_cardinal)(const struct TYPED(kanserve_prepared) *layer, int active, int linear, int64_t count,
    const REAL *restrict places, const REAL *restrict x, int64_t stride, int32_t *restrict first, REAL *restrict basis)
{
    const int64_t period = layer->period;
    const REAL shift = layer->shift, last = layer->last;
    for (int64_t n = 0; n < count / LANES * LANES; n++) {
        const REAL along = x[n] - places[n], inverse = places[3 * period + n];
        REAL place = along * inverse + shift;
        place = place > 0 ? place : 0; /* NaN becomes 0 */
        const int32_t interval = (int32_t)(place < last ? place : last);
        const REAL steps = (REAL)interval - shift;
        const REAL rest = steps * places[2 * period + n] + places[4 * period + n];
        const REAL u = ((along - steps * places[period + n]) - rest) * inverse;
        REAL t = u > 0 ? u : 0, value[HIGHEST + 1], slope[HIGHEST + 1];
        t = t < 1 ? t : 1;
        if (active == CUBIC)
            TYPED(cardinal_bsplines)(t, linear ? u - t : 0, value, slope);
        else
            TYPED(cardinal_bsplines_of)(active, t, linear ? u - t : 0, value, slope);
        first[n] = interval;
#pragma GCC unroll 6
        for (int r = 0; r < active; r++)
            basis[r * stride + n] = value[r];
    }
}

static void TYPED(find_any_cardinal)(const struct TYPED(kanserve_prepared) *layer, int64_t count, const REAL *places,
    const REAL *x, int64_t stride, int32_t *first, REAL *basis)
{
#define FIND(active) \
    case active: \
        if (layer->linear) \
            TYPED(find_cardinal)(layer, active, 1, count, places, x, stride, first, basis); \
        else \
            TYPED(find_cardinal)(layer, active, 0, count, places, x, stride, first, basis); \
        break;
    switch (layer->active) {
        FIND(2) FIND(3) FIND(4) FIND(5) FIND(6)
    }
#undef FIND
}

/* The piece of each value on a uniform grid, by division. */
INLINE void TYPED(find_equal)(const struct TYPED(kanserve_prepared) *layer, int64_t count,
    const REAL *restrict places, const REAL *restrict x, int32_t *restrict pieces)
{
    const int64_t period = layer->period;
    const REAL last = layer->last;
    for (int64_t n = 0; n < count / LANES * LANES; n++) {
        REAL place = (x[n] - places[n]) * places[3 * period + n] + 1;
        place = place > 0 ? place : 0;
        pieces[n] = (int32_t)(place < last ? place : last);
    }
}

/* The powers of the distance from a piece's origin. From the second power on the distance is clipped to the range, as 0
times an overflowing power would be NaN. */
INLINE void TYPED(take_powers)(const struct TYPED(kanserve_prepared) *layer, const REAL *origins, int64_t count,
    const REAL *restrict x, int64_t stride, int32_t *restrict first, REAL *restrict basis)
{
    const REAL reach = layer->reach;
    const int64_t pieces = layer->pieces, active = layer->active;
    for (int64_t i = 0; i < count; i++) {
        const REAL t = x[i] - origins[i * pieces + first[i]];
        REAL within = t < reach ? t : reach;
        within = within > -reach ? within : -reach;
        REAL power = within;
        basis[i] = 1;
        basis[stride + i] = t;
        for (int64_t r = 2; r < active; r++)
            basis[r * stride + i] = power *= within;
        first[i] *= (int32_t)active;
    }
}

/* The active basis functions on each value's piece. */
static void TYPED(take_functions)(const struct TYPED(kanserve_prepared) *layer, int64_t input, int64_t count,
    const REAL *x, int64_t stride, int32_t *first, REAL *basis)
{
    const int64_t active = layer->active;
    for (int64_t i = 0; i < count; i++) {
        const int64_t piece = (input + i) * layer->pieces + first[i];
        const REAL t = x[i] - layer->origins[piece], *polynomials = layer->polynomials + piece * active * active;
        for (int64_t r = 0; r < active; r++) {
            REAL sum = 0;
            for (int64_t power = active - 1; power >= 0; power--)
                sum = sum * t + polynomials[power * active + r];
            basis[r * stride + i] = sum;
        }
        first[i] = layer->first[piece];
    }
}

/* The active functions and base functions of a tile whose first input is `input`. */
static void TYPED(locate)(const struct TYPED(kanserve_prepared) *layer, int64_t input, const TYPED(tile) *tile)
{
    const int64_t values = up_to(tile->rows * tile->apart, LANES), stride = tile->stride;
    const int64_t run = layer->used > NARROW ? tile->apart : layer->period;
    for (int64_t n = 0; layer->places != NULL && n < values; n += run) {
        const REAL *x = tile->x + n, *places = layer->places + input;
        const int64_t count = least(run, values - n);
        if (layer->kind == KANSERVE_CARDINAL)
            TYPED(find_any_cardinal)(layer, count, places, x, stride, tile->first + n, tile->basis + n);
        else
            TYPED(find_equal)(layer, count, places, x, tile->first + n);
    }
    if (layer->base == KANSERVE_SILU)
        TYPED(silu)(values, tile->x, tile->base, NULL);
    else if (layer->base == KANSERVE_IDENTITY)
        memcpy(tile->base, tile->x, (size_t)values * sizeof(REAL));
    for (int64_t b = 0; layer->kind != KANSERVE_CARDINAL && b < tile->rows; b++) {
        const int64_t n = b * tile->apart;
        for (int64_t i = 0; layer->breaks != NULL && i < tile->inputs; i++)
            tile->first[n + i] = (int32_t)TYPED(find_interval)(
                layer->breaks + (input + i) * (layer->pieces - 1), layer->pieces - 1, tile->x[n + i]);
        if (layer->kind == KANSERVE_LOCAL_BASIS)
            TYPED(take_functions)(layer, input, tile->inputs, tile->x + n, stride, tile->first + n, tile->basis + n);
        else
            TYPED(take_powers)(layer, layer->origins + input * layer->pieces, tile->inputs, tile->x + n, stride,
                tile->first + n, tile->basis + n);
    }
}

/* Add the tile's inputs to the sums of the rows from `from` on, `abreast` rows at a time; returns the next row. */
INLINE int64_t TYPED(add)(int abreast, int vectors, int64_t active, int with_base,
    const struct TYPED(kanserve_prepared) *layer, const TYPED(tile) *tile, const REAL *table, int64_t from, REAL *sums)
{
    const int64_t width = vectors * LANES, each = layer->each, base = layer->rows * width, padded = layer->padded;
    int64_t b = from;
    for (; b + abreast <= tile->rows; b += abreast) {
        TYPED(wide) sum[ABREAST][GROUP];
#pragma GCC unroll 8
        for (int a = 0; a < abreast; a++)
#pragma GCC unroll 4
            for (int c = 0; c < vectors; c++)
                sum[a][c] = (TYPED(wide)){0};
        for (int64_t i = 0; i < tile->inputs; i++) {
            const REAL *own = table + i * each;
#pragma GCC unroll 8
            for (int a = 0; a < abreast; a++) {
                const int64_t n = (b + a) * tile->apart + i;
                const REAL *rows = own + tile->first[n] * width;
#pragma GCC unroll 4
                for (int64_t r = 0; r < active; r++)
#pragma GCC unroll 4
                    for (int c = 0; c < vectors; c++)
                        sum[a][c] += tile->basis[r * tile->stride + n] * TYPED(load)(rows + r * width + c * LANES);
                if (with_base)
#pragma GCC unroll 4
                    for (int c = 0; c < vectors; c++)
                        sum[a][c] += tile->base[n] * TYPED(load)(own + base + c * LANES);
            }
        }
#pragma GCC unroll 8
        for (int a = 0; a < abreast; a++)
#pragma GCC unroll 4
            for (int c = 0; c < vectors; c++) {
                REAL *total = sums + (b + a) * padded + c * LANES;
                TYPED(store)(total, TYPED(load)(total) + sum[a][c]);
            }
    }
    return b;
}

INLINE void TYPED(add_all)(int vectors, const struct TYPED(kanserve_prepared) *layer, const TYPED(tile) *tile,
    const REAL *table, REAL *sums)
{
    const int abreast = ABREAST / vectors;
    const int64_t active = layer->active;
    int64_t b = 0;
    if (active != CUBIC) {
        TYPED(add)(1, vectors, active, layer->base != KANSERVE_ZERO, layer, tile, table, 0, sums);
    } else if (layer->base != KANSERVE_ZERO) {
        b = TYPED(add)(abreast, vectors, CUBIC, 1, layer, tile, table, 0, sums);
        if (abreast > 1)
            TYPED(add)(1, vectors, CUBIC, 1, layer, tile, table, b, sums);
    } else {
        b = TYPED(add)(abreast, vectors, CUBIC, 0, layer, tile, table, 0, sums);
        if (abreast > 1)
            TYPED(add)(1, vectors, CUBIC, 0, layer, tile, table, b, sums);
    }
}

static void TYPED(add_inputs)(const struct TYPED(kanserve_prepared) *layer, int64_t input, const TYPED(tile) *tile)
{
    const int64_t rows = layer->each / layer->padded;
    for (int64_t o = 0; o < layer->padded; o += GROUP * LANES) {
        const REAL *table = layer->table + input * layer->each + o * rows;
        switch (least((layer->padded - o) / LANES, GROUP)) {
        case 1: TYPED(add_all)(1, layer, tile, table, tile->sums + o); break;
        case 2: TYPED(add_all)(2, layer, tile, table, tile->sums + o); break;
        case 3: TYPED(add_all)(3, layer, tile, table, tile->sums + o); break;
        default: TYPED(add_all)(4, layer, tile, table, tile->sums + o);
        }
    }
}

/* A sequential sum of thousands of terms would be the largest rounding error here, so inputs are summed in groups. */
static void TYPED(add_tile)(const struct TYPED(kanserve_prepared) *layer, int64_t input, const TYPED(tile) *tile)
{
    TYPED(tile) some = *tile;
    for (int64_t i = 0; i < tile->inputs; i += ADDED) {
        some.inputs = least(ADDED, tile->inputs - i);
        TYPED(add_inputs)(layer, input + i, &some);
        some.basis += ADDED;
        some.base += ADDED;
        some.first += ADDED;
    }
}

/* Compute the nodes from the sums; all are NaN if a node or an input is not finite. */
static void TYPED(finish)(const struct TYPED(kanserve_prepared) *layer, const REAL *x, const REAL *sums, REAL *y)
{
    if (layer->groups == NULL)
        memcpy(y, sums, (size_t)layer->nodes * sizeof *y);
    for (int64_t q = 0; layer->groups != NULL && q < layer->nodes; q++) {
        REAL product = 1;
        for (int64_t n = 0; n < layer->arity; n++)
            product *= sums[layer->groups[q * layer->arity + n]];
        y[q] = product * layer->node_scale[q] + layer->node_bias[q];
    }
    if (!TYPED(finite)(layer->inputs, x) || !TYPED(finite)(layer->nodes, y))
        for (int64_t q = 0; q < layer->nodes; q++)
            y[q] = NAN;
}

/* Copy the tile's values of the inputs from `input` on, padded with zeros. */
static void TYPED(gather)(
    const struct TYPED(kanserve_prepared) *layer, int64_t input, const REAL *x, const TYPED(tile) *tile)
{
    const int64_t inputs = layer->inputs, values = tile->rows * tile->apart;
    if (tile->apart == inputs && layer->chosen == NULL)
        memcpy(tile->x, x, (size_t)values * sizeof(REAL));
    for (int64_t b = 0; (tile->apart != inputs || layer->chosen != NULL) && b < tile->rows; b++) {
        REAL *to = tile->x + b * tile->apart;
        if (layer->chosen == NULL)
            for (int64_t i = 0; i < tile->inputs; i++)
                to[i] = x[b * inputs + input + i];
        else
            for (int64_t i = 0; i < tile->inputs; i++)
                to[i] = x[b * inputs + layer->chosen[input + i]];
        for (int64_t i = tile->inputs; i < tile->apart; i++)
            to[i] = 0;
    }
    for (int64_t n = values; n < up_to(values, LANES); n++)
        tile->x[n] = 0;
}

/* The normalised inputs of the tile's rows. */
static const REAL *TYPED(scale)(
    const struct TYPED(kanserve_prepared) *layer, const REAL *restrict x, const TYPED(tile) *tile)
{
    const int64_t inputs = layer->inputs;
    REAL *restrict scaled = tile->scaled;
    if (layer->input_shift == NULL)
        return x;
    for (int64_t b = 0; b < tile->rows; b++)
        for (int64_t i = 0; i < inputs; i++)
            scaled[b * inputs + i] = (x[b * inputs + i] - layer->input_shift[i]) / layer->input_scale[i];
    return scaled;
}

int TYPED(kanserve_compute)(const struct TYPED(kanserve_prepared) *layer, int64_t rows, const REAL *x, REAL *y)
{
    _Alignas(LINE) unsigned char stack[SCRATCH];
    const int64_t used = layer->used, padded = layer->padded;
    const int large = used * layer->each * (int64_t)sizeof(REAL) > CACHE;
    const int64_t most = used > NARROW ? (large ? WIDE_TILE : TILE) : VALUES / used < KANSERVE_SHARE ? VALUES / used
                                                                                                     : KANSERVE_SHARE;
    const int64_t height = least(rows, most);
    const int64_t apart = used > NARROW ? least(up_to(used, LANES), up_to(VALUES / height, 16)) : used;
    const int64_t stride = up_to(height * apart, 16), own = layer->input_shift == NULL ? 0 : height * layer->inputs;
    const int64_t numbers = (layer->active + 2) * stride + height * padded + own;
    const int64_t bytes = numbers * (int64_t)sizeof(REAL) + stride * (int64_t)sizeof(int32_t);
    REAL *scratch = bytes <= SCRATCH ? (REAL *)stack : aligned(bytes);
    if (scratch == NULL)
        return 1;
    TYPED(tile) tile = {.stride = stride, .x = scratch, .base = scratch + stride,
        .basis = scratch + 2 * stride, .sums = scratch + (layer->active + 2) * stride,
        .scaled = scratch + numbers - own,
        .first = (int32_t *)(scratch + numbers)};
    for (int64_t from = 0; from < rows; from += height) {
        tile.rows = least(height, rows - from);
        const REAL *values = TYPED(scale)(layer, x + from * layer->inputs, &tile);
        for (int64_t b = 0; b < tile.rows; b++)
            memcpy(tile.sums + b * padded, layer->bias, (size_t)padded * sizeof(REAL));
        for (int64_t i = 0; i < used; i += apart) {
            tile.inputs = least(apart, used - i);
            tile.apart = used > NARROW ? up_to(tile.inputs, LANES) : used;
            TYPED(gather)(layer, i, values, &tile);
            TYPED(locate)(layer, i, &tile);
            TYPED(add_tile)(layer, i, &tile);
        }
        for (int64_t b = 0; b < tile.rows; b++)
            TYPED(finish)(layer, values + b * layer->inputs, tile.sums + b * padded, y + (from + b) * layer->nodes);
    }
    if ((unsigned char *)scratch != stack)
        free(scratch);
    return 0;
}
