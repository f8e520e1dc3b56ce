#include "edge_services.h"

#include <stdio.h>
#include <string.h>

#include "protobuf.h"

#define INFERENCE "/inference.GRPCInferenceService/"
#define FORMULA "/kanserve.v1.FormulaService/"
#define HEALTH "/grpc.health.v1.Health/"

enum {
    LIVE, READY, SERVER_METADATA, MODEL_READY, MODEL_METADATA, MODEL_CONFIG, STATISTICS, INDEX, INFER, GET_FORMULA,
    DIFFERENTIATE, HEALTH_CHECK, HEALTH_WATCH
};

const char *const EDGE_PATH_NAMES[EDGE_PATHS] = {
    [LIVE] = INFERENCE "ServerLive",
    [READY] = INFERENCE "ServerReady",
    [SERVER_METADATA] = INFERENCE "ServerMetadata",
    [MODEL_READY] = INFERENCE "ModelReady",
    [MODEL_METADATA] = INFERENCE "ModelMetadata",
    [MODEL_CONFIG] = INFERENCE "ModelConfig",
    [STATISTICS] = INFERENCE "ModelStatistics",
    [INDEX] = INFERENCE "RepositoryIndex",
    [INFER] = INFERENCE "ModelInfer",
    [GET_FORMULA] = FORMULA "GetFormula",
    [DIFFERENTIATE] = FORMULA "Differentiate",
    [HEALTH_CHECK] = HEALTH "Check",
    [HEALTH_WATCH] = HEALTH "Watch",
};

/* Status codes of gRPC. */
enum { OK = 0, INVALID_ARGUMENT = 3, NOT_FOUND = 5, UNIMPLEMENTED = 12, UNAVAILABLE = 14 };

enum { MOST_SHOWN = 60 }; /* bytes of a caller's text in an error */

static const int64_t PATIENCE = 60000000000LL;

void edge_paths(kanserve_path *paths)
{
    for (int i = 0; i < EDGE_PATHS; i++) paths[i] = (kanserve_path){.kind = PATH_UNARY, .patience = PATIENCE};
    paths[INFER].answers = ANSWERS_INFER;
    paths[DIFFERENTIATE].answers = ANSWERS_DIFFERENTIATE;
}

static int same(const proto_field *field, const char *text)
{
    return field->length == strlen(text) && memcmp(field->data, text, field->length) == 0;
}

static int invalid(char *reason, size_t size, const char *text)
{
    snprintf(reason, size, "%s", text);
    return INVALID_ARGUMENT;
}

static int broken(char *reason, size_t size)
{
    return invalid(reason, size, "The message is not of the type that this call takes.");
}

/* The bytes of a text that an error shows: whole characters. */
static int shown(const proto_field *text)
{
    size_t length = text->length < MOST_SHOWN ? text->length : MOST_SHOWN;
    while (length > 0 && length < text->length && (text->data[length] & 0xc0) == 0x80) length--;
    return (int)length;
}

/* Read the name and the version of a request, in its first two fields: OK, or the status if they are of another model.
 * The last field 3, of which there are `thirds`, goes to `third`. */
static int check_model(const edge_state *state, const uint8_t *message, size_t length, proto_field *third, int *thirds,
                      char *reason, size_t size)
{
    proto_cursor cursor = {message, length ? message + length : message};
    proto_field field, name = {0}, version = {0};
    *thirds = 0;
    while (proto_next(&cursor, &field)) {
        if (field.number <= 3 && field.type != WIRE_BYTES) return broken(reason, size);
        if (field.number == 1) name = field;
        if (field.number == 2) version = field;
        if (field.number == 3) {
            *third = field;
            (*thirds)++;
        }
    }
    if (length && !cursor.at) return broken(reason, size);
    if (name.data && !proto_is_utf8(name.data, name.length)) return broken(reason, size);
    if (!name.data || !same(&name, state->model->name)) {
        snprintf(reason, size, "There is no model '%.*s'. This server has '%s'.", shown(&name),
                 name.data ? (const char *)name.data : "", state->model->name);
        return NOT_FOUND;
    }
    if (version.length && !same(&version, state->model->version)) {
        snprintf(reason, size, "This server has version %s of '%s' only.", state->model->version, state->model->name);
        return NOT_FOUND;
    }
    return OK;
}

static const edge_answer *find_answer(const edge_state *state, int path, const proto_field *format)
{
    for (size_t i = 0; i < state->model->answer_count; i++) {
        const edge_answer *found = &state->model->answers[i];
        if (strcmp(found->path, EDGE_PATH_NAMES[path])) continue;
        if (format ? found->format && same(format, found->format) : !found->format) return found;
    }
    return NULL;
}

