/* A connection of HTTP/1.1: its requests, one after another; its deadlines; its end. */

#include "http1.h"

#include <stdio.h>
#include <yyjson.h>

#include "http1_api.h"

static int begin(connection *owner)
{
    http1_server *all = owner->server->http1;
    http1 *state = calloc(1, sizeof *state);
    if (!state) return -1;
    llhttp_init(&state->parser, HTTP_REQUEST, &all->settings);
    state->parser.data = owner;
    state->since = owner->opened;
    http1_reset(state);
    owner->http1 = state;
    all->connections++;
    if (all->connections <= MOST_CONNECTIONS || connections_make_room(owner->server, &HTTP1)) return 0;
    all->connections--; /* all are at work: it is refused */
    free(state);
    owner->http1 = NULL;
    return -1;
}

static void end(connection *owner)
{
    http1 *state = owner->http1;
    buffer_free(&state->target);
    buffer_free(&state->name);
    buffer_free(&state->value);
    free(state);
    owner->server->http1->connections--;
}

static void forget(stream *one)
{
    http1 *state = one->owner->http1;
    if (state->request == one) state->request = NULL;
}

/* Answer what is no request, or none that is taken, and end the connection. */
void http1_refuse(connection *owner, int status, const char *text)
{
    http1 *state = owner->http1;
    stream *one = state->request ? state->request : stream_new(owner, 1);
    if (!one || one->finished) {
        state->over = 1;
        return;
    }
    state->request = one;
    state->refused = status;
    stream_fail(one, GRPC_INVALID_ARGUMENT, text, NULL);
}

void http1_refuse_large(connection *owner, const char *when)
{
    char text[200];
    snprintf(text, sizeof text, "A request may have %lld bytes, and this one has more%s. Send it in parts.",
             (long long)owner->server->config.max_message, when);
    http1_refuse(owner, 413, text);
}

static void refuse(stream *one, int status, const char *text, const byte_buffer *more)
{
    http1 *state = one->owner->http1;
    if (status == GRPC_RESOURCE_EXHAUSTED && !more && !state->refused) state->refused = 413; /* all but BusyError */
    if (!one->ended) {
        state->keep = 0;
        if (status == GRPC_DEADLINE_EXCEEDED && !state->refused) state->refused = 408;
    }
    buffer_free(&one->out);
    response_begin(&one->out);
    response_error(&one->out, text);
    one->status = state->refused ? state->refused : http_status(status);
    response_seal(one);
    hold(one->owner->account, buffer_length(&one->out));
}

static void send_out(stream *one)
{
    (void)one; /* `fill` takes it when the connection is written to */
}

/* The answer has left for `out` of the connection. */
static void end_request(connection *owner)
{
    http1 *state = owner->http1;
    state->since = state->request->moved;
    stream_free(state->request);
    state->complete = state->head_done = 0;
    if (!state->keep) {
        state->over = 1;
        return;
    }
    if (owner->paused == HELD) {
        owner->paused = 0;
        if (buffer_length(&owner->unread) > 0) {
            owner->paused = PAUSED;
            waiting_add(owner, WAIT_PAUSED);
        }
    }
    if (owner->full) {
        owner->full = 0;
        loop_watch(owner);
    }
    loop_check_by(owner->server, state->since + owner->server->config.keepalive);
}

static int fill(connection *owner, size_t most)
{
    http1 *state = owner->http1;
    stream *one = state->request;
    if (!one || !one->answered) return 0;
    size_t ready = buffer_length(&one->out), before = buffer_length(&owner->out);
    size_t part = before >= most ? 0 : most - before < ready ? most - before : ready;
    buffer_add(&owner->out, buffer_begin(&one->out), part);
    buffer_take(&one->out, part);
    let_go(owner->account, part);
    if (part) one->moved = now_ns();
    if (owner->out.failed) return -1;
    if (part == ready) end_request(owner);
    return 0;
}

/* A message was decompressed, or not. */
static void inflated(stream *one, int result)
{
    switch (result) {
    case INFLATED: call_take(one); break;
    case UNFINISHED: break;
    case TOO_LARGE: http1_refuse_large(one->owner, " once it is inflated"); break;
    case BROKEN: http1_refuse(one->owner, 400, "The body cannot be decompressed."); break;
    default: stream_fail_full(one);
    }
}

/* A request is here as a whole. */
static void take(stream *one)
{
    one->ended = 1;
    one->message_deadline = 0;
    if (one->finished) return;
    if (one->call) { /* handed out before its body */
        if (queue_message(one->call, &one->body))
            stream_fail_full(one);
        else
            queue_half_close(one->call);
    } else if (one->encoding && buffer_length(&one->body)) {
        inflated(one, inflate_begin(one));
    } else {
        call_take(one);
    }
}

static void parse_failed(connection *owner, llhttp_errno_t error)
{
    http1 *state = owner->http1;
    if (state->refused == 413)
        http1_refuse_large(owner, "");
    else if (state->refused)
        http1_refuse(owner, state->refused, state->reason);
    else if (error == HPE_INVALID_VERSION && llhttp_get_http_major(&state->parser) != 1)
        http1_refuse(owner, 505, "The server speaks HTTP/1.1.");
    else
        http1_refuse(owner, 400, "The request is not HTTP/1.1.");
    state->keep = 0;
}

/* Bytes that carry nothing, such as the sizes of tiny chunks, are bounded too: whether there are not too many. */
static int is_lean(http1 *state, size_t taken)
{
    state->raw += taken;
    return state->raw <= 4 * (size_t)MOST_HEAD + INPUT_BYTES + 8 * state->data;
}

