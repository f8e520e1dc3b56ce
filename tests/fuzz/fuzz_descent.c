/* The kernels of Levenberg-Marquardt on networks of any shape, with any numbers, laid out as parameter_layout.py does.
Everything asked for is written; of tame numbers the loss and J are those of a plain loop, J'J is that of J, and a step
is the same from the system of the parameters as from that of the residuals. */

#include "fuzz_descent_plain.h"

static void *hold(descent *own, size_t bytes)
{
    fuzz_need(own->held_count < MOST_HELD);
    return own->held[own->held_count++] = fuzz_room(bytes);
}

static double number(descent *own)
{
    double made = (double)fuzz_next(&own->from) * 0x1p-30 - 1;
    if (!own->tame && (size_t)(own->from.end - own->from.at) >= sizeof made) {
        memcpy(&made, own->from.at, sizeof made);
        own->from.at += sizeof made;
        if (isnan(made)) made = NAN; /* not the one of memory that was not written */
    }
    return made;
}

static double *reals(descent *own, int64_t count)
{
    double *made = hold(own, (size_t)count * sizeof *made);
    for (int64_t n = 0; n < count; n++) made[n] = number(own);
    return made;
}

static double *unwritten(descent *own, int64_t count)
{
    double *made = hold(own, (size_t)count * sizeof *made);
    memset(made, UNWRITTEN, (size_t)count * sizeof *made);
    return made;
}

static void written(int64_t count, const double *values)
{
    double before;
    memset(&before, UNWRITTEN, sizeof before);
    for (int64_t n = 0; n < count; n++) fuzz_need(memcmp(values + n, &before, sizeof before) != 0);
}

static void make_grids(descent *own, kanserve_layer *layer)
{
    const int64_t inputs = layer->inputs, pieces = layer->pieces, order = layer->order, width = layer->width;
    double *breaks = reals(own, inputs * (pieces - 1)), *guesses = reals(own, 2 * inputs);
    double *polynomials = reals(own, inputs * pieces * (order + 1) * width);
    int32_t *first = hold(own, (size_t)(inputs * pieces) * sizeof *first);
    for (int64_t n = 0; n < inputs * pieces; n++)
        first[n] = (int32_t)fuzz_between(&own->from, 0, layer->functions - order - 1);
    for (int64_t n = 0; n < inputs * pieces * (order + 1) * width; n++)
        if (n % width > order) polynomials[n] = 0;
    for (int64_t i = 0; i < inputs; i++) {
        const int uniform = fuzz_byte(&own->from) & 1;
        for (int64_t p = 0; own->tame && p < pieces - 1; p++) breaks[i * (pieces - 1) + p] = 0.25 * (double)p - 0.5;
        if (own->tame) guesses[2 * i] = -0.5, guesses[2 * i + 1] = 4;
        if (!uniform) guesses[2 * i + 1] = 0;
    }
    layer->breaks = breaks, layer->guesses = guesses, layer->polynomials = polynomials, layer->first = first;
    layer->origins = reals(own, inputs * pieces);
}

