"""The studio's HTTP application: the page, and the calls that it makes as JSON."""

import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import kanserve_exporters
from kanserve import __version__
from kanserve.errors import (
    BusyError,
    ConflictError,
    DeadlineError,
    FormatError,
    InputError,
    KanserveError,
    MissingDependencyError,
    NotFoundError,
)
from kanserve.studio.page_views import plain
from kanserve.studio.request_guards import TOO_LARGE, App, Guard, TooLargeError
from kanserve.studio.studio_jobs import Exported
from kanserve.studio.studio_limits import STUDIO
from kanserve.studio.workspace import Workspace

_STATUS: Mapping[type[KanserveError], int] = {
    ConflictError: 409,
    BusyError: 503,
    NotFoundError: 404,
    DeadlineError: 504,
    MissingDependencyError: 501,
    FormatError: 400,
    InputError: 422,
}
OWN_FORMS = ("latex", "python", "network")


def application(
    workspace: Workspace, pages: Mapping[str, tuple[bytes, str]], authority: str, token: str, scheme: str = "http"
) -> App:
    """The application behind its guard; `authority` is the "host:port" that it is reached by."""
    calls = Calls(workspace)
    routes = [
        Route("/api/snapshot", calls.call(calls.snapshot)),
        Route("/api/steps", calls.call(calls.step), methods=["POST"]),
        Route("/api/undo", calls.call(calls.undo), methods=["POST"]),
        Route("/api/redo", calls.call(calls.redo), methods=["POST"]),
        Route("/api/edges/{name:path}/candidates", calls.call(calls.candidates)),
        Route("/api/edges/{name:path}", calls.call(calls.edge)),
        Route("/api/constants", calls.call(calls.constants)),
        Route("/api/functions", calls.call(calls.function), methods=["POST"]),
        Route("/api/ruler", calls.call(calls.ruler)),
        Route("/api/pareto", calls.call(calls.pareto)),
        Route("/api/search", calls.call(calls.search), methods=["POST"]),
        Route("/api/search/cancel", calls.call(calls.cancel_search), methods=["POST"]),
        Route("/api/fit/cancel", calls.call(calls.cancel_fit), methods=["POST"]),
        Route("/api/predict", calls.call(calls.predict), methods=["POST"]),
        Route("/api/rows", calls.call(calls.rows)),
        Route("/api/export/{format}", calls.call(calls.export)),
        Route("/api/publish", calls.call(calls.publish), methods=["POST"]),
        Route("/api/events", calls.events),
        *(Route(path, partial(_file, body, kind)) for path, (body, kind) in pages.items()),
    ]
    inner = Starlette(routes=routes, exception_handlers={404: _missing, 405: _missing, TooLargeError: _too_large})
    return Guard(inner, authority, scheme, token)


async def _file(body: bytes, kind: str, request: Request) -> Response:
    return Response(body, media_type=kind)


async def _missing(request: Request, error: Exception) -> Response:
    status = int(getattr(error, "status_code", 404))
    return JSONResponse({"error": "There is nothing at this address.", "code": "missing"}, status)