/* Without grants a request whose body is under way is handed out once that is there; else before, as who may not call is
 * to send nothing. */
static void hand_out_early(connection *owner)
{
    stream *one = owner->http1->request;
    if (!one || !owner->http1->head_done || one->finished || one->call || one->encoding || one->options->kind != PATH_STREAM)
        return;
    byte_buffer body = one->body;
    memset(&one->body, 0, sizeof body);
    if (queue_call(one, EVENT_HTTP_EARLY, is_late(one), NULL)) call_refuse_full(one);
    if (one->finished) { /* nobody takes it */
        let_go(owner->account, buffer_length(&body));
        buffer_free(&body);
    } else {
        one->body = body;
    }
}

static void feed(connection *owner, size_t length)
{
    http1 *state = owner->http1;
    const uint8_t *at = owner->server->input, *end_of_input = at + length;
    while (at < end_of_input && !owner->dead && !state->over) {
        if (state->request && state->complete) { /* it is not answered yet, or its answer has not left */
            owner->paused = HELD;
            buffer_add(&owner->unread, at, (size_t)(end_of_input - at));
            if (owner->unread.failed) connection_close(owner);
            return;
        }
        state->parsed = at;
        llhttp_errno_t error = llhttp_execute(&state->parser, (const char *)at, (size_t)(end_of_input - at));
        const uint8_t *next = error == HPE_OK ? end_of_input : (const uint8_t *)llhttp_get_error_pos(&state->parser);
        state->before += (size_t)(next - at);
        if (error == HPE_PAUSED) {
            llhttp_resume(&state->parser);
            take(state->request);
            if (fill(owner, INPUT_BYTES)) connection_close(owner);
        } else if (error != HPE_OK) {
            parse_failed(owner, error);
            return;
        } else if (!is_lean(state, (size_t)(next - at))) {
            http1_refuse(owner, 400, "The request has little content in many bytes.");
            state->keep = 0;
            return;
        }
        at = next;
        if (at < end_of_input && !owner->paused && !(state->request && state->complete) && !owner->dead && !state->over &&
            now_ns() - owner->turn >= owner->server->turn) {
            owner->paused = PAUSED;
            connection_pause(owner, at, (size_t)(end_of_input - at));
            return;
        }
    }
    if (owner->dead || state->over || !state->request) return;
    if (state->complete)
        owner->paused = HELD;
    else
        hand_out_early(owner);
}

static int is_over(const connection *owner)
{
    return owner->http1->over || owner->closing;
}

static void fail(connection *owner, uint32_t error)
{
    (void)error;
    owner->http1->over = 1;
}

static int check(connection *owner, int64_t now)
{
    const kanserve_config *config = &owner->server->config;
    http1 *state = owner->http1;
    if (owner->lingering || !owner->greeted) return 0;
    if (!state->request) {
        if (buffer_length(&owner->out) > 0) state->since = now; /* not idle: the end of an answer has not left yet */
        if (now >= state->since + config->keepalive) return -1;
        loop_check_by(owner->server, state->since + config->keepalive);
    } else if (!state->head_done && !state->request->answered) {
        int64_t until = state->request->arrived + config->greeting_time;
        if (now >= until)
            http1_refuse(owner, 408, "The head of the request did not come in time.");
        else
            loop_check_by(owner->server, until);
    }
    return 0;
}

static int hang_up(connection *owner, int final)
{
    http1 *state = owner->http1;
    state->keep = 0;
    if (final) streams_refuse(owner);
    if (!state->request && buffer_length(&owner->unread) == 0) state->over = 1;
    return final;
}

static void cancel(stream *one)
{
    connection_close(one->owner);
}

static void open_window(stream *one)
{
    (void)one; /* TCP's is all there is */
}

const protocol HTTP1 = {
    .event = EVENT_HTTP,
    .times = 4, /* numbers are longer as text */
    .frame = 2 * MOST_HEAD,
    .begin = begin,
    .end = end,
    .feed = feed,
    .fill = fill,
    .is_over = is_over,
    .fail = fail,
    .check = check,
    .hang_up = hang_up,
    .forget = forget,
    .send = send_out,
    .refuse = refuse,
    .cancel = cancel,
    .inflated = inflated,
    .open_window = open_window,
    .read_rows = rest_read_rows,
    .write_rows = rest_write_rows,
    .seal = response_seal,
};

static void free_all(kanserve_server *server)
{
    buffer_free(&server->http1->json);
    buffer_free(&server->http1->values);
    free(server->http1);
    server->http1 = NULL;
}

int kanserve_listen_http(kanserve_server *server, int fd, const kanserve_path *options)
{
    http1_server *all = server->http1 ? server->http1 : calloc(1, sizeof *all);
    if (!all) return -1;
    http1_settings(&all->settings);
    memcpy(all->options, options, sizeof all->options);
    server->http1 = all;
    server->free_http1 = free_all;
    return listen_for(server, fd, &HTTP1);
}

#define TEXT_OF(number) TEXT(number)
#define TEXT(number) #number

const char *kanserve_http_versions(void)
{
    return "llhttp " TEXT_OF(LLHTTP_VERSION_MAJOR) "." TEXT_OF(LLHTTP_VERSION_MINOR) "." TEXT_OF(LLHTTP_VERSION_PATCH)
           ", yyjson " YYJSON_VERSION_STRING;
}
