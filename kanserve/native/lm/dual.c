/* A damped step by a system of the size of the residuals instead of the parameters (Woodbury identity).

Λ = L·D·L' is diagonal except for the smoothness penalty of the splines. With Z = J·L'⁻¹·D^(-½) and y = D^(-½)·L⁻¹·slope
the step is L'⁻¹·D^(-½)·(y + Z'·w), where (I + Z·Z')·w = r - Z·y. The usual form of the identity, with J'r on the right,
suffers cancellation when the damping is weak. */
#include "dual.h"

#include <math.h>
#include <string.h>

#include "cholesky.h"
#include "../common/vectors.h"

/* The factors of Λ: L has ones on its diagonal, and lower[d - 1] are its entries for the d-th function of the spline
before, which is d·`count` numbers earlier. */
typedef struct {
    double *root; /* D^(-½) */
    double *lower[KANSERVE_BEND_REACH];
} factors;

/* The leading dimension of the rows of Z, each followed by a row of Z·Z'. */
static int64_t own_leading(const kanserve_problem *problem)
{
    return kanserve_leading(kanserve_padded(problem->size) + kanserve_squares_height(problem));
}

int64_t kanserve_dual_work(const kanserve_problem *problem)
{
    const int64_t count = kanserve_squares_height(problem);
    return count * own_leading(problem) + (2 + KANSERVE_BEND_REACH) * problem->size + 3 * count
        + kanserve_cholesky_work(count) + KANSERVE_PADDING;
}

static int64_t reach(int64_t m)
{
    return m < KANSERVE_BEND_REACH ? m : KANSERVE_BEND_REACH;
}

/* The row of L of the parameter p, of function m, and its pivot, which is in `root`. */
static void factorise_row(factors one, const kanserve_bend *bend, int64_t m, int64_t p)
{
    const double *row = bend->matrix + m * bend->functions;
    double *pivot = one.root;
    double products[KANSERVE_BEND_REACH]; /* of the entries of L with their pivots */
    pivot[p] += row[m];
    for (int64_t d = reach(m); d >= 1; d--) {
        double product = row[m - d];
        for (int64_t e = d + 1; e <= reach(m); e++)
            product -= products[e - 1] * one.lower[e - d - 1][p - d * bend->count];
        products[d - 1] = product;
        one.lower[d - 1][p] = product / pivot[p - d * bend->count];
        pivot[p] -= product * one.lower[d - 1][p];
    }
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
        for (int64_t m = 0; m < bend->functions; m++)
            for (int64_t p = bend->offset + m * count; p < bend->offset + (m + 1) * count; p++)
                factorise_row(one, bend, m, p);
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
                for (int64_t d = 1; d <= reach(m); d++)
                    z[p] -= one.lower[d - 1][p] * z[p - d * count];
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
            for (int64_t p = bend->offset + m * count; p < bend->offset + (m + 1) * count; p++)
                for (int64_t d = 1; d <= reach(m); d++)
                    z[p - d * count] -= one.lower[d - 1][p] * z[p];
    }
}

int kanserve_dual_solve(const kanserve_problem *problem, const double *rows, const double *added, const double *slope,
    double *x, double *work)
{
    const int64_t size = problem->size, count = kanserve_squares_height(problem), depth = kanserve_padded(size);
    const int64_t leading = own_leading(problem), given = kanserve_squares_leading(size);
    double *z = work, *products = z + depth, *y = z + count * leading;
    factors one = {.root = y + size};
    for (int64_t d = 0; d < KANSERVE_BEND_REACH; d++)
        one.lower[d] = y + (2 + d) * size;
    double *right = y + (2 + KANSERVE_BEND_REACH) * size, *ones = right + count, *w = ones + count;
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
