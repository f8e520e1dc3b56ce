/* An edge server: one model over gRPC, with metrics over HTTP. No Python, no files. */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "edge_http.h"
#include "edge_services.h"

#define SECOND 1000000000LL

static const char *const USAGE =
    "Serve the model '%s' by the Open Inference Protocol over gRPC, with its formula and derivatives.\n\n"
    "    %s [--host ADDRESS] [--port N] [--http-port N] [--grace SECONDS]\n"
    "    %s --check\n\n"
    "  --host ADDRESS     where to listen, 127.0.0.1 by default; 0.0.0.0 is every IPv4 address\n"
    "  --port N           of gRPC, 8001 by default; 0 takes a free one\n"
    "  --http-port N      of /metrics, /v2/health/live and /v2/health/ready; 0 takes a free one; none by default\n"
    "  --grace SECONDS    that calls may take to end after SIGTERM, 25 by default\n"
    "  --max-message-bytes N    the largest request or answer, 4194304 by default\n"
#ifdef KANSERVE_TLS
    "  --tls-certificate FILE, --tls-key FILE    PEM files; replaced ones are read again\n"
    "  --tls-client-ca FILE     CAs of client certificates, which are then required\n"
#endif
    "  --check            compare the model with its golden rows, and end\n"
    "  --version          of the model and of the libraries\n";

typedef struct {
    const char *host, *certificate, *key, *authorities;
    int port, http_port, grace, check;
    int64_t max_message;
} options;

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "kanserve: %s: %s\n", what, why);
    return 2;
}

static int number(const char *text, long least, long most, long *value)
{
    char *end;
    errno = 0;
    *value = strtol(text, &end, 10);
    return *text && !*end && !errno && *value >= least && *value <= most;
}

/* 0 to go on, 1 to end well, 2 for a mistake. */
static int read_options(int count, char **words, options *to)
{
    const char *model = kanserve_edge_model.name;
    for (int i = 1; i < count; i++) {
        const char *word = words[i], *value = i + 1 < count ? words[i + 1] : NULL;
        long read = 0;
        if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
            printf(USAGE, model, words[0], words[0]);
            return 1;
        }
        if (!strcmp(word, "--version")) {
            printf("%s version %s, network %s, %s\n", model, kanserve_edge_model.version, kanserve_edge_model.digest,
                   kanserve_library_versions());
            return 1;
        }
        if (!strcmp(word, "--check")) {
            to->check = 1;
            continue;
        }
        if (!value) return fail(word, "an option needs a value, or is not known; see --help");
        i++;
        if (!strcmp(word, "--host")) {
            to->host = value;
        } else if (!strcmp(word, "--port") && number(value, 0, 65535, &read)) {
            to->port = (int)read;
        } else if (!strcmp(word, "--http-port") && number(value, 0, 65535, &read)) {
            to->http_port = (int)read;
        } else if (!strcmp(word, "--grace") && number(value, 0, 86400, &read)) {
            to->grace = (int)read;
        } else if (!strcmp(word, "--max-message-bytes") && number(value, 1024, 1 << 30, &read)) {
            to->max_message = read;
#ifdef KANSERVE_TLS
        } else if (!strcmp(word, "--tls-certificate")) {
            to->certificate = value;
        } else if (!strcmp(word, "--tls-key")) {
            to->key = value;
        } else if (!strcmp(word, "--tls-client-ca")) {
            to->authorities = value;
#endif
        } else {
            return fail(word, "not an option, or not its value; see --help");
        }
    }
    return 0;
}

/* A listening socket, with its port in `port`: -1 with errno. */
static int listening(const char *host, int *port)
{
    struct sockaddr_in six4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)*port)};
    int is_four = inet_pton(AF_INET, host, &six4.sin_addr) == 1, on = 1;
    if (!is_four && inet_pton(AF_INET6, host, &six.sin6_addr) != 1) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    struct sockaddr *address = is_four ? (struct sockaddr *)&six4 : (struct sockaddr *)&six;
    socklen_t size = is_four ? sizeof six4 : sizeof six;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, address, size) || listen(fd, SOMAXCONN) || getsockname(fd, address, &size)) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    *port = ntohs(is_four ? six4.sin_port : six.sin6_port);
    return fd;
}

static void tell_systemd(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (!path || strlen(path) >= sizeof to.sun_path) return;
    memcpy(to.sun_path, path, strlen(path));
    if (*path == '@') to.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
    close(fd);
}

