/* What Python calls, through ctypes. Texts are UTF-8; pairs (of metadata, trailers, a certificate's names) are one
 * after another: the lengths of key and value as two 32-bit integers, then both. */

#ifndef KANSERVE_SERVER_API_H
#define KANSERVE_SERVER_API_H

#include <stddef.h>
#include <stdint.h>

#include "served_models.h"
#include "tls.h"

typedef struct kanserve_server kanserve_server;
typedef struct kanserve_call kanserve_call;

typedef struct {
    int64_t max_message;      /* bytes */
    int64_t max_held;         /* bytes of all messages under way */
    int64_t inline_budget;    /* nanoseconds that a model may take on the loop's thread */
    /* Nanoseconds: of silence until a ping; until TLS is agreed on and the client's first frame is there; until the peer
     * takes some of what is sent to it; until it answers a ping; in which a closed connection is read, so that the peer
     * gets our last frames. */
    int64_t keepalive, greeting_time, write_time, ping_time, linger_time;
    int32_t max_streams;      /* of a connection */
    int32_t max_metadata;     /* bytes */
    int32_t queue;            /* calls that may wait for a thread */
    int32_t hand_out_rows;    /* whether rows of models without a C function are decoded here */
    int32_t max_connections;  /* open at once: at more, the oldest one that waits for its peer gives way */
    const char *route_header; /* in lower case: its value chooses the version by weights, not the request's id; or NULL */
    int64_t bounds[BUCKETS - 1]; /* the upper ends of the metrics' buckets, inclusive, in nanoseconds */
} kanserve_config;

enum { ANSWERS_INFER = 1, ANSWERS_DIFFERENTIATE, ANSWERS_FORMULA };
enum { PATH_UNARY, PATH_STREAM }; /* a stream is handed out before its first message */

typedef struct {
    int32_t kind;
    int32_t answers;         /* which call the loop may answer itself: one of ANSWERS_*, or 0 */
    int32_t refusable;       /* refused while the queue is full */
    int32_t aside;           /* waits in a queue of its own, that of QUEUE_ASIDE */
    int64_t patience;        /* nanoseconds until the message must be there */
} kanserve_path;

enum {
    EVENT_NONE,
    EVENT_CALL,   /* a call to answer */
    EVENT_ROWS,   /* rows to predict */
    EVENT_GONE,   /* the caller of a call that asked for this has left */
    EVENT_POSTED, /* `kanserve_post` */
    EVENT_END,
    EVENT_HTTP,       /* a request of HTTP/1.1 to answer, whose line is in the metadata */
    EVENT_HTTP_EARLY, /* one whose body is under way: that is received as the message of a stream */
};

enum { REFUSED_QUEUE, REFUSED_DRAINING, REFUSED_DEADLINE, REFUSED_MEMORY, KANSERVE_REFUSALS };
/* Why connections were closed: others needed the room; what they sent cost much and carried nothing; they did not greet in
 * time, or took nothing of what was sent to them. */
enum { CLOSED_CROWDED, CLOSED_FLOODING, CLOSED_SLOW, KANSERVE_CLOSURES };

typedef struct {
    int32_t kind;
    int32_t path;
    int32_t late;
    int32_t model;      /* `served_model.number` of rows */
    int32_t single;     /* whether rows are float */
    int32_t cheap;      /* whether they take little time: then one thread takes them one after another */
    int64_t rows;
    int64_t arrived, deadline;
    kanserve_call *call;
    const void *message; /* or the rows */
    int64_t length;
    const void *metadata;
    int64_t metadata_length;
    const void *identity;
    int64_t identity_length;
    const char *peer;
} kanserve_event;

/* Of nghttp2 and zlib. */
const char *kanserve_library_versions(void);

/* Answers a call on the loop's thread, where nobody takes calls from the queues: the status, with the message in `answer`
 * or the reason in `reason`; or ANSWER_AND_STAY, for a stream that stays open after this message. */
enum { ANSWER_AND_STAY = -1 };
typedef int (*kanserve_local)(void *context, int path, const uint8_t *message, size_t length, byte_buffer *answer,
                              char *reason, size_t size);
void kanserve_answer_locally(kanserve_server *server, kanserve_local answer, void *context);

