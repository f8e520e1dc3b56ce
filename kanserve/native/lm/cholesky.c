/* Blocked Cholesky factorisation of a row-major lower triangle, one block of columns at a time.

In a block, L[i][j] = (A[i][j] - Σ_p L[i][p]·L[j][p]) / L[j][j]. The sum over the columns before the block is nearly all
of the work: products of pairs of rows, which are contiguous in memory. */
#include "cholesky.h"

#include <math.h>
#include <string.h>

#include "../common/vectors.h"

#define W KANSERVE_WIDTH
#define BLOCK 64 /* columns of a block, which stays in the cache while the rows below are processed */
#define DEPTH 512 /* columns before the block that are summed at once */
#define COLUMNS 4
#define ROWS (KANSERVE_WIDTH == 8 ? 4 : 3) /* so that the sums fit into the registers */
#define SIDE 8 /* rows that are divided by a triangle at once */

KANSERVE_INLINE void subtract(int height, int width, int64_t depth, const double *rows, const double *columns,
    int64_t leading, double *target)
{
    kanserve_wide sum[4][COLUMNS];
#pragma GCC unroll 4
    for (int r = 0; r < height; r++)
#pragma GCC unroll 4
        for (int c = 0; c < width; c++)
            sum[r][c] = (kanserve_wide){0};
    for (int64_t p = 0; p < depth; p += W) {
        kanserve_wide own[4];
#pragma GCC unroll 4
        for (int r = 0; r < height; r++)
            own[r] = kanserve_load(rows + r * leading + p);
#pragma GCC unroll 4
        for (int c = 0; c < width; c++) {
            const kanserve_wide column = kanserve_load(columns + c * leading + p);
#pragma GCC unroll 4
            for (int r = 0; r < height; r++)
                sum[r][c] += own[r] * column;
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < height; r++)
#pragma GCC unroll 4
        for (int c = 0; c < width; c++)
            target[r * leading + c] -= kanserve_total(sum[r][c]);
}

static void any_subtract(int height, int width, int64_t depth, const double *rows, const double *columns,
    int64_t leading, double *target)
{
    if (height == ROWS && width == COLUMNS)
        subtract(ROWS, COLUMNS, depth, rows, columns, leading, target);
    else if (width == COLUMNS)
        for (int r = 0; r < height; r++)
            subtract(1, COLUMNS, depth, rows + r * leading, columns, leading, target + r * leading);
    else
        for (int r = 0; r < height; r++)
            for (int c = 0; c < width; c++)
                subtract(1, 1, depth, rows + r * leading, columns + c * leading, leading, target + r * leading + c);
}

void kanserve_cholesky_subtract(
    int64_t rows, int64_t columns, int64_t depth, const double *factors, int64_t leading, double *target)
{
    for (int64_t p = 0; p < depth; p += DEPTH) {
        const int64_t deep = depth - p < DEPTH ? depth - p : DEPTH;
        for (int64_t i = 0; i < rows; i += ROWS) {
            const int height = rows - i < ROWS ? (int)(rows - i) : ROWS;
            const int64_t last = i + height < columns ? i + height : columns;
            for (int64_t j = 0; j < last; j += COLUMNS) {
                const int width = columns - j < COLUMNS ? (int)(columns - j) : COLUMNS;
                any_subtract(height, width, deep, factors + i * leading + p, factors + j * leading + p, leading,
                    target + i * leading + j);
            }
        }
    }
}

/* A[i][j] -= Σ_{from ≤ p < to} L[i][p]·L[j][p] for j in [begin, end) and i in [begin, size). */
static void update(double *a, int64_t leading, int64_t size, int64_t begin, int64_t end, int64_t from, int64_t to)
{
    kanserve_cholesky_subtract(size - begin, end - begin, to - from, a + begin * leading + from, leading,
        a + begin * leading + begin);
}

/* Factorise the square at [begin, end); returns 1 if it is not positive definite. */
static int factor(double *a, int64_t leading, int64_t begin, int64_t end)
{
    for (int64_t j = begin; j < end; j++) {
        double *row = a + j * leading;
        for (int64_t i = begin; i <= j; i++) {
            const double *other = a + i * leading;
            double sum = row[i];
            for (int64_t p = begin; p < i; p++)
                sum -= row[p] * other[p];
            if (i < j)
                row[i] = sum / other[i];
            else if (sum > 0 && sum <= 1.79e308)
                row[i] = sqrt(sum);
            else
                return 1;
        }
    }
    return 0;
}

/* Divide the rows from `end` on, in the columns [begin, end), by the triangle there. */
static void divide(double *a, int64_t leading, int64_t size, int64_t begin, int64_t end)
{
    const int64_t width = end - begin;
    double columns[SIDE][SIDE]; /* SIDE rows transposed, so that all are divided at once */
    for (int64_t i = end; i < size; i += SIDE) {
        const int64_t height = size - i < SIDE ? size - i : SIDE;
        for (int64_t r = 0; r < SIDE; r++)
            for (int64_t c = 0; c < width; c++)
                columns[c][r] = r < height ? a[(i + r) * leading + begin + c] : 0;
        for (int64_t c = 0; c < width; c++) {
            const double *triangle = a + (begin + c) * leading + begin;
            for (int64_t p = 0; p < c; p++)
                for (int64_t r = 0; r < SIDE; r++)
                    columns[c][r] -= triangle[p] * columns[p][r];
            const double inverse = 1 / triangle[c];
            for (int64_t r = 0; r < SIDE; r++)
                columns[c][r] *= inverse;
        }
        for (int64_t r = 0; r < height; r++)
            for (int64_t c = 0; c < width; c++)
                a[(i + r) * leading + begin + c] = columns[c][r];
    }
}

static int decompose(double *a, int64_t leading, int64_t size)
{
    for (int64_t block = 0; block < size; block += BLOCK) {
        const int64_t stop = size - block < BLOCK ? size : block + BLOCK;
        update(a, leading, size, block, stop, 0, block);
        for (int64_t begin = block; begin < stop; begin += SIDE) {
            const int64_t end = stop - begin < SIDE ? stop : begin + SIDE;
            if (begin > block)
                update(a, leading, size, begin, end, block, begin);
            if (factor(a, leading, begin, end))
                return 1;
            divide(a, leading, size, begin, end);
        }
    }
    return 0;
}

int64_t kanserve_cholesky_work(int64_t size)
{
    return size * kanserve_leading(size) + KANSERVE_PADDING;
}

int kanserve_cholesky_solve(int64_t size, const double *matrix, int64_t leading, const double *added,
    const double *right, double *x, double *work)
{
    const int64_t own = kanserve_leading(size);
    for (int64_t i = 0; i < size; i++) {
        memcpy(work + i * own, matrix + i * leading, (size_t)(i + 1) * sizeof *work);
        work[i * own + i] += added[i];
    }
    if (decompose(work, own, size))
        return 1;
    for (int64_t i = 0; i < size; i++) {
        double sum = right[i];
        for (int64_t p = 0; p < i; p++)
            sum -= work[i * own + p] * x[p];
        x[i] = sum / work[i * own + i];
    }
    for (int64_t i = size - 1; i >= 0; i--) {
        const double value = x[i] /= work[i * own + i];
        for (int64_t p = 0; p < i; p++)
            x[p] -= work[i * own + p] * value;
    }
    return 0;
}