async def _too_large(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": TOO_LARGE, "code": "refused"}, 413)


class Calls:
    """The calls of the API: each takes the request's JSON and gives data."""

    def __init__(self, workspace: Workspace) -> None:
        self._space = workspace

    def call(self, handle: Callable[[Request, Any], Any]) -> Callable[[Request], Any]:
        """A handler that runs in a thread, and answers errors as sentences."""

        async def handler(request: Request) -> Response:
            try:
                given = _body(await request.body()) if request.method == "POST" else {}
                found = await run_in_threadpool(handle, request, given)
            except KanserveError as error:
                status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 422)
                return JSONResponse({"error": str(error), "code": type(error).__name__}, status)
            return Response(
                json.dumps(plain(found), ensure_ascii=False, allow_nan=False), media_type="application/json"
            )

        return handler

    def snapshot(self, request: Request, given: Any) -> Any:
        space = self._space
        opened = space.opened
        model = {
            "title": opened.title,
            "name": opened.name,
            "version": opened.version,
            "next_version": space.next_version(),
            "published": space.published,
            "served": space.served,
            "can_publish": bool(opened.repository),
            "drawn": opened.drawn,
            "held_out": 0 if space.fitting else len(space.session.rows.held),
            "total_rows": len(opened.data) if opened.data is not None else 0,
            "unseen_rows": len(opened.unseen) if opened.unseen is not None else 0,
            "classes": [] if space.fitting else list(space.session.kan.classes),
            "formats": list(kanserve_exporters.names()),
            "load": opened.load,
            "kanserve": __version__,
        }
        if space.fitting:
            return {"phase": "fitting", "model": model, "trouble": space.trouble}
        return {"phase": "ready", "model": model, "unsaved": space.unsaved, "view": space.view()}

    def step(self, request: Request, given: Any) -> Any:
        self._space.step(_whole(given, "base"), given.get("step"))
        return self.snapshot(request, {})

    def undo(self, request: Request, given: Any) -> Any:
        self._space.undo(_whole(given, "base"), _whole(given, "steps", 1))
        return self.snapshot(request, {})

    def redo(self, request: Request, given: Any) -> Any:
        self._space.redo(_whole(given, "base"))
        return self.snapshot(request, {})

    def edge(self, request: Request, given: Any) -> Any:
        return self._space.edge(request.path_params["name"])

    def candidates(self, request: Request, given: Any) -> Any:
        return {"candidates": self._space.candidates(request.path_params["name"])}

    def constants(self, request: Request, given: Any) -> Any:
        return {"constants": self._space.constants()}

    def function(self, request: Request, given: Any) -> Any:
        self._space.write_function(_text(given, "name"), _text(given, "formula"))
        return {"name": given["name"]}

    def ruler(self, request: Request, given: Any) -> Any:
        return {"points": self._space.ruler()}

    def pareto(self, request: Request, given: Any) -> Any:
        return {"running": self._space.searching, "formulas": self._space.formulas}

    def search(self, request: Request, given: Any) -> Any:
        seconds = given.get("seconds", STUDIO.search_seconds)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise InputError("seconds must be a number.")
        self._space.search(seconds)
        return {"running": True}

    def cancel_search(self, request: Request, given: Any) -> Any:
        self._space.cancel_search()
        return {}

    def cancel_fit(self, request: Request, given: Any) -> Any:
        self._space.cancel_fit()
        return {}

    def predict(self, request: Request, given: Any) -> Any:
        x = given.get("x")
        if not isinstance(x, list) or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in x):
            raise InputError("x must be a list of numbers, one for each input.")
        return self._space.predict(x)

    def rows(self, request: Request, given: Any) -> Any:
        return self._space.rows()

    def export(self, request: Request, given: Any) -> Any:
        kind = request.path_params["format"]
        if kind not in (*OWN_FORMS, *kanserve_exporters.names()):
            raise NotFoundError(
                f"There is no format {kind!r:.80}; there are {', '.join((*OWN_FORMS, *kanserve_exporters.names()))}."
            )
        return _files(self._space.export(kind))

    def publish(self, request: Request, given: Any) -> Any:
        root, name = (_text(given, key) if key in given else "" for key in ("repository", "name"))
        return {"version": self._space.publish(_whole(given, "base"), root, name)}

    async def events(self, request: Request) -> Response:
        """Events as they happen, as a stream of JSON lines (text/event-stream)."""
        return StreamingResponse(self._lines(), media_type="text/event-stream")

    async def _lines(self) -> AsyncIterator[str]:
        yield ": here\n\n"
        async for event in self._space.events.listen():
            yield f"data: {json.dumps(event, ensure_ascii=False, allow_nan=False)}\n\n"


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


def _whole(given: dict[str, Any], key: str, otherwise: int | None = None) -> int:
    value = given.get(key, otherwise)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"{key} must be a whole number of 0 or more.")
    return value


def _text(given: dict[str, Any], key: str) -> str:
    value = given.get(key)
    if not isinstance(value, str):
        raise InputError(f"{key} must be a text.")
    return value


def _files(one: Exported) -> dict[str, Any]:
    """An export for the page: texts as they are, everything else in base64."""
    files = []
    for path, data in sorted(one.files.items()):
        try:
            text = data.decode() if b"\0" not in data else None
        except UnicodeDecodeError:
            text = None
        found = {"path": path, "bytes": len(data), "text": text}
        files.append(found if text is not None else {**found, "base64": base64.b64encode(data).decode()})
    return {
        "format": one.format,
        "files": files,
        "largest_gap": one.largest_gap,
        "microseconds": one.microseconds,
        "note": one.note,
    }
