/* Decompressing messages, with a limit: a small message may hold gigabytes. It is done in parts, between which the loop
 * serves others: a turn of the loop takes at most SLICE for it, which connections get one after another. */

#include "server.h"

#include <zlib.h>

#define SLICE (SECOND / 10000)

/* What one step reads and writes at most: there are messages that take long and give nothing, and the reverse; what
 * zlib allocates for a message; and how much smaller a message can become by deflate. */
enum { STEP_IN = 1 << 13, STEP_OUT = 1 << 15, STATE_BYTES = 48 << 10, MOST_RATIO = 1032 };

struct inflation {
    inflation *next; /* of its connection */
    stream *of;
    z_stream state;
    byte_buffer packed, plain;
    size_t left; /* bytes of `packed` */
    size_t most; /* that it may become, as the server has it or, if that is less, as the message has */
};

static void inflation_free(inflation *one)
{
    let_go(one->of->owner->account, STATE_BYTES + buffer_length(&one->packed) + buffer_length(&one->plain));
    inflateEnd(&one->state);
    loop_discard(one->of->owner->server, &one->packed);
    loop_discard(one->of->owner->server, &one->plain);
    free(one);
}

static int step(inflation *one)
{
    z_stream *state = &one->state;
    uInt given = one->left < STEP_IN ? (uInt)one->left : STEP_IN;
    uint8_t *room = is_room(one->of->owner->account, STEP_OUT) ? buffer_room(&one->plain, STEP_OUT) : NULL;
    if (!room) return NO_ROOM;
    state->avail_in = given;
    state->next_out = room;
    state->avail_out = STEP_OUT;
    int result = inflate(state, Z_NO_FLUSH);
    size_t made = STEP_OUT - state->avail_out;
    one->plain.end += made;
    hold(one->of->owner->account, made);
    one->left -= given - state->avail_in;
    if (buffer_length(&one->plain) > one->most)
        return one->most < (size_t)one->of->owner->server->config.max_message ? BROKEN : TOO_LARGE;
    if (result == Z_STREAM_END) return one->left ? BROKEN : INFLATED;
    if (result != Z_OK && result != Z_BUF_ERROR) return BROKEN;
    return one->left || state->avail_out == 0 ? UNFINISHED : BROKEN; /* its end is missing */
}

static int64_t steps(inflation *one, int *result)
{
    int64_t begun = now_ns(), now;
    do {
        *result = step(one);
        now = now_ns();
    } while (*result == UNFINISHED && now - begun < SLICE);
    return now - begun;
}

/* Give the stream its message, if it has become one. */
static void end(inflation *one, int result)
{
    stream *of = one->of;
    of->inflating = NULL;
    if (result == INFLATED) {
        of->body = one->plain;
        memset(&one->plain, 0, sizeof one->plain);
    }
    inflation_free(one);
}

static void add_last(inflation *one)
{
    connection *owner = one->of->owner;
    one->next = NULL;
    if (!owner->inflations) owner->last_inflation = &owner->inflations;
    *owner->last_inflation = one;
    owner->last_inflation = &one->next;
}

static inflation *take_first(connection *owner)
{
    inflation *first = owner->inflations;
    owner->inflations = first->next;
    return first;
}

/* The size that gzip has at its end, which is that of the whole if it is less than 4 GB, as what is allowed is. */
static size_t announced(const byte_buffer *packed)
{
    const uint8_t *last = packed->data + packed->end - 4;
    return (size_t)last[0] | (size_t)last[1] << 8 | (size_t)last[2] << 16 | (size_t)last[3] << 24;
}

/* Decompress the message of a stream in its place; UNFINISHED if `call_inflated` is to say later what came of it. */
int inflate_begin(stream *of)
{
    connection *owner = of->owner;
    inflation *one = NULL;
    size_t most = (size_t)owner->server->config.max_message;
    int gzip = of->encoding == ENCODING_GZIP, result = UNFINISHED;
    if (gzip && buffer_length(&of->body) >= 18) { /* the least that it has */
        size_t size = announced(&of->body);
        if (size > most) return size / MOST_RATIO > buffer_length(&of->body) ? BROKEN : TOO_LARGE;
        most = size;
    }
    if (is_room(owner->account, STATE_BYTES)) one = calloc(1, sizeof *one);
    /* 15 is the largest window; 16 more means gzip. What HTTP calls deflate is zlib's format. */
    if (!one || inflateInit2(&one->state, gzip ? 15 + 16 : 15) != Z_OK) {
        free(one);
        return NO_ROOM;
    }
    hold(owner->account, STATE_BYTES);
    one->of = of;
    one->most = most;
    one->packed = of->body; /* counted already */
    memset(&of->body, 0, sizeof of->body);
    one->left = buffer_length(&one->packed);
    one->state.next_in = (Bytef *)buffer_begin(&one->packed);
    call_reserve(of, &one->plain);
    of->inflating = one;
    kanserve_server *server = owner->server;
    if (!server->waiting[WAIT_INFLATING].first && server->inflated < SLICE) server->inflated += steps(one, &result);
    if (result == UNFINISHED) {
        if (!owner->inflations) waiting_add(owner, WAIT_INFLATING);
        add_last(one);
    } else {
        end(one, result);
    }
    return result;
}

static void unlink_inflation(inflation *one)
{
    connection *owner = one->of->owner;
    inflation **at = &owner->inflations;
    while (*at != one) at = &(*at)->next;
    *at = one->next;
    if (!one->next) owner->last_inflation = at;
    if (!owner->inflations) waiting_drop(owner, WAIT_INFLATING);
}

/* The message is not wanted any more. */
void inflate_drop(stream *of)
{
    if (!of->inflating) return;
    unlink_inflation(of->inflating);
    inflation_free(of->inflating);
    of->inflating = NULL;
}

/* The part of this turn. */
void inflate_some(kanserve_server *server)
{
    connection *owner;
    while (server->inflated < SLICE && (owner = waiting_take(server, WAIT_INFLATING))) {
        int result;
        inflation *one = take_first(owner);
        server->inflated += steps(one, &result);
        if (result == UNFINISHED) add_last(one);
        if (owner->inflations) waiting_add(owner, WAIT_INFLATING);
        if (result == UNFINISHED) continue;
        stream *of = one->of;
        end(one, result);
        of->owner->protocol->inflated(of, result);
        connection_write(owner);
    }
    server->inflated = 0;
}
