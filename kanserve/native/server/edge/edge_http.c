#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "edge_http.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Whoever has not sent its request, or taken its answer, in SECONDS is dropped; so is the oldest where more come than
 * CLIENTS. */
enum { REQUEST = 4096, CLIENTS = 32, SECONDS = 2 };

typedef struct {
    int fd;        /* -1: free */
    int answered;  /* `out` is the answer */
    int ended;     /* the client sends no more */
    int64_t until; /* nanoseconds */
    size_t length;
    byte_buffer out;
    char request[REQUEST];
} client;

static struct {
    int fd;
    const edge_state *state;
    client clients[CLIENTS];
} served;

static void answer(byte_buffer *to, const char *status, const char *type, const void *body, size_t length)
{
    char head[200];
    int size = snprintf(head, sizeof head,
                        "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", status, type, length);
    buffer_add(to, head, (size_t)size);
    buffer_add(to, body, length);
}

static int asks(const char *request, size_t length, const char *path)
{
    size_t size = strlen(path);
    return length > size + 4 && memcmp(request + 4, path, size) == 0 && request[4 + size] == ' ';
}

int edge_http_answer(const edge_state *state, const char *request, size_t length, byte_buffer *to)
{
    if (!memmem(request, length, "\r\n\r\n", 4)) {
        if (length < REQUEST) return 0;
        answer(to, "431 Request Header Fields Too Large", "text/plain", "", 0);
    } else if (memcmp(request, "GET ", 4)) {
        answer(to, "405 Method Not Allowed", "text/plain", "", 0);
    } else if (asks(request, length, "/metrics")) {
        byte_buffer text = {0};
        edge_metrics(state, &text);
        to->failed |= text.failed;
        answer(to, "200 OK", "text/plain; version=0.0.4", buffer_begin(&text), buffer_length(&text));
        buffer_free(&text);
    } else if (asks(request, length, "/v2/health/live")) {
        answer(to, "200 OK", "application/json", "{}", 2);
    } else if (asks(request, length, "/v2/health/ready")) {
        answer(to, state->draining ? "503 Service Unavailable" : "200 OK", "application/json", "{}", 2);
    } else {
        answer(to, "404 Not Found", "text/plain", "", 0);
    }
    return 1;
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void drop(client *one)
{
    close(one->fd);
    one->fd = -1;
    buffer_free(&one->out);
}

static int again(ssize_t got)
{
    return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
}

/* Send what the socket takes. What the client sends meanwhile is read and forgotten: if it were unread when the socket is
 * closed, the answer could be lost. */
static void send_some(client *one)
{
    size_t left = buffer_length(&one->out);
    if (!left) return;
    ssize_t sent = send(one->fd, buffer_begin(&one->out), left, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (again(sent)) return;
    if (sent <= 0) {
        drop(one);
        return;
    }
    buffer_take(&one->out, (size_t)sent);
    if ((size_t)sent < left) return;
    shutdown(one->fd, SHUT_WR);
    if (one->ended) drop(one);
}

static void read_some(client *one, const edge_state *state)
{
    char rest[REQUEST];
    char *to = one->answered ? rest : one->request + one->length;
    ssize_t got = recv(one->fd, to, one->answered ? sizeof rest : REQUEST - one->length, MSG_DONTWAIT);
    if (again(got)) return;
    one->ended = got == 0;
    if (got < 0 || (got == 0 && buffer_length(&one->out) == 0)) {
        drop(one);
        return;
    }
    if (one->answered) return;
    one->length += (size_t)got;
    if (!edge_http_answer(state, one->request, one->length, &one->out)) return;
    one->answered = 1;
    one->until = now() + SECONDS * 1000000000LL;
    if (one->out.failed)
        drop(one);
    else
        send_some(one);
}

static void accept_one(void)
{
    int fd = accept4(served.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) usleep(10000);
        return;
    }
    client *place = served.clients;
    for (client *one = served.clients; one < served.clients + CLIENTS && place->fd >= 0; one++)
        if (one->fd < 0 || one->until < place->until) place = one;
    if (place->fd >= 0) drop(place);
    place->fd = fd;
    place->length = 0;
    place->answered = place->ended = 0;
    place->until = now() + SECONDS * 1000000000LL;
}

/* Wait for something to do, and do it. */
static void serve_some(void)
{
    struct pollfd polled[1 + CLIENTS];
    int64_t time = now(), wait = -1;
    polled[0] = (struct pollfd){.fd = served.fd, .events = POLLIN};
    for (int i = 0; i < CLIENTS; i++) {
        const client *one = &served.clients[i];
        int sends = one->fd >= 0 && buffer_length(&one->out) > 0;
        polled[1 + i] = (struct pollfd){.fd = one->fd, .events = (short)((one->ended ? 0 : POLLIN) | (sends ? POLLOUT : 0))};
        int64_t left = one->until > time ? (one->until - time) / 1000000 + 1 : 0;
        if (one->fd >= 0 && (wait < 0 || left < wait)) wait = left;
    }
    if (poll(polled, 1 + CLIENTS, (int)wait) < 0) return;
    time = now();
    for (int i = 0; i < CLIENTS; i++) {
        client *one = &served.clients[i];
        short events = one->fd >= 0 ? polled[1 + i].revents : 0;
        if (events & POLLOUT) send_some(one);
        if (one->fd >= 0 && events & (POLLIN | POLLHUP | POLLERR)) read_some(one, served.state);
        if (one->fd >= 0 && time >= one->until) drop(one);
    }
    if (polled[0].revents) accept_one();
}

static void *run(void *argument)
{
    (void)argument;
    for (;;) serve_some();
    return NULL;
}

int edge_http_serve(int fd, const edge_state *state)
{
    pthread_t thread;
    pthread_attr_t attributes;
    served.fd = fd;
    served.state = state;
    for (int i = 0; i < CLIENTS; i++) served.clients[i].fd = -1;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 1 << 17);
    int failed = pthread_create(&thread, &attributes, run, NULL);
    pthread_attr_destroy(&attributes);
    if (!failed) pthread_detach(thread);
    return failed ? -1 : 0;
}
