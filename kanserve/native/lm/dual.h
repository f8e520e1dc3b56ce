/* A damped step for far more parameters than residuals. See dual.c. */
#ifndef KANSERVE_DUAL_H
#define KANSERVE_DUAL_H

#include <stdint.h>

#include "least_squares.h"

/* The size of `work` of kanserve_dual_solve, in doubles. */
int64_t kanserve_dual_work(const kanserve_problem *problem);

/* Solve (J'J + Λ)·x = J'r + slope with Λ the penalty's second derivatives and diag(added); `slope` is the penalty's
gradient. Returns 0, or 1 if there is no solution (x is not written then).

`rows` are those of kanserve_squares_normal. Except for rounding, the result is that of a Cholesky factorisation of
J'J + Λ. */
int kanserve_dual_solve(const kanserve_problem *problem, const double *rows, const double *added, const double *slope,
    double *x, double *work);

#endif
