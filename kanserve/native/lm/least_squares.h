/* Levenberg-Marquardt for whole networks: the loss, the normal equations, and one damped step. See least_squares.c.

F(θ) = ½·Σ_nq w_nq·r_nq² with r = scale·(prediction) - wanted, plus a penalty; θ is the vector of the free parameters.
kanserve/train/lm/compiled_descent.py prepares everything once and owns the memory. */
#ifndef KANSERVE_LEAST_SQUARES_H
#define KANSERVE_LEAST_SQUARES_H

#include <stdint.h>

#include "network.h"

/* Parameters that share a window; see windows.h. */
typedef struct {
    int64_t layer, input;     /* of the splines; layer -1 for a dense group */
    int64_t node;             /* the output that they belong to; -1 for all */
    int64_t offset, length, step, positions;
    int64_t first_part, parts;
} kanserve_group;

/* Diagonals of a bend's matrix on either side of the main one; the numbers beyond are 0. */
enum { KANSERVE_BEND_REACH = 4 };

typedef struct {
    int64_t offset, functions, count;
    const double *matrix;     /* (functions, functions), applied to each of `count` subnodes */
} kanserve_bend;

/* ½·Σ ridge·θ² + ½·proximal·‖θ - center‖² + ½·Σ c'·matrix·c over the splines' coefficients c. */
typedef struct {
    const double *ridge, *center;
    double proximal;
    int64_t bends;
    const kanserve_bend *bend;
} kanserve_penalty;

typedef struct {
    int64_t rows, layers, outputs, size, groups, threads;
    int64_t block;            /* rows of a block, whose windows are in memory at once */
    const kanserve_layer *layer;
    const kanserve_group *group;
    const kanserve_part *part;
    const int64_t *places;    /* (size,): the positions of the parameters in `weights` */
    double *weights;          /* all weights of the layers */
    double *inputs;           /* (rows, inputs) */
    const double *wanted;     /* (rows, outputs) */
    const double *scale;      /* (outputs,) */
    const double *weight;     /* (rows, outputs): square roots of the weights */
    int32_t *first;           /* (inputs, rows); with basis (rows, inputs, width) and base (rows, inputs): the first */
    double *basis, *base;     /* layer's values, which never change; NULL if they would take too much memory */
    double *work;             /* initially zero */
    kanserve_penalty penalty;
    int64_t dual;             /* whether steps are computed from the rows of J instead of J'J: see dual.h */
    double *predicted;        /* (rows, outputs): the scaled outputs of the last pass over all rows; NULL if not wanted */
} kanserve_problem;

/* The size of `work` in doubles; needs all members of the problem except the pointers to memory. */
int64_t kanserve_squares_work(const kanserve_problem *problem);

/* Fill first, basis and base. */
void kanserve_squares_prepare(const kanserve_problem *problem);

/* The loss without the penalty; not finite if the network is not. */
double kanserve_squares_loss(const kanserve_problem *problem, const double *vector);

/* The penalty alone. */
double kanserve_squares_penalty(const kanserve_problem *problem, const double *vector);

/* The leading dimension of a matrix of this size. */
int64_t kanserve_squares_leading(int64_t size);

/* The number of rows before the gradient in such a matrix: the parameters or, for a dual problem, the residuals. */
int64_t kanserve_squares_height(const kanserve_problem *problem);

/* Compute the lower triangle of J'J, and J'r in row `size`, without the penalty. For a dual problem compute the
weighted J instead: row n·outputs + q is output q of row n, with the residual in column `size`; the gradient is zero. */
void kanserve_squares_normal(const kanserve_problem *problem, const double *vector, double *matrix);

/* The same with the penalty in J'J and in the gradient, which a dual problem gets too; and the diagonal of J'J plus the
penalty, at least `least` times its maximum. Returns 0 if all are finite and the gradient is not 0. */
int kanserve_squares_linearise(
    const kanserve_problem *problem, const double *vector, double least, double *matrix, double *diagonal);

/* The size of `work` of kanserve_squares_step, in doubles. */
int64_t kanserve_squares_step_work(const kanserve_problem *problem);

/* trial = vector - (A + damping·diag(diagonal))⁻¹·gradient. results: the loss (infinite if not finite) and the penalty
there, and the decrease of their sum predicted by the quadratic model. */
void kanserve_squares_step(const kanserve_problem *problem, const double *vector, const double *matrix,
    const double *diagonal, double damping, double *trial, double *results, double *work);

#endif
