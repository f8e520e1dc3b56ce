/* Reading requests: what llhttp finds, and what it lets pass but may not be. It refuses control characters in headers, a
 * second length, a length beside a coding, and a coding twice by itself.
 * https://www.rfc-editor.org/rfc/rfc9112 */

#include "http1.h"

#include <strings.h>

static connection *owner_of(llhttp_t *parser)
{
    return parser->data;
}

static int refuse(llhttp_t *parser, int status, const char *reason)
{
    http1 *state = owner_of(parser)->http1;
    state->refused = status;
    state->reason = reason;
    return HPE_USER;
}

void http1_reset(http1 *state)
{
    state->target.start = state->target.end = 0;
    state->name.start = state->name.end = 0;
    state->value.start = state->value.end = 0;
    state->head = state->raw = state->data = 0;
    state->length = state->json_length = -1;
    state->model = (model_path){0};
    state->refused = 0;
    state->reason = NULL;
    state->head_done = state->complete = state->hosts = state->continues = state->infers = state->unusual = 0;
    state->browser = 0;
    state->keep = 1;
}

static int on_begin(llhttp_t *parser)
{
    connection *owner = owner_of(parser);
    http1 *state = owner->http1;
    http1_reset(state);
    owner->greeted = 1;
    if (!(state->request = stream_new(owner, 1))) return refuse(parser, 503, "The server is out of memory.");
    loop_check_by(owner->server, state->request->arrived + owner->server->config.greeting_time);
    return 0;
}

/* Add a part of the head, which may come in many. */
static int add_part(llhttp_t *parser, byte_buffer *to, const char *at, size_t length)
{
    http1 *state = owner_of(parser)->http1;
    state->head += length + 2;
    if (state->head > MOST_HEAD) return refuse(parser, 431, "The head of the request is too large.");
    buffer_add(to, at, length);
    return to->failed ? refuse(parser, 503, "The server is out of memory.") : 0;
}

static size_t position(const http1 *state, const char *at)
{
    return state->before + (size_t)((const uint8_t *)at - state->parsed);
}

static int on_method(llhttp_t *parser, const char *at, size_t length)
{
    http1 *state = owner_of(parser)->http1;
    state->part_end = position(state, at + length);
    return 0;
}

/* llhttp takes any number of spaces for the one that is allowed. */
static int on_url(llhttp_t *parser, const char *at, size_t length)
{
    http1 *state = owner_of(parser)->http1;
    if (buffer_length(&state->target) == 0 && position(state, at) != state->part_end + 1)
        return refuse(parser, 400, "The request's line has more than one space between its parts.");
    state->part_end = position(state, at + length);
    return add_part(parser, &owner_of(parser)->http1->target, at, length);
}

static int on_version(llhttp_t *parser, const char *at, size_t length)
{
    http1 *state = owner_of(parser)->http1;
    (void)length;
    if (state->part_end && position(state, at) != state->part_end + strlen(" HTTP/"))
        return refuse(parser, 400, "The request's line has more than one space between its parts.");
    state->part_end = 0; /* the version may come in parts */
    return 0;
}

static int on_field(llhttp_t *parser, const char *at, size_t length)
{
    return add_part(parser, &owner_of(parser)->http1->name, at, length);
}

static int on_value(llhttp_t *parser, const char *at, size_t length)
{
    return add_part(parser, &owner_of(parser)->http1->value, at, length);
}

static inline int is_text(const byte_buffer *value, const char *text)
{
    size_t length = buffer_length(value);
    return length == strlen(text) && (length == 0 || strncasecmp((const char *)buffer_begin(value), text, length) == 0);
}

/* The lengths of the names of headers that are read here, as bits. */
#define OF_OURS (1u << 4 | 1u << 6 | 1u << 12 | 1u << 14 | 1u << 16 | 1u << 17 | 1u << 31)

/* Whether a content type is this one, with or without parameters. */
static int is_type(const byte_buffer *value, const char *type)
{
    const char *text = (const char *)buffer_begin(value);
    size_t length = strlen(type);
    if (buffer_length(value) < length || strncasecmp(text, type, length) != 0) return 0;
    return buffer_length(value) == length || text[length] == ';' || text[length] == ' ' || text[length] == '\t';
}

/* Digits alone, without leading zeros; -1 for anything else. */
static int64_t read_number(const byte_buffer *value)
{
    const uint8_t *text = buffer_begin(value);
    size_t length = buffer_length(value);
    int64_t number = 0;
    if (length == 0 || length > 18 || (text[0] == '0' && length > 1)) return -1;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') return -1;
        number = 10 * number + (text[i] - '0');
    }
    return number;
}

