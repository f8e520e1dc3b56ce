/* Calls for other threads: the queues from which they take them. Their answers come back as commands. */

#include "server.h"

#include <unistd.h>

#define CHEAP 100000.0 /* nanoseconds: waking a thread and passing Python's lock on costs a fifth of that */

enum { MOST_UNSIGNALLED = 16, LARGE = 1 << 12 };

typedef struct waiter {
    pthread_cond_t woken;
    int ready;
    struct waiter *next;
} waiter;

/* The thread that has waited for the shortest time takes the next call: its memory is still in the cache. With the lock
 * held. */
static int wake_one(call_queue *queue)
{
    waiter *first = queue->waiters;
    if (!first) return 0;
    queue->waiters = first->next;
    first->ready = 1;
    pthread_cond_signal(&first->woken);
    return 1;
}

static void add_call(kanserve_server *server, kanserve_call *call, int which)
{
    call_queue *queue = &server->queues[which];
    call->next = NULL;
    *queue->end = call;
    queue->end = &call->next;
    if (which == QUEUE_MAIN) atomic_fetch_add(&server->queued, 1);
    if (!call->event.cheap)
        wake_one(queue);
    else
        server->cheap_waits = 1; /* until the loop has read what there is: see `queue_wake` */
}

void message_free(kanserve_call *call, message_node *node)
{
    byte_buffer buffer = {.data = (uint8_t *)node, .capacity = node->capacity};
    let_go(call->account, message_cost(node));
    buffer_free(&buffer);
}

static void free_messages(kanserve_call *call)
{
    while (call->first) {
        message_node *node = call->first;
        call->first = node->next;
        message_free(call, node);
    }
    call->last = NULL;
}

/* Nobody reads the message any more. */
void call_free_message(kanserve_call *call)
{
    let_go(call->account, buffer_length(&call->message));
    buffer_free(&call->message);
}

void call_release(kanserve_call *call)
{
    if (atomic_fetch_sub(&call->references, 1) > 1) return;
    call_free_message(call);
    buffer_free(&call->metadata);
    buffer_free(&call->identity);
    table_release(call->table);
    free_messages(call);
    account_release(call->account);
    pthread_cond_destroy(&call->changed);
    free(call);
}

static int is_within(const uint8_t *at, size_t size, const uint8_t *message, size_t length)
{
    return at >= message && at + size <= message + length;
}

/* Rows were read from a message of a call, which lay there, or stand beside it: keep them with the call. */
static void keep_rows(kanserve_call *call, const infer_request *rows, const uint8_t *lay)
{
    size_t size = (size_t)(rows->rows * rows->model->inputs) * (rows->single ? sizeof(float) : sizeof(double));
    size_t before = buffer_length(&call->message), at = 0, id = 0;
    if (is_within(rows->values, size, lay, before)) {
        at = (size_t)(rows->values - lay);
    } else {
        byte_buffer message = {0};
        buffer_add(&message, rows->values, size);
        buffer_free(&call->message);
        call->message = message;
    }
    if (rows->id_length && is_within(rows->id, rows->id_length, lay, before)) {
        id = (size_t)(rows->id - lay);
    } else if (rows->id_length) {
        id = buffer_length(&call->message);
        buffer_add(&call->message, rows->id, rows->id_length);
    }
    let_go(call->account, before);
    hold(call->account, buffer_length(&call->message));
    call->request = *rows;
    if (call->message.failed) return;
    call->request.values = buffer_begin(&call->message) + at;
    call->request.id = buffer_begin(&call->message) + id;
}