/* A layer, and where its weights begin; returns where they end. */
static int64_t make_layer(descent *own, int64_t l, int64_t inputs, int64_t start)
{
    static const int64_t tame_functions[] = {0, 1, 10, 20};
    kanserve_layer *layer = &own->layer[l];
    fuzz_bytes *from = &own->from;
    const int last = l == own->problem.layers - 1;
    layer->inputs = inputs;
    layer->nodes = fuzz_between(from, 1, MOST_NODES);
    int64_t *arity = hold(own, (size_t)layer->nodes * sizeof *arity);
    for (int64_t q = 0; q < layer->nodes; q++) layer->subnodes += arity[q] = fuzz_between(from, 1, 2);
    layer->arity = arity;
    layer->padded = layer->subnodes == 1 ? 1 : 8;
    layer->order = fuzz_between(from, 1, 5);
    layer->base = fuzz_between(from, KANSERVE_BASE_ZERO, KANSERVE_BASE_SILU);
    layer->named = fuzz_between(from, 0, 2);
    if (fuzz_byte(from) % 8 != 1) {
        layer->functions = layer->order + fuzz_between(from, 1, 4);
        layer->width = layer->order < 4 ? 4 : 8;
        layer->pieces = fuzz_between(from, 2, 6);
        make_grids(own, layer);
    }
    int64_t *edges = hold(own, (size_t)(3 * layer->named) * sizeof *edges);
    for (int64_t e = 0; e < layer->named; e++) {
        edges[3 * e] = fuzz_between(from, 0, layer->subnodes - 1);
        edges[3 * e + 1] = fuzz_between(from, 0, inputs - 1);
        edges[3 * e + 2] = own->tame ? tame_functions[fuzz_byte(from) % 4] : fuzz_between(from, KANSERVE_ODD_POWER, 33);
    }
    layer->edges = edges;
    layer->exponents = reals(own, layer->named);
    layer->subnode_scale = reals(own, layer->subnodes), layer->subnode_bias = reals(own, layer->subnodes);
    layer->node_scale = reals(own, layer->nodes);
    if (last) own->problem.outputs = layer->nodes;
    own->coefficients[l] = start;
    own->base_weight[l] = own->coefficients[l] + inputs * layer->functions * layer->padded + 8;
    own->affine[l] = own->base_weight[l] + inputs * layer->padded + 8;
    own->node_bias[l] = own->affine[l] + 4 * layer->named;
    return own->node_bias[l] + layer->nodes;
}

static void make_weights(descent *own, int64_t count)
{
    double *weights = own->problem.weights = hold(own, (size_t)count * sizeof *weights);
    memset(weights, 0, (size_t)count * sizeof *weights);
    for (int64_t l = 0; l < own->problem.layers; l++) {
        kanserve_layer *layer = &own->layer[l];
        layer->coefficients = weights + own->coefficients[l], layer->base_weight = weights + own->base_weight[l];
        layer->affine = weights + own->affine[l], layer->node_bias = weights + own->node_bias[l];
        for (int64_t n = 0; n < layer->inputs * layer->functions * layer->padded; n++)
            if (n % layer->padded < layer->subnodes) layer->coefficients[n] = number(own);
        for (int64_t n = 0; n < layer->inputs * layer->padded; n++)
            if (n % layer->padded < layer->subnodes) layer->base_weight[n] = number(own);
        for (int64_t n = 0; n < 4 * layer->named; n++) layer->affine[n] = number(own);
        for (int64_t q = 0; q < layer->nodes; q++) layer->node_bias[q] = number(own);
    }
}

static void add_block(descent *own, block one)
{
    if (own->problem.size + one.length > MOST_SIZE || own->blocks + own->scalars == MOST_BLOCKS) return;
    own->problem.size += one.length;
    if (one.part.kind == KANSERVE_SPLINES)
        own->block[own->blocks++] = one;
    else
        own->scalar[own->scalars++] = one;
}

/* Some of the edges from input i to the subnodes from `begin` to `stop` - 1, their splines or base weights. */
static void add_edges(descent *own, int64_t l, int64_t i, int64_t node, int64_t begin, int64_t stop, int64_t kind)
{
    const kanserve_layer *layer = &own->layer[l];
    const int64_t functions = kind == KANSERVE_SPLINES ? layer->functions : 1;
    int64_t *subnodes = hold(own, MOST_SUBNODES * sizeof *subnodes);
    block one = {.part = {.kind = kind, .layer = l, .at = i, .subnodes = subnodes}, .node = node};
    const uint8_t left_out = fuzz_byte(&own->from);
    for (int64_t j = begin; j < stop; j++)
        if (!(left_out >> j & 1)) subnodes[one.part.count++] = j;
    for (int64_t m = 0; m < functions; m++)
        for (int64_t o = 0; o < one.part.count; o++)
            one.places[one.length++] = kind == KANSERVE_SPLINES
                ? own->coefficients[l] + (i * functions + m) * layer->padded + subnodes[o]
                : own->base_weight[l] + i * layer->padded + subnodes[o];
    if (one.part.count > 0) add_block(own, one);
}

