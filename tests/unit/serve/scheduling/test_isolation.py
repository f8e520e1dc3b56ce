"""A model that sleeps, breaks or is slow leaves the others as they were.

What is claimed here cannot fail on a slow machine: while as many calls as may wait are in a model that does not answer
before it is told to, the calls of another model are answered. How much longer they take is measured by
`make bench-serving`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import numpy as np
import pytest

from kanserve import repository
from kanserve.inference import wire
from kanserve.network.evaluate import evaluate
from kanserve.serve.server import Server, start
from kanserve.serve.settings import Settings
from tests.support.servers import serving
from tests.support.servers.server_process import until
from tests.support.servers.serving import BREAK, WAIT, infer_request

PATIENCE = 60.0  # seconds; only a failure takes as long
ROWS = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 1, 2))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A repository of two models that wait, each for a FIFO of its own, and a fast one; and the FIFOs."""
    root = tmp_path_factory.mktemp("isolation")
    fifos = []
    for number in range(2):
        fifos.append(root / f"fifo{number}")
        os.mkfifo(fifos[-1])
        repository.publish(root / "models", f"slow{number}", serving.waiting(fifos[-1]))
    repository.publish(root / "models", "fast", serving.artifact("iris"))
    return root / "models", fifos


@contextmanager
def serve(root: Path, **more: Any) -> Iterator[tuple[Server, Any]]:
    settings = Settings(repository=str(root), port=0, threads=2, **more)
    with start(settings) as server, grpc.insecure_channel(server.address) as channel:
        yield server, wire.stub(channel)


def answered_right(stub: Any) -> None:
    """The fast model answers each of its rows, and right."""
    for row in ROWS:
        answer = stub.ModelInfer(infer_request("fast", row), timeout=PATIENCE)
        got = np.frombuffer(answer.raw_output_contents[0]).reshape(1, -1)
        np.testing.assert_allclose(got, evaluate(serving.kan("iris"), row), rtol=1e-9)


def computing(server: Server, model: str, count: int) -> None:
    """Wait until a model computes so many requests."""
    until(lambda: server.state.threads.requests_computing().get(model, 0) == count, PATIENCE)


@pytest.mark.slow
def test_models_that_sleep_leave_the_threads_to_others(places):
    root, fifos = places
    with serve(root, concurrency=16) as (server, stub):
        waiting = [
            stub.ModelInfer.future(infer_request(f"slow{number}", np.array([[WAIT]])), timeout=PATIENCE)
            for number in range(2)
            for _ in range(16)
        ]
        with open(fifos[0], "w"), open(fifos[1], "w"):  # each opens once its model waits
            for number in range(2):
                computing(server, f"slow{number}", 16)
            answered_right(stub)
            # One more of a sleeping model is refused, and takes no place.
            with pytest.raises(grpc.RpcError) as refused:
                stub.ModelInfer(infer_request("slow0", np.array([[0.5]])), timeout=PATIENCE)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            answered_right(stub)
            assert not any(future.done() for future in waiting)
        for future in waiting:
            assert future.result(PATIENCE).model_name.startswith("slow")


def test_a_model_that_always_breaks_leaves_the_others_as_they_were(places, caplog):
    root, _ = places
    with serve(root) as (_, stub):
        request = infer_request("slow0", np.array([[BREAK]]))
        broken = [stub.ModelInfer.future(request, timeout=PATIENCE) for _ in range(50)]
        answered_right(stub)
        assert {future.code() for future in broken} == {grpc.StatusCode.INTERNAL}
    # Each is named in the log, but its whole story is not told fifty times.
    failed = [record for record in caplog.records if "ModelInfer slow0: RuntimeError" in record.getMessage()]
    assert len(failed) == 50 and 1 <= sum(record.exc_info is not None for record in failed) < 50


def test_clients_that_do_not_send_their_message_leave_the_threads_to_others(places):
    root, _ = places
    ended = Event()

    def silent() -> Iterator[bytes]:
        ended.wait(PATIENCE)
        yield from ()

    with serve(root, transport="grpcio") as (server, stub), grpc.insecure_channel(server.address) as plain:
        channel: Any = plain  # typed as if it needed a serializer
        begin = channel.stream_unary(f"/{wire.SERVICE_NAME}/ModelInfer")
        unsaid = [begin.future(silent(), timeout=PATIENCE) for _ in range(8)]
        until(lambda: server.state.threads.accepted == 8, PATIENCE)
        answered_right(stub)
        ended.set()
        assert {future.code() for future in unsaid} == {grpc.StatusCode.INVALID_ARGUMENT}
