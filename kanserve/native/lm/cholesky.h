/* Solve the damped systems of least squares by Cholesky factorisation. See cholesky.c. */
#ifndef KANSERVE_CHOLESKY_H
#define KANSERVE_CHOLESKY_H

#include <stdint.h>

/* target[i][j] -= Σ_{p < depth} factors[i][p]·factors[j][p] for i < rows, j < columns and j ≤ i, and for some j > i.

Rows of both are `leading` doubles apart; `depth` is a multiple of 8. */
void kanserve_cholesky_subtract(
    int64_t rows, int64_t columns, int64_t depth, const double *factors, int64_t leading, double *target);

/* The size of `work` of kanserve_cholesky_solve, in doubles. */
int64_t kanserve_cholesky_work(int64_t size);

/* Solve (A + diag(added))·x = right; returns 0, or 1 if the matrix is not positive definite (x is not written then).

A is the lower triangle of `matrix`, with rows `leading` doubles apart; it is not modified. */
int kanserve_cholesky_solve(int64_t size, const double *matrix, int64_t leading, const double *added,
    const double *right, double *x, double *work);

#endif