static void add_alone(descent *own, int64_t l, int64_t at, int64_t slot, int64_t node, int64_t kind, int64_t place)
{
    int64_t *subnodes = hold(own, sizeof *subnodes);
    *subnodes = kind == KANSERVE_AFFINE ? own->layer[l].edges[3 * at] : at;
    add_block(own, (block){.part = {.kind = kind, .layer = l, .at = at, .slot = slot, .count = 1, .subnodes = subnodes},
        .node = node, .length = 1, .places = {place}});
}

static void add_blocks(descent *own, int64_t l, int64_t node, int64_t begin, int64_t stop)
{
    const kanserve_layer *layer = &own->layer[l];
    for (int64_t i = 0; layer->functions > 0 && i < layer->inputs; i++)
        add_edges(own, l, i, node, begin, stop, KANSERVE_SPLINES);
    for (int64_t i = 0; layer->functions > 0 && i < layer->inputs; i++)
        add_edges(own, l, i, node, begin, stop, KANSERVE_BASE_WEIGHTS);
    for (int64_t e = 0; e < layer->named; e++)
        for (int64_t slot = 0; slot < 4 && begin <= layer->edges[3 * e] && layer->edges[3 * e] < stop; slot++)
            if (fuzz_byte(&own->from) % 4 != 1) add_alone(own, l, e, slot, node, KANSERVE_AFFINE, own->affine[l] + 4 * e + slot);
    if (node >= 0 && fuzz_byte(&own->from) % 4 != 1) add_alone(own, l, node, 0, node, KANSERVE_BIAS, own->node_bias[l] + node);
}

/* The groups of the blocks in their order, and the residual's. */
static void make_groups(descent *own)
{
    kanserve_problem *problem = &own->problem;
    static const int64_t zero = 0;
    int64_t offset = 0, bends = 0;
    for (int n = 0; n <= own->blocks + own->scalars; n++) {
        static const block residual = {.part = {.kind = KANSERVE_RESIDUAL, .count = 1, .subnodes = &zero}, .node = -1};
        const block *one = n < own->blocks ? &own->block[n]
            : n < own->blocks + own->scalars ? &own->scalar[n - own->blocks] : &residual;
        const block *before = n == 0 ? one : n <= own->blocks ? &own->block[n - 1] : &own->scalar[n - 1 - own->blocks];
        const int spline = one->part.kind == KANSERVE_SPLINES, after_spline = before->part.kind == KANSERVE_SPLINES;
        const int alone = problem->outputs > 1 && (before->node != one->node || one == &residual);
        kanserve_group *group = &own->group[problem->groups];
        if (n == 0 || spline || after_spline || alone) {
            const kanserve_layer *layer = &own->layer[one->part.layer];
            *group = (kanserve_group){.layer = -1, .offset = offset, .positions = 1, .first_part = n,
                .node = problem->outputs == 1 ? -1 : one->node};
            if (spline)
                *group = (kanserve_group){.layer = one->part.layer, .input = one->part.at, .node = one->node, .offset = offset,
                    .step = one->part.count, .positions = layer->functions - layer->order, .first_part = n};
            problem->groups++;
        } else
            group--;
        own->part[n] = one->part;
        own->part[n].place = spline ? 0 : group->length;
        group->parts++;
        group->length += spline ? (own->layer[one->part.layer].order + 1) * one->part.count : one->part.count;
        memcpy(own->places + offset, one->places, (size_t)one->length * sizeof *one->places);
        if (spline && fuzz_byte(&own->from) & 1)
            own->bend[bends++] = (kanserve_bend){.offset = offset, .count = one->part.count,
                .functions = own->layer[one->part.layer].functions};
        offset += one->length;
    }
    problem->penalty.bends = bends;
}

static void make_penalty(descent *own)
{
    kanserve_penalty *penalty = &own->problem.penalty;
    double *ridge = reals(own, own->problem.size);
    for (int64_t p = 0; own->tame && p < own->problem.size; p++) ridge[p] = ridge[p] * ridge[p] + 1;
    for (int64_t b = 0; b < penalty->bends; b++) {
        kanserve_bend *bend = &own->bend[b];
        const int64_t functions = bend->functions;
        double *matrix = reals(own, functions * functions);
        for (int64_t n = 0; n < functions * functions; n++) {
            static const double near[] = {8, -2, 1, -0.5, 0.25};
            const int64_t apart = llabs(n / functions - n % functions);
            if (own->tame) matrix[n] = apart <= KANSERVE_BEND_REACH ? near[apart] : 0;
        }
        bend->matrix = matrix;
    }
    penalty->ridge = ridge, penalty->center = reals(own, own->problem.size), penalty->bend = own->bend;
    penalty->proximal = fabs(number(own));
}

