/* HTTP/2 by nghttp2: its callbacks, and how answers become frames. */

#include "server.h"

#include <stdio.h>

enum { STREAM_WINDOW = 1 << 18, CONNECTION_WINDOW = 1 << 22, HEADER_LIST = 1 << 14, PREFIX = 5, CALLS_A_LOOK = 16 };

static const char TO_HTTP1[] = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
                               "This port speaks gRPC, over HTTP/2. REST has another port: see --http-port.\n";

/* Frames that carry nothing but cost work fill a bucket, which leaks: idle clients may ping for hours, a flood ends the
 * connection. */
#define BUCKET 2000.0
#define LEAK 500.0 /* per second */

#define TEXT(name, value) \
    { (uint8_t *)name, (uint8_t *)value, sizeof name - 1, sizeof value - 1, NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE }

static const nghttp2_nv STATUS_OK = TEXT(":status", "200"), CONTENT_TYPE = TEXT("content-type", "application/grpc"),
                        ENCODED_GZIP = TEXT("grpc-encoding", "gzip"),
                        TRAILER_OK = TEXT("grpc-status", "0"), TRAILER_FULL = TEXT("grpc-status", "8");

static nghttp2_nv pair(const void *name, size_t name_length, const void *value, size_t value_length)
{
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, name_length, value_length, NGHTTP2_NV_FLAG_NONE};
}

enum { MOST_TRAILERS = 16 };

/* The trailers of a stream's status: how many. */
static size_t trailers(stream *one, nghttp2_nv *to)
{
    size_t count = 0, length = buffer_length(&one->trailers);
    if (one->trailers.failed) length = 0;
    if (length == 0) to[count++] = one->status == GRPC_OK && !one->trailers.failed ? TRAILER_OK : TRAILER_FULL;
    const uint8_t *at = one->trailers.data, *end = length ? at + length : at;
    while (at < end && count < MOST_TRAILERS) {
        uint32_t name, value;
        memcpy(&name, at, sizeof name);
        memcpy(&value, at + sizeof name, sizeof value);
        at += sizeof name + sizeof value;
        to[count++] = pair(at, name, at + name, value);
        at += name + value;
    }
    return count;
}

static nghttp2_ssize read_out(nghttp2_session *session, int32_t id, uint8_t *to, size_t most, uint32_t *flags,
                              nghttp2_data_source *source, void *data)
{
    stream *one = source->ptr;
    size_t count = buffer_length(&one->out);
    (void)data;
    if (count > most) count = most;
    if (count) {
        memcpy(to, buffer_begin(&one->out), count);
        buffer_take(&one->out, count);
        one->moved = now_ns();
    }
    let_go(one->owner->account, count);
    if (one->call && !one->finished) queue_sent(one->call, count);
    if (buffer_length(&one->out) > 0) return (nghttp2_ssize)count;
    if (!one->finished) return count ? (nghttp2_ssize)count : NGHTTP2_ERR_DEFERRED;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (one->page) return (nghttp2_ssize)count;
    *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    nghttp2_nv fields[MOST_TRAILERS];
    size_t number = trailers(one, fields);
    return nghttp2_submit_trailer(session, id, fields, number) ? NGHTTP2_ERR_CALLBACK_FAILURE : (nghttp2_ssize)count;
}

static void respond(stream *to, const nghttp2_nv *fields, size_t count, const nghttp2_data_provider2 *provider)
{
    connection *owner = to->owner;
    to->headers_sent = 1;
    /* Only without memory. */
    if (nghttp2_submit_response2(owner->session, to->id, fields, count, provider)) connection_fail(owner, NGHTTP2_INTERNAL_ERROR);
}

/* Begin or go on to send `out`; `finished` says whether more will come. */
static void http2_send(stream *to)
{
    if (to->headers_sent) {
        nghttp2_session_resume_data(to->owner->session, to->id);
        return;
    }
    nghttp2_data_provider2 provider = {{.ptr = to}, read_out};
    nghttp2_nv fields[] = {STATUS_OK, CONTENT_TYPE, ENCODED_GZIP};
    respond(to, fields, to->gzipped ? 3 : 2, &provider);
}

static void add_message(byte_buffer *trailers, const char *text)
{
    static const char HEX[] = "0123456789ABCDEF";
    byte_buffer encoded = {0};
    for (const uint8_t *at = (const uint8_t *)text; *at; at++) {
        if (*at >= 0x20 && *at <= 0x7e && *at != '%') {
            buffer_add_byte(&encoded, *at);
        } else {
            uint8_t three[3] = {'%', (uint8_t)HEX[*at >> 4], (uint8_t)HEX[*at & 15]};
            buffer_add(&encoded, three, 3);
        }
    }
    buffer_add_pair(trailers, "grpc-message", 12, buffer_begin(&encoded), encoded.failed ? 0 : buffer_length(&encoded));
    buffer_free(&encoded);
}

