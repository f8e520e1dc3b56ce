/* Forward and backward passes of one layer, for some rows of a block.

All data of one row and one input are contiguous: the k + 1 active functions, and for each the weights of all subnodes.
So a layer is a few products of a number with a vector along subnodes, however fine its grid. */
#include "network.h"

#include <stddef.h>

#include "functions.h"
#include "../common/vectors.h"

#define W KANSERVE_WIDTH
#define MOST 4 /* vectors of subnodes at once */

typedef double quad __attribute__((vector_size(32), aligned(8), may_alias));

KANSERVE_INLINE double quad_total(quad value)
{
    return (value[0] + value[1]) + (value[2] + value[3]);
}

/* The number of breaks ≤ v; any valid number for NaN. */
KANSERVE_INLINE int64_t find_interval(const double *breaks, int64_t count, const double *guess, double v)
{
    if (guess[1] > 0) {
        double steps = (v - guess[0]) * guess[1] + 1;
        steps = steps > 0 ? steps : 0;
        int64_t piece = (int64_t)(steps < (double)count ? steps : (double)count);
        piece += piece < count && breaks[piece] <= v;
        return piece - (piece > 0 && breaks[piece - 1] > v);
    }
    int64_t low = 0;
    for (int64_t rest = count; rest > 1; rest -= rest / 2)
        low += breaks[low + rest / 2 - 1] <= v ? rest / 2 : 0;
    return low + (breaks[low] <= v);
}

KANSERVE_INLINE void local(
    const double *table, int64_t order, int64_t width, double offset, double *basis, double *slope)
{
    for (int64_t r = 0; r < width; r += 4) {
        quad value = *(const quad *)(table + order * width + r), by = {0};
        for (int64_t power = order - 1; power >= 0; power--) {
            by = by * offset + value;
            value = value * offset + *(const quad *)(table + power * width + r);
        }
        *(quad *)(basis + r) = value;
        if (slope != NULL)
            *(quad *)(slope + r) = by;
    }
}

void kanserve_rows_locate(const kanserve_layer *layer, kanserve_pass *pass, int64_t from, int64_t to, int slopes)
{
    const int64_t inputs = layer->inputs, width = layer->width, pieces = layer->pieces, order = layer->order;
    if (layer->functions == 0)
        return;
    for (int64_t i = 0; i < inputs; i++) {
        const double *breaks = layer->breaks + i * (pieces - 1), *guess = layer->guesses + 2 * i;
        for (int64_t n = from; n < to; n++) {
            const double v = pass->v[n * inputs + i];
            const int64_t piece = i * pieces + find_interval(breaks, pieces - 1, guess, v), at = (n * inputs + i) * width;
            const double *table = layer->polynomials + piece * (order + 1) * width;
            pass->first[i * pass->first_rows + n] = layer->first[piece];
            double *slope = slopes ? pass->basis_slope + at : NULL;
            if (order == 3) /* a compile-time constant, so that the loops are unrolled */
                local(table, 3, 4, v - layer->origins[piece], pass->basis + at, slope);
            else
                local(table, order, width, v - layer->origins[piece], pass->basis + at, slope);
        }
    }
    const int64_t begin = from * inputs, count = (to - from) * inputs;
    if (layer->base == KANSERVE_BASE_SILU)
        kanserve_rows_silu(count, pass->v + begin, pass->base + begin, slopes ? pass->base_slope + begin : NULL);
    else
        for (int64_t n = begin; n < begin + count; n++) {
            const int identity = layer->base == KANSERVE_BASE_IDENTITY;
            pass->base[n] = identity ? pass->v[n] : 0;
            if (slopes)
                pass->base_slope[n] = identity;
        }
}

