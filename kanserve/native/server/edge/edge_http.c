#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "edge_http.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { REQUEST = 4096, SECONDS = 2 };

typedef struct {
    int fd;
    const edge_state *state;
} http_server;

static http_server served;

static void answer(int fd, const char *status, const char *type, const void *body, size_t length)
{
    char head[200];
    int size = snprintf(head, sizeof head,
                        "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", status, type, length);
    if (send(fd, head, (size_t)size, MSG_NOSIGNAL | MSG_MORE) != size) return;
    const char *at = body;
    while (length > 0) {
        ssize_t sent = send(fd, at, length, MSG_NOSIGNAL);
        if (sent <= 0) return;
        at += sent;
        length -= (size_t)sent;
    }
}

/* The request up to its empty line, at most REQUEST bytes within SECONDS for each read. */
static int read_request(int fd, char *request)
{
    size_t length = 0;
    while (length < REQUEST - 1) {
        ssize_t got = recv(fd, request + length, REQUEST - 1 - length, 0);
        if (got <= 0) return 0;
        length += (size_t)got;
        request[length] = 0;
        if (strstr(request, "\r\n\r\n")) return 1;
    }
    return 0;
}

static int asks(const char *request, const char *path)
{
    size_t length = strlen(path);
    return strncmp(request, "GET ", 4) == 0 && strncmp(request + 4, path, length) == 0 && request[4 + length] == ' ';
}

static void respond(int fd, const edge_state *state)
{
    char request[REQUEST];
    if (!read_request(fd, request)) return;
    if (asks(request, "/metrics")) {
        byte_buffer text = {0};
        edge_metrics(state, &text);
        answer(fd, "200 OK", "text/plain; version=0.0.4", buffer_begin(&text), buffer_length(&text));
        buffer_free(&text);
    } else if (asks(request, "/v2/health/live")) {
        answer(fd, "200 OK", "application/json", "{}", 2);
    } else if (asks(request, "/v2/health/ready")) {
        answer(fd, state->draining ? "503 Service Unavailable" : "200 OK", "application/json", "{}", 2);
    } else if (strncmp(request, "GET ", 4)) {
        answer(fd, "405 Method Not Allowed", "text/plain", "", 0);
    } else {
        answer(fd, "404 Not Found", "text/plain", "", 0);
    }
}

/* One request at a time: whoever is slow is dropped after SECONDS. */
static void *run(void *argument)
{
    const http_server *server = argument;
    struct timeval patience = {SECONDS, 0};
    for (;;) {
        int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            usleep(10000);
            continue;
        }
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        respond(fd, server->state);
        shutdown(fd, SHUT_WR);
        close(fd);
    }
    return NULL;
}

int edge_http_serve(int fd, const edge_state *state)
{
    pthread_t thread;
    pthread_attr_t attributes;
    served = (http_server){fd, state};
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 1 << 17);
    int failed = pthread_create(&thread, &attributes, run, &served);
    pthread_attr_destroy(&attributes);
    if (!failed) pthread_detach(thread);
    return failed ? -1 : 0;
}
