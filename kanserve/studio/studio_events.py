"""Events for the pages that listen: what has changed, what is being computed and how far it is, what is served."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

from kanserve.studio.page_views import plain
from kanserve.studio.studio_limits import STUDIO

Event = dict[str, Any]


class Events:
    """Tells every listener each event; `tell` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[asyncio.Queue[Event | None], asyncio.AbstractEventLoop] = {}
        self._closed = False

    def tell(self, kind: str, **more: Any) -> None:
        """An event of this kind."""
        self._send({"kind": kind, **plain(more)})

    def close(self) -> None:
        """End all listening."""
        self._closed = True
        self._send(None)

    def _send(self, event: Event | None) -> None:
        with self._lock:
            listeners = list(self._listeners.items())
        for queue, loop in listeners:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_put, queue, event)

    async def listen(self) -> AsyncIterator[Event]:
        """The events from now on."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(STUDIO.events_kept)
        with self._lock:
            self._listeners[queue] = asyncio.get_running_loop()
        try:
            while not self._closed and (event := await queue.get()) is not None:
                yield event
        finally:
            with self._lock:
                del self._listeners[queue]


def _put(queue: "asyncio.Queue[Event | None]", event: Event | None) -> None:
    if queue.full():  # the page reads the whole state after it has missed events
        queue.get_nowait()
    queue.put_nowait(event)
