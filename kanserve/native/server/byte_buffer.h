/* A growing buffer of bytes. A failed allocation sets `failed`, and later writes do nothing, so that only the end of a
 * message must check. */

#ifndef KANSERVE_BYTE_BUFFER_H
#define KANSERVE_BYTE_BUFFER_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint8_t *data;
    size_t start, end, capacity; /* what counts is data[start..end] */
    int failed;
} byte_buffer;

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
    free(buffer->data);
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
    uint8_t *grown = realloc(buffer->data, wanted);
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
