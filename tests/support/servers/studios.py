"""A studio in a thread of this process, its calls over HTTP, and the machine's Chromium to open its page."""

import base64
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from kanserve.network import serialization
from kanserve.network.kan import Kan
from kanserve.studio.opened_model import Opened
from kanserve.studio.page_files import STATIC
from kanserve.studio.process import Studio, StudioSettings
from tests.support.programs import skip, want
from tests.support.sessions import law

PAGE = {"/": (b"<!doctype html><title>page</title>", "text/html; charset=utf-8")}
CHROMIUM = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking"),
]


@dataclass(frozen=True)
class Answer:
    """What the server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Running:
    """A studio, and calls of it with the token or with other headers."""

    studio: Studio

    @property
    def host(self) -> str:
        return self.studio.origin.partition("//")[2]

    def network(self) -> Kan:
        """The network as the page downloads it."""
        (file,) = self.get("export/network")["files"]
        return serialization.loads(base64.b64decode(file["base64"]))

    def ask(self, path: str, body: Any = None, method: str = "", **headers: str | None) -> Answer:
        """A request as the page makes it; a header that is None is left out, others replace what the page sends."""
        connection = http.client.HTTPConnection(self.host, timeout=120)
        found: dict[str, str | None] = {"Host": self.host, "X-Kanserve-Token": self.studio.token}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if data is not None:
            found["Content-Type"] = "application/json"
        found |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.putrequest(method or ("GET" if data is None else "POST"), path, skip_host=True)
            for name, value in found.items():
                if value is not None:
                    connection.putheader(name, value)
            if data is not None and "Content-Length" not in found:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """The data of a call that succeeds."""
        return self._good(self.ask(f"/api/{path}"))

    def post(self, path: str, body: Any) -> Any:
        """The data of a call that succeeds."""
        return self._good(self.ask(f"/api/{path}", body))

    def step(self, kind: str, **fields: Any) -> Any:
        """The snapshot after a step."""
        base = self.get("snapshot")["view"]["revision"]
        return self.post("steps", {"base": base, "step": {"kind": kind, **fields}})

    def candidates(self, edge: str) -> list[Any]:
        found: list[Any] = self.get(f"edges/{quote(edge, safe='')}/candidates")["candidates"]
        return found

    @staticmethod
    def _good(answer: Answer) -> Any:
        assert answer.status == 200, answer.body
        return answer.data


@contextmanager
def running(
    opened: Opened, pages: Mapping[str, tuple[bytes, str]] | None = PAGE, server: str = ""
) -> Iterator[Running]:
    """A studio on a free port."""
    with answering(Studio(opened, StudioSettings(browser=False, server=server), pages)) as found:
        yield found


@contextmanager
def answering(studio: Studio) -> Iterator[Running]:
    """The studio while it runs in a thread."""
    ready = threading.Event()
    thread = threading.Thread(target=studio.run, args=(lambda address: ready.set(),))
    thread.start()
    try:
        assert ready.wait(60)
        yield Running(studio)
    finally:
        studio.stop()
        thread.join(60)
        assert not thread.is_alive()


def opened_law() -> Opened:
    """The network of `tests.support.sessions` with its rows."""
    kan, data = law()
    return Opened(kan, "law", data)


def needs_page() -> None:
    """Skip the test where the page is not built: only `make studio` builds it, with npm."""
    if not (STATIC / "index.html").is_file():
        skip("npm: 'make studio' has not built the page")


def needs_browser() -> str:
    """The path of Chromium; the test is skipped where it, playwright or the built page is missing."""
    import shutil

    import pytest

    pytest.importorskip("playwright")
    needs_page()
    path = shutil.which(want("chromium"))
    assert path is not None
    return path


def idle(given: object) -> str:
    """A job of a worker that takes a moment."""
    time.sleep(0.2)
    return "done"


def told_until_interrupted(given: object, report: Callable[[Any], None]) -> int:
    """How many long messages were sent before an interrupt: a job of a worker."""
    sent = 0
    try:
        # Python 3.13 does not cover the end of a while loop by the try around it, where an interrupt may come.
        for _ in range(100_000):
            report("x" * 300_000)  # longer than a pipe holds, so that most of the time is spent in sending
            sent += 1
    except KeyboardInterrupt:
        return sent
    raise AssertionError("nobody interrupted it")
