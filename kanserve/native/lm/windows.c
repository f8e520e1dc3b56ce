/* Products of windows (see windows.h) for each pair of sources, with the rows sorted by the beginnings of both windows.

Rows with the same two beginnings add to the same rectangle of the matrix, which then stays in registers. On fine grids,
where every row begins elsewhere, the order makes the matrix pass through the cache only once. */
#include "windows.h"

#include <stddef.h>
#include <string.h>

#include "../common/vectors.h"

#define W KANSERVE_WIDTH
#define MOST 4 /* rows of a tile */
#define COLUMNS (KANSERVE_WIDTH == 8 ? 4 : 3) /* vectors in each row, so that the sums fit into the registers */

typedef struct {
    const int32_t *rows;
    int64_t count;
} run;

KANSERVE_INLINE void tile(int height, int width, run one, const double *below, int64_t below_stride, const double *left,
    int64_t left_stride, double *target, int64_t leading)
{
    kanserve_wide sum[MOST][MOST];
#pragma GCC unroll 4
    for (int r = 0; r < height; r++)
#pragma GCC unroll 4
        for (int c = 0; c < width; c++)
            sum[r][c] = kanserve_load(target + r * leading + c * W);
    for (int64_t n = 0; n < one.count; n++) {
        const double *a = below + one.rows[n] * below_stride, *b = left + one.rows[n] * left_stride;
        kanserve_wide columns[MOST];
#pragma GCC unroll 4
        for (int c = 0; c < width; c++)
            columns[c] = kanserve_load(b + c * W);
#pragma GCC unroll 4
        for (int r = 0; r < height; r++)
#pragma GCC unroll 4
            for (int c = 0; c < width; c++)
                sum[r][c] += a[r] * columns[c];
    }
#pragma GCC unroll 4
    for (int r = 0; r < height; r++)
#pragma GCC unroll 4
        for (int c = 0; c < width; c++)
            kanserve_store(target + r * leading + c * W, sum[r][c]);
}

static void any_tile(int height, int width, run one, const double *below, int64_t below_stride, const double *left,
    int64_t left_stride, double *target, int64_t leading)
{
#define TILE(h, w) \
    case MOST * (h) + (w): \
        tile(h, w, one, below, below_stride, left, left_stride, target, leading); \
        break;
#define TILES(h) TILE(h, 1) TILE(h, 2) TILE(h, 3) TILE(h, 4)
    switch (MOST * height + width) {
        TILES(1) TILES(2) TILES(3) TILES(4)
    }
#undef TILES
#undef TILE
}

/* Add the products of one run's rows to the rectangle at `target`; only the lower triangle for a source with itself. */
static void rectangle(
    run one, const kanserve_source *below, const kanserve_source *left, double *target, int64_t leading)
{
    const int64_t length = below->length;
    for (int64_t r = 0; r < length; r += MOST) {
        const int height = length - r < MOST ? (int)(length - r) : MOST;
        const int64_t columns = below == left ? r + height : left->length;
        int64_t vectors = (columns + W - 1) / W;
        for (int64_t c = 0; vectors > 0;) {
            /* Five vectors are three and two, not four and one: a narrow tile loads as many rows as a wide one. */
            const int width = (int)(vectors >= 2 * COLUMNS ? COLUMNS : vectors > COLUMNS ? (vectors + 1) / 2 : vectors);
            any_tile(height, width, one, below->values + r, below->stride, left->values + c, left->stride,
                target + r * leading + c, leading);
            vectors -= width;
            c += width * W;
        }
    }
}

void kanserve_window_order(int64_t rows, const kanserve_source *source, int32_t *order)
{
    const int32_t *first = source->first;
    int32_t *starts = order + rows;
    memset(starts, 0, (size_t)(source->positions + 2) * sizeof *starts);
    if (first == NULL) {
        for (int64_t n = 0; n < rows; n++)
            order[n] = (int32_t)n;
        return;
    }
    /* Shifted by one place: the loop below moves a position's start to its end, where the next one starts. */
    for (int64_t n = 0; n < rows; n++)
        starts[first[n] + 2]++;
    for (int64_t p = 2; p <= source->positions; p++)
        starts[p] += starts[p - 1];
    for (int64_t n = 0; n < rows; n++)
        order[starts[first[n] + 1]++] = (int32_t)n;
}

void kanserve_window_pair(int64_t rows, const kanserve_source *below, const kanserve_source *left,
    const int32_t *order_below, const int32_t *order_left, double *matrix, int64_t leading, int32_t *own)
{
    const int32_t *first = below->first, *left_first = left->first, *order = order_left;
    if (first != NULL && left_first == NULL)
        order = order_below;
    else if (first != NULL && below != left) {
        int32_t *starts = own + rows;
        memcpy(starts, order_below + rows, (size_t)below->positions * sizeof *starts);
        for (int64_t n = 0; n < rows; n++)
            own[starts[first[order_left[n]]]++] = order_left[n];
        order = own;
    }
    for (int64_t n = 0, stop; n < rows; n = stop) {
        const int32_t i = first == NULL ? 0 : first[order[n]], j = left_first == NULL ? 0 : left_first[order[n]];
        stop = first == NULL && left_first == NULL ? rows : n + 1;
        while (stop < rows && (first == NULL || first[order[stop]] == i)
            && (left_first == NULL || left_first[order[stop]] == j))
            stop++;
        double *target = matrix + (below->offset + i * below->step) * leading + left->offset + j * left->step;
        rectangle((run){order + n, stop - n}, below, left, target, leading);
    }
}

static int64_t order_numbers(int64_t rows, int64_t count, const kanserve_source *sources)
{
    int64_t most = 1;
    for (int64_t s = 0; s < count; s++)
        if (sources[s].positions > most)
            most = sources[s].positions;
    return rows + most + 2;
}

int64_t kanserve_window_scratch(int64_t rows, int64_t count, const kanserve_source *sources)
{
    return order_numbers(rows, count, sources) * (count + 1);
}

void kanserve_window_products(
    int64_t rows, int64_t count, const kanserve_source *sources, double *matrix, int64_t leading, int32_t *scratch)
{
    const int64_t numbers = order_numbers(rows, count, sources);
    for (int64_t s = 0; s < count; s++)
        kanserve_window_order(rows, &sources[s], scratch + s * numbers);
    for (int64_t below = 0; below < count; below++)
        for (int64_t left = 0; left <= below; left++)
            kanserve_window_pair(rows, &sources[below], &sources[left], scratch + below * numbers,
                scratch + left * numbers, matrix, leading, scratch + count * numbers);
}
