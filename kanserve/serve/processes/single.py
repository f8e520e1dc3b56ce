"""A single-process server, from start to drain."""

import math
import os
import signal
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from kanserve.errors import KanserveError
from kanserve.serve.models.loader import Models
from kanserve.serve.models.loading_queue import when_done
from kanserve.serve.processes import lifecycle
from kanserve.serve.server import Server, ServingRuntime, check_free
from kanserve.serve.settings import Settings


class Looked(NamedTuple):
    """The result of a look at the repository, after a signal or a poll interval."""

    error: BaseException | None
    quiet: bool


Came = int | Looked  # what the main thread waits for: a signal, or the result of a look


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, then drain; SIGHUP looks for new versions. Returns the exit code."""
    check_free(settings)  # to fail before a large repository is loaded
    events: SimpleQueue[Came] = SimpleQueue()  # reentrant, so that signal handlers may put into it
    counted = ServingRuntime(settings)
    models = Models(settings, counted.meters)
    models.subscribe(counted.meters.changed)
    server: Server | None = None
    with lifecycle.heard(events.put, signal.SIGHUP):  # until the end: by default it would kill a draining server
        with lifecycle.heard(events.put, signal.SIGTERM, signal.SIGINT):
            server = _Alone(settings, counted, models, events).until_told()
            models.close()
        if server is not None and not server.stop(last=True):
            lifecycle.cut_off(settings)
        if server is not None and server.stuck:
            os._exit(0)  # the interpreter's end would take from the loop's thread what that uses
    return 0


class _Alone:
    def __init__(
        self,
        settings: Settings,
        counted: ServingRuntime,
        models: Models,
        events: SimpleQueue[Came],
    ) -> None:
        self._settings, self._counted, self._models = settings, counted, models
        self._events = events
        self._said: dict[str, Any] = {}
        self._unread = ""  # why the repository could not be read the last time
        self._server: Server | None = None
        self._polling = False  # a poll is under way; it does not wait for loads, so slow ones do not delay the next one
        self._again = False  # look again after the initial load, since SIGHUP came during it

    def until_told(self) -> Server | None:
        """Serve until a signal. Returns the server, or None if the signal came before it was created."""
        self._look(quiet=False)
        while True:
            polls = self._settings.model_control == "poll" and self._server is not None and not self._polling
            try:
                came = lifecycle.wait(self._events, self._settings.poll_seconds if polls else math.inf)
            except Empty:
                self._polling = True
                self._look(quiet=True)
                continue
            if isinstance(came, Looked):
                self._take(came)
            elif came != signal.SIGHUP:
                lifecycle.tell_systemd("STOPPING=1")
                return self._server
            elif self._server is not None:
                self._server.reopen()
                self._look(quiet=False)
            else:
                self._again = True

    def _take(self, came: Looked) -> None:
        """Announce what a look at the repository found; the first look starts the server."""
        error, quiet = came
        if quiet:
            self._polling = False
        if error is None:
            self._unread = ""
            if self._server is None:
                self._server = Server(self._settings, models=self._models, counted=self._counted)
            self._announce(self._server, quiet)
            if self._again:
                self._again = False
                self._look(quiet=False)
        elif self._server is None or not isinstance(error, KanserveError | OSError):
            raise error
        else:
            if not quiet or str(error) != self._unread:  # not again at each poll
                lifecycle.say(f"the repository cannot be read, nothing changed: {error}")
            self._unread = str(error)

    def _look(self, quiet: bool) -> None:
        """Look at the repository: for a poll if `quiet`, else for a signal, which is reported once all is loaded."""

        def put_looked(look: Future[list[Future[None]]]) -> None:
            error = look.exception()
            changes = [] if error or quiet else look.result()
            when_done(changes, lambda: self._events.put(Looked(error, quiet)))

        self._models.look(retry=not quiet).add_done_callback(put_looked)

    def _announce(self, server: Server, quiet: bool) -> None:
        summary = lifecycle.summary(self._models.catalog)
        if not quiet or summary != self._said:
            lifecycle.tell_changes(self._said, summary)
            lifecycle.announce(summary, self._settings, server.address, server.urls, server.transport)
        self._said = summary
