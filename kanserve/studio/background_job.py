"""A job that runs on while the studio answers: it tells each thing it finds, and can be cancelled."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from kanserve.errors import BusyError, KanserveError
from kanserve.studio.events import Events
from kanserve.studio.worker import Worker


class BackgroundJob:
    """A job of one kind, at most one at a time. Its events are of that kind and have `running`."""

    def __init__(self, kind: str, events: Events) -> None:
        self._kind = kind
        self._events = events
        self._beginning = threading.Lock()
        self._worker: Worker | None = None
        self._is_to_end = False
        self.running = False

    def begin(
        self,
        worker: Worker,
        job: Callable[..., Any],
        *arguments: Any,
        seconds: float,
        take: Callable[[Any], Mapping[str, Any]],
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """Run a job on a worker. `take` gets what it gives and says what the last event tells; `after` always runs.

        BusyError while one runs.
        """
        with self._beginning:
            if self.running:
                raise BusyError(f"One {self._kind} is running. Wait until it is done, or cancel it.")
            self.running, self._is_to_end, self._worker = True, False, worker

        def run() -> None:
            self._events.tell(self._kind, running=True)
            told: Mapping[str, Any] = {}
            try:
                told = take(worker.run(job, *arguments, seconds=seconds, report=self._report))
            except KanserveError as error:
                told = {} if self._is_to_end else {"error": str(error)}  # who ends it knows why there is nothing
            finally:
                self.running = False
                after()
            self._events.tell(self._kind, running=False, **told)

        threading.Thread(target=run, daemon=True).start()

    def _report(self, now: Mapping[str, Any]) -> None:
        self._events.tell(self._kind, running=True, **now)
        if self._is_to_end and self._worker is not None:  # it was cancelled before the process could hear it
            self._worker.interrupt()

    def cancel(self) -> None:
        """End it now with what it has, or as soon as it has something."""
        if self.running and self._worker is not None:
            self._is_to_end = True
            self._worker.interrupt()