static int64_t *describe(served_model *to)
{
    const edge_model *model = &kanserve_edge_model;
    int64_t *counters = calloc((size_t)(COUNT_OUTSIDE + model->inputs), sizeof *counters);
    *to = (served_model){.name = model->name, .version = atoll(model->version), .draws_below = ALL_DRAWS, .predict = model->predict,
                         .inputs = model->inputs, .outputs = model->outputs, .single = model->single,
                         .classes = model->classes, .max_rows = model->max_rows, .gradient = model->gradient,
                         .max_gradient_rows = model->max_gradient_rows, .labels = model->labels,
                         .low = {model->low, model->low_single}, .high = {model->high, model->high_single},
                         .encodings = model->encodings,
                         .counters = counters, .cost = {.nanoseconds = 1}};
    return counters;
}

static kanserve_server *made(const options *given, edge_state *state)
{
    static const int64_t MICROSECONDS[BUCKETS - 1] = {10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 25000, 100000,
                                                      500000, 2500000, 10000000};
    kanserve_config config = {.max_message = given->max_message, .max_held = 4 * given->max_message,
                              .inline_budget = INT64_MAX, .keepalive = 60 * SECOND,
                              .greeting_time = 10 * SECOND, .write_time = 60 * SECOND, .ping_time = 20 * SECOND,
                              .linger_time = SECOND, .max_streams = 512, .max_metadata = 8192, .queue = 1,
                              .max_connections = 1024};
    kanserve_path paths[EDGE_PATHS];
    served_model model;
    for (int i = 0; i < BUCKETS - 1; i++) config.bounds[i] = 1000 * MICROSECONDS[i];
    edge_paths(paths);
    kanserve_server *server = kanserve_new(&config, EDGE_PATH_NAMES, paths, EDGE_PATHS);
    state->counters = describe(&model);
    state->server = server;
    if (!server || !state->counters || kanserve_publish(server, &model, 1)) return NULL;
    kanserve_answer_locally(server, edge_answer_call, state);
    return server;
}

static int use_tls(const options *given, kanserve_server *server)
{
#ifdef KANSERVE_TLS
    char error[300];
    if (!given->certificate && !given->key && !given->authorities) return 0;
    if (!given->certificate || !given->key) return fail("TLS", "it needs both --tls-certificate and --tls-key");
    if (kanserve_use_tls(server, kanserve_tls(), given->certificate, given->key, given->authorities, error, sizeof error))
        return fail("TLS", error);
#endif
    (void)given;
    (void)server;
    return 0;
}

static int serve(const options *given, edge_state *state)
{
    int port = given->port, http_port = given->http_port, signal_number;
    sigset_t signals;
    kanserve_server *server = made(given, state);
    if (!server) return fail("cannot start", "there is no memory");
    int mistake = use_tls(given, server);
    if (mistake) return mistake;
    /* Before any thread: all of them leave these signals to this one. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    int listener = listening(given->host, &port);
    if (listener < 0) return fail(given->host, strerror(errno));
    if (http_port >= 0) {
        int http = listening(given->host, &http_port);
        if (http < 0) return fail("--http-port", strerror(errno));
        if (edge_http_serve(http, state)) return fail("--http-port", "the thread cannot be started");
    }
    kanserve_listen(server, listener);
    if (kanserve_start(server)) return fail("cannot start", strerror(errno));
    char metrics[100] = "";
    if (http_port >= 0) snprintf(metrics, sizeof metrics, ", metrics at http://%s:%d/metrics", given->host, http_port);
    fprintf(stderr, "kanserve: serving '%s'%s on %s:%d\n", state->model->name, metrics, given->host, port);
    tell_systemd("READY=1");
    sigwait(&signals, &signal_number);
    tell_systemd("STOPPING=1");
    state->draining = 1;
    kanserve_drain(server, given->grace * SECOND);
    kanserve_hang_up(server, given->grace * SECOND);
    if (kanserve_stop(server)) _exit(1);
    kanserve_free(server);
    free(state->counters);
    return 0;
}

int main(int count, char **words)
{
    options given = {.host = "127.0.0.1", .port = 8001, .http_port = -1, .grace = 25, .max_message = 4 << 20};
    edge_state state = {.model = &kanserve_edge_model};
    double error = 0;
    int done = read_options(count, words, &given);
    if (done) return done == 1 ? 0 : done;
    if (kanserve_edge_model.selftest(&error)) return fail("the model", "its golden rows do not come out right here");
    if (given.check) {
        printf("The golden rows come out right; the largest relative error is %.1e.\n", error);
        return 0;
    }
    return serve(&given, &state);
}
