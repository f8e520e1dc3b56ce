/* Reading and writing protobuf messages without copies: https://protobuf.dev/programming-guides/encoding/ */

#ifndef KANSERVE_PROTOBUF_H
#define KANSERVE_PROTOBUF_H

#include "byte_buffer.h"

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

typedef struct {
    const uint8_t *at, *end;
} proto_cursor;

typedef struct {
    uint32_t number; /* of the field */
    int type;        /* of the wire */
    uint64_t value;  /* of a varint */
    const uint8_t *data;
    size_t length; /* of a length-delimited field */
} proto_field;

/* The next varint: 1, or 0 at the end of the message or for more than 64 bits. */
static inline int proto_varint(proto_cursor *cursor, uint64_t *value)
{
    uint64_t got = 0;
    for (int shift = 0; shift < 70 && cursor->at < cursor->end; shift += 7) {
        uint8_t byte = *cursor->at++;
        if (shift == 63 && byte > 1) return 0;
        got |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *value = got;
            return 1;
        }
    }
    return 0;
}

/* The next field: 1, or 0 at the end (cursor->at == cursor->end) and for a broken message (cursor->at is NULL). */
int proto_next(proto_cursor *cursor, proto_field *field);

/* Whether text is UTF-8, as protobuf demands of every string. */
int proto_is_utf8(const uint8_t *text, size_t length);

static inline size_t proto_varint_size(uint64_t value)
{
    size_t size = 1;
    while (value >= 0x80) {
        value >>= 7;
        size++;
    }
    return size;
}

void proto_add_varint(byte_buffer *to, uint64_t value);

static inline void proto_add_tag(byte_buffer *to, uint32_t number, int type)
{
    proto_add_varint(to, (uint64_t)number << 3 | (unsigned)type);
}

/* The tag and the length of a length-delimited field, whose content follows. */
static inline void proto_add_head(byte_buffer *to, uint32_t number, size_t length)
{
    proto_add_tag(to, number, WIRE_BYTES);
    proto_add_varint(to, length);
}

static inline void proto_add_bytes(byte_buffer *to, uint32_t number, const void *data, size_t length)
{
    proto_add_head(to, number, length);
    buffer_add(to, data, length);
}

#endif
