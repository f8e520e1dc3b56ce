#include "infer.h"

#include <math.h>
#include <stdio.h>

#include "infer_parameters.h"
#include "protobuf.h"

enum {
    MOST_NAMED = 100,         /* rows outside the training range */
    MOST_DESCRIPTION = 65536, /* bytes of a message without its numbers, as in message_limits.py */
};

const char *const OUTPUT_NAMES[OUTPUT_KINDS] = {"y", "probabilities", "label"};

static int is(const proto_field *field, const char *text)
{
    return field->length == strlen(text) && memcmp(field->data, text, field->length) == 0;
}

typedef struct {
    const uint8_t *values;
    size_t length;
    int single, typed, shapes;
    uint64_t shape[2];
} input_tensor;

static int read_contents(proto_field *contents, input_tensor *input)
{
    proto_cursor cursor = {contents->data, contents->data + contents->length};
    proto_field field;
    if (!proto_next(&cursor, &field) || cursor.at != cursor.end) return 0; /* exactly one field */
    if (field.type != WIRE_BYTES || field.number != (input->single ? 6u : 7u)) return 0;
    input->values = field.data;
    input->length = field.length;
    input->typed = 1;
    return 1;
}

static int read_shape(proto_field *shape, input_tensor *input)
{
    proto_cursor cursor = {shape->data, shape->data + shape->length};
    if (!proto_varint(&cursor, &input->shape[0]) || !proto_varint(&cursor, &input->shape[1])) return 0;
    input->shapes++;
    return cursor.at == cursor.end;
}

static int read_input(proto_field *message, input_tensor *input)
{
    proto_cursor cursor = {message->data, message->data + message->length};
    proto_field field, contents = {0};
    int names = 0, types = 0;
    while (proto_next(&cursor, &field)) {
        if (field.type != WIRE_BYTES) return 0;
        switch (field.number) {
        case 1:
            if (!is(&field, "x") || names++) return 0;
            break;
        case 2:
            if (types++ || !(is(&field, "FP64") || is(&field, "FP32"))) return 0;
            input->single = field.data[3] == '2';
            break;
        case 3:
            if (input->shapes || !read_shape(&field, input)) return 0;
            break;
        case 4:
            if (!parameter_is_ignored(&field, PARAMETERS_OF_INPUT)) return 0;
            break;
        case 5:
            if (contents.data) return 0;
            contents = field;
            break;
        default: return 0;
        }
    }
    if (!cursor.at || names != 1 || types != 1 || input->shapes != 1) return 0;
    return !contents.data || read_contents(&contents, input);
}

static int read_output(proto_field *message, infer_request *request)
{
    proto_cursor cursor = {message->data, message->data + message->length};
    proto_field field;
    int wanted = -1;
    while (proto_next(&cursor, &field)) {
        if (field.type != WIRE_BYTES) return 0;
        if (field.number == 2 && parameter_is_ignored(&field, PARAMETERS_OF_OUTPUT)) continue;
        if (field.number != 1 || wanted >= 0) return 0;
        for (int kind = 0; kind < OUTPUT_KINDS; kind++)
            if (is(&field, OUTPUT_NAMES[kind])) wanted = kind;
        if (wanted < 0) return 0;
    }
    if (!cursor.at || wanted < 0 || request->output_count >= OUTPUT_KINDS) return 0;
    for (int i = 0; i < request->output_count; i++)
        if (request->outputs[i] == wanted) return 0;
    request->outputs[request->output_count++] = wanted;
    return 1;
}

int infer_outputs(infer_request *request)
{
    if (request->output_count)
        return request->model->classes || (request->output_count == 1 && request->outputs[0] == OUTPUT_Y);
    int known = request->model->classes ? OUTPUT_KINDS : 1;
    for (; request->output_count < known; request->output_count++)
        request->outputs[request->output_count] = request->output_count;
    return 1;
}

