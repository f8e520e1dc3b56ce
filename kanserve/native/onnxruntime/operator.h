/* Declarations shared by the operators and the chain of operators. */
#ifndef KANSERVE_OPERATOR_H
#define KANSERVE_OPERATOR_H

#include <onnxruntime_c_api.h>

#include "spline_layer.h"

typedef struct {
    const OrtApi *api;
    const char *name; /* the operator's */
    kanserve_prepared_float *in_float;
    kanserve_prepared_double *in_double;
    int64_t inputs, nodes;
} kanserve_kernel;

/* Compute y (rows, nodes) from x (rows, inputs); 1 if out of memory. */
int kanserve_compute_rows(const kanserve_kernel *own, int64_t rows, const void *x, void *y);

/* Record a new kernel, if this thread called kanserve_listen. */
void kanserve_register_kernel(const kanserve_kernel *made);

#endif
