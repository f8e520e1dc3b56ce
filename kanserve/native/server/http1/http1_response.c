/* Responses. In a buffer, room comes first, then the body; at last the head is put before the body, from its end to its
 * begin: the status is known last. */

#include "http1.h"

#include <stdio.h>
#include <strings.h>

#include "http1_api.h"

/* The codes of google.rpc.Code, as REST writes them. */
int http_status(int grpc_status)
{
    switch (grpc_status) {
    case GRPC_OK: return 200;
    case 1: return 499; /* CANCELLED */
    case GRPC_INVALID_ARGUMENT:
    case 11: return 400; /* OUT_OF_RANGE */
    case GRPC_DEADLINE_EXCEEDED: return 504;
    case 5: return 404; /* NOT_FOUND */
    case 6:             /* ALREADY_EXISTS */
    case 9:             /* FAILED_PRECONDITION */
    case 10: return 409; /* ABORTED */
    case 7: return 403; /* PERMISSION_DENIED */
    case GRPC_RESOURCE_EXHAUSTED: return 429;
    case GRPC_UNIMPLEMENTED: return 501;
    case GRPC_UNAVAILABLE: return 503;
    case 16: return 401; /* UNAUTHENTICATED */
    default: return 500;
    }
}

static const char *reason_of(int status)
{
    switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 413: return "Content Too Large";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return status < 400 ? "OK" : "Error";
    }
}

/* Put text before what a buffer has; there is always room (HEAD_ROOM). */
static void put_before(byte_buffer *to, const char *text, size_t length)
{
    if (to->failed || to->start < length) {
        to->failed = 1;
        return;
    }
    to->start -= length;
    memcpy(to->data + to->start, text, length);
}

static void put_text_before(byte_buffer *to, const char *text)
{
    put_before(to, text, strlen(text));
}

static void put_number_before(byte_buffer *to, size_t number)
{
    char digits[24];
    size_t at = sizeof digits;
    do digits[--at] = (char)('0' + number % 10);
    while (number /= 10);
    put_before(to, digits + at, sizeof digits - at);
}

void response_begin(byte_buffer *to)
{
    if (buffer_room(to, 2 * HEAD_ROOM)) to->start = to->end = HEAD_ROOM;
}

/* The headers of a body that is JSON, or so many bytes of JSON and then others (`mixed`). */
void response_head(byte_buffer *to, size_t json_length, int mixed)
{
    size_t length = buffer_length(to);
    if (mixed) {
        put_text_before(to, "\r\n\r\n");
        put_number_before(to, json_length);
        put_text_before(to, "\r\nInference-Header-Content-Length: ");
    } else {
        put_text_before(to, "\r\n\r\n");
    }
    put_number_before(to, length);
    put_text_before(to, mixed ? "Content-Type: application/octet-stream\r\nContent-Length: "
                              : "Content-Type: application/json\r\nContent-Length: ");
}

/* Text in quotes. */
void add_json_text(byte_buffer *to, const char *text, size_t length)
{
    static const char HEX[] = "0123456789abcdef";
    size_t done = 0;
    buffer_add_byte(to, '"');
    for (size_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)text[i];
        if (byte >= ' ' && byte != '"' && byte != '\\') continue;
        char escaped[6] = {'\\', 'u', '0', '0', HEX[byte >> 4], HEX[byte & 15]};
        buffer_add(to, text + done, i - done);
        if (byte < ' ') {
            buffer_add(to, escaped, sizeof escaped);
        } else {
            escaped[1] = (char)byte;
            buffer_add(to, escaped, 2);
        }
        done = i + 1;
    }
    buffer_add(to, text + done, length - done);
    buffer_add_byte(to, '"');
}

void response_error(byte_buffer *to, const char *text)
{
    buffer_add(to, "{\"error\":", 9);
    add_json_text(to, text ? text : "", text ? strlen(text) : 0);
    buffer_add_byte(to, '}');
    response_head(to, 0, 0);
}

