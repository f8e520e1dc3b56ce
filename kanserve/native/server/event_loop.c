/* The loop: it accepts connections, reads and writes them, runs commands of other threads, and keeps time. */

#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum { EVENTS = 64, ACCEPTS = 64, MOST_DESCRIPTORS = 1 << 20 };

#define LAST_ANSWERS (SECOND / 20) /* in which calls may still be answered after `kanserve_hang_up` */
#define SHORTEST_SLICE (SECOND / 10000) /* that Linux gives */
#define LEAST_WAIT (SECOND / 200) /* between two looks at all deadlines */
enum { LEAST_WAITS = 20 };        /* and so many times what a look takes */

/* The descriptors of all servers of this process, for a forked child to close: its copies would keep connections open
 * that nobody there answers. */
static atomic_uchar descriptors[MOST_DESCRIPTORS / 8];
static atomic_int highest;
static pthread_once_t fork_handler = PTHREAD_ONCE_INIT;

void descriptor_opened(int fd)
{
    if (fd < 0 || fd >= MOST_DESCRIPTORS) return;
    atomic_fetch_or(&descriptors[fd / 8], (unsigned char)(1 << fd % 8));
    int before = atomic_load(&highest);
    while (before < fd && !atomic_compare_exchange_weak(&highest, &before, fd)) continue;
}

void descriptor_close(int fd)
{
    if (fd < 0) return;
    if (fd < MOST_DESCRIPTORS) atomic_fetch_and(&descriptors[fd / 8], (unsigned char)~(1 << fd % 8));
    close(fd);
}

static void close_in_child(void)
{
    int most = atomic_load(&highest);
    for (int fd = 0; fd <= most; fd++)
        if (atomic_load(&descriptors[fd / 8]) & 1 << fd % 8) descriptor_close(fd);
}

static void at_fork(void)
{
    pthread_atfork(NULL, NULL, close_in_child);
}

void loop_check_by(kanserve_server *server, int64_t when)
{
    if (when && when < server->next_check) server->next_check = when;
}

void loop_watch(connection *owner)
{
    struct epoll_event event = {owner->wants_write ? EPOLLOUT : owner->full ? EPOLLRDHUP : EPOLLIN, {.ptr = owner}};
    epoll_ctl(owner->server->epoll, EPOLL_CTL_MOD, owner->fd, &event);
}

static void describe(const struct sockaddr_storage *from, char *to, size_t size)
{
    char text[INET6_ADDRSTRLEN] = "";
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *address = (const void *)from;
        inet_ntop(AF_INET, &address->sin_addr, text, sizeof text);
        snprintf(to, size, "ipv4:%s:%d", text, ntohs(address->sin_port));
    } else if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *address = (const void *)from;
        inet_ntop(AF_INET6, &address->sin6_addr, text, sizeof text);
        snprintf(to, size, "ipv6:[%s]:%d", text, ntohs(address->sin6_port));
    } else {
        snprintf(to, size, "unix:");
    }
}

static void accept_some(kanserve_server *server, int which, int most)
{
    for (int i = 0; i < most; i++) {
        struct sockaddr_storage from = {0};
        socklen_t size = sizeof from;
        int fd = accept4(server->listeners[which], (struct sockaddr *)&from, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE && connections_make_room(server, NULL)) continue;
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
                server->accepting = 0; /* until some are closed */
                server->accept_again = now_ns() + SECOND / 10;
                loop_check_by(server, server->accept_again);
                for (int k = 0; k < server->listener_count; k++)
                    epoll_ctl(server->epoll, EPOLL_CTL_DEL, server->listeners[k], NULL);
            }
            if (errno == EINTR || errno == ECONNABORTED) continue;
            return;
        }
        descriptor_opened(fd);
        if ((int64_t)atomic_load(&server->connection_count) >= server->config.max_connections &&
            !connections_make_room(server, NULL)) { /* all others are at work */
            atomic_fetch_add(&server->closed[CLOSED_CROWDED], 1);
            descriptor_close(fd);
            continue;
        }
        int on = 1, unix_socket = from.ss_family == AF_UNIX;
        if (!unix_socket) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        char peer[80];
        describe(&from, peer, sizeof peer);
        connection *made = connection_new(server, server->spoken[which], fd, unix_socket, peer);
        if (!made) {
            descriptor_close(fd);
            return;
        }
        struct epoll_event event = {EPOLLIN, {.ptr = made}};
        if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) < 0) connection_close(made);
        loop_check_by(server, made->opened + server->config.greeting_time);
        loop_check_by(server, made->opened + server->config.keepalive);
    }
}

static void listen_again(kanserve_server *server)
{
    server->accepting = 1;
    for (int k = 0; k < server->listener_count; k++) {
        struct epoll_event event = {EPOLLIN, {.ptr = &server->listeners[k]}};
        epoll_ctl(server->epoll, EPOLL_CTL_ADD, server->listeners[k], &event);
    }
}