int infer_read(model_table *table, const uint8_t *message, size_t length, const uint8_t *route, size_t route_length,
               infer_request *request)
{
    proto_cursor cursor = {message, length ? message + length : message};
    proto_field field, name = {0}, raw = {0};
    input_tensor input = {0};
    int64_t version = 0;
    int seen = 0, versions = 0, inputs = 0;
    memset(request, 0, sizeof *request);
    while (proto_next(&cursor, &field)) {
        if (field.type != WIRE_BYTES) return 0;
        switch (field.number) {
        case 1:
            if (seen++) return 0;
            name = field;
            break;
        case 2:
            if (versions++ || !table_version(field.data, field.length, &version)) return 0;
            break;
        case 3:
            if (request->id || !proto_is_utf8(field.data, field.length)) return 0;
            request->id = field.data;
            request->id_length = field.length;
            break;
        case 4:
            if (!parameter_is_ignored(&field, NULL)) return 0;
            break;
        case 5:
            if (inputs++ || !read_input(&field, &input)) return 0;
            break;
        case 6:
            if (!read_output(&field, request)) return 0;
            break;
        case 7:
            if (raw.data) return 0;
            raw = field;
            break;
        default: return 0;
        }
    }
    if (!cursor.at || seen != 1 || inputs != 1) return 0;
    int64_t drawn = route_length ? table_draw(table, route, route_length) : table_draw(table, request->id, request->id_length);
    served_model *model = table_find(table, name.data, name.length, version, drawn);
    if (!model) return 0;
    if (raw.data) {
        if (input.typed) return 0;
        input.values = raw.data;
        input.length = raw.length;
    } else if (!input.typed) {
        return 0;
    }
    uint64_t size = input.single ? sizeof(float) : sizeof(double);
    if (input.shape[1] != (uint64_t)model->inputs || input.shape[0] == 0 || input.shape[0] > (uint64_t)model->max_rows)
        return 0;
    if (length - input.length > MOST_DESCRIPTION) return 0;
    if (input.length != input.shape[0] * input.shape[1] * size) return 0;
    request->model = model;
    if (!infer_outputs(request)) return 0;
    request->values = input.values;
    request->rows = (int64_t)input.shape[0];
    request->single = input.single;
    request->raw = raw.data != NULL;
    return 1;
}

const void *infer_rows(const infer_request *request, byte_buffer *scratch)
{
    size_t size = request->single ? sizeof(float) : sizeof(double);
    size_t count = (size_t)request->rows * (size_t)request->model->inputs;
    int same = request->single == request->model->single;
    if (same && (uintptr_t)request->values % size == 0) return request->values;
    scratch->start = scratch->end = 0;
    uint8_t *to = buffer_room(scratch, count * sizeof(double));
    if (!to) return NULL;
    if (same) return memcpy(to, request->values, count * size);
    for (size_t i = 0; i < count; i++) {
        if (request->single) {
            float value;
            memcpy(&value, request->values + i * sizeof value, sizeof value);
            ((double *)(void *)to)[i] = value;
        } else {
            double value; /* beyond the range of float it becomes infinite, and its row NaN */
            memcpy(&value, request->values + i * sizeof value, sizeof value);
            ((float *)(void *)to)[i] = (float)value;
        }
    }
    return to;
}

static double number_at(const infer_request *request, const uint8_t *at)
{
    double value;
    float narrow;
    memcpy(request->single ? (void *)&narrow : &value, at, request->single ? sizeof narrow : sizeof value);
    return request->single ? (double)narrow : value;
}

static int is_inside(const infer_request *request, double value, int input)
{
    const served_model *model = request->model;
    if (request->single) {
        const float *low = model->low[1], *high = model->high[1];
        return input_is_inside(model, input, value, (double)low[input], (double)high[input]);
    }
    const double *low = model->low[0], *high = model->high[0];
    return input_is_inside(model, input, value, low[input], high[input]);
}

int64_t infer_outside(const infer_request *request, byte_buffer *indices, int64_t *outside)
{
    int inputs = request->model->inputs;
    size_t size = request->single ? sizeof(float) : sizeof(double);
    int64_t rows = 0;
    indices->start = indices->end = 0;
    const uint8_t *at = request->values;
    for (int64_t row = 0; row < request->rows; row++) {
        int beyond = 0;
        for (int i = 0; i < inputs; i++, at += size) {
            if (is_inside(request, number_at(request, at), i)) continue;
            beyond = 1;
            if (outside) outside[i]++;
        }
        if (beyond && rows++ < MOST_NAMED) {
            char text[24];
            int length = snprintf(text, sizeof text, rows > 1 ? ",%lld" : "%lld", (long long)row);
            buffer_add(indices, text, (size_t)length);
        }
    }
    return rows;
}