static int prepared(const edge_state *state, int path, const proto_field *format, byte_buffer *answer, char *reason,
                    size_t size)
{
    const edge_answer *found = find_answer(state, path, format);
    if (!found) return invalid(reason, size, "This server has the formula as text, latex, python and c, one or all.");
    buffer_add(answer, found->data, found->length);
    return OK;
}

static int get_formula(const edge_state *state, const uint8_t *message, size_t length, byte_buffer *answer,
                       char *reason, size_t size)
{
    proto_field format;
    int formats;
    int status = check_model(state, message, length, &format, &formats, reason, size);
    if (status) return status;
    if (!find_answer(state, GET_FORMULA, NULL)) {
        snprintf(reason, size, "The formula of '%s' was too large to be exported.", state->model->name);
        return 9; /* FAILED_PRECONDITION */
    }
    if (formats > 1) return invalid(reason, size, "This server gives one format, or all: ask for one or for none.");
    return prepared(state, GET_FORMULA, formats ? &format : NULL, answer, reason, size);
}

/* Whether the last field `number` of a message that can be read is a number other than 0. */
static int is_set(const uint8_t *message, size_t length, uint32_t number)
{
    proto_cursor cursor = {message, length ? message + length : message};
    proto_field field;
    int set = 0;
    while (proto_next(&cursor, &field)) {
        if (field.number == number && field.type == WIRE_VARINT) set = field.value != 0;
    }
    return set;
}

/* A call that the loop could not read as one of Differentiate, or not answer. */
static int refuse_derivatives(const edge_state *state, const uint8_t *message, size_t length, char *reason, size_t size)
{
    const edge_model *model = state->model;
    proto_field third;
    int thirds;
    int status = check_model(state, message, length, &third, &thirds, reason, size);
    if (status) return status;
    if (!model->gradient) {
        snprintf(reason, size, "'%s' was exported without derivatives in double.", model->name);
        return UNIMPLEMENTED;
    }
    if (is_set(message, length, 4)) {
        snprintf(reason, size, "An edge server has no second derivatives.");
        return UNIMPLEMENTED;
    }
    snprintf(reason, size, "rows must be 1 to %lld rows of %d numbers, as [rows, %d] and their bytes.",
             (long long)model->max_gradient_rows, model->inputs, model->inputs);
    return INVALID_ARGUMENT;
}

static int64_t calls(const edge_state *state)
{
    int64_t total = 0;
    for (int i = 0; i < BUCKETS; i++) total += state->counters[COUNT_BUCKETS + (STAGES - 1) * BUCKETS + i];
    return total;
}

static void add_duration(byte_buffer *to, uint32_t number, int64_t count, int64_t nanoseconds)
{
    size_t length = 2 + proto_varint_size((uint64_t)count) + proto_varint_size((uint64_t)nanoseconds);
    proto_add_head(to, number, length);
    proto_add_tag(to, 1, WIRE_VARINT);
    proto_add_varint(to, (uint64_t)count);
    proto_add_tag(to, 2, WIRE_VARINT);
    proto_add_varint(to, (uint64_t)nanoseconds);
}

/* ModelStatisticsResponse of one model: the protocol's names for the stages, in the order of the counters. */
static void statistics(const edge_state *state, byte_buffer *answer)
{
    static const uint32_t FIELDS[STAGES] = {3, 4, 5, 6, 1}; /* queue, compute_input, compute_infer, compute_output, success */
    const edge_model *model = state->model;
    int64_t count = calls(state);
    byte_buffer durations = {0}, entry = {0};
    for (int stage = 0; stage < STAGES; stage++)
        add_duration(&durations, FIELDS[stage], count, state->counters[COUNT_NANOSECONDS + stage]);
    proto_add_bytes(&entry, 1, model->name, strlen(model->name));
    proto_add_bytes(&entry, 2, model->version, strlen(model->version));
    proto_add_tag(&entry, 4, WIRE_VARINT);
    proto_add_varint(&entry, (uint64_t)state->counters[COUNT_ROWS]);
    proto_add_tag(&entry, 5, WIRE_VARINT);
    proto_add_varint(&entry, (uint64_t)count);
    proto_add_bytes(&entry, 6, buffer_begin(&durations), buffer_length(&durations));
    proto_add_bytes(answer, 1, buffer_begin(&entry), buffer_length(&entry));
    answer->failed |= durations.failed || entry.failed;
    buffer_free(&durations);
    buffer_free(&entry);
}