static void check_stream(stream *one, int64_t now)
{
    kanserve_server *server = one->owner->server;
    int sends = one->answered || buffer_length(&one->out) > 0;
    if (sends && now >= one->moved + server->config.write_time) {
        one->moved = now;
        one->owner->protocol->cancel(one); /* which may free it */
        return;
    }
    if (sends) loop_check_by(server, one->moved + server->config.write_time);
    if (one->answered) return;
    if (one->deadline && now >= one->deadline) {
        atomic_fetch_add(&server->refused[REFUSED_DEADLINE], 1);
        stream_fail_known(one, GRPC_DEADLINE_EXCEEDED, "DeadlineError", "The deadline passed before the call was answered.");
    } else if (one->message_deadline && now >= one->message_deadline) {
        atomic_fetch_add(&server->refused[REFUSED_DEADLINE], 1);
        stream_fail_known(one, GRPC_DEADLINE_EXCEEDED, "DeadlineError",
                         "The message did not come in time, or the caller left.");
    } else {
        loop_check_by(server, one->deadline);
        loop_check_by(server, one->message_deadline);
    }
}

static void check_connection(connection *owner, int64_t now)
{
    kanserve_server *server = owner->server;
    const kanserve_config *config = &server->config;
    int slow = !owner->lingering && ((!owner->greeted && now >= owner->opened + config->greeting_time) ||
                                     (owner->blocked && now >= owner->blocked + config->write_time));
    if (slow) atomic_fetch_add(&server->closed[CLOSED_SLOW], 1);
    if (slow || (owner->lingering && now >= owner->lingering + config->linger_time) || owner->protocol->check(owner, now)) {
        connection_close(owner);
        return;
    }
    stream *next;
    for (stream *one = owner->streams; one; one = next) {
        next = one->next;
        check_stream(one, now);
    }
    if (!owner->lingering) connection_write(owner);
    if (owner->dead) return;
    loop_check_by(server, owner->lingering ? owner->lingering + config->linger_time : 0);
    loop_check_by(server, owner->greeted ? 0 : owner->opened + config->greeting_time);
    loop_check_by(server, owner->blocked ? owner->blocked + config->write_time : 0);
}

static void check_all(kanserve_server *server)
{
    int64_t now = now_ns();
    server->next_check = INT64_MAX;
    if (!server->accepting && server->listener_count) {
        if (now >= server->accept_again)
            listen_again(server);
        else
            loop_check_by(server, server->accept_again);
    }
    for (connection *owner = server->connections, *next; owner; owner = next) {
        next = owner->next;
        check_connection(owner, now);
    }
    int64_t after = now_ns(), least = LEAST_WAITS * (after - now);
    if (least < LEAST_WAIT) least = LEAST_WAIT;
    if (server->next_check < after + least) server->next_check = after + least;
}

/* Those of a protocol, or all. */
static void close_listeners(kanserve_server *server, const protocol *speaks)
{
    for (int k = 0; k < server->listener_count; k++) {
        if (server->listeners[k] < 0 || (speaks && server->spoken[k] != speaks)) continue;
        accept_some(server, k, 1 << 16); /* what has connected, so that it learns of the end */
        epoll_ctl(server->epoll, EPOLL_CTL_DEL, server->listeners[k], NULL);
        shutdown(server->listeners[k], SHUT_RDWR); /* also what a forked child may hold */
        descriptor_close(server->listeners[k]);
        server->listeners[k] = -1;
    }
    if (!speaks) server->listener_count = 0;
}

/* Let no call of HTTP/2 begin, without losing one. */
static void drain(kanserve_server *server)
{
    int64_t now = now_ns();
    if (!server->drained_by) {
        close_listeners(server, &HTTP2);
        server->drained_by = now + server->notice_time;
    }
    if (now < server->next_look) return;
    int final = now >= server->drained_by, left = 0;
    for (connection *owner = server->connections, *next; owner; owner = next) {
        next = owner->next;
        if (owner->protocol != &HTTP2 || owner->closing || owner->lingering) continue;
        if (owner->handshaken) {
            left += !http2_drain(owner, final);
            connection_write(owner);
        } else if (final) {
            connection_close(owner);
        } else {
            left++;
        }
    }
    server->next_look = now + LEAST_WAIT;
    atomic_store(&server->inviting, left);
}

/* End all connections. */
static void hang_up(kanserve_server *server, int64_t since)
{
    int final = now_ns() >= since + LAST_ANSWERS;
    for (connection *owner = server->connections, *next; owner; owner = next) {
        next = owner->next;
        if (owner->closing || owner->lingering) continue;
        if (!owner->handshaken) {
            if (final) connection_close(owner);
            continue;
        }
        int done = owner->protocol->hang_up(owner, final);
        connection_write(owner);
        if (!owner->dead && !owner->lingering && done && !owner->streams && buffer_length(&owner->out) == 0)
            connection_linger(owner);
    }
}

