/* The passes over all rows, shared among threads.

The order of additions does not depend on the number of threads: rows are processed in chunks that write to separate
memory, and each source adds its products with the sources before it, row by row, to its own rows of J'J. */
#include "least_squares.h"

#include <stddef.h>
#include <string.h>

#include "../common/thread_team.h"
#include "../common/vectors.h"

#define CHUNK 128 /* rows of a chunk */

/* --- Memory ------------------------------------------------------------------------------------------------------- */

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The next `count` doubles of *memory; if that is NULL, only count them. */
static double *arena_take(double **memory, int64_t *used, int64_t count)
{
    double *found = *memory == NULL ? NULL : *memory + *used;
    *used += kanserve_padded(count);
    return found;
}

/* Allocate the passes of all layers for `rows` rows, unless `passes` is NULL, and after them the residuals; returns the
number of doubles. */
static int64_t cut_passes(const kanserve_problem *problem, double *memory, int64_t rows, kanserve_pass *passes,
    double **residuals)
{
    int64_t used = 0;
    for (int64_t l = 0; l < problem->layers; l++) {
        const kanserve_layer *layer = &problem->layer[l];
        const int64_t values = rows * layer->inputs, active = layer->functions > 0 ? values * layer->width : 0;
        const kanserve_pass pass = {
            .rows = rows,
            .first_rows = rows,
            .v = arena_take(&memory, &used, values),
            .first = (int32_t *)arena_take(&memory, &used, values),
            .basis = arena_take(&memory, &used, active),
            .basis_slope = arena_take(&memory, &used, active),
            .base = arena_take(&memory, &used, values),
            .base_slope = arena_take(&memory, &used, values),
            .named = arena_take(&memory, &used, rows * layer->named),
            .named_slope = arena_take(&memory, &used, rows * layer->named),
            .z = arena_take(&memory, &used, rows * layer->padded),
            .adjoint = arena_take(&memory, &used, rows * layer->padded),
            .node = arena_take(&memory, &used, rows * layer->nodes),
        };
        if (passes != NULL)
            passes[l] = pass;
    }
    double *after = arena_take(&memory, &used, rows * problem->outputs);
    if (residuals != NULL)
        *residuals = after;
    return used;
}

/* The stride of a group's windows, with room for the last function's adjoints, which are written in whole vectors. */
static int64_t stride(const kanserve_group *group)
{
    return kanserve_padded(group->length - group->step + kanserve_padded(group->step));
}

/* The layout of `work`: the windows come first, because the zeros at their ends must not be overwritten. */
typedef struct {
    int64_t windows, passes, chunk_passes, total;
    int64_t order;              /* int32_t per source */
    int64_t records, of_thread; /* the start of the threads' records, and doubles per thread */
} layout;

/* A thread's records, one per layer and group: too many for the stack. */
typedef struct {
    kanserve_pass *passes;
    kanserve_source *sources;
    int64_t *groups;
} records;

static records records_of(const kanserve_problem *problem, const layout *places, int64_t thread)
{
    kanserve_pass *passes = (kanserve_pass *)(problem->work + places->records + thread * places->of_thread);
    kanserve_source *sources = (kanserve_source *)(passes + problem->layers);
    return (records){passes, sources, (int64_t *)(sources + problem->groups)};
}

static layout layout_of(const kanserve_problem *problem)
{
    const int64_t rows = problem->block, chunks = (problem->rows + CHUNK - 1) / CHUNK;
    int64_t most = 1;
    layout one = {0};
    for (int64_t g = 0; g < problem->groups; g++) {
        one.windows += kanserve_padded(rows * stride(&problem->group[g]));
        most = problem->group[g].positions > most ? problem->group[g].positions : most;
    }
    one.passes = cut_passes(problem, NULL, rows, NULL, NULL);
    one.chunk_passes = cut_passes(problem, NULL, CHUNK, NULL, NULL);
    one.order = rows + most + 2;
    const int64_t loss = problem->threads * one.chunk_passes + kanserve_padded(chunks);
    const int64_t normal = one.passes + kanserve_padded((one.order * (problem->groups + problem->threads) + 1) / 2);
    const size_t bytes = (size_t)problem->layers * sizeof(kanserve_pass) +
        (size_t)problem->groups * (sizeof(kanserve_source) + sizeof(int64_t));
    one.records = one.windows + kanserve_padded(loss > normal ? loss : normal);
    one.of_thread = kanserve_padded((int64_t)((bytes + sizeof(double) - 1) / sizeof(double)));
    one.total = one.records + problem->threads * one.of_thread + KANSERVE_PADDING;
    return one;
}

int64_t kanserve_squares_work(const kanserve_problem *problem)
{
    return layout_of(problem).total;
}

/* --- Forward ------------------------------------------------------------------------------------------------------ */

