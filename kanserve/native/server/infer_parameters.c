#include "infer_parameters.h"

const char *const PARAMETERS_OF_INPUT[] = {"shared_memory_region", NULL};
const char *const PARAMETERS_OF_OUTPUT[] = {"classification", "shared_memory_region", NULL};

enum { VALUES = 5 }; /* fields of InferParameter: bool_param, int64_param, string_param, double_param, uint64_param */

static int is_value(const proto_field *message)
{
    static const int TYPES[VALUES] = {WIRE_VARINT, WIRE_VARINT, WIRE_BYTES, WIRE_64, WIRE_VARINT};
    proto_cursor cursor = {message->data, message->data + message->length};
    proto_field field;
    while (proto_next(&cursor, &field)) {
        if (field.number > VALUES || field.type != TYPES[field.number - 1]) return 0;
        if (field.type == WIRE_BYTES && !proto_is_utf8(field.data, field.length)) return 0;
    }
    return cursor.at != NULL;
}

static int is_any(const proto_field *name, const char *const *of)
{
    for (; of && *of; of++)
        if (name->length == strlen(*of) && memcmp(name->data, *of, name->length) == 0) return 1;
    return 0;
}

int parameter_is_ignored(const proto_field *entry, const char *const *changing)
{
    proto_cursor cursor = {entry->data, entry->data + entry->length};
    proto_field field;
    int names = 0, values = 0;
    while (proto_next(&cursor, &field)) {
        if (field.type != WIRE_BYTES) return 0;
        switch (field.number) {
        case 1:
            if (names++ || !proto_is_utf8(field.data, field.length) || is_any(&field, changing)) return 0;
            break;
        case 2:
            if (values++ || !is_value(&field)) return 0;
            break;
        default: return 0;
        }
    }
    return cursor.at != NULL;
}
