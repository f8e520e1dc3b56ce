/* Gauss-Newton for whole networks: the loss, the normal equations, and one damped step. See least_squares.c.

F(θ) = ½·Σ_n w_n·‖r_n‖² with r = scale·(prediction) - wanted, plus a penalty. Everything is prepared once by
kanserve/train/lm/compiled_descent.py, which owns the memory; θ is the vector of the free parameters. */
#ifndef KANSERVE_LEAST_SQUARES_H
#define KANSERVE_LEAST_SQUARES_H

#include <stdint.h>

#include "network.h"

/* Parameters whose windows stand together; see windows.h. */
typedef struct {
    int64_t layer, input;     /* of the splines; layer -1: dense */
    int64_t node;             /* the output that they belong to, -1: all */
    int64_t offset, length, step, positions;
    int64_t first_part, parts;
} kanserve_group;

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
    int64_t block;            /* rows whose windows are in memory at once */
    const kanserve_layer *layer;
    const kanserve_group *group;
    const kanserve_part *part;
    const int64_t *places;    /* (size,): where the parameters stand in `weights` */
    double *weights;          /* all numbers of the layers that may change */
    double *inputs;           /* (rows, inputs) */
    const double *wanted;     /* (rows, outputs) */
    const double *scale;      /* (outputs,) */
    const double *weight;     /* (rows,): square roots */
    int32_t *first;           /* (inputs, rows), basis (rows, inputs, width) and base (rows, inputs) of the first */
    double *basis, *base;     /* layer, which never change; NULL where there is no memory for them */
    double *work;             /* zeros at the beginning */
    kanserve_penalty penalty;
    int64_t dual;             /* whether steps are found from the rows of J instead of from J'J: see dual.h */
} kanserve_problem;

/* How many doubles `work` must have; the problem needs all but its pointers to memory for that. */
int64_t kanserve_squares_work(const kanserve_problem *problem);

/* Fill first, basis and base. */
void kanserve_squares_prepare(const kanserve_problem *problem);

/* The loss without its penalty; not finite where the network is not. */
double kanserve_squares_loss(const kanserve_problem *problem, const double *vector);

/* The penalty alone. */
double kanserve_squares_penalty(const kanserve_problem *problem, const double *vector);

/* How far the rows of a matrix of this size are apart. */
int64_t kanserve_squares_leading(int64_t size);

/* How many rows of such a matrix come before the gradient: as many as there are parameters or, of a dual problem,
residuals. */
int64_t kanserve_squares_height(const kanserve_problem *problem);

/* The lower triangle of J'J, and in row `size` J'r. Of a dual problem J instead, weighted, row n·outputs + q that of
output q in row n, with the residual in column `size`, and zeros for the gradient. No penalty. */
void kanserve_squares_normal(const kanserve_problem *problem, const double *vector, double *matrix);

/* The same, but with the penalty in J'J and in the gradient, which a dual problem has too; and the diagonal of J'J and
the penalty, at least `least` times its maximum. 0 where all are finite and the gradient is not 0. */
int kanserve_squares_linearise(
    const kanserve_problem *problem, const double *vector, double least, double *matrix, double *diagonal);

/* How many doubles `work` of kanserve_squares_step must have. */
int64_t kanserve_squares_step_work(const kanserve_problem *problem);

/* trial = vector - (A + damping·diag(diagonal))⁻¹·gradient. results: loss and penalty there, the loss infinite where
there is none, and the decrease of their sum that the quadratic model promised. */
void kanserve_squares_step(const kanserve_problem *problem, const double *vector, const double *matrix,
    const double *diagonal, double damping, double *trial, double *results, double *work);

#endif
