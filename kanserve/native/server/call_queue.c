/* Calls for other threads: the queue from which they take them, and the commands by which their answers come back. */

#include "server.h"

#include <unistd.h>

#define CHEAP 100000.0 /* nanoseconds: waking a thread and passing Python's lock on costs a fifth of that */

enum { MOST_UNSENT = 1 << 20, MOST_WAITING = 1 << 20, MOST_UNSIGNALLED = 16 };

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

/* What a message of a stream takes: also one without content takes some. */
static size_t cost(const message_node *node)
{
    return sizeof *node + node->length;
}

static void free_messages(kanserve_call *call)
{
    while (call->first) {
        message_node *node = call->first;
        call->first = node->next;
        let_go(call->server, cost(node));
        free(node);
    }
    call->last = NULL;
}

void call_release(kanserve_call *call)
{
    if (atomic_fetch_sub(&call->references, 1) > 1) return;
    kanserve_server *server = call->server;
    let_go(server, buffer_length(&call->message));
    buffer_free(&call->message);
    buffer_free(&call->metadata);
    buffer_free(&call->identity);
    table_release(call->table);
    free_messages(call);
    pthread_cond_destroy(&call->changed);
    free(call);
}

/* Hand out the call of a stream: 0, or -1 without memory. */
int queue_call(stream *one, int kind, int late)
{
    connection *owner = one->owner;
    kanserve_server *server = owner->server;
    kanserve_call *call = calloc(1, sizeof *call);
    if (!call) return -1;
    atomic_init(&call->references, 2); /* the stream's and the queue's, which a thread takes over */
    call->server = server;
    call->stream = one;
    pthread_cond_init(&call->changed, NULL);
    if (one->view) {
        buffer_add(&call->message, one->view, one->expected);
        one->view = NULL;
        hold(server, buffer_length(&call->message));
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
    event->message = buffer_begin(&call->message);
    event->length = (int64_t)buffer_length(&call->message);
    event->metadata = buffer_begin(&call->metadata);
    event->metadata_length = (int64_t)buffer_length(&call->metadata);
    event->identity = buffer_begin(&call->identity);
    event->identity_length = (int64_t)buffer_length(&call->identity);
    infer_request *request = &call->request;
    if (call->message.failed || call->identity.failed ||
        (kind == EVENT_ROWS && !infer_read(server->table, event->message, (size_t)event->length, request))) {
        atomic_store(&call->references, 1);
        call_release(call);
        return -1;
    }
    if (kind == EVENT_ROWS) {
        size_t size = request->single ? sizeof(float) : sizeof(double);
        event->model = request->model->number;
        event->single = request->single;
        event->cheap = (double)request->rows * request->model->cost < CHEAP;
        event->rows = request->rows;
        event->message = request->values;
        event->length = request->rows * request->model->inputs * (int64_t)size;
        call->table = table_retain(server->table); /* it may be replaced when the predictions come */
    }
    one->call = call;
    loop_check_by(server, one->deadline);
    pthread_mutex_lock(&server->lock);
    add_call(server, call, server->paths[one->path].options.aside ? QUEUE_ASIDE : QUEUE_MAIN);
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

/* A message of a stream came: 0, or -1 without memory. */
int queue_message(kanserve_call *call, const uint8_t *data, size_t length)
{
    message_node *node = malloc(sizeof *node + length);
    if (!node) return -1;
    node->next = NULL;
    node->length = length;
    if (length) memcpy(node->data, data, length);
    hold(call->server, cost(node));
    atomic_fetch_add(&call->waiting, cost(node));
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
static void signal_loop(kanserve_server *server)
{
    uint64_t one = 1;
    server->signalled = 1;
    ssize_t ignored = write(server->wake, &one, sizeof one);
    (void)ignored;
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
        kanserve_call *call = queue->first;
        if (call) {
            queue->first = call->next;
            if (!queue->first) queue->end = &queue->first;
            if (which == QUEUE_MAIN) {
                atomic_fetch_sub(&server->queued, 1);
                if (call->event.kind == EVENT_ROWS && atomic_load(&call->gone)) { /* nobody waits for them */
                    call_release(call);
                    continue;
                }
                atomic_fetch_add(&server->delivering, 1);
                call->taken = now_ns();
                atomic_store_explicit(&server->taken, call->taken, memory_order_relaxed);
                if (call->event.cheap && !me.ready) server->cheap_workers++;
            }
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

int64_t kanserve_refused(kanserve_server *server, int why)
{
    return atomic_load(&server->refused[why]);
}

/* Hand a command to the loop. An answer to cheap rows does not wake it at once: its thread does so when it finds no
 * more of them, or after some. Not if they took long after all: the thread pool may keep a slow thread from the queue. */
static void give(kanserve_server *server, command *made)
{
    int cheap = made->kind == COMMAND_ROWS && made->call->event.cheap && now_ns() - made->call->taken < QUEUE_TIME;
    made->next = NULL;
    pthread_mutex_lock(&server->lock);
    *server->last_command = made;
    server->last_command = &made->next;
    server->unsignalled++;
    if (!cheap && !server->signalled) signal_loop(server);
    pthread_mutex_unlock(&server->lock);
}

/* Send a command for a call; a reference goes with it. */
static void tell(kanserve_call *call, int kind, const void *data, size_t length, int status, const void *text,
                 size_t text_length, const void *trailers, size_t trailers_length, int64_t computed)
{
    command *made = atomic_load(&call->gone) ? NULL : calloc(1, sizeof *made);
    if (!made) {
        call_release(call);
        return;
    }
    made->kind = kind;
    made->call = call;
    made->status = status;
    made->computed = computed;
    if (kind == COMMAND_ANSWER || kind == COMMAND_SEND)
        frame_message(&made->data, data, length);
    else
        buffer_add(&made->data, data, length);
    buffer_add(&made->text, text, text_length);
    buffer_add_byte(&made->text, 0);
    buffer_add(&made->trailers, trailers, trailers_length);
    give(call->server, made);
}

void kanserve_answer(kanserve_call *call, const void *data, size_t length)
{
    tell(call, COMMAND_ANSWER, data, length, GRPC_OK, NULL, 0, NULL, 0, 0);
}

void kanserve_answer_rows(kanserve_call *call, const void *y, size_t bytes, int64_t computed)
{
    tell(call, COMMAND_ROWS, y, bytes, GRPC_OK, NULL, 0, NULL, 0, computed);
}

void kanserve_finish(kanserve_call *call, int status, const void *text, size_t length, const void *trailers,
                     size_t trailers_length)
{
    tell(call, COMMAND_FINISH, NULL, 0, status, text, length, trailers, trailers_length, 0);
}

int kanserve_send(kanserve_call *call, const void *data, size_t length)
{
    kanserve_server *server = call->server;
    pthread_mutex_lock(&server->lock);
    while (call->unsent >= MOST_UNSENT && !atomic_load(&call->gone)) pthread_cond_wait(&call->changed, &server->lock);
    int gone = atomic_load(&call->gone);
    if (!gone) call->unsent += length + 5;
    pthread_mutex_unlock(&server->lock);
    if (gone) return -1;
    atomic_fetch_add(&call->references, 1);
    tell(call, COMMAND_SEND, data, length, GRPC_OK, NULL, 0, NULL, 0, 0);
    return 0;
}

int64_t kanserve_receive(kanserve_call *call, const void **data)
{
    kanserve_server *server = call->server;
    int64_t length;
    pthread_mutex_lock(&server->lock);
    while (!call->first && !call->half_closed && !atomic_load(&call->gone))
        pthread_cond_wait(&call->changed, &server->lock);
    message_node *node = call->first;
    if (atomic_load(&call->gone)) {
        length = -2;
    } else if (!node) {
        length = -1;
    } else {
        call->first = node->next;
        if (!node->next) call->last = NULL;
        length = (int64_t)node->length;
        *data = node->data;
    }
    pthread_mutex_unlock(&server->lock);
    return length;
}

void kanserve_received(kanserve_call *call, const void *data)
{
    message_node *node = (message_node *)(void *)((const uint8_t *)data - offsetof(message_node, data));
    size_t size = cost(node), before = atomic_fetch_sub(&call->waiting, size);
    let_go(call->server, size);
    free(node);
    if (before < MOST_WAITING || before - size >= MOST_WAITING) return;
    atomic_fetch_add(&call->references, 1);
    tell(call, COMMAND_CONSUMED, NULL, 0, GRPC_OK, NULL, 0, NULL, 0, 0);
}

void kanserve_cancel(kanserve_call *call)
{
    atomic_fetch_add(&call->references, 1);
    tell(call, COMMAND_CANCEL, NULL, 0, GRPC_OK, NULL, 0, NULL, 0, 0);
}

int kanserve_gone(kanserve_call *call)
{
    return atomic_load(&call->gone);
}

void kanserve_retain(kanserve_call *call)
{
    atomic_fetch_add(&call->references, 1);
}

void kanserve_release(kanserve_call *call)
{
    call_release(call);
}

int kanserve_notify(kanserve_call *call)
{
    pthread_mutex_lock(&call->server->lock);
    int gone = atomic_load(&call->gone);
    call->notify = !gone;
    pthread_mutex_unlock(&call->server->lock);
    return !gone;
}

int kanserve_publish(kanserve_server *server, const served_model *models, size_t count)
{
    model_table *table = table_new(models, count);
    command *made = calloc(1, sizeof *made);
    atomic_int done = 0;
    if (table && !server->started) {
        table_release(server->table);
        server->table = table;
        free(made);
        return 0;
    }
    if (!table || !made) {
        table_release(table);
        free(made);
        return -1;
    }
    made->kind = COMMAND_PUBLISH;
    made->table = table;
    made->done = &done;
    give(server, made);
    pthread_mutex_lock(&server->lock);
    while (!atomic_load(&done)) pthread_cond_wait(&server->published, &server->lock);
    pthread_mutex_unlock(&server->lock);
    return 0;
}

static void publish(kanserve_server *server, command *what)
{
    model_table *before = server->table;
    server->table = what->table;
    table_release(before);
    pthread_mutex_lock(&server->lock);
    atomic_store(what->done, 1);
    pthread_cond_broadcast(&server->published);
    pthread_mutex_unlock(&server->lock);
}

static void append(stream *one, command *what)
{
    if (buffer_length(&one->out) == 0) { /* no copy: the answer becomes what is sent */
        buffer_free(&one->out);
        one->out = what->data;
        memset(&what->data, 0, sizeof what->data);
    } else {
        buffer_add(&one->out, buffer_begin(&what->data), buffer_length(&what->data));
    }
}

static void run_command(kanserve_server *server, command *what)
{
    stream *one = what->call ? what->call->stream : NULL;
    if (what->kind == COMMAND_PUBLISH) publish(server, what);
    if (!one || one->finished) return;
    what->owner = one->owner;
    if (what->data.failed || what->text.failed || what->trailers.failed) {
        http2_fail(one, GRPC_RESOURCE_EXHAUSTED, "The server is out of memory.", NULL);
        return;
    }
    size_t size = buffer_length(&what->data);
    if (size > (size_t)server->config.max_message + 5 && what->kind != COMMAND_ROWS) {
        http2_fail(one, GRPC_RESOURCE_EXHAUSTED, "The answer is larger than the server sends.", NULL);
        return;
    }
    switch (what->kind) {
    case COMMAND_ANSWER:
    case COMMAND_SEND:
        append(one, what);
        if (one->out.failed) {
            connection_fail(one->owner, NGHTTP2_INTERNAL_ERROR);
            break;
        }
        hold(server, size);
        if (what->kind == COMMAND_ANSWER)
            http2_answer(one);
        else
            http2_resume(one);
        break;
    case COMMAND_ROWS: call_rows(what->call, &what->data, what->computed); break;
    case COMMAND_FINISH:
        if (one->headers_sent && what->status == GRPC_OK && buffer_length(&what->trailers) == 0) {
            one->finished = 1;
            one->answered = now_ns();
            http2_resume(one);
            break;
        }
        http2_fail(one, what->status, (const char *)buffer_begin(&what->text), &what->trailers);
        break;
    case COMMAND_CANCEL:
        nghttp2_submit_rst_stream(one->owner->session, NGHTTP2_FLAG_NONE, one->id, NGHTTP2_CANCEL);
        break;
    case COMMAND_CONSUMED:
        nghttp2_session_consume_stream(one->owner->session, one->id, one->unconsumed);
        one->unconsumed = 0;
        break;
    default: break;
    }
}

/* Run what other threads have sent, then write to each connection once. */
void run_commands(kanserve_server *server)
{
    pthread_mutex_lock(&server->lock);
    command *list = server->commands, *first = list;
    server->commands = NULL;
    server->last_command = &server->commands;
    server->signalled = server->unsignalled = 0;
    pthread_mutex_unlock(&server->lock);
    for (; list; list = list->next) run_command(server, list);
    while (first) {
        command *what = first;
        first = what->next;
        if (what->owner) connection_write(what->owner);
        if (what->call) call_release(what->call);
        buffer_free(&what->data);
        buffer_free(&what->text);
        buffer_free(&what->trailers);
        free(what);
    }
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
