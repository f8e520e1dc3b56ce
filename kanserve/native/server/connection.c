/* One connection: its socket, TLS, and the bytes on their way out. */

#include "server.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { OUTPUT = 1 << 17 };

connection *connection_new(kanserve_server *server, const protocol *speaks, int fd, int unix_socket, const char *peer)
{
    connection *owner = calloc(1, sizeof *owner);
    if (!owner) return NULL;
    owner->server = server;
    owner->protocol = speaks;
    owner->fd = fd;
    owner->unix_socket = unix_socket;
    owner->opened = owner->last_read = now_ns();
    strncpy(owner->peer, peer, sizeof owner->peer - 1);
    owner->late = speaks != &HTTP2 && atomic_load(&server->state) != RUNNING;
    owner->handshaken = !server->tls;
    owner->undecided = server->tls && speaks != &HTTP2;
    if (server->tls && !owner->undecided && !(owner->tls = server->tls_functions->accept(server->tls, fd, 0))) {
        free(owner);
        return NULL;
    }
    owner->account = calloc(1, sizeof *owner->account);
    if (!owner->account || speaks->begin(owner)) {
        free(owner->account);
        if (owner->tls) server->tls_functions->end(owner->tls);
        free(owner);
        return NULL;
    }
    owner->account->server = server;
    atomic_init(&owner->account->references, 1);
    owner->next = server->connections;
    if (owner->next)
        owner->next->previous = owner;
    else
        server->oldest = owner;
    server->connections = owner;
    server->connection_count++;
    return owner;
}

/* The socket is closed at once; the memory is freed after the events at hand, which may point to it. */
void connection_close(connection *owner)
{
    kanserve_server *server = owner->server;
    if (owner->dead) return;
    owner->dead = 1;
    while (owner->streams) stream_free(owner->streams);
    waiting_drop(owner, WAIT_PAUSED);
    if (owner->previous)
        owner->previous->next = owner->next;
    else
        server->connections = owner->next;
    if (owner->next)
        owner->next->previous = owner->previous;
    else
        server->oldest = owner->previous;
    server->connection_count--;
    owner->next_dead = server->dead;
    server->dead = owner;
    /* A forked child may hold the socket too: then closing it would not take it out of epoll. */
    epoll_ctl(server->epoll, EPOLL_CTL_DEL, owner->fd, NULL);
    if (owner->tls) server->tls_functions->end(owner->tls);
    owner->tls = NULL;
    descriptor_close(owner->fd);
}

/* Whether nothing that it has asked for is under way here: all that it holds waits for its peer, to go on with a request or
 * to take an answer of which it has taken nothing for a while. */
static int waits_for_peer(const connection *owner)
{
    int64_t now = now_ns();
    for (const stream *one = owner->streams; one; one = one->next)
        if (one->answered ? now - one->moved < SECOND : one->ended || (one->call && one->messages)) return 0;
    return 1;
}

/* Close the oldest connection of a protocol, or of all, that waits for its peer: whether there was one. */
int connections_make_room(kanserve_server *server, const protocol *speaks)
{
    for (connection *owner = server->oldest; owner; owner = owner->previous) {
        if ((speaks && owner->protocol != speaks) || !waits_for_peer(owner)) continue;
        atomic_fetch_add(&server->closed[CLOSED_CROWDED], 1);
        connection_close(owner);
        return 1;
    }
    return 0;
}

/* Close the oldest connection that waits for its peer and holds much, to make room for another: whether there was one. With
 * as many connections as there may be, some hold so much where half of the memory is used. Where there was none, others need
 * not look at all connections again for a while; where it was the asker itself, only it need not. */
int connections_give_memory(kanserve_server *server, connection *to)
{
    enum { LEAST = 1 << 12, MOST = 1 << 14, PAUSE = SECOND / 100 };
    size_t much = (size_t)(server->config.max_held / 2 / (server->config.max_connections + 1));
    if (much < LEAST) much = LEAST;
    if (much > MOST) much = MOST;
    int64_t now = now_ns(), *next = &server->next_giving;
    if (*next > now || to->next_giving > now) return 0;
    for (connection *owner = server->oldest; owner; owner = owner->previous) {
        if (atomic_load(&owner->account->held) < much || !waits_for_peer(owner)) continue;
        if (owner == to) {
            next = &to->next_giving;
            continue;
        }
        atomic_fetch_add(&server->closed[CLOSED_CROWDED], 1);
        connection_close(owner);
        return 1;
    }
    *next = now + PAUSE;
    return 0;
}

