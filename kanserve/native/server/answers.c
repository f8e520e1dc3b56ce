/* Answers on the loop's thread: inferences of C models, their derivatives, formulas that are known as bytes, and all calls
 * of an edge server. */

#include "server.h"

#include <stdio.h>

#include "formula_calls.h"

static void count_answer(const kanserve_server *server, int64_t *counters, int64_t rows, int64_t ended,
                         const int64_t stages[STAGES])
{
    counters[COUNT_ROWS] += rows;
    counters[COUNT_LAST] = ended;
    for (int stage = 0; stage < STAGES; stage++) {
        int bucket = 0;
        while (bucket < BUCKETS - 1 && stages[stage] > server->config.bounds[bucket]) bucket++;
        counters[COUNT_NANOSECONDS + stage] += stages[stage];
        counters[COUNT_BUCKETS + stage * BUCKETS + bucket]++;
    }
}

/* Send the message that `out` holds: whether that was possible. */
static int send_message(stream *one, int stay)
{
    const protocol *speaks = one->owner->protocol;
    size_t most = speaks->times * (size_t)one->owner->server->config.max_message + speaks->frame;
    if (!one->out.failed) speaks->seal(one);
    size_t size = buffer_length(&one->out);
    if (one->out.failed || size > most) {
        buffer_free(&one->out);
        stream_fail(one, GRPC_RESOURCE_EXHAUSTED, "The answer is larger than the server sends.", NULL);
        return 0;
    }
    if (!connection_has_room(one->owner, size)) { /* clients that do not read their answers must not take all memory */
        buffer_free(&one->out);
        stream_fail_full(one);
        return 0;
    }
    hold(one->owner->account, size);
    if (stay)
        stream_send(one);
    else
        stream_answer(one);
    return 1;
}

static void count_call(const kanserve_server *server, stream *one, served_model *model, int kind, int64_t rows,
                       int64_t begun, int64_t decoded, int64_t computed)
{
    int64_t ended = one->answered;
    int64_t stages[STAGES] = {begun - one->arrived, decoded - begun, computed - decoded, ended - computed, ended - one->arrived};
    count_answer(server, model->counters + kind * COUNT_BLOCK, rows, ended, stages);
}

/* Write and send the answer to rows that were predicted here. `begun` is when they were read, `decoded` and `computed`
 * when the model began and ended. */
static void answer_rows(stream *one, const infer_request *request, const void *y, int64_t begun, int64_t decoded,
                        int64_t computed)
{
    kanserve_server *server = one->owner->server;
    int64_t outside = infer_outside(request, &server->indices, request->model->counters + COUNT_OUTSIDE);
    infer_count_inputs(request);
    one->owner->protocol->write_rows(request, y, outside, &server->indices, &one->out);
    if (send_message(one, 0))
        count_call(server, one, request->model, COUNTED_INFER, request->rows, begun, decoded, computed);
    if (server->indices.capacity > 1 << 16) buffer_free(&server->indices);
}

static void refuse_busy(stream *one, const served_model *model)
{
    char text[200];
    snprintf(text, sizeof text, "'%s' is at its concurrency limit: %lld requests. Try again later.", model->name,
             (long long)model->concurrency);
    atomic_fetch_add(&one->owner->server->refused[REFUSED_QUEUE], 1);
    stream_fail_known(one, GRPC_RESOURCE_EXHAUSTED, "BusyError", text);
}

/* Answer ModelInfer on this thread, or hand out its rows: whether that was done. */
static int infer(stream *one, const uint8_t *message, size_t length)
{
    kanserve_server *server = one->owner->server;
    infer_request request;
    int64_t begun = now_ns();
    if (!one->owner->protocol->read_rows(one, message, length, &request)) return 0;
    served_model *model = request.model;
    int chained = !model->predict && model->chain && request.rows <= model->chained;
    double budget = (double)server->config.inline_budget;
    if (!(model->predict || chained) || !row_time_allows(&model->cost, request.rows, request.writing, budget, begun)) {
        if (!server->config.hand_out_rows) return 0;
        /* Where all threads are busy the call waits for one, by when another of this model may have ended. */
        if (model->concurrency && atomic_load((_Atomic int64_t *)model->computing) >= model->concurrency &&
            queue_is_idle(server)) {
            refuse_busy(one, model);
            return 1;
        }
        if (atomic_load(&server->queued) >= server->config.queue || queue_call(one, EVENT_ROWS, 0, &request))
            call_refuse_full(one);
        return 1;
    }
    const void *x = infer_rows(&request, &server->rows);
    server->predictions.start = server->predictions.end = 0;
    void *y = buffer_room(&server->predictions, (size_t)(request.rows * model->outputs) * sizeof(double));
    if (!x || !y) return 0;
    int64_t decoded = now_ns();
    if (!chained)
        model->predict(x, (size_t)request.rows, (size_t)model->inputs, y, (size_t)model->outputs);
    else if (model->chain(model->kernels, model->kernel_count, request.rows, x, y))
        return 0;
    int64_t computed = now_ns();
    row_time_note_inline(&model->cost, request.rows, computed - decoded, budget, computed);
    atomic_store_explicit(&server->computed, computed, memory_order_relaxed);
    answer_rows(one, &request, y, begun, decoded, computed);
    return 1;
}