/* Hand out the call of a stream, or rows that were read from its message: 0, or -1 without memory, or without room. */
int queue_call(stream *one, int kind, int late, const infer_request *rows)
{
    connection *owner = one->owner;
    kanserve_server *server = owner->server;
    int aside = one->options->aside;
    const uint8_t *lay = one->view ? one->view : buffer_begin(&one->body);
    if (one->view && !aside && !connection_has_room(owner, one->expected)) return -1;
    kanserve_call *call = calloc(1, sizeof *call);
    if (!call) return -1;
    atomic_init(&call->references, 2); /* the stream's and the queue's, which a thread takes over */
    call->server = server;
    call->account = account_retain(owner->account);
    call->protocol = owner->protocol;
    call->stream = one;
    pthread_cond_init(&call->changed, NULL);
    if (one->view) {
        buffer_add(&call->message, one->view, one->expected);
        one->view = NULL;
        hold(call->account, buffer_length(&call->message));
    } else {
        call->message = one->body; /* counted already */
        memset(&one->body, 0, sizeof one->body);
    }
    call->metadata = one->metadata;
    memset(&one->metadata, 0, sizeof one->metadata);
    buffer_add(&call->identity, buffer_begin(&owner->identity), buffer_length(&owner->identity));
    memcpy(call->peer, owner->peer, sizeof call->peer);
    kanserve_event *event = &call->event;
    *event = (kanserve_event){.kind = kind, .path = one->path, .late = late, .arrived = one->arrived,
                              .deadline = one->deadline, .call = call, .peer = call->peer};
    if (rows && !call->message.failed) keep_rows(call, rows, lay);
    event->message = buffer_begin(&call->message);
    event->length = (int64_t)buffer_length(&call->message);
    event->metadata = buffer_begin(&call->metadata);
    event->metadata_length = (int64_t)buffer_length(&call->metadata);
    event->identity = buffer_begin(&call->identity);
    event->identity_length = (int64_t)buffer_length(&call->identity);
    const infer_request *request = &call->request;
    if (call->message.failed || call->identity.failed || call->metadata.failed) {
        atomic_store(&call->references, 1);
        call_release(call);
        return -1;
    }
    if (rows) {
        size_t size = request->single ? sizeof(float) : sizeof(double);
        event->model = request->model->number;
        event->single = request->single;
        event->cheap = (double)request->rows * request->model->cost.nanoseconds < CHEAP;
        event->rows = request->rows;
        event->message = request->values;
        event->length = request->rows * request->model->inputs * (int64_t)size;
        call->table = table_retain(server->table); /* it may be replaced when the predictions come */
    }
    one->call = call;
    loop_check_by(server, one->deadline);
    pthread_mutex_lock(&server->lock);
    add_call(server, call, aside ? QUEUE_ASIDE : QUEUE_MAIN);
    pthread_mutex_unlock(&server->lock);
    return 0;
}

/* The stream is gone. */
void queue_gone(kanserve_call *call)
{
    kanserve_server *server = call->server;
    pthread_mutex_lock(&server->lock);
    int before = atomic_exchange(&call->gone, 1);
    pthread_cond_broadcast(&call->changed);
    if (!before && call->notify) {
        atomic_fetch_add(&call->references, 1);
        call->event.kind = EVENT_GONE;
        add_call(server, call, QUEUE_ASIDE);
    }
    pthread_mutex_unlock(&server->lock);
}

/* A message as it waits for its thread. A large one stays where it lies. */
static message_node *node_of(byte_buffer *message)
{
    size_t length = buffer_length(message);
    message_node *node;
    if (length >= LARGE && message->start == sizeof *node) {
        node = (message_node *)(void *)message->data;
        node->capacity = message->capacity;
        memset(message, 0, sizeof *message);
    } else {
        if (!(node = malloc(sizeof *node + length))) return NULL;
        node->capacity = 0;
        if (length) memcpy(node->data, buffer_begin(message), length);
        if (message->capacity >= LARGE)
            buffer_free(message);
        else
            message->start = message->end = message->data ? sizeof *node : 0;
    }
    node->next = NULL;
    node->length = length;
    return node;
}

/* A message of a stream came, which is counted already: 0, or -1 without memory. */
int queue_message(kanserve_call *call, byte_buffer *message)
{
    message_node *node = node_of(message);
    if (!node) return -1;
    hold(call->account, sizeof *node);
    atomic_fetch_add(&call->waiting, message_cost(node));
    pthread_mutex_lock(&call->server->lock);
    if (call->last)
        call->last->next = node;
    else
        call->first = node;
    call->last = node;
    pthread_cond_broadcast(&call->changed);
    pthread_mutex_unlock(&call->server->lock);
    return 0;
}

/* Whether a thread waits, and no call for one. */
int queue_is_idle(kanserve_server *server)
{
    pthread_mutex_lock(&server->lock);
    int idle = server->queues[QUEUE_MAIN].waiters && !server->queues[QUEUE_MAIN].first;
    pthread_mutex_unlock(&server->lock);
    return idle;
}

int queue_is_full(const kanserve_call *call)
{
    return atomic_load(&((kanserve_call *)call)->waiting) >= MOST_WAITING;
}

void queue_half_close(kanserve_call *call)
{
    pthread_mutex_lock(&call->server->lock);
    call->half_closed = 1;
    pthread_cond_broadcast(&call->changed);
    pthread_mutex_unlock(&call->server->lock);
}

void queue_sent(kanserve_call *call, size_t length)
{
    pthread_mutex_lock(&call->server->lock);
    call->unsent -= length < call->unsent ? length : call->unsent;
    if (call->unsent < MOST_UNSENT) pthread_cond_broadcast(&call->changed);
    pthread_mutex_unlock(&call->server->lock);
}

/* With the lock held. */
void signal_loop(kanserve_server *server)
{
    uint64_t one = 1;
    server->signalled = 1;
    ssize_t ignored = write(server->wake, &one, sizeof one);
    (void)ignored;
}

