"""A process that computes one thing at a time within a limit of time, and can be interrupted.

What takes long runs here, so that the page stays alive, a refit that never ends can be ended, and a fit or a search
that is interrupted gives the best it has.
"""

import os
import pickle
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from time import monotonic
from typing import Any

from kanserve import errors
from kanserve.errors import BusyError, DeadlineError, DrainingError, KanserveError
from kanserve.formula import register_function
from kanserve.network.own_functions import OWN, OwnFunction

Report = Callable[[Any], None]

LONGEST_SEARCH_SECONDS = 3600.0


class Worker:
    """The process; it starts with the first call or `start`, and again after it was ended. `given` goes to each
    function as its first argument; it is sent once."""

    def __init__(self, given: Any = None) -> None:
        self._given = given
        self._turn = threading.Lock()
        self._starting = threading.Lock()
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._asks: Connection | None = None
        self._call = 0  # the number of the last call

    def start(self) -> None:
        """Start the process, so that the first call need not wait for it."""
        with self._starting:
            if self._process is not None and self._process.is_alive():
                return
            context = get_context("spawn")  # a fork of a process with threads may hang
            self._pipe, theirs = context.Pipe()
            asked, self._asks = context.Pipe(duplex=False)
            given = (theirs, asked, self._given)
            self._process = context.Process(target=_work, args=given, daemon=True, name="kanserve studio worker")
            # An interrupt waits until the process can hear it; before, it would end the process.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                self._process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
            asked.close()

    def run(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        seconds: float,
        report: Report | None = None,
        wait: bool = True,
    ) -> Any:
        """function(given, *arguments), and with a report=callable if `report` is given.

        KanserveErrors are raised here. DeadlineError after `seconds`, when the process is ended; BusyError without
        `wait` while something else runs.
        """
        if not self._turn.acquire(blocking=wait):
            raise BusyError("A step is being computed. Wait until it is done, then try again.")
        try:
            self.start()
            return self._answer(function, arguments, monotonic() + seconds, seconds, report)
        finally:
            self._turn.release()

    def _answer(
        self, function: Callable[..., Any], arguments: Any, deadline: float, seconds: float, report: Report | None
    ) -> Any:
        pipe = self._pipe
        if pipe is None:
            raise DrainingError("The studio is ending.")
        try:
            pipe.send(
                [own for registered in OWN.values() if (own := _pickle(registered)) is not None]
            )  # a network may have them
            self._call += 1
            pipe.send((self._call, function, arguments, report is not None))
            while pipe.poll(max(deadline - monotonic(), 0.0)):
                kind, value = pipe.recv()
                if kind == "event" and report is not None:
                    report(value)
                elif kind == "error":
                    raise _error(*value)
                elif kind == "answer":
                    return value
        except (EOFError, OSError):
            self.end()
            raise errors.TrainingError(
                "The process that computed this has ended, perhaps for want of memory."
            ) from None
        self.end()
        raise DeadlineError(f"This took more than {seconds:g} seconds and was stopped; nothing has changed.")

    def end_if_idle(self) -> None:
        """End the process unless something runs."""
        if self._turn.acquire(blocking=False):
            try:
                self.end()
            finally:
                self._turn.release()

    def interrupt(self) -> None:
        """Ask what runs to end now with the best it has."""
        process, asks = self._process, self._asks
        if process is not None and asks is not None and process.pid is not None and process.is_alive():
            with suppress(OSError):  # it has ended since
                asks.send_bytes(self._call.to_bytes(8))
                os.kill(process.pid, signal.SIGINT)

    def end(self) -> None:
        """End the process; the next call starts another."""
        with self._starting:
            process, self._process = self._process, None
            self._pipe = self._asks = None  # closed once nothing sends to it any more
            if process is not None:
                process.kill()
                process.join()


def _pickle(own_function: OwnFunction) -> bytes | None:
    """A function of the user's for the process; None where it has a callable that no other process can import."""
    try:
        return pickle.dumps(own_function.arguments())
    except (pickle.PicklingError, AttributeError, TypeError):
        return None


def _error(name: str, message: str) -> KanserveError:
    kind = getattr(errors, name, KanserveError)
    error: KanserveError = kind.__new__(kind)
    error.args = (message,)
    return error


class _Interrupts:
    """SIGINT as a KeyboardInterrupt, once for each call, and never in the middle of a message.

    A signal may come late, to a thread that waits for a processor, or before its call has come. So a pipe has the
    number of the call that is to end.
    """

    def __init__(self, asked: Connection) -> None:
        self.awaited = False
        self._asked = asked
        self._call = self._ended = 0  # the number of this call, and of the last one that was to end
        self._sending = False
        self._waits = False
        signal.signal(signal.SIGINT, self._came)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def begin(self, call: int) -> None:
        """A call begins, which ends at once if that was asked for before."""
        self._call, self.awaited = call, True
        self._came(signal.SIGINT, None)

    def _came(self, number: int, frame: Any) -> None:
        while self._asked.poll():
            self._ended = int.from_bytes(self._asked.recv_bytes())
        if self._ended != self._call:
            return
        if self._sending:
            self._waits = True
        elif self.awaited:
            self.awaited = False  # a second interrupt would end what makes the best so far
            raise KeyboardInterrupt

    def send(self, pipe: Connection, message: Any) -> None:
        """Send all of a message, then end what runs if that was asked for meanwhile."""
        self._waits, self._sending = False, True
        try:
            pipe.send(message)
        finally:
            self._sending = False
        if self._waits:
            self._came(signal.SIGINT, None)


def _work(pipe: Connection, asked: Connection, given: Any) -> None:
    """The process: answer calls until the other end is closed."""
    os.setsid()  # Ctrl-C in the terminal is for the server, which then ends this process
    os.nice(5)  # the page comes first
    threading.Thread(target=_end_with_parent, daemon=True).start()
    interrupts = _Interrupts(asked)
    with suppress(EOFError, OSError):
        while True:
            for own in pipe.recv():
                register_function(**pickle.loads(own))
            call, function, arguments, reports = pipe.recv()
            more = {"report": lambda event: interrupts.send(pipe, ("event", event))} if reports else {}
            try:
                interrupts.begin(call)
                answer = ("answer", function(given, *arguments, **more))
            except KanserveError as error:
                answer = ("error", (type(error).__name__, str(error)))
            except KeyboardInterrupt:
                answer = ("error", ("InputError", "This was cancelled; nothing has changed."))
            except (ArithmeticError, MemoryError, ValueError) as error:
                answer = ("error", ("TrainingError", f"This could not be computed: {type(error).__name__}: {error}."))
            finally:
                interrupts.awaited = False
            pipe.send(answer)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(0)


def seconds_of(wanted: float) -> float:
    """The seconds of a search that a page asks for, within the limits."""
    return min(max(float(wanted), 1.0), LONGEST_SEARCH_SECONDS)
