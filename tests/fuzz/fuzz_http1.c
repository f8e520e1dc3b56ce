/* A whole connection of HTTP/1.1, in one thread: the input says what the client sends, and when the threads that answer do
 * something. At the end of each input nothing may be left: no call, no byte counted.
 *
 * An input is a row of steps: a byte that chooses, a byte of arguments, and what the step takes. */

#include "http1.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz_calls.h"
#include "fuzz_models.h"
#include "http1_api.h"

enum { MOST_TAKEN = 4 };

typedef struct {
    const uint8_t *at, *end;
} input;

static kanserve_server *server;
static connection *owner;
static int peer;
static kanserve_event taken[MOST_TAKEN];
static int taken_count;

static void begin_server(void)
{
    kanserve_config config = {.max_message = 1 << 14, .max_held = 1 << 16, .inline_budget = 5000, .keepalive = SECOND * 60,
                              .greeting_time = SECOND * 60, .write_time = SECOND * 60, .ping_time = SECOND * 60,
                              .linger_time = SECOND * 60, .max_streams = 16, .max_metadata = 512, .max_connections = 64, .queue = 8,
                              .hand_out_rows = 1, .route_header = "x"};
    kanserve_path options[HTTP_KINDS] = {{PATH_UNARY, ANSWERS_INFER, 1, 0, SECOND * 60}, {PATH_STREAM, 0, 0, 1, SECOND * 60}};
    server = kanserve_new(&config, NULL, NULL, 0);
    server->epoll = epoll_create1(EPOLL_CLOEXEC);
    server->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    server->table = fuzz_table();
    if (kanserve_listen_http(server, -1, options)) abort();
}

static void client_sends(const void *data, size_t length)
{
    if (length == 0 || send(peer, data, length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return;
    if (!owner->dead) connection_read(owner);
}

/* Heads that are right in most of their parts. */
static void client_begins(uint8_t what, input *from)
{
    static const char *const TARGETS[] = {"/v2/models/raw/infer", "/v2/models/iris/versions/12/infer", "/v2/models/aside/infer",
                                          "/v2/health/live", "/v2/models/raw/load", "http://x/metrics", "*", "/v2/models/raw"};
    char text[400];
    uint8_t more = from->at < from->end ? *from->at++ : 0;
    int length = snprintf(text, sizeof text, "%s %s HTTP/1.%d\r\nHost: x\r\n%s%s%s", what & 8 ? "GET" : what & 16 ? "HEAD" : "POST",
                          TARGETS[what % 8], !(what & 32), what & 64 ? "Content-Encoding: gzip\r\n" : "",
                          what & 128 ? "Transfer-Encoding: chunked\r\n" : "", more & 1 ? "Expect: 100-continue\r\n" : "");
    client_sends(text, (size_t)length);
    if (more & 2) client_sends("Connection: close\r\n", 19);
    if (more & 4) client_sends("Inference-Header-Content-Length: 100\r\n", 38);
    if (!(what & 128)) {
        length = snprintf(text, sizeof text, "Content-Length: %d\r\n", more >> 3 << 3);
        client_sends(text, (size_t)length);
    }
    if (!(more & 128)) client_sends("\r\n", 2);
}

static void take_call(int which)
{
    if (taken_count < MOST_TAKEN && call_taken(server, which, &taken[taken_count])) taken_count++;
}

static void thread_works(uint8_t what, input *from)
{
    static uint8_t body[1 << 13];
    static const char HEADERS[] = "\1\0\0\0\1\0\0\0ab\4\0\0\0\3\0\0\0evil\r\n:";
    if (taken_count == 0) return;
    kanserve_event *event = &taken[what % 4 % taken_count];
    kanserve_call *call = event->call;
    const void *data = NULL;
    size_t length = from->at < from->end ? *from->at++ * (size_t)32 : 0;
    if (event->kind == EVENT_ROWS) {
        kanserve_answer_rows(call, body, what & 4 ? 3 : (size_t)event->rows * 8, 1000);
    } else if ((what & 12) == 12 && event->kind == EVENT_HTTP_EARLY) {
        if ((call->first || call->half_closed || kanserve_gone(call)) && kanserve_receive(call, &data) >= 0)
            kanserve_received(call, data);
        return;
    } else if ((what & 12) == 8) {
        kanserve_cancel(call);
        return;
    } else if ((what & 12) == 4) {
        kanserve_finish(call, what >> 4, "text", 4, NULL, 0);
    } else {
        kanserve_respond(call, 200 + (what >> 4) * 30, HEADERS, what & 64 ? sizeof HEADERS - 1 : 0, body, length);
    }
    *event = taken[--taken_count];
}

static void loop_turns(void)
{
    connection *paused = waiting_take(server, WAIT_PAUSED);
    if (paused) connection_resume(paused);
    inflate_some(server);
    run_commands(server);
}

static void step(input *from)
{
    static uint8_t sink[1 << 16];
    uint8_t choice = *from->at++, what = from->at < from->end ? *from->at++ : 0;
    size_t length = what < (size_t)(from->end - from->at) ? what : (size_t)(from->end - from->at);
    switch (choice % 12) {
    case 0:
    case 1: client_begins(what, from); break;
    case 2:
    case 3:
    case 4: /* as it is */
        client_sends(from->at, length);
        from->at += length;
        break;
    case 5: { /* a chunk */
        char size[16];
        int digits = snprintf(size, sizeof size, "%zx\r\n", length);
        client_sends(size, (size_t)digits);
        client_sends(from->at, length);
        client_sends("\r\n", 2);
        from->at += length;
        break;
    }
    case 6: take_call(QUEUE_MAIN); break;
    case 7: take_call(QUEUE_ASIDE); break;
    case 8: thread_works(what, from); break;
    case 9: loop_turns(); break;
    case 10:
        while (recv(peer, sink, sizeof sink, MSG_DONTWAIT) > 0) continue;
        if (!owner->dead) connection_write(owner);
        break;
    default:
        if (what < 8) {
            atomic_store(&server->state, what & 1 ? DRAINING : RUNNING);
        } else if (what < 16) {
            if (!owner->dead && !owner->lingering) owner->protocol->hang_up(owner, what & 1);
            if (!owner->dead) connection_write(owner);
        } else if (what < 24) {
            shutdown(peer, SHUT_WR);
            if (!owner->dead) connection_read(owner);
        } else if (what < 32) {
            server->turn = what & 1 ? 0 : INT64_MAX;
            server->inflated = what & 2 ? SECOND : 0;
        } else if (what < 40) {
            if (!owner->dead && owner->protocol->check(owner, now_ns() + (what & 1 ? SECOND * 100 : 0))) connection_close(owner);
            if (!owner->dead) connection_write(owner);
        }
    }
}

static void end_connection(void)
{
    connection_close(owner);
    while (taken_count) {
        kanserve_event *event = &taken[--taken_count];
        kanserve_finish(event->call, 0, "", 0, "", 0);
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
    if (atomic_load(&server->held) || server->connections || server->http1->connections) {
        fprintf(stderr, "%zu bytes are still counted\n", atomic_load(&server->held));
        abort();
    }
    for (int list = 0; list < WAITING; list++)
        if (server->waiting[list].first) abort();
    for (int i = 0; i < MODELS; i++)
        if (fuzz_computing[i]) abort();
    server->turn = INT64_MAX;
    server->inflated = 0;
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
    owner = connection_new(server, &HTTP1, pair[0], 1, "unix:");
    if (!owner) abort();
    input from = {data, data + size};
    while (from.at < from.end && !owner->dead) step(&from);
    end_connection();
    return 0;
}
