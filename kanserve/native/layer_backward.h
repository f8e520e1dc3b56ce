/* Backwards through a layer, for either precision: see layer.c, which includes this twice. */

/* The gradient of an input at some rows, in column->parts: what its slopes say of all outputs. Those from o on are
added unless they are the first. */
INLINE void TYPED(pull)(int vectors, int64_t active, int with_base, const TYPED(job) *job, const REAL *own,
    int64_t count, TYPED(column) *column, const REAL *gradient, int first)
{
    const int64_t padded = job->padded, apart = vectors * LANES;
    const REAL *weights = own + job->layer->functions * apart;
    for (int64_t b = 0; b < count; b++) {
        const REAL *rows = own + column->first[b] * apart;
        TYPED(wide) slope[MOST], sum = {0};
#pragma GCC unroll 4
        for (int c = 0; c < vectors; c++)
            slope[c] = (with_base ? column->base_slope[b] : 0) * TYPED(load)(weights + c * LANES);
#pragma GCC unroll 4
        for (int64_t r = 0; r < active; r++)
#pragma GCC unroll 4
            for (int c = 0; c < vectors; c++)
                slope[c] += column->slope[r * ROWS + b] * TYPED(load)(rows + r * apart + c * LANES);
#pragma GCC unroll 4
        for (int c = 0; c < vectors; c++)
            sum += slope[c] * TYPED(load)(gradient + b * padded + c * LANES);
        TYPED(part) *part = (TYPED(part) *)(column->parts + b * PART);
        if (first)
            *part = TYPED(folded)(sum);
        else
            *part += TYPED(folded)(sum);
    }
}

/* Rows by their first active function: column->sorted, and where each function's begin. */
static void TYPED(sort)(const kanserve_spline_layer *layer, int64_t count, TYPED(column) *column)
{
    const int64_t firsts = layer->functions - layer->order;
    int32_t *starts = column->starts, next = 0;
    memset(starts, 0, (size_t)(firsts + 1) * sizeof *starts);
    for (int64_t b = 0; b < count; b++)
        starts[column->first[b]]++;
    for (int64_t f = 0; f <= firsts; f++) {
        const int32_t own = starts[f];
        starts[f] = next;
        next += own;
    }
    for (int64_t b = 0; b < count; b++)
        column->sorted[starts[column->first[b]]++] = (int32_t)b;
    memmove(starts + 1, starts, (size_t)firsts * sizeof *starts); /* each stands at its end, where the next begins */
    starts[0] = 0;
}

/* Add what some rows say of an input's coefficients, one interval after the other. */
INLINE void TYPED(gain)(int vectors, int64_t active, int with_base, const TYPED(job) *job,
    const TYPED(column) *column, const REAL *gradient, REAL *total)
{
    const int64_t padded = job->padded, apart = vectors * LANES;
    const int64_t functions = job->layer->functions, firsts = functions - job->layer->order;
    TYPED(wide) of_base[MOST];
#pragma GCC unroll 4
    for (int c = 0; c < vectors; c++)
        of_base[c] = (TYPED(wide)){0};
    for (int64_t f = 0; f < firsts; f++) {
        TYPED(wide) sum[CUBIC][MOST];
        if (column->starts[f] == column->starts[f + 1])
            continue;
#pragma GCC unroll 4
        for (int64_t r = 0; r < active; r++)
#pragma GCC unroll 4
            for (int c = 0; c < vectors; c++)
                sum[r][c] = TYPED(load)(total + (f + r) * apart + c * LANES);
        for (int32_t n = column->starts[f]; n < column->starts[f + 1]; n++) {
            const int32_t b = column->sorted[n];
#pragma GCC unroll 4
            for (int c = 0; c < vectors; c++) {
                const TYPED(wide) g = TYPED(load)(gradient + b * padded + c * LANES);
#pragma GCC unroll 4
                for (int64_t r = 0; r < active; r++)
                    sum[r][c] += column->basis[r * ROWS + b] * g;
                if (with_base)
                    of_base[c] += column->base[b] * g;
            }
        }
#pragma GCC unroll 4
        for (int64_t r = 0; r < active; r++)
#pragma GCC unroll 4
            for (int c = 0; c < vectors; c++)
                TYPED(store)(total + (f + r) * apart + c * LANES, sum[r][c]);
    }
    if (with_base)
#pragma GCC unroll 4
        for (int c = 0; c < vectors; c++) {
            REAL *at = total + functions * apart + c * LANES;
            TYPED(store)(at, TYPED(load)(at) + of_base[c]);
        }
}

