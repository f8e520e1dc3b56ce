/* Streams: one for each call of gRPC, or request of HTTP/1.1, from its first byte until its answer has left. */

#include "server.h"

enum { KEPT_STREAMS = 256, KEPT_BYTES = 4096 };

stream *stream_new(connection *owner, int32_t id)
{
    kanserve_server *server = owner->server;
    stream *one = server->free_streams;
    if (one) {
        server->free_streams = one->next;
        server->free_count--;
        byte_buffer body = one->body, metadata = one->metadata, out = one->out;
        memset(one, 0, sizeof *one);
        one->body = body;
        one->metadata = metadata;
        one->out = out;
    } else if (!(one = calloc(1, sizeof *one))) {
        return NULL;
    }
    one->owner = owner;
    one->id = id;
    one->path = -1;
    one->arrived = now_ns();
    one->next = owner->streams;
    if (one->next) one->next->previous = one;
    owner->streams = one;
    return one;
}

static void empty(kanserve_server *server, byte_buffer *buffer)
{
    if (buffer->capacity > KEPT_BYTES || buffer->failed)
        loop_discard(server, buffer);
    else
        buffer->start = buffer->end = 0;
}

void stream_free(stream *one)
{
    connection *owner = one->owner;
    kanserve_server *server = owner->server;
    call_gone(one);
    if (one->previous)
        one->previous->next = one->next;
    else
        owner->streams = one->next;
    if (one->next) one->next->previous = one->previous;
    owner->protocol->forget(one);
    if (owner->viewing == one) owner->viewing = NULL;
    inflate_drop(one);
    server->described -= one->described;
    let_go(owner->account,
           one->described + buffer_length(&one->body) + buffer_length(&one->later) + buffer_length(&one->out));
    buffer_free(&one->trailers);
    buffer_free(&one->later);
    empty(server, &one->body);
    empty(server, &one->metadata);
    empty(server, &one->out);
    if (server->free_count < KEPT_STREAMS) {
        one->next = server->free_streams;
        server->free_streams = one;
        server->free_count++;
        return;
    }
    buffer_free(&one->body);
    buffer_free(&one->metadata);
    buffer_free(&one->out);
    free(one);
}

/* Begin or go on to send `out`. From now on the peer must take something of it every so often. */
void stream_send(stream *to)
{
    kanserve_server *server = to->owner->server;
    to->moved = now_ns();
    loop_check_by(server, to->moved + server->config.write_time);
    to->owner->protocol->send(to);
}

static void end(stream *to, int status)
{
    to->finished = 1;
    to->status = status;
    to->answered = now_ns();
    to->deadline = to->message_deadline = 0;
}

/* A unary answer: `out` holds the message. */
void stream_answer(stream *to)
{
    end(to, GRPC_OK);
    stream_send(to);
}

void stream_fail(stream *to, int status, const char *text, const byte_buffer *more)
{
    kanserve_server *server = to->owner->server;
    if (to->finished) return;
    call_gone(to);
    end(to, status);
    to->moved = to->answered;
    loop_check_by(server, to->moved + server->config.write_time);
    inflate_drop(to);
    let_go(to->owner->account, buffer_length(&to->later));
    buffer_free(&to->later);
    if (!to->ended) { /* what still comes is thrown away */
        let_go(to->owner->account, buffer_length(&to->body));
        loop_discard(server, &to->body);
        to->view = NULL;
    }
    to->owner->protocol->refuse(to, status, text, more);
}

void stream_fail_known(stream *to, int status, const char *error, const char *text)
{
    byte_buffer more = {0};
    buffer_add_pair(&more, "kanserve-error", 14, error, strlen(error));
    stream_fail(to, status, text, &more);
    buffer_free(&more);
}

/* The memory for messages is used up. */
void stream_fail_full(stream *to)
{
    atomic_fetch_add(&to->owner->server->refused[REFUSED_MEMORY], 1);
    stream_fail_known(to, GRPC_RESOURCE_EXHAUSTED, "BusyError",
                      "The messages of the calls under way take too much memory. Try again later.");
}

const uint8_t *stream_route(const stream *one, size_t *length)
{
    const char *name = one->owner->server->config.route_header;
    *length = 0;
    if (!name) return NULL;
    size_t name_length = strlen(name), left = buffer_length(&one->metadata);
    const uint8_t *at = left ? buffer_begin(&one->metadata) : NULL;
    while (left) {
        uint32_t lengths[2];
        memcpy(lengths, at, sizeof lengths);
        const uint8_t *key = at + sizeof lengths, *value = key + lengths[0];
        if (lengths[0] == name_length && memcmp(key, name, name_length) == 0) {
            for (uint32_t i = 0; i < lengths[1]; i++)
                if (value[i] > 127) return NULL;
            *length = lengths[1];
            return value;
        }
        size_t pair = sizeof lengths + lengths[0] + lengths[1];
        at += pair;
        left -= pair;
    }
    return NULL;
}

/* The server ends: refuse what is not answered yet. */
void streams_refuse(connection *owner)
{
    for (stream *one = owner->streams, *next; one; one = next) {
        next = one->next;
        if (!one->answered && !one->finished)
            stream_fail_known(one, GRPC_UNAVAILABLE, "DrainingError", "The server has stopped. Try another server.");
    }
}
