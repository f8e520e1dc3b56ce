/* The answer to an inference as JSON, with the outputs that were asked for as bytes after it. Numbers are written shortest
 * so that they read back to the same bits; what is not finite is null. */

#include "http1.h"

#include <stdio.h>
#include <yyjson.h>

enum {
    PART = 128,           /* numbers that are written at once */
    PART_BYTES = 1 << 14, /* more than they can take */
};

/* yyjson allocates a text once, and perhaps longer. */
typedef struct {
    _Alignas(16) char bytes[PART_BYTES];
    int taken;
} text_memory;

static void *take(void *context, size_t size)
{
    text_memory *memory = context;
    if (memory->taken || size > sizeof memory->bytes) return NULL;
    memory->taken = 1;
    return memory->bytes;
}

static void *grow(void *context, void *pointer, size_t before, size_t size)
{
    text_memory *memory = context;
    (void)before;
    return size > sizeof memory->bytes ? NULL : pointer;
}

static void drop(void *context, void *pointer)
{
    text_memory *memory = context;
    (void)pointer;
    memory->taken = 0;
}

/* At most PART numbers, with commas between them. */
static void add_some(const uint8_t *from, int single, size_t count, byte_buffer *to)
{
    text_memory memory;
    memory.taken = 0;
    yyjson_alc alc = {take, grow, drop, &memory};
    yyjson_val values[PART + 1];
    size_t length = 0;
    unsafe_yyjson_set_arr(values, count);
    values->uni.ofs = (count + 1) * sizeof *values;
    for (size_t i = 0; i < count; i++) {
        double value;
        if (single) {
            float number;
            memcpy(&number, from + i * sizeof number, sizeof number);
            value = number;
        } else {
            memcpy(&value, from + i * sizeof value, sizeof value);
        }
        unsafe_yyjson_set_real(values + 1 + i, value);
    }
    const char *text = yyjson_val_write_opts(values, YYJSON_WRITE_INF_AND_NAN_AS_NULL, &alc, &length, NULL);
    if (text && length >= 2)
        buffer_add(to, text + 1, length - 2); /* without the brackets */
    else
        to->failed = 1;
}

static void add_numbers(const infer_request *request, const void *y, int kind, byte_buffer *to)
{
    size_t size = request->single ? sizeof(float) : sizeof(double);
    size_t count = (size_t)(request->rows * request->model->outputs);
    size_t room = count * size + (size_t)(request->model->outputs + 1) * sizeof(double);
    _Alignas(8) uint8_t few[2048]; /* where they suffice, nothing is allocated */
    byte_buffer numbers = {0};
    if (room <= sizeof few) numbers = (byte_buffer){.data = few, .capacity = sizeof few};
    infer_numbers(request, y, kind, &numbers);
    to->failed |= numbers.failed;
    for (size_t at = 0; at < count && !to->failed; at += PART) {
        if (at) buffer_add_byte(to, ',');
        add_some(numbers.data + at * size, request->single, count - at < PART ? count - at : PART, to);
    }
    if (numbers.data != few) buffer_free(&numbers);
}

static void add_text(byte_buffer *to, const char *text)
{
    buffer_add(to, text, strlen(text));
}

#define ADD(to, literal) buffer_add(to, literal, sizeof literal - 1)

static void add_integer(byte_buffer *to, int64_t number)
{
    char text[24];
    size_t at = sizeof text;
    uint64_t left = (uint64_t)number;
    do text[--at] = (char)('0' + left % 10);
    while (left /= 10);
    buffer_add(to, text + at, sizeof text - at);
}

static size_t size_of_binary(const infer_request *request, const void *y, int kind)
{
    size_t size = 0;
    if (kind != OUTPUT_LABEL)
        return (size_t)(request->rows * request->model->outputs) * (request->single ? sizeof(float) : sizeof(double));
    for (int64_t row = 0; row < request->rows; row++) size += 4 + strlen(infer_label(request, y, row));
    return size;
}

static void add_labels(const infer_request *request, const void *y, int binary, byte_buffer *to)
{
    for (int64_t row = 0; row < request->rows; row++) {
        const char *label = infer_label(request, y, row);
        size_t length = strlen(label);
        if (binary) {
            uint8_t prefix[4] = {(uint8_t)length, (uint8_t)(length >> 8), (uint8_t)(length >> 16), (uint8_t)(length >> 24)};
            buffer_add(to, prefix, sizeof prefix);
            buffer_add(to, label, length);
        } else {
            if (row) buffer_add_byte(to, ',');
            add_json_text(to, label, length);
        }
    }
}

static void add_output(const infer_request *request, const void *y, int index, byte_buffer *to)
{
    int kind = request->outputs[index];
    ADD(to, "{\"name\":\"");
    add_text(to, OUTPUT_NAMES[kind]);
    ADD(to, "\",\"datatype\":\"");
    add_text(to, kind == OUTPUT_LABEL ? "BYTES" : request->single ? "FP32" : "FP64");
    ADD(to, "\",\"shape\":[");
    add_integer(to, request->rows);
    if (kind != OUTPUT_LABEL) {
        buffer_add_byte(to, ',');
        add_integer(to, request->model->outputs);
    }
    if (request->binary[index]) {
        ADD(to, "],\"parameters\":{\"binary_data_size\":");
        add_integer(to, (int64_t)size_of_binary(request, y, kind));
        ADD(to, "}}");
        return;
    }
    ADD(to, "],\"data\":[");
    if (kind == OUTPUT_LABEL)
        add_labels(request, y, 0, to);
    else
        add_numbers(request, y, kind, to);
    ADD(to, "]}");
}

void rest_write_rows(const infer_request *request, const void *y, int64_t outside, const byte_buffer *indices, byte_buffer *to)
{
    const served_model *model = request->model;
    int mixed = 0;
    response_begin(to);
    ADD(to, "{\"model_name\":\"");
    add_text(to, model->name);
    ADD(to, "\",\"model_version\":\"");
    add_integer(to, model->version);
    buffer_add_byte(to, '"');
    if (request->id_length) {
        ADD(to, ",\"id\":");
        add_json_text(to, (const char *)request->id, request->id_length);
    }
    ADD(to, ",\"parameters\":{\"outside_training_range\":");
    add_integer(to, outside);
    if (outside) {
        ADD(to, ",\"outside_rows\":\"");
        buffer_add(to, buffer_begin(indices), buffer_length(indices));
        buffer_add_byte(to, '"');
    }
    ADD(to, "},\"outputs\":[");
    for (int i = 0; i < request->output_count; i++) {
        if (i) buffer_add_byte(to, ',');
        add_output(request, y, i, to);
        mixed |= request->binary[i];
    }
    ADD(to, "]}");
    size_t json_length = buffer_length(to);
    for (int i = 0; i < request->output_count; i++) {
        if (!request->binary[i]) continue;
        if (request->outputs[i] == OUTPUT_LABEL)
            add_labels(request, y, 1, to);
        else
            infer_numbers(request, y, request->outputs[i], to);
    }
    response_head(to, json_length, mixed);
}
