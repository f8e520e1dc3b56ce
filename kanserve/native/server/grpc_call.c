/* A call of gRPC on its stream: headers, framing, deadline, and whether it is answered here or handed out.
 * https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md */

#include "server.h"

enum { STREAM_BYTES = 1 << 10 }; /* that a stream takes itself, here and in nghttp2 */

#define COUNTED (240 * SECOND) /* in which rows of a replaced model are counted: their counters live somewhat longer */

void frame_message(byte_buffer *to, int compressed, const void *data, size_t length)
{
    uint8_t prefix[5] = {(uint8_t)compressed, (uint8_t)(length >> 24), (uint8_t)(length >> 16), (uint8_t)(length >> 8), (uint8_t)length};
    buffer_add(to, prefix, sizeof prefix);
    buffer_add(to, data, length);
}

int call_read_rows(stream *one, const uint8_t *message, size_t length, infer_request *request)
{
    size_t route_length;
    const uint8_t *route = stream_route(one, &route_length);
    return infer_read(one->owner->server->table, message, length, route, route_length, request);
}

void call_write_rows(const infer_request *request, const void *y, int64_t outside, const byte_buffer *indices, byte_buffer *to)
{
    buffer_add(to, "\0\0\0\0", 5);
    infer_write(request, y, outside, indices, to);
}

/* Put the length before the message that `out` holds after five bytes. */
void call_seal(stream *one)
{
    size_t size = buffer_length(&one->out) - 5;
    uint8_t *prefix = one->out.data + one->out.start;
    for (int i = 0; i < 4; i++) prefix[4 - i] = (uint8_t)(size >> 8 * i);
}

static int same(const uint8_t *text, size_t length, const char *other)
{
    return length == strlen(other) && memcmp(text, other, length) == 0;
}

/* 1 to 8 digits and a unit, as nanoseconds; -1 for anything else. */
static int64_t read_timeout(const uint8_t *text, size_t length)
{
    int64_t value = 0, unit;
    if (length < 2 || length > 9) return -1;
    for (size_t i = 0; i < length - 1; i++) {
        if (text[i] < '0' || text[i] > '9') return -1;
        value = 10 * value + (text[i] - '0');
    }
    switch (text[length - 1]) {
    case 'H': unit = 3600 * SECOND; break;
    case 'M': unit = 60 * SECOND; break;
    case 'S': unit = SECOND; break;
    case 'm': unit = SECOND / 1000; break;
    case 'u': unit = 1000; break;
    case 'n': unit = 1; break;
    default: return -1;
    }
    return value > INT64_MAX / 4 / unit ? INT64_MAX / 4 : value * unit;
}

/* Whether a list with commas has the name. */
static int lists(const uint8_t *list, size_t length, const char *name)
{
    const uint8_t *end = list + length;
    while (list < end) {
        const uint8_t *comma = memchr(list, ',', (size_t)(end - list));
        const uint8_t *last = comma ? comma : end;
        while (list < last && *list == ' ') list++;
        const uint8_t *after = last;
        while (after > list && after[-1] == ' ') after--;
        if (same(list, (size_t)(after - list), name)) return 1;
        list = last + 1;
    }
    return 0;
}

static int find_path(const kanserve_server *server, const uint8_t *text, size_t length)
{
    for (int i = 0; i < server->path_count; i++)
        if (server->paths[i].length == length && memcmp(server->paths[i].name, text, length) == 0) return i;
    return -1;
}

