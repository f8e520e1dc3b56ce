/* The backward pass of a layer, for either precision: see layer.c, which includes this twice. */

/* Sort the rows by their first active function into column->sorted; column->starts has the start of each function. */
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
    memmove(starts + 1, starts, (size_t)firsts * sizeof *starts); /* each is at its end, where the next begins */
    starts[0] = 0;
}

/* The gradient by an input at some rows, in column->parts, from a group of outputs; it is added unless the group is the
first. */
INLINE void TYPED(pull)(int vectors, int64_t active, int with_base, const TYPED(job) *job, const REAL *own,
    TYPED(column) *column, const REAL *gradient, int first)
{
    const int64_t padded = job->padded, apart = vectors * LANES;
    const int64_t functions = job->layer->functions, firsts = functions - job->layer->order;
    TYPED(wide) weights[MOST], rows[CUBIC][MOST];
#pragma GCC unroll 4
    for (int c = 0; c < vectors; c++)
        weights[c] = TYPED(load)(own + functions * apart + c * LANES);
    for (int64_t f = 0; f < firsts; f++) {
        if (column->starts[f] == column->starts[f + 1])
            continue;
#pragma GCC unroll 4
        for (int64_t r = 0; r < active; r++)
#pragma GCC unroll 4
            for (int c = 0; c < vectors; c++)
                rows[r][c] = TYPED(load)(own + (f + r) * apart + c * LANES);
        for (int32_t n = column->starts[f]; n < column->starts[f + 1]; n++) {
            const int32_t b = column->sorted[n];
            TYPED(wide) sum = {0};
#pragma GCC unroll 4
            for (int c = 0; c < vectors; c++) {
                TYPED(wide) slope = (with_base ? column->base_slope[b] : 0) * weights[c];
#pragma GCC unroll 4
                for (int64_t r = 0; r < active; r++)
                    slope += column->slope[r * ROWS + b] * rows[r][c];
                sum += slope * TYPED(load)(gradient + b * padded + c * LANES);
            }
            TYPED(part) *part = (TYPED(part) *)(column->parts + b * PART);
            if (first)
                *part = TYPED(folded)(sum);
            else
                *part += TYPED(folded)(sum);
        }
    }
}

/* `pull` for any order. */
INLINE void TYPED(pull_any)(int vectors, const TYPED(job) *job, const REAL *own, int64_t count, TYPED(column) *column,
    const REAL *gradient, int first)
{
    const int64_t apart = vectors * LANES;
    for (int64_t b = 0; b < count; b++) {
        const REAL *rows = own + column->first[b] * apart, *g = gradient + b * job->padded;
        REAL sum = 0;
        for (int64_t r = 0; r <= job->layer->order; r++)
            for (int64_t o = 0; o < apart; o++)
                sum += column->slope[r * ROWS + b] * rows[r * apart + o] * g[o];
        for (int64_t o = 0; job->with_base && o < apart; o++)
            sum += column->base_slope[b] * own[job->layer->functions * apart + o] * g[o];
        for (int64_t c = 0; first && c < PART; c++)
            column->parts[b * PART + c] = 0;
        column->parts[b * PART] += sum;
    }
}

/* Add the gradient by an input's coefficients from some rows, one interval after the other. */
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

/* `gain` for any order. */
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

