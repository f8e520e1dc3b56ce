/* What a thread does first: take a call from its queue. */

#ifndef KANSERVE_FUZZ_CALLS_H
#define KANSERVE_FUZZ_CALLS_H

#include <stdlib.h>
#include <string.h>

#include "server.h"

/* Whether there was a call, whose bytes have all been read. */
static int call_taken(kanserve_server *server, int which, kanserve_event *event)
{
    if (!server->queues[which].first) return 0;
    server->ending = 1; /* so that it does not wait where all calls are of callers who have left */
    memset(event, 0, sizeof *event);
    int kind = kanserve_next(server, which, event);
    server->ending = 0;
    if (kind == EVENT_END) return 0;
    if (which == QUEUE_MAIN) kanserve_taken(server);
    if (kind == EVENT_GONE) {
        kanserve_release(event->call);
        return 0;
    }
    uint64_t sum = 0;
    for (int64_t i = 0; i < event->length; i++) sum += ((const uint8_t *)event->message)[i];
    for (int64_t i = 0; i < event->metadata_length; i++) sum += ((const uint8_t *)event->metadata)[i];
    if (sum == UINT64_MAX) abort(); /* so that it is read */
    return 1;
}

#endif
