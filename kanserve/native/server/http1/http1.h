/* HTTP/1.1 with REST, on a port of its own: one request after another on a connection.
 *
 *     connection.c -> http1.c (the connection: turns, deadlines) -> http1_request.c (llhttp: head and body)
 *                  -> answers.c by rest_infer.c (yyjson), where a C model answers on this thread; else by call_queue.c
 *                  <- rest_answer.c (JSON), http1_response.c (status, headers)
 *
 * A request is a `stream`. While it is under way, the rest of what was read waits. */

#ifndef KANSERVE_HTTP1_H
#define KANSERVE_HTTP1_H

#include "server.h" /* first, as it is before all headers of the system */

#include <llhttp.h>

enum {
    MOST_HEAD = 1 << 14,        /* bytes of a request's line and headers, or of trailers and the like */
    MOST_CONNECTIONS = 1000,    /* beyond which the oldest one that waits for its client is closed */
    MOST_JSON = 1 << 16,        /* bytes that are read here: more takes too long */
    HEAD_ROOM = 320,            /* before the body of an answer */
};

enum { HTTP_MAIN, HTTP_ASIDE, HTTP_KINDS }; /* what computes; what is answered while all threads compute */

typedef struct {
    const uint8_t *name, *version; /* of the model, in the target */
    size_t name_length, version_length;
} model_path;

/* The state of a connection. */
typedef struct http1 {
    llhttp_t parser;
    stream *request;        /* under way, or NULL */
    byte_buffer target, name, value; /* of the request; of a header */
    size_t head;            /* bytes of the head so far */
    const uint8_t *parsed;  /* what is being parsed, before which there were `before` bytes */
    size_t before, part_end; /* where the last part of the request's line ended */
    size_t raw, data;       /* bytes of the body as it came, and of its content */
    int64_t since;          /* when it was opened, or the last answer went to `out` */
    int64_t length;         /* Content-Length, or -1 */
    int64_t json_length;    /* Inference-Header-Content-Length, or -1: the body is JSON alone */
    int refused;            /* the status with which parsing ended, or 0 */
    const char *reason;
    model_path model;
    unsigned head_done : 1, complete : 1, keep : 1, over : 1, hosts : 2, continues : 1, infers : 1, unusual : 1;
    unsigned browser : 1; /* whether it has an Origin */
} http1;

/* What all connections of a server share. */
typedef struct http1_server {
    kanserve_path options[HTTP_KINDS];
    llhttp_settings_t settings;
    byte_buffer json, values; /* scratch of a request: the parser's, and its numbers */
    size_t connections;
    time_t second; /* of `date` */
    char date[64];
} http1_server;

extern const protocol HTTP1;

/* http1.c */
void http1_refuse(connection *owner, int status, const char *text);
void http1_refuse_large(connection *owner, const char *when);

/* http1_request.c */
void http1_settings(llhttp_settings_t *settings);
void http1_reset(http1 *state);

/* http1_response.c */
int http_status(int grpc_status);
void response_begin(byte_buffer *to);
void response_head(byte_buffer *to, size_t json_length, int mixed);
void response_error(byte_buffer *to, const char *text);
void response_seal(stream *one);
void add_json_text(byte_buffer *to, const char *text, size_t length);

/* rest_infer.c */
int rest_path(const uint8_t *target, size_t length, model_path *found);
int rest_is_aside(const uint8_t *target, size_t length);
int rest_read_rows(stream *one, const uint8_t *message, size_t length, infer_request *request);
int rest_read(http1_server *scratch, served_model *model, const uint8_t *message, size_t length, int64_t json_length,
              infer_request *request);

/* rest_answer.c */
void rest_write_rows(const infer_request *request, const void *y, int64_t outside, const byte_buffer *indices, byte_buffer *to);

#endif
