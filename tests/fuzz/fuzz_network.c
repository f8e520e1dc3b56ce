/* An exported network on any doubles: no fault, and what a row gives does not depend on the rows beside it. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "network.h"

enum { ROWS = 16, STRIDE = 1 };

static int same(const double *one, const double *other, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!(one[i] == other[i] || (isnan(one[i]) && isnan(other[i])))) return 0;
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { X = network_N_IN + STRIDE, Y = network_N_OUT + STRIDE, D = network_N_OUT * network_N_IN + STRIDE };
    double x[ROWS * X] = {0}, y[ROWS * Y], slopes[ROWS * D], alone[network_N_OUT], row_slopes[network_N_OUT * network_N_IN];
    size_t rows = size / (network_N_IN * sizeof *x);
    if (rows > ROWS) rows = ROWS;
    for (size_t r = 0; r < rows; r++) memcpy(x + r * X, data + r * network_N_IN * sizeof *x, network_N_IN * sizeof *x);
    network_predict_batch(x, rows, X, y, Y);
    for (size_t r = 0; r < rows; r++) {
        int code = network_predict(x + r * X, alone);
        if (!same(alone, y + r * Y, network_N_OUT)) abort();
        for (size_t j = 0; j < network_N_OUT; j++)
            if (isfinite(alone[j]) != (code == network_OK)) abort();
        network_gradient(x + r * X, row_slopes);
    }
    network_gradient_batch(x, rows, X, y, Y, slopes, D);
    return 0;
}