static void set_weights(const kanserve_problem *problem, const double *vector)
{
    for (int64_t p = 0; p < problem->size; p++)
        problem->weights[problem->places[p]] = vector[p];
}

/* Point the first pass at the rows from `start` on, and at their stored basis values. */
static void begin_at(const kanserve_problem *problem, kanserve_pass *pass, int64_t start)
{
    const kanserve_layer *layer = problem->layer;
    pass->v = problem->inputs + start * layer->inputs;
    if (problem->basis != NULL) {
        pass->first = problem->first + start;
        pass->first_rows = problem->rows;
        pass->basis = problem->basis + start * layer->inputs * layer->width;
        pass->base = problem->base + start * layer->inputs;
    }
}

/* Compute the residuals (rows, outputs) of rows [from, to), counted from `start`; returns ½·Σ of their squares. */
static double forward(const kanserve_problem *problem, kanserve_pass *passes, int64_t start, int64_t from, int64_t to,
    int slopes, double *residuals)
{
    const int64_t outputs = problem->outputs;
    double finite = 0, sum = 0;
    for (int64_t l = 0; l < problem->layers; l++) {
        if (l > 0 || problem->basis == NULL)
            kanserve_rows_locate(&problem->layer[l], &passes[l], from, to, slopes && l > 0);
        double *next = l + 1 < problem->layers ? passes[l + 1].v : residuals;
        finite += kanserve_rows_forward(&problem->layer[l], &passes[l], from, to, slopes, next);
    }
    for (int64_t n = from; n < to; n++)
        for (int64_t q = 0; q < outputs; q++) {
            double *residual = residuals + n * outputs + q;
            const int64_t at = (start + n) * outputs + q;
            if (problem->predicted != NULL)
                problem->predicted[at] = problem->scale[q] * *residual;
            *residual = (problem->scale[q] * *residual - problem->wanted[at]) * problem->weight[at];
            sum += *residual * *residual;
        }
    return 0.5 * sum + finite;
}

void kanserve_squares_prepare(const kanserve_problem *problem)
{
    kanserve_pass pass = {.first_rows = problem->rows, .v = problem->inputs, .first = problem->first,
        .basis = problem->basis, .base = problem->base};
    kanserve_rows_locate(problem->layer, &pass, 0, problem->rows, 0);
}

static void loss_of_chunks(kanserve_team *one, int64_t thread)
{
    const kanserve_problem *problem = one->problem;
    const layout places = layout_of(problem);
    double *passes_memory = problem->work + places.windows + thread * places.chunk_passes, *residuals;
    double *sums = problem->work + places.windows + problem->threads * places.chunk_passes;
    kanserve_pass *passes = records_of(problem, &places, thread).passes;
    cut_passes(problem, passes_memory, CHUNK, passes, &residuals);
    for (int64_t chunk; (chunk = kanserve_team_next_chunk(one)) * CHUNK < problem->rows;) {
        const int64_t start = chunk * CHUNK;
        begin_at(problem, passes, start);
        sums[chunk] = forward(problem, passes, start, 0, least(CHUNK, problem->rows - start), 0, residuals);
    }
}

double kanserve_squares_loss(const kanserve_problem *problem, const double *vector)
{
    const layout places = layout_of(problem);
    const double *sums = problem->work + places.windows + problem->threads * places.chunk_passes;
    set_weights(problem, vector);
    kanserve_team_work(problem, NULL, problem->threads, loss_of_chunks);
    double sum = 0;
    for (int64_t chunk = 0; chunk * CHUNK < problem->rows; chunk++)
        sum += sums[chunk];
    return sum;
}

int64_t kanserve_squares_leading(int64_t size)
{
    return kanserve_leading(size + KANSERVE_PADDING); /* with room for a whole vector at the last column */
}

/* --- Normal equations --------------------------------------------------------------------------------------------- */

/* Compute the adjoints of all layers and the windows of output q's sources, for rows [from, to). */
static void fill_windows(const kanserve_problem *problem, kanserve_pass *passes, int64_t q, int64_t start, int64_t from,
    int64_t to, const double *residuals, const kanserve_source *sources, const int64_t *groups, int64_t count)
{
    const int64_t last = problem->layers - 1, nodes = problem->layer[last].nodes;
    for (int64_t n = from; n < to; n++)
        for (int64_t other = 0; other < nodes; other++)
            passes[last].node[n * nodes + other]
                = other == q ? problem->scale[q] * problem->weight[(start + n) * problem->outputs + q] : 0;
    for (int64_t l = last; l >= 0; l--) {
        kanserve_rows_adjoint(&problem->layer[l], &passes[l], from, to);
        if (l > 0)
            kanserve_rows_backward(&problem->layer[l], &passes[l], from, to, l == last ? q : -1, passes[l - 1].node);
    }
    for (int64_t s = 0; s < count; s++) {
        const kanserve_group *group = &problem->group[groups[s]];
        double *windows = (double *)sources[s].values;
        for (int64_t p = group->first_part; p < group->first_part + group->parts; p++) {
            const kanserve_part *part = &problem->part[p];
            if (part->kind == KANSERVE_RESIDUAL)
                for (int64_t n = from; n < to; n++)
                    windows[n * sources[s].stride + part->place] = residuals[n * problem->outputs + q];
            else
                kanserve_rows_fill(&problem->layer[part->layer], &passes[part->layer], part, from, to, windows,
                    sources[s].stride);
        }
    }
}