/* Whether there is room for so many bytes more, made where needed by who holds much and waits for its peer. */
int connection_has_room(connection *owner, size_t bytes)
{
    while (!is_room(owner->account, bytes))
        if (!connections_give_memory(owner->server, owner)) return 0;
    return 1;
}

void connection_free(connection *owner)
{
    owner->protocol->end(owner);
    buffer_free(&owner->out);
    buffer_free(&owner->identity);
    buffer_free(&owner->unread);
    account_release(owner->account);
    free(owner);
}

/* A fatal error: the peer gets GOAWAY. If unread bytes were left when the socket is closed, it would be reset and
 * GOAWAY lost: so it is read for a while longer. */
void connection_fail(connection *owner, uint32_t error)
{
    if (owner->closing || owner->dead) return;
    owner->closing = 1;
    owner->protocol->fail(owner, error);
}

void connection_linger(connection *owner)
{
    while (owner->streams) stream_free(owner->streams);
    waiting_drop(owner, WAIT_PAUSED);
    buffer_free(&owner->unread);
    owner->paused = owner->full = 0;
    if (owner->tls) owner->server->tls_functions->end(owner->tls);
    owner->tls = NULL; /* what still comes is thrown away, so nobody need decrypt it */
    shutdown(owner->fd, SHUT_WR);
    owner->lingering = now_ns();
    loop_check_by(owner->server, owner->lingering + owner->server->config.linger_time);
    owner->wants_write = 0;
    loop_watch(owner);
}

static long receive(connection *owner)
{
    int wants_write = 0;
    if (owner->tls) {
        long got = owner->server->tls_functions->read(owner->tls, owner->server->input, INPUT_BYTES, &wants_write);
        if (wants_write && !owner->wants_write) {
            owner->wants_write = 1;
            loop_watch(owner);
        }
        return got;
    }
    for (;;) {
        ssize_t got = recv(owner->fd, owner->server->input, INPUT_BYTES, 0);
        if (got > 0) return got;
        if (got == 0) return -1;
        if (errno == EINTR) continue;
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
    }
}

/* Whether TLS is agreed on. */
static int handshake(connection *owner)
{
    int wants_write = 0;
    int done = owner->server->tls_functions->handshake(owner->tls, &wants_write, &owner->identity);
    if (done < 0) {
        connection_linger(owner); /* it may still read why */
        return 0;
    }
    if (wants_write != owner->wants_write) {
        owner->wants_write = wants_write;
        loop_watch(owner);
    }
    owner->handshaken = done;
    return done;
}

/* Let the connection have its turn after all others in the list. */
void waiting_add(connection *owner, int list)
{
    kanserve_server *server = owner->server;
    owner->next_waiting[list] = NULL;
    *server->waiting[list].end = owner;
    server->waiting[list].end = &owner->next_waiting[list];
}

static void waiting_remove(kanserve_server *server, connection **at, int list)
{
    connection *owner = *at;
    *at = owner->next_waiting[list];
    if (!*at) server->waiting[list].end = at;
}

connection *waiting_take(kanserve_server *server, int list)
{
    connection *first = server->waiting[list].first;
    if (first) waiting_remove(server, &server->waiting[list].first, list);
    return first;
}

void waiting_drop(connection *owner, int list)
{
    connection **at = &owner->server->waiting[list].first;
    while (*at && *at != owner) at = &(*at)->next_waiting[list];
    if (*at) waiting_remove(owner->server, at, list);
}

/* Keep bytes that were read until the connection has its turn again. */
void connection_pause(connection *owner, const uint8_t *data, size_t length)
{
    buffer_add(&owner->unread, data, length);
    waiting_add(owner, WAIT_PAUSED);
    if (owner->unread.failed) connection_close(owner);
}

/* Whether TLS or not is known by the first byte, which stays in the socket. */
static int decide(connection *owner)
{
    kanserve_server *server = owner->server;
    uint8_t first;
    ssize_t got = recv(owner->fd, &first, 1, MSG_PEEK);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return 0;
    if (got == 1 && first == TLS_HANDSHAKE) owner->tls = server->tls_functions->accept(server->tls, owner->fd, 1);
    if (got <= 0 || (first == TLS_HANDSHAKE && !owner->tls)) {
        connection_close(owner);
        return 0;
    }
    owner->undecided = 0;
    owner->handshaken = !owner->tls;
    return 1;
}

