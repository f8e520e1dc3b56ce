"""What a supervisor and its workers say to each other, over a real pair of sockets."""

import json
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from queue import SimpleQueue
from typing import Any

import pytest

from kanserve.errors import DeadlineError, DrainingError, GoldenError, KanserveError, MissingDependencyError
from kanserve.serve.processes import ipc
from kanserve.serve.processes.ipc import Message, ProtocolError, SupervisorEnd, WorkerEnd


@contextmanager
def spoken(
    heard: Callable[[Message], None] = lambda message: None,
) -> Iterator[tuple[SupervisorEnd, WorkerEnd, threading.Event]]:
    """Both ends, and what is set once the worker's end has noticed the end of the other."""
    ours, theirs = ipc.pair()
    ended = threading.Event()
    line = WorkerEnd(theirs, heard, ended.set)
    line.start()
    with closing(SupervisorEnd(ours)) as ears:
        yield ears, line, ended
    assert ended.wait(60)


def received(ears: SupervisorEnd, most: int) -> list[Message]:
    messages: list[Message] = []
    with selectors.DefaultSelector() as selector:
        selector.register(ears.end, selectors.EVENT_READ)
        while len(messages) < most and selector.select(5):
            messages += ears.receive()
    return messages


def test_what_a_worker_tells_comes_whole_and_in_order_however_large():
    with spoken() as (ears, line, _):
        large = "fox\n" * 200_000

        def tell() -> None:
            for n in range(30):
                line.tell("counts", n=n, text=large[: n**4])

        teller = threading.Thread(target=tell)
        teller.start()
        got = received(ears, 30)
        teller.join()
    assert got == [{"tell": "counts", "n": n, "text": large[: n**4]} for n in range(30)]


def test_a_question_is_answered_with_a_value_or_an_error_whoever_else_asks():
    with spoken() as (ears, line, _):
        answers: SimpleQueue[Any] = SimpleQueue()

        def ask(n: int) -> None:
            try:
                answers.put((n, line.ask("load", 5, name=str(n))))
            except KanserveError as error:
                answers.put((n, str(error)))

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for asked in reversed(received(ears, 6)):
            n = int(asked["name"])
            said = {"value": 10 * n} if n % 2 else {"error": ipc.encode_error(GoldenError(f"no {n}"))}
            ears.send({"answer": asked["id"], **said})
        for thread in threads:
            thread.join()
    got = dict(answers.get() for _ in range(6))
    assert got == {n: 10 * n if n % 2 else f"no {n}" for n in range(6)}


def test_who_gets_no_answer_is_told_so_and_an_answer_that_comes_too_late_is_nobodys():
    with spoken() as (ears, line, _):
        with pytest.raises(DeadlineError, match="not answered"):
            line.ask("load", 0.01, name="fox")
        (asked,) = received(ears, 1)
        ears.send({"answer": asked["id"], "value": None})
        line.tell("ready")
        assert received(ears, 1) == [{"tell": "ready"}]


def test_the_end_of_the_supervisor_is_noticed_and_ends_what_waits():
    ours, theirs = ipc.pair()
    ended = threading.Event()
    line = WorkerEnd(theirs, lambda message: None, ended.set)
    line.start()
    failed: SimpleQueue[Exception] = SimpleQueue()

    def ask() -> None:
        try:
            line.ask("load", 30, name="fox")
        except KanserveError as error:
            failed.put(error)

    waiting = threading.Thread(target=ask)
    waiting.start()
    ears = SupervisorEnd(ours)
    received(ears, 1)
    ears.close()
    assert isinstance(failed.get(timeout=60), DrainingError) and ended.wait(60)
    waiting.join()
    with pytest.raises(DrainingError):
        line.tell("ready")


def test_the_end_of_a_worker_is_noticed_after_what_it_said_last():
    ours, theirs = ipc.pair()
    ears = SupervisorEnd(ours)
    theirs.sendall(json.dumps({"tell": "counts"}).encode() + b"\n")
    theirs.close()
    assert list(ears.receive()) == [{"tell": "counts"}]
    with pytest.raises(ProtocolError):
        list(ears.receive())
    ears.send({"ask": "refresh"})  # to nobody: no error
    ears.close()


@pytest.mark.parametrize("garbage", [b"fox\n", b"[]\n", b'{"a"\n', b"\xff\n", b"x" * (ipc.MAX_BYTES + 1)])
def test_what_is_no_message_ends_the_channel(garbage):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    ears = SupervisorEnd(ours)
    sender = threading.Thread(target=_send, args=(theirs, garbage))
    sender.start()
    with pytest.raises(ProtocolError):
        while True:
            list(ears.receive())
    ears.close()
    sender.join()
    theirs.close()


def _send(end: socket.socket, data: bytes) -> None:
    try:
        end.sendall(data)
    except OSError:
        return  # the other end has had enough


def test_a_worker_that_does_not_read_keeps_nobody_waiting():
    ours, theirs = ipc.pair()
    ears = SupervisorEnd(ours)
    for n in range(20):
        ears.send({"ask": "refresh", "n": n, "text": "x" * 100_000})
    assert ears.unsent > 0
    got = b""
    while got.count(b"\n") < 20:
        got += theirs.recv(2**16)
        ears.flush()
    assert [json.loads(line)["n"] for line in got.splitlines()] == list(range(20)) and ears.unsent == 0
    ears.close()
    theirs.close()


def test_an_error_is_of_the_same_kind_at_the_other_end_and_an_unknown_one_keeps_its_text():
    for error in (GoldenError("It differs."), DrainingError("Over.")):
        got = ipc.decode_error(ipc.encode_error(error))
        assert type(got) is type(error) and str(got) == str(error)
    assert "secret" not in str(ipc.decode_error(ipc.encode_error(RuntimeError("a secret"))))
    missing = MissingDependencyError("onnxruntime", "onnx")
    assert str(ipc.decode_error(ipc.encode_error(missing))) == str(missing)
    assert type(ipc.decode_error(["Exit", "fox"])) is KanserveError
