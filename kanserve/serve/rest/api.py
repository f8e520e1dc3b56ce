"""REST: one request in, one response out, whatever the framing.

A call becomes the message of the gRPC call and goes through its handler (`rpc.routes`): access, limits, back-pressure,
drain, metrics, log and traces are those of gRPC. Its body is only decoded once the handler asks for the message, after
the access check; so an error in it is counted as one of the call.
"""

import json
import logging
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from time import perf_counter_ns
from typing import Any
from urllib.parse import unquote

from kanserve.errors import InputError, InvalidNameError, KanserveError, NotFoundError
from kanserve.serve.methods import MODEL, ROUTES, VERSION, Method, Rest
from kanserve.serve.observability import prometheus
from kanserve.serve.request import Request, Unpacked
from kanserve.serve.rest.codecs import Codec, MessageCodec
from kanserve.serve.rest.infer import InferCodec
from kanserve.serve.rest.messages import JSON, STATUSES, HttpError, RestRequest, RestResponse, refusal
from kanserve.serve.rest.strict_json import Coded, coder
from kanserve.serve.rpc.pipeline import InlineExecutor
from kanserve.serve.rpc.routes import Handlers
from kanserve.serve.state import ServerState
from kanserve.serve.status import AbortedError

_BODIES = ("application/json", "application/octet-stream")
_ENCODINGS = ("", "identity", "gzip", "x-gzip", "deflate")
_EITHER = zlib.MAX_WBITS | 32  # gzip or zlib, by the first bytes
# Headers that belong to HTTP and not to the call: they are not metadata.
_NOT_METADATA = frozenset(
    (
        *("accept", "accept-encoding", "accept-language", "connection", "content-encoding", "content-length"),
        *("content-type", "cookie", "expect", "host", "inference-header-content-length", "keep-alive", "te"),
        *("trailer", "transfer-encoding", "upgrade"),
    )
)
_OPEN_METRICS = "application/openmetrics-text"

_SENT = "Authorization, Content-Encoding, Content-Type, Inference-Header-Content-Length, X-Request-Id"
_SECONDS = "600"  # in which a browser need not ask again

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Route:
    """What a request asks for, and the model that its path names."""

    rest: Rest
    method: Method | None  # None: a page, as the metrics are
    model: str = ""
    version: str = ""


def find_route(verb: str, target: str) -> Route:
    """Find the route of a request. Raises HttpError 404 for an unknown path, 405 for another method."""
    path = target.partition("?")[0].partition("#")[0]
    if not path.startswith("/"):  # as a proxy is asked: http://host/path
        path = "/" + path.partition("://")[2].partition("/")[2]
    pattern, names = _pattern(path.strip("/").split("/"))
    rest, method = ROUTES.get(pattern, (None, None))
    if rest is None or not all(names.values()) or pattern.count("{") > len(names):
        raise HttpError(404, "There is no such path here. GET /openapi.json lists those that there are.")
    allowed = ("GET", "HEAD") if rest.verb == "GET" else (rest.verb,)
    if verb not in allowed:
        raise HttpError(405, f"This path takes {rest.verb}, got {verb:.20}.", ("Allow", ", ".join(allowed)))
    return Route(rest, method, unquote(names.get(MODEL, "")), unquote(names.get(VERSION, "")))


def _pattern(parts: list[str]) -> tuple[str, dict[str, str]]:
    """The path with placeholders for the model and the version, and their values."""
    at = {}
    if parts[:2] == ["v2", "models"] and len(parts) > 2 and parts[2:] != ["stats"]:
        at[MODEL] = 2
        if parts[3:4] == ["versions"] and len(parts) > 4:
            at[VERSION] = 4
    elif parts[:3] == ["v2", "repository", "models"] and len(parts) > 3:
        at[MODEL] = 3
    names = {placeholder: parts[place] for placeholder, place in at.items()}
    for placeholder, place in at.items():
        parts[place] = placeholder
    return "/" + "/".join(parts), names


