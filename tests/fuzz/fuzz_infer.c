/* A message of ModelInfer as any client may send it: read, computed and answered. The answer must be protobuf. */

#define _GNU_SOURCE
#include <stdio.h>

#include "fuzz_models.h"
#include "protobuf.h"

static void check_message(const uint8_t *data, size_t length, int depth)
{
    proto_cursor cursor = {data, data + length};
    proto_field field;
    while (proto_next(&cursor, &field))
        if (field.type == WIRE_BYTES && field.number == 5 && depth < 1) check_message(field.data, field.length, depth + 1);
    if (cursor.at != cursor.end) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static model_table *table;
    static byte_buffer rows, predictions, indices, out;
    infer_request request;
    if (!table) table = fuzz_table();
    if (!infer_read(table, data, size, NULL, 0, &request)) return 0;
    const served_model *model = request.model;
    predictions.start = predictions.end = out.start = out.end = 0;
    const void *x = infer_rows(&request, &rows);
    void *y = buffer_room(&predictions, (size_t)(request.rows * model->outputs) * sizeof(double));
    if (!x || !y) return 0;
    predict_function predict = model->predict ? model->predict : predict_double;
    predict(x, (size_t)request.rows, (size_t)model->inputs, y, (size_t)model->outputs);
    int64_t outside = infer_outside(&request, &indices, model->counters + COUNT_OUTSIDE);
    infer_write(&request, y, outside, &indices, &out);
    if (out.failed) abort();
    check_message(buffer_begin(&out), buffer_length(&out), 0);
    return 0;
}
