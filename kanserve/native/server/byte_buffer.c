/* Pages of large buffers. Those that were freed are kept for the next large messages, up to MOST_KEPT bytes: to get new
 * pages from the kernel, which clears them, takes longer than to fill them. */

#include "byte_buffer.h"

#include <pthread.h>
#include <stdatomic.h>

enum { KEPT = 8, MOST_KEPT = 32 << 20 };

typedef struct {
    void *pages;
    size_t size;
} kept_pages;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static kept_pages kept[KEPT]; /* those without a size are free */
static atomic_size_t all_kept;
static int used; /* since the last time that `buffer_drop_kept` was called */

/* Take the largest of them if it is large enough, since what grows will grow further: its size, or 0. */
static size_t take(size_t least, void **pages)
{
    kept_pages *largest = kept;
    pthread_mutex_lock(&lock);
    for (int i = 1; i < KEPT; i++)
        if (kept[i].size > largest->size) largest = &kept[i];
    size_t size = largest->size >= least ? largest->size : 0;
    if (size) {
        *pages = largest->pages;
        largest->size = 0;
        all_kept -= size;
        used = 1;
    }
    pthread_mutex_unlock(&lock);
    return size;
}

void *buffer_pages(const byte_buffer *buffer, size_t least, size_t *size)
{
    void *pages;
    *size = least;
    if (buffer->capacity >= BUFFER_PAGES) {
        pages = mremap(buffer->data, buffer->capacity, least, MREMAP_MAYMOVE);
        return pages == MAP_FAILED ? NULL : pages;
    }
    size_t found = take(least, &pages);
    if (found)
        *size = found;
    else if ((pages = mmap(NULL, least, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) == MAP_FAILED)
        return NULL;
    if (buffer->end) memcpy(pages, buffer->data, buffer->end);
    free(buffer->data);
    return pages;
}

int buffer_keep_pages(void *pages, size_t size)
{
    int done = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; !done && i < KEPT && all_kept + size <= MOST_KEPT; i++) {
        if (kept[i].size) continue;
        kept[i] = (kept_pages){pages, size};
        all_kept += size;
        done = used = 1;
    }
    pthread_mutex_unlock(&lock);
    return done;
}

void *buffer_drop_kept(size_t *size)
{
    void *pages = NULL;
    pthread_mutex_lock(&lock);
    for (int i = 0; !used && !pages && i < KEPT; i++) {
        if (!kept[i].size) continue;
        pages = kept[i].pages;
        *size = kept[i].size;
        all_kept -= kept[i].size;
        kept[i].size = 0;
    }
    used = 0;
    pthread_mutex_unlock(&lock);
    return pages;
}

size_t buffer_kept(void)
{
    return atomic_load_explicit(&all_kept, memory_order_relaxed);
}
