/* The network of fuzz_descent.c, and what a plain loop says of one of its rows. */

#ifndef KANSERVE_FUZZ_DESCENT_PLAIN_H
#define KANSERVE_FUZZ_DESCENT_PLAIN_H

#include "fuzz_bytes.h"
#include "lm/functions.h"
#include "lm/least_squares.h"

enum { MOST_LAYERS = 3, MOST_NODES = 3, MOST_SUBNODES = 2 * MOST_NODES, MOST_INPUTS = 4, MOST_BLOCKS = 200,
    MOST_SIZE = 400, MOST_HELD = 600, UNWRITTEN = 0xff, TAME = 1, MANY_ROWS = 2, KEEP_BASIS = 4, THREADS = 8 };

typedef struct {
    kanserve_part part;
    int64_t node, length, places[64];
} block;

typedef struct {
    fuzz_bytes from;
    int tame, held_count, blocks, scalars;
    void *held[MOST_HELD];
    kanserve_problem problem;
    kanserve_layer layer[MOST_LAYERS];
    int64_t coefficients[MOST_LAYERS], base_weight[MOST_LAYERS], affine[MOST_LAYERS], node_bias[MOST_LAYERS];
    block block[MOST_BLOCKS], scalar[MOST_BLOCKS];
    kanserve_group group[MOST_BLOCKS + 1];
    kanserve_part part[MOST_BLOCKS + 1];
    kanserve_bend bend[MOST_BLOCKS];
    int64_t places[MOST_SIZE];
    double vector[MOST_SIZE];
} descent;

/* A number and its derivative by one parameter. */
typedef struct {
    double value, by;
} dual;

static int near_a_break; /* so that rounding decides on which piece a plain loop would be */

static void plain_basis(const kanserve_layer *layer, int64_t i, double v, double *values, double *slopes)
{
    const double *breaks = layer->breaks + i * (layer->pieces - 1);
    int64_t piece = 0;
    for (int64_t p = 0; p < layer->pieces - 1; p++) {
        piece += breaks[p] <= v;
        near_a_break |= fabs(breaks[p] - v) < 1e-9 * (1 + fabs(v));
    }
    piece += i * layer->pieces;
    for (int64_t m = 0; m < layer->functions; m++) values[m] = slopes[m] = 0;
    for (int64_t r = 0; r <= layer->order; r++)
        for (int64_t power = layer->order; power >= 0; power--) {
            const int64_t m = layer->first[piece] + r;
            const double offset = v - layer->origins[piece];
            slopes[m] = slopes[m] * offset + values[m];
            values[m] = values[m] * offset + layer->polynomials[(piece * (layer->order + 1) + power) * layer->width + r];
        }
}

/* The network at one row, and its derivative by the weight at `place`. */
static void plain_row(const descent *own, const double *x, int64_t place, dual out[MOST_NODES])
{
    dual v[MOST_INPUTS + 1] = {{0}};
    for (int64_t i = 0; i < own->layer->inputs; i++) v[i] = (dual){x[i], 0};
    for (int64_t l = 0; l < own->problem.layers; l++) {
        const kanserve_layer *layer = &own->layer[l];
        dual z[MOST_SUBNODES] = {{0}};
        for (int64_t i = 0; layer->functions > 0 && i < layer->inputs; i++) {
            double values[16], slopes[16];
            const double s = 1 / (1 + exp(-v[i].value)), at = v[i].value;
            const int silu = layer->base == KANSERVE_BASE_SILU;
            const double base = silu ? at * s : layer->base == KANSERVE_BASE_ZERO ? 0 : at;
            const double base_slope = silu ? s * (1 + at * (1 - s)) : layer->base == KANSERVE_BASE_ZERO ? 0 : 1;
            plain_basis(layer, i, at, values, slopes);
            for (int64_t j = 0; j < layer->subnodes; j++) {
                for (int64_t m = 0; m < layer->functions; m++) {
                    const int64_t n = (i * layer->functions + m) * layer->padded + j;
                    z[j].value += values[m] * layer->coefficients[n];
                    z[j].by += slopes[m] * v[i].by * layer->coefficients[n] + (own->coefficients[l] + n == place) * values[m];
                }
                const int64_t n = i * layer->padded + j;
                z[j].value += base * layer->base_weight[n];
                z[j].by += base_slope * v[i].by * layer->base_weight[n] + (own->base_weight[l] + n == place) * base;
            }
        }
        for (int64_t e = 0; e < layer->named; e++) {
            const dual at = v[layer->edges[3 * e + 1]];
            const double *affine = layer->affine + 4 * e, argument = affine[0] * at.value + affine[1];
            const int64_t slot = place - own->affine[l] - 4 * e, j = layer->edges[3 * e];
            double value, slope;
            kanserve_named_function(layer->edges[3 * e + 2], layer->exponents[e], 1, &argument, &value, &slope);
            z[j].value += affine[2] * value + affine[3];
            z[j].by += affine[2] * slope * (affine[0] * at.by + (slot == 0) * at.value + (slot == 1));
            z[j].by += (slot == 2) * value + (slot == 3);
        }
        for (int64_t q = 0, j = 0; q < layer->nodes; q++) {
            dual product = {1, 0};
            for (const int64_t stop = j + layer->arity[q]; j < stop; j++) {
                const dual one = {layer->subnode_scale[j] * z[j].value + layer->subnode_bias[j], layer->subnode_scale[j] * z[j].by};
                product = (dual){product.value * one.value, product.value * one.by + product.by * one.value};
            }
            v[q].value = layer->node_scale[q] * product.value + layer->node_bias[q];
            v[q].by = layer->node_scale[q] * product.by + (own->node_bias[l] + q == place);
        }
    }
    memcpy(out, v, (size_t)own->problem.outputs * sizeof *out);
}

#endif
