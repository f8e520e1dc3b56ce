/* The kernels of a layer of splines for kanserve/train/torch/operators.py, in float and double. See layer.c.

Arrays are row-major: x (rows, inputs), y and gradient (rows, outputs), coefficients (outputs, inputs, functions),
base_weight (outputs, inputs), biases and scales (outputs,). Inputs other than x, coefficients, table and y or gradient
may be NULL if the layer has none; outputs that are not wanted are NULL. Results do not depend on `threads`. All
functions return 0, or 1 if out of memory. */
#ifndef KANSERVE_LAYER_H
#define KANSERVE_LAYER_H

#include <stdint.h>

/* The table of an input's grid, all numbers of one precision:

    low, step, rest, 1/step   of a uniform grid with the step `step` + `rest`, where multiples of `step` are exact;
                              zeros if the closed form does not apply
    breaks       (pieces - 1)
    origins      (pieces)
    first        (pieces)
    polynomials  (pieces, order + 1 powers, order + 1 functions)

On piece p = number of breaks that are ≤ v, function first[p] + r is Σ_s polynomials[p][s][r]·(v - origins[p])^s. */
#define KANSERVE_HEAD 4

typedef struct {
    int64_t inputs, outputs;
    int64_t functions; /* G + k */
    int64_t order;
    int64_t pieces;
    int64_t base;      /* KANSERVE_ZERO, ... */
} kanserve_spline_layer;

enum { KANSERVE_ZERO, KANSERVE_SILU, KANSERVE_IDENTITY };

#define KANSERVE_DECLARE(REAL, TYPE) \
    int kanserve_layer_forward_##TYPE(const kanserve_spline_layer *layer, int64_t rows, int64_t threads, \
        const REAL *x, const REAL *table, const REAL *coefficients, const REAL *base_weight, \
        const REAL *subnode_scale, const REAL *subnode_bias, const REAL *node_scale, const REAL *node_bias, REAL *y); \
    int kanserve_layer_backward_##TYPE(const kanserve_spline_layer *layer, int64_t rows, int64_t threads, \
        const REAL *x, const REAL *table, const REAL *coefficients, const REAL *base_weight, \
        const REAL *subnode_scale, const REAL *node_scale, const REAL *y, const REAL *gradient, \
        REAL *of_x, REAL *of_coefficients, REAL *of_base_weight, REAL *of_subnode_bias, REAL *of_node_bias); \
    int kanserve_spline_sums_##TYPE(const kanserve_spline_layer *layer, int64_t rows, int64_t threads, \
        const REAL *x, int64_t derivative, const REAL *table, const REAL *weights, const REAL *coefficients, REAL *y); \
    int kanserve_spline_inputs_##TYPE(const kanserve_spline_layer *layer, int64_t rows, int64_t threads, \
        const REAL *x, int64_t derivative, const REAL *table, const REAL *coefficients, const REAL *gradient, \
        REAL *of_x); \
    int kanserve_spline_coefficients_##TYPE(const kanserve_spline_layer *layer, int64_t rows, int64_t threads, \
        const REAL *x, int64_t derivative, const REAL *table, const REAL *weights, const REAL *gradient, \
        REAL *of_coefficients);

KANSERVE_DECLARE(float, float)
KANSERVE_DECLARE(double, double)

#endif
