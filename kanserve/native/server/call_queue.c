/* Calls for other threads: the queue from which they take them, and the commands by which their answers come back. */

#include "server.h"

#include <unistd.h>

enum { MOST_UNSENT = 1 << 20, MOST_WAITING = 1 << 20 };

typedef struct waiter {
    pthread_cond_t woken;
    int ready;
    struct waiter *next;
} waiter;

/* The thread that has waited for the shortest time takes the next call: its memory is still in the cache. With the lock
 * held. */
static void wake_one(call_queue *queue)
{
    waiter *first = queue->waiters;
    if (!first) return;
    queue->waiters = first->next;
    first->ready = 1;
    pthread_cond_signal(&first->woken);
}

static void add_call(kanserve_server *server, kanserve_call *call, int which)
{
    call_queue *queue = &server->queues[which];
    call->next = NULL;
    *queue->end = call;
    queue->end = &call->next;
    if (which == QUEUE_MAIN) atomic_fetch_add(&server->queued, 1);
    wake_one(queue);
}

static void free_messages(kanserve_call *call)
{
    while (call->first) {
        message_node *node = call->first;
        call->first = node->next;
        let_go(call->server, node->length);
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
    if (kind == EVENT_ROWS) {
        infer_request *request = &call->request;
        if (!infer_read(server->table, event->message, (size_t)event->length, request)) {
            call->stream = NULL;
            atomic_store(&call->references, 1);
            call_release(call);
            return -1;
        }
        size_t size = request->single ? sizeof(float) : sizeof(double);
        event->model = request->model->number;
        event->single = request->single;
        event->same = request->single == request->model->single && (uintptr_t)request->values % size == 0;
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
    memcpy(node->data, data, length);
    hold(call->server, length);
    atomic_fetch_add(&call->waiting, length);
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

int kanserve_next(kanserve_server *server, int which, kanserve_event *event)
{
    call_queue *queue = &server->queues[which];
    waiter me = {.woken = PTHREAD_COND_INITIALIZER};
    event->kind = EVENT_END;
    pthread_mutex_lock(&server->lock);
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
                atomic_fetch_add(&server->delivering, 1);
                atomic_fetch_sub(&server->queued, 1);
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

static void give(kanserve_server *server, command *made)
{
    made->next = NULL;
    pthread_mutex_lock(&server->lock);
    int first = !server->commands;
    *server->last_command = made;
    server->last_command = &made->next;
    pthread_mutex_unlock(&server->lock);
    uint64_t one = 1;
    if (first) {
        ssize_t ignored = write(server->wake, &one, sizeof one);
        (void)ignored;
    }
}

/* Send a command for a call; with `last`, its thread's reference goes with it. */
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
    size_t before = atomic_fetch_sub(&call->waiting, node->length), length = node->length;
    let_go(call->server, length);
    free(node);
    if (before < MOST_WAITING || before - length >= MOST_WAITING) return;
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
        append(one, what);
        hold(server, size);
        http2_answer(one);
        break;
    case COMMAND_SEND:
        append(one, what);
        hold(server, size);
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
    if (!server->commands) return;
    pthread_mutex_lock(&server->lock);
    command *list = server->commands, *first = list;
    server->commands = NULL;
    server->last_command = &server->commands;
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
