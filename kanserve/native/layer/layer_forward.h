/* The forward pass of a layer, for either precision: see layer.c, which includes this twice. */

/* Add the edges of some inputs to the sums of some rows. */
INLINE void TYPED(add)(int vectors, int64_t active, int with_base, const TYPED(job) *job, const REAL *own,
    int64_t inputs, int64_t count, const TYPED(column) *column, REAL *sums, int begins)
{
    const int64_t padded = job->padded, apart = vectors * LANES, each = (job->layer->functions + 1) * padded;
    const int64_t weights = job->layer->functions * apart;
    for (int64_t b = 0; b < count; b++) {
        TYPED(wide) sum[MOST];
#pragma GCC unroll 4
        for (int c = 0; c < vectors; c++)
            if (begins)
                sum[c] = (TYPED(wide)){0};
            else
                sum[c] = TYPED(load)(sums + b * padded + c * LANES);
        for (int64_t i = 0; i < inputs; i++) {
            const REAL *basis = column->basis + i * active * ROWS + b;
            const REAL *rows = own + i * each + column->first[i * ROWS + b] * apart;
#pragma GCC unroll 4
            for (int64_t r = 0; r < active; r++)
#pragma GCC unroll 4
                for (int c = 0; c < vectors; c++)
                    sum[c] += basis[r * ROWS] * TYPED(load)(rows + r * apart + c * LANES);
            if (with_base)
#pragma GCC unroll 4
                for (int c = 0; c < vectors; c++)
                    sum[c] += column->base[i * ROWS + b] * TYPED(load)(own + i * each + weights + c * LANES);
        }
#pragma GCC unroll 4
        for (int c = 0; c < vectors; c++)
            TYPED(store)(sums + b * padded + c * LANES, sum[c]);
    }
}

/* Compute the nodes from the sums; a row is NaN if a node or an input is not finite. */
static void TYPED(finish)(const TYPED(job) *job, int64_t from, int64_t count, const REAL *sums)
{
    const int64_t inputs = job->layer->inputs, outputs = job->layer->outputs;
    for (int64_t b = 0; b < count; b++) {
        const REAL *x = job->x + (from + b) * inputs, *z = sums + b * job->padded;
        REAL *y = job->y + (from + b) * outputs;
        if (job->node_scale != NULL)
            for (int64_t o = 0; o < outputs; o++)
                y[o] = job->node_scale[o] * (job->subnode_scale[o] * z[o] + job->subnode_bias[o]) + job->node_bias[o];
        else
            memcpy(y, z, (size_t)outputs * sizeof *y);
        if (!TYPED(finite)(inputs, x) || !TYPED(finite)(outputs, y))
            for (int64_t o = 0; o < outputs; o++)
                y[o] = NAN;
    }
}

static void TYPED(forward_rows)(const TYPED(job) *job, int64_t from, int64_t count, TYPED(column) *column)
{
    const kanserve_spline_layer *layer = job->layer;
    const int64_t active = layer->order + 1, each = (layer->functions + 1) * job->padded;
    for (int64_t i = 0; i < layer->inputs; i += INPUTS) {
        const int64_t inputs = layer->inputs - i < INPUTS ? layer->inputs - i : INPUTS;
        const REAL *own = job->transposed + i * each;
        for (int64_t n = 0; n < inputs; n++) {
            const REAL *x = job->columns + (i + n) * job->rows + from, *record = job->table + (i + n) * job->record;
            REAL *basis = column->basis + n * active * ROWS;
            TYPED(locate)(layer, record, job->derivative, count, x, column->first + n * ROWS, basis);
            TYPED(weigh)(job, i + n, from, count, basis);
            if (job->with_base)
                TYPED(locate_base)(layer, count, x, column->base + n * ROWS, NULL);
        }
#define ADD(vectors) \
    if (active == CUBIC && job->with_base) \
        TYPED(add)(vectors, CUBIC, 1, job, own + EACH, inputs, count, column, column->sums + o, i == 0); \
    else \
        TYPED(add)(vectors, active, job->with_base, job, own + EACH, inputs, count, column, column->sums + o, i == 0)
        LADDER(ADD)
#undef ADD
    }
    TYPED(finish)(job, from, count, column->sums);
}

static void TYPED(work_forward)(kanserve_team *team, int64_t thread)
{
    const TYPED(job) *job = team->problem;
    TYPED(column) *column = TYPED(new_column)(job);
    (void)thread;
    if (column == NULL) {
        ((TYPED(job) *)team->problem)->failed = 1;
        return;
    }
    for (int64_t from; (from = ROWS * kanserve_team_next_chunk(team)) < job->rows;)
        TYPED(forward_rows)(job, from, job->rows - from < ROWS ? job->rows - from : ROWS, column);
    free(column);
}

static int TYPED(forward)(TYPED(job) *job, int64_t threads)
{
    const int64_t each = (job->layer->functions + 1) * job->padded;
    const int64_t inputs = job->layer->inputs;
    REAL *columns = aligned(job->rows * inputs * (int64_t)sizeof(REAL));
    job->transposed = aligned(inputs * each * (int64_t)sizeof(REAL));
    int failed = columns == NULL || job->transposed == NULL;
    if (!failed) {
        TYPED(transpose)(job->rows, inputs, job->x, inputs, columns, job->rows);
        job->columns = columns;
        for (int64_t i = 0; i < inputs; i++)
            TYPED(transpose_coefficients)(job, i, job->transposed + i * each);
        TYPED(share)(job, threads, TYPED(work_forward));
        failed = job->failed;
    }
    free(columns);
    free(job->transposed);
    return failed;
}

int TYPED(kanserve_layer_forward)(const kanserve_spline_layer *layer, int64_t rows, int64_t threads, const REAL *x,
    const REAL *table, const REAL *coefficients, const REAL *base_weight, const REAL *subnode_scale,
    const REAL *subnode_bias, const REAL *node_scale, const REAL *node_bias, REAL *y)
{
    TYPED(job) job = TYPED(job_of)(layer, rows, x, table);
    job.coefficients = coefficients;
    job.base_weight = base_weight;
    job.with_base = base_weight != NULL;
    job.subnode_scale = subnode_scale;
    job.subnode_bias = subnode_bias;
    job.node_scale = node_scale;
    job.node_bias = node_bias;
    job.y = y;
    return TYPED(forward)(&job, threads);
}

int TYPED(kanserve_spline_sums)(const kanserve_spline_layer *layer, int64_t rows, int64_t threads, const REAL *x,
    int64_t derivative, const REAL *table, const REAL *weights, const REAL *coefficients, REAL *y)
{
    TYPED(job) job = TYPED(job_of)(layer, rows, x, table);
    job.derivative = derivative;
    job.weights = weights;
    job.coefficients = coefficients;
    job.y = y;
    return TYPED(forward)(&job, threads);
}
