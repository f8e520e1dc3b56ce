/* A damped step by a system of the size of the residuals instead of the parameters (Woodbury identity).

Λ = L·D·L' is diagonal except for the smoothness penalty of the splines. With Z = J·L'⁻¹·D^(-½) and y = D^(-½)·L⁻¹·slope
the step is L'⁻¹·D^(-½)·(y + Z'·w), where (I + Z·Z')·w = r - Z·y. The usual form of the identity, with J'r on the right,
suffers cancellation when the damping is weak. */
#include "dual.h"

#include <math.h>
#include <string.h>

#include "cholesky.h"
#include "../common/vectors.h"

/* The factors of Λ: L has ones on its diagonal, and `near` and `far` are its entries for the previous function of the
spline and the one before, which are `count` and 2·`count` numbers earlier. */
typedef struct {
    double *root; /* D^(-½) */
    double *near, *far;
} factors;

/* The leading dimension of the rows of Z, each followed by a row of Z·Z'. */
static int64_t own_leading(const kanserve_problem *problem)
{
    return kanserve_leading(kanserve_padded(problem->size) + kanserve_squares_height(problem));
}

int64_t kanserve_dual_work(const kanserve_problem *problem)
{
    const int64_t count = kanserve_squares_height(problem);
    return count * own_leading(problem) + 4 * problem->size + 3 * count + kanserve_cholesky_work(count)
        + KANSERVE_PADDING;
}

static int factorise(const kanserve_problem *problem, const double *added, factors one)
{
    const kanserve_penalty *penalty = &problem->penalty;
    double *pivot = one.root;
    for (int64_t p = 0; p < problem->size; p++)
        pivot[p] = penalty->ridge[p] + penalty->proximal + added[p];
    for (int64_t b = 0; b < penalty->bends; b++) {
        const kanserve_bend *bend = &penalty->bend[b];
        const int64_t count = bend->count;
        for (int64_t m = 0; m < bend->functions; m++) {
            const double *row = bend->matrix + m * bend->functions;
            for (int64_t p = bend->offset + m * count; p < bend->offset + (m + 1) * count; p++) {
                double beside = m < 1 ? 0 : row[m - 1];
                pivot[p] += row[m];
                if (m >= 2) {
                    one.far[p] = row[m - 2] / pivot[p - 2 * count];
                    beside -= row[m - 2] * one.near[p - count];
                    pivot[p] -= row[m - 2] * one.far[p];
                }
                if (m >= 1) {
                    one.near[p] = beside / pivot[p - count];
                    pivot[p] -= beside * one.near[p];
                }
            }
        }
    }
    int failed = 0;
    for (int64_t p = 0; p < problem->size; p++) {
        failed |= !(pivot[p] > 0 && pivot[p] - pivot[p] == 0);
        one.root[p] = 1 / sqrt(pivot[p]);
    }
    return failed;
}

/* z = D^(-½)·L⁻¹·z */
static void forwards(const kanserve_problem *problem, factors one, double *z)
{
    for (int64_t b = 0; b < problem->penalty.bends; b++) {
        const kanserve_bend *bend = &problem->penalty.bend[b];
        const int64_t count = bend->count;
        for (int64_t m = 1; m < bend->functions; m++)
            for (int64_t p = bend->offset + m * count; p < bend->offset + (m + 1) * count; p++)
                z[p] -= one.near[p] * z[p - count] + (m < 2 ? 0 : one.far[p] * z[p - 2 * count]);
    }
    for (int64_t p = 0; p < problem->size; p++)
        z[p] *= one.root[p];
}

/* z = L'⁻¹·D^(-½)·z */
static void backwards(const kanserve_problem *problem, factors one, double *z)
{
    for (int64_t p = 0; p < problem->size; p++)
        z[p] *= one.root[p];
    for (int64_t b = 0; b < problem->penalty.bends; b++) {
        const kanserve_bend *bend = &problem->penalty.bend[b];
        const int64_t count = bend->count;
        for (int64_t m = bend->functions - 1; m >= 1; m--)
            for (int64_t p = bend->offset + m * count; p < bend->offset + (m + 1) * count; p++) {
                z[p - count] -= one.near[p] * z[p];
                if (m >= 2)
                    z[p - 2 * count] -= one.far[p] * z[p];
            }
    }
}

int kanserve_dual_solve(const kanserve_problem *problem, const double *rows, const double *added, const double *slope,
    double *x, double *work)
{
    const int64_t size = problem->size, count = kanserve_squares_height(problem), depth = kanserve_padded(size);
    const int64_t leading = own_leading(problem), given = kanserve_squares_leading(size);
    double *z = work, *products = z + depth, *y = z + count * leading;
    factors one = {y + size, y + 2 * size, y + 3 * size};
    double *right = y + 4 * size, *ones = right + count, *w = ones + count;
    if (factorise(problem, added, one))
        return 1;
    memcpy(y, slope, (size_t)size * sizeof *y);
    forwards(problem, one, y);
    memset(z, 0, (size_t)(count * leading) * sizeof *z);
    for (int64_t n = 0; n < count; n++) {
        double *own = z + n * leading;
        memcpy(own, rows + n * given, (size_t)size * sizeof *own);
        forwards(problem, one, own);
        right[n] = rows[n * given + size];
        for (int64_t p = 0; p < size; p++)
            right[n] -= own[p] * y[p];
        ones[n] = 1;
    }
    kanserve_cholesky_subtract(count, count, depth, z, leading, products);
    for (int64_t n = 0; n < count; n++)
        for (int64_t other = 0; other <= n; other++)
            products[n * leading + other] = -products[n * leading + other];
    if (kanserve_cholesky_solve(count, products, leading, ones, right, w, w + count))
        return 1;
    for (int64_t n = 0; n < count; n++)
        for (int64_t p = 0; p < size; p++)
            y[p] += w[n] * z[n * leading + p];
    backwards(problem, one, y);
    memcpy(x, y, (size_t)size * sizeof *x);
    return 0;
}