void call_header(stream *one, const uint8_t *name, size_t name_length, const uint8_t *value, size_t value_length)
{
    kanserve_server *server = one->owner->server;
    one->metadata_bytes += name_length + value_length;
    if (one->metadata_bytes > 2 * (size_t)server->config.max_metadata) {
        one->large = 1;
        return;
    }
    if (name[0] == ':') {
        if (same(name, name_length, ":method"))
            one->post = same(value, value_length, "POST");
        else if (same(name, name_length, ":path"))
            one->path = find_path(server, value, value_length);
        if (one->path >= 0) one->options = &server->paths[one->path].options;
        return;
    }
    if (same(name, name_length, "content-type")) {
        one->grpc = value_length >= 16 && memcmp(value, "application/grpc", 16) == 0 &&
                    (value_length == 16 || value[16] == '+' || value[16] == ';');
        return;
    }
    if (same(name, name_length, "te")) return;
    if (same(name, name_length, "grpc-accept-encoding")) {
        one->takes_gzip = one->options && one->options->answers == ANSWERS_FORMULA && lists(value, value_length, "gzip");
        return;
    }
    if (same(name, name_length, "grpc-timeout")) {
        int64_t timeout = read_timeout(value, value_length);
        one->bad_timeout = timeout < 0;
        one->deadline = one->arrived + timeout;
        return;
    }
    if (same(name, name_length, "grpc-encoding")) {
        one->encoding = same(value, value_length, "identity") ? ENCODING_IDENTITY
                        : same(value, value_length, "gzip")   ? ENCODING_GZIP
                        : same(value, value_length, "deflate") ? ENCODING_DEFLATE
                                                               : ENCODING_UNKNOWN;
        return;
    }
    buffer_add_pair(&one->metadata, name, name_length, value, value_length);
}

static void refuse(stream *one, int why, int status, const char *error, const char *text)
{
    atomic_fetch_add(&one->owner->server->refused[why], 1);
    stream_fail_known(one, status, error, text);
}

void call_refuse_full(stream *one)
{
    refuse(one, REFUSED_QUEUE, GRPC_RESOURCE_EXHAUSTED, "BusyError", "The queue is full. Try again later.");
}

/* Refuse a call before its message, while the queue is full and no loop could answer it: whether that was done. */
int call_refuse_early(stream *one)
{
    const kanserve_server *server = one->owner->server;
    const kanserve_path *path = one->options;
    if (!path->refusable || path->answers == ANSWERS_INFER || is_late(one) ||
        atomic_load(&((kanserve_server *)server)->queued) < server->config.queue)
        return 0;
    call_refuse_full(one);
    return 1;
}

/* Metadata of calls have half of the memory for messages, so that these have the other half. Who holds much of it and
 * waits for its peer gives way: attackers who open calls would else keep all others out. */
static int has_room(connection *owner, size_t bytes)
{
    kanserve_server *server = owner->server;
    while (server->described + bytes > (size_t)server->config.max_held / 2)
        if (!connections_give_memory(server, owner)) return 0;
    return connection_has_room(owner, bytes);
}

/* Count what a stream and its metadata take until it ends, as its messages are counted: whether there is room. A call
 * that is answered while all else waits is counted, and never refused. */
int call_describe(stream *one)
{
    size_t bytes = STREAM_BYTES + one->metadata.capacity;
    if (!one->options->aside && !has_room(one->owner, bytes)) {
        buffer_free(&one->metadata);
        stream_fail_full(one);
        return 0;
    }
    one->described = bytes;
    one->owner->server->described += bytes;
    hold(one->owner->account, bytes);
    return 1;
}

/* All headers are there. */
void call_begin(stream *one, int ended)
{
    kanserve_server *server = one->owner->server;
    if (!one->post) {
        http2_http_error(one, "405");
    } else if (!one->grpc) {
        http2_http_error(one, "415");
    } else if (one->path < 0) {
        stream_fail(one, GRPC_UNIMPLEMENTED, "Method not found!", NULL);
    } else if (one->large || buffer_length(&one->metadata) > (size_t)server->config.max_metadata) {
        stream_fail(one, GRPC_RESOURCE_EXHAUSTED, "The call has too much metadata.", NULL);
    } else if (one->bad_timeout) {
        stream_fail(one, GRPC_INTERNAL, "The header grpc-timeout is not valid.", NULL);
    }
    if (one->finished) return;
    if (one->page) {
        one->message_deadline = one->arrived + server->config.greeting_time;
        loop_check_by(server, one->message_deadline);
        return;
    }
    if (one->metadata.failed) {
        stream_fail(one, GRPC_RESOURCE_EXHAUSTED, "The server is out of memory.", NULL);
        return;
    }
    if (call_refuse_early(one) || !call_describe(one)) return;
    if (one->options->kind == PATH_STREAM) {
        if (queue_call(one, EVENT_CALL, is_late(one), NULL)) call_refuse_full(one);
        return;
    }
    if (ended) return;
    one->message_deadline = one->arrived + one->options->patience;
    loop_check_by(server, one->message_deadline);
    loop_check_by(server, one->deadline);
}