/* The sources of output q and their groups; returns their number. */
static int64_t sources_of(const kanserve_problem *problem, const kanserve_pass *passes, int64_t q,
    kanserve_source *sources, int64_t *groups)
{
    int64_t count = 0, used = 0;
    double *windows = problem->work;
    for (int64_t g = 0; g < problem->groups; g++) {
        const kanserve_group *group = &problem->group[g];
        double *own = arena_take(&windows, &used, problem->block * stride(group));
        if (group->node >= 0 && group->node != q)
            continue;
        const kanserve_pass *pass = group->layer >= 0 ? &passes[group->layer] : NULL;
        groups[count] = g;
        sources[count++] = (kanserve_source){
            .values = own,
            .first = pass == NULL ? NULL : pass->first + group->input * pass->first_rows,
            .stride = stride(group),
            .length = group->length,
            .step = group->step,
            .positions = group->positions,
            .offset = group->offset,
        };
    }
    return count;
}

/* Copy the windows of rows [from, to) of a block to their places in the rows of J. */
static void write_rows(const kanserve_problem *problem, int64_t q, int64_t start, int64_t from, int64_t to,
    const kanserve_source *sources, int64_t count, double *matrix)
{
    const int64_t leading = kanserve_squares_leading(problem->size);
    for (int64_t n = from; n < to; n++) {
        double *row = matrix + ((start + n) * problem->outputs + q) * leading;
        for (int64_t s = 0; s < count; s++) {
            const kanserve_source *one = &sources[s];
            memcpy(row + one->offset + (one->first == NULL ? 0 : one->first[n] * one->step),
                one->values + n * one->stride, (size_t)one->length * sizeof *row);
        }
    }
}

/* Add the products of the rows of each block or, for a dual problem, write the rows. */
static void normal_of_blocks(kanserve_team *one, int64_t thread)
{
    const kanserve_problem *problem = one->problem;
    const layout places = layout_of(problem);
    const int64_t leading = kanserve_squares_leading(problem->size);
    int32_t *orders = (int32_t *)(problem->work + places.windows + places.passes);
    int32_t *own = orders + places.order * (problem->groups + thread);
    const records noted = records_of(problem, &places, thread);
    kanserve_pass *passes = noted.passes;
    kanserve_source *sources = noted.sources;
    int64_t *groups = noted.groups;
    double *residuals;
    cut_passes(problem, problem->work + places.windows, problem->block, passes, &residuals);
    for (int64_t start = 0; start < problem->rows; start += problem->block) {
        const int64_t rows = least(problem->block, problem->rows - start);
        begin_at(problem, passes, start);
        for (int64_t q = 0; q < problem->outputs; q++) {
            const int64_t count = sources_of(problem, passes, q, sources, groups);
            for (int64_t chunk; (chunk = kanserve_team_next_chunk(one)) * CHUNK < rows;) {
                const int64_t from = chunk * CHUNK, to = least(from + CHUNK, rows);
                if (q == 0)
                    forward(problem, passes, start, from, to, 1, residuals);
                fill_windows(problem, passes, q, start, from, to, residuals, sources, groups, count);
                if (problem->dual)
                    write_rows(problem, q, start, from, to, sources, count, one->target);
            }
            kanserve_team_barrier(one);
            if (problem->dual)
                continue;
            for (int64_t s; (s = kanserve_team_next_chunk(one)) < count;)
                kanserve_window_order(rows, &sources[s], orders + s * places.order);
            kanserve_team_barrier(one);
            for (int64_t below; (below = count - 1 - kanserve_team_next_chunk(one)) >= 0;)
                for (int64_t left = 0; left <= below; left++)
                    kanserve_window_pair(rows, &sources[below], &sources[left], orders + below * places.order,
                        orders + left * places.order, one->target, leading, own);
            kanserve_team_barrier(one);
        }
    }
}

int64_t kanserve_squares_height(const kanserve_problem *problem)
{
    return problem->dual ? problem->rows * problem->outputs : problem->size;
}

void kanserve_squares_normal(const kanserve_problem *problem, const double *vector, double *matrix)
{
    const int64_t numbers = (kanserve_squares_height(problem) + 1) * kanserve_squares_leading(problem->size);
    set_weights(problem, vector);
    memset(matrix, 0, (size_t)numbers * sizeof *matrix);
    kanserve_team_work(problem, matrix, problem->threads, normal_of_blocks);
}
