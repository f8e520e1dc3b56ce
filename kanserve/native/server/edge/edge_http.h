/* Metrics and health over HTTP/1.1, on a thread of its own. */

#ifndef KANSERVE_EDGE_HTTP_H
#define KANSERVE_EDGE_HTTP_H

#include "edge_services.h"

/* Serve a listening socket from now on: 0, or -1 if there is no thread. */
int edge_http_serve(int fd, const edge_state *state);

#endif
