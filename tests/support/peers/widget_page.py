"""A widget of this process in a page of Chromium, over the messages of the widget protocol, without Jupyter.

The page imports the widget's module as anywidget does and gives it a model; messages go to the Python widget by
playwright, and what the widget sends is delivered by `pump`.
"""

import base64
import json
import threading
from collections.abc import Callable
from typing import Any

import comm
from comm.base_comm import BaseComm

_PAGE = """
<!doctype html><html lang="en"><meta charset="utf-8"><title>notebook</title>
<body data-jp-theme-light="true"><main><h1>notebook</h1><div class="cell-output"></div></main></body></html>
"""
_OPEN = """
async ([place, name, state]) => {
  const bytes = (text) => new DataView(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
  const address = URL.createObjectURL(new Blob([state._esm], {type: "text/javascript"}));
  const heard = new Set();
  const model = {
    get: (key) => key === "font" ? bytes(state.font) : state[key],
    send: (content) => void window.toKernel(name, JSON.stringify(content)),
    on: (kind, one) => kind === "msg:custom" && heard.add(one),
    off: (kind, one) => heard.delete(one),
  };
  (window.models ??= {})[name] = (content) => heard.forEach((one) => one(content, []));
  const el = document.createElement("div");
  el.id = place;
  document.querySelector(".cell-output").append(el);
  (window.ends ??= {})[name] = (await import(address)).default.render({model, el});
}
"""


class Kernel:
    """Widgets and the messages that they send, in place of a kernel's channel."""

    def __init__(self, monkeypatch: Any) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.states: dict[str, dict[str, Any]] = {}
        kernel = self

        class Recorded(BaseComm):
            def publish_msg(self, msg_type: str, data: Any = None, *more: Any, **options: Any) -> None:
                data = data or {}
                if msg_type == "comm_open":
                    state = dict(data["state"])
                    for path, buffer in zip(data["buffer_paths"], options["buffers"], strict=True):
                        state[path[0]] = base64.b64encode(buffer).decode()
                    kernel.states[self.comm_id] = state
                elif data.get("method") == "custom":
                    kernel.sent.append((self.comm_id, json.loads(json.dumps(data["content"], allow_nan=False))))

        monkeypatch.setattr(comm, "create_comm", Recorded)

    def ask(self, widget: Any, path: str, given: Any = None, **more: Any) -> Any:
        """The answer to a call as the page sends it, with other fields in `more`: {"status", "data"}."""
        kind = "GET" if given is None else "POST"
        call = {"id": f"test.{len(self.sent)}.{path}", "method": kind, "path": path, "body": given or {}} | more
        widget._handle_custom_msg(call, [])
        pause = threading.Event()
        for _ in range(2400):
            for name, content in list(self.sent):
                if name == widget.model_id and content.get("id") == call["id"]:
                    return content
            pause.wait(0.05)
        raise AssertionError(f"no answer to {path}")

    def events(self, kind: str) -> list[Any]:
        return [content["event"] for _, content in self.sent if content.get("event", {}).get("kind") == kind]


class WidgetPage:
    """A page with views of widgets."""

    def __init__(self, context: Any, kernel: Kernel) -> None:
        self.kernel = kernel
        self.page = context.new_page()
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda message: self.faults.extend([message.text] if message.type == "error" else []))
        self._widgets: dict[str, Any] = {}
        self._delivered = 0
        self.page.expose_function("toKernel", self._received)
        self.page.set_content(_PAGE)

    def show(self, widget: Any, place: str) -> None:
        """Open a view of a widget in an element of this id."""
        self._widgets[widget.model_id] = widget
        self.page.evaluate(_OPEN, [place, widget.model_id, self.kernel.states[widget.model_id]])

    def _received(self, name: str, text: str) -> None:
        self._widgets[name]._handle_custom_msg(json.loads(text), [])

    def pump(self) -> None:
        """Deliver what the widgets have sent."""
        while self._delivered < len(self.kernel.sent):
            name, content = self.kernel.sent[self._delivered]
            self._delivered += 1
            if name in self._widgets:
                self.page.evaluate("([name, content]) => window.models[name](content)", [name, content])

    def until(self, condition: Callable[[], bool]) -> None:
        """Deliver messages until something holds."""
        for _ in range(1200):
            self.pump()
            if condition():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("it did not come to this")

    def sees(self, selector: str) -> None:
        """Wait for an element, also within shadow roots."""
        self.until(lambda: bool(self.page.locator(selector).count()))