static void message_begins(stream *one)
{
    one->compressed = one->prefix[0];
    one->expected = (uint32_t)one->prefix[1] << 24 | (uint32_t)one->prefix[2] << 16 | (uint32_t)one->prefix[3] << 8 | one->prefix[4];
    one->taken = 0;
    if (one->compressed > 1)
        stream_fail(one, GRPC_INTERNAL, "The message has an invalid flag.", NULL);
    else if (one->compressed && one->encoding == ENCODING_IDENTITY)
        stream_fail(one, GRPC_INTERNAL, "The message is compressed, and grpc-encoding does not say how.", NULL);
    else if (one->compressed && one->encoding == ENCODING_UNKNOWN) {
        byte_buffer more = {0};
        buffer_add_pair(&more, "grpc-accept-encoding", 20, "identity,deflate,gzip", 21);
        stream_fail(one, GRPC_UNIMPLEMENTED, "The message is compressed in a way that is not supported.", &more);
        buffer_free(&more);
    } else if (one->expected > one->owner->server->config.max_message) {
        stream_fail(one, GRPC_RESOURCE_EXHAUSTED, "The message is larger than the server takes.", NULL);
    } else if (one->messages && !one->call) {
        stream_fail(one, GRPC_UNIMPLEMENTED, "The call takes one message; it has more.", NULL);
    }
}

static void message_is_whole(stream *one)
{
    if (one->call && queue_message(one->call, &one->body))
        stream_fail(one, GRPC_RESOURCE_EXHAUSTED, "The server is out of memory.", NULL);
}

static void inflated(stream *one, int result)
{
    switch (result) {
    case INFLATED: message_is_whole(one); break;
    case UNFINISHED: break;
    case TOO_LARGE: stream_fail(one, GRPC_RESOURCE_EXHAUSTED, "The message is larger than the server takes.", NULL); break;
    case BROKEN: stream_fail(one, GRPC_INTERNAL, "The message cannot be decompressed.", NULL); break;
    default: stream_fail_full(one);
    }
}

static void message_ends(stream *one)
{
    one->messages++;
    if (one->view) return; /* it is read where it lies, once the stream ends */
    if (one->compressed)
        inflated(one, inflate_begin(one));
    else
        message_is_whole(one);
}

/* A thread gets a message of a stream where it lies: leave room before it for what else that needs. */
void call_reserve(const stream *one, byte_buffer *message)
{
    if (one->call && buffer_length(message) == 0 && buffer_room(message, sizeof(message_node)))
        message->start = message->end = sizeof(message_node);
}

/* Whether there was room for bytes of a message; else the call is refused. */
int call_store(stream *one, byte_buffer *where, const uint8_t *data, size_t length)
{
    if (!connection_has_room(one->owner, length)) {
        stream_fail_full(one);
        return 0;
    }
    buffer_add(where, data, length);
    if (where->failed) {
        stream_fail(one, GRPC_RESOURCE_EXHAUSTED, "The server is out of memory.", NULL);
        return 0;
    }
    hold(one->owner->account, length);
    return 1;
}

