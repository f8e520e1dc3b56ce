/* Decompressing a message, with a limit: a small message may hold gigabytes. */

#include "server.h"

#include <zlib.h>

enum { STEP = 1 << 16 };

/* 0; 1 if it is larger than `most` bytes, or there is no memory; -1 if it is broken. */
int inflate_message(int encoding, const uint8_t *data, size_t length, size_t most, byte_buffer *to)
{
    z_stream state = {0};
    int result = Z_OK;
    /* 15 is the largest window; 16 more means gzip. What HTTP calls deflate is zlib's format. */
    if (inflateInit2(&state, encoding == ENCODING_GZIP ? 15 + 16 : 15) != Z_OK) return 1;
    state.next_in = (Bytef *)data;
    state.avail_in = (uInt)length;
    while (result == Z_OK) {
        uint8_t *room = buffer_room(to, STEP);
        if (!room) break;
        state.next_out = room;
        state.avail_out = STEP;
        result = inflate(&state, Z_NO_FLUSH);
        to->end += STEP - state.avail_out;
        if (buffer_length(to) > most) break;
        if (result == Z_BUF_ERROR || (result == Z_OK && state.avail_in == 0 && state.avail_out > 0)) {
            result = Z_DATA_ERROR;
            break;
        }
    }
    int left = state.avail_in > 0;
    inflateEnd(&state);
    if (to->failed || buffer_length(to) > most) return 1;
    return result == Z_STREAM_END && !left ? 0 : -1;
}
