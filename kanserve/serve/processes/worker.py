"""A worker process, forked by a supervisor: it serves on the shared port, and changes its models when told to."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from queue import SimpleQueue
from socket import socket
from typing import Any

from kanserve.errors import DrainingError, KanserveError
from kanserve.serve.models.loader import Models
from kanserve.serve.processes import lifecycle
from kanserve.serve.processes.ipc import Message, WorkerEnd, encode_error
from kanserve.serve.processes.restart_policy import Version
from kanserve.serve.processes.rollout import WorkerControl
from kanserve.serve.scheduling import cpus, switch_interval
from kanserve.serve.server import Server, ServingRuntime
from kanserve.serve.settings import Settings

_STUCK = 3  # pushes without a turn of the loop, not seconds, as the machine may have been suspended
PUSH_SECONDS = 1.0  # between unrequested metrics, so that few are lost if this process is killed
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)  # that a supervisor handles
_END = 0


@dataclass(frozen=True)
class Start:
    """The arguments of a new worker; its settings have the shared port."""

    settings: Settings
    number: int
    refused: dict[Version, str] = field(default_factory=dict)
    loaded: Collection[str] = ()  # by hand
    unloaded: Collection[str] = ()


def main(start: Start, end: socket) -> int:
    """Serve until SIGTERM, or until the supervisor is gone. Returns the exit code."""
    ended: SimpleQueue[int] = SimpleQueue()
    for ignored in (
        signal.SIGINT,
        signal.SIGHUP,
    ):  # a terminal sends them to all processes; the supervisor handles them
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with lifecycle.heard(ended.put, signal.SIGTERM), switch_interval.own_process():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if start.settings.pin:
            cpus.pin(start.number)
        return _Worker(start, end, ended).work()


class _Worker:
    def __init__(self, start: Start, end: socket, ended: SimpleQueue[int]) -> None:
        self._start, self._ended = start, ended
        self._line = WorkerEnd(end, self._hear, lambda: ended.put(_END))
        self._refused = dict(start.refused)
        self._counted = ServingRuntime(start.settings, start.number)
        self._meters = self._counted.meters
        self._server: Server | None = None
        self._error: KanserveError | None = None

    def work(self) -> int:
        self._line.start()
        try:
            self._models = Models(self._start.settings, self._meters, self._refused, self._loading)
        except KanserveError as error:
            self._fail(error)
            return 1
        begins = threading.Thread(target=self._begin, name="kanserve-changes", daemon=True)
        begins.start()
        lifecycle.wait(self._ended)
        self._tell("ending")
        self._models.close()
        begins.join(lifecycle.FAREWELL)  # the interpreter should not end while a thread is in a C++ library
        if self._server is not None:
            done = self._server.stop(last=True)
            self._tell("counts", snapshot=self._meters.snapshot())
            if not done:
                lifecycle.cut_off(self._start.settings)
        return 0 if self._error is None else 1

    def _begin(self) -> None:
        try:
            self._server = self._serving()
        except DrainingError:  # stopped while it was loading
            return
        except Exception as error:
            self._fail(error)
            return
        self._tell(
            "ready",
            address=self._server.address,
            urls=self._server.urls,
            transport=self._server.transport,
            **lifecycle.summary(self._server.models.catalog),
        )
        threading.Thread(target=self._push, name="kanserve-counts", daemon=True).start()

    def _serving(self) -> Server:
        """A listening server, after loading the models of the first start and those loaded by hand since."""
        start, counted = self._start, self._counted
        models = self._models
        models.subscribe(counted.meters.changed)
        for name in start.unloaded:
            self._by_hand(models.unload, name)
        models.refresh()
        for name in start.loaded:
            self._by_hand(models.load, name)
        control = WorkerControl(self._line)
        return Server(start.settings, models=models, control=control, counted=counted, shared=True)

    def _by_hand(self, change: Callable[[str], object], name: str) -> None:
        try:
            change(name)
        except KanserveError as error:
            lifecycle.say(f"{name!r}: {error}")

    def _fail(self, error: Exception) -> None:
        self._error = error if isinstance(error, KanserveError) else KanserveError("internal error")
        if not isinstance(error, KanserveError | OSError):
            traceback.print_exception(error)
        self._tell("failed", error=encode_error(error if not isinstance(error, OSError) else KanserveError(str(error))))
        self._ended.put(_END)

    def _loading(self, model: str, version: int) -> None:
        self._tell("loading", model=model, version=version)

    def _hear(self, message: Message) -> None:
        """Called on the reading thread; slow changes run on other threads."""
        if message["ask"] == "snapshot":
            self._answer(message, self._meters.snapshot())
        else:
            # A thread for each, so that a slow model delays no other; changes of one model arrive in order.
            threading.Thread(target=self._change, args=(message,), name="kanserve-change", daemon=True).start()

    def _change(self, message: Message) -> None:
        self._refused.update({(name, version): reason for name, version, reason in message["refused"]})
        failed: Exception | None = None
        try:
            match message["ask"]:
                case "load":
                    self._models.load(message["name"])
                case "unload":
                    self._models.unload(message["name"])
                case "refresh":
                    if not message["quiet"] and self._server is not None:
                        self._server.reopen()
                    self._models.refresh(retry=not message["quiet"])
        except Exception as error:
            if not isinstance(error, KanserveError | OSError):
                traceback.print_exception(error)
            failed = KanserveError(str(error)) if isinstance(error, OSError) else error
        catalog = self._models.catalog
        loading = [list(key) for key, state in catalog.changing.items() if state == "LOADING"]
        self._answer(
            message, {**lifecycle.summary(catalog), "loading": loading, "error": failed and encode_error(failed)}
        )

    def _push(self) -> None:
        before, silent = None, 0
        while self._ended.empty():
            self._tell("counts", snapshot=self._meters.snapshot())
            time.sleep(PUSH_SECONDS)
            turns = self._server.turns() if self._server is not None else None
            silent = silent + 1 if turns is not None and turns == before else 0
            before = turns
            if silent >= _STUCK:
                lifecycle.say("the loop has not turned for some seconds, a model computes without end: it is killed")
                os.kill(os.getpid(), signal.SIGKILL)  # another takes its place; nothing less ends the loop's thread

    def _tell(self, what: str, **fields: Any) -> None:
        try:
            self._line.tell(what, **fields)
        except DrainingError:
            return  # the reading thread notices the end of the channel

    def _answer(self, message: Message, value: Any) -> None:
        try:
            self._line.answer(message, value)
        except DrainingError:
            return


def run_child(start: Start, end: socket) -> None:
    """Run a forked process and exit: no code of its parent may run after it."""
    code = 1
    try:
        code = main(start, end)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
