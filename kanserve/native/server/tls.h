/* TLS, in a library of its own: OpenSSL takes megabytes, which a server without TLS does not need. */

#ifndef KANSERVE_TLS_H
#define KANSERVE_TLS_H

#include "byte_buffer.h"

typedef struct tls_context tls_context;

enum { TLS_FLOODED = -2 };

typedef struct {
    /* NULL with the reason in `error`. The files are read again within a second of their change. `authorities` may be
     * NULL. */
    tls_context *(*open)(const char *certificate, const char *key, const char *authorities, char *error, size_t size);
    void (*close)(tls_context *context);
    /* TLS for an accepted socket, for HTTP/2 or HTTP/1.1; or NULL. */
    void *(*accept)(tls_context *context, int fd, int http1);
    void (*end)(void *tls);
    /* 1: agreed, with the names in the client's certificate; 0: it goes on; -1: it failed. */
    int (*handshake)(void *tls, int *wants_write, byte_buffer *identity);
    /* Bytes, 0 if it must be tried again, -1 at the end, TLS_FLOODED: the peer sends much of TLS itself and no data. */
    long (*read)(void *tls, void *to, size_t length, int *wants_write);
    long (*write)(void *tls, const void *from, size_t length, int *wants_write);
} tls_functions;

const tls_functions *kanserve_tls(void);
const char *kanserve_tls_version(void);

#endif
