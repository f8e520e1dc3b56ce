/* A whole connection, in one thread: the input says what the client sends, and when the threads that answer calls do
 * something. At the end of each input nothing may be left: no call, no message, no byte counted.
 *
 * An input is a row of steps: a byte that chooses, a byte of arguments, and what the step takes. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz_calls.h"
#include "fuzz_models.h"

enum { PATHS = 7, MOST_HELD = 16 };

static const char *const names[PATHS] = {"/k/Unary", "/k/Infer", "/k/Stream", "/k/Health", "/k/Watch",
                                          "/k/Differentiate", "/k/Formula"};
static const char PREFACE[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";

typedef struct {
    const uint8_t *at, *end;
} input;

typedef struct {
    kanserve_call *call;
    kanserve_event event;
    int notified;
} held_call;

static kanserve_server *server;
static connection *owner;
static int peer;
static held_call held[MOST_HELD];
static int held_count;
static int32_t next_stream;

static uint8_t byte(input *from)
{
    return from->at < from->end ? *from->at++ : 0;
}

static void begin_server(void)
{
    kanserve_config config = {.max_message = 1 << 14, .max_held = 1 << 16, .inline_budget = 5000, .keepalive = SECOND * 60,
                              .greeting_time = SECOND * 60, .write_time = SECOND * 60, .ping_time = SECOND * 60,
                              .linger_time = SECOND * 60, .max_streams = 16, .max_metadata = 512, .max_connections = 64, .queue = 8,
                              .hand_out_rows = 1, .route_header = "x"};
    kanserve_path paths[PATHS] = {{PATH_UNARY, 0, 1, 0, SECOND * 60}, {PATH_UNARY, ANSWERS_INFER, 1, 0, SECOND * 60},
                                  {PATH_STREAM, 0, 1, 0, SECOND * 60}, {PATH_UNARY, 0, 0, 1, SECOND * 60},
                                  {PATH_STREAM, 0, 0, 1, SECOND * 60},
                                  {PATH_UNARY, ANSWERS_DIFFERENTIATE, 1, 0, SECOND * 60},
                                  {PATH_UNARY, ANSWERS_FORMULA, 1, 0, SECOND * 60}};
    server = kanserve_new(&config, names, paths, PATHS);
    server->epoll = epoll_create1(EPOLL_CLOEXEC);
    server->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    server->table = fuzz_table();
}

static void client_sends(const uint8_t *data, size_t length)
{
    if (send(peer, data, length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return;
    if (!owner->dead) connection_read(owner);
}

static void frame(int type, int flags, int32_t stream, const uint8_t *data, size_t length)
{
    uint8_t whole[9 + 1024] = {(uint8_t)(length >> 16), (uint8_t)(length >> 8), (uint8_t)length, (uint8_t)type, (uint8_t)flags};
    for (int i = 0; i < 4; i++) whole[8 - i] = (uint8_t)((uint32_t)stream >> 8 * i);
    if (length) memcpy(whole + 9, data, length);
    client_sends(whole, 9 + length);
}

static void add_field(byte_buffer *to, const char *name, const char *value)
{
    buffer_add_byte(to, 0);
    buffer_add_byte(to, (uint8_t)strlen(name));
    buffer_add(to, name, strlen(name));
    buffer_add_byte(to, (uint8_t)strlen(value));
    buffer_add(to, value, strlen(value));
}

static void client_calls(uint8_t what, input *from)
{
    static const char *const timeouts[] = {"1n", "99999999H", "5S", "7x"}, *const encodings[] = {"gzip", "deflate", "br", "identity"};
    byte_buffer block = {0};
    add_field(&block, ":method", what & 128 && byte(from) < 16 ? "GET" : "POST");
    add_field(&block, ":scheme", "http");
    add_field(&block, ":path", what % 8 < PATHS ? names[what % 8] : "/k/None");
    add_field(&block, ":authority", "x");
    add_field(&block, "content-type", what & 64 && byte(from) < 16 ? "text/html" : "application/grpc");
    if (what & 8) add_field(&block, "grpc-timeout", timeouts[byte(from) % 4]);
    if (what & 16) add_field(&block, "grpc-encoding", encodings[byte(from) % 4]);
    if (what & 32) add_field(&block, "some-bin", "AAAA");
    frame(1, 4 | (what & 64 && byte(from) & 1), next_stream, buffer_begin(&block), buffer_length(&block));
    next_stream += 2;
    buffer_free(&block);
}

/* Data on one of the latest streams: raw, or a message behind its prefix. */
static void client_writes(uint8_t what, input *from)
{
    uint8_t data[512 + 5] = {0};
    size_t length = byte(from), start = what & 4 ? 5 : 0;
    if (length > (size_t)(from->end - from->at)) length = (size_t)(from->end - from->at);
    if (length) memcpy(data + start, from->at, length);
    from->at += length;
    data[4] = (uint8_t)(start ? length : data[4]);
    if (start && what & 8) data[0] = 1;
    if (start && what & 16) data[3] = 64; /* a message of 16 KB, which is as large as they may be */
    int32_t stream = next_stream - 2 * (1 + (what >> 5 & 3));
    frame(0, what & 1, stream > 0 ? stream : 1, data, start + length);
}

static void take_call(int which)
{
    if (held_count == MOST_HELD) return;
    held_call *one = &held[held_count];
    memset(one, 0, sizeof *one);
    if (!call_taken(server, which, &one->event)) return;
    one->call = one->event.call;
    held_count++;
}

