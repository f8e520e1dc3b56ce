/* Read the tables of each kind of splines, for either precision: see spline_layer.c, which includes this twice. */

/* Numbers with extra precision: `rest`, if given, holds the rounding errors of `values`. */
typedef struct {
    const REAL *values, *rest;
} TYPED(exact);

static double TYPED(whole)(TYPED(exact) from, int64_t n)
{
    return (double)from.values[n] + (from.rest == NULL ? 0 : (double)from.rest[n]);
}

/* Whether the optional table `name` holds possible rounding errors of `values`. */
static int TYPED(take_rest)(
    const kanserve_description *description, const char *name, int64_t count, TYPED(exact) *exact)
{
    const double epsilon = sizeof(REAL) == 4 ? 0x1p-23 : 0x1p-52;
    const REAL *rest = exact->rest = numbers(description, name, count);
    int yes = rest != NULL || find(description, name) == NULL;
    for (int64_t n = 0; rest != NULL && n < count; n++)
        yes &= fabs((double)rest[n]) <= epsilon * fabs((double)exact->values[n]);
    return yes;
}

/* Read the origins and steps of uniform grids, one spline after the other in the file. */
static const char *TYPED(take_steps)(struct TYPED(kanserve_prepared) *layer, const int64_t *splines,
    TYPED(exact) starts, TYPED(exact) steps)
{
    const int64_t used = layer->used, period = used > NARROW ? up_to(used, 16) : used * LANES;
    REAL *places = layer->places = TYPED(zeros)(5 * period);
    layer->period = period;
    if (places == NULL)
        return no_memory;
    for (int64_t n = 0; n < (used > NARROW ? used : period); n++) {
        const int64_t s = splines[n % used];
        if (s < 0)
            continue;
        const REAL start = starts.values[s], step = steps.values[s], inverse = 1 / step;
        int exponent;
        if (!(step > 0) || step - step != 0 || inverse - inverse != 0 || start - start != 0)
            return "steps must be above 0, and all of a grid finite";
        const double leading = frexp((double)step, &exponent);
        const double whole = ldexp(trunc(ldexp(leading, KEPT)), exponent - KEPT);
        places[n] = start;
        places[period + n] = (REAL)whole;
        places[2 * period + n] = (REAL)(TYPED(whole)(steps, s) - whole);
        places[3 * period + n] = inverse;
        places[4 * period + n] = (REAL)(TYPED(whole)(starts, s) - (double)start);
    }
    return NULL;
}

/* Σ slopes·values, with stride `apart` of the values; adds the sizes of the terms to `size`. */
static double TYPED(slope)(int64_t active, const REAL *slopes, const REAL *values, int64_t apart, double *size)
{
    double sum = 0;
    for (int64_t r = 0; r < active; r++) {
        const double term = (double)slopes[r] * (double)values[r * apart];
        sum += term;
        *size += fabs(term);
    }
    return sum;
}

/* Check that the weights of the clipped parts are the slopes at both ends, with which the kernel extrapolates. */
static int TYPED(straight)(const struct TYPED(kanserve_prepared) *layer, const REAL *weights, const REAL *rows,
    int64_t functions, int64_t inputs, double factor)
{
    const double allowed = sizeof(REAL) == 4 ? 1e-5 : 1e-13;
    const int64_t subnodes = layer->subnodes, active = layer->active;
    REAL values[HIGHEST + 1], at_first[HIGHEST + 1], at_last[HIGHEST + 1];
    TYPED(cardinal_bsplines_of)((int)active, 0, 0, values, at_first);
    TYPED(cardinal_bsplines_of)((int)active, 1, 0, values, at_last);
    for (int64_t n = 0; n < inputs * subnodes; n++) {
        const REAL *own = rows + n / subnodes * functions * subnodes + n % subnodes;
        double size = 0;
        const double first = factor * TYPED(slope)(active, at_first, own, subnodes, &size);
        const double last
            = factor * TYPED(slope)(active, at_last, own + (functions - active) * subnodes, subnodes, &size);
        const double mean = (double)weights[n], half = (double)weights[inputs * subnodes + n];
        if (fabs(mean - (first + last) / 2) > allowed * size || fabs(half - (last - first) / 2) > allowed * size)
            return 0;
    }
    return 1;
}