void infer_count_inputs(const infer_request *request)
{
    const served_model *model = request->model;
    if (!model->block_rows) return;
    size_t inputs = (size_t)model->inputs, block_size = 1 + inputs * INPUT_COUNTS;
    size_t size = request->single ? sizeof(float) : sizeof(double);
    int64_t *filling = model->input_blocks, *block = filling + 1 + (size_t)*filling * block_size;
    if (*block >= model->block_rows) {
        *filling = (*filling + 1) % INPUT_BLOCKS;
        block = memset(model->input_blocks + 1 + (size_t)*filling * block_size, 0, block_size * sizeof *block);
    }
    const uint8_t *at = request->values + (size_t)(*block % request->rows) * inputs * size;
    const double *edges = model->edges;
    int64_t *counts = block + 1;
    for (int i = 0; i < model->inputs; i++, at += size, edges += INPUT_EDGES, counts += INPUT_COUNTS) {
        double value = number_at(request, at);
        int bin = 0;
        for (int edge = 0; edge < INPUT_EDGES; edge++) bin += value >= edges[edge];
        counts[isnan(value) ? INPUT_MISSING : bin]++;
        counts[INPUT_OUTSIDE] += !is_inside(request, value, i);
    }
    ++*block;
}

static double at_row(const served_model *model, const void *y, int64_t row, int output)
{
    int64_t at = row * model->outputs + output;
    return model->single ? (double)((const float *)y)[at] : ((const double *)y)[at];
}

/* One row of numbers in the wire type; a row that overflows it is NaN. */
static void put_row(const infer_request *request, const double *row, uint8_t *to)
{
    int outputs = request->model->outputs;
    if (!request->single) {
        memcpy(to, row, (size_t)outputs * sizeof *row);
        return;
    }
    int finite = 1;
    for (int i = 0; i < outputs; i++) finite &= isfinite((float)row[i]) != 0;
    for (int i = 0; i < outputs; i++) {
        float value = finite ? (float)row[i] : NAN;
        memcpy(to + (size_t)i * sizeof value, &value, sizeof value);
    }
}

static void soften(double *row, int outputs)
{
    double most = row[0], sum = 0;
    for (int i = 0; i < outputs; i++) most = row[i] > most || isnan(row[i]) ? row[i] : most;
    for (int i = 0; i < outputs; i++) sum += row[i] = exp(row[i] - most);
    for (int i = 0; i < outputs; i++) row[i] /= sum;
}

void infer_numbers(const infer_request *request, const void *y, int kind, byte_buffer *to)
{
    const served_model *model = request->model;
    size_t size = request->single ? sizeof(float) : sizeof(double), outputs = (size_t)model->outputs;
    size_t bytes = (size_t)request->rows * outputs * size;
    uint8_t *at = buffer_room(to, bytes + outputs * sizeof(double) + sizeof(double));
    if (!at) return;
    to->end += bytes;
    if (kind == OUTPUT_Y && request->single == model->single) {
        memcpy(at, y, bytes);
        return;
    }
    /* The room after the numbers holds one row. */
    double *row = (double *)(void *)(at + bytes + (size_t)(-(uintptr_t)(at + bytes) % sizeof(double)));
    for (int64_t r = 0; r < request->rows; r++, at += outputs * size) {
        for (int i = 0; i < model->outputs; i++) row[i] = at_row(model, y, r, i);
        if (kind == OUTPUT_PROBABILITIES) soften(row, model->outputs);
        put_row(request, row, at);
    }
}

const char *infer_label(const infer_request *request, const void *y, int64_t row)
{
    const served_model *model = request->model;
    int best = 0;
    if (isnan(at_row(model, y, row, 0))) return "";
    for (int i = 1; i < model->outputs; i++)
        if (at_row(model, y, row, i) > at_row(model, y, row, best)) best = i;
    const char *label = model->labels;
    for (int i = 0; i < best; i++) label += strlen(label) + 1;
    return label;
}

static size_t labels_size(const infer_request *request, const void *y)
{
    size_t size = 0;
    for (int64_t row = 0; row < request->rows; row++) {
        size_t length = strlen(infer_label(request, y, row));
        size += request->raw ? 4 + length : 1 + proto_varint_size(length) + length;
    }
    return size;
}