static void make(descent *own)
{
    kanserve_problem *problem = &own->problem;
    fuzz_bytes *from = &own->from;
    const int how = fuzz_byte(from);
    own->tame = how & TAME;
    problem->layers = fuzz_between(from, 1, MOST_LAYERS);
    problem->rows = fuzz_between(from, 1, 12) + (how & MANY_ROWS ? 250 : 0);
    problem->block = fuzz_between(from, 1, 130) + (how & MANY_ROWS ? 60 : 0);
    problem->threads = how & THREADS ? fuzz_between(from, 2, 3) : 1;
    int64_t nodes = fuzz_between(from, 1, MOST_INPUTS), weights = 0;
    for (int64_t l = 0; l < problem->layers; l++) {
        weights = make_layer(own, l, nodes, weights);
        nodes = own->layer[l].nodes;
    }
    make_weights(own, weights);
    for (int64_t l = 0; l < problem->layers; l++) {
        const kanserve_layer *layer = &own->layer[l];
        if (l < problem->layers - 1)
            add_blocks(own, l, -1, 0, layer->subnodes);
        else
            for (int64_t q = 0, begin = 0; q < layer->nodes; begin += layer->arity[q++])
                add_blocks(own, l, q, begin, begin + layer->arity[q]);
    }
    if (problem->size == 0) add_alone(own, problem->layers - 1, 0, 0, 0, KANSERVE_BIAS, own->node_bias[problem->layers - 1]);
    make_groups(own);
    make_penalty(own);
    const kanserve_layer *layer = own->layer;
    const int64_t sites = problem->rows * layer->inputs;
    problem->layer = layer, problem->group = own->group, problem->part = own->part, problem->places = own->places;
    problem->inputs = reals(own, sites), problem->wanted = reals(own, problem->rows * problem->outputs);
    problem->scale = reals(own, problem->outputs);
    problem->weight = reals(own, problem->rows * problem->outputs);
    if (how & KEEP_BASIS) problem->predicted = unwritten(own, problem->rows * problem->outputs);
    if (how & KEEP_BASIS && layer->functions > 0) {
        problem->first = hold(own, (size_t)sites * sizeof *problem->first);
        problem->base = unwritten(own, sites), problem->basis = unwritten(own, sites * layer->width);
    }
    for (int64_t p = 0; p < problem->size; p++) own->vector[p] = number(own);
}

/* Whether J and the residuals (rows of a dual problem) are those of the plain loop; 0 where it cannot say. */
static int check_rows(const descent *own, const double *matrix, double loss)
{
    const kanserve_problem *problem = &own->problem;
    const int64_t leading = kanserve_squares_leading(problem->size), outputs = problem->outputs;
    double most = 0, sum = 0;
    for (int64_t n = 0; n < problem->rows * outputs; n++)
        for (int64_t p = 0; p <= problem->size; p++) most = fmax(most, fabs(matrix[n * leading + p]));
    if (!(most < 1e3)) return 0;
    near_a_break = 0;
    for (int64_t n = 0; n < problem->rows; n += 1 + problem->rows / 8)
        for (int64_t p = 0; p <= problem->size; p++) {
            dual out[MOST_NODES];
            plain_row(own, problem->inputs + n * own->layer->inputs, p < problem->size ? own->places[p] : -1, out);
            for (int64_t q = 0; q < outputs; q++) {
                const double residual = problem->scale[q] * out[q].value - problem->wanted[n * outputs + q];
                const double weight = problem->weight[n * outputs + q];
                const double wanted = weight * (p < problem->size ? problem->scale[q] * out[q].by : residual);
                if (near_a_break || !(fabs(out[q].value) < 1e3)) return 0;
                fuzz_need(fabs(matrix[(n * outputs + q) * leading + p] - wanted) <= 1e-8 * (1 + most));
            }
        }
    for (int64_t n = 0; n < problem->rows * outputs; n++)
        sum += 0.5 * matrix[n * leading + problem->size] * matrix[n * leading + problem->size];
    fuzz_need(fabs(sum - loss) <= 1e-9 * (1 + sum));
    return 1;
}