/* Nothing more is taken for now: see whether the peer has left. If it has sent more instead, that waits in the socket. */
static void look(connection *owner)
{
    uint8_t first;
    ssize_t got = recv(owner->fd, &first, 1, MSG_PEEK);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
        connection_close(owner);
    } else if (got > 0 && !owner->full) {
        owner->full = 1;
        loop_watch(owner);
    }
}

/* Read what is there, at most INPUT_BYTES and a record of TLS: then the others have their turn. */
void connection_read(connection *owner)
{
    kanserve_server *server = owner->server;
    if (owner->undecided && !owner->lingering && !decide(owner)) return;
    if (owner->tls && !owner->handshaken && !owner->lingering && !handshake(owner)) return;
    if (owner->paused == HELD) {
        look(owner);
        return;
    }
    owner->reading = 1;
    owner->turn = now_ns();
    for (long all = 0; all < INPUT_BYTES && !owner->dead && !owner->wants_write && !owner->paused;) {
        long got = receive(owner);
        if (got == 0) break;
        if (got < 0) {
            if (got == TLS_FLOODED) atomic_fetch_add(&server->closed[CLOSED_FLOODING], 1);
            connection_close(owner);
            break;
        }
        all += got;
        if (owner->lingering) continue;
        owner->last_read = owner->turn;
        if (owner->pinged) loop_check_by(server, owner->last_read + server->config.keepalive);
        owner->pinged = 0;
        owner->protocol->feed(owner, (size_t)got);
        if (!owner->tls && got < INPUT_BYTES) break; /* most likely that was all */
        if (buffer_length(&owner->out) > 0) break;
    }
    owner->reading = 0;
    if (!owner->dead && !owner->lingering) connection_write(owner);
}

/* Go on with a paused connection. What it could not write comes first: then it waits until that is done. */
void connection_resume(connection *owner)
{
    if (owner->wants_write) {
        owner->paused = PARKED;
        return;
    }
    size_t length = buffer_length(&owner->unread);
    if (length) memcpy(owner->server->input, buffer_begin(&owner->unread), length);
    buffer_free(&owner->unread);
    owner->paused = 0;
    owner->reading = 1;
    owner->turn = now_ns();
    owner->protocol->feed(owner, length);
    owner->reading = 0;
    if (!owner->dead) connection_write(owner);
}

/* Send what is there: 1, 0 if the socket takes no more, -1 if it is broken. */
static int flush(connection *owner)
{
    while (buffer_length(&owner->out) > 0) {
        int wants_write = 0;
        long sent;
        if (owner->tls) {
            sent = owner->server->tls_functions->write(owner->tls, buffer_begin(&owner->out), buffer_length(&owner->out),
                                                       &wants_write);
        } else {
            sent = send(owner->fd, buffer_begin(&owner->out), buffer_length(&owner->out), MSG_NOSIGNAL);
            if (sent < 0 && errno == EINTR) continue;
            if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) sent = 0;
        }
        if (sent < 0) return -1;
        if (sent == 0) return 0;
        buffer_take(&owner->out, (size_t)sent);
    }
    return 1;
}

/* Say one last thing, before the protocol has written anything. */
void connection_end_with(connection *owner, const char *text)
{
    buffer_add(&owner->out, text, strlen(text));
    if (flush(owner) > 0)
        connection_linger(owner);
    else
        connection_close(owner);
}

/* Write what there is to send, about OUTPUT bytes, as far as the socket takes them. While something is left,
 * nothing is read. */
void connection_write(connection *owner)
{
    if (owner->dead || owner->reading || owner->lingering || !owner->handshaken) return;
    if (owner->protocol->fill(owner, OUTPUT)) {
        connection_close(owner);
        return;
    }
    int full = buffer_length(&owner->out) >= OUTPUT;
    int all = owner->out.failed ? -1 : flush(owner);
    if (all < 0) {
        connection_close(owner);
        return;
    }
    if (all) {
        owner->blocked = 0; /* it does read, if slowly */
        if (owner->out.capacity > OUTPUT) buffer_free(&owner->out);
    } else if (!owner->blocked) {
        owner->blocked = now_ns();
        loop_check_by(owner->server, owner->blocked + owner->server->config.write_time);
    }
    int wants_write = full || !all; /* there may be more, which waits until the others have had their turn */
    if (owner->wants_write != wants_write) {
        owner->wants_write = wants_write;
        loop_watch(owner);
    }
    if (owner->paused == PARKED && !wants_write) {
        owner->paused = PAUSED;
        waiting_add(owner, WAIT_PAUSED);
    }
    if (!wants_write && owner->protocol->is_over(owner)) connection_linger(owner);
}
