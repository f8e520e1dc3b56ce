/* What the ways forwards and backwards share, for either precision: see layer.c, which includes this twice. */

typedef REAL TYPED(wide) __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));

typedef REAL TYPED(part) __attribute__((vector_size(PART * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

/* What all threads know. `padded` is outputs up to a multiple of LANES. */
typedef struct {
    const kanserve_spline_layer *layer;
    int64_t rows, padded, record;
    int64_t derivative, slope; /* of the basis functions: for sums and coefficients, and for inputs */
    const REAL *x, *weights, *coefficients, *base_weight, *table;
    const REAL *subnode_scale, *subnode_bias, *node_scale, *node_bias;
    REAL *turned;               /* (inputs, (functions + 1)·padded): coefficients for the way forward, see `place` */
    REAL *gradient;             /* (rows, padded): of the sums, 0 in rows that are not finite */
    const unsigned char *fine;  /* (rows,) */
    REAL *y, *of_x, *of_coefficients, *of_base_weight;
    int with_base;
    atomic_int failed;
} TYPED(job);

INLINE TYPED(wide) TYPED(load)(const REAL *from)
{
    return *(const TYPED(wide) *)from;
}

INLINE void TYPED(store)(REAL *to, TYPED(wide) value)
{
    *(TYPED(wide) *)to = value;
}

/* A vector's lanes added up until PART of them are left. */
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

static int64_t TYPED(padded)(int64_t outputs)
{
    return (outputs + LANES - 1) / LANES * LANES;
}

/* Where an output's numbers of an input begin, and how far apart they are: MOST vectors of outputs stand together, so
that these, function after function, are near each other at distances that the compiler knows. */
INLINE int64_t TYPED(place)(const TYPED(job) *job, int64_t o, int64_t *apart)
{
    const int64_t group = o / (MOST * LANES) * (MOST * LANES), rest = job->padded - group;
    *apart = rest < MOST * LANES ? rest : MOST * LANES;
    return group * (job->layer->functions + 1) + o - group;
}

/* One input's coefficients with outputs last, base weights behind them. */
static void TYPED(turn)(const TYPED(job) *job, int64_t i, REAL *restrict own)
{
    const int64_t inputs = job->layer->inputs, outputs = job->layer->outputs, functions = job->layer->functions;
    for (int64_t o = 0; o < job->padded; o++) {
        int64_t apart;
        REAL *to = own + TYPED(place)(job, o, &apart);
        const REAL *from = job->coefficients + (o * inputs + i) * functions;
        for (int64_t m = 0; m < functions; m++)
            to[m * apart] = o < outputs ? from[m] : 0;
        to[functions * apart] = o < outputs && job->with_base ? job->base_weight[o * inputs + i] : 0;
    }
}

/* The column of x at rows from `from`, 0 in rows that are not fine, and its active functions. */
static void TYPED(gather)(const TYPED(job) *job, int64_t i, int64_t from, int64_t count, TYPED(column) *column)
{
    const int64_t inputs = job->layer->inputs;
    for (int64_t b = 0; b < count; b++)
        column->x[b] = job->fine == NULL || job->fine[from + b] ? job->x[(from + b) * inputs + i] : 0;
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
    const int64_t reals = 2 * active * ROWS + (2 * (functions + 1) + TILE) * padded;
    const int64_t starts = (functions + 2) * (int64_t)sizeof(int32_t);
    TYPED(column) *column = aligned((int64_t)sizeof *column + reals * (int64_t)sizeof(REAL) + starts);
    if (column == NULL)
        return NULL;
    column->basis = (REAL *)(column + 1);
    column->slope = column->basis + active * ROWS;
    column->own = column->slope + active * ROWS;
    column->total = column->own + (functions + 1) * padded;
    column->sums = column->total + (functions + 1) * padded;
    column->starts = (int32_t *)(column->sums + TILE * padded);
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