/* The same for any order. */
INLINE void TYPED(gain_any)(int vectors, const TYPED(job) *job, int64_t count, const TYPED(column) *column,
    const REAL *gradient, REAL *total)
{
    const int64_t apart = vectors * LANES;
    for (int64_t b = 0; b < count; b++) {
        const REAL *g = gradient + b * job->padded;
        for (int64_t r = 0; r <= job->layer->order; r++)
            for (int64_t o = 0; o < apart; o++)
                total[(column->first[b] + r) * apart + o] += column->basis[r * ROWS + b] * g[o];
        for (int64_t o = 0; job->with_base && o < apart; o++)
            total[job->layer->functions * apart + o] += column->base[b] * g[o];
    }
}

/* All that the gradient says of one input and of the edges from it. */
static void TYPED(backward_input)(const TYPED(job) *job, int64_t i, TYPED(column) *column)
{
    const kanserve_spline_layer *layer = job->layer;
    const int64_t active = layer->order + 1, padded = job->padded, functions = layer->functions;
    const int gains = job->of_coefficients != NULL || job->of_base_weight != NULL;
    const REAL *own = column->own, *record = job->table + i * job->record;
    if (job->of_x != NULL)
        TYPED(turn)(job, i, column->own);
    memset(column->total, 0, (size_t)((functions + 1) * padded) * sizeof *column->total);
    for (int64_t from = 0; from < job->rows; from += ROWS) {
        const int64_t count = job->rows - from < ROWS ? job->rows - from : ROWS;
        const REAL *gradient = job->gradient + from * padded;
        TYPED(gather)(job, i, from, count, column);
        if (job->with_base)
            TYPED(locate_base)(layer, count, column);
        if (job->of_x != NULL) {
            REAL *of_x = job->of_x + from * layer->inputs + i;
            TYPED(locate)(layer, record, job->slope, count, column, column->slope);
#define PULL(vectors) \
    if (active == CUBIC && job->with_base) \
        TYPED(pull)(vectors, CUBIC, 1, job, own + EACH, count, column, gradient + o, o == 0); \
    else \
        TYPED(pull)(vectors, active, job->with_base, job, own + EACH, count, column, gradient + o, o == 0)
            LADDER(PULL)
#undef PULL
            for (int64_t b = 0; b < count; b++) {
                REAL sum = 0;
                for (int64_t c = 0; c < PART; c++)
                    sum += column->parts[b * PART + c];
                of_x[b * layer->inputs] = sum;
            }
        }
        if (gains) {
            TYPED(locate)(layer, record, job->derivative, count, column, column->basis);
            TYPED(weigh)(job, i, from, count, column->basis);
            if (active == CUBIC) {
                TYPED(sort)(layer, count, column);
#define GAIN(vectors) TYPED(gain)(vectors, CUBIC, job->with_base, job, column, gradient + o, column->total + EACH)
                LADDER(GAIN)
#undef GAIN
            } else {
#define GAIN(vectors) TYPED(gain_any)(vectors, job, count, column, gradient + o, column->total + EACH)
                LADDER(GAIN)
#undef GAIN
            }
        }
    }
    for (int64_t o = 0; o < layer->outputs; o++) {
        int64_t apart;
        const REAL *total = column->total + TYPED(place)(job, o, &apart);
        const int64_t edge = o * layer->inputs + i;
        for (int64_t m = 0; job->of_coefficients != NULL && m < functions; m++)
            job->of_coefficients[edge * functions + m] = total[m * apart];
        if (job->of_base_weight != NULL)
            job->of_base_weight[edge] = total[functions * apart];
    }
}

static void TYPED(work_backward)(kanserve_team *team, int64_t thread)
{
    const TYPED(job) *job = team->problem;
    TYPED(column) *column = TYPED(new_column)(job);
    (void)thread;
    if (column == NULL) {
        ((TYPED(job) *)team->problem)->failed = 1;
        return;
    }
    for (int64_t i; (i = kanserve_team_take(team)) < job->layer->inputs;)
        TYPED(backward_input)(job, i, column);
    free(column);
}

