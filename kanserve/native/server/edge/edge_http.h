/* Metrics and health over HTTP/1.1, on a thread of its own. */

#ifndef KANSERVE_EDGE_HTTP_H
#define KANSERVE_EDGE_HTTP_H

#include "edge_services.h"

/* Serve a listening socket, which does not block, from now on: 0, or -1 if there is no thread. */
int edge_http_serve(int fd, const edge_state *state);

/* Add the answer to a request of which so many bytes have come: 1, or 0 if its end is still to come. */
int edge_http_answer(const edge_state *state, const char *request, size_t length, byte_buffer *to);

#endif
