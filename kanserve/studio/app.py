"""The studio's HTTP application: the page, and the calls that it makes as JSON."""

import json
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from kanserve.errors import InputError
from kanserve.studio.calls import Calls
from kanserve.studio.request_guards import TOO_LARGE, App, Guard, TooLargeError
from kanserve.studio.workspace import Workspace


def application(
    workspace: Workspace, pages: Mapping[str, tuple[bytes, str]], authority: str, token: str, scheme: str = "http"
) -> App:
    """The application behind its guard; `authority` is the "host:port" that it is reached by."""
    calls = Calls(workspace)
    routes = [
        Route("/api/events", partial(_events, workspace)),
        Route("/api/{path:path}", partial(_call, calls), methods=["GET", "POST"]),
        *(Route(path, partial(_file, body, kind)) for path, (body, kind) in pages.items()),
    ]
    inner = Starlette(routes=routes, exception_handlers={404: _missing, 405: _missing, TooLargeError: _too_large})
    inner.router.redirect_slashes = False
    return Guard(inner, authority, scheme, token)


async def _call(calls: Calls, request: Request) -> Response:
    """A call, in a thread; its answer is JSON, also where it is an error."""
    try:
        given = _body(await request.body()) if request.method == "POST" else {}
    except InputError as error:
        return JSONResponse({"error": str(error), "code": "InputError"}, 422)
    status, data = await run_in_threadpool(calls.answer, request.method, request.path_params["path"], given)
    return Response(json.dumps(data, ensure_ascii=False, allow_nan=False), status, media_type="application/json")


async def _events(workspace: Workspace, request: Request) -> Response:
    """Events as they happen, as a stream of JSON lines (text/event-stream)."""

    async def lines() -> AsyncIterator[str]:
        yield ": here\n\n"
        async for event in workspace.events.listen():
            yield f"data: {json.dumps(event, ensure_ascii=False, allow_nan=False)}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


async def _file(body: bytes, kind: str, request: Request) -> Response:
    return Response(body, media_type=kind)


async def _missing(request: Request, error: Exception) -> Response:
    status = int(getattr(error, "status_code", 404))
    return JSONResponse({"error": "There is nothing at this address.", "code": "missing"}, status)


async def _too_large(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": TOO_LARGE, "code": "refused"}, 413)


def _body(body: bytes) -> dict[str, Any]:
    """The JSON object of a body; InputError if it is not one."""
    try:
        given = json.loads(body or b"{}", parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise InputError("The body is not JSON.") from None
    if not isinstance(given, dict):
        raise InputError("The body must be a JSON object.")
    return given


def _refuse(word: str) -> float:
    raise ValueError(word)
