/* The damped systems of least squares: symmetric, positive definite where they can be solved at all. See cholesky.c. */
#ifndef KANSERVE_CHOLESKY_H
#define KANSERVE_CHOLESKY_H

#include <stdint.h>

/* target[i][j] -= Σ_{p < depth} factors[i][p]·factors[j][p] for i < rows, j < columns and j ≤ i, perhaps some above.

Rows of both are `leading` doubles apart; `depth` is a multiple of 8. */
void kanserve_cholesky_subtract(
    int64_t rows, int64_t columns, int64_t depth, const double *factors, int64_t leading, double *target);

/* How many doubles `work` of kanserve_cholesky_solve must have. */
int64_t kanserve_cholesky_work(int64_t size);

/* Solve (A + diag(added))·x = right; 0, or 1 where the matrix is not positive definite (x is not written then).

A is the lower triangle of `matrix`, its rows `leading` doubles apart, and stays as it is. */
int kanserve_cholesky_solve(int64_t size, const double *matrix, int64_t leading, const double *added,
    const double *right, double *x, double *work);

#endif
