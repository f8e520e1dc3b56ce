/* What an edge server knows of its model: the file edge_model.c, which `kanserve export --to edge-server` writes. */

#ifndef KANSERVE_EDGE_MODEL_H
#define KANSERVE_EDGE_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "served_models.h"

/* A call whose answer is always the same; a call that is not among them is computed. `format` is that of a GetFormula
 * request which asks for one format, else NULL. */
typedef struct {
    const char *path, *format;
    const uint8_t *data;
    size_t length;
} edge_answer;

typedef struct {
    const char *name, *version, *digest; /* of the model; the first digits of its network's SHA-256 */
    int inputs, outputs, single, classes;
    const char *labels; /* as those of `served_model` */
    const double *low, *high;
    const float *low_single, *high_single;
    const uint8_t *encodings; /* as those of `served_model` */
    int64_t max_rows, max_gradient_rows;
    predict_function predict;
    gradient_function gradient;
    int (*selftest)(double *error); /* 0 if the golden rows come out right */
    const edge_answer *answers;
    size_t answer_count;
} edge_model;

extern const edge_model kanserve_edge_model;

#endif