/* NULL without memory. The paths are copied. */
kanserve_server *kanserve_new(const kanserve_config *config, const char *const *names, const kanserve_path *paths,
                              int count);
/* Serve a listening socket, which the server then owns: 0, or -1 if there are too many. Before `kanserve_start`. */
int kanserve_listen(kanserve_server *server, int fd);
/* Use TLS, by the functions that `kanserve_tls` of the other library returns: 0, or -1 with the reason in `error`. Before
 * `kanserve_start`. */
int kanserve_use_tls(kanserve_server *server, const tls_functions *functions, const char *certificate, const char *key,
                     const char *authorities, char *error, size_t size);
int kanserve_start(kanserve_server *server);

/* Replace the models; returns when no request uses the old ones any more. */
int kanserve_publish(kanserve_server *server, const served_model *models, size_t count);

/* The queue of calls that compute, and that of calls which must be answered though all threads compute: health, streams,
 * loads. EVENT_GONE is in the second. */
enum { QUEUE_MAIN, QUEUE_ASIDE, QUEUES };

/* Wait for the next event of a queue, and return its kind. A thread that was given EVENT_END should end. */
int kanserve_next(kanserve_server *server, int queue, kanserve_event *event);
/* Give one thread that waits at the main queue EVENT_POSTED. */
void kanserve_post(kanserve_server *server);
void kanserve_end_threads(kanserve_server *server);
/* The call of the main queue that `kanserve_next` gave is counted elsewhere from now on. */
void kanserve_taken(kanserve_server *server);
/* Further calls at the head of the main queue that have cheap rows of the same model and type: how many. It waits for
 * none. Each counts as queued until `kanserve_taken`. */
int kanserve_more_rows(kanserve_server *server, const kanserve_event *first, kanserve_event *more, int most);
/* The calls in the main queue or just taken from it. */
int kanserve_queued(kanserve_server *server);
int64_t kanserve_refused(kanserve_server *server, int why);
int64_t kanserve_closed(kanserve_server *server, int why);
/* The bytes of all messages under way, and the open connections. */
int64_t kanserve_held(kanserve_server *server);
int64_t kanserve_connections(kanserve_server *server);
/* When a model last computed on the loop's thread, in nanoseconds of CLOCK_MONOTONIC; 0: never. */
int64_t kanserve_computed(kanserve_server *server);
/* Wake the loop, and how many turns it has made: the number grows soon, unless a model never ends. */
int64_t kanserve_turns(kanserve_server *server);

/* Answer a unary call, and give it back. */
void kanserve_answer(kanserve_call *call, const void *data, size_t length);
/* Predictions of rows, of the model's type; and give the call back. */
void kanserve_answer_rows(kanserve_call *call, const void *y, size_t bytes, int64_t computed);
/* End a call with a status, and give it back. */
void kanserve_finish(kanserve_call *call, int status, const void *text, size_t length, const void *trailers,
                     size_t trailers_length);
/* Send a message of a stream; waits while too much is unsent: 0, or -1 once the caller has left. */
int kanserve_send(kanserve_call *call, const void *data, size_t length);
/* The next message of a stream: its length, with its bytes in `data` until the next call; -1 after the last one, -2
 * once the caller has left. */
int64_t kanserve_receive(kanserve_call *call, const void **data);
void kanserve_received(kanserve_call *call, const void *data);
void kanserve_cancel(kanserve_call *call);
int kanserve_gone(kanserve_call *call);
/* Keep a call after it was given back, and give back one that was kept, or that of EVENT_GONE. */
void kanserve_retain(kanserve_call *call);
void kanserve_release(kanserve_call *call);
/* Queue EVENT_GONE when the caller leaves: 1, or 0 if it has left. */
int kanserve_notify(kanserve_call *call);

/* Take no new work: connections of HTTP/2 hear that they should end, and calls begin on them until their peers know, for
 * at most so long. Then end all connections: wait at most so long for what is being sent; then the thread: 0, or -1 if it
 * does not end, since a model computes for ever: nothing may be freed then, and the process should end. */
void kanserve_drain(kanserve_server *server, int64_t nanoseconds);
int kanserve_hang_up(kanserve_server *server, int64_t nanoseconds);
int kanserve_stop(kanserve_server *server);
void kanserve_free(kanserve_server *server);

#endif