/* Write the answer to rows that were handed out, on the thread that predicted them: the loop only sends it. */
void encode_rows(kanserve_call *call, const void *y, size_t bytes, command *to)
{
    const infer_request *request = &call->request;
    byte_buffer indices = {0};
    if (bytes != (size_t)(request->rows * request->model->outputs) * (request->model->single ? 4 : 8)) {
        to->data.failed = 1;
        return;
    }
    to->outside = calloc((size_t)request->model->inputs, sizeof *to->outside);
    int64_t outside = infer_outside(request, &indices, to->outside);
    call->protocol->write_rows(request, y, outside, &indices, &to->data);
    to->data.failed |= indices.failed || !to->outside;
    buffer_free(&indices);
}

/* Send such an answer, which is in `out` of the call's stream. */
void call_rows(kanserve_call *call, const int64_t *outside, int64_t computed)
{
    const infer_request *request = &call->request;
    served_model *model = request->model;
    stream *one = call->stream;
    int64_t now = now_ns(), begun = one->arrived, decoded = now - computed > begun ? now - computed : begun;
    /* The counters of a model that was replaced are kept for longer than this. */
    int counts = call->table == call->server->table || now - begun < 60 * SECOND;
    row_time_note(&model->cost, request->rows, computed, (double)call->server->config.inline_budget);
    if (!send_message(one, 0) || !counts) return;
    count_call(call->server, one, model, COUNTED_INFER, request->rows, begun, decoded, now);
    for (int i = 0; i < model->inputs; i++) model->counters[COUNT_OUTSIDE + i] += outside[i];
    infer_count_inputs(request);
}

/* Answer Differentiate on this thread: whether that was done. */
static int differentiate(stream *one, const uint8_t *message, size_t length)
{
    kanserve_server *server = one->owner->server;
    gradient_request request;
    int64_t begun = now_ns();
    if (!gradient_read(server->table, message, length, &request)) return 0;
    served_model *model = request.model;
    double budget = (double)server->config.inline_budget;
    if (!row_time_allows(&model->gradient_cost, request.rows, 0, budget, begun)) return 0;
    int64_t decoded = now_ns();
    buffer_add(&one->out, "\0\0\0\0", 5);
    int written = gradient_write(&request, !server->local, &server->rows, &one->out);
    int64_t computed = now_ns();
    row_time_note_inline(&model->gradient_cost, request.rows, computed - decoded, budget, computed);
    if (written <= 0) {
        buffer_free(&one->out);
        return 0;
    }
    atomic_store_explicit(&server->computed, computed, memory_order_relaxed);
    if (send_message(one, 0))
        count_call(server, one, model, COUNTED_DIFFERENTIATE, request.rows, begun, decoded, computed);
    return 1;
}

/* Answer GetFormula by bytes that are there: whether that was done. */
static int get_formula(stream *one, const uint8_t *message, size_t length)
{
    kanserve_server *server = one->owner->server;
    proto_field format;
    int formats;
    int64_t begun = now_ns();
    served_model *model = read_model(server->table, message, length, &format, &formats);
    if (!model || !model->formula || formats) return 0;
    one->gzipped = one->takes_gzip && model->formula_gzip;
    if (one->gzipped)
        frame_message(&one->out, 1, model->formula_gzip, (size_t)model->formula_gzip_length);
    else
        frame_message(&one->out, 0, model->formula, (size_t)model->formula_length);
    if (send_message(one, 0)) count_call(server, one, model, COUNTED_FORMULA, 0, begun, begun, begun);
    return 1;
}

static void answer_locally(stream *one, const uint8_t *message, size_t length)
{
    kanserve_server *server = one->owner->server;
    char reason[300] = "";
    buffer_add(&one->out, "\0\0\0\0", 5);
    int status = server->local(server->local_context, one->path, message, length, &one->out, reason, sizeof reason);
    if (status > 0) {
        buffer_free(&one->out);
        stream_fail(one, status, reason, NULL);
        return;
    }
    send_message(one, status == ANSWER_AND_STAY);
}

/* Answer a call on the loop's thread, or hand out its rows: whether that was done. */
int answer_call(stream *one, const uint8_t *message, size_t length)
{
    kanserve_server *server = one->owner->server;
    int done = 0;
    if (server->table && !is_late(one)) {
        switch (one->options->answers) {
        case ANSWERS_INFER: done = infer(one, message, length); break;
        case ANSWERS_DIFFERENTIATE: done = differentiate(one, message, length); break;
        case ANSWERS_FORMULA: done = get_formula(one, message, length); break;
        default: break;
        }
    }
    if (!done && server->local) {
        answer_locally(one, message, length);
        return 1;
    }
    return done;
}
