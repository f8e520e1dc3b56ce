/* Forward and backward passes through the layers of a network, for the least-squares kernels. See network.c.

Arrays are row-major (N, ...); the subnode axis is padded with zeros to a multiple of 8. */
#ifndef KANSERVE_NETWORK_H
#define KANSERVE_NETWORK_H

#include <stdint.h>

#include "windows.h"

enum { KANSERVE_BASE_ZERO, KANSERVE_BASE_IDENTITY, KANSERVE_BASE_SILU };

/* The splines of input i at v are local polynomials: on piece p = number of breaks[i] that are ≤ v, function
first[i][p] + r is Σ_s polynomials[i][p][s][r]·(v - origins[i][p])^s, and all other functions are zero. */
typedef struct {
    int64_t inputs, subnodes, nodes;
    int64_t padded;    /* subnodes rounded up to a multiple of 8; 1 for a single one */
    int64_t order;
    int64_t functions; /* G + k; 0 for a layer without splines */
    int64_t width;     /* order + 1 rounded up to a multiple of 4 */
    int64_t pieces;
    int64_t base;
    int64_t named;     /* number of named edges */
    const double *breaks;      /* (inputs, pieces - 1), infinite where an input has fewer */
    const double *guesses;     /* (inputs, 2): the first break, and 1/step if the breaks are uniform, else 0 */
    const double *origins;     /* (inputs, pieces) */
    const int32_t *first;      /* (inputs, pieces) */
    const double *polynomials; /* (inputs, pieces, order + 1, width) */
    const int64_t *edges;      /* (named, 3): subnode, input, number of the function, see functions.h */
    const double *exponents;   /* (named,): of powers, see functions.h */
    const double *subnode_scale, *subnode_bias, *node_scale;
    const int64_t *arity;
    double *coefficients;      /* (inputs, functions, padded), zero without an edge; 8 numbers of padding follow */
    double *base_weight;       /* (inputs, padded) */
    double *affine;            /* (named, 4): a, b, c, d */
    double *node_bias;         /* (nodes,) */
} kanserve_layer;

/* The results of a layer's forward pass for the rows of a block. A slope is the derivative by the input. */
typedef struct {
    int64_t rows;        /* stride of `named` */
    int64_t first_rows;  /* stride of `first` */
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

/* A block of the vector: consecutive numbers of one input (for biases, of one layer). */
typedef struct {
    int64_t kind;             /* one of the following */
    int64_t layer;
    int64_t at;               /* the input; of an affine part, the edge among `edges`; of a bias, the node */
    int64_t slot;             /* of an affine part: which of a, b, c, d */
    int64_t count;            /* subnodes, 1 for an affine part or a bias */
    const int64_t *subnodes;  /* (count,) */
    int64_t place;            /* the offset of its windows in those of its source */
} kanserve_part;

enum { KANSERVE_SPLINES, KANSERVE_BASE_WEIGHTS, KANSERVE_AFFINE, KANSERVE_BIAS, KANSERVE_RESIDUAL };

/* Find the active functions of rows [from, to) and their values, and their slopes if `slopes`. */
void kanserve_rows_locate(const kanserve_layer *layer, kanserve_pass *pass, int64_t from, int64_t to, int slopes);

/* Compute the nodes from the located values into next (rows, nodes). Returns 0, or NaN if a node is not finite. */
double kanserve_rows_forward(const kanserve_layer *layer, kanserve_pass *pass, int64_t from, int64_t to,
    int slopes, double *next);

/* Compute pass->adjoint from pass->node. */
void kanserve_rows_adjoint(const kanserve_layer *layer, kanserve_pass *pass, int64_t from, int64_t to);

/* Compute the adjoints of the layer's inputs, before (rows, inputs), from pass->adjoint; only through node `only`
unless it is negative. */
void kanserve_rows_backward(const kanserve_layer *layer, const kanserve_pass *pass, int64_t from, int64_t to,
    int64_t only, double *before);

/* Write a block's numbers into the windows (rows, stride) of its source. */
void kanserve_rows_fill(const kanserve_layer *layer, const kanserve_pass *pass, const kanserve_part *part,
    int64_t from, int64_t to, double *windows, int64_t stride);

#endif
