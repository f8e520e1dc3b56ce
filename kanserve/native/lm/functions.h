/* The named functions of kanserve/network/functions.py, by their position in its table. See functions.c. */
#ifndef KANSERVE_FUNCTIONS_H
#define KANSERVE_FUNCTIONS_H

#include <stdint.h>

/* f and, unless `slopes` is NULL, f' at `count` arguments; NaN or an infinity outside the domain. */
void kanserve_named_function(int64_t number, int64_t count, const double *arguments, double *values, double *slopes);

/* x·sigmoid(x) and, unless `slopes` is NULL, its derivative. */
void kanserve_rows_silu(int64_t count, const double *x, double *values, double *slopes);

#endif
