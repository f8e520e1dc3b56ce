/* The server's native transport: one thread that runs an event loop over HTTP/2 connections and speaks gRPC.
 *
 *     socket -> connection.c (TLS, buffers) -> http2.c (nghttp2) -> grpc_call.c (framing, deadlines, status)
 *                                           -> http1/ (llhttp; REST), on another port
 *            -> answers.c, infer.c, where a C model answers on this thread
 *            -> call_queue.c otherwise: other threads take the call, and answer by call_commands.c
 *
 * A connection, its streams and the table of models belong to the loop's thread alone. A `call` is what other threads
 * may hold of a stream; it outlives the stream. Times are nanoseconds of CLOCK_MONOTONIC. */

#ifndef KANSERVE_SERVER_H
#define KANSERVE_SERVER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* before any header of the system: accept4, pthread_setname_np */
#endif

#include <nghttp2/nghttp2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "byte_buffer.h"
#include "infer.h"
#include "protocol.h"
#include "served_models.h"
#include "server_api.h"
#include "tls.h"

typedef struct inflation inflation;

#define SECOND 1000000000LL
#define QUEUE_TIME (SECOND / 1000) /* that a call may wait for a thread that takes cheap rows */
#define KEEP_TIME (10 * SECOND) /* of pages that nobody needs */
#define INPUT_BYTES (1 << 16) /* of one read */
#define LAST_TURN (2 * SECOND) /* that the loop may take to end */
#define NOTICE_TIME SECOND /* that a peer has to acknowledge the notice of an end */
#define TURN (SECOND / 5000) /* that one connection may take before the others have their turn */

static inline int64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

/* Status codes: https://grpc.io/docs/guides/status-codes/ */
enum {
    GRPC_OK = 0,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
};

enum { ENCODING_IDENTITY, ENCODING_GZIP, ENCODING_DEFLATE, ENCODING_UNKNOWN };

typedef struct message_node {
    struct message_node *next;
    size_t length, capacity; /* of the message, and of the buffer that this is */
    uint8_t data[];
} message_node;

/* What it takes: also a message without content takes some. */
static inline size_t message_cost(const message_node *node)
{
    return sizeof *node + node->length;
}

/* Bytes of a stream's messages: to be sent, with which its thread waits; received, with which its peer does. */
enum { MOST_UNSENT = 1 << 20, MOST_WAITING = 1 << 20 };

/* What the messages of one connection take, among those of the server. It outlives the connection, as calls do. */
typedef struct {
    kanserve_server *server;
    atomic_int references;
    atomic_size_t held;
} account;

/* What another thread tells the loop. */
typedef struct command {
    struct command *next;
    int kind;
    kanserve_call *call;
    connection *owner; /* to be written to once all commands have run */
    byte_buffer data, text, trailers;
    int status;
    int64_t computed;
    int64_t *outside; /* rows outside the training range, by input */
    model_table *table;
    atomic_int *done;
} command;

/* A call as other threads see it. Who has a reference may read what is set before it was queued; `stream` is the
 * loop's, and what follows `changed` is guarded by the server's lock. */
struct kanserve_call {
    atomic_int references;
    atomic_int gone; /* the stream has ended, or was answered: what is sent is dropped */
    kanserve_server *server;
    account *account; /* with which its messages are counted */
    const protocol *protocol;
    stream *stream;
    struct kanserve_call *next; /* in the queue */
    kanserve_event event;
    byte_buffer message, metadata, identity;
    char peer[80];
    infer_request request; /* of rows, and the table that has their model */
    model_table *table;
    pthread_cond_t changed;
    message_node *first, *last; /* messages that a stream received */
    atomic_size_t waiting;      /* their bytes */
    size_t unsent;              /* bytes that it sent and that have not left yet */
    int64_t taken;              /* by a thread */
    int half_closed, notify;    /* notify: queue an event when it is gone */
    command spare;              /* where there is no memory for another one: the call fails */
    atomic_int spare_used;
};

