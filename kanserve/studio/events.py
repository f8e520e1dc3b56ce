"""Events for the pages that listen: what has changed, what is being computed and how far it is, what is served."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from kanserve.studio.page_views import plain

Event = dict[str, Any]
Listener = Callable[[Event | None], None]

KEPT = 100  # that a slow listener may have waiting before older ones are dropped


class Events:
    """Tells every listener each event, and None at the end; `tell` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self._closed = False

    def tell(self, kind: str, **more: Any) -> None:
        self._send({"kind": kind, **plain(more)})

    def close(self) -> None:
        """End all listening."""
        self._closed = True
        self._send(None)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each event from now on, on the thread that tells it; what this returns ends that."""
        with self._lock:
            self._listeners.append(listener)
        return lambda: self._leave(listener)

    @property
    def heard(self) -> bool:
        """Whether anyone listens."""
        return bool(self._listeners)

    def _leave(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.remove(listener)

    def _send(self, event: Event | None) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener(event)

    async def listen(self) -> AsyncIterator[Event]:
        queue: asyncio.Queue[Event | None] = asyncio.Queue(KEPT)
        loop = asyncio.get_running_loop()

        def hear(event: Event | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_put, queue, event)

        leave = self.subscribe(hear)
        try:
            while not self._closed and (event := await queue.get()) is not None:
                yield event
        finally:
            leave()


def _put(queue: "asyncio.Queue[Event | None]", event: Event | None) -> None:
    if queue.full():  # the page reads the whole state after it has missed events
        queue.get_nowait()
    queue.put_nowait(event)
