/* What HTTP/2 with gRPC and HTTP/1.1 with REST do each in its own way; all else is the same code. */

#ifndef KANSERVE_PROTOCOL_H
#define KANSERVE_PROTOCOL_H

#include "infer.h"

typedef struct connection connection;
typedef struct stream stream;

typedef struct {
    int event;    /* that a call is handed out as */
    size_t times, frame; /* how long an answer may be: so many times the longest message, and so many bytes more */

    /* 0, or -1 without memory; and free what it took. */
    int (*begin)(connection *owner);
    void (*end)(connection *owner);
    /* Handle bytes of the server's `input`. */
    void (*feed)(connection *owner, size_t length);
    /* Add what can be sent to `out` until that has so many bytes: 0, or -1 if the connection is broken. */
    int (*fill)(connection *owner, size_t most);
    /* Whether nothing will be sent or read any more once `out` is empty. */
    int (*is_over)(const connection *owner);
    void (*fail)(connection *owner, uint32_t error);
    /* Look at the connection's own deadlines: -1 to close it. */
    int (*check)(connection *owner, int64_t now);
    /* The server stops: whether the connection can be ended once `out` is empty. */
    int (*hang_up)(connection *owner, int final);

    /* A stream is about to be freed. */
    void (*forget)(stream *one);
    /* Begin or go on to send `out` of a stream; `finished` says whether more will come. */
    void (*send)(stream *one);
    /* Answer with a status of gRPC, and pairs of metadata. */
    void (*refuse)(stream *one, int status, const char *text, const byte_buffer *more);
    void (*cancel)(stream *one);
    /* The message was decompressed, or not; the stream may send more. */
    void (*inflated)(stream *one, int result);
    void (*open_window)(stream *one);

    /* Read an inference: 1, or 0 if it is for the general path. */
    int (*read_rows)(stream *one, const uint8_t *message, size_t length, infer_request *request);
    /* Add its answer, and put before an answer in `out` what can only be known then. */
    void (*write_rows)(const infer_request *request, const void *y, int64_t outside, const byte_buffer *indices, byte_buffer *to);
    void (*seal)(stream *one);
} protocol;

#endif
