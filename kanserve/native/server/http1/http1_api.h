/* What Python calls for HTTP/1.1, where the library was built with it; the rest is in server_api.h. */

#ifndef KANSERVE_HTTP1_API_H
#define KANSERVE_HTTP1_API_H

#include "server_api.h"

/* Serve a listening socket by HTTP/1.1, which the server then owns; the two options are of what computes, and of what is
 * answered while all threads compute. 0, or -1 without memory or if there are too many sockets. Before
 * `kanserve_start`. */
int kanserve_listen_http(kanserve_server *server, int fd, const kanserve_path *options);

/* Answer a call of EVENT_HTTP or EVENT_HTTP_EARLY by a status, pairs of headers and a body; and give it back. */
void kanserve_respond(kanserve_call *call, int status, const void *headers, size_t headers_length, const void *body,
                      size_t length);

/* Of llhttp and yyjson. */
const char *kanserve_http_versions(void);

#endif