class CrossOrigin:
    """Cross-origin resource sharing: `origins` whose pages may call ("*" for all). A browser allows a page to call
    another server only if that names the page's origin, and first sends OPTIONS, without credentials, before a JSON
    body. Other clients ignore this."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origins)

    def headers(self, request: RestRequest) -> list[tuple[str, str]]:
        """The CORS headers that let the page read the answer; empty for pages that may not."""
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
        """The answer to a CORS preflight request; None for another request."""
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


class _Call(Request):
    """The call that an HTTP request makes; it has no deadline."""

    def __init__(self, request: RestRequest) -> None:
        self._request = request
        self.metadata = tuple(pair for pair in request.headers if pair[0] not in _NOT_METADATA)
        self.status = 0  # of the response, where that of a failure's code is not precise enough

    @property
    def peer(self) -> str:
        return self._request.peer

    @property
    def identity(self) -> Mapping[str, Sequence[bytes]]:
        return self._request.identity

    def alive(self) -> bool:
        return self._request.alive()


class RestApi:
    """Answers HTTP requests with the handlers of the gRPC calls; thread-safe. `ready`: whether calls are accepted."""

    def __init__(self, state: ServerState, handlers: Handlers, ready: Callable[[], bool]) -> None:
        self._state, self._handlers, self._ready = state, handlers, ready
        self._needs_tls = bool(state.settings.tls_certificate)
        self.most = state.settings.max_message_bytes  # bytes of a body, and of the message of an answer
        self._pages = _Pages(state)
        self._cross_origin = CrossOrigin(state.settings.cors_origin)

    def answer(self, request: RestRequest) -> RestResponse:
        """Answer a request; may block, but never raises. Runs on the server's thread pool, unless `aside`."""
        response = self._cross_origin.preflight(request) or self._answer(request)
        response.headers.extend(self._cross_origin.headers(request))
        return response

    def _answer(self, request: RestRequest) -> RestResponse:
        try:
            route = self._route(request)
            if route.method is None or route.rest.aside:
                return self._aside(route, request)
            return self._call(route.method, route, request)
        except HttpError as error:
            return error.response()
        except Exception:
            _logger.exception("a request to the HTTP port failed")
            return refusal(500, "internal error")

    def early(self, request: RestRequest) -> bool:
        """Whether a request will be refused whatever its body is: for its path, method, length, content type or caller.
        Asked when the head is complete and the body is not. Then call `answer` with an empty body at once, and close
        the connection."""
        if self._cross_origin.preflight(request) is not None:
            return True
        try:
            route = self._route(request)
            if route.method is not None and not route.rest.aside:
                self._state.access.check(route.method.path, _Call(request))
        except (HttpError, KanserveError):
            return True
        return False

    @staticmethod
    def aside(target: str) -> bool:
        """Whether a request needs no pool thread, so that it is answered while all are busy and while the server stops:
        health, metrics, the OpenAPI document, and unknown paths."""
        try:
            return bool(find_route("GET", target).rest.aside)
        except HttpError as error:
            return error.status == 404

    def _route(self, request: RestRequest) -> Route:
        """The route of a request with a valid head. Raises HttpError otherwise."""
        route = find_route(request.method, request.target)
        if self._needs_tls and not request.secure and route.rest.aside in ("", "openapi"):
            raise HttpError(
                403,
                "This server has TLS, and this connection has not: use https. (With the transport grpcio, the HTTP "
                "port has no TLS, and only answers health and metrics then.)",
            )
        length = request.header("content-length")
        if route.rest.verb == "GET":
            if length.strip("0") or request.header("transfer-encoding") or request.body:
                raise HttpError(400, "A GET request must have no body.")
            return route
        self._check_body(request, length)
        return route

    def _check_body(self, request: RestRequest, length: str) -> None:
        if len(request.body) > self.most or (length.isdecimal() and int(length[:20]) > self.most):
            raise HttpError(413, f"A request may have {self.most} bytes, and this one has more. Send it in parts.")
        kind = request.header("content-type").partition(";")[0].strip().lower()
        if kind not in _BODIES and (kind or request.header("origin")):  # some clients say none, but no browser may
            raise HttpError(
                415,
                f"The content type must be {' or '.join(_BODIES)}, got {kind or 'none':.80}. Add the header "
                "'Content-Type: application/json'; in curl that is -H 'Content-Type: application/json'.",
            )
        if request.header("content-encoding").strip().lower() not in _ENCODINGS:
            raise HttpError(415, "The content encoding must be gzip or deflate.", ("Accept-Encoding", "gzip, deflate"))

    def _call(self, method: Method, route: Route, request: RestRequest) -> RestResponse:
        call, coding = _Call(request), _codec(method, route)
        handler = self._handlers.find(method.path, call.metadata)
        if handler is None:
            raise HttpError(501, "The server has no such call.")
        coded = coder(self._state.catalog, route.model, route.version)
        call.messages = self._messages(coding, request, call, coded)
        try:
            if handler.threads is None or isinstance(handler.threads, InlineExecutor):
                answer = handler.answer(call)
            else:  # loads and unloads, of which a few run at once
                answer = handler.threads.submit(handler.answer, call).result()
        except AbortedError as error:
            failure = error.failure
            return refusal(call.status or STATUSES.get(failure.code, 500), failure.text)
        response = coding.encode(answer) if len(answer) <= self.most else None
        if response is None or len(response.body) > self.most:
            raise HttpError(
                413, f"The answer would have more than {self.most} bytes. Ask for fewer rows at once, or for binary."
            )
        return response

    def _messages(self, coding: Codec, request: RestRequest, call: _Call, coded: Coded) -> Iterator[Unpacked]:
        """The request message of a unary call. The body is decompressed and decoded only when it is asked for."""
        body = request.body
        if request.header("content-encoding").strip().lower() not in ("", "identity"):
            inflated = _inflate(body, self.most)
            if inflated is None:
                call.status = 413
                raise InputError(f"A request may have {self.most} bytes, and this one has more once it is inflated.")
            body = inflated
        yield coding.decode(request, body, coded)

    def _aside(self, route: Route, request: RestRequest) -> RestResponse:
        match route.rest.aside:
            case "live":
                return _json(200, {"live": True})
            case "ready":
                return self._readiness({})
            case "model_ready":
                try:
                    found = self._state.catalog.find(route.model, route.version)
                except (NotFoundError, InvalidNameError) as error:
                    return refusal(404, str(error)[:500])
                return self._readiness({"name": found.name})
            case "metrics":
                page, kind = self._pages.page(request)
                return RestResponse(200, [("Content-Type", kind)], page)
            case _:
                from kanserve.serve.rest import openapi_document  # most servers are never asked

                return RestResponse(200, [JSON], openapi_document.text())

    def _readiness(self, about: dict[str, object]) -> RestResponse:
        ready = self._ready()
        return _json(200 if ready else 503, {**about, "ready": ready})


