/* A growing buffer of bytes. A failed allocation sets `failed`, and later writes do nothing, so that only the end of a
 * message must check. Large ones are pages of their own, which grow without a copy, however large they are. */

#ifndef KANSERVE_BYTE_BUFFER_H
#define KANSERVE_BYTE_BUFFER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* before any header of the system: mremap */
#endif

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { BUFFER_PAGES = 1 << 20 }; /* the capacity from which on a buffer is pages */

typedef struct {
    uint8_t *data;
    size_t start, end, capacity; /* what counts is data[start..end] */
    int failed;
} byte_buffer;

/* Pages with the bytes of a buffer that grows: their size, at least `least`, is in `size`. NULL without memory. */
void *buffer_pages(const byte_buffer *buffer, size_t least, size_t *size);
/* Keep pages for the next large buffer: whether that is done. */
int buffer_keep_pages(void *pages, size_t size);
/* Some of the kept pages if none were used since the last call, to be given back to the kernel; else NULL. */
void *buffer_drop_kept(size_t *size);
/* The bytes of all kept pages. */
size_t buffer_kept(void);

static inline size_t buffer_length(const byte_buffer *buffer)
{
    return buffer->end - buffer->start;
}

static inline const uint8_t *buffer_begin(const byte_buffer *buffer)
{
    return buffer->data ? buffer->data + buffer->start : NULL;
}

static inline void buffer_free(byte_buffer *buffer)
{
    if (buffer->capacity < BUFFER_PAGES)
        free(buffer->data);
    else if (!buffer_keep_pages(buffer->data, buffer->capacity))
        munmap(buffer->data, buffer->capacity);
    memset(buffer, 0, sizeof *buffer);
}

/* Room for `more` bytes after the end: its address, or NULL without memory. */
static inline uint8_t *buffer_room(byte_buffer *buffer, size_t more)
{
    if (buffer->failed) return NULL;
    if (buffer->capacity - buffer->end >= more) return buffer->data + buffer->end;
    if (buffer->start > 0 && buffer_length(buffer) + more <= buffer->capacity && buffer->start >= buffer->capacity / 2) {
        memmove(buffer->data, buffer->data + buffer->start, buffer_length(buffer));
        buffer->end -= buffer->start;
        buffer->start = 0;
        return buffer->data + buffer->end;
    }
    size_t wanted = buffer->capacity ? buffer->capacity : 256;
    while (wanted - buffer->end < more) {
        if (wanted > SIZE_MAX / 2) {
            buffer->failed = 1;
            return NULL;
        }
        wanted *= 2;
    }
    uint8_t *grown = wanted < BUFFER_PAGES ? realloc(buffer->data, wanted) : buffer_pages(buffer, wanted, &wanted);
    if (!grown) {
        buffer->failed = 1;
        return NULL;
    }
    buffer->data = grown;
    buffer->capacity = wanted;
    return grown + buffer->end;
}

static inline void buffer_add(byte_buffer *buffer, const void *from, size_t length)
{
    if (length == 0) return;
    uint8_t *to = buffer_room(buffer, length);
    if (to) {
        memcpy(to, from, length);
        buffer->end += length;
    }
}

static inline void buffer_add_byte(byte_buffer *buffer, uint8_t value)
{
    buffer_add(buffer, &value, 1);
}

/* A key and a value, as they reach Python: their lengths as two 32-bit integers, then both. */
static inline void buffer_add_pair(byte_buffer *to, const void *key, size_t key_length, const void *value, size_t length)
{
    uint32_t lengths[2] = {(uint32_t)key_length, (uint32_t)length};
    buffer_add(to, lengths, sizeof lengths);
    buffer_add(to, key, key_length);
    buffer_add(to, value, length);
}

/* Take bytes off the front. */
static inline void buffer_take(byte_buffer *buffer, size_t length)
{
    buffer->start += length;
    if (buffer->start == buffer->end) buffer->start = buffer->end = 0;
}

#endif