static const char *TYPED(prepare_cardinal)(const kanserve_description *description,
    struct TYPED(kanserve_prepared) *layer, const TYPED(source) *source, const int64_t *splines, const REAL *weights,
    int64_t features)
{
    const int64_t count = source->count, subnodes = layer->subnodes, active = layer->active, order = active - 1;
    TYPED(exact) middles = {numbers(description, "middles", count), NULL};
    TYPED(exact) steps = {numbers(description, "steps", count), NULL};
    const REAL *lowest = numbers(description, "lowest", 1), *highest = numbers(description, "highest", 1);
    int64_t rows, columns;
    const char *why;
    if (!matrix(description, "spline_weights", &rows, &columns) || columns != subnodes || rows % count != 0
        || rows / count < active || middles.values == NULL || steps.values == NULL || order > HIGHEST)
        return "equal steps need an order up to 5, middles, steps and spline_weights to suit";
    if (!TYPED(take_rest)(description, "middles_rest", count, &middles)
        || !TYPED(take_rest)(description, "steps_rest", count, &steps))
        return "what rounding took from middles and steps must be less than it can take";
    const REAL *all = find(description, "spline_weights")->data;
    const int64_t functions = rows / count, intervals = functions - order;
    double factor = 2; /* 2/a of onnx_cardinal.py, by which the file's weights must be multiplied */
    for (int64_t n = 1; n <= order; n++)
        factor *= (double)n * 2 / (double)active;
    layer->linear = lowest != NULL;
    if ((lowest == NULL) != (highest == NULL)
        || (layer->linear && (*highest != (REAL)((double)intervals / 2) || *lowest != -*highest)))
        return "the values must be held within the intervals, or not at all";
    if (features != layer->inputs + (layer->linear ? 2 * count : 0)
        || (layer->linear
            && !TYPED(straight)(layer, weights + layer->inputs * subnodes, all, functions, count, factor)))
        return "the weights beyond the range must be the slopes there";
    const int64_t spare = layer->linear ? 0 : order; /* rows of zeros */
    layer->shift = (REAL)((double)intervals / 2 + (double)spare);
    layer->last = (REAL)(intervals - 1 + 2 * spare);
    if ((why = TYPED(room)(description, layer, functions + 2 * spare)) != NULL)
        return why;
    for (int64_t i = 0; i < layer->used; i++)
        for (int64_t f = 0; splines[i] >= 0 && f < functions; f++)
            TYPED(put)(layer, i, spare + f, all + (splines[i] * functions + f) * subnodes, factor);
    return TYPED(take_steps)(layer, splines, middles, steps);
}

/* Read increasing breaks, or a uniform grid; sets `reach`, the largest distance from the origin of an inner piece. */
static const char *TYPED(take_breaks)(const kanserve_description *description,
    struct TYPED(kanserve_prepared) *layer, const int64_t *splines, int64_t count)
{
    const int64_t pieces = layer->pieces, each = pieces - 1;
    const REAL *breaks = numbers(description, "breaks", count * each);
    const REAL *lows = numbers(description, "lows", count), *steps = numbers(description, "steps", count);
    if (breaks == NULL) {
        const char *why = lows == NULL || steps == NULL
            ? "pieces need breaks, or lows and steps"
            : TYPED(take_steps)(layer, splines, (TYPED(exact)){lows, NULL}, (TYPED(exact)){steps, NULL});
        layer->last = (REAL)(pieces - 1);
        for (int64_t s = 0; why == NULL && s < count; s++)
            if ((REAL)(pieces - 2) * steps[s] > layer->reach)
                layer->reach = (REAL)(pieces - 2) * steps[s];
        return why;
    }
    layer->breaks = TYPED(zeros)(layer->used * each);
    if (layer->breaks == NULL)
        return no_memory;
    for (int64_t i = 0; i < layer->used; i++)
        for (int64_t p = 0; splines[i] >= 0 && p < each; p++) {
            const REAL *own = breaks + splines[i] * each, here = own[p];
            if (!(here >= own[p > 0 ? p - 1 : 0]))
                return "breaks must rise";
            if (here - here == 0 && here - own[0] > layer->reach)
                layer->reach = here - own[0];
            layer->breaks[i * each + p] = here;
        }
    return NULL;
}