def _codec(method: Method, route: Route) -> Codec:
    if route.rest.body == "InferRequest":
        return InferCodec(route.model, route.version)
    return MessageCodec(method, route.rest, route.model, route.version)


class _Pages:
    """Metrics pages, rendered once for all requests that wait for them."""

    def __init__(self, state: ServerState) -> None:
        self._state, self._lock = state, Lock()
        self._written: dict[str, tuple[int, tuple[bytes, str]]] = {}  # by format, when it was begun, and the page

    def page(self, request: RestRequest) -> tuple[bytes, str]:
        """The page and its content type; OpenMetrics or the older format, by the Accept header."""
        kind = _OPEN_METRICS if _OPEN_METRICS in request.header("accept") else ""
        with self._lock:
            begun, page = self._written.get(kind, (0, (b"", "")))
            if begun < request.arrived:
                begun = perf_counter_ns()
                page = prometheus.page(self._state.control.snapshot(), kind)
                self._written[kind] = begun, page
            return page


def _json(status: int, body: dict[str, Any]) -> RestResponse:
    return RestResponse(status, [JSON], json.dumps(body).encode())


def _inflate(body: bytes | memoryview, most: int) -> bytes | None:
    """Decompress a gzip or deflate body; None if it has more than `most` bytes. Raises InputError if it is corrupt."""
    inflater = zlib.decompressobj(_EITHER)
    try:
        made = inflater.decompress(body, most + 1)
    except zlib.error:
        raise InputError("The body is not in the coding that its Content-Encoding names.") from None
    if len(made) > most:
        return None
    if not inflater.eof or inflater.unused_data:
        raise InputError("The body is not one whole stream of the coding that its Content-Encoding names.")
    return made
