/* The end of a connection of HTTP/2 that loses no call: https://www.rfc-editor.org/rfc/rfc9113.html#name-goaway
 *
 *     a notice (GOAWAY of the largest stream) and PING -> calls that are on their way still begin -> PING is acknowledged,
 *     or time is up -> GOAWAY of the last call that was taken -> what still comes is refused, and clients repeat it */

#include "server.h"

enum { NOTICED = 1, LAST }; /* `goaway` of a connection */

static const uint8_t PING_OF_NOTICE[8] = "goodbye";

/* Go on with it: whether no call can begin any more. `final`: the peer has seen the notice, or time is up. */
int http2_drain(connection *owner, int final)
{
    if (!owner->goaway) {
        owner->goaway = NOTICED;
        nghttp2_submit_shutdown_notice(owner->session);
    } else if (final && owner->goaway == NOTICED) {
        owner->goaway = LAST;
        owner->last_taken = nghttp2_session_get_last_proc_stream_id(owner->session);
        nghttp2_submit_goaway(owner->session, NGHTTP2_FLAG_NONE, owner->last_taken, NGHTTP2_NO_ERROR, NULL, 0);
    }
    return owner->goaway == LAST;
}

int http2_hang_up(connection *owner, int final)
{
    int over = http2_drain(owner, final);
    if (final) streams_refuse(owner);
    return over;
}

/* GOAWAY has left. nghttp2 sends a PING before all else, so it is not given one earlier. */
void http2_goaway_sent(connection *owner)
{
    if (owner->goaway == NOTICED) nghttp2_submit_ping(owner->session, NGHTTP2_FLAG_NONE, PING_OF_NOTICE);
}

void http2_ping_acknowledged(connection *owner, const nghttp2_ping *ping)
{
    if (owner->goaway == NOTICED && memcmp(ping->opaque_data, PING_OF_NOTICE, sizeof PING_OF_NOTICE) == 0) http2_drain(owner, 1);
}

/* Whether the call that begins comes too late. */
int http2_is_over_for(const connection *owner, int32_t id)
{
    return owner->goaway == LAST && id > owner->last_taken;
}

/* Reset the stream that came too late. nghttp2 takes notice of that only once it has read the headers. */
void http2_refuse_late(connection *owner)
{
    if (!owner->late_stream) return;
    size_t before = nghttp2_session_get_outbound_queue_size(owner->session);
    nghttp2_submit_rst_stream(owner->session, NGHTTP2_FLAG_NONE, owner->late_stream, NGHTTP2_REFUSED_STREAM);
    if (nghttp2_session_get_outbound_queue_size(owner->session) > before) owner->late_stream = 0;
}