static void free_dead(kanserve_server *server)
{
    while (server->dead) {
        connection *owner = server->dead;
        server->dead = owner->next_dead;
        connection_free(owner);
    }
}

static void handle(kanserve_server *server, const struct epoll_event *event)
{
    if (event->data.ptr == &server->wake) {
        uint64_t count;
        ssize_t ignored = read(server->wake, &count, sizeof count);
        (void)ignored;
        return; /* commands run after the events */
    }
    for (int k = 0; k < server->listener_count; k++) {
        if (event->data.ptr == &server->listeners[k]) {
            accept_some(server, k, ACCEPTS);
            return;
        }
    }
    connection *owner = event->data.ptr;
    if (owner->dead) return;
    uint32_t reads = EPOLLIN | EPOLLHUP | EPOLLERR;
    if (event->events & EPOLLRDHUP) { /* which is asked for only while nothing is read */
        connection_close(owner);
        return;
    }
    if (!owner->handshaken) reads |= EPOLLOUT; /* agreeing on TLS may have to write */
    if (event->events & EPOLLOUT) connection_write(owner);
    if (!owner->dead && event->events & reads) connection_read(owner);
}

/* Ask the kernel for short slices of this thread: then it has its core soon after it wakes, though threads that compute
 * want it too (Linux 6.12; others take no notice). */
static void take_short_slices(void)
{
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes = {.size = sizeof attributes, .runtime = SHORTEST_SLICE};
    if (syscall(SYS_sched_getscheduler, 0)) return; /* somebody has chosen another policy than the usual one */
    attributes.nice = getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid));
    syscall(SYS_sched_setattr, 0, &attributes, 0);
}

/* Wait for something to do, and do it: whether the loop goes on. */
int loop_turn(kanserve_server *server)
{
    struct epoll_event events[EVENTS];
    int64_t now = now_ns(), wait = server->next_check > now ? server->next_check - now : 0;
    int state = atomic_load(&server->state);
    if ((state >= HANGING_UP || (state == DRAINING && atomic_load(&server->inviting) > 0)) && wait > LEAST_WAIT)
        wait = LEAST_WAIT;
    if (atomic_load(&server->queued) > 0) {
        queue_check(server, now);
        if (wait > QUEUE_TIME) wait = QUEUE_TIME;
    }
    for (int list = 0; list < WAITING; list++)
        if (server->waiting[list].first || server->discarded) wait = 0;
    if (buffer_kept() && wait > KEEP_TIME) wait = KEEP_TIME; /* of the pages */
    int64_t trim = give_back_after_load(server, now);
    if (trim != INT64_MAX && wait > trim - now) wait = trim - now;
    int timeout = wait > 3600 * SECOND ? 3600 * 1000 : (int)((wait + 999999) / 1000000);
    int count = epoll_wait(server->epoll, events, EVENTS, timeout);
    atomic_fetch_add_explicit(&server->turns, 1, memory_order_relaxed);
    for (int i = 0; i < count; i++) handle(server, &events[i]);
    connection *paused = waiting_take(server, WAIT_PAUSED);
    if (paused) connection_resume(paused);
    inflate_some(server);
    discard_some(server, now);
    run_commands(server);
    queue_wake(server);
    if (now_ns() >= server->next_check) check_all(server);
    state = atomic_load(&server->state);
    if (state == DRAINING && atomic_load(&server->inviting) > 0) drain(server);
    if (state >= HANGING_UP) {
        if (!server->hanging) {
            close_listeners(server, NULL);
            server->hanging = now_ns();
        }
        hang_up(server, server->hanging);
    }
    free_dead(server);
    return state != STOPPED;
}

void loop_end(kanserve_server *server)
{
    for (connection *owner = server->connections, *next; owner; owner = next) {
        next = owner->next;
        connection_close(owner);
    }
    free_dead(server);
}

static void *run(void *argument)
{
    kanserve_server *server = argument;
    pthread_setname_np(pthread_self(), "kanserve-loop");
    take_short_slices();
    while (loop_turn(server)) continue;
    loop_end(server);
    return NULL;
}

int loop_begin(kanserve_server *server)
{
    server->epoll = epoll_create1(EPOLL_CLOEXEC);
    server->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->epoll < 0 || server->wake < 0) return -1;
    descriptor_opened(server->epoll);
    descriptor_opened(server->wake);
    struct epoll_event event = {EPOLLIN, {.ptr = &server->wake}};
    if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, server->wake, &event) < 0) return -1;
    listen_again(server);
    return 0;
}

int kanserve_start(kanserve_server *server)
{
    sigset_t all, before;
    pthread_once(&fork_handler, at_fork);
    if (loop_begin(server)) return -1;
    sigfillset(&all); /* signals are for Python's main thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&server->thread, NULL, run, server);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    server->started = !failed;
    return failed ? -1 : 0;
}
