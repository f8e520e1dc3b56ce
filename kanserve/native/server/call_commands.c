/* What other threads do with a call: they answer it, and send and receive messages, by commands that the loop runs. */

#include "server.h"

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

/* A command for a call, unless that has ended: without memory, one by which it fails. */
static command *command_for(kanserve_call *call, int kind)
{
    if (atomic_load(&call->gone)) return NULL;
    command *made = calloc(1, sizeof *made);
    if (!made && !atomic_exchange(&call->spare_used, 1)) {
        made = &call->spare;
        made->data.failed = 1;
    }
    if (!made) return NULL;
    made->kind = kind;
    made->call = call;
    return made;
}

/* Send a command for a call; a reference goes with it. */
static void tell(kanserve_call *call, int kind, const void *data, size_t length, int status, const void *text,
                 size_t text_length, const void *trailers, size_t trailers_length, int64_t computed)
{
    command *made = command_for(call, kind);
    if (!made) {
        call_release(call);
        return;
    }
    made->status = status;
    made->computed = computed;
    if (kind == COMMAND_ROWS)
        encode_rows(call, data, length, made);
    else if (kind == COMMAND_ANSWER || kind == COMMAND_SEND)
        frame_message(&made->data, 0, data, length);
    /* Here, since giving much memory back takes time. */
    if (kind == COMMAND_ANSWER || kind == COMMAND_ROWS || kind == COMMAND_FINISH) call_free_message(call);
    buffer_add(&made->text, text, text_length);
    buffer_add_byte(&made->text, 0);
    buffer_add(&made->trailers, trailers, trailers_length);
    give(call->server, made);
}

/* Answer a call with a message that is framed already. */
void give_answer(kanserve_call *call, byte_buffer *message, int status)
{
    command *made = command_for(call, COMMAND_ANSWER);
    if (!made || made == &call->spare)
        buffer_free(message);
    else
        made->data = *message;
    if (!made) {
        call_release(call);
        return;
    }
    made->status = status;
    call_free_message(call);
    give(call->server, made);
}

/* Rows compute no more. */
static void computed_rows(kanserve_call *call)
{
    if (call->event.kind == EVENT_ROWS) atomic_fetch_sub((_Atomic int64_t *)call->request.model->computing, 1);
}

void kanserve_answer(kanserve_call *call, const void *data, size_t length)
{
    tell(call, COMMAND_ANSWER, data, length, GRPC_OK, NULL, 0, NULL, 0, 0);
}

void kanserve_answer_rows(kanserve_call *call, const void *y, size_t bytes, int64_t computed)
{
    computed_rows(call);
    tell(call, COMMAND_ROWS, y, bytes, GRPC_OK, NULL, 0, NULL, 0, computed);
}

void kanserve_finish(kanserve_call *call, int status, const void *text, size_t length, const void *trailers,
                     size_t trailers_length)
{
    computed_rows(call);
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
    size_t size = message_cost(node), before = atomic_fetch_sub(&call->waiting, size);
    message_free(call, node);
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
        stream_fail(one, GRPC_RESOURCE_EXHAUSTED, "The server is out of memory.", NULL);
        return;
    }
    size_t size = buffer_length(&what->data);
    const protocol *speaks = one->owner->protocol;
    if (size > speaks->times * (size_t)server->config.max_message + speaks->frame) {
        stream_fail(one, GRPC_RESOURCE_EXHAUSTED, "The answer is larger than the server sends.", NULL);
        return;
    }
    switch (what->kind) {
    case COMMAND_ANSWER:
    case COMMAND_SEND: {
        if (!connection_has_room(one->owner, size)) {
            stream_fail_full(one);
            break;
        }
        size_t before = buffer_length(&one->out);
        append(one, what);
        if (what->kind == COMMAND_ANSWER && before == 0) {
            one->status = what->status;
            one->owner->protocol->seal(one);
        }
        if (one->out.failed) {
            connection_fail(one->owner, NGHTTP2_INTERNAL_ERROR);
            break;
        }
        hold(one->owner->account, buffer_length(&one->out) - before);
        if (what->kind == COMMAND_ANSWER)
            stream_answer(one);
        else
            stream_send(one);
        break;
    }
    case COMMAND_ROWS:
        append(one, what);
        call_rows(what->call, what->outside, what->computed);
        break;
    case COMMAND_FINISH:
        if (one->headers_sent && what->status == GRPC_OK && buffer_length(&what->trailers) == 0) {
            one->finished = 1;
            one->answered = now_ns();
            stream_send(one);
            break;
        }
        stream_fail(one, what->status, (const char *)buffer_begin(&what->text), &what->trailers);
        break;
    case COMMAND_CANCEL:
        one->owner->protocol->cancel(one);
        break;
    case COMMAND_CONSUMED:
        if (!one->inflating) one->owner->protocol->open_window(one);
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
        kanserve_call *call = what->call;
        if (what->owner) connection_write(what->owner);
        buffer_free(&what->data);
        buffer_free(&what->text);
        buffer_free(&what->trailers);
        free(what->outside);
        if (!call || what != &call->spare) free(what);
        if (call) call_release(call);
    }
}