static void http2_refuse(stream *to, int status, const char *text, const byte_buffer *more)
{
    char number[16];
    int length = snprintf(number, sizeof number, "%d", status);
    buffer_free(&to->trailers);
    buffer_add_pair(&to->trailers, "grpc-status", 11, number, (size_t)length);
    if (text && *text) add_message(&to->trailers, text);
    if (more) buffer_add(&to->trailers, buffer_begin(more), buffer_length(more));
    if (to->headers_sent) {
        nghttp2_session_resume_data(to->owner->session, to->id);
        return;
    }
    nghttp2_nv fields[2 + MOST_TRAILERS] = {STATUS_OK, CONTENT_TYPE};
    respond(to, fields, 2 + trailers(to, fields + 2), NULL);
}

static void fill(connection *owner, double amount)
{
    int64_t now = now_ns();
    owner->flood -= LEAK * (double)(now - owner->flood_at) / SECOND;
    owner->flood_at = now;
    if (owner->flood < 0) owner->flood = 0;
    owner->flood += amount;
    if (owner->flood <= BUCKET || owner->closing) return;
    atomic_fetch_add(&owner->server->closed[CLOSED_FLOODING], 1);
    connection_fail(owner, NGHTTP2_ENHANCE_YOUR_CALM);
}

/* What is no gRPC is answered once it has come as a whole: an answer before would end the stream under what comes. */
void http2_http_error(stream *to, const char *status)
{
    to->page = status;
    fill(to->owner, 1);
}

static void http2_send_page(stream *to)
{
    static const char TEXT[] = "This port speaks gRPC.\n";
    connection *owner = to->owner;
    nghttp2_nv fields[] = {pair(":status", 7, to->page, 3), pair("content-type", 12, "text/plain", 10)};
    nghttp2_data_provider2 provider = {{.ptr = to}, read_out};
    if (is_room(owner->account, sizeof TEXT - 1)) buffer_add(&to->out, TEXT, sizeof TEXT - 1);
    hold(owner->account, buffer_length(&to->out));
    to->finished = 1;
    to->moved = to->answered = now_ns();
    loop_check_by(owner->server, to->moved + owner->server->config.write_time);
    respond(to, fields, 2, &provider);
}

static stream *stream_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *head, void *data)
{
    connection *owner = data;
    (void)session;
    http2_refuse_late(owner);
    if (head->type != NGHTTP2_HEADERS || !http2_is_over_for(owner, head->stream_id)) return 0;
    owner->late_stream = head->stream_id;
    fill(owner, 1);
    return 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
    connection *owner = data;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    if (http2_is_over_for(owner, frame->hd.stream_id)) return 0;
    stream *one = stream_new(owner, frame->hd.stream_id);
    if (!one) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    nghttp2_session_set_stream_user_data(session, one->id, one);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
                     const uint8_t *value, size_t value_length, uint8_t flags, void *data)
{
    stream *one = frame->hd.type == NGHTTP2_HEADERS ? stream_of(session, frame->hd.stream_id) : NULL;
    (void)flags;
    (void)data;
    if (one && frame->headers.cat == NGHTTP2_HCAT_REQUEST) call_header(one, name, name_length, value, value_length);
    return 0;
}

static void ends(stream *one)
{
    if (one->ended) return;
    if (!one->page) {
        call_end(one);
        return;
    }
    one->ended = 1;
    if (!one->finished) http2_send_page(one);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
    connection *owner = data;
    int ended = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    stream *one;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        if (!(one = stream_of(session, frame->hd.stream_id))) return 0;
        if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) call_begin(one, ended);
        if (ended) ends(one);
        return 0;
    case NGHTTP2_DATA:
        if (!ended && frame->hd.length == frame->data.padlen) fill(owner, 1); /* without content */
        if (ended && (one = stream_of(session, frame->hd.stream_id))) ends(one);
        return 0;
    case NGHTTP2_SETTINGS:
        owner->greeted = 1;
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK)) fill(owner, 10);
        return 0;
    case NGHTTP2_PING:
        if (frame->hd.flags & NGHTTP2_FLAG_ACK)
            http2_ping_acknowledged(owner, &frame->ping);
        else
            fill(owner, 2);
        return 0;
    case NGHTTP2_RST_STREAM: fill(owner, 1); return 0;
    case NGHTTP2_PRIORITY: fill(owner, 1); return 0;
    case NGHTTP2_WINDOW_UPDATE: fill(owner, .01); return 0;
    default: return 0;
    }
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes, size_t length, void *data)
{
    stream *one = stream_of(session, id);
    /* Windows open again as bytes are taken: of a connection at once, of a stream unless enough of its messages wait for
     * a thread, or one is being decompressed. */
    nghttp2_session_consume_connection(session, length);
    if (one && (one->inflating || (one->call && queue_is_full(one->call))))
        one->unconsumed += length;
    else
        nghttp2_session_consume_stream(session, id, length);
    if (!one || one->finished || one->page) return 0;
    /* The message may be read where it lies only if the stream ends before the next read. */
    if (flags & NGHTTP2_FLAG_END_STREAM && !one->call && !one->inflating && one->prefix_length == 0 && length >= 5)
        one->view = bytes;
    call_data(one, bytes, length);
    connection *owner = data;
    if (one->view) owner->viewing = one;
    if (now_ns() - owner->turn < owner->server->turn) return 0;
    owner->paused = PAUSED;
    return NGHTTP2_ERR_PAUSE;
}

