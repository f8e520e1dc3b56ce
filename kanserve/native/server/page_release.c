/* Large buffers that the loop frees. Their pages are kept for others or given back to the kernel, some in each turn: all at
 * once would take milliseconds. */

#include "server.h"

enum { PART = 2 * BUFFER_PAGES }; /* that is given back in a turn */

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
