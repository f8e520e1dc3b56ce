/* J'J of a sparse Jacobian whose rows are a few short windows, without computing or storing the zeros.

A row of the Jacobian of a Kolmogorov-Arnold network is zero except for the k + 1 active functions of each input of each
layer. If the coefficients of the splines from one input are in the order (function m, subnode o), their non-zeros are
one window of (k + 1)·O numbers that begins at column offset + m0·O, where m0 is the first active function. Such an
input is a *source*. Parameters that are never zero (base weights, biases, the residual itself) make a source whose
window always begins at the same column.

Usage: pass a source for each input of each layer, in the order of their columns, and the residual as a last source of
length 1. Then row P of the matrix is J'r, and the columns left of P are J'J. Derivatives of the network make windows
too: subnode o at function r has α_o·B_r + β_o·B'_r + γ_o·B''_r. Pass a few thousand rows at once, so that the windows
stay in the processor's cache. */
#ifndef KANSERVE_WINDOWS_H
#define KANSERVE_WINDOWS_H

#include <stdint.h>

typedef struct {
    const double *values; /* (rows, stride): the window of row n begins at values + n·stride */
    const int32_t *first; /* (rows,): it begins at column offset + first[n]·step; NULL: at column offset */
    int64_t stride;       /* a multiple of 8 */
    int64_t length;       /* numbers of a window; zeros follow up to the stride */
    int64_t step;
    int64_t positions;    /* first[n] is from 0 to positions - 1; 1 if first is NULL */
    int64_t offset;       /* columns of different sources do not overlap, and later sources have later columns */
} kanserve_source;

/* The size of `scratch` of kanserve_window_products, in int32_t. */
int64_t kanserve_window_scratch(int64_t rows, int64_t count, const kanserve_source *sources);

/* Add the products of the rows to the lower triangle of `matrix`, whose rows are `leading` doubles apart.

The part above the diagonal is undefined. The matrix needs 8 doubles after its last row: windows are written in whole
vectors, with zeros at their ends. Equal rows give equal bits. */
void kanserve_window_products(
    int64_t rows, int64_t count, const kanserve_source *sources, double *matrix, int64_t leading, int32_t *scratch);

/* Its two halves, to share them among threads.

`order` has rows + positions + 2 numbers: the rows sorted by the beginning of the source's windows, and after them the
start of each position among these rows. `own` is scratch for one pair, as long as the longest order. All pairs with the
same `below` must run on one thread, since a window's zeros overlap its neighbour's columns; if those of the last column
must not overlap the next row, choose a larger `leading`. */
void kanserve_window_order(int64_t rows, const kanserve_source *source, int32_t *order);
void kanserve_window_pair(int64_t rows, const kanserve_source *below, const kanserve_source *left,
    const int32_t *order_below, const int32_t *order_left, double *matrix, int64_t leading, int32_t *own);

#endif