struct stream {
    connection *owner;
    stream *next, *previous;
    int32_t id;
    int path; /* of the server's paths; -1 none */
    const kanserve_path *options;        /* of the path */
    int64_t arrived, deadline, answered; /* 0: none; not yet */
    int64_t moved;                       /* when the peer last took something of `out` */
    int64_t message_deadline;
    kanserve_call *call;
    uint8_t prefix[5];
    uint8_t compressed, encoding;
    unsigned takes_gzip : 1, gzipped : 1; /* whether the peer takes such a message; whether `out` holds one */
    unsigned post : 1, grpc : 1, bad_timeout : 1, large : 1, headers_sent : 1, finished : 1, ended : 1;
    const char *page; /* the status of HTTP, where this is no call of gRPC */
    int prefix_length, messages;
    uint32_t expected;    /* bytes of the message under way */
    size_t taken;         /* of them have come */
    size_t unconsumed;    /* bytes for which the peer's window is not opened again, since messages wait */
    const uint8_t *view;  /* the message, if it lies whole in the bytes just read */
    byte_buffer body;     /* else */
    inflation *inflating; /* the message, until it is decompressed; meanwhile what comes is in `later` */
    byte_buffer later;
    byte_buffer metadata; /* key and value pairs, see `buffer_add_pair` */
    size_t metadata_bytes;
    size_t described; /* bytes of the connection's account that the stream and its metadata take */
    byte_buffer out; /* messages to send, framed */
    int status;
    byte_buffer trailers; /* key and value pairs */
};

/* Lists of connections that wait for their turn: paused ones, and those with messages to be decompressed. A parked one
 * is in neither: it goes on once its peer has taken what is to be sent to it; one that is held, once its request is
 * answered. */
enum { WAIT_PAUSED, WAIT_INFLATING, WAITING };
enum { PAUSED = 1, PARKED, HELD };
enum { TLS_HANDSHAKE = 22 }; /* the first byte of a client of TLS */

enum { ENDED_STREAMS = 16 };

struct connection {
    kanserve_server *server;
    const protocol *protocol;
    connection *next, *previous, *next_dead;
    int fd, unix_socket;
    nghttp2_session *session;
    struct http1 *http1;
    void *tls; /* SSL, or NULL */
    int undecided; /* whether it becomes TLS, as its first byte is not there yet */
    int handshaken, greeted, wants_write, reading, closing, dead;
    int late;                        /* HTTP/1.1: it was opened after the server was told to take no new work */
    int goaway;                      /* how far it has come with its end: see http2_shutdown.c */
    int32_t last_taken, late_stream; /* the last call that it named in GOAWAY; one after it, to be reset */
    stream *streams;
    account *account;
    inflation *inflations, **last_inflation; /* messages that are being decompressed */
    connection *next_waiting[WAITING];
    byte_buffer out, identity;
    byte_buffer unread; /* what was read, and is handled when it has its turn again */
    int paused;         /* 0, PAUSED, PARKED, or HELD */
    int full;           /* held, and more has come */
    int64_t turn; /* when its turn began */
    int64_t opened, last_read, blocked, pinged, lingering; /* 0: not */
    int64_t next_giving; /* when to look again for another connection that can give memory to this one */
    stream *viewing; /* its message lies in the bytes just read */
    uint32_t ended[ENDED_STREAMS], next_ended; /* HTTP/2: the last streams that the peer has ended */
    uint8_t head[9];                           /* of a frame, so far */
    uint32_t head_length, within_frame;        /* bytes of it; of the frame, that are still to come */
    size_t looked_at;                          /* bytes of `unread` that were seen already */
    double flood;    /* a bucket that leaks, of frames that cost us and carry nothing */
    int64_t flood_at;
    char peer[80];
};

enum { COMMAND_ANSWER, COMMAND_SEND, COMMAND_FINISH, COMMAND_ROWS, COMMAND_CANCEL, COMMAND_CONSUMED, COMMAND_PUBLISH };

typedef struct {
    char *name;
    size_t length;
    kanserve_path options;
} path_entry;

enum { LISTENERS = 8 };

typedef struct {
    kanserve_call *first, **end;
    struct waiter *waiters; /* threads */
} call_queue;