/* Whether a header Host has only what a host and a port have: another reader might take a/b@c for another host. */
static int is_host(const byte_buffer *value)
{
    const char *text = (const char *)buffer_begin(value);
    for (size_t i = 0; i < buffer_length(value); i++) {
        char letter = text[i];
        int alphanumeric = (letter >= '0' && letter <= '9') || (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z');
        if (!alphanumeric && !memchr("-._~%!$&'()*+,;=[]:", letter, 19)) return 0;
    }
    return 1;
}

/* 1 for a header that nobody else is to see, 0 for others, or how it is refused. */
static int read_header(llhttp_t *parser, http1 *state)
{
    const byte_buffer *name = &state->name, *value = &state->value;
    if (!(OF_OURS >> (buffer_length(name) & 31) & 1)) return 0;
    if (is_text(name, "host")) {
        if (state->hosts) return refuse(parser, 400, "The request has more than one header Host.");
        if (!is_host(value)) return refuse(parser, 400, "The header Host is no host.");
        state->hosts = 1;
    } else if (is_text(name, "content-length")) {
        if ((state->length = read_number(value)) < 0)
            return refuse(parser, 400, "The header Content-Length is not a number.");
    } else if (is_text(name, "transfer-encoding")) {
        if (!is_text(value, "chunked")) return refuse(parser, 501, "The only Transfer-Encoding that the server takes is chunked.");
    } else if (is_text(name, "expect")) {
        if (!is_text(value, "100-continue")) return refuse(parser, 417, "The server knows Expect: 100-continue only.");
        state->continues = 1;
    } else if (is_text(name, "content-encoding")) {
        stream *one = state->request;
        if (one->encoding) return refuse(parser, 415, "The body may be compressed once, by gzip or deflate.");
        one->encoding = is_text(value, "identity")                              ? ENCODING_IDENTITY
                        : is_text(value, "gzip") || is_text(value, "x-gzip") ? ENCODING_GZIP
                        : is_text(value, "deflate")                            ? ENCODING_DEFLATE
                                                                               : ENCODING_UNKNOWN;
        return one->encoding == ENCODING_UNKNOWN ? refuse(parser, 415, "The body may be compressed by gzip or deflate.") : 1;
    } else if (is_text(name, "content-type")) {
        state->unusual |= !is_type(value, "application/json") && !is_type(value, "application/octet-stream");
    } else if (is_text(name, "origin")) {
        state->browser = 1;
    } else if (is_text(name, "inference-header-content-length")) {
        int64_t length = state->json_length >= 0 ? -1 : read_number(value);
        if (length < 0) state->unusual = 1; /* it is refused elsewhere */
        state->json_length = length;
    }
    return 0;
}

static int on_value_complete(llhttp_t *parser)
{
    http1 *state = owner_of(parser)->http1;
    if (state->head_done) { /* a trailer */
        state->name.start = state->name.end = state->value.start = state->value.end = 0;
        return 0;
    }
    size_t length = buffer_length(&state->name);
    uint8_t *name = state->name.data;
    const uint8_t *value = buffer_begin(&state->value);
    while (state->value.end > state->value.start && (value[state->value.end - 1] == ' ' || value[state->value.end - 1] == '\t'))
        state->value.end--;
    for (size_t i = 0; i < length; i++)
        if (name[i] >= 'A' && name[i] <= 'Z') name[i] += 'a' - 'A';
    int result = read_header(parser, state);
    if (result > 1) return result;
    if (result == 0)
        buffer_add_pair(&state->request->metadata, name, length, value, buffer_length(&state->value));
    state->name.start = state->name.end = state->value.start = state->value.end = 0;
    return 0;
}

/* What a target in absolute form means: its path. */
static void shorten_target(byte_buffer *target)
{
    const char *text = (const char *)buffer_begin(target);
    size_t length = buffer_length(target), at = 0;
    if (length < 7 || strncasecmp(text, "http", 4) != 0) return;
    at = text[4] == 's' || text[4] == 'S' ? 5 : 4;
    if (length < at + 3 || memcmp(text + at, "://", 3) != 0) return;
    const char *path = memchr(text + at + 3, '/', length - at - 3);
    if (path) target->start += (size_t)(path - text);
}

/* The request's line, in what a handed-out call has as metadata, after the headers. */
static void add_line(llhttp_t *parser, const http1 *state, int secure)
{
    byte_buffer *metadata = &state->request->metadata;
    const char *method = llhttp_method_name(llhttp_get_method(parser));
    buffer_add_pair(metadata, ":method", 7, method, strlen(method));
    buffer_add_pair(metadata, ":target", 7, buffer_begin(&state->target), buffer_length(&state->target));
    buffer_add_pair(metadata, ":secure", 7, secure ? "1" : "0", 1);
}

static int check_head(llhttp_t *parser, const http1 *state, const kanserve_server *server)
{
    int version = 10 * llhttp_get_http_major(parser) + llhttp_get_http_minor(parser);
    const uint8_t *target = buffer_begin(&state->target);
    if (version != 10 && version != 11) return refuse(parser, 505, "The server speaks HTTP/1.1.");
    if (version == 11 && state->hosts != 1) return refuse(parser, 400, "The request has no header Host.");
    if (version == 10 && parser->flags & F_CHUNKED) return refuse(parser, 400, "HTTP/1.0 has no Transfer-Encoding.");
    if (llhttp_get_method(parser) == HTTP_CONNECT) return refuse(parser, 405, "The server is no proxy.");
    if (buffer_length(&state->target) == 0 || target[0] != '/')
        return refuse(parser, 400, "The request's target is not a path.");
    if (state->length > server->config.max_message)
        return refuse(parser, 413, "The body is larger than the server takes.");
    return 0;
}

static int on_head(llhttp_t *parser)
{
    connection *owner = owner_of(parser);
    kanserve_server *server = owner->server;
    http1 *state = owner->http1;
    stream *one = state->request;
    shorten_target(&state->target);
    int result = check_head(parser, state, server);
    if (result) return result;
    state->head_done = 1;
    parser->upgrade = 0; /* to what the client would like to speak instead: no */
    const uint8_t *target = buffer_begin(&state->target);
    size_t length = buffer_length(&state->target);
    int secure = owner->tls != NULL, hidden = server->tls && !secure;
    int usual = !state->unusual && !state->browser; /* which pages may call is decided elsewhere */
    state->infers = !hidden && usual && llhttp_get_method(parser) == HTTP_POST && rest_path(target, length, &state->model);
    int aside = hidden || rest_is_aside(target, length);
    one->options = &server->http1->options[aside ? HTTP_ASIDE : HTTP_MAIN];
    add_line(parser, state, secure);
    if (one->encoding && one->options->kind == PATH_STREAM) { /* it goes to who asks for it, as it came */
        const char *name = one->encoding == ENCODING_GZIP ? "gzip" : "deflate";
        buffer_add_pair(&one->metadata, "content-encoding", 16, name, strlen(name));
        one->encoding = ENCODING_IDENTITY;
    }
    if (call_refuse_early(one) || !call_describe(one)) return 0;
    if (state->length > 0 || parser->flags & F_CHUNKED) {
        one->message_deadline = one->arrived + one->options->patience;
        loop_check_by(server, one->message_deadline);
        if (state->continues && llhttp_get_http_minor(parser) == 1)
            buffer_add(&owner->out, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    }
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t length)
{
    connection *owner = owner_of(parser);
    http1 *state = owner->http1;
    stream *one = state->request;
    state->data += length;
    if (one->finished) return 0;
    if (state->data > (size_t)owner->server->config.max_message)
        return refuse(parser, 413, "The body is larger than the server takes.");
    if (state->length == (int64_t)length && !one->encoding && !one->call) {
        one->view = (const uint8_t *)at; /* the whole of it, which is read where it lies */
        one->expected = (uint32_t)length;
        return 0;
    }
    if (state->data == length) call_reserve(one, &one->body);
    call_store(one, &one->body, (const uint8_t *)at, length);
    return 0;
}

static int on_chunk(llhttp_t *parser)
{
    connection *owner = owner_of(parser);
    size_t most = (size_t)owner->server->config.max_message, taken = owner->http1->data;
    if (taken > most || parser->content_length > most - taken)
        return refuse(parser, 413, "The body is larger than the server takes.");
    return 0;
}

static int on_complete(llhttp_t *parser)
{
    http1 *state = owner_of(parser)->http1;
    state->complete = 1;
    if (!llhttp_should_keep_alive(parser)) state->keep = 0; /* it is 0 already if the answer says so */
    return HPE_PAUSED;
}

void http1_settings(llhttp_settings_t *settings)
{
    llhttp_settings_init(settings);
    settings->on_message_begin = on_begin;
    settings->on_method = on_method;
    settings->on_url = on_url;
    settings->on_version = on_version;
    settings->on_header_field = on_field;
    settings->on_header_value = on_value;
    settings->on_header_value_complete = on_value_complete;
    settings->on_headers_complete = on_head;
    settings->on_chunk_header = on_chunk;
    settings->on_body = on_body;
    settings->on_message_complete = on_complete;
}
