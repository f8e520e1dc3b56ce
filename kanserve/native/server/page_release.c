/* Memory that goes back to the kernel. Large buffers that the loop frees are pages, which are kept for others or given
 * back, some in each turn: all at once would take milliseconds. What malloc keeps goes back once, after a load. */

#include "server.h"

#ifdef __GLIBC__
#include <malloc.h>
#else
static int malloc_trim(size_t kept) { return (int)kept; }
#endif

enum {
    PART = 2 * BUFFER_PAGES,   /* that is given back in a turn */
    CONNECTION_BYTES = 1 << 14, /* that an idle connection takes, about */
    WORTH_BYTES = 1 << 24      /* of a load after which malloc is asked, which takes a millisecond for each 20 MB */
};
#define QUIET_TIME (2 * SECOND) /* after a load, in which it may come back */

typedef struct discarded {
    struct discarded *next;
    size_t size;
} discarded;

static void discard_pages(kanserve_server *server, void *pages, size_t size)
{
    discarded *one = pages;
    *one = (discarded){server->discarded, size};
    server->discarded = one;
}

void loop_discard(kanserve_server *server, byte_buffer *buffer)
{
    if (buffer->capacity < BUFFER_PAGES)
        free(buffer->data);
    else if (!buffer_keep_pages(buffer->data, buffer->capacity))
        discard_pages(server, buffer->data, buffer->capacity);
    memset(buffer, 0, sizeof *buffer);
}

static void give_back(kanserve_server *server)
{
    discarded *pages = server->discarded;
    if (pages->size > PART) {
        pages->size -= PART;
        munmap((char *)pages + pages->size, PART);
        return;
    }
    server->discarded = pages->next;
    munmap(pages, pages->size);
}

/* Do the part of this turn. */
void discard_some(kanserve_server *server, int64_t now)
{
    if (server->discarded) give_back(server);
    if (buffer_kept() == 0 || now < server->next_drop) return;
    size_t size;
    void *pages = buffer_drop_kept(&size);
    if (pages)
        discard_pages(server, pages, size);
    else
        server->next_drop = now + KEEP_TIME;
}

void discard_rest(kanserve_server *server)
{
    while (server->discarded) give_back(server);
}

/* Ask malloc for what a load has left, once at most a quarter of it has been under way for a while: free memory between
 * what is used would stay for ever. Returns when to look again at the latest, or INT64_MAX. */
int64_t give_back_after_load(kanserve_server *server, int64_t now)
{
    size_t load = atomic_load_explicit(&server->held, memory_order_relaxed) +
                  CONNECTION_BYTES * atomic_load_explicit(&server->connection_count, memory_order_relaxed);
    if (load > server->highest_load) server->highest_load = load;
    if (server->highest_load < WORTH_BYTES) return INT64_MAX;
    if (load > server->highest_load / 4) {
        server->next_trim = now + QUIET_TIME;
        return INT64_MAX;
    }
    if (now < server->next_trim) return server->next_trim;
    malloc_trim(0);
    server->highest_load = load;
    return INT64_MAX;
}