struct kanserve_server {
    kanserve_config config;
    path_entry *paths;
    int path_count;
    model_table *table;
    kanserve_local local; /* NULL: other threads take what the loop does not answer */
    void *local_context;
    const tls_functions *tls_functions; /* NULL: no TLS */
    tls_context *tls;
    int epoll, wake, listeners[LISTENERS];
    const protocol *spoken[LISTENERS]; /* at each of them */
    struct http1_server *http1;        /* what all connections of HTTP/1.1 share; NULL: there are none */
    void (*free_http1)(kanserve_server *server);
    atomic_int listener_count;
    int accepting;          /* 0 while there are no descriptors left */
    int64_t next_check, accept_again;
    pthread_t thread;
    int started;
    connection *connections, *oldest, *dead; /* the newest one, which leads to older ones; the other end of that list */
    struct {
        connection *first, **end;
    } waiting[WAITING];
    int64_t turn;     /* nanoseconds that a connection may take before others have their turn */
    int64_t inflated; /* of this turn of the loop */
    struct discarded *discarded;
    int64_t next_drop; /* of pages that are kept */
    size_t described;      /* bytes of streams and their metadata, of all that is held */
    int64_t next_giving;   /* when to look again for a connection that can give memory */
    size_t highest_load; /* bytes, since malloc last gave back what it keeps */
    int64_t next_trim;
    stream *free_streams;
    int free_count;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *options;
    uint8_t *input; /* what one read takes */
    byte_buffer rows, predictions, indices;
    atomic_size_t held; /* bytes of messages under way */
    atomic_size_t connection_count;
    atomic_int state; /* RUNNING and on */
    atomic_int inviting; /* connections on which calls may begin though the server drains; 1 before the loop knows */
    int64_t notice_time, drained_by, next_look; /* that such connections have; until when; when to look at them again */
    int64_t hanging; /* since when all connections are being ended; 0: they are not */
    atomic_llong refused[KANSERVE_REFUSALS], closed[KANSERVE_CLOSURES];
    atomic_llong turns;    /* of the loop */
    atomic_llong computed; /* when a model last computed on the loop's thread */

    pthread_mutex_t lock;
    command *commands, **last_command;
    int signalled, unsignalled; /* whether the loop was woken for them; how many there are */
    call_queue queues[QUEUES];
    atomic_int queued, delivering; /* calls in the main queue; taken from it, and not yet `kanserve_taken` */
    int posted, ending;
    int cheap_waits;        /* whether rows came for which no thread was woken yet */
    int cheap_workers;      /* threads that take cheap rows */
    atomic_llong taken;     /* when a call was last taken from the main queue */
    pthread_cond_t published;
};

enum { RUNNING, DRAINING, HANGING_UP, STOPPED };

extern const protocol HTTP2;

static inline void hold(account *of, size_t bytes)
{
    atomic_fetch_add_explicit(&of->held, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&of->server->held, bytes, memory_order_relaxed);
}

static inline void let_go(account *of, size_t bytes)
{
    atomic_fetch_sub_explicit(&of->held, bytes, memory_order_relaxed);
    atomic_fetch_sub_explicit(&of->server->held, bytes, memory_order_relaxed);
}

/* Whether so many more may be counted: a connection has at most as much as it leaves for others, so one alone takes half
 * of all, and there is always room for another. */
static inline int is_room(const account *of, size_t bytes)
{
    size_t most = (size_t)of->server->config.max_held, all = atomic_load_explicit(&of->server->held, memory_order_relaxed);
    return all <= most && atomic_load_explicit(&of->held, memory_order_relaxed) + bytes <= most - all;
}

static inline account *account_retain(account *one)
{
    atomic_fetch_add(&one->references, 1);
    return one;
}

static inline void account_release(account *one)
{
    if (one && atomic_fetch_sub(&one->references, 1) == 1) free(one);
}

/* Whether a call comes on a connection that was opened after the server was told to take no new work. */
static inline int is_late(const stream *one)
{
    return one->owner->late;
}

/* connection.c */
connection *connection_new(kanserve_server *server, const protocol *speaks, int fd, int unix_socket, const char *peer);
void connection_read(connection *owner);
void connection_resume(connection *owner);
void connection_pause(connection *owner, const uint8_t *data, size_t length);
void waiting_add(connection *owner, int list);
connection *waiting_take(kanserve_server *server, int list);
void waiting_drop(connection *owner, int list);
void connection_write(connection *owner);
void connection_fail(connection *owner, uint32_t error);
int connections_make_room(kanserve_server *server, const protocol *speaks);
int connections_give_memory(kanserve_server *server, connection *to);
int connection_has_room(connection *owner, size_t bytes);
void connection_linger(connection *owner);
void connection_end_with(connection *owner, const char *text);
void connection_close(connection *owner);
void connection_free(connection *owner);

