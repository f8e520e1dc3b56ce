/* Inferences of REST: from a target and a body to rows. As infer.c does, it reads the usual requests; what is wrong or
 * unusual is left to the general path, which has the texts of the errors. */

#include "http1.h"

#include <math.h>
#include <yyjson.h>

#define WRITING 50.0 /* nanoseconds for a number in JSON */

static int takes(const uint8_t **at, const uint8_t *end, const char *text)
{
    size_t length = strlen(text);
    if ((size_t)(end - *at) < length || memcmp(*at, text, length) != 0) return 0;
    *at += length;
    return 1;
}

/* A part of the path, up to the next slash. */
static const uint8_t *part(const uint8_t **at, const uint8_t *end, size_t *length)
{
    const uint8_t *begin = *at;
    while (*at < end && **at != '/') {
        if (**at == '%' || **at == '?' || **at == '#') return NULL;
        ++*at;
    }
    *length = (size_t)(*at - begin);
    return *length ? begin : NULL;
}

/* Whether a target is that of an inference, written without escapes and queries. */
int rest_path(const uint8_t *target, size_t length, model_path *found)
{
    const uint8_t *at = target, *end = target + length;
    if (!takes(&at, end, "/v2/models/") || !(found->name = part(&at, end, &found->name_length))) return 0;
    if (takes(&at, end, "/versions/") && !(found->version = part(&at, end, &found->version_length))) return 0;
    return takes(&at, end, "/infer") && at == end;
}

/* Whether a target is of what is answered while all threads compute. */
int rest_is_aside(const uint8_t *target, size_t length)
{
    const uint8_t *at = target, *end = target;
    while (end < target + length && *end != '?' && *end != '#') end++;
    while (end > at + 1 && *at == '/' && at[1] == '/') at++; /* as the router reads it */
    static const char *const LAST[] = {"/ready", "/load", "/unload"};
    if (!takes(&at, end, "/v2")) return 1; /* metrics, the description of the API, and what is not there */
    if (takes(&at, end, "/health/")) return 1;
    for (size_t i = 0; i < sizeof LAST / sizeof *LAST; i++) {
        size_t size = strlen(LAST[i]);
        if ((size_t)(end - at) >= size && memcmp(end - size, LAST[i], size) == 0) return 1;
    }
    return 0;
}

static int is(yyjson_val *value, const char *text)
{
    return yyjson_equals_str(value, text);
}

static int read_shape(yyjson_val *shape, const served_model *model, int64_t *rows)
{
    yyjson_val *first = yyjson_arr_get_first(shape), *second = yyjson_arr_get(shape, 1);
    if (yyjson_arr_size(shape) != 2 || !yyjson_is_uint(first) || !yyjson_is_uint(second)) return 0;
    uint64_t count = yyjson_get_uint(first);
    if (count == 0 || count > (uint64_t)model->max_rows || yyjson_get_uint(second) != (uint64_t)model->inputs) return 0;
    *rows = (int64_t)count;
    return 1;
}

/* Add numbers, at most `most` of them in all: whether they are such, or null for NaN. */
static int add_numbers(yyjson_val *data, int single, size_t most, byte_buffer *to, size_t *count)
{
    size_t index, number;
    yyjson_val *value;
    yyjson_arr_foreach(data, index, number, value) {
        if (!(yyjson_is_num(value) || yyjson_is_null(value)) || ++*count > most) return 0;
        double read = yyjson_is_null(value)   ? NAN
                      : yyjson_is_uint(value) ? (double)yyjson_get_uint(value)
                      : yyjson_is_sint(value) ? (double)yyjson_get_sint(value)
                                              : yyjson_get_real(value);
        if (single) {
            float rounded = (float)read;
            if (isinf(rounded)) return 0;
            buffer_add(to, &rounded, sizeof rounded);
        } else {
            buffer_add(to, &read, sizeof read);
        }
    }
    return 1;
}

