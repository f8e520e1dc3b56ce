/* J'J of a Jacobian whose rows are a few short windows, without the work and the memory for the zeros between them.

A row of the Jacobian of a Kolmogorov-Arnold network is zero but for the k + 1 active functions of each input of each
layer. Put the coefficients of the splines from one input into the order (function m, subnode o), and what is not zero
of them is one window of (k + 1)·O numbers that begins at column offset + m0·O, m0 the first active function. Such an
input is a *source*; parameters that are never zero (base weights, biases, the residual itself) make a source whose
window always begins at the same column.

How to call it: a source for each input of each layer, in the order of their columns, and as the last column the
residual, as a source of length 1. Then row P of the matrix is J'r, and what is left of column P is J'J. Derivatives
of the network make windows just as well: subnode o at function r has α_o·B_r + β_o·B'_r + γ_o·B''_r.
Call it with some thousand rows at once: then the windows stay in the processor's cache. */
#ifndef KANSERVE_WINDOWS_H
#define KANSERVE_WINDOWS_H

#include <stdint.h>

typedef struct {
    const double *values; /* (rows, stride): the window of row n begins at values + n·stride */
    const int32_t *first; /* (rows,): it begins at column offset + first[n]·step; NULL: at column offset */
    int64_t stride;       /* a multiple of 8 */
    int64_t length;       /* how many numbers a window has; from there to the stride are zeros */
    int64_t step;
    int64_t positions;    /* first[n] is one of 0 .. positions - 1; 1 where first is NULL */
    int64_t offset;       /* columns of different sources do not overlap, and a later source has later columns */
} kanserve_source;

/* How many int32_t `scratch` of kanserve_window_products must have. */
int64_t kanserve_window_scratch(int64_t rows, int64_t count, const kanserve_source *sources);

/* Add the products of the rows to the lower triangle of `matrix`, row after row, `leading` doubles apart.

What is above the diagonal is no part of the result. The matrix needs 8 doubles behind its last row: windows are
written in whole vectors, with zeros at their ends. The same rows give the same bits. */
void kanserve_window_products(
    int64_t rows, int64_t count, const kanserve_source *sources, double *matrix, int64_t leading, int32_t *scratch);

/* The two halves of it, for who shares them among threads.

`order` has rows + positions + 2 numbers: the rows sorted by where the source's windows begin, and behind them where
each position begins among them. `own` is scratch of one pair, as long as the longest order. All pairs with the same
`below` belong to one thread, since a window's zeros fall on its neighbour's columns; where the last column's must not
fall into the next row, rows are farther apart. */
void kanserve_window_order(int64_t rows, const kanserve_source *source, int32_t *order);
void kanserve_window_pair(int64_t rows, const kanserve_source *below, const kanserve_source *left,
    const int32_t *order_below, const int32_t *order_left, double *matrix, int64_t leading, int32_t *own);

#endif
