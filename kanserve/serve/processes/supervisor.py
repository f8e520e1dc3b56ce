"""The supervisor of several serving processes: it starts them, replaces those that end, and rolls out model changes.

It has one thread, creates no grpc objects, and forks, so that its workers share the memory of its imports. It binds the
port without listening, which reserves it while workers come and go; each worker listens on it, and the kernel spreads
the connections.

A model change is made by one worker first, so that a version which crashes the loading process crashes only one.
"""

import gc
import os
import selectors
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from kanserve.errors import InputError, KanserveError
from kanserve.serve import sockets
from kanserve.serve.observability import metrics
from kanserve.serve.processes import ipc, lifecycle, worker
from kanserve.serve.processes.ipc import Message, ProtocolError, SupervisorEnd
from kanserve.serve.processes.restart_policy import Breaker, Quarantine, how
from kanserve.serve.processes.rollout import Change, Changing, Counting
from kanserve.serve.settings import Settings
from kanserve.serve.state import Snapshot

_OVERTIME = 5.0  # seconds after the grace period until a draining worker is killed
_LAST_PIECES = 1000  # most reads of the remaining messages of an ended worker
LOOK_SECONDS = 10.0  # between checks for silent workers: a ready worker sends something every second
_SILENT = 3  # checks, not seconds, so that no worker is blamed after the machine was suspended
_AGAIN = 1.0  # seconds until a failed fork is retried


@dataclass(eq=False)
class Worker:
    """A worker process."""

    pid: int
    ears: SupervisorEnd
    since: float | None = None  # when it was ready
    loading: tuple[str, int] | None = None
    counts: Snapshot | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    transport: str = ""
    silent: int = 0  # the number of checks since its last message
    ending: bool = False  # it is draining, and sends nothing meanwhile


@dataclass(eq=False)
class WorkerSlot:
    """A slot that has a worker, or will have one."""

    number: int
    worker: Worker | None = None
    breaker: Breaker = field(default_factory=Breaker)
    due: float | None = 0.0  # when the next worker starts; None while there is one


def fork(start: worker.Start, others: Iterable[Worker], selector: selectors.BaseSelector) -> Worker:
    """Fork a worker. `others` are the running ones. Raises OSError if the system lacks resources."""
    ours, theirs = ipc.pair()
    # A signal right after the fork would run this process's handlers in the child.
    signal.pthread_sigmask(signal.SIG_BLOCK, worker.SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            selector.close()
            ours.close()
            for sibling in others:  # a channel only ends once all its holders have closed it
                sibling.ears.close()
            worker.run_child(start, theirs)
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, worker.SIGNALS)
    return Worker(pid, SupervisorEnd(ours))


def run(settings: Settings, workers: int) -> int:
    """Serve with this many processes until SIGTERM or SIGINT, then drain them; SIGHUP looks for new versions."""
    if settings.unix_socket:
        raise InputError("Only one process can listen on a socket file. Set workers to 1, or give a port.")
    with ExitStack() as held:
        port = held.enter_context(sockets.reserve_port(settings.host, settings.port))
        http_port = settings.http_port
        if http_port >= 0:
            http_port = held.enter_context(sockets.reserve_port(settings.host_of_http(), http_port))
        return _Supervisor(replace(settings, port=port, http_port=http_port), workers).run()


