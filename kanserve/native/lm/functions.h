/* The named functions of kanserve/network/functions.py, by their position in its table. See functions.c. */
#ifndef KANSERVE_FUNCTIONS_H
#define KANSERVE_FUNCTIONS_H

#include <stdint.h>

/* The numbers of x^exponent: for x >= 0 only, and for all x as an even or an odd function. See powers.py. */
enum { KANSERVE_POWER = -1, KANSERVE_EVEN_POWER = -2, KANSERVE_ODD_POWER = -3 };

/* f and, unless `slopes` is NULL, f' at `count` arguments; NaN or an infinity outside the domain. A slope is 0 where it
is infinite, as of a root at 0, so that one row does not end a fit. The exponent is that of a power, else unused. */
void kanserve_named_function(
    int64_t number, double exponent, int64_t count, const double *arguments, double *values, double *slopes);

/* x·sigmoid(x) and, unless `slopes` is NULL, its derivative. */
void kanserve_rows_silu(int64_t count, const double *x, double *values, double *slopes);

#endif
