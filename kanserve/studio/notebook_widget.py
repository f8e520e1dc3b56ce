"""The studio in a cell of a notebook: the same page and the same calls, as messages of the kernel, by anywidget."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote
from weakref import WeakValueDictionary

import anywidget
import traitlets

from kanserve.editing import Session
from kanserve.studio.calls import Calls
from kanserve.studio.events import Event
from kanserve.studio.opened_model import Opened
from kanserve.studio.page_files import page_files
from kanserve.studio.request_guards import BODY_BYTES, TOO_LARGE
from kanserve.studio.workspace import Workspace

WIDGET_THREADS = 4  # that answer the calls of such a widget

_SPACES: "WeakValueDictionary[int, Workspace]" = WeakValueDictionary()
"""By the id of their session: widgets of one session share its workers and what they computed."""


class StudioWidget(anywidget.AnyWidget):
    """A view of a session; edits made in it are steps of the session, and steps made elsewhere appear in it.

    `height` is in pixels. `close()` ends it.
    """

    styles = traitlets.Unicode().tag(sync=True)
    font = traitlets.Bytes().tag(sync=True)
    height = traitlets.Int().tag(sync=True)

    _open = False

    def __init__(self, session: Session, opened: Opened, height: int) -> None:
        files = page_files()
        self._esm = files["/studio.js"][0].decode()
        self.session = session
        self._space = _SPACES.get(id(session)) or Workspace(opened, session=session)
        _SPACES[id(session)] = self._space
        self._calls = Calls(self._space)
        self._pool = ThreadPoolExecutor(WIDGET_THREADS, "kanserve studio widget")
        self._posting = threading.Lock()
        font = files["/fonts/inter-latin.woff2"][0]
        super().__init__(styles=files["/studio.css"][0].decode(), font=font, height=height)
        self._leave = self._space.events.subscribe(self._tell)
        self.on_msg(self._heard)
        self._open = True

    def close(self) -> None:
        """End the view; the last one of a session ends its workers."""
        if self._open:
            self._open = False
            self._leave()
            self._pool.shutdown(wait=False, cancel_futures=True)
            if not self._space.events.heard:
                self._space.close()
                _SPACES.pop(id(self.session), None)
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        found = super()._repr_mimebundle_(**kwargs)
        if found is not None:  # what is shown where no kernel runs, as on GitHub
            found[0]["text/html"] = self.session._repr_html_()
        return found

    def _heard(self, widget: Any, content: Any, buffers: Any) -> None:
        """A call of the page: {"id", "method", "path", "body"}."""
        if isinstance(content, dict) and isinstance(content.get("id"), str):
            self._pool.submit(self._answer, content)

    def _answer(self, content: dict[str, Any]) -> None:
        try:
            status, data = self._dispatch(content.get("method"), content.get("path"), content.get("body"))
        except Exception as error:  # the page waits for an answer, whatever has gone wrong
            status, data = 500, {"error": f"The studio failed: {type(error).__name__}: {error}", "code": "failed"}
        self._post({"id": content["id"], "status": status, "data": data})

    def _dispatch(self, method: Any, path: Any, body: Any) -> tuple[int, Any]:
        if method not in ("GET", "POST") or not isinstance(path, str) or not isinstance(body, dict):
            return 422, {"error": "A call has a method, a path and an object.", "code": "InputError"}
        if len(json.dumps(body)) > BODY_BYTES:
            return 413, {"error": TOO_LARGE, "code": "refused"}
        return self._calls.answer(method, unquote(path), body)

    def _tell(self, event: Event | None) -> None:
        if event is not None:
            self._post({"event": event})

    def _post(self, content: dict[str, Any]) -> None:
        with self._posting:  # messages of several threads one after another
            self.send(content)
