/* A Levenberg-Marquardt iteration on top of loss and normal equations: penalties, damping, the step. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "cholesky.h"
#include "dual.h"
#include "least_squares.h"

/* The first function within reach of function m. */
static int64_t reached(int64_t m)
{
    return m > KANSERVE_BEND_REACH ? m - KANSERVE_BEND_REACH : 0;
}

/* The smoothness penalty ½·c'·B·c of all splines of a bend; adds B·c to `gradient` unless it is NULL. */
static double bent(const kanserve_bend *bend, const double *vector, double *gradient)
{
    const int64_t count = bend->count, functions = bend->functions;
    double sum = 0;
    for (int64_t m = 0; m < functions; m++)
        for (int64_t other = reached(m); other < functions && other <= m + KANSERVE_BEND_REACH; other++) {
            const double factor = bend->matrix[m * functions + other];
            const double *left = vector + bend->offset + m * count, *right = vector + bend->offset + other * count;
            for (int64_t o = 0; o < count; o++) {
                sum += 0.5 * factor * left[o] * right[o];
                if (gradient != NULL)
                    gradient[bend->offset + m * count + o] += factor * right[o];
            }
        }
    return sum;
}

static double penalty(const kanserve_problem *problem, const double *vector, double *gradient)
{
    const kanserve_penalty *one = &problem->penalty;
    double sum = 0;
    for (int64_t p = 0; p < problem->size; p++) {
        const double moved = vector[p] - one->center[p];
        sum += one->ridge[p] * vector[p] * vector[p] + one->proximal * moved * moved;
        if (gradient != NULL)
            gradient[p] += one->ridge[p] * vector[p] + one->proximal * moved;
    }
    sum *= 0.5;
    for (int64_t b = 0; b < one->bends; b++)
        sum += bent(&one->bend[b], vector, gradient);
    return sum;
}

static void add_penalty(const kanserve_problem *problem, double *matrix, int64_t leading)
{
    const kanserve_penalty *one = &problem->penalty;
    for (int64_t p = 0; p < problem->size; p++)
        matrix[p * leading + p] += one->ridge[p] + one->proximal;
    for (int64_t b = 0; b < one->bends; b++) {
        const kanserve_bend *bend = &one->bend[b];
        for (int64_t m = 0; m < bend->functions; m++)
            for (int64_t other = reached(m); other <= m; other++)
                for (int64_t o = 0; o < bend->count; o++)
                    matrix[(bend->offset + m * bend->count + o) * leading + bend->offset + other * bend->count + o]
                        += bend->matrix[m * bend->functions + other];
    }
}

double kanserve_squares_penalty(const kanserve_problem *problem, const double *vector)
{
    return penalty(problem, vector, NULL);
}

/* Compute the diagonal of J'J plus the penalty, and J'r, from the rows of J. */
static void sum_rows(const kanserve_problem *problem, const double *matrix, double *gradient, double *diagonal)
{
    const kanserve_penalty *one = &problem->penalty;
    const int64_t size = problem->size, leading = kanserve_squares_leading(size);
    for (int64_t p = 0; p < size; p++)
        diagonal[p] = one->ridge[p] + one->proximal;
    for (int64_t b = 0; b < one->bends; b++) {
        const kanserve_bend *bend = &one->bend[b];
        for (int64_t m = 0; m < bend->functions; m++)
            for (int64_t o = 0; o < bend->count; o++)
                diagonal[bend->offset + m * bend->count + o] += bend->matrix[m * bend->functions + m];
    }
    for (int64_t n = 0; n < kanserve_squares_height(problem); n++) {
        const double *row = matrix + n * leading, residual = row[size];
        for (int64_t p = 0; p < size; p++) {
            diagonal[p] += row[p] * row[p];
            gradient[p] += row[p] * residual;
        }
    }
}

int kanserve_squares_linearise(
    const kanserve_problem *problem, const double *vector, double least_share, double *matrix, double *diagonal)
{
    const int64_t size = problem->size, leading = kanserve_squares_leading(size);
    double *gradient = matrix + kanserve_squares_height(problem) * leading;
    kanserve_squares_normal(problem, vector, matrix);
    if (problem->dual)
        sum_rows(problem, matrix, gradient, diagonal);
    else {
        add_penalty(problem, matrix, leading);
        for (int64_t p = 0; p < size; p++)
            diagonal[p] = matrix[p * leading + p];
    }
    penalty(problem, vector, gradient);
    double most = 0, finite = 0;
    int somewhere = 0;
    for (int64_t p = 0; p < size; p++) {
        const double d = diagonal[p];
        most = d > most ? d : most;
        finite += (d - d) + (gradient[p] - gradient[p]);
        somewhere |= gradient[p] != 0;
    }
    for (int64_t p = 0; p < size; p++)
        diagonal[p] = diagonal[p] > least_share * most ? diagonal[p] : least_share * most;
    return !(finite == 0 && somewhere);
}

int64_t kanserve_squares_step_work(const kanserve_problem *problem)
{
    const int64_t system = problem->dual ? kanserve_dual_work(problem) : kanserve_cholesky_work(problem->size);
    return system + 3 * problem->size;
}

/* Solve the damped equations for the change of the vector; returns 1 if there is no solution. */
static int solve(const kanserve_problem *problem, const double *vector, const double *matrix, const double *added,
    double *change, double *work)
{
    const int64_t size = problem->size, leading = kanserve_squares_leading(size);
    if (!problem->dual)
        return kanserve_cholesky_solve(size, matrix, leading, added, matrix + size * leading, change, work);
    double *slope = work;
    memset(slope, 0, (size_t)size * sizeof *slope);
    penalty(problem, vector, slope);
    return kanserve_dual_solve(problem, matrix, added, slope, change, work + size);
}

void kanserve_squares_step(const kanserve_problem *problem, const double *vector, const double *matrix,
    const double *diagonal, double damping, double *trial, double *results, double *work)
{
    const int64_t size = problem->size, leading = kanserve_squares_leading(size);
    const double *gradient = matrix + kanserve_squares_height(problem) * leading;
    double *added = work, *change = added + size;
    results[0] = INFINITY;
    results[1] = results[2] = 0;
    for (int64_t p = 0; p < size; p++)
        added[p] = damping * diagonal[p];
    if (solve(problem, vector, matrix, added, change, change + size))
        return;
    for (int64_t p = 0; p < size; p++) {
        results[2] += 0.5 * change[p] * (added[p] * change[p] + gradient[p]);
        trial[p] = vector[p] - change[p];
    }
    const double loss = kanserve_squares_loss(problem, trial);
    if (loss - loss == 0)
        results[0] = loss;
    results[1] = penalty(problem, trial, NULL);
}