/* All gradients by one input and by the parameters of its edges. */
static void TYPED(backward_input)(const TYPED(job) *job, int64_t i, TYPED(column) *column)
{
    const kanserve_spline_layer *layer = job->layer;
    const int64_t active = layer->order + 1, padded = job->padded, functions = layer->functions;
    const int gains = job->of_coefficients != NULL || job->of_base_weight != NULL;
    const REAL *own = column->own, *record = job->table + i * job->record;
    if (job->of_x != NULL)
        TYPED(transpose_coefficients)(job, i, column->own);
    memset(column->total, 0, (size_t)((functions + 1) * padded) * sizeof *column->total);
    for (int64_t from = 0; from < job->rows; from += ROWS) {
        const int64_t count = job->rows - from < ROWS ? job->rows - from : ROWS;
        const REAL *gradient = job->gradient + from * padded;
        const REAL *x = job->columns + i * job->rows + from;
        if (job->with_base)
            TYPED(locate_base)(layer, count, x, column->base, job->of_x != NULL ? column->base_slope : NULL);
        TYPED(locate_both)(layer, record, job->derivative, count, x, column, gains, job->of_x != NULL);
        if (active == CUBIC)
            TYPED(sort)(layer, count, column);
        if (job->of_x != NULL) {
            REAL *of_x = job->of_x + from * layer->inputs + i;
#define PULL(vectors) \
    if (active != CUBIC) \
        TYPED(pull_any)(vectors, job, own + EACH, count, column, gradient + o, o == 0); \
    else if (job->with_base) \
        TYPED(pull)(vectors, CUBIC, 1, job, own + EACH, column, gradient + o, o == 0); \
    else \
        TYPED(pull)(vectors, CUBIC, 0, job, own + EACH, column, gradient + o, o == 0)
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
            TYPED(weigh)(job, i, from, count, column->basis);
#define GAIN(vectors) \
    if (active != CUBIC) \
        TYPED(gain_any)(vectors, job, count, column, gradient + o, column->total + EACH); \
    else \
        TYPED(gain)(vectors, CUBIC, job->with_base, job, column, gradient + o, column->total + EACH)
            LADDER(GAIN)
#undef GAIN
        }
    }
    TYPED(turn_back)(job, i, column->total);
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
    for (int64_t i; (i = kanserve_team_next_chunk(team)) < job->layer->inputs;)
        TYPED(backward_input)(job, i, column);
    free(column);
}

/* Compute the gradient of the sums from the gradient of the nodes, and its sums over rows. Rows in which `seen` (rows,
width) is not finite have gradient 0, do not count, and get inputs 0. */
static void TYPED(take_in)(const TYPED(job) *job, int64_t width, const REAL *seen, const REAL *gradient,
    const REAL *scale, REAL *columns, double *sums)
{
    const int64_t inputs = job->layer->inputs, outputs = job->layer->outputs, padded = job->padded;
    TYPED(transpose)(job->rows, inputs, job->x, inputs, columns, job->rows);
    memset(job->gradient, 0, (size_t)(job->rows * padded) * sizeof(REAL));
    for (int64_t b = 0; b < job->rows; b++)
        if (TYPED(finite)(width, seen + b * width))
            for (int64_t o = 0; o < outputs; o++) {
                const REAL g = gradient[b * outputs + o];
                sums[o] += g;
                job->gradient[b * padded + o] = scale[o] * g;
            }
        else
            for (int64_t i = 0; i < inputs; i++)
                columns[i * job->rows + b] = 0;
}

/* Rows in which `seen` (rows, width) is not finite do not count; biases and scales may be NULL. */
static int TYPED(backward)(TYPED(job) *job, int64_t threads, int64_t width, const REAL *seen, const REAL *gradient,
    REAL *of_subnode_bias, REAL *of_node_bias)
{
    const int64_t outputs = job->layer->outputs;
    double *sums = calloc((size_t)outputs, sizeof *sums);
    REAL *scale = malloc((size_t)outputs * sizeof *scale);
    REAL *columns = aligned(job->rows * job->layer->inputs * (int64_t)sizeof(REAL));
    job->gradient = aligned(job->rows * job->padded * (int64_t)sizeof(REAL));
    int failed = sums == NULL || scale == NULL || columns == NULL || job->gradient == NULL;
    if (!failed) {
        for (int64_t o = 0; o < outputs; o++)
            scale[o] = job->node_scale != NULL ? job->node_scale[o] * job->subnode_scale[o] : 1;
        TYPED(take_in)(job, width, seen, gradient, scale, columns, sums);
        job->columns = columns;
        for (int64_t o = 0; of_subnode_bias != NULL && o < outputs; o++)
            of_subnode_bias[o] = job->node_scale[o] * (REAL)sums[o];
        for (int64_t o = 0; of_node_bias != NULL && o < outputs; o++)
            of_node_bias[o] = (REAL)sums[o];
        if (job->of_x != NULL || job->of_coefficients != NULL || job->of_base_weight != NULL)
            TYPED(share)(job, threads, TYPED(work_backward));
        failed = job->failed;
    }
    free(sums);
    free(scale);
    free(columns);
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
    return TYPED(backward)(&job, threads, layer->outputs, y, gradient, of_subnode_bias, of_node_bias);
}

int TYPED(kanserve_spline_inputs)(const kanserve_spline_layer *layer, int64_t rows, int64_t threads, const REAL *x,
    int64_t derivative, const REAL *table, const REAL *coefficients, const REAL *gradient, REAL *of_x)
{
    TYPED(job) job = TYPED(job_of)(layer, rows, x, table);
    job.derivative = derivative - 1; /* its slope is the wanted derivative */
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
