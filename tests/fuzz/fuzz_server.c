/* A whole server and its loop, in one thread: several clients of HTTP/2 and of HTTP/1.1 at once, whose bytes come
 * interleaved. The input says what each sends and reads, when threads answer, when time passes, which allocation fails,
 * and when the server drains and hangs up. Then somebody who has done nothing must be answered, and at the end nothing may
 * be left: no call, no connection, no byte counted or allocated.
 *
 * An input is a row of steps: a byte that chooses the step and its client, a byte of arguments, and what the step takes.
 * It is compiled with names for what the system does, such as fuzz_clock_gettime for clock_gettime: see fuzzers.py. */

#include "fuzz_system.h"

#include "http1.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fuzz_calls.h"
#include "fuzz_models.h"
#include "http1_api.h"

enum { PATHS = 7, CLIENTS = 4, MOST_HELD = 16, HONEST_TURNS = 400 };

static const char *const NAMES[PATHS] = {"/k/Unary", "/k/Infer", "/k/Stream", "/k/Health", "/k/Watch", "/k/Differentiate",
                                         "/k/Formula"};
static const char PREFACE[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
static const char INFERENCE[] = "POST /v2/models/raw/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 72\r\n\r\n"
                                "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP64\",\"shape\":[1,2],\"data\":[0.5,1]}]}";

typedef struct {
    const uint8_t *at, *end;
} input;

typedef struct {
    int fd, http1; /* fd: 0 where it is not connected */
    int32_t next_stream;
} client;

static kanserve_server *server;
static client clients[CLIENTS];
static kanserve_event held[MOST_HELD];
static int held_count;
static struct sockaddr_un address[2]; /* of HTTP/2, of HTTP/1.1 */
static socklen_t address_length[2];

static uint8_t byte(input *from)
{
    return from->at < from->end ? *from->at++ : 0;
}

static size_t rest(const input *from, size_t most)
{
    size_t left = (size_t)(from->end - from->at);
    return most < left ? most : left;
}

static int listener(int which)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address[which] = (struct sockaddr_un){.sun_family = AF_UNIX}; /* the system chooses a name that is no file */
    address_length[which] = sizeof address[which];
    if (fd < 0 || bind(fd, (struct sockaddr *)&address[which], sizeof(sa_family_t)) || listen(fd, 16) ||
        getsockname(fd, (struct sockaddr *)&address[which], &address_length[which]))
        abort();
    return fd;
}

static void begin_server(int connections, int memory)
{
    const kanserve_config config = {.max_message = 1 << 17, .max_held = memory, .inline_budget = 5000,
                                    .keepalive = SECOND * 60, .greeting_time = SECOND * 10, .write_time = SECOND * 60,
                                    .ping_time = SECOND * 20, .linger_time = SECOND, .max_streams = 16, .max_metadata = 512,
                                    .max_connections = connections, .queue = 8, .hand_out_rows = 1, .route_header = "x"};
    const kanserve_path paths[PATHS] = {{PATH_UNARY, 0, 1, 0, SECOND * 60}, {PATH_UNARY, ANSWERS_INFER, 1, 0, SECOND * 60},
                                        {PATH_STREAM, 0, 1, 0, SECOND * 60}, {PATH_UNARY, 0, 0, 1, SECOND},
                                        {PATH_STREAM, 0, 0, 1, SECOND * 60},
                                        {PATH_UNARY, ANSWERS_DIFFERENTIATE, 1, 0, SECOND * 60},
                                        {PATH_UNARY, ANSWERS_FORMULA, 1, 0, SECOND * 60}};
    const kanserve_path options[HTTP_KINDS] = {{PATH_UNARY, ANSWERS_INFER, 1, 0, SECOND * 60},
                                               {PATH_STREAM, 0, 0, 1, SECOND * 60}};
    server = kanserve_new(&config, NAMES, paths, PATHS);
    if (!server || kanserve_listen(server, listener(0)) || kanserve_listen_http(server, listener(1), options)) abort();
    server->table = fuzz_table();
    server->turn = INT64_MAX;
    if (loop_begin(server)) abort();
}

static void turns(int count)
{
    while (count--) {
        fuzz_system_begins();
        loop_turn(server);
        fuzz_system_ends();
    }
}

static void leave(client *one)
{
    if (one->fd) close(one->fd);
    *one = (client){0};
}