/* http2.c */
int http2_options(kanserve_server *server);
void http2_http_error(stream *to, const char *status);

/* http2_shutdown.c */
int http2_drain(connection *owner, int final);
int http2_hang_up(connection *owner, int final);
void http2_goaway_sent(connection *owner);
void http2_ping_acknowledged(connection *owner, const nghttp2_ping *ping);
int http2_is_over_for(const connection *owner, int32_t id);
void http2_refuse_late(connection *owner);

/* stream.c */
stream *stream_new(connection *owner, int32_t id);
void stream_free(stream *one);
void stream_answer(stream *to);
void stream_send(stream *to);
void stream_fail(stream *to, int status, const char *text, const byte_buffer *more);
void stream_fail_known(stream *to, int status, const char *error, const char *text);
void stream_fail_full(stream *to);
/* The value of the header that chooses the version: the first, if it is ASCII, as all transports read it; else length 0. */
const uint8_t *stream_route(const stream *one, size_t *length);
void streams_refuse(connection *owner);

/* grpc_call.c */
void call_header(stream *one, const uint8_t *name, size_t name_length, const uint8_t *value, size_t value_length);
void call_begin(stream *one, int ended);
void call_data(stream *one, const uint8_t *data, size_t length);
void call_end(stream *one);
void call_keep(stream *one);
void call_inflated(stream *one, int result);
void call_reserve(const stream *one, byte_buffer *message);
void call_gone(stream *one);
void call_refuse_full(stream *one);
int call_refuse_early(stream *one);
int call_describe(stream *one);
int call_store(stream *one, byte_buffer *where, const uint8_t *data, size_t length);
void call_take(stream *one);
int call_read_rows(stream *one, const uint8_t *message, size_t length, infer_request *request);
void call_write_rows(const infer_request *request, const void *y, int64_t outside, const byte_buffer *indices, byte_buffer *to);
void call_seal(stream *one);
void frame_message(byte_buffer *to, int compressed, const void *data, size_t length);

/* answers.c */
int answer_call(stream *one, const uint8_t *message, size_t length);
void encode_rows(kanserve_call *call, const void *y, size_t bytes, command *to);
void call_rows(kanserve_call *call, const int64_t *outside, int64_t computed);

/* compression.c */
enum { INFLATED, UNFINISHED, TOO_LARGE, BROKEN, NO_ROOM };
int inflate_begin(stream *one);
void inflate_drop(stream *one);
void inflate_some(kanserve_server *server);

/* call_queue.c */
int queue_call(stream *one, int kind, int late, const infer_request *rows);
void queue_gone(kanserve_call *call);
int queue_message(kanserve_call *call, byte_buffer *message);
int queue_is_full(const kanserve_call *call);
int queue_is_idle(kanserve_server *server);
void queue_half_close(kanserve_call *call);
void queue_sent(kanserve_call *call, size_t length);
void queue_wake(kanserve_server *server);
void queue_check(kanserve_server *server, int64_t now);
void call_release(kanserve_call *call);
void call_free_message(kanserve_call *call);
void message_free(kanserve_call *call, message_node *node);
void free_queues(kanserve_server *server);
void signal_loop(kanserve_server *server);

/* call_commands.c */
void run_commands(kanserve_server *server);
void give_answer(kanserve_call *call, byte_buffer *message, int status);

/* page_release.c */
void loop_discard(kanserve_server *server, byte_buffer *buffer);
void discard_some(kanserve_server *server, int64_t now);
void discard_rest(kanserve_server *server);
int64_t give_back_after_load(kanserve_server *server, int64_t now);

/* server_api.c */
int listen_for(kanserve_server *server, int fd, const protocol *speaks);

/* event_loop.c */
int loop_begin(kanserve_server *server);
int loop_turn(kanserve_server *server);
void loop_end(kanserve_server *server);
void loop_check_by(kanserve_server *server, int64_t when);
void loop_watch(connection *owner);
void descriptor_opened(int fd);
void descriptor_close(int fd);

#endif