/* The first call of a queue; of the main one, counted as delivering first, so that it is always counted. */
static kanserve_call *take_first(kanserve_server *server, call_queue *queue)
{
    kanserve_call *call = queue->first;
    queue->first = call->next;
    if (!queue->first) queue->end = &queue->first;
    if (queue == &server->queues[QUEUE_MAIN]) {
        atomic_fetch_add(&server->delivering, 1);
        atomic_fetch_sub(&server->queued, 1);
        call->taken = now_ns();
        atomic_store_explicit(&server->taken, call->taken, memory_order_relaxed);
    }
    return call;
}

int kanserve_next(kanserve_server *server, int which, kanserve_event *event)
{
    call_queue *queue = &server->queues[which];
    waiter me = {.woken = PTHREAD_COND_INITIALIZER};
    int served = event->kind == EVENT_ROWS && event->cheap;
    event->kind = EVENT_END;
    pthread_mutex_lock(&server->lock);
    if (served && server->cheap_workers > 0) server->cheap_workers--;
    if (which == QUEUE_MAIN && server->commands && !server->signalled) {
        const kanserve_call *first = server->posted ? NULL : queue->first;
        if (!first || !first->event.cheap || server->unsignalled >= MOST_UNSIGNALLED) signal_loop(server);
    }
    for (;;) {
        if (which == QUEUE_MAIN && server->posted) {
            server->posted--;
            event->kind = EVENT_POSTED;
            break;
        }
        if (queue->first) {
            kanserve_call *call = take_first(server, queue);
            if (which == QUEUE_MAIN) {
                if (call->event.kind == EVENT_ROWS && atomic_load(&call->gone)) { /* nobody waits for them */
                    atomic_fetch_sub(&server->delivering, 1);
                    call_release(call);
                    continue;
                }
                if (call->event.cheap && !me.ready) server->cheap_workers++;
            }
            if (call->event.kind == EVENT_ROWS) atomic_fetch_add((_Atomic int64_t *)call->request.model->computing, 1);
            *event = call->event;
            break;
        }
        if (server->ending) break;
        me.ready = 0;
        me.next = queue->waiters;
        queue->waiters = &me;
        while (!me.ready) pthread_cond_wait(&me.woken, &server->lock);
    }
    pthread_mutex_unlock(&server->lock);
    pthread_cond_destroy(&me.woken);
    return event->kind;
}

int kanserve_more_rows(kanserve_server *server, const kanserve_event *first, kanserve_event *more, int most)
{
    call_queue *queue = &server->queues[QUEUE_MAIN];
    int count = 0;
    pthread_mutex_lock(&server->lock);
    for (; count < most && queue->first; count++) {
        const kanserve_event *event = &queue->first->event;
        if (event->kind != EVENT_ROWS || event->model != first->model || event->single != first->single) break;
        if (!event->cheap || event->late || atomic_load(&queue->first->gone)) break;
        kanserve_call *call = take_first(server, queue);
        atomic_fetch_add((_Atomic int64_t *)call->request.model->computing, 1);
        more[count] = call->event;
    }
    pthread_mutex_unlock(&server->lock);
    return count;
}

/* Wake a thread for the cheap rows that came since the last time, unless one is at work on such. */
void queue_wake(kanserve_server *server)
{
    if (!server->cheap_waits) return;
    server->cheap_waits = 0;
    pthread_mutex_lock(&server->lock);
    if (server->cheap_workers == 0) server->cheap_workers = wake_one(&server->queues[QUEUE_MAIN]);
    pthread_mutex_unlock(&server->lock);
}

/* Wake another thread if the calls in the queue wait for one that does not come back, as its model is slow. */
void queue_check(kanserve_server *server, int64_t now)
{
    if (now - atomic_load_explicit(&server->taken, memory_order_relaxed) < QUEUE_TIME) return;
    pthread_mutex_lock(&server->lock);
    server->cheap_workers = server->queues[QUEUE_MAIN].first ? wake_one(&server->queues[QUEUE_MAIN]) : 0;
    pthread_mutex_unlock(&server->lock);
}

void kanserve_post(kanserve_server *server)
{
    pthread_mutex_lock(&server->lock);
    server->posted++;
    wake_one(&server->queues[QUEUE_MAIN]);
    pthread_mutex_unlock(&server->lock);
}

void kanserve_end_threads(kanserve_server *server)
{
    pthread_mutex_lock(&server->lock);
    server->ending = 1;
    for (int which = 0; which < QUEUES; which++)
        while (server->queues[which].waiters) wake_one(&server->queues[which]);
    pthread_mutex_unlock(&server->lock);
}

void kanserve_taken(kanserve_server *server)
{
    atomic_fetch_sub(&server->delivering, 1);
}

int kanserve_queued(kanserve_server *server)
{
    return atomic_load(&server->queued) + atomic_load(&server->delivering);
}

/* Give back the calls that no thread took. */
void free_queues(kanserve_server *server)
{
    for (int which = 0; which < QUEUES; which++) {
        kanserve_call *call;
        while ((call = server->queues[which].first)) {
            server->queues[which].first = call->next;
            call_release(call);
        }
    }
}
