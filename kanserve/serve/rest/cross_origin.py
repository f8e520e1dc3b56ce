"""Cross-origin resource sharing (CORS): which web pages may read the answers of the HTTP port.

A browser lets a page call another server only if that names the page's origin. Before a call with a JSON body it asks
by OPTIONS, without credentials. Other clients than browsers take no notice.
"""

from collections.abc import Sequence

from kanserve.serve.rest.errors import HttpError
from kanserve.serve.rest.messages import RestRequest, RestResponse
from kanserve.serve.rest.routes import find_route

_SENT = "Authorization, Content-Encoding, Content-Type, Inference-Header-Content-Length, X-Request-Id"
_SECONDS = "600"  # in which a browser need not ask again


class CrossOrigin:
    """The `origins` whose pages may call, * for all; nobody's if there are none."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origins)

    def headers(self, request: RestRequest) -> list[tuple[str, str]]:
        """What lets the page that sent a request read its answer; nothing for pages that may not."""
        origin = request.header("origin")
        if not self._origins or not origin:
            return []
        if "*" not in self._origins and origin not in self._origins:
            return [("Vary", "Origin")]
        return [
            ("Access-Control-Allow-Origin", "*" if "*" in self._origins else origin),
            ("Access-Control-Expose-Headers", "Inference-Header-Content-Length"),
            ("Vary", "Origin"),
        ]

    def preflight(self, request: RestRequest) -> RestResponse | None:
        """The answer to a browser that asks whether a page may call a path; None for another request."""
        wanted = request.header("access-control-request-method")
        if request.method != "OPTIONS" or not wanted or len(self.headers(request)) < 2:
            return None
        try:
            find_route(wanted, request.target)
        except HttpError as error:
            return error.response()
        about = (("Methods", wanted), ("Headers", _SENT))
        headers = [(f"Access-Control-Allow-{name}", value) for name, value in about]
        return RestResponse(200, [*headers, ("Access-Control-Max-Age", _SECONDS)], b"")
