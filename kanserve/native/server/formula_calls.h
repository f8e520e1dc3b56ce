/* Calls of kanserve.v1.FormulaService that are answered without Python: derivatives, and a formula that is known as bytes.
 *
 * As in infer.h, what is wrong or unusual is left to the general path. Pure: no input or output. */

#ifndef KANSERVE_FORMULA_CALLS_H
#define KANSERVE_FORMULA_CALLS_H

#include "byte_buffer.h"
#include "protobuf.h"
#include "served_models.h"

/* The model that a request names in its first two fields, and its last field 3, of which there are `thirds`; NULL if
 * there is no such model, and for a message that is none. */
served_model *read_model(const model_table *table, const uint8_t *message, size_t length, proto_field *third, int *thirds);

typedef struct {
    served_model *model;
    const uint8_t *values; /* the rows in double, which may be misaligned */
    int64_t rows;
} gradient_request;

/* Read a DifferentiateRequest for a model with derivatives in C: 1, or 0. */
int gradient_read(const model_table *table, const uint8_t *message, size_t length, gradient_request *request);

/* Add the DifferentiateResponse: 1; 0 without memory; -1 if a derivative is not finite, and `strict`. */
int gradient_write(const gradient_request *request, int strict, byte_buffer *scratch, byte_buffer *to);

#endif
