/* Models are replaced while clients call them and threads compute for them: under ThreadSanitizer, which finds what two
 * threads do at once. No answer may be of two models, and what a replaced one had is freed at once.
 *
 *     race_swaps SWAPS */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protobuf.h"
#include "server.h"

enum { CLIENTS = 2, THREADS = 2, IN_FLIGHT = 16, INPUTS = 2 };

static const char *const names[] = {"/k/Infer", "/k/Formula", "/k/Differentiate"};
static kanserve_server *server;
static struct sockaddr_in address;
static atomic_int over;
static atomic_llong answers[2]; /* of inferences by the loop and by threads */
static int64_t counters[2][2][COUNT_OUTSIDE + INPUTS], computing[2];

static void check(int true, const char *what)
{
    if (true) return;
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static int ones(const void *x, size_t rows, size_t x_stride, void *y, size_t y_stride)
{
    (void)x;
    (void)x_stride;
    for (size_t r = 0; r < rows; r++) ((double *)y)[r * y_stride] = 1;
    return 0;
}

static int twos(const void *x, size_t rows, size_t x_stride, void *y, size_t y_stride)
{
    ones(x, rows, x_stride, y, y_stride);
    for (size_t r = 0; r < rows; r++) ((double *)y)[r * y_stride] = 2;
    return 0;
}

static int slopes(const double *x, size_t rows, size_t x_stride, double *y, size_t y_stride, double *to, size_t stride)
{
    ones(x, rows, x_stride, y, y_stride);
    memset(to, 0, rows * stride * sizeof *to);
    return 0;
}

/* Publish the models of a version, 1 or 2, whose answers are 1 or 2. */
static void publish(int version)
{
    static const double low[INPUTS] = {-1, -1}, high[INPUTS] = {1, 1};
    static const float low_single[INPUTS] = {-1, -1}, high_single[INPUTS] = {1, 1};
    static char *before;
    char *formula = strdup(version == 1 ? "\12\4here\22\0011" : "\12\4here\22\0012");
    served_model models[2];
    for (int i = 0; i < 2; i++)
        models[i] = (served_model){.name = i ? "aside" : "here", .version = version, .draws_below = ALL_DRAWS, .number = 2 * i + version,
                                   .inputs = INPUTS, .outputs = 1, .max_rows = 64, .max_gradient_rows = 64,
                                   .predict = i ? NULL : version == 1 ? ones : twos, .gradient = slopes,
                                   .formula = formula, .formula_length = 9, .counters = counters[i][version - 1],
                                   .computing = &computing[i], .low = {low, low_single}, .high = {high, high_single},
                                   .cost = {.nanoseconds = 10}, .gradient_cost = {.nanoseconds = 10}};
    check(kanserve_publish(server, models, 2) == 0, "no memory");
    free(before);
    before = formula;
}

static void *swap(void *argument)
{
    int swaps = atoi(argument);
    for (int i = 0; i < swaps || !atomic_load(&answers[0]) || !atomic_load(&answers[1]); i++) publish(1 + i % 2);
    atomic_store(&over, 1);
    return NULL;
}

static void *compute(void *argument)
{
    kanserve_event event = {0};
    (void)argument;
    while (kanserve_next(server, QUEUE_MAIN, &event) != EVENT_END) {
        if (event.kind == EVENT_ROWS) {
            double y[64];
            for (int64_t r = 0; r < event.rows; r++) y[r] = event.model - 2;
            kanserve_taken(server);
            kanserve_answer_rows(event.call, y, (size_t)event.rows * sizeof *y, 1000);
        } else {
            kanserve_taken(server);
            kanserve_finish(event.call, GRPC_UNIMPLEMENTED, "", 0, "", 0);
        }
    }
    return NULL;
}

static void add_frame(byte_buffer *to, int type, int flags, uint32_t stream, const void *data, size_t length)
{
    uint8_t head[9] = {0, (uint8_t)(length >> 8), (uint8_t)length, (uint8_t)type, (uint8_t)flags};
    for (int i = 0; i < 4; i++) head[8 - i] = (uint8_t)(stream >> 8 * i);
    buffer_add(to, head, sizeof head);
    buffer_add(to, data, length);
}

static void add_field(byte_buffer *to, const char *name, const char *value)
{
    buffer_add_byte(to, 0);
    buffer_add_byte(to, (uint8_t)strlen(name));
    buffer_add(to, name, strlen(name));
    buffer_add_byte(to, (uint8_t)strlen(value));
    buffer_add(to, value, strlen(value));
}

static void add_call(byte_buffer *to, uint32_t stream)
{
    static const double x[INPUTS] = {.5, 2};
    byte_buffer block = {0}, message = {0}, whole = {0};
    const char *model = stream / 2 % 2 ? "aside" : "here";
    int path = stream / 2 % 8 >= 6 ? (int)(stream / 2 % 8 - 5) : 0;
    add_field(&block, ":method", "POST");
    add_field(&block, ":scheme", "http");
    add_field(&block, ":path", names[path]);
    add_field(&block, ":authority", "x");
    add_field(&block, "content-type", "application/grpc");
    add_frame(to, 1, 4, stream, buffer_begin(&block), buffer_length(&block));
    proto_add_bytes(&message, 1, model, strlen(model));
    if (path == 0) {
        proto_add_bytes(&message, 5, "\12\1x\22\4FP64\32\2\1\2", 13);
        proto_add_bytes(&message, 7, x, sizeof x);
    } else if (path == 2) {
        proto_add_head(&message, 3, 4 + 2 + sizeof x);
        proto_add_bytes(&message, 1, "\1\2", 2);
        proto_add_bytes(&message, 2, x, sizeof x);
    }
    frame_message(&whole, 0, buffer_begin(&message), buffer_length(&message));
    add_frame(to, 0, 1, stream, buffer_begin(&whole), buffer_length(&whole));
    buffer_free(&block);
    buffer_free(&message);
    buffer_free(&whole);
}

/* The version in an answer to an inference must be the number in it. */
static void check_answer(const uint8_t *data, size_t length, uint32_t stream)
{
    proto_cursor cursor = {data + 5, data + length};
    proto_field field;
    int version = 0;
    double y = 0;
    if (stream / 2 % 8 >= 6) return;
    while (length >= 5 && proto_next(&cursor, &field)) {
        if (field.number == 2) version = field.data[0] - '0';
        if (field.number == 6 && field.length == sizeof y) memcpy(&y, field.data, sizeof y);
    }
    if (!version) return;
    check(y == version, "an answer is of two models");
    atomic_fetch_add(&answers[stream / 2 % 2], 1);
}

static size_t read_all(int fd, uint8_t *to, size_t length)
{
    size_t got = 0;
    while (got < length) {
        ssize_t more = recv(fd, to + got, length - got, 0);
        check(more > 0, "the connection has ended");
        got += (size_t)more;
    }
    return got;
}

static void *call(void *argument)
{
    static const uint8_t window[4] = {0x7f, 0, 0, 0};
    static __thread uint8_t body[1 << 16];
    byte_buffer out = {0};
    uint32_t next = 1;
    int under_way = 0, fd = socket(AF_INET, SOCK_STREAM, 0);
    (void)argument;
    check(connect(fd, (const struct sockaddr *)&address, sizeof address) == 0, "cannot connect");
    buffer_add(&out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    add_frame(&out, 4, 0, 0, NULL, 0);
    add_frame(&out, 8, 0, 0, window, sizeof window);
    while (under_way || !atomic_load(&over)) {
        for (; under_way < IN_FLIGHT && !atomic_load(&over); under_way++, next += 2) add_call(&out, next);
        if (buffer_length(&out)) check(send(fd, buffer_begin(&out), buffer_length(&out), MSG_NOSIGNAL) > 0, "cannot send");
        out.start = out.end = 0;
        uint8_t head[9];
        read_all(fd, head, sizeof head);
        size_t length = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        uint32_t stream = (uint32_t)head[5] << 24 | (uint32_t)head[6] << 16 | (uint32_t)head[7] << 8 | head[8];
        check(length <= sizeof body, "a frame is too large");
        read_all(fd, body, length);
        if (head[3] == 4 && !(head[4] & 1)) add_frame(&out, 4, 1, 0, NULL, 0);
        check(head[3] != 3, "a call was reset");
        if (head[3] == 0) check_answer(body, length, stream);
        under_way -= head[3] == 1 && head[4] & 1;
    }
    close(fd);
    buffer_free(&out);
    return NULL;
}

int main(int count, char **words)
{
    kanserve_config config = {.max_message = 1 << 14, .max_held = 1 << 20, .inline_budget = SECOND, .keepalive = SECOND * 60,
                              .greeting_time = SECOND * 60, .write_time = SECOND * 60, .ping_time = SECOND * 60,
                              .linger_time = SECOND / 10, .max_streams = 64, .max_metadata = 512, .max_connections = 64, .queue = 64,
                              .hand_out_rows = 1};
    kanserve_path paths[] = {{PATH_UNARY, ANSWERS_INFER, 1, 0, SECOND * 60}, {PATH_UNARY, ANSWERS_FORMULA, 1, 0, SECOND * 60},
                             {PATH_UNARY, ANSWERS_DIFFERENTIATE, 1, 0, SECOND * 60}};
    pthread_t threads[1 + CLIENTS + THREADS];
    int made = 0, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    socklen_t size = sizeof address;
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    check(bind(fd, (struct sockaddr *)&address, size) == 0 && listen(fd, 16) == 0, "cannot listen");
    getsockname(fd, (struct sockaddr *)&address, &size);
    server = kanserve_new(&config, names, paths, sizeof paths / sizeof *paths);
    publish(2);
    check(server && kanserve_listen(server, fd) == 0 && kanserve_start(server) == 0, "cannot start");
    pthread_create(&threads[made++], NULL, swap, count > 1 ? words[1] : "1000");
    for (int i = 0; i < CLIENTS; i++) pthread_create(&threads[made++], NULL, call, NULL);
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[made++], NULL, compute, NULL);
    for (int i = 0; i < 1 + CLIENTS; i++) pthread_join(threads[i], NULL);
    kanserve_hang_up(server, SECOND);
    kanserve_stop(server);
    for (int i = 1 + CLIENTS; i < made; i++) pthread_join(threads[i], NULL);
    kanserve_free(server);
    printf("%lld here, %lld aside\n", (long long)answers[0], (long long)answers[1]);
    return 0;
}
