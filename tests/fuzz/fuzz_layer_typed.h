/* The kernels of a layer in one precision, for fuzz_layer.c, which includes this twice. */

typedef struct {
    kanserve_spline_layer layer;
    int64_t rows, threads, derivative, record;
    int weighted, with_base, affine, tame;
    REAL *x, *table, *coefficients, *base_weight, *weights, *gradient, *seen;
    REAL *subnode_scale, *subnode_bias, *node_scale, *node_bias;
    double *basis, *size; /* (rows, inputs, functions): the derivative of the functions, and the sizes of their terms */
} TYPED(case);

/* Small numbers, or bytes of the input as long as there are some. */
static REAL *TYPED(reals)(fuzz_bytes *from, int64_t count, int tame)
{
    REAL *made = fuzz_room((size_t)count * sizeof *made);
    for (int64_t n = 0; n < count; n++) {
        made[n] = (REAL)((double)fuzz_next(from) * 0x1p-30 - 1);
        if (!tame && (size_t)(from->end - from->at) >= sizeof *made) {
            memcpy(&made[n], from->at, sizeof *made);
            from->at += sizeof *made;
            if (isnan(made[n])) made[n] = NAN; /* not the one of memory that was not written */
        }
    }
    return made;
}

/* Memory for an output, full of a NaN that no arithmetic makes. */
static REAL *TYPED(unwritten)(int64_t count)
{
    REAL *made = fuzz_room((size_t)count * sizeof *made);
    memset(made, UNWRITTEN, (size_t)count * sizeof *made);
    return made;
}

static void TYPED(written)(int64_t count, const REAL *values)
{
    REAL before;
    memset(&before, UNWRITTEN, sizeof before);
    for (int64_t n = 0; n < count; n++) fuzz_need(memcmp(values + n, &before, sizeof before) != 0);
}

/* Near `wanted`, as far as the sizes of the terms allow; sums that may overflow are not compared. */
static void TYPED(near)(const TYPED(case) *own, double value, double wanted, double size)
{
    const double epsilon = sizeof(REAL) == 4 ? 0x1p-23 : 0x1p-52, least = sizeof(REAL) == 4 ? 1e-30 : 1e-290;
    const double most = sizeof(REAL) == 4 ? 1e30 : 1e290, terms = (double)(8 + own->rows + own->layer.inputs * 12);
    if (size < most) fuzz_need(fabs(value - wanted) <= 4 * epsilon * terms * size + least);
}

/* A grid's record: any numbers, or breaks that rise and, of cubic splines, perhaps equal steps. */
static void TYPED(fill_table)(fuzz_bytes *from, TYPED(case) *own)
{
    const int64_t pieces = own->layer.pieces, order = own->layer.order, firsts = own->layer.functions - order;
    for (int64_t i = 0; i < own->layer.inputs; i++) {
        REAL *record = own->table + i * own->record, *breaks = record + KANSERVE_HEAD, *first = breaks + 2 * pieces - 1;
        const int uniform = order == 3 && fuzz_byte(from) & 1;
        for (int64_t p = 0; own->tame && p < pieces - 1; p++) breaks[p] = (REAL)(0.25 * (double)p - 0.5);
        for (int64_t p = 0; p < pieces; p++) first[p] = (REAL)(fuzz_byte(from) % firsts);
        if (own->tame) {
            record[0] = (REAL)-0.5, record[1] = (REAL)0.25, record[2] = 0, record[3] = 4;
        }
        if (!uniform) record[3] = 0;
    }
}