/* `scale` (outputs,) times the gradient, or the gradient; its sums over rows, unscaled, are added to `sums`. */
static void TYPED(scale)(TYPED(job) *job, const REAL *gradient, const REAL *scale, double *sums)
{
    const int64_t outputs = job->layer->outputs, padded = job->padded;
    memset(job->gradient, 0, (size_t)(job->rows * padded) * sizeof(REAL));
    for (int64_t b = 0; b < job->rows; b++) {
        if (!job->fine[b])
            continue;
        for (int64_t o = 0; o < outputs; o++) {
            const REAL g = gradient[b * outputs + o];
            sums[o] += g;
            job->gradient[b * padded + o] = scale[o] * g;
        }
    }
}

/* `seen` (rows, width) says which rows count; biases and scales are NULL where there are none. */
static int TYPED(backward)(TYPED(job) *job, int64_t threads, int64_t width, const REAL *seen, const REAL *gradient,
    REAL *of_subnode_bias, REAL *of_node_bias)
{
    const int64_t outputs = job->layer->outputs;
    unsigned char *fine = malloc((size_t)job->rows + 1);
    double *sums = calloc((size_t)outputs, sizeof *sums);
    REAL *scale = malloc((size_t)outputs * sizeof *scale);
    job->gradient = aligned((job->rows * job->padded + 1) * (int64_t)sizeof(REAL));
    int failed = fine == NULL || sums == NULL || scale == NULL || job->gradient == NULL;
    if (!failed) {
        for (int64_t b = 0; b < job->rows; b++)
            fine[b] = (unsigned char)TYPED(finite)(width, seen + b * width);
        job->fine = fine;
        for (int64_t o = 0; o < outputs; o++)
            scale[o] = job->node_scale != NULL ? job->node_scale[o] * job->subnode_scale[o] : 1;
        TYPED(scale)(job, gradient, scale, sums);
        for (int64_t o = 0; of_subnode_bias != NULL && o < outputs; o++)
            of_subnode_bias[o] = job->node_scale[o] * (REAL)sums[o];
        for (int64_t o = 0; of_node_bias != NULL && o < outputs; o++)
            of_node_bias[o] = (REAL)sums[o];
        if (job->of_x != NULL || job->of_coefficients != NULL || job->of_base_weight != NULL)
            TYPED(share)(job, threads, TYPED(work_backward));
        failed = job->failed;
    }
    free(fine);
    free(sums);
    free(scale);
    free(job->gradient);
    return failed;
}

int TYPED(kanserve_layer_backward)(const kanserve_spline_layer *layer, int64_t rows, int64_t threads, const REAL *x,
    const REAL *table, const REAL *coefficients, const REAL *base_weight, const REAL *subnode_scale,
    const REAL *node_scale, const REAL *y, const REAL *gradient, REAL *of_x, REAL *of_coefficients,
    REAL *of_base_weight, REAL *of_subnode_bias, REAL *of_node_bias)
{
    TYPED(job) job = TYPED(job_of)(layer, rows, x, table);
    job.coefficients = coefficients;
    job.base_weight = base_weight;
    job.with_base = base_weight != NULL;
    job.subnode_scale = subnode_scale;
    job.node_scale = node_scale;
    job.of_x = of_x;
    job.of_coefficients = of_coefficients;
    job.of_base_weight = of_base_weight;
    job.slope = 1;
    return TYPED(backward)(&job, threads, layer->outputs, y, gradient, of_subnode_bias, of_node_bias);
}

int TYPED(kanserve_spline_inputs)(const kanserve_spline_layer *layer, int64_t rows, int64_t threads, const REAL *x,
    int64_t derivative, const REAL *table, const REAL *coefficients, const REAL *gradient, REAL *of_x)
{
    TYPED(job) job = TYPED(job_of)(layer, rows, x, table);
    job.slope = derivative;
    job.coefficients = coefficients;
    job.of_x = of_x;
    return TYPED(backward)(&job, threads, layer->inputs, x, gradient, NULL, NULL);
}

int TYPED(kanserve_spline_coefficients)(const kanserve_spline_layer *layer, int64_t rows, int64_t threads,
    const REAL *x, int64_t derivative, const REAL *table, const REAL *weights, const REAL *gradient,
    REAL *of_coefficients)
{
    TYPED(job) job = TYPED(job_of)(layer, rows, x, table);
    job.derivative = derivative;
    job.weights = weights;
    job.of_coefficients = of_coefficients;
    return TYPED(backward)(&job, threads, layer->inputs, x, gradient, NULL, NULL);
}
