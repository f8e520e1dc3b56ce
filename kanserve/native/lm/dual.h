/* A damped step where parameters far outnumber residuals. See dual.c. */
#ifndef KANSERVE_DUAL_H
#define KANSERVE_DUAL_H

#include <stdint.h>

#include "least_squares.h"

/* How many doubles `work` of kanserve_dual_solve must have. */
int64_t kanserve_dual_work(const kanserve_problem *problem);

/* Solve (J'J + Λ)·x = J'r + slope with Λ the penalty's second derivatives and diag(added); `slope` is the penalty's
gradient. 0, or 1 where there is no solution (x is not written then).

`rows` are those of kanserve_squares_normal. But for rounding it gives what Cholesky's factorisation of J'J + Λ does. */
int kanserve_dual_solve(const kanserve_problem *problem, const double *rows, const double *added, const double *slope,
    double *x, double *work);

#endif
