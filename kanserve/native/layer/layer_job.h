/* Code shared by the forward and backward passes, for either precision: see layer.c, which includes this twice. */

typedef REAL TYPED(part) __attribute__((vector_size(PART * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

/* The data shared by all threads. `padded` is outputs rounded up to a multiple of LANES. */
typedef struct {
    const kanserve_spline_layer *layer;
    int64_t rows, padded, record;
    int64_t derivative; /* of the basis functions for sums and coefficients; for inputs one order higher */
    const REAL *columns;       /* (inputs, rows): x, 0 in rows that are not finite */
    const REAL *weights, *coefficients, *base_weight, *table;
    const REAL *subnode_scale, *subnode_bias, *node_scale, *node_bias;
    REAL *transposed;               /* (inputs, (functions + 1)·padded), see `transpose_coefficients` */
    REAL *gradient;             /* (rows, padded): of the sums, 0 in rows that are not finite */
    const REAL *x;
    REAL *y, *of_x, *of_coefficients, *of_base_weight;
    int with_base;
    atomic_int failed;
} TYPED(job);

typedef REAL TYPED(four) __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

/* to[c][r] = from[r][c], with these strides of the rows. */
static void TYPED(transpose)(
    int64_t rows, int64_t columns, const REAL *restrict from, int64_t from_apart, REAL *restrict to, int64_t to_apart)
{
    const int64_t blocks = rows / 4 * 4, wide = columns / 4 * 4;
    for (int64_t r = 0; r < blocks; r += 4)
        for (int64_t c = 0; c < wide; c += 4) {
            const REAL *at = from + r * from_apart + c;
            const TYPED(four) a = *(const TYPED(four) *)at, b = *(const TYPED(four) *)(at + from_apart);
            const TYPED(four) e = *(const TYPED(four) *)(at + 2 * from_apart);
            const TYPED(four) f = *(const TYPED(four) *)(at + 3 * from_apart);
            const TYPED(four) ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
            const TYPED(four) ef = __builtin_shufflevector(e, f, 0, 4, 1, 5);
            const TYPED(four) ab_rest = __builtin_shufflevector(a, b, 2, 6, 3, 7);
            const TYPED(four) ef_rest = __builtin_shufflevector(e, f, 2, 6, 3, 7);
            REAL *there = to + c * to_apart + r;
            *(TYPED(four) *)there = __builtin_shufflevector(ab, ef, 0, 1, 4, 5);
            *(TYPED(four) *)(there + to_apart) = __builtin_shufflevector(ab, ef, 2, 3, 6, 7);
            *(TYPED(four) *)(there + 2 * to_apart) = __builtin_shufflevector(ab_rest, ef_rest, 0, 1, 4, 5);
            *(TYPED(four) *)(there + 3 * to_apart) = __builtin_shufflevector(ab_rest, ef_rest, 2, 3, 6, 7);
        }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = r < blocks ? wide : 0; c < columns; c++)
            to[c * to_apart + r] = from[r * from_apart + c];
}

/* Add up a vector's lanes until PART of them are left. */
INLINE TYPED(part) TYPED(folded)(TYPED(wide) v)
{
#if LANES == 16
    const REAL __attribute__((vector_size(8 * sizeof(REAL)))) eight = HALVED_16(v);
    return HALVED_8(eight);
#elif LANES == 8
    return HALVED_8(v);
#else
    return v;
#endif
}

/* The number of outputs in the group that begins at o. */
INLINE int64_t TYPED(group)(const TYPED(job) *job, int64_t o)
{
    return job->padded - o < MOST * LANES ? job->padded - o : MOST * LANES;
}

/* One input's coefficients with outputs as the last axis, followed by its base weights. Outputs are grouped by MOST
vectors, so that the functions of a group are close together, at strides known to the compiler. */
static void TYPED(transpose_coefficients)(const TYPED(job) *job, int64_t i, REAL *restrict own)
{
    const int64_t inputs = job->layer->inputs, outputs = job->layer->outputs, functions = job->layer->functions;
    for (int64_t o = 0; o < job->padded; o += MOST * LANES) {
        const int64_t apart = TYPED(group)(job, o), count = outputs - o < apart ? outputs - o : apart;
        REAL *to = own + o * (functions + 1);
        if (count < apart)
            memset(to, 0, (size_t)((functions + 1) * apart) * sizeof *to);
        const REAL *from = job->coefficients + (o * inputs + i) * functions;
        TYPED(transpose)(count, functions, from, inputs * functions, to, apart);
        for (int64_t n = 0; n < count; n++)
            to[functions * apart + n] = job->with_base ? job->base_weight[(o + n) * inputs + i] : 0;
    }
}

/* The reverse for the gradients that are wanted. */
static void TYPED(turn_back)(const TYPED(job) *job, int64_t i, const REAL *total)
{
    const int64_t inputs = job->layer->inputs, outputs = job->layer->outputs, functions = job->layer->functions;
    for (int64_t o = 0; o < job->padded; o += MOST * LANES) {
        const int64_t apart = TYPED(group)(job, o), count = outputs - o < apart ? outputs - o : apart;
        const REAL *from = total + o * (functions + 1);
        if (job->of_coefficients != NULL)
            TYPED(transpose)(
                functions, count, from, apart, job->of_coefficients + (o * inputs + i) * functions, inputs * functions);
        for (int64_t n = 0; job->of_base_weight != NULL && n < count; n++)
            job->of_base_weight[(o + n) * inputs + i] = from[functions * apart + n];
    }
}

static void TYPED(weigh)(const TYPED(job) *job, int64_t i, int64_t from, int64_t count, REAL *basis)
{
    const int64_t inputs = job->layer->inputs;
    for (int64_t r = 0; job->weights != NULL && r <= job->layer->order; r++)
        for (int64_t b = 0; b < count; b++)
            basis[r * ROWS + b] *= job->weights[(from + b) * inputs + i];
}

static TYPED(column) *TYPED(new_column)(const TYPED(job) *job)
{
    const int64_t active = job->layer->order + 1, functions = job->layer->functions, padded = job->padded;
    const int64_t reals = (INPUTS + 1) * active * ROWS + (2 * (functions + 1) + ROWS) * padded;
    const int64_t starts = (functions + 2) * (int64_t)sizeof(int32_t);
    TYPED(column) *column = aligned((int64_t)sizeof *column + reals * (int64_t)sizeof(REAL) + starts);
    if (column == NULL)
        return NULL;
    column->basis = (REAL *)(column + 1);
    column->slope = column->basis + INPUTS * active * ROWS;
    column->own = column->slope + active * ROWS;
    column->total = column->own + (functions + 1) * padded;
    column->sums = column->total + (functions + 1) * padded;
    column->starts = (int32_t *)(column->sums + ROWS * padded);
    return column;
}

static TYPED(job) TYPED(job_of)(const kanserve_spline_layer *layer, int64_t rows, const REAL *x, const REAL *table)
{
    const int64_t active = layer->order + 1;
    return (TYPED(job)){.layer = layer, .rows = rows, .x = x, .table = table, .padded = TYPED(padded)(layer->outputs),
        .record = KANSERVE_HEAD + 3 * layer->pieces - 1 + layer->pieces * active * active};
}

static void TYPED(share)(TYPED(job) *job, int64_t threads, void (*work)(kanserve_team *, int64_t))
{
    const kanserve_spline_layer *layer = job->layer;
    const double worth = (double)job->rows * (double)layer->inputs * (double)(job->padded * (layer->order + 2)) / WORK;
    kanserve_team_work(job, NULL, worth < (double)threads ? (int64_t)worth : threads, work);
}