/* The numbers of `data`, which is flat or has an array for each row. */
static int read_data(yyjson_val *data, const infer_request *request, byte_buffer *to)
{
    size_t inputs = (size_t)request->model->inputs, most = (size_t)request->rows * inputs, count = 0, index, number;
    size_t size = request->single ? sizeof(float) : sizeof(double);
    yyjson_val *row, *first = yyjson_arr_get_first(data);
    to->start = to->end = 0;
    if (!first || !buffer_room(to, most * size)) return 0;
    if (!yyjson_is_arr(first)) return add_numbers(data, request->single, most, to, &count) && count == most;
    if (yyjson_arr_size(data) != (size_t)request->rows) return 0;
    yyjson_arr_foreach(data, index, number, row) {
        if (yyjson_arr_size(row) != inputs || !add_numbers(row, request->single, most, to, &count)) return 0;
    }
    return count == most;
}

typedef struct {
    yyjson_val *shape, *data, *datatype;
    int64_t binary; /* bytes, or -1 */
} json_input;

static int read_parameters(yyjson_val *parameters, const char *known, yyjson_val **found)
{
    size_t index, number;
    yyjson_val *key, *value;
    if (!yyjson_is_obj(parameters)) return 0;
    yyjson_obj_foreach(parameters, index, number, key, value) {
        if (*found || !is(key, known)) return 0;
        *found = value;
    }
    return 1;
}

static int read_input(yyjson_val *input, json_input *to)
{
    size_t index, number;
    yyjson_val *key, *value, *name = NULL, *parameters = NULL, *size = NULL;
    to->binary = -1;
    if (!yyjson_is_obj(input)) return 0;
    yyjson_obj_foreach(input, index, number, key, value) {
        yyjson_val **place = is(key, "name")         ? &name
                             : is(key, "shape")      ? &to->shape
                             : is(key, "datatype")   ? &to->datatype
                             : is(key, "data")       ? &to->data
                             : is(key, "parameters") ? &parameters
                                                     : NULL;
        if (!place || *place) return 0;
        *place = value;
    }
    if (!is(name, "x") || !(is(to->datatype, "FP64") || is(to->datatype, "FP32"))) return 0;
    if (parameters && !read_parameters(parameters, "binary_data_size", &size)) return 0;
    if (!size) return to->data != NULL;
    if (to->data || !yyjson_is_uint(size) || yyjson_get_uint(size) > INT32_MAX) return 0;
    to->binary = (int64_t)yyjson_get_uint(size);
    return 1;
}

static int read_output(yyjson_val *output, int binary, infer_request *request)
{
    size_t index, number;
    yyjson_val *key, *value, *name = NULL, *parameters = NULL, *given = NULL;
    if (!yyjson_is_obj(output) || request->output_count >= OUTPUT_KINDS) return 0;
    yyjson_obj_foreach(output, index, number, key, value) {
        yyjson_val **place = is(key, "name") ? &name : is(key, "parameters") ? &parameters : NULL;
        if (!place || *place) return 0;
        *place = value;
    }
    if (parameters && !read_parameters(parameters, "binary_data", &given)) return 0;
    if (given && !yyjson_is_bool(given)) return 0;
    for (int kind = 0; kind < OUTPUT_KINDS; kind++) {
        if (!is(name, OUTPUT_NAMES[kind])) continue;
        for (int i = 0; i < request->output_count; i++)
            if (request->outputs[i] == kind) return 0;
        request->binary[request->output_count] = given ? yyjson_get_bool(given) : binary;
        request->outputs[request->output_count++] = kind;
        return 1;
    }
    return 0;
}

static int read_outputs(yyjson_val *outputs, int binary, infer_request *request)
{
    size_t index, number;
    yyjson_val *output;
    if (outputs && (!yyjson_is_arr(outputs) || yyjson_arr_size(outputs) == 0)) return 0;
    if (outputs) {
        yyjson_arr_foreach(outputs, index, number, output) {
            if (!read_output(output, binary, request)) return 0;
        }
        return infer_outputs(request);
    }
    for (int i = 0; i < OUTPUT_KINDS; i++) request->binary[i] = binary;
    return infer_outputs(request);
}