/* The derivative of an input's functions at v by the description in layer.h, and the sizes of the terms. */
static void TYPED(plain_basis)(const TYPED(case) *own, int64_t i, REAL v, int64_t derivative, double *basis, double *size)
{
    const int64_t pieces = own->layer.pieces, order = own->layer.order, functions = own->layer.functions;
    const REAL *record = own->table + i * own->record, *breaks = record + KANSERVE_HEAD, *origins = breaks + pieces - 1;
    memset(basis, 0, (size_t)functions * sizeof *basis);
    memset(size, 0, (size_t)functions * sizeof *size);
    if (record[3] != 0 && derivative <= 1) {
        const double place = ((double)v - (double)record[0]) * (double)record[3], last = (double)(functions - order - 1);
        const double interval = floor(place > 0 ? place < last ? place : last : 0), u = place - interval;
        const double t = u < 0 ? 0 : u > 1 ? 1 : u, s = 1 - t;
        const double slopes[] = {-0.5 * s * s, t * (1.5 * t - 2), 0.5 + t - 1.5 * t * t, 0.5 * t * t};
        const double values[] = {s * s * s / 6, (4 + t * t * (3 * t - 6)) / 6, (1 + 3 * t * (1 + t * s)) / 6, t * t * t / 6};
        for (int64_t r = 0; r < 4; r++) {
            const double value = derivative ? (double)record[3] * slopes[r] : values[r] + (u - t) * slopes[r];
            basis[(int64_t)interval + r] = value;
            for (int64_t f = 0; f < functions; f++) size[f] = 100 * (1 + fabs(place)); /* or at a knot the neighbours */
        }
        return;
    }
    int64_t piece = 0;
    while (piece < pieces - 1 && breaks[piece] <= v) piece++;
    const int64_t first = (int64_t)origins[pieces + piece];
    const REAL *polynomials = origins + 2 * pieces + piece * (order + 1) * (order + 1);
    const double offset = (double)(REAL)(v - origins[piece]);
    for (int64_t power = derivative; power <= order; power++) {
        double factor = pow(offset, (double)(power - derivative));
        for (int64_t n = 0; n < derivative; n++) factor *= (double)(power - n);
        for (int64_t r = 0; r <= order; r++) {
            const double term = factor * (double)polynomials[power * (order + 1) + r];
            basis[first + r] += term;
            size[first + r] += fabs(term);
        }
    }
}

static void TYPED(plain_rows)(const TYPED(case) *own, int64_t derivative)
{
    for (int64_t n = 0; own->tame && n < own->rows * own->layer.inputs; n++)
        TYPED(plain_basis)(own, n % own->layer.inputs, own->x[n], derivative, own->basis + n * own->layer.functions,
            own->size + n * own->layer.functions);
}

static int TYPED(all_finite)(int64_t count, const REAL *values)
{
    int yes = 1;
    for (int64_t n = 0; n < count; n++) yes &= isfinite(values[n]) != 0;
    return yes;
}

static double TYPED(base)(const TYPED(case) *own, double v)
{
    return !own->with_base || own->layer.base == KANSERVE_ZERO ? 0 : own->layer.base == KANSERVE_SILU ? v / (1 + exp(-v)) : v;
}

/* Rows that a plain loop can follow: of tame numbers, so that no rounding finds another piece. */
static void TYPED(check_sums)(const TYPED(case) *own, int64_t derivative, int whole, const REAL *y)
{
    const kanserve_spline_layer *layer = &own->layer;
    TYPED(written)(own->rows * layer->outputs, y);
    TYPED(plain_rows)(own, derivative);
    for (int64_t n = 0; n < own->rows; n++) {
        const REAL *row = y + n * layer->outputs;
        const int finite = TYPED(all_finite)(layer->outputs, row), known = TYPED(all_finite)(layer->inputs, own->x + n * layer->inputs);
        for (int64_t o = 0; o < layer->outputs; o++) fuzz_need(finite ? known : isnan(row[o]));
        for (int64_t o = 0; own->tame && known && o < layer->outputs; o++) {
            double sum = 0, size = 0;
            for (int64_t i = 0; i < layer->inputs; i++) {
                const int64_t at = n * layer->inputs + i;
                const double weight = !whole && own->weighted ? (double)own->weights[at] : 1;
                const double base = whole && own->with_base ? TYPED(base)(own, (double)own->x[at]) : 0;
                for (int64_t f = 0; f < layer->functions; f++) {
                    const double c = weight * (double)own->coefficients[(o * layer->inputs + i) * layer->functions + f];
                    sum += c * own->basis[at * layer->functions + f];
                    size += fabs(c) * own->size[at * layer->functions + f];
                }
                if (base != 0) sum += base * (double)own->base_weight[o * layer->inputs + i];
                if (base != 0) size += fabs(base * (double)own->base_weight[o * layer->inputs + i]);
            }
            if (whole && own->affine) {
                const double subnode = (double)own->subnode_scale[o], node = (double)own->node_scale[o];
                sum = node * (subnode * sum + (double)own->subnode_bias[o]) + (double)own->node_bias[o];
                size = fabs(node) * (fabs(subnode) * size + fabs((double)own->subnode_bias[o])) + fabs((double)own->node_bias[o]);
            }
            TYPED(near)(own, (double)row[o], sum, size);
        }
    }
}