static void put_labels(const infer_request *request, const void *y, byte_buffer *to)
{
    for (int64_t row = 0; row < request->rows; row++) {
        const char *label = infer_label(request, y, row);
        uint32_t length = (uint32_t)strlen(label);
        if (request->raw) {
            uint8_t prefix[4] = {(uint8_t)length, (uint8_t)(length >> 8), (uint8_t)(length >> 16), (uint8_t)(length >> 24)};
            buffer_add(to, prefix, sizeof prefix);
            buffer_add(to, label, length);
        } else {
            proto_add_bytes(to, 8, label, length); /* bytes_contents */
        }
    }
}

static void put_parameter(byte_buffer *to, const char *key, const uint8_t *value, size_t length)
{
    size_t size = 2 + strlen(key) + 1 + proto_varint_size(length) + length;
    proto_add_head(to, 4, size);
    proto_add_bytes(to, 1, key, strlen(key));
    proto_add_bytes(to, 2, value, length);
}

static void put_parameters(int64_t outside, const byte_buffer *indices, byte_buffer *to)
{
    uint8_t count[12];
    byte_buffer choice = {count, 0, 0, sizeof count, 0}; /* never grows: a tag and a varint fit */
    proto_add_tag(&choice, 2, WIRE_VARINT);              /* int64_param */
    proto_add_varint(&choice, (uint64_t)outside);
    put_parameter(to, "outside_training_range", choice.data, choice.end);
    if (outside == 0) return;
    byte_buffer text = {0};
    proto_add_bytes(&text, 3, buffer_begin(indices), buffer_length(indices)); /* string_param */
    to->failed |= text.failed;
    if (!text.failed) put_parameter(to, "outside_rows", text.data, text.end);
    buffer_free(&text);
}

static void put_output(const infer_request *request, const void *y, int kind, byte_buffer *to)
{
    const served_model *model = request->model;
    const char *name = OUTPUT_NAMES[kind];
    const char *type = kind == OUTPUT_LABEL ? "BYTES" : request->single ? "FP32" : "FP64";
    uint64_t rows = (uint64_t)request->rows, outputs = (uint64_t)model->outputs;
    size_t shape = proto_varint_size(rows) + (kind == OUTPUT_LABEL ? 0 : proto_varint_size(outputs));
    size_t numbers = (size_t)(rows * outputs) * (request->single ? sizeof(float) : sizeof(double));
    size_t contents = kind == OUTPUT_LABEL ? labels_size(request, y) : 1 + proto_varint_size(numbers) + numbers;
    size_t size = 2 + strlen(name) + 2 + strlen(type) + 2 + shape;
    if (!request->raw) size += 1 + proto_varint_size(contents) + contents;
    proto_add_head(to, 5, size);
    proto_add_bytes(to, 1, name, strlen(name));
    proto_add_bytes(to, 2, type, strlen(type));
    proto_add_head(to, 3, shape);
    proto_add_varint(to, rows);
    if (kind != OUTPUT_LABEL) proto_add_varint(to, outputs);
    if (request->raw) return;
    proto_add_head(to, 5, contents);
    if (kind == OUTPUT_LABEL) {
        put_labels(request, y, to);
        return;
    }
    proto_add_head(to, request->single ? 6 : 7, numbers);
    infer_numbers(request, y, kind, to);
}

void infer_write(const infer_request *request, const void *y, int64_t outside, const byte_buffer *indices,
                 byte_buffer *to)
{
    const served_model *model = request->model;
    char version[24];
    int length = snprintf(version, sizeof version, "%lld", (long long)model->version);
    proto_add_bytes(to, 1, model->name, strlen(model->name));
    proto_add_bytes(to, 2, version, (size_t)length);
    if (request->id_length) proto_add_bytes(to, 3, request->id, request->id_length);
    put_parameters(outside, indices, to);
    for (int i = 0; i < request->output_count; i++) put_output(request, y, request->outputs[i], to);
    if (!request->raw) return;
    size_t size = request->single ? sizeof(float) : sizeof(double);
    for (int i = 0; i < request->output_count; i++) {
        if (request->outputs[i] == OUTPUT_LABEL) {
            proto_add_head(to, 6, labels_size(request, y));
            put_labels(request, y, to);
        } else {
            proto_add_head(to, 6, (size_t)request->rows * (size_t)model->outputs * size);
            infer_numbers(request, y, request->outputs[i], to);
        }
    }
}
