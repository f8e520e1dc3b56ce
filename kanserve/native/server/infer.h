/* ModelInfer of the Open Inference Protocol: from a message to rows, and from predictions to a message.
 *
 * It reads the usual requests, which are nearly all: one input "x" of FP64 or FP32, raw or typed, outputs by name, and
 * parameters that change nothing, such as binary_data_size. What is wrong or unusual is left to the general path, which
 * has the texts of the errors. Pure: no input or output. */

#ifndef KANSERVE_INFER_H
#define KANSERVE_INFER_H

#include "byte_buffer.h"
#include "served_models.h"

enum { OUTPUT_Y, OUTPUT_PROBABILITIES, OUTPUT_LABEL, OUTPUT_KINDS };

typedef struct {
    served_model *model;
    const uint8_t *values; /* the numbers, which may be misaligned */
    int64_t rows;
    int single; /* whether they are FP32; then the answer is too */
    int raw;    /* whether they came raw; then the answer is raw too */
    const uint8_t *id;
    size_t id_length;
    int outputs[OUTPUT_KINDS], output_count;
    /* For REST: whether an output follows the JSON as bytes, and nanoseconds to write a row of the others. */
    int binary[OUTPUT_KINDS];
    double writing;
} infer_request;

/* Read a request for one of the models: 1, or 0 if it is for the general path. `route`, or without it the id, chooses the
 * version where several answer. */
int infer_read(model_table *table, const uint8_t *message, size_t length, const uint8_t *route, size_t route_length,
               infer_request *request);

/* The rows as the model's type, in `scratch` if they must be converted; NULL without memory. */
const void *infer_rows(const infer_request *request, byte_buffer *scratch);

/* How many rows are outside the training range. If any are, `indices` gets the first of them as text, "0,3,17", and
 * outside[i], unless it is NULL, how many are outside in input i. */
int64_t infer_outside(const infer_request *request, byte_buffer *indices, int64_t *outside);

/* Count the values of one of the rows, another each time, in the bins of the training rows; on the loop's thread. */
void infer_count_inputs(const infer_request *request);

/* The numbers of an output, and the label of a row. */
void infer_numbers(const infer_request *request, const void *y, int kind, byte_buffer *to);
const char *infer_label(const infer_request *request, const void *y, int64_t row);
extern const char *const OUTPUT_NAMES[OUTPUT_KINDS];

/* Whether the model has the outputs that were asked for; all of them if none was. */
int infer_outputs(infer_request *request);

/* Add the ModelInferResponse for predictions y (rows, outputs) of the model's type; check to->failed afterwards. */
void infer_write(const infer_request *request, const void *y, int64_t outside, const byte_buffer *indices,
                 byte_buffer *to);

#endif