/* Gradients by the inputs and by the coefficients as the plain loop has them; NULL is not wanted. `whole` are those of
the whole layer, whose rows count where `seen` is finite. */
static void TYPED(check_gradients)(
    const TYPED(case) *own, int64_t derivative, int whole, const REAL *of_x, const REAL *of_coefficients)
{
    const kanserve_spline_layer *layer = &own->layer;
    const int64_t numbers = layer->outputs * layer->inputs * layer->functions;
    double *sums = fuzz_room((size_t)numbers * sizeof *sums), *sizes = fuzz_room((size_t)numbers * sizeof *sizes);
    memset(sums, 0, (size_t)numbers * sizeof *sums);
    memset(sizes, 0, (size_t)numbers * sizeof *sizes);
    if (of_x) TYPED(written)(own->rows * layer->inputs, of_x);
    if (of_coefficients) TYPED(written)(numbers, of_coefficients);
    TYPED(plain_rows)(own, derivative);
    for (int64_t n = 0; own->tame && n < own->rows; n++) {
        const int counts = whole ? TYPED(all_finite)(layer->outputs, own->seen + n * layer->outputs) : 1;
        for (int64_t i = 0; i < layer->inputs; i++) {
            const int64_t at = n * layer->inputs + i;
            const double weight = !whole && own->weighted ? (double)own->weights[at] : 1, v = (double)own->x[at];
            double slope = 0, size = 0;
            for (int64_t o = 0; o < layer->outputs; o++) {
                const int64_t edge = o * layer->inputs + i;
                double g = counts ? (double)own->gradient[n * layer->outputs + o] : 0;
                if (whole && own->affine) g *= (double)own->subnode_scale[o] * (double)own->node_scale[o];
                for (int64_t f = 0; f < layer->functions; f++) {
                    const double by = own->basis[at * layer->functions + f], c = (double)own->coefficients[edge * layer->functions + f];
                    const double its_size = own->size[at * layer->functions + f];
                    slope += g * c * by, size += fabs(g * c) * its_size;
                    sums[edge * layer->functions + f] += g * weight * by;
                    sizes[edge * layer->functions + f] += fabs(g * weight) * its_size;
                }
                if (of_x && whole && own->with_base && layer->base != KANSERVE_ZERO) {
                    const double s = 1 / (1 + exp(-v)), by = layer->base == KANSERVE_SILU ? s * (1 + v * (1 - s)) : 1;
                    slope += g * by * (double)own->base_weight[edge], size += fabs(g * by * (double)own->base_weight[edge]);
                }
            }
            if (of_x) TYPED(near)(own, (double)of_x[at], slope, size);
        }
    }
    for (int64_t n = 0; own->tame && of_coefficients && n < numbers; n++)
        TYPED(near)(own, (double)of_coefficients[n], sums[n], sizes[n]);
    free(sums), free(sizes);
}

static void TYPED(run_backward)(fuzz_bytes *from, const TYPED(case) *own)
{
    const kanserve_spline_layer *layer = &own->layer;
    const int64_t outputs = layer->outputs, edges = outputs * layer->inputs, wanted = fuzz_byte(from);
    REAL *of_x = wanted & 1 ? NULL : TYPED(unwritten)(own->rows * layer->inputs);
    REAL *of_coefficients = wanted & 2 ? NULL : TYPED(unwritten)(edges * layer->functions);
    REAL *of_base = wanted & 4 || !own->with_base ? NULL : TYPED(unwritten)(edges);
    REAL *of_subnode = wanted & 8 || !own->affine ? NULL : TYPED(unwritten)(outputs);
    REAL *of_node = wanted & 16 ? NULL : TYPED(unwritten)(outputs);
    fuzz_need(!TYPED(kanserve_layer_backward)(layer, own->rows, own->threads, own->x, own->table, own->coefficients,
        own->base_weight, own->subnode_scale, own->node_scale, own->seen, own->gradient, of_x, of_coefficients, of_base,
        of_subnode, of_node));
    if (of_x) TYPED(check_gradients)(own, 1, 1, of_x, NULL);
    if (of_coefficients) TYPED(check_gradients)(own, 0, 1, NULL, of_coefficients);
    if (of_base) TYPED(written)(edges, of_base);
    if (of_subnode) TYPED(written)(outputs, of_subnode);
    if (of_node) TYPED(written)(outputs, of_node);
    free(of_x), free(of_coefficients), free(of_base), free(of_subnode), free(of_node);
}