/* Σ over inputs and active functions for one row and some vectors of subnodes. */
KANSERVE_INLINE void sums(int vectors, const kanserve_layer *layer, const kanserve_pass *pass, int64_t n,
    int64_t subnode, double *z)
{
    const int64_t inputs = layer->inputs, padded = layer->padded, width = layer->width, active = layer->order + 1;
    const double *base = pass->base + n * inputs, *basis = pass->basis + n * inputs * width;
    kanserve_wide sum[MOST];
#pragma GCC unroll 4
    for (int c = 0; c < vectors; c++)
        sum[c] = (kanserve_wide){0};
    for (int64_t i = 0; i < inputs; i++) {
        const double *weights = layer->base_weight + i * padded + subnode;
        const int64_t first = i * layer->functions + pass->first[i * pass->first_rows + n];
        const double *own = layer->coefficients + first * padded + subnode;
#pragma GCC unroll 4
        for (int c = 0; c < vectors; c++)
            sum[c] += base[i] * kanserve_load(weights + c * W);
        for (int64_t r = 0; r < active; r++)
#pragma GCC unroll 4
            for (int c = 0; c < vectors; c++)
                sum[c] += basis[i * width + r] * kanserve_load(own + r * padded + c * W);
    }
#pragma GCC unroll 4
    for (int c = 0; c < vectors; c++)
        kanserve_store(z + c * W, sum[c]);
}

/* The sum of the spline edges into each subnode. */
static void spline_sums(const kanserve_layer *layer, kanserve_pass *pass, int64_t from, int64_t to)
{
    const int64_t inputs = layer->inputs, padded = layer->padded, width = layer->width;
    for (int64_t n = from; n < to; n++) {
        double *z = pass->z + n * padded;
        if (layer->functions == 0)
            for (int64_t o = 0; o < padded; o++)
                z[o] = 0;
        else if (padded == 1) { /* vectors along the functions instead */
            quad sum = {0};
            double straight = 0;
            for (int64_t i = 0; i < inputs; i++) {
                const double *own = layer->coefficients + i * layer->functions + pass->first[i * pass->first_rows + n];
                const double *basis = pass->basis + (n * inputs + i) * width;
                for (int64_t r = 0; r < width; r += 4)
                    sum += *(const quad *)(basis + r) * *(const quad *)(own + r);
                straight += pass->base[n * inputs + i] * layer->base_weight[i];
            }
            z[0] = straight + quad_total(sum);
        } else
            for (int64_t o = 0; o < padded; o += MOST * W)
                switch (padded - o >= MOST * W ? MOST : (padded - o) / W) {
                    case 1: sums(1, layer, pass, n, o, z + o); break;
                    case 2: sums(2, layer, pass, n, o, z + o); break;
                    case 3: sums(3, layer, pass, n, o, z + o); break;
                    default: sums(4, layer, pass, n, o, z + o); break;
                }
    }
}

static void add_named(const kanserve_layer *layer, kanserve_pass *pass, int64_t from, int64_t to, int slopes)
{
    for (int64_t e = 0; e < layer->named; e++) {
        const int64_t j = layer->edges[3 * e], i = layer->edges[3 * e + 1], begin = e * pass->rows + from;
        const double *constants = layer->affine + 4 * e;
        double *values = pass->named + begin, *by = slopes ? pass->named_slope + begin : NULL;
        /* In place: each argument is read before its value is written. */
        for (int64_t n = from; n < to; n++)
            values[n - from] = constants[0] * pass->v[n * layer->inputs + i] + constants[1];
        kanserve_named_function(layer->edges[3 * e + 2], layer->exponents[e], to - from, values, values, by);
        for (int64_t n = from; n < to; n++)
            pass->z[n * layer->padded + j] += constants[2] * values[n - from] + constants[3];
    }
}