/* A call that the loop could not read as one of ModelInfer, or not answer. */
static int refuse_inference(const edge_state *state, const uint8_t *message, size_t length, char *reason, size_t size)
{
    const edge_model *model = state->model;
    proto_field third;
    int thirds;
    int status = check_model(state, message, length, &third, &thirds, reason, size);
    if (status) return status;
    snprintf(reason, size,
             "The request must have one input 'x', FP64 or FP32, raw or typed, of shape [rows, %d] with 1 to %lld rows, and "
             "outputs among %s, without shared memory and classification.",
             model->inputs, (long long)model->max_rows, model->classes ? "'y', 'probabilities', 'label'" : "'y'");
    return INVALID_ARGUMENT;
}

int edge_answer_call(void *context, int path, const uint8_t *message, size_t length, byte_buffer *answer, char *reason,
                     size_t size)
{
    edge_state *state = context;
    proto_field third;
    int thirds, status;
    uint8_t ready[2] = {8, !state->draining};
    switch (path) {
    case LIVE: buffer_add(answer, "\x08\x01", 2); return OK;
    case READY: buffer_add(answer, ready, state->draining ? 0 : 2); return OK;
    case MODEL_READY:
        status = check_model(state, message, length, &third, &thirds, reason, size);
        if (status == INVALID_ARGUMENT) return status;
        if (status == OK && !state->draining) buffer_add(answer, "\x08\x01", 2);
        return OK;
    case MODEL_METADATA:
    case MODEL_CONFIG:
        status = check_model(state, message, length, &third, &thirds, reason, size);
        return status ? status : prepared(state, path, NULL, answer, reason, size);
    case SERVER_METADATA:
    case INDEX: return prepared(state, path, NULL, answer, reason, size);
    case STATISTICS: statistics(state, answer); return OK;
    case GET_FORMULA: return get_formula(state, message, length, answer, reason, size);
    case DIFFERENTIATE: return refuse_derivatives(state, message, length, reason, size);
    case HEALTH_CHECK:
    case HEALTH_WATCH: /* SERVING is 1, NOT_SERVING 2 */
        buffer_add(answer, state->draining ? "\x08\x02" : "\x08\x01", 2);
        return path == HEALTH_WATCH ? ANSWER_AND_STAY : OK;
    default: return refuse_inference(state, message, length, reason, size);
    }
}

void edge_metrics(const edge_state *state, byte_buffer *to)
{
    char text[1600];
    const int64_t *counters = state->counters;
    const char *name = state->model->name, *version = state->model->version;
    int length = snprintf(text, sizeof text,
        "# HELP kanserve_edge_requests_total Inferences that were answered.\n"
        "# TYPE kanserve_edge_requests_total counter\n"
        "kanserve_edge_requests_total{model=\"%s\",version=\"%s\"} %lld\n"
        "# HELP kanserve_edge_rows_total Rows that were predicted.\n"
        "# TYPE kanserve_edge_rows_total counter\n"
        "kanserve_edge_rows_total{model=\"%s\",version=\"%s\"} %lld\n"
        "# HELP kanserve_edge_compute_seconds_total Time in which the model computed.\n"
        "# TYPE kanserve_edge_compute_seconds_total counter\n"
        "kanserve_edge_compute_seconds_total{model=\"%s\",version=\"%s\"} %.9f\n"
        "# HELP kanserve_edge_refused_total Calls that were refused, by reason.\n"
        "# TYPE kanserve_edge_refused_total counter\n"
        "kanserve_edge_refused_total{reason=\"deadline\"} %lld\n"
        "kanserve_edge_refused_total{reason=\"stopping\"} %lld\n",
        name, version, (long long)calls(state), name, version, (long long)counters[COUNT_ROWS], name, version,
        (double)counters[COUNT_NANOSECONDS + 2] * 1e-9, (long long)kanserve_refused(state->server, REFUSED_DEADLINE),
        (long long)kanserve_refused(state->server, REFUSED_DRAINING));
    if (length > 0 && (size_t)length < sizeof text) buffer_add(to, text, (size_t)length);
    for (int i = 0; i < state->model->inputs; i++) {
        length = snprintf(text, sizeof text, "%skanserve_edge_outside_rows_total{model=\"%s\",version=\"%s\",input=\"%d\"} %lld\n",
            i ? "" : "# HELP kanserve_edge_outside_rows_total Rows outside the training range of an input.\n"
                     "# TYPE kanserve_edge_outside_rows_total counter\n",
            name, version, i, (long long)counters[COUNT_OUTSIDE + i]);
        if (length > 0 && (size_t)length < sizeof text) buffer_add(to, text, (size_t)length);
    }
}
