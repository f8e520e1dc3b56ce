#include "formula_calls.h"

#include <stdio.h>

served_model *read_model(const model_table *table, const uint8_t *message, size_t length, proto_field *third, int *thirds)
{
    proto_cursor cursor = {message, length ? message + length : message};
    proto_field field, name = {0}, text = {0};
    int64_t version;
    int names = 0, versions = 0;
    *thirds = 0;
    while (proto_next(&cursor, &field)) {
        if (field.type != WIRE_BYTES) return NULL;
        switch (field.number) {
        case 1:
            name = field;
            names++;
            break;
        case 2:
            text = field;
            versions++;
            break;
        case 3:
            *third = field;
            (*thirds)++;
            break;
        default: return NULL;
        }
    }
    if (!cursor.at || names != 1 || versions > 1 || !table_version(text.data, text.length, &version)) return NULL;
    return table_find(table, name.data, name.length, version, 0);
}

int gradient_read(const model_table *table, const uint8_t *message, size_t length, gradient_request *request)
{
    proto_field array, field, shape = {0}, values = {0};
    int arrays, shapes = 0, contents = 0;
    uint64_t rows = 0, columns = 0;
    served_model *model = read_model(table, message, length, &array, &arrays);
    if (!model || !model->gradient || arrays != 1) return 0;
    proto_cursor cursor = {array.data, array.data + array.length};
    while (proto_next(&cursor, &field)) {
        if (field.type != WIRE_BYTES || field.number > 2) return 0;
        if (field.number == 1) {
            shape = field;
            shapes++;
        } else {
            values = field;
            contents++;
        }
    }
    if (!cursor.at || shapes != 1 || contents != 1) return 0;
    proto_cursor dimensions = {shape.data, shape.data + shape.length};
    if (!proto_varint(&dimensions, &rows) || !proto_varint(&dimensions, &columns) || dimensions.at != dimensions.end)
        return 0;
    if (columns != (uint64_t)model->inputs || rows == 0 || rows > (uint64_t)model->max_gradient_rows) return 0;
    if (values.length != rows * columns * sizeof(double)) return 0;
    *request = (gradient_request){model, values.data, (int64_t)rows};
    return 1;
}

static void add_array(byte_buffer *to, uint32_t number, const uint64_t *shape, int dimensions, const double *values)
{
    size_t inner = 0, count = 1;
    for (int i = 0; i < dimensions; i++) {
        inner += proto_varint_size(shape[i]);
        count *= shape[i];
    }
    size_t bytes = count * sizeof(double);
    proto_add_head(to, number, 1 + proto_varint_size(inner) + inner + 1 + proto_varint_size(bytes) + bytes);
    proto_add_head(to, 1, inner);
    for (int i = 0; i < dimensions; i++) proto_add_varint(to, shape[i]);
    proto_add_bytes(to, 2, values, bytes);
}

static int is_outside(const served_model *model, const double *row)
{
    const double *low = model->low[0], *high = model->high[0];
    for (int i = 0; i < model->inputs; i++)
        if (!input_is_inside(model, i, row[i], low[i], high[i])) return 1;
    return 0;
}

static void add_outside(const served_model *model, const double *x, int64_t rows, byte_buffer *to)
{
    size_t length = 0;
    for (int64_t row = 0; row < rows; row++)
        if (is_outside(model, x + row * model->inputs)) length += proto_varint_size((uint64_t)row);
    if (!length) return;
    proto_add_head(to, 5, length);
    for (int64_t row = 0; row < rows; row++)
        if (is_outside(model, x + row * model->inputs)) proto_add_varint(to, (uint64_t)row);
}

int gradient_write(const gradient_request *request, int strict, byte_buffer *scratch, byte_buffer *to)
{
    const served_model *model = request->model;
    size_t rows = (size_t)request->rows, inputs = (size_t)model->inputs, outputs = (size_t)model->outputs;
    size_t given = rows * inputs, each = outputs * inputs;
    char version[24];
    scratch->start = scratch->end = 0;
    double *x = (double *)(void *)buffer_room(scratch, (given + rows * (outputs + each)) * sizeof(double));
    if (!x) return 0;
    double *y = x + given, *slopes = y + rows * outputs;
    memcpy(x, request->values, given * sizeof *x);
    if (model->gradient(x, rows, inputs, y, outputs, slopes, each) && strict) return -1;
    int digits = snprintf(version, sizeof version, "%lld", (long long)model->version);
    proto_add_bytes(to, 1, model->name, strlen(model->name));
    proto_add_bytes(to, 2, version, (size_t)digits);
    add_array(to, 3, (uint64_t[]){rows, outputs}, 2, y);
    add_array(to, 4, (uint64_t[]){rows, outputs, inputs}, 3, slopes);
    add_outside(model, x, request->rows, to);
    return !to->failed;
}
