"""Requests that wait for one model of onnxruntime are computed in one call, and each gets what is its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from kanserve import native, repository
from kanserve.artifact_compiler import compile
from kanserve.errors import DataError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.network.evaluate import evaluate
from kanserve.network.training_range import sample
from kanserve.serve.server import Server, ServingRuntime
from kanserve.serve.settings import Settings
from kanserve.serve.transport.native import TOGETHER
from tests.support.servers import serving
from tests.support.servers.loop_server import needs_native
from tests.support.servers.server_process import until

PATIENCE = 60


@pytest.fixture(autouse=True)
def _without_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """With them the loop answers by itself."""
    monkeypatch.setattr(native, "operators", lambda: None)


class Held:
    """A server of one thread whose model first waits for `gate`; `calls` has the rows of each call."""

    def __init__(self, server: Any, answer: Any) -> None:
        self.server, self._answer = server, answer
        self.gate, self.calls = threading.Event(), list[np.ndarray]()

    def predict(self, x: np.ndarray) -> Any:
        self.calls.append(x.copy())
        self.gate.wait(PATIENCE)
        return self._answer(x)


@contextmanager
def held(folder: Any, name: str, kind: str = "onnx_graph", **settings: Any) -> Iterator[tuple[Held, Any]]:
    needs_native()
    repository.publish(folder, name, compile(serving.kan(name), [kind], name=name))
    wanted = Settings(str(folder), port=0, transport="native", threads=1, **settings)
    # Without spare threads, so that nobody takes what waits for the thread that is held.
    counted = ServingRuntime(wanted, spare=0)
    with Server(wanted, counted=counted) as server, grpc.insecure_channel(server.address) as channel:
        backend = server.catalog.find(name).backend
        made = Held(server, backend.predict)
        object.__setattr__(backend, "predict", made.predict)
        try:
            yield made, wire.stub(channel)
        finally:
            made.gate.set()


def request(name: str, x: np.ndarray) -> pb.ModelInferRequest:
    datatype = {"float64": "FP64", "float32": "FP32"}[x.dtype.name]
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=x.shape)
    return pb.ModelInferRequest(model_name=name, inputs=[tensor], raw_input_contents=[x.tobytes()])


def queued(made: Held, stub: Any, requests: list[pb.ModelInferRequest]) -> list[Any]:
    """The calls of these requests; all but the first wait for it."""
    first = stub.ModelInfer.future(requests[0], timeout=PATIENCE)
    until(lambda: len(made.calls) == 1)
    rest = [stub.ModelInfer.future(one, timeout=PATIENCE) for one in requests[1:]]
    until(lambda: made.server.state.threads.accepted == len(requests))
    return [first, *rest]


@pytest.mark.parametrize("name", ["mixed", "iris", "wide"])
def test_requests_that_wait_are_computed_together_and_each_gets_its_rows(tmp_path, name):
    x = sample(serving.kan(name), 60, seed=1)
    parts = np.split(x, np.cumsum([1, 2, 3, 1, 1, 4] * 4))
    with held(tmp_path, name) as (made, stub):
        calls = queued(made, stub, [request(name, part) for part in parts])
        made.gate.set()
        for call, part in zip(calls, parts, strict=True):
            got = call.result().raw_output_contents[0]
            wanted = evaluate(serving.kan(name), part)
            np.testing.assert_allclose(np.frombuffer(got).reshape(wanted.shape), wanted, rtol=1e-9)
        sizes = [len(rows) for rows in made.calls]
        assert sum(sizes) == len(x) and len(sizes) == 1 + -(-(len(parts) - 1) // TOGETHER)
        until(lambda: made.server.state.threads.accepted == 0)


def test_rows_of_another_type_or_that_are_refused_do_not_change_those_beside_them(tmp_path):
    x = sample(serving.kan("mixed"), 9, seed=1)
    with held(tmp_path, "mixed") as (made, stub):
        answer = made._answer

        def faulty(rows: np.ndarray) -> Any:
            if (rows == x[5]).all(axis=1).any():
                raise DataError("not this row")
            return answer(rows)

        made._answer = faulty
        rows = [x[n : n + 1].astype(np.float32 if n == 3 else np.float64) for n in range(len(x))]
        calls = queued(made, stub, [request("mixed", one) for one in rows])
        made.gate.set()
        for number, call in enumerate(calls):
            if number == 5:
                assert call.code() == grpc.StatusCode.INVALID_ARGUMENT and "not this row" in call.details()
                continue
            (got,) = call.result().raw_output_contents
            wanted = evaluate(serving.kan("mixed"), rows[number])
            np.testing.assert_allclose(
                np.frombuffer(got, rows[number].dtype), wanted[0], rtol=1e-5 if number == 3 else 1e-9
            )
    assert all(len({type(value) for value in rows.ravel()}) == 1 for rows in made.calls)


def test_no_more_requests_are_computed_together_than_may_compute_at_once(tmp_path):
    x = sample(serving.kan("mixed"), 13, seed=1)
    with held(tmp_path, "mixed", concurrency=1) as (made, stub):
        calls = queued(made, stub, [request("mixed", x[n : n + 1]) for n in range(len(x))])
        made.gate.set()
        assert [len(call.result().raw_output_contents) for call in calls] == [1] * len(x)
        assert [len(rows) for rows in made.calls] == [1] * len(x)


def test_the_rows_of_a_numpy_module_which_is_code_are_computed_alone(tmp_path):
    x = sample(serving.kan("mixed"), 5, seed=1)
    with held(tmp_path, "mixed", kind="numpy_source") as (made, stub):
        calls = queued(made, stub, [request("mixed", x[n : n + 1]) for n in range(len(x))])
        made.gate.set()
        assert all(call.code() == grpc.StatusCode.OK for call in calls) and len(made.calls) == len(x)