static int read_root(yyjson_val *root, http1_server *scratch, const uint8_t *binary, size_t length, infer_request *request)
{
    size_t index, number;
    yyjson_val *key, *value, *id = NULL, *inputs = NULL, *outputs = NULL, *parameters = NULL, *all = NULL;
    json_input input = {0};
    if (!yyjson_is_obj(root)) return 0;
    yyjson_obj_foreach(root, index, number, key, value) {
        yyjson_val **place = is(key, "id")           ? &id
                             : is(key, "inputs")     ? &inputs
                             : is(key, "outputs")    ? &outputs
                             : is(key, "parameters") ? &parameters
                                                     : NULL;
        if (!place || *place) return 0;
        *place = value;
    }
    if (id && !yyjson_is_str(id)) return 0;
    if (yyjson_arr_size(inputs) != 1 || !read_input(yyjson_arr_get_first(inputs), &input)) return 0;
    if (parameters && !read_parameters(parameters, "binary_data_output", &all)) return 0;
    if (all && !yyjson_is_bool(all)) return 0;
    if (!read_shape(input.shape, request->model, &request->rows)) return 0;
    request->single = is(input.datatype, "FP32");
    request->id = (const uint8_t *)yyjson_get_str(id);
    request->id_length = yyjson_get_len(id);
    if (!read_outputs(outputs, all && yyjson_get_bool(all), request)) return 0;
    for (int i = 0; i < request->output_count; i++)
        if (!request->binary[i]) request->writing += WRITING * request->model->outputs;
    if (input.binary < 0) {
        if (length || !read_data(input.data, request, &scratch->values)) return 0;
        request->values = scratch->values.data;
        return !scratch->values.failed;
    }
    size_t size = request->single ? sizeof(float) : sizeof(double);
    request->raw = 1;
    request->values = binary;
    return (uint64_t)input.binary == length && length == (size_t)(request->rows * request->model->inputs) * size;
}

int rest_read(http1_server *scratch, served_model *model, const uint8_t *message, size_t length, int64_t json_length,
              infer_request *request)
{
    size_t json = json_length < 0 ? length : (size_t)json_length;
    yyjson_alc alc;
    memset(request, 0, sizeof *request);
    request->model = model;
    if (json > length || json > MOST_JSON) return 0;
    size_t needs = yyjson_read_max_memory_usage(json, YYJSON_READ_NOFLAG);
    scratch->json.start = scratch->json.end = 0;
    uint8_t *memory = buffer_room(&scratch->json, needs);
    if (!memory || !yyjson_alc_pool_init(&alc, memory, needs)) {
        scratch->json.failed = 0;
        return 0;
    }
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)message, json, YYJSON_READ_NOFLAG, &alc, NULL);
    /* What is read stays in the scratch, which the next request takes. */
    return doc && read_root(yyjson_doc_get_root(doc), scratch, message + json, length - json, request);
}

int rest_read_rows(stream *one, const uint8_t *message, size_t length, infer_request *request)
{
    kanserve_server *server = one->owner->server;
    const http1 *state = one->owner->http1;
    const model_path *path = &state->model;
    int64_t version = 0;
    if (!state->infers || (path->version && !table_version(path->version, path->version_length, &version))) return 0;
    model_table *table = server->table;
    size_t route_length;
    const uint8_t *route = stream_route(one, &route_length);
    served_model *model = table_find(table, path->name, path->name_length, version, table_draw(table, route, route_length));
    if (!model || !rest_read(server->http1, model, message, length, state->json_length, request)) return 0;
    if (route_length || !request->id_length) return 1;
    int64_t drawn = table_draw(table, request->id, request->id_length); /* by the id, which the JSON had */
    served_model *other = table_find(table, path->name, path->name_length, version, drawn);
    return other == model || rest_read(server->http1, other, message, length, state->json_length, request);
}