static void check_products(const descent *own, const double *rows, const double *matrix)
{
    const int64_t size = own->problem.size, leading = kanserve_squares_leading(size);
    const int64_t count = own->problem.rows * own->problem.outputs;
    for (int64_t p = 0; p <= size; p++)
        for (int64_t other = 0; other <= p && other < size; other++) {
            double sum = 0, sizes = 1;
            for (int64_t n = 0; n < count; n++) {
                sum += rows[n * leading + p] * rows[n * leading + other];
                sizes += fabs(rows[n * leading + p] * rows[n * leading + other]);
            }
            fuzz_need(fabs(sum - matrix[p * leading + other]) <= 1e-10 * sizes);
        }
}

/* The normal equations and a step, in a matrix of exactly their size; returns it. */
static double *step(descent *own, int64_t is_dual, double *loss, double *trial, double results[3])
{
    kanserve_problem *problem = &own->problem;
    const int64_t size = problem->size;
    problem->dual = is_dual;
    const int64_t count = (kanserve_squares_height(problem) + 1) * kanserve_squares_leading(size);
    const int64_t numbers = kanserve_squares_work(problem);
    problem->work = hold(own, (size_t)numbers * sizeof(double));
    memset(problem->work, 0, (size_t)numbers * sizeof(double));
    if (problem->basis) kanserve_squares_prepare(problem);
    if (problem->basis) written(problem->rows * own->layer->inputs * own->layer->width, problem->basis);
    double *matrix = unwritten(own, count), *damped = unwritten(own, count), *diagonal = unwritten(own, size);
    double *work = hold(own, (size_t)kanserve_squares_step_work(problem) * sizeof *work);
    *loss = kanserve_squares_loss(problem, own->vector);
    if (problem->predicted) written(problem->rows * problem->outputs, problem->predicted);
    const double again = kanserve_squares_loss(problem, own->vector);
    fuzz_need(memcmp(&again, loss, sizeof again) == 0);
    kanserve_squares_penalty(problem, own->vector);
    kanserve_squares_normal(problem, own->vector, matrix);
    const int failed = kanserve_squares_linearise(problem, own->vector, 1e-3, damped, diagonal);
    written(size, diagonal);
    memset(results, UNWRITTEN, 3 * sizeof *results);
    if (!failed) {
        kanserve_squares_step(problem, own->vector, damped, diagonal, 0.5, trial, results, work);
        written(3, results);
        if (isfinite(results[0])) written(size, trial);
    }
    return matrix;
}

static void run(descent *own)
{
    double *trials[] = {unwritten(own, own->problem.size), unwritten(own, own->problem.size)};
    double results[2][3], losses[2];
    const double *matrix = step(own, 0, &losses[0], trials[0], results[0]);
    const double *rows = step(own, 1, &losses[1], trials[1], results[1]);
    fuzz_need(memcmp(&losses[0], &losses[1], sizeof *losses) == 0);
    for (int64_t p = 0; p < own->problem.size; p++) own->problem.weights[own->places[p]] = own->vector[p];
    if (!own->tame || !check_rows(own, rows, losses[1])) return;
    check_products(own, rows, matrix);
    if (!isfinite(results[0][0]) || !isfinite(results[1][0])) return;
    for (int64_t p = 0; p < own->problem.size; p++)
        fuzz_need(fabs(trials[0][p] - trials[1][p]) <= 1e-6 * (1 + fabs(trials[0][p])));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static descent own;
    memset(&own, 0, sizeof own);
    own.from = (fuzz_bytes){data, data + size, size};
    make(&own);
    run(&own);
    while (own.held_count > 0) free(own.held[--own.held_count]);
    return 0;
}
