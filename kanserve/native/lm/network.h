/* A network as the kernels of least squares see it: values, adjoints and rows of the Jacobian. See network.c.

Arrays are row after row (N, ...); lengths along subnodes are padded with zeros to a multiple of 8. */
#ifndef KANSERVE_NETWORK_H
#define KANSERVE_NETWORK_H

#include <stdint.h>

#include "windows.h"

enum { KANSERVE_BASE_ZERO, KANSERVE_BASE_IDENTITY, KANSERVE_BASE_SILU };

/* The splines of input i at v are local polynomials: on piece p = number of breaks[i] that are ≤ v, function
first[i][p] + r is Σ_s polynomials[i][p][s][r]·(v - origins[i][p])^s, and all other functions are zero. */
typedef struct {
    int64_t inputs, subnodes, nodes;
    int64_t padded;    /* subnodes up to a multiple of 8; 1 for a single one */
    int64_t order;
    int64_t functions; /* G + k; 0 for a layer without splines */
    int64_t width;     /* order + 1 up to a multiple of 4 */
    int64_t pieces;
    int64_t base;
    int64_t named;     /* how many edges have a named function */
    const double *breaks;      /* (inputs, pieces - 1), infinite where an input has fewer */
    const double *guesses;     /* (inputs, 2): the first break, and 1/step where all are equally far apart, else 0 */
    const double *origins;     /* (inputs, pieces) */
    const int32_t *first;      /* (inputs, pieces) */
    const double *polynomials; /* (inputs, pieces, order + 1, width) */
    const int64_t *edges;      /* (named, 3): subnode, input, number of the function, see functions.h */
    const double *subnode_scale, *subnode_bias, *node_scale;
    const int64_t *arity;
    double *coefficients;      /* (inputs, functions, padded), zero where there is no edge; 8 more behind it */
    double *base_weight;       /* (inputs, padded) */
    double *affine;            /* (named, 4): a, b, c, d */
    double *node_bias;         /* (nodes,) */
} kanserve_layer;

/* What the forward pass of a layer leaves for rows 0 .. of a block. `slope` is the derivative by the input. */
typedef struct {
    int64_t rows;        /* between neighbours in `named` */
    int64_t first_rows;  /* between neighbours in `first` */
    double *v;           /* (rows, inputs) */
    int32_t *first;      /* (inputs, rows): the first active function */
    double *basis;       /* (rows, inputs, width) */
    double *basis_slope;
    double *base;        /* (rows, inputs) */
    double *base_slope;
    double *named;       /* (named, rows): f(a·v + b) */
    double *named_slope; /* f'(a·v + b) */
    double *z;           /* (rows, padded) */
    double *adjoint;     /* (rows, padded): d/d(sum of edges) */
    double *node;        /* (rows, nodes): d/d(node) */
} kanserve_pass;

/* A part of the vector: numbers from one input (or, for biases, of one layer) that stand one after the other. */
typedef struct {
    int64_t kind;             /* one of the following */
    int64_t layer;
    int64_t at;               /* the input; of an affine part, the edge among `edges`; of a bias, the node */
    int64_t slot;             /* of an affine part: which of a, b, c, d */
    int64_t count;            /* subnodes, 1 for an affine part or a bias */
    const int64_t *subnodes;  /* (count,) */
    int64_t place;            /* where its windows begin in those of its source */
} kanserve_part;

enum { KANSERVE_SPLINES, KANSERVE_BASE_WEIGHTS, KANSERVE_AFFINE, KANSERVE_BIAS, KANSERVE_RESIDUAL };

/* Find the active functions of rows [from, to) and their values, and slopes where `slopes`. */
void kanserve_rows_locate(const kanserve_layer *layer, kanserve_pass *pass, int64_t from, int64_t to, int slopes);

/* From the located values to the nodes, written to next (rows, nodes). Returns 0, or NaN where one is not finite. */
double kanserve_rows_forward(const kanserve_layer *layer, kanserve_pass *pass, int64_t from, int64_t to,
    int slopes, double *next);

/* From pass->node to pass->adjoint. */
void kanserve_rows_adjoint(const kanserve_layer *layer, kanserve_pass *pass, int64_t from, int64_t to);

/* From pass->adjoint to the adjoints of the layer's inputs, before (rows, inputs); of node `only` alone unless it is
negative. */
void kanserve_rows_backward(const kanserve_layer *layer, const kanserve_pass *pass, int64_t from, int64_t to,
    int64_t only, double *before);

/* Write a part's numbers into the windows (rows, stride) of its source. */
void kanserve_rows_fill(const kanserve_layer *layer, const kanserve_pass *pass, const kanserve_part *part,
    int64_t from, int64_t to, double *windows, int64_t stride);

#endif
