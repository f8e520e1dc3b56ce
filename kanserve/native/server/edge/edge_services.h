/* The calls of an edge server besides ModelInfer: answers that are always the same, derivatives, and counts. */

#ifndef KANSERVE_EDGE_SERVICES_H
#define KANSERVE_EDGE_SERVICES_H

#include "edge_model.h"
#include "server_api.h"

enum { EDGE_PATHS = 13 };

extern const char *const EDGE_PATH_NAMES[EDGE_PATHS];

typedef struct {
    const edge_model *model;
    kanserve_server *server;
    int64_t *counters;
    volatile int draining;
} edge_state;

void edge_paths(kanserve_path *paths);

/* A `kanserve_local` for the calls of EDGE_PATH_NAMES; its context is an `edge_state`. */
int edge_answer_call(void *context, int path, const uint8_t *message, size_t length, byte_buffer *answer, char *reason,
                     size_t size);

/* The metrics as Prometheus reads them. */
void edge_metrics(const edge_state *state, byte_buffer *to);

#endif