static const char *date(http1_server *all)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec != all->second) {
        static const char DAYS[] = "SunMonTueWedThuFriSat", MONTHS[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
        struct tm utc;
        gmtime_r(&now.tv_sec, &utc);
        all->second = now.tv_sec;
        snprintf(all->date, sizeof all->date, "Date: %.3s, %02d %.3s %04d %02d:%02d:%02d GMT\r\n", DAYS + 3 * utc.tm_wday,
                 utc.tm_mday % 100, MONTHS + 3 * utc.tm_mon, (utc.tm_year + 1900) % 10000, utc.tm_hour % 100,
                 utc.tm_min % 100, utc.tm_sec % 100);
    }
    return all->date;
}

/* The status, and what depends on the connection. */
void response_seal(stream *one)
{
    connection *owner = one->owner;
    http1 *state = owner->http1;
    byte_buffer *to = &one->out;
    if (to->failed) return;
    if (atomic_load(&owner->server->state) != RUNNING || !one->ended) state->keep = 0;
    int old = llhttp_get_http_minor(&state->parser) == 0 && llhttp_get_http_major(&state->parser) == 1;
    int status = one->status ? one->status : 200;
    if (llhttp_get_method(&state->parser) == HTTP_HEAD && state->head_done) { /* the head alone */
        const uint8_t *blank = memmem(buffer_begin(to), buffer_length(to), "\r\n\r\n", 4);
        if (blank) to->end = (size_t)(blank - to->data) + 4;
    }
    if (!state->keep)
        put_text_before(to, "Connection: close\r\n");
    else if (old)
        put_text_before(to, "Connection: keep-alive\r\n");
    put_text_before(to, date(owner->server->http1));
    put_text_before(to, "\r\n");
    put_text_before(to, reason_of(status));
    put_text_before(to, " ");
    put_number_before(to, (size_t)status);
    put_text_before(to, "HTTP/1.1 ");
}

/* Whether a header may stand in a response as it is, and is not one that the server sets. */
static int is_plain(const char *name, size_t name_length, const char *value, size_t length)
{
    static const char *const OURS[] = {"content-length", "transfer-encoding", "connection", "date", "keep-alive"};
    for (size_t i = 0; i < sizeof OURS / sizeof *OURS; i++)
        if (name_length == strlen(OURS[i]) && strncasecmp(name, OURS[i], name_length) == 0) return 0;
    for (size_t i = 0; i < name_length; i++)
        if (name[i] <= ' ' || name[i] == ':' || name[i] == 0x7f) return 0;
    for (size_t i = 0; i < length; i++)
        if (((uint8_t)value[i] < ' ' && value[i] != '\t') || value[i] == 0x7f) return 0;
    return name_length > 0;
}

void kanserve_respond(kanserve_call *call, int status, const void *headers, size_t headers_length, const void *body,
                      size_t length)
{
    byte_buffer made = {0};
    char text[40];
    response_begin(&made);
    const char *at = headers, *end = at + headers_length;
    while (at + 8 <= end) {
        uint32_t sizes[2];
        memcpy(sizes, at, sizeof sizes);
        at += sizeof sizes;
        if ((size_t)(end - at) < (size_t)sizes[0] + sizes[1]) break;
        if (is_plain(at, sizes[0], at + sizes[0], sizes[1])) {
            buffer_add(&made, at, sizes[0]);
            buffer_add(&made, ": ", 2);
            buffer_add(&made, at + sizes[0], sizes[1]);
            buffer_add(&made, "\r\n", 2);
        }
        at += sizes[0] + sizes[1];
    }
    int digits = snprintf(text, sizeof text, "Content-Length: %zu\r\n\r\n", length);
    buffer_add(&made, text, (size_t)digits);
    buffer_add(&made, body, length);
    give_answer(call, &made, status >= 200 && status < 600 ? status : 500);
}