/* Read one piece, on which at most order + 1 neighbouring functions are not 0. */
static const char *TYPED(take_piece)(struct TYPED(kanserve_prepared) *layer, int64_t place, const REAL **tables,
    int64_t row, int64_t functions)
{
    const int64_t active = layer->active;
    int64_t first = functions, last = 0;
    for (int64_t power = 0; power < active; power++)
        for (int64_t f = 0; f < functions; f++)
            if (tables[power][row * functions + f] != 0) {
                first = least(first, f);
                last = f > last ? f : last;
            }
    first = least(first, functions - active);
    if (last - first >= active)
        return "more functions than order + 1 are not 0 on a piece";
    layer->first[place] = (int32_t)first;
    for (int64_t power = 0; power < active; power++)
        for (int64_t r = 0; r < active; r++)
            layer->polynomials[(place * active + power) * active + r] = tables[power][row * functions + first + r];
    return NULL;
}

static const char *TYPED(take_basis)(const kanserve_description *description,
    struct TYPED(kanserve_prepared) *layer, const TYPED(source) *source, const int64_t *splines)
{
    const int64_t count = source->count, subnodes = layer->subnodes, pieces = layer->pieces, active = layer->active;
    const REAL *tables[KANSERVE_LARGEST_ORDER + 1];
    int64_t rows, columns;
    const char *why;
    if (!matrix(description, "spline_weights", &rows, &columns) || columns != subnodes || rows % count != 0
        || rows / count < active)
        return "a LocalBasis needs spline_weights to suit";
    const int64_t functions = rows / count;
    const REAL *all = find(description, "spline_weights")->data;
    for (int64_t power = 0; power < active; power++) {
        const char name[] = {'b', 'a', 's', 'i', 's', (char)('0' + power), 0};
        tables[power] = numbers(description, name, count * pieces * functions);
        if (tables[power] == NULL)
            return "a LocalBasis needs a table of the basis for each power";
    }
    if ((why = TYPED(room)(description, layer, functions)) != NULL)
        return why;
    layer->polynomials = TYPED(zeros)(layer->used * pieces * active * active);
    layer->first = calloc((size_t)(layer->used * pieces), sizeof(int32_t));
    if (layer->polynomials == NULL || layer->first == NULL)
        return no_memory;
    for (int64_t i = 0; i < layer->used; i++) {
        for (int64_t f = 0; splines[i] >= 0 && f < functions; f++)
            TYPED(put)(layer, i, f, all + (splines[i] * functions + f) * subnodes, 1);
        for (int64_t p = 0; splines[i] >= 0 && p < pieces; p++)
            if ((why = TYPED(take_piece)(layer, i * pieces + p, tables, splines[i] * pieces + p, functions)) != NULL)
                return why;
    }
    return NULL;
}

static const char *TYPED(take_polynomials)(const kanserve_description *description,
    struct TYPED(kanserve_prepared) *layer, const TYPED(source) *source, const int64_t *splines)
{
    const int64_t subnodes = layer->subnodes, each = layer->pieces * layer->active;
    const REAL *all = numbers(description, "polynomials", source->count * each * subnodes);
    const char *why;
    if (all == NULL)
        return "a LocalPolynomials needs the polynomials of every piece";
    if ((why = TYPED(room)(description, layer, each)) != NULL)
        return why;
    for (int64_t i = 0; i < layer->used; i++)
        for (int64_t row = 0; splines[i] >= 0 && row < each; row++)
            TYPED(put)(layer, i, row, all + (splines[i] * each + row) * subnodes, 1);
    return NULL;
}

static const char *TYPED(take_pieces)(const kanserve_description *description,
    struct TYPED(kanserve_prepared) *layer, const TYPED(source) *source, const int64_t *splines)
{
    const kanserve_table *table = find(description, "origins");
    const int64_t count = source->count, used = layer->used;
    const char *why;
    if (table == NULL || table->indices || table->count % count != 0 || table->count / count < 2)
        return "pieces need origins";
    const int64_t pieces = layer->pieces = table->count / count;
    const REAL *origins = table->data;
    if (pieces > MOST_ROWS || (double)used * (double)pieces > LARGER * ((double)table->count + 1024))
        return "the layer would take far more memory than its tables";
    layer->origins = TYPED(zeros)(used * pieces);
    if (layer->origins == NULL)
        return no_memory;
    for (int64_t i = 0; i < used; i++)
        if (splines[i] >= 0)
            memcpy(layer->origins + i * pieces, origins + splines[i] * pieces, (size_t)pieces * sizeof(REAL));
    if ((why = TYPED(take_breaks)(description, layer, splines, count)) != NULL)
        return why;
    return layer->kind == KANSERVE_LOCAL_BASIS ? TYPED(take_basis)(description, layer, source, splines)
                                               : TYPED(take_polynomials)(description, layer, source, splines);
}