static void forget(int index)
{
    held[index] = held[--held_count];
}

static void thread_works(uint8_t what, input *from)
{
    static uint8_t answer[1 << 13];
    if (held_count == 0) return;
    int index = what % 4 % held_count;
    held_call *one = &held[index];
    kanserve_call *call = one->call;
    if (one->event.kind == EVENT_ROWS) {
        kanserve_answer_rows(call, answer, what & 4 ? 3 : (size_t)one->event.rows * 8, 1000);
        forget(index);
        return;
    }
    const void *data = NULL;
    int gone = kanserve_gone(call);
    switch (what >> 2 & 7) {
    case 0:
        kanserve_answer(call, answer, byte(from) * (size_t)32);
        forget(index);
        return;
    case 1:
    case 2:
        kanserve_finish(call, byte(from) % 17, "text % \xc3\xbc\n", what & 64 ? 10 : 0, "\1\0\0\0\1\0\0\0ab", what & 128 ? 10 : 0);
        forget(index);
        return;
    case 3:
        if (call->unsent < 1 << 18) kanserve_send(call, answer, byte(from) * (size_t)32);
        return;
    case 4:
    case 5:
        if ((call->first || call->half_closed || gone) && kanserve_receive(call, &data) >= 0) kanserve_received(call, data);
        return;
    case 6: kanserve_cancel(call); return;
    default: kanserve_notify(call); return;
    }
}

static void client_reads(void)
{
    static uint8_t sink[1 << 16];
    while (recv(peer, sink, sizeof sink, MSG_DONTWAIT) > 0) continue;
    if (!owner->dead) connection_write(owner);
}

/* What the loop does besides reading. */
static void loop_turns(void)
{
    connection *paused = waiting_take(server, WAIT_PAUSED);
    if (paused) connection_resume(paused);
    inflate_some(server);
    run_commands(server);
}

static void step(input *from)
{
    uint8_t choice = byte(from), what = byte(from);
    uint8_t four[4] = {0, 0, (uint8_t)(what >> 4), 0};
    switch (choice % 16) {
    case 0:
    case 1:
    case 2: client_calls(what, from); break;
    case 3:
    case 4:
    case 5:
    case 6: client_writes(what, from); break;
    case 7: take_call(QUEUE_MAIN); break;
    case 8: take_call(QUEUE_ASIDE); break;
    case 9:
    case 10: thread_works(what, from); break;
    case 11: loop_turns(); break;
    case 12: client_reads(); break;
    case 13: { /* as it is */
        size_t length = what;
        if (length > (size_t)(from->end - from->at)) length = (size_t)(from->end - from->at);
        client_sends(from->at, length);
        from->at += length;
        break;
    }
    case 14:
        four[3] = 8;
        frame(what & 1 ? 3 : 8, 0, what & 2 ? 0 : next_stream - 2 * (1 + (what >> 2 & 3)), four, 4);
        break;
    default:
        if (what < 8) {
            atomic_store(&server->state, what & 1 ? DRAINING : RUNNING);
        } else if (what < 16) {
            uint8_t window[6] = {0, 4, 0, 0, 0, 0};
            frame(4, 0, 0, window, 6); /* SETTINGS: windows of 0 */
        } else if (what < 24) {
            model_table *before = server->table;
            server->table = fuzz_table();
            table_release(before);
        } else if (what < 28) {
            connection_linger(owner);
        } else if (what < 32) { /* turns that end at once, or never; no decompressing before the next one */
            server->turn = what & 1 ? 0 : INT64_MAX;
            server->inflated = what & 2 ? SECOND : 0;
        }
    }
}

static void end_connection(void)
{
    connection_close(owner);
    while (held_count) {
        kanserve_finish(held[0].call, 0, "", 0, "", 0);
        forget(0);
    }
    run_commands(server);
    inflate_some(server);
    discard_rest(server);
    free_queues(server);
    for (int which = 0; which < QUEUES; which++) server->queues[which].end = &server->queues[which].first;
    while (server->dead) {
        connection *one = server->dead;
        server->dead = one->next_dead;
        connection_free(one);
    }
    close(peer);
    if (atomic_load(&server->held) || server->connections || atomic_load(&server->connection_count)) {
        fprintf(stderr, "%zu bytes are still counted\n", atomic_load(&server->held));
        abort();
    }
    for (int list = 0; list < WAITING; list++)
        if (server->waiting[list].first) abort();
    server->turn = INT64_MAX;
    server->inflated = 0;
    for (int i = 0; i < MODELS; i++)
        if (fuzz_computing[i]) abort();
    atomic_store(&server->queued, 0);
    atomic_store(&server->delivering, 0);
    atomic_store(&server->state, RUNNING);
    server->cheap_workers = 0;
    server->next_check = INT64_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int pair[2];
    if (!server) begin_server();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair)) abort();
    peer = pair[1];
    next_stream = 1;
    owner = connection_new(server, &HTTP2, pair[0], 1, "unix:");
    if (!owner) abort();
    input from = {data, data + size};
    if (size && !(data[0] & 128)) client_sends((const uint8_t *)PREFACE, sizeof PREFACE - 1);
    while (from.at < from.end && !owner->dead) step(&from);
    end_connection();
    return 0;
}
