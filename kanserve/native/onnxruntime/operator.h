/* What the operators and the chain of them share. */
#ifndef KANSERVE_OPERATOR_H
#define KANSERVE_OPERATOR_H

#include <onnxruntime_c_api.h>

#include "spline_layer.h"

typedef struct {
    const OrtApi *api;
    const char *name; /* of the operator */
    kanserve_prepared_float *in_float;
    kanserve_prepared_double *in_double;
    int64_t inputs, nodes;
} kanserve_kernel;

/* y (rows, nodes) of x (rows, inputs); 1 without enough memory. */
int kanserve_compute_rows(const kanserve_kernel *own, int64_t rows, const void *x, void *y);

/* Note a kernel that has just been made, where this thread asked for that. */
void kanserve_register_kernel(const kanserve_kernel *made);

#endif
