/* The body of an inference of REST, as any client may send it: read, computed and answered. The answer must be JSON, and
 * the bytes that it announces. The first byte chooses the model, the next two how long the JSON is. */

#include "http1.h"

#include <yyjson.h>

#include "fuzz_models.h"

static void check(byte_buffer *out)
{
    buffer_add_byte(out, 0); /* an end for the functions of texts */
    out->end--;
    const char *text = (const char *)buffer_begin(out), *length = strstr(text, "Content-Length: ");
    const char *body = memmem(text, buffer_length(out), "\r\n\r\n", 4);
    if (!length || !body) abort();
    body += 4;
    size_t size = buffer_length(out) - (size_t)(body - text);
    if (strtoull(length + 16, NULL, 10) != size) abort();
    const char *header = strstr(text, "Inference-Header-Content-Length: ");
    size_t json = header && header < body ? strtoull(header + 33, NULL, 10) : size;
    yyjson_doc *doc = json <= size ? yyjson_read(body, json, 0) : NULL;
    if (!doc) abort();
    yyjson_doc_free(doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const NAMES[] = {"raw", "iris", "single", "aside"};
    static model_table *table;
    static http1_server scratch;
    static byte_buffer rows, predictions, indices, out;
    infer_request request;
    if (!table) table = fuzz_table();
    if (size < 3) return 0;
    const char *name = NAMES[data[0] % 4];
    int64_t json = data[0] & 128 ? data[1] | data[2] << 8 : -1;
    served_model *model = table_find(table, (const uint8_t *)name, strlen(name), 0, 0);
    /* Where it lies it has an end, which reading must not pass. */
    uint8_t *body = malloc(size - 3);
    memcpy(body, data + 3, size - 3);
    if (rest_read(&scratch, model, body, size - 3, json, &request)) {
        predictions.start = predictions.end = out.start = out.end = 0;
        const void *x = infer_rows(&request, &rows);
        void *y = buffer_room(&predictions, (size_t)(request.rows * model->outputs) * sizeof(double));
        if (!x || !y) abort();
        predict_function predict = model->predict ? model->predict : predict_double;
        predict(x, (size_t)request.rows, (size_t)model->inputs, y, (size_t)model->outputs);
        int64_t outside = infer_outside(&request, &indices, model->counters + COUNT_OUTSIDE);
        rest_write_rows(&request, y, outside, &indices, &out);
        if (out.failed) abort();
        check(&out);
    }
    free(body);
    return 0;
}