class _Supervisor:
    def __init__(self, settings: Settings, workers: int) -> None:
        self._settings = settings
        self._places = [WorkerSlot(number) for number in range(workers)]
        self._quarantine = Quarantine()
        self._changing = Changing(self._quarantine.reasons)
        self._counting: dict[int, Counting] = {}
        self._numbers = count(1)
        self._selector = selectors.DefaultSelector()
        self._ended: Snapshot | None = None  # the counts of workers that are gone
        self._restarts = 0
        self._announced = self._new = False
        self._address = ""
        self._unread: list[str] | None = None  # why the repository could not be read the last time
        self._stopping = 0  # how many stop signals have arrived
        self._deadline = float("inf")  # when draining workers are killed
        self._next_poll = float("inf")
        self._said: dict[str, Any] = {}
        self._next_look = time.monotonic() + LOOK_SECONDS
        self._error: KanserveError | None = None

    def run(self) -> int:
        wake, woken = socket.socketpair()
        for end in (wake, woken):
            end.setblocking(False)
        self._selector.register(woken, selectors.EVENT_READ, None)
        came: list[int] = []
        gc.collect()
        gc.freeze()  # keeps the collector from writing to these objects, so that their pages stay shared with workers
        before = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        try:
            with lifecycle.heard(came.append, *worker.SIGNALS):
                self._loop(came, woken)
        finally:
            signal.set_wakeup_fd(before)
            gc.unfreeze()
            wake.close()
            woken.close()
            self._selector.close()
        if self._error is not None:
            raise self._error
        return 0

    def _loop(self, came: list[int], woken: socket.socket) -> None:
        while not (self._stopping and not any(self._workers())):
            for key, events in self._selector.select(self._pause()):
                if key.data is None:
                    _drain(woken)
                elif key.data.worker is not None and key.fileobj is key.data.worker.ears.end:
                    self._speak_with(key.data, events)
            while came:
                self._signal(came.pop(0))
            self._reap()
            self._on_time(time.monotonic())
            for running in self._workers():
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if running.ears.unsent else 0)
                self._selector.modify(running.ears.end, events, self._selector.get_key(running.ears.end).data)

    def _workers(self) -> Iterator[Worker]:
        return (slot.worker for slot in self._places if slot.worker is not None)

    def _ready(self) -> list[Worker]:
        return [running for running in self._workers() if running.since is not None]

    # Time

    def _pause(self) -> float | None:
        times = [slot.due for slot in self._places if slot.due is not None and not self._stopping]
        times += [counting.deadline for counting in self._counting.values()]
        times += [self._deadline]
        if not self._stopping:
            times += [self._next_poll, self._next_look, self._changing.deadline]
        first = min(times)
        return None if first == float("inf") else max(0.0, first - time.monotonic())

    def _on_time(self, now: float) -> None:
        for slot in self._places:
            if slot.due is not None and slot.due <= now and not self._stopping:
                self._start(slot)
        for number, counting in list(self._counting.items()):
            if counting.deadline <= now:
                self._tell_counts(number)
        if self._deadline <= now:
            self._deadline = float("inf")
            lifecycle.say("some processes have not ended in time and are killed")
            for running in self._workers():
                os.kill(running.pid, signal.SIGKILL)
        if not self._stopping:
            self._look(now)
            self._change(now)

    def _look(self, now: float) -> None:
        """Kill workers that have been silent for long: they hang, and block their connections and every rollout."""
        if self._next_look > now:
            return
        self._next_look = now + LOOK_SECONDS
        for slot in self._places:
            hung = slot.worker
            if hung is None or hung.since is None or hung.ending:
                continue
            hung.silent += 1
            if hung.silent > _SILENT:
                lifecycle.say(f"worker {slot.number}, process {hung.pid}, hangs and is killed")
                os.kill(hung.pid, signal.SIGKILL)

    def _change(self, now: float) -> None:
        if self._next_poll <= now:
            self._next_poll = now + self._settings.poll_seconds
            self._changing.add(Change("refresh", quiet=True))
        if self._new and self._changing.idle:
            self._new = False
            self._compare()
        self._changing.go_on(self._ready(), self._numbers, now)
        while finished := self._changing.finished():
            for change in finished:
                self._finish(change)
            self._changing.go_on(self._ready(), self._numbers, now)

    def _compare(self) -> None:
        """Make all workers look for versions if a new worker has found newer ones than the rest."""
        first, *rest = [ready.summary["loaded"] for ready in self._ready()] or [None]
        if any(loaded != first for loaded in rest):
            self._changing.add(Change("refresh", quiet=True))

    # Signals

    def _signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._changing.add(Change("refresh"))
        elif number in (signal.SIGTERM, signal.SIGINT):
            self._stop()

    def _stop(self) -> None:
        self._stopping += 1
        lifecycle.tell_systemd("STOPPING=1")
        self._deadline = time.monotonic() + self._settings.grace_seconds + lifecycle.FAREWELL + _OVERTIME
        for running in self._workers():
            os.kill(running.pid, signal.SIGTERM if self._stopping == 1 else signal.SIGKILL)

    # Workers

    def _start(self, place: WorkerSlot) -> None:
        settings, loaded, unloaded = self._settings, set(self._changing.loaded), set(self._changing.unloaded)
        if self._announced and settings.model_control == "explicit":
            # A restarted worker must not fail because a model named at the first start is gone by now.
            loaded |= set(settings.load) - unloaded
            settings = replace(settings, load=())
        start = worker.Start(settings, place.number, self._quarantine.reasons, sorted(loaded), sorted(unloaded))
        try:
            place.worker, place.due = fork(start, self._workers(), self._selector), None
        except OSError as error:
            place.due = time.monotonic() + _AGAIN
            lifecycle.say(f"worker {place.number} cannot start: {error.strerror}; trying again")
            return
        self._selector.register(place.worker.ears.end, selectors.EVENT_READ, place)

    def _reap(self) -> None:
        """Reap ended processes; as PID 1 of a container, also orphans."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for slot in self._places:
                if slot.worker is not None and slot.worker.pid == pid:
                    self._lose(slot, slot.worker, os.waitstatus_to_exitcode(status))

    def _lose(self, place: WorkerSlot, lost: Worker, status: int) -> None:
        for _ in range(_LAST_PIECES):  # bounded, since an orphaned child of the worker may hold its end open
            if not self._hear(place, lost):
                break
        self._selector.unregister(lost.ears.end)
        lost.ears.close()
        place.worker = None
        if lost.counts is not None:
            gone = metrics.keep_counters(lost.counts)
            self._ended = gone if self._ended is None else metrics.merge([self._ended, gone])
        for number, counting in list(self._counting.items()):
            counting.waiting.discard(lost.pid)
            if not counting.waiting or counting.asker is lost:
                self._tell_counts(number)
        self._changing.forget_worker(lost.pid, place.number)
        if self._stopping:
            return
        self._restarts += 1
        if lost.loading is not None and self._quarantine.ended(lost.loading, status):
            name, version = lost.loading
            lifecycle.say(
                f"version {version} of {name!r} is not loaded again: {self._quarantine.reasons[lost.loading]}"
            )
        now = time.monotonic()
        pause = place.breaker.ended(now, status, None if lost.since is None else now - lost.since)
        place.due = now + pause
        if place.breaker.open:
            self._changing.gave_up(place.number)
        if self._error is None:
            after = f"in {pause:g} seconds" if pause else "now"
            lifecycle.say(f"worker {place.number}, process {lost.pid}, {how(status)}; another takes its place {after}")
            self._announce_at_last()
        else:
            self._stop()

    # What they say

    def _speak_with(self, place: WorkerSlot, events: int) -> None:
        assert place.worker is not None  # the caller has checked
        if events & selectors.EVENT_WRITE:
            place.worker.ears.flush()
        if events & selectors.EVENT_READ and not self._hear(place, place.worker):
            # It has closed its end, or sent an invalid message: either way it is useless.
            os.kill(place.worker.pid, signal.SIGKILL)

    def _hear(self, place: WorkerSlot, child: Worker) -> bool:
        """Handle the messages that have arrived. Returns False once the worker is gone."""
        try:
            for message in child.ears.receive():
                child.silent = 0
                self._understand(place, child, message)
        except ProtocolError:
            return False
        return True

    def _understand(self, place: WorkerSlot, child: Worker, message: Message) -> None:
        match message:
            case {"tell": "loading", "model": name, "version": version}:
                child.loading = (name, version)
                if [name, version] in child.summary.get("loaded", ()):
                    self._quarantine.replaced((name, version))
            case {"tell": "ending"}:  # as requested, so what it was loading is not to blame
                child.loading, child.ending = None, True
            case {"tell": "counts", "snapshot": counts}:
                child.counts = counts
            case {"tell": "ready", "address": address, "urls": urls, "transport": transport, **summary}:
                child.since, child.urls, child.transport = time.monotonic(), urls, transport
                self._address, self._new = address, True
                place.breaker.ready()
                self._note_loaded(child, summary)
                self._changing.add_worker(child, place.number)
                self._announce_at_last()
            case {"tell": "failed", "error": error}:
                child.loading, failed = None, ipc.decode_error(error)
                if self._announced:
                    lifecycle.say(f"worker {place.number}: {failed}")
                elif self._error is None and not self._stopping:  # else it failed because it was stopped
                    self._error = failed
            case {"ask": "snapshot", "id": number}:
                self._count(child, number)
            case {"ask": "load" | "unload" as what, "id": number, "name": name}:
                self._changing.add(Change(what, name, asker=(child, number)))
            case {"answer": number, "value": value}:
                self._take_answer(child, number, value)

    def _note_loaded(self, child: Worker, summary: dict[str, Any]) -> None:
        child.loading, child.summary = None, summary
        self._quarantine.loaded((name, version) for name, version in summary["loaded"])

    def _announce_at_last(self) -> None:
        """Announce the served models once each worker is ready or keeps crashing; stop the server if none is ready."""
        if self._announced or not all(
            slot.breaker.open or (slot.worker and slot.worker.since) for slot in self._places
        ):
            return
        if not self._ready():
            self._error = KanserveError("All worker processes end before they are ready.")
            self._stop()
            return
        self._announced = True
        self._announce()
        if self._settings.model_control == "poll":
            self._next_poll = time.monotonic() + self._settings.poll_seconds

    def _take_answer(self, child: Worker, number: int, value: Any) -> None:
        if counting := self._counting.get(number):
            child.counts = value
            counting.waiting.discard(child.pid)
            if not counting.waiting:
                self._tell_counts(number)
        else:
            before, now = child.summary, {"loaded": value["loaded"], "reasons": value["reasons"]}
            self._note_loaded(child, now)
            if value["loading"]:
                name, version = value["loading"][0]
                child.loading = (name, version)
            self._changing.answered(child.pid, number, value["error"], before != now)

    # Changes and counts

    def _finish(self, change: Change) -> None:
        if change.asker is not None:
            asker, number = change.asker
            said = {"value": None} if change.error is None else {"error": change.error}
            asker.ears.send({"answer": number, **said})
        if change.what != "refresh":
            return
        if change.error is not None:
            if not change.quiet or change.error != self._unread:  # not again at each poll
                lifecycle.say(f"the repository cannot be read, nothing changed: {ipc.decode_error(change.error)}")
        elif not change.quiet or change.changed:
            self._announce()
        self._unread = change.error

    def _announce(self) -> None:
        for first in self._ready()[:1]:
            lifecycle.tell_changes(self._said, first.summary)
            self._said = first.summary
            processes = len(self._ready())
            lifecycle.announce(first.summary, self._settings, self._address, first.urls, first.transport, processes)

    def _count(self, asker: Worker, question: int) -> None:
        number = next(self._numbers)
        counting = Counting(asker, question, {ready.pid for ready in self._ready()}, time.monotonic() + 1.0)
        self._counting[number] = counting
        for ready in self._ready():
            ready.ears.send({"ask": "snapshot", "id": number})

    def _tell_counts(self, number: int) -> None:
        counting = self._counting.pop(number)
        if any(running is counting.asker for running in self._workers()):
            known = [running.counts for running in self._workers() if running.counts is not None]
            merged = metrics.merge([*known, *([self._ended] if self._ended is not None else [])])
            value = {**merged, "restarts": self._restarts}
            counting.asker.ears.send({"answer": counting.question, "value": value})


def _drain(woken: socket.socket) -> None:
    try:
        while woken.recv(4096):
            pass
    except BlockingIOError:
        return