double kanserve_rows_forward(const kanserve_layer *layer, kanserve_pass *pass, int64_t from, int64_t to,
    int slopes, double *next)
{
    const int64_t padded = layer->padded, nodes = layer->nodes;
    spline_sums(layer, pass, from, to);
    add_named(layer, pass, from, to, slopes);
    double finite = 0;
    for (int64_t n = from; n < to; n++) {
        double *z = pass->z + n * padded, *node = next + n * nodes;
        for (int64_t j = 0; j < layer->subnodes; j++)
            z[j] = layer->subnode_scale[j] * z[j] + layer->subnode_bias[j];
        if (nodes == layer->subnodes)
            for (int64_t q = 0; q < nodes; q++)
                node[q] = layer->node_scale[q] * z[q] + layer->node_bias[q];
        else
            for (int64_t q = 0, j = 0; q < nodes; q++) {
                double product = 1;
                for (const int64_t stop = j + layer->arity[q]; j < stop; j++)
                    product *= z[j];
                node[q] = layer->node_scale[q] * product + layer->node_bias[q];
            }
        for (int64_t q = 0; q < nodes; q++)
            finite += node[q] - node[q]; /* NaN for NaN and infinity */
    }
    return finite;
}

void kanserve_rows_adjoint(const kanserve_layer *layer, kanserve_pass *pass, int64_t from, int64_t to)
{
    const int64_t padded = layer->padded, nodes = layer->nodes;
    for (int64_t n = from; n < to; n++) {
        const double *z = pass->z + n * padded, *node = pass->node + n * nodes;
        double *adjoint = pass->adjoint + n * padded;
        for (int64_t j = layer->subnodes; j < padded; j++)
            adjoint[j] = 0;
        if (nodes == layer->subnodes)
            for (int64_t q = 0; q < nodes; q++)
                adjoint[q] = layer->subnode_scale[q] * (layer->node_scale[q] * node[q]);
        else
            for (int64_t q = 0, start = 0; q < nodes; start += layer->arity[q++])
                for (int64_t j = start; j < start + layer->arity[q]; j++) {
                    double others = layer->node_scale[q] * node[q];
                    for (int64_t other = start; other < start + layer->arity[q]; other++)
                        others *= other == j ? 1 : z[other];
                    adjoint[j] = layer->subnode_scale[j] * others;
                }
    }
}

/* adjoint · slopes of the edges from input i. */
KANSERVE_INLINE double whole_slope(const kanserve_layer *layer, const kanserve_pass *pass, int64_t n, int64_t i,
    const double *own, const double *adjoint)
{
    const int64_t padded = layer->padded, width = layer->width;
    const double base = pass->base_slope[n * layer->inputs + i];
    const double *basis = pass->basis_slope + (n * layer->inputs + i) * width;
    kanserve_wide sum = {0};
    for (int64_t o = 0; o < padded; o += W) {
        kanserve_wide slope = base * kanserve_load(layer->base_weight + i * padded + o);
        for (int64_t r = 0; r <= layer->order; r++)
            slope += basis[r] * kanserve_load(own + r * padded + o);
        sum += slope * kanserve_load(adjoint + o);
    }
    return kanserve_total(sum);
}

KANSERVE_INLINE double slope_to(const kanserve_layer *layer, const kanserve_pass *pass, int64_t n, int64_t i,
    const double *own, int64_t j)
{
    const int64_t padded = layer->padded;
    const double *basis = pass->basis_slope + (n * layer->inputs + i) * layer->width;
    double slope = pass->base_slope[n * layer->inputs + i] * layer->base_weight[i * padded + j];
    for (int64_t r = 0; r <= layer->order; r++)
        slope += basis[r] * own[r * padded + j];
    return slope;
}