/* Open the window of a stream by what came while it was not to send more. */
static void http2_open_window(stream *one)
{
    nghttp2_session_consume_stream(one->owner->session, one->id, one->unconsumed);
    one->unconsumed = 0;
}

static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *data)
{
    if (frame->hd.type == NGHTTP2_GOAWAY) http2_goaway_sent(data);
    if (frame->hd.type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code != NGHTTP2_NO_ERROR &&
        frame->rst_stream.error_code != NGHTTP2_CANCEL)
        fill(data, 1); /* what the peer did is not allowed, or it is more than it was told that it may */
    /* An answer before the call's end: the rest of the call is not wanted. */
    if (frame->hd.type == NGHTTP2_HEADERS && frame->hd.flags & NGHTTP2_FLAG_END_STREAM &&
        !nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id))
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t error, void *data)
{
    stream *one = stream_of(session, id);
    (void)error;
    (void)data;
    if (one) stream_free(one);
    return 0;
}

int http2_options(kanserve_server *server)
{
    if (nghttp2_session_callbacks_new(&server->callbacks) || nghttp2_option_new(&server->options)) return -1;
    nghttp2_session_callbacks *to = server->callbacks;
    nghttp2_session_callbacks_set_on_begin_frame_callback(to, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(to, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(to, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(to, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(to, on_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(to, on_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(to, on_close);
    nghttp2_option_set_no_auto_window_update(server->options, 1);
    nghttp2_option_set_no_closed_streams(server->options, 1);
    /* Under overload whole windows of calls are cancelled at their deadlines: that is no attack. */
    nghttp2_option_set_stream_reset_rate_limit(server->options, 10000, 1000);
    nghttp2_option_set_max_outbound_ack(server->options, 500);
    return 0;
}

static int http2_begin(connection *owner)
{
    kanserve_server *server = owner->server;
    if (nghttp2_session_server_new2(&owner->session, server->callbacks, owner, server->options)) return -1;
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, (uint32_t)server->config.max_streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADER_LIST},
    };
    owner->flood_at = owner->opened;
    owner->within_frame = NGHTTP2_CLIENT_MAGIC_LEN;
    if (nghttp2_submit_settings(owner->session, NGHTTP2_FLAG_NONE, settings, sizeof settings / sizeof *settings) ||
        nghttp2_session_set_local_window_size(owner->session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW)) {
        nghttp2_session_del(owner->session);
        return -1;
    }
    return 0;
}

static void http2_end(connection *owner)
{
    nghttp2_session_del(owner->session);
}

static void look_at_frame(connection *owner)
{
    const uint8_t *head = owner->head;
    uint32_t id = ((uint32_t)head[5] << 24 | (uint32_t)head[6] << 16 | (uint32_t)head[7] << 8 | head[8]) & 0x7fffffff;
    int type = head[3], carries = type == NGHTTP2_DATA || type == NGHTTP2_HEADERS;
    for (int i = 0; carries && i < ENDED_STREAMS; i++)
        if (owner->ended[i] == id && id) connection_fail(owner, NGHTTP2_STREAM_CLOSED);
    if (type == NGHTTP2_RST_STREAM || (carries && head[4] & NGHTTP2_FLAG_END_STREAM))
        owner->ended[owner->next_ended++ % ENDED_STREAMS] = id;
}

/* Look at the frames in these bytes, up to some calls further: how many bytes that are. A peer that goes on with a stream
 * that it has ended is noticed. nghttp2 would have to keep each closed stream to do so, and forgets them at once, as they
 * are memory that a peer could make it hold. */
static size_t look_at_frames(connection *owner, const uint8_t *begin, size_t length)
{
    const uint8_t *at = begin, *end = begin + length;
    int calls = 0;
    while (at < end) {
        size_t left = owner->within_frame ? owner->within_frame : sizeof owner->head - owner->head_length;
        size_t part = left < (size_t)(end - at) ? left : (size_t)(end - at);
        if (owner->within_frame) {
            owner->within_frame -= (uint32_t)part;
        } else {
            memcpy(owner->head + owner->head_length, at, part);
            owner->head_length += (uint32_t)part;
            if (part == left) {
                owner->head_length = 0;
                owner->within_frame = (uint32_t)owner->head[0] << 16 | (uint32_t)owner->head[1] << 8 | owner->head[2];
                look_at_frame(owner);
                calls += owner->head[3] == NGHTTP2_HEADERS;
            }
        }
        at += part;
        if (calls == CALLS_A_LOOK && !owner->within_frame && !owner->head_length) break;
    }
    return (size_t)(at - begin);
}

/* What was read, or the rest of it that waited for its turn. */
static void http2_feed(connection *owner, size_t length)
{
    const uint8_t *at = owner->server->input, *end = at + length;
    do { /* without bytes too: a frame after whose data it paused is still to be ended */
        size_t known = owner->looked_at < (size_t)(end - at) ? owner->looked_at : (size_t)(end - at);
        size_t part = known ? known : look_at_frames(owner, at, (size_t)(end - at));
        owner->looked_at -= known;
        nghttp2_ssize taken = nghttp2_session_mem_recv2(owner->session, at, part);
        if (owner->viewing) call_keep(owner->viewing);
        owner->viewing = NULL;
        http2_refuse_late(owner);
        if (taken < 0) {
            if (taken == NGHTTP2_ERR_FLOODED) atomic_fetch_add(&owner->server->closed[CLOSED_FLOODING], 1);
            int is_first = nghttp2_session_want_write(owner->session); /* our SETTINGS */
            int is_tls = part > 0 && at[0] == TLS_HANDSHAKE;           /* whose clients say from any text that this is not */
            if (taken == NGHTTP2_ERR_BAD_CLIENT_MAGIC && is_first && (is_tls || memmem(at, part, " HTTP/1.", 8)))
                connection_end_with(owner, TO_HTTP1);
            else if (taken == NGHTTP2_ERR_BAD_CLIENT_MAGIC || taken == NGHTTP2_ERR_NOMEM)
                connection_close(owner);
            else
                connection_fail(owner, taken == NGHTTP2_ERR_FLOODED ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_INTERNAL_ERROR);
            return;
        }
        at += taken;
        if (at < end && now_ns() - owner->turn >= owner->server->turn) owner->paused = PAUSED;
        if (owner->paused) { /* here, or by `on_data` */
            owner->looked_at = part - (size_t)taken;
            connection_pause(owner, at, (size_t)(end - at));
            return;
        }
    } while (at < end && !owner->dead);
}

static int http2_fill(connection *owner, size_t most)
{
    while (buffer_length(&owner->out) < most) {
        const uint8_t *data;
        nghttp2_ssize length = nghttp2_session_mem_send2(owner->session, &data);
        if (length < 0) return -1;
        if (length == 0) break;
        buffer_add(&owner->out, data, (size_t)length);
    }
    return 0;
}

static int http2_is_over(const connection *owner)
{
    return (owner->closing || !nghttp2_session_want_read(owner->session)) && !nghttp2_session_want_write(owner->session);
}

static void http2_terminate(connection *owner, uint32_t error)
{
    nghttp2_session_terminate_session(owner->session, error);
}

/* While something is left to write, nothing is read, an answer to a ping neither. */
static int http2_check(connection *owner, int64_t now)
{
    const kanserve_config *config = &owner->server->config;
    int64_t silent = owner->last_read + config->keepalive;
    if (owner->pinged && now >= owner->pinged + config->ping_time) return -1;
    if (owner->greeted && !owner->pinged && !owner->lingering && !owner->blocked && now >= silent) {
        nghttp2_submit_ping(owner->session, NGHTTP2_FLAG_NONE, NULL);
        owner->pinged = now;
    }
    loop_check_by(owner->server, owner->pinged ? owner->pinged + config->ping_time : silent > now ? silent : 0);
    return 0;
}

static void http2_forget(stream *one)
{
    nghttp2_session_set_stream_user_data(one->owner->session, one->id, NULL);
}

static void http2_cancel(stream *one)
{
    nghttp2_submit_rst_stream(one->owner->session, NGHTTP2_FLAG_NONE, one->id, NGHTTP2_CANCEL);
}

const protocol HTTP2 = {
    .event = EVENT_CALL,
    .times = 1,
    .frame = PREFIX,
    .begin = http2_begin,
    .end = http2_end,
    .feed = http2_feed,
    .fill = http2_fill,
    .is_over = http2_is_over,
    .fail = http2_terminate,
    .check = http2_check,
    .hang_up = http2_hang_up,
    .forget = http2_forget,
    .send = http2_send,
    .refuse = http2_refuse,
    .cancel = http2_cancel,
    .inflated = call_inflated,
    .open_window = http2_open_window,
    .read_rows = call_read_rows,
    .write_rows = call_write_rows,
    .seal = call_seal,
};
