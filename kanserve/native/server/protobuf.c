#include "protobuf.h"

int proto_next(proto_cursor *cursor, proto_field *field)
{
    if (cursor->at >= cursor->end) return 0;
    uint64_t tag, length;
    if (!proto_varint(cursor, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1fffffff) goto broken;
    field->number = (uint32_t)(tag >> 3);
    field->type = (int)(tag & 7);
    size_t left;
    switch (field->type) {
    case WIRE_VARINT:
        if (!proto_varint(cursor, &field->value)) goto broken;
        return 1;
    case WIRE_64: left = 8; break;
    case WIRE_32: left = 4; break;
    case WIRE_BYTES:
        if (!proto_varint(cursor, &length) || length > (uint64_t)(cursor->end - cursor->at)) goto broken;
        left = (size_t)length;
        break;
    default: goto broken; /* groups, which no message here has */
    }
    if ((size_t)(cursor->end - cursor->at) < left) goto broken;
    field->data = cursor->at;
    field->length = left;
    cursor->at += left;
    return 1;
broken:
    cursor->at = NULL;
    return 0;
}

int proto_is_utf8(const uint8_t *text, size_t length)
{
    size_t i = 0;
    while (i < length) {
        uint8_t first = text[i];
        size_t more;
        uint32_t code;
        if (first < 0x80) {
            i++;
            continue;
        }
        if (first >= 0xc2 && first < 0xe0) {
            more = 1;
            code = first & 0x1f;
        } else if (first >= 0xe0 && first < 0xf0) {
            more = 2;
            code = first & 0x0f;
        } else if (first >= 0xf0 && first < 0xf5) {
            more = 3;
            code = first & 0x07;
        } else {
            return 0;
        }
        if (length - i <= more) return 0;
        for (size_t k = 1; k <= more; k++) {
            if ((text[i + k] & 0xc0) != 0x80) return 0;
            code = code << 6 | (text[i + k] & 0x3f);
        }
        if ((more == 2 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) ||
            (more == 3 && (code < 0x10000 || code > 0x10ffff)))
            return 0;
        i += more + 1;
    }
    return 1;
}

void proto_add_varint(byte_buffer *to, uint64_t value)
{
    uint8_t bytes[10];
    size_t count = 0;
    while (value >= 0x80) {
        bytes[count++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    bytes[count++] = (uint8_t)value;
    buffer_add(to, bytes, count);
}