/* Bytes of the body. `one->view` is set if they hold the whole of it, and may be read until the stream ends. */
void call_data(stream *one, const uint8_t *data, size_t length)
{
    const uint8_t *end = data + length;
    while (data < end && !one->finished) {
        if (one->inflating) {
            call_store(one, &one->later, data, (size_t)(end - data));
            return;
        }
        if (one->prefix_length < 5) {
            one->prefix[one->prefix_length++] = *data++;
            if (one->prefix_length < 5) continue;
            message_begins(one);
            if (one->finished) return;
            if (one->view && (one->compressed || one->expected != (size_t)(end - data))) one->view = NULL;
            if (one->view) one->view = data;
        }
        size_t part = one->expected - one->taken;
        if (part > (size_t)(end - data)) part = (size_t)(end - data);
        if (!one->view && one->taken == 0) call_reserve(one, &one->body);
        if (!one->view && part && !call_store(one, &one->body, data, part)) return;
        one->taken += part;
        data += part;
        if (one->taken < one->expected) return;
        one->prefix_length = 0;
        message_ends(one);
    }
}

/* Copy a message out of the bytes just read: its stream did not end with them. */
void call_keep(stream *one)
{
    const uint8_t *view = one->view;
    one->view = NULL;
    if (view) call_store(one, &one->body, view, one->expected);
}

static void all_came(stream *one)
{
    if (one->prefix_length) {
        stream_fail(one, GRPC_INTERNAL, "The call ended within a message.", NULL);
        return;
    }
    if (one->call) {
        queue_half_close(one->call);
        return;
    }
    if (one->messages != 1) {
        stream_fail_known(one, GRPC_INVALID_ARGUMENT, "InputError", "The call takes one message; it ended without one.");
        return;
    }
    call_take(one);
}

/* A unary call is here as a whole: answer it, or hand it out. */
void call_take(stream *one)
{
    kanserve_server *server = one->owner->server;
    if (one->deadline && now_ns() >= one->deadline) {
        refuse(one, REFUSED_DEADLINE, GRPC_DEADLINE_EXCEEDED, "DeadlineError",
               "The deadline passed before the call could begin.");
        return;
    }
    const kanserve_path *path = one->options;
    int late = is_late(one);
    const uint8_t *message = one->view ? one->view : buffer_begin(&one->body);
    size_t length = one->view ? one->expected : buffer_length(&one->body);
    if (path->answers == ANSWERS_INFER && server->table && late) {
        refuse(one, REFUSED_DRAINING, GRPC_UNAVAILABLE, "DrainingError",
               "The server is stopping and takes no new work. Try again, or another server.");
        return;
    }
    if (answer_call(one, message, length)) {
        one->view = NULL; /* nobody needs the message any more */
        return;
    }
    if (path->refusable && !late && atomic_load(&server->queued) >= server->config.queue) {
        call_refuse_full(one);
        return;
    }
    if (queue_call(one, one->owner->protocol->event, late, NULL)) call_refuse_full(one);
}

/* The client has sent all. */
void call_end(stream *one)
{
    one->ended = 1;
    one->message_deadline = 0;
    if (!one->finished && !one->inflating) all_came(one);
}

/* A message was decompressed, or not: go on with what has come meanwhile. */
void call_inflated(stream *one, int result)
{
    byte_buffer later = one->later;
    memset(&one->later, 0, sizeof one->later);
    let_go(one->owner->account, buffer_length(&later));
    inflated(one, result);
    if (buffer_length(&later)) call_data(one, buffer_begin(&later), buffer_length(&later));
    buffer_free(&later);
    if (one->finished || one->inflating) return;
    if (!(one->call && queue_is_full(one->call))) one->owner->protocol->open_window(one);
    if (one->ended) all_came(one);
}

/* The stream ends, or is answered without its call: whoever holds the call learns of it. */
void call_gone(stream *one)
{
    kanserve_call *call = one->call;
    if (!call) return;
    one->call = NULL;
    call->stream = NULL;
    queue_gone(call);
    call_release(call);
}
