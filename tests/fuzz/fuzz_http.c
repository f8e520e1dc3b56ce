/* A request to an edge server's metrics port, which comes in pieces, and its gRPC calls besides inferences. Every answer
 * must be whole. */

#define _GNU_SOURCE
#include <stdio.h>

#include "edge_http.h"
#include "protobuf.h"
#include "server.h"

static const double low[] = {-1, -1}, high[] = {1, 1};
static const edge_answer prepared[] = {
    {"/inference.GRPCInferenceService/ModelMetadata", NULL, (const uint8_t *)"\12\3raw", 5},
    {"/kanserve.v1.FormulaService/GetFormula", NULL, (const uint8_t *)"\12\3raw", 5},
    {"/kanserve.v1.FormulaService/GetFormula", "text", (const uint8_t *)"\12\3raw", 5},
};
static const edge_model model = {.name = "raw", .version = "3", .digest = "0", .inputs = 2, .outputs = 1, .low = low, .high = high,
                                 .max_rows = 64, .max_gradient_rows = 64, .answers = prepared, .answer_count = 3};
static int64_t counters[COUNT_OUTSIDE + 2];

static void check_http(const edge_state *state, const uint8_t *data, size_t size, size_t piece)
{
    byte_buffer out = {0};
    size_t length = 0;
    int answered = 0;
    if (size > 4096) size = 4096;
    char *request = malloc(size ? size : 1); /* so that a byte too many is found */
    if (!request) return;
    while (!answered && length < size) {
        size_t part = piece < size - length ? piece : size - length;
        memcpy(request + length, data + length, part);
        length += part;
        answered = edge_http_answer(state, request, length, &out);
        if (!answered != (buffer_length(&out) == 0)) abort();
    }
    if (answered) {
        buffer_add_byte(&out, 0);
        const char *text = (const char *)buffer_begin(&out);
        const char *end = memmem(text, buffer_length(&out), "\r\n\r\n", 4), *field = strstr(text, "Content-Length: ");
        if (!end || !field || strncmp(text, "HTTP/1.1 ", 9)) abort();
        if ((size_t)atol(field + 16) != buffer_length(&out) - 1 - (size_t)(end + 4 - text)) abort();
    }
    buffer_free(&out);
    free(request);
}

static void check_call(edge_state *state, const uint8_t *data, size_t size, int path)
{
    byte_buffer out = {0};
    char reason[300] = "";
    int status = edge_answer_call(state, path, data, size, &out, reason, sizeof reason);
    if (status > 0 ? !*reason : out.failed) abort();
    if (!proto_is_utf8((const uint8_t *)reason, strlen(reason))) abort();
    buffer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static edge_state state = {.model = &model, .counters = counters};
    if (!state.server) {
        kanserve_config config = {.max_message = 1 << 14};
        state.server = kanserve_new(&config, NULL, NULL, 0);
    }
    if (size == 0) return 0;
    state.draining = data[0] >> 7;
    if (data[0] & 64)
        check_http(&state, data + 1, size - 1, 1 + data[0] % 64u);
    else
        check_call(&state, data + 1, size - 1, data[0] % EDGE_PATHS);
    return 0;
}