static void TYPED(run)(fuzz_bytes *from, TYPED(case) *own)
{
    const kanserve_spline_layer *layer = &own->layer;
    const int64_t outputs = layer->outputs, inputs = layer->inputs, numbers = outputs * inputs * layer->functions;
    const int64_t sites = own->rows * inputs, tame = own->tame;
    own->record = KANSERVE_HEAD + 3 * layer->pieces - 1 + layer->pieces * (layer->order + 1) * (layer->order + 1);
    own->table = TYPED(reals)(from, inputs * own->record, (int)tame);
    TYPED(fill_table)(from, own);
    own->coefficients = TYPED(reals)(from, numbers, (int)tame);
    own->x = TYPED(reals)(from, sites, (int)tame);
    for (int64_t n = 0; n < sites && fuzz_byte(from) > 200; n++)
        own->x[fuzz_next(from) % (uint64_t)sites] = fuzz_byte(from) & 1 ? NAN : -INFINITY;
    own->base_weight = own->with_base ? TYPED(reals)(from, outputs * inputs, (int)tame) : NULL;
    own->weights = own->weighted ? TYPED(reals)(from, sites, (int)tame) : NULL;
    own->gradient = TYPED(reals)(from, own->rows * outputs, (int)tame);
    own->seen = TYPED(reals)(from, own->rows * outputs, (int)tame);
    for (int each = 0; each < 4 && own->affine; each++)
        *(REAL **[]){&own->subnode_scale, &own->subnode_bias, &own->node_scale, &own->node_bias}[each]
            = TYPED(reals)(from, outputs, (int)tame);
    own->basis = fuzz_room((size_t)(sites * layer->functions) * sizeof(double));
    own->size = fuzz_room((size_t)(sites * layer->functions) * sizeof(double));

    /* Where the plain loop cannot say the numbers of a row with NaN or an infinity, those of other rows it can. */
    REAL *y = TYPED(unwritten)(own->rows * outputs);
    fuzz_need(!TYPED(kanserve_layer_forward)(layer, own->rows, own->threads, own->x, own->table, own->coefficients,
        own->base_weight, own->subnode_scale, own->subnode_bias, own->node_scale, own->node_bias, y));
    TYPED(check_sums)(own, 0, 1, y);
    free(y);
    y = TYPED(unwritten)(own->rows * outputs);
    fuzz_need(!TYPED(kanserve_spline_sums)(
        layer, own->rows, own->threads, own->x, own->derivative, own->table, own->weights, own->coefficients, y));
    TYPED(check_sums)(own, own->derivative, 0, y);
    free(y);
    own->tame &= TYPED(all_finite)(sites, own->x);
    TYPED(run_backward)(from, own);
    REAL *of_x = TYPED(unwritten)(sites), *of_coefficients = TYPED(unwritten)(numbers);
    fuzz_need(!TYPED(kanserve_spline_inputs)(layer, own->rows, own->threads, own->x, own->derivative + 1, own->table,
        own->coefficients, own->gradient, of_x));
    TYPED(check_gradients)(own, own->derivative + 1, 0, of_x, NULL);
    fuzz_need(!TYPED(kanserve_spline_coefficients)(layer, own->rows, own->threads, own->x, own->derivative, own->table,
        own->weights, own->gradient, of_coefficients));
    TYPED(check_gradients)(own, own->derivative, 0, NULL, of_coefficients);
    free(of_x), free(of_coefficients), free(own->table), free(own->coefficients), free(own->x), free(own->base_weight);
    free(own->weights), free(own->gradient), free(own->seen), free(own->subnode_scale), free(own->subnode_bias);
    free(own->node_scale), free(own->node_bias), free(own->basis), free(own->size);
}