static void sends(const client *one, const void *data, size_t length)
{
    if (one->fd && length && send(one->fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return;
}

static void come(client *one, int http1, int silent)
{
    leave(one);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) abort();
    if (connect(fd, (struct sockaddr *)&address[http1], address_length[http1])) { /* the server listens no more */
        close(fd);
        return;
    }
    *one = (client){fd, http1, 1};
    if (!http1 && !silent) sends(one, PREFACE, sizeof PREFACE - 1);
}

static void frame(const client *one, int type, int flags, int32_t stream, const void *data, size_t length)
{
    uint8_t whole[9 + 1024] = {(uint8_t)(length >> 16), (uint8_t)(length >> 8), (uint8_t)length, (uint8_t)type, (uint8_t)flags};
    for (int i = 0; i < 4; i++) whole[8 - i] = (uint8_t)((uint32_t)stream >> 8 * i);
    if (length) memcpy(whole + 9, data, length);
    sends(one, whole, 9 + length);
}

static uint8_t *field(uint8_t *to, const char *name, const char *value)
{
    const char *const texts[] = {name, value};
    *to++ = 0;
    for (int i = 0; i < 2; i++) {
        *to++ = (uint8_t)strlen(texts[i]);
        memcpy(to, texts[i], strlen(texts[i]));
        to += strlen(texts[i]);
    }
    return to;
}

static void begins_call(client *one, uint8_t what, input *from)
{
    static const char *const TIMEOUTS[] = {"1n", "99999999H", "5S", "7x"}, *const ENCODINGS[] = {"gzip", "deflate", "br", "identity"};
    static const char *const TARGETS[] = {"/v2/models/raw/infer", "/v2/models/iris/versions/12/infer", "/v2/models/aside/infer",
                                          "/v2/health/live", "/v2/models/raw/load", "http://x/metrics", "*", "/v2/models/raw"};
    if (one->http1) {
        char text[300];
        int length = snprintf(text, sizeof text, "%s %s HTTP/1.%d\r\nHost: x\r\n%s%s%s%s", what & 8 ? "GET" : "POST",
                              TARGETS[what % 8], !(what & 16), what & 32 ? "Connection: close\r\n" : "",
                              what & 64 ? "Expect: 100-continue\r\n" : "",
                              what & 128 ? "Transfer-Encoding: chunked\r\n" : "", what & 136 ? "" : "Content-Length: 40\r\n");
        sends(one, text, (size_t)length);
        if (!(what & 64) || byte(from) & 1) sends(one, "\r\n", 2);
        return;
    }
    uint8_t block[512], *end = block;
    end = field(end, ":method", what & 128 && byte(from) < 16 ? "GET" : "POST");
    end = field(end, ":scheme", "http");
    end = field(end, ":path", what % 8 < PATHS ? NAMES[what % 8] : "/k/None");
    end = field(end, ":authority", "x");
    end = field(end, "content-type", what & 64 && byte(from) < 16 ? "text/html" : "application/grpc");
    if (what & 8) end = field(end, "grpc-timeout", TIMEOUTS[byte(from) % 4]);
    if (what & 16) end = field(end, "grpc-encoding", ENCODINGS[byte(from) % 4]);
    if (what & 32) end = field(end, "some-bin", "AAAA");
    frame(one, 1, 4 | (what & 64 && byte(from) & 1), one->next_stream, block, (size_t)(end - block));
    one->next_stream += 2;
}

/* The body of a call, or a part of it. */
static void writes(const client *one, uint8_t what, input *from)
{
    uint8_t data[256 + 5] = {0};
    size_t length = rest(from, byte(from)), start = what & 4 ? 5 : 0;
    if (one->http1) {
        char size[16];
        if (what & 8) sends(one, size, (size_t)snprintf(size, sizeof size, "%zx\r\n", length));
        sends(one, from->at, length);
        if (what & 8) sends(one, "\r\n", 2);
        if (what & 16) sends(one, "0\r\n\r\n", 5);
    } else {
        memcpy(data + start, from->at, length);
        if (start) data[4] = (uint8_t)length;
        if (start && what & 8) data[0] = 1;
        if (start && what & 16) data[3] = 64; /* of 16 KB, or so it says */
        int32_t stream = one->next_stream - 2 * (1 + (what >> 5 & 3));
        frame(one, 0, what & 1, stream > 0 ? stream : 1, data, start + length);
    }
    from->at += length;
}

/* Whole calls, one behind the other. */
static void pipelines(client *one, uint8_t what, input *from)
{
    for (int i = 0; i <= what % 8; i++) {
        if (one->http1 && what & 8) {
            sends(one, "GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n", 42);
        } else if (one->http1) {
            sends(one, INFERENCE, sizeof INFERENCE - 1);
        } else {
            begins_call(one, what >> 4 & 7, from);
            frame(one, 0, 1, one->next_stream - 2, "\0\0\0\0\5\12\3raw", 10);
        }
    }
}

static void controls(const client *one, uint8_t what)
{
    static const uint8_t NO_WINDOW[6] = {0, 4}, GOAWAY[8] = {0};
    uint8_t four[4] = {0, 0, (uint8_t)(what >> 4), 8};
    int32_t stream = what & 8 ? 0 : one->next_stream - 2 * (1 + (what >> 4 & 3));
    switch (what % 8) {
    case 0:
    case 1: frame(one, 3, 0, stream, four, 4); break;
    case 2:
    case 3: frame(one, 8, 0, stream, four, 4); break;
    case 4: frame(one, 4, 0, 0, NO_WINDOW, 6); break;
    case 5: frame(one, 4, 1, 0, NULL, 0); break;
    case 6: frame(one, 6, what >> 4 & 1, 0, what & 32 ? "goodbye" : "1234567", 8); break;
    default: frame(one, 7, 0, 0, GOAWAY, 8); break;
    }
}

static void reads(client *one, size_t most)
{
    static uint8_t sink[1 << 16];
    if (one->fd && recv(one->fd, sink, most, MSG_DONTWAIT) == 0) leave(one);
}

/* What threads do. */

static void takes_call(int which)
{
    if (held_count < MOST_HELD && call_taken(server, which, &held[held_count])) held_count++;
}

static void works(uint8_t what, input *from)
{
    static uint8_t answer[1 << 13];
    static const char HEADERS[] = "\1\0\0\0\1\0\0\0ab\4\0\0\0\3\0\0\0evil\r\n:";
    if (held_count == 0) return;
    kanserve_event *event = &held[what % 4 % held_count];
    kanserve_call *call = event->call;
    const void *data = NULL;
    int http1 = event->kind == EVENT_HTTP || event->kind == EVENT_HTTP_EARLY;
    int streams = event->kind == EVENT_HTTP_EARLY || (event->kind == EVENT_CALL && event->path >= 0);
    fuzz_system_begins();
    if (event->kind == EVENT_ROWS) {
        kanserve_answer_rows(call, answer, what & 4 ? 3 : (size_t)event->rows * 8, 1000);
        *event = held[--held_count];
    } else if ((what >> 2 & 7) < 2 && http1) {
        kanserve_respond(call, 200 + (what >> 5) * 60, HEADERS, what & 32 ? sizeof HEADERS - 1 : 0, answer, byte(from) * 32u);
        *event = held[--held_count];
    } else if ((what >> 2 & 7) == 0) {
        kanserve_answer(call, answer, byte(from) * 32u);
        *event = held[--held_count];
    } else if ((what >> 2 & 7) < 3) {
        kanserve_finish(call, byte(from) % 17, "text % \xc3\xbc\n", what & 64 ? 10 : 0, "\1\0\0\0\1\0\0\0ab", what & 128 ? 10 : 0);
        *event = held[--held_count];
    } else if ((what >> 2 & 7) == 3) {
        if (!http1 && call->unsent < 1 << 18) kanserve_send(call, answer, byte(from) * 32u);
    } else if ((what >> 2 & 7) < 6) {
        if (streams && (call->first || call->half_closed || kanserve_gone(call)) && kanserve_receive(call, &data) >= 0)
            kanserve_received(call, data);
    } else if ((what >> 2 & 7) == 6) {
        kanserve_cancel(call);
    } else {
        kanserve_notify(call);
    }
    fuzz_system_ends();
}

static void server_changes(uint8_t what)
{
    static const int64_t JUMPS[] = {100, SECOND / 1000, SECOND / 150, SECOND / 10, SECOND, 10 * SECOND, 61 * SECOND, 3600 * SECOND};
    model_table *before = server->table;
    switch (what >> 4) {
    case 0: kanserve_drain(server, JUMPS[what % 8]); break;
    case 1: kanserve_hang_up(server, 0); break;
    case 2:
    case 3: fuzz_system_fails(what & 31); break;
    case 4:
        server->table = fuzz_table();
        table_release(before);
        break;
    case 5:
        server->turn = what & 1 ? 0 : INT64_MAX; /* turns that end at once, or never */
        fuzz_system_passes = what & 2 ? PASSES_SLOWLY : PASSES;
        break;
    default: fuzz_system_time += JUMPS[what % 8];
    }
}

static void step(input *from)
{
    uint8_t choice = byte(from), what = byte(from);
    client *one = &clients[choice >> 4 & 3];
    size_t length;
    switch (choice % 16) {
    case 0: come(one, what & 1, what & 2); break;
    case 1:
    case 2: begins_call(one, what, from); break;
    case 3:
    case 4: writes(one, what, from); break;
    case 5: pipelines(one, what, from); break;
    case 6:
        length = rest(from, what);
        sends(one, from->at, length);
        from->at += length;
        break;
    case 7: controls(one, what); break;
    case 8: reads(one, what & 1 ? 1 << 16 : 64); break;
    case 9:
        if (what & 1)
            leave(one);
        else if (one->fd)
            shutdown(one->fd, SHUT_WR);
        break;
    case 10:
    case 11: takes_call(what & 1 ? QUEUE_ASIDE : QUEUE_MAIN); break;
    case 12:
    case 13: works(what, from); break;
    case 14: turns(what % 8); break;
    default: server_changes(what);
    }
    if (choice < 128) turns(1);
}

static void finish_held(void)
{
    while (held_count) {
        kanserve_event *event = &held[--held_count];
        kanserve_finish(event->call, 0, "", 0, "", 0);
    }
}

/* Threads have answered all that was asked before. */
static void work_all(void)
{
    finish_held();
    while (server->queues[QUEUE_MAIN].first || server->queues[QUEUE_ASIDE].first) {
        takes_call(QUEUE_MAIN);
        takes_call(QUEUE_ASIDE);
        finish_held();
    }
}

/* The status that somebody else gets who asks, or -1. */
static int ask_honestly(void)
{
    client honest = {0};
    char answer[4096] = "";
    int status = -1;
    come(&honest, 1, 0);
    if (!honest.fd) abort();
    sends(&honest, INFERENCE, sizeof INFERENCE - 1);
    for (int i = 0; i < HONEST_TURNS; i++) {
        turns(1);
        work_all();
        if (recv(honest.fd, answer, sizeof answer - 1, MSG_DONTWAIT) < 0) continue;
        sscanf(answer, "HTTP/1.1 %d", &status);
        break;
    }
    if (status != 200) fprintf(stderr, "An honest client got: %s\n", answer);
    leave(&honest);
    return status;
}

/* Somebody who has done nothing is answered, whatever the others have done; where they have taken all memory, soon after,
 * when it is clear that they take no answers. */
static void check_honest(void)
{
    fuzz_system_fails(0);
    fuzz_system_passes = PASSES;
    work_all();
    int status = ask_honestly();
    if (status == 429) {
        fuzz_system_time += 2 * SECOND;
        status = ask_honestly();
    }
    if (status != 200) abort();
}

static void end_server(void)
{
    fuzz_system_fails(0);
    for (int i = 0; i < CLIENTS; i++) leave(&clients[i]);
    finish_held();
    loop_end(server);
    kanserve_stop(server);
    free_queues(server);
    if (atomic_load(&server->held) || server->connections || atomic_load(&server->connection_count)) {
        fprintf(stderr, "%zu bytes are still counted\n", atomic_load(&server->held));
        abort();
    }
    for (int list = 0; list < WAITING; list++)
        if (server->waiting[list].first) abort();
    for (int i = 0; i < MODELS; i++)
        if (fuzz_computing[i]) abort();
    kanserve_free(server);
    if (fuzz_system_blocks) {
        fprintf(stderr, "%ld blocks are still allocated\n", fuzz_system_blocks);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input from = {data, data + size};
    int crowded = size && data[0] & 128;
    fuzz_system_passes = PASSES;
    fuzz_system_time = FUZZ_SYSTEM_BEGIN; /* the jumps of many inputs would else take it centuries on */
    fuzz_system_blocks = 0; /* what replays inputs has some too */
    begin_server(crowded ? 2 : 64, size && data[0] & 64 ? 1 << 16 : 1 << 18);
    for (int i = 0; i < CLIENTS; i++)
        if (size && data[0] & 1 << i) come(&clients[i], data[0] >> (4 + i % 2) & 1, 0);
    byte(&from);
    while (from.at < from.end) step(&from);
    if (!crowded && atomic_load(&server->state) == RUNNING) check_honest();
    end_server();
    return 0;
}
