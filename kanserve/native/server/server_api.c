/* Making and ending a server. */

#include "server.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <unistd.h>
#include <zlib.h>

const char *kanserve_library_versions(void)
{
    static char text[200];
    snprintf(text, sizeof text, "nghttp2 %s, zlib %s", nghttp2_version(0)->version_str, zlibVersion());
    return text;
}

static void free_paths(kanserve_server *server)
{
    for (int i = 0; server->paths && i < server->path_count; i++) free(server->paths[i].name);
    free(server->paths);
    free((void *)(uintptr_t)server->config.route_header);
}

kanserve_server *kanserve_new(const kanserve_config *config, const char *const *names, const kanserve_path *paths,
                              int count)
{
    kanserve_server *server = calloc(1, sizeof *server);
    if (!server) return NULL;
    server->config = *config;
    server->epoll = server->wake = -1;
    server->next_check = INT64_MAX;
    server->turn = TURN;
    atomic_init(&server->inviting, 1);
    for (int list = 0; list < WAITING; list++) server->waiting[list].end = &server->waiting[list].first;
    for (int which = 0; which < QUEUES; which++) server->queues[which].end = &server->queues[which].first;
    server->last_command = &server->commands;
    pthread_mutex_init(&server->lock, NULL);
    pthread_cond_init(&server->published, NULL);
    server->input = malloc(INPUT_BYTES);
    server->paths = calloc((size_t)count + 1, sizeof *server->paths);
    server->path_count = count;
    server->config.route_header = config->route_header ? strdup(config->route_header) : NULL;
    int failed = !server->input || !server->paths || http2_options(server);
    failed |= config->route_header && !server->config.route_header;
    for (int i = 0; !failed && i < count; i++) {
        server->paths[i] = (path_entry){strdup(names[i]), strlen(names[i]), paths[i]};
        failed = !server->paths[i].name;
    }
    if (failed) {
        kanserve_free(server);
        return NULL;
    }
    return server;
}

int listen_for(kanserve_server *server, int fd, const protocol *speaks)
{
    if (server->listener_count >= LISTENERS) return -1;
    server->spoken[server->listener_count] = speaks;
    server->listeners[server->listener_count++] = fd;
    descriptor_opened(fd);
    return 0;
}

int kanserve_listen(kanserve_server *server, int fd)
{
    return listen_for(server, fd, &HTTP2);
}

int kanserve_use_tls(kanserve_server *server, const tls_functions *functions, const char *certificate, const char *key,
                     const char *authorities, char *error, size_t size)
{
    server->tls_functions = functions;
    server->tls = functions->open(certificate, key, authorities, error, size);
    return server->tls ? 0 : -1;
}

void kanserve_answer_locally(kanserve_server *server, kanserve_local answer, void *context)
{
    server->local = answer;
    server->local_context = context;
}

static void wake(kanserve_server *server)
{
    uint64_t one = 1;
    ssize_t ignored = write(server->wake, &one, sizeof one);
    (void)ignored;
}

/* What the loop alone used. */
static void free_loop(kanserve_server *server)
{
    while (server->free_streams) {
        stream *one = server->free_streams;
        server->free_streams = one->next;
        buffer_free(&one->body);
        buffer_free(&one->metadata);
        buffer_free(&one->out);
        free(one);
    }
    server->free_count = 0;
    discard_rest(server);
    table_release(server->table);
    server->table = NULL;
    if (server->tls) server->tls_functions->close(server->tls);
    server->tls = NULL;
    nghttp2_session_callbacks_del(server->callbacks);
    nghttp2_option_del(server->options);
    server->callbacks = NULL;
    server->options = NULL;
    if (server->http1) server->free_http1(server);
    free(server->input);
    server->input = NULL;
    buffer_free(&server->rows);
    buffer_free(&server->predictions);
    buffer_free(&server->indices);
}

static void advance(kanserve_server *server, int state)
{
    int before = atomic_load(&server->state);
    while (before < state && !atomic_compare_exchange_weak(&server->state, &before, state)) continue;
}

void kanserve_drain(kanserve_server *server, int64_t nanoseconds)
{
    struct timespec pause = {0, 2000000};
    int64_t until = now_ns() + NOTICE_TIME + LAST_TURN;
    if (atomic_load(&server->state) == RUNNING) server->notice_time = nanoseconds < NOTICE_TIME ? nanoseconds : NOTICE_TIME;
    advance(server, DRAINING);
    if (!server->started) return;
    wake(server);
    while (atomic_load(&server->state) == DRAINING && atomic_load(&server->inviting) > 0 && now_ns() < until)
        nanosleep(&pause, NULL);
}

int kanserve_hang_up(kanserve_server *server, int64_t nanoseconds)
{
    int64_t until = now_ns() + nanoseconds;
    advance(server, HANGING_UP);
    if (!server->started) return 0;
    wake(server);
    struct timespec pause = {0, 2000000};
    while (atomic_load(&server->connection_count) > 0 || atomic_load(&server->listener_count) > 0) {
        if (now_ns() >= until) return -1;
        nanosleep(&pause, NULL);
    }
    return 0;
}

int kanserve_stop(kanserve_server *server)
{
    advance(server, STOPPED);
    if (server->started) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += LAST_TURN / SECOND;
        wake(server);
        if (pthread_timedjoin_np(server->thread, NULL, &until)) {
            kanserve_end_threads(server);
            return -1;
        }
        server->started = 0;
    }
    for (int k = 0; k < server->listener_count; k++) descriptor_close(server->listeners[k]);
    server->listener_count = 0;
    pthread_mutex_lock(&server->lock); /* with which others write to `wake` */
    descriptor_close(server->epoll);
    descriptor_close(server->wake);
    server->epoll = server->wake = -1;
    pthread_mutex_unlock(&server->lock);
    run_commands(server); /* all their calls are gone */
    kanserve_end_threads(server);
    free_loop(server);
    return 0;
}

/* After `kanserve_stop`, once no thread uses the server or one of its calls. */
void kanserve_free(kanserve_server *server)
{
    free_loop(server);
    free_queues(server);
    free_paths(server);
    pthread_mutex_destroy(&server->lock);
    pthread_cond_destroy(&server->published);
    free(server);
}

int64_t kanserve_refused(kanserve_server *server, int why)
{
    return atomic_load(&server->refused[why]);
}

int64_t kanserve_turns(kanserve_server *server)
{
    if (server->started) wake(server);
    return atomic_load_explicit(&server->turns, memory_order_relaxed);
}

int64_t kanserve_closed(kanserve_server *server, int why)
{
    return atomic_load(&server->closed[why]);
}

int64_t kanserve_held(kanserve_server *server)
{
    return (int64_t)atomic_load(&server->held);
}

int64_t kanserve_connections(kanserve_server *server)
{
    return (int64_t)atomic_load(&server->connection_count);
}

int64_t kanserve_computed(kanserve_server *server)
{
    return atomic_load(&server->computed);
}