void kanserve_rows_backward(const kanserve_layer *layer, const kanserve_pass *pass, int64_t from, int64_t to,
    int64_t only, double *before)
{
    const int64_t inputs = layer->inputs, padded = layer->padded;
    int64_t first = 0, stop = layer->subnodes;
    if (only >= 0) {
        for (int64_t q = 0; q < only; q++)
            first += layer->arity[q];
        stop = first + layer->arity[only];
    }
    for (int64_t n = from; n < to; n++) {
        const double *adjoint = pass->adjoint + n * padded;
        for (int64_t i = 0; i < inputs; i++) {
            double sum = 0;
            if (layer->functions > 0) {
                const double *own = layer->coefficients
                    + (i * layer->functions + pass->first[i * pass->first_rows + n]) * padded;
                if (padded > 1 && stop - first > 1)
                    sum = whole_slope(layer, pass, n, i, own, adjoint);
                else
                    sum = adjoint[first] * slope_to(layer, pass, n, i, own, first);
            }
            before[n * inputs + i] = sum;
        }
    }
    for (int64_t e = 0; e < layer->named; e++) {
        const int64_t j = layer->edges[3 * e], i = layer->edges[3 * e + 1];
        const double factor = layer->affine[4 * e] * layer->affine[4 * e + 2];
        const double *slope = pass->named_slope + e * pass->rows;
        if (first <= j && j < stop) /* other edges do not contribute, and may be infinite */
            for (int64_t n = from; n < to; n++)
                before[n * inputs + i] += pass->adjoint[n * padded + j] * (factor * slope[n]);
    }
}

/* Write factors (rows, jump) times the adjoints of the block's subnodes, with `active` factors per row. */
static void fill_products(const kanserve_layer *layer, const kanserve_pass *pass, const kanserve_part *part,
    int64_t from, int64_t to, const double *factors, int64_t jump, int64_t active, double *windows, int64_t stride)
{
    const int64_t padded = layer->padded, count = part->count;
    for (int64_t n = from; n < to; n++) {
        const double *adjoint = pass->adjoint + n * padded, *own = factors + n * jump;
        double *window = windows + n * stride + part->place;
        if (count == 1) {
            const double one = adjoint[part->subnodes[0]];
            for (int64_t r = 0; r < active; r++)
                window[r] = own[r] * one;
        } else if (count == layer->subnodes && part->kind == KANSERVE_SPLINES) {
            /* The zeros after the adjoints are overwritten by the next function, or lie after the window. */
            for (int64_t r = 0; r < active; r++)
                for (int64_t o = 0; o < padded; o += W)
                    kanserve_store(window + r * count + o, own[r] * kanserve_load(adjoint + o));
        } else
            for (int64_t r = 0; r < active; r++)
                for (int64_t o = 0; o < count; o++)
                    window[r * count + o] = own[r] * adjoint[part->subnodes[o]];
    }
}

static void fill_affine(const kanserve_layer *layer, const kanserve_pass *pass, const kanserve_part *part,
    int64_t from, int64_t to, double *windows, int64_t stride)
{
    const int64_t e = part->at, j = layer->edges[3 * e], i = layer->edges[3 * e + 1];
    const double c = layer->affine[4 * e + 2];
    const double *value = pass->named + e * pass->rows, *slope = pass->named_slope + e * pass->rows;
    for (int64_t n = from; n < to; n++) {
        double by = 1;
        switch (part->slot) {
            case 0: by = c * slope[n] * pass->v[n * layer->inputs + i]; break;
            case 1: by = c * slope[n]; break;
            case 2: by = value[n]; break;
        }
        windows[n * stride + part->place] = pass->adjoint[n * layer->padded + j] * by;
    }
}

void kanserve_rows_fill(const kanserve_layer *layer, const kanserve_pass *pass, const kanserve_part *part,
    int64_t from, int64_t to, double *windows, int64_t stride)
{
    const int64_t inputs = layer->inputs, width = layer->width;
    switch (part->kind) {
        case KANSERVE_SPLINES:
            fill_products(layer, pass, part, from, to, pass->basis + part->at * width, inputs * width,
                layer->order + 1, windows, stride);
            break;
        case KANSERVE_BASE_WEIGHTS:
            fill_products(layer, pass, part, from, to, pass->base + part->at, inputs, 1, windows, stride);
            break;
        case KANSERVE_AFFINE:
            fill_affine(layer, pass, part, from, to, windows, stride);
            break;
        default:
            for (int64_t n = from; n < to; n++)
                windows[n * stride + part->place] = pass->node[n * layer->nodes + part->at];
    }
}
