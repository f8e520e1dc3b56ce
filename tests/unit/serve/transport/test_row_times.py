"""Whether the loop computes rows by itself depends on how long they took before: no wait of its thread changes that."""

import ctypes
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kanserve.inference import grpc_service_pb2 as pb
from kanserve.serve.transport import native_library as native
from kanserve.serve.transport.native_request import NativeRequest
from kanserve.v1 import formula_pb2
from tests.support.peers.http2_peer import Peer
from tests.support.servers.loop_server import DIFFERENTIATE, INFER, SECOND, LoopServer
from tests.support.servers.protocol_calls import OK
from tests.support.servers.server_process import until

ROW = np.array([[0.25, -0.5]])
# A call of Python takes less than a thousandth of the budget, so that four in a row never miss it by chance.
BUDGET = SECOND // 50
STALL = 0.3  # seconds: an eighth of it, as much as a moving average would take, is beyond the budget too
LEARNS = 4  # longer times until the loop takes them for the truth
PAUSE = 1000  # times what a trial takes, until the next one
_SIZES = (ctypes.c_void_p, ctypes.c_size_t)
_PREDICT = ctypes.CFUNCTYPE(ctypes.c_int, *_SIZES, ctypes.c_size_t, *_SIZES)
_DIFFERENTIATE = ctypes.CFUNCTYPE(ctypes.c_int, *_SIZES, ctypes.c_size_t, *_SIZES, *_SIZES)


class Timed:
    """A model of two inputs whose functions, which only the loop calls, take `seconds`; and the server's answers to
    what the loop hands out. Both are counted."""

    def __init__(self, guess: float = 1000.0) -> None:
        self.seconds = 0.0
        self.inline = self.handed_out = 0
        self.finite = True
        self.told = 0  # nanoseconds that rows took which were handed out
        self._functions = _PREDICT(self._compute), _DIFFERENTIATE(self._compute)
        ends = [np.full(2, sign, kind) for kind in (np.float64, np.float32) for sign in (-1, 1)]
        counters, computing = np.zeros(native.COUNT_OUTSIDE + 2, np.int64), np.zeros(1, np.int64)
        self._arrays = (*ends, counters, computing)
        low, high = ([ends[place].ctypes.data for place in places] for places in ((0, 2), (1, 3)))
        self.served = native.ServedModel(
            name=b"timed",
            version=1,
            draws_below=2**32,
            predict=ctypes.cast(self._functions[0], ctypes.c_void_p),
            gradient=ctypes.cast(self._functions[1], ctypes.c_void_p),
            inputs=2,
            outputs=1,
            max_rows=64,
            max_gradient_rows=64,
            low=(ctypes.c_void_p * 2)(*low),
            high=(ctypes.c_void_p * 2)(*high),
            counters=counters.ctypes.data,
            computing=computing.ctypes.data,
        )
        self.served.cost.nanoseconds = self.served.gradient_cost.nanoseconds = guess

    def rows(self, event: native.Event) -> tuple[bytes, int]:
        self.handed_out += 1
        return bytes(8), self.told

    def unary(self, message: bytes, context: NativeRequest) -> None:
        self.handed_out += 1
        context.answer(b"")

    def _compute(self, *arguments: Any) -> int:
        self.inline += 1
        if self.seconds:
            time.sleep(self.seconds)
        return int(not self.finite)


def asked(peer: Peer, path: str) -> Callable[[], None]:
    """A call that asks for one row."""
    if path == INFER:
        tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=ROW.shape)
        request: Any = pb.ModelInferRequest(model_name="timed", inputs=[tensor], raw_input_contents=[ROW.tobytes()])
    else:
        rows = formula_pb2.Float64Array(shape=ROW.shape, values=ROW.tobytes())
        request = formula_pb2.DifferentiateRequest(model_name="timed", rows=rows)
    message = request.SerializeToString()

    def call() -> None:
        assert peer.ask(path, message).status == OK

    return call


@pytest.fixture(params=[INFER, DIFFERENTIATE], ids=["ModelInfer", "Differentiate"])
def path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("stalls", [1, LEARNS - 1])
def test_after_a_stall_of_its_thread_the_loop_answers_as_before(path, stalls):
    model = Timed()
    with LoopServer(model.unary, rows=model.rows, inline_budget=BUDGET) as server, Peer(server.address) as peer:
        server.publish(model.served)
        call = asked(peer, path)
        call()
        model.seconds = STALL
        for _ in range(stalls):
            call()
        model.seconds = 0.0
        for _ in range(20):
            call()
        assert (model.inline, model.handed_out) == (1 + stalls + 20, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "finite"),
    [(INFER, True), (DIFFERENTIATE, True), (DIFFERENTIATE, False)],
    ids=["ModelInfer", "Differentiate", "not finite"],
)
def test_a_slow_model_holds_up_the_loop_for_a_few_rows_and_then_hardly_ever(path, finite):
    """Also if its derivatives are not finite, so that others answer."""
    model = Timed()
    model.seconds, model.finite = 1.5 * BUDGET / SECOND, finite
    model.told = round(model.seconds * SECOND)
    with LoopServer(model.unary, rows=model.rows, inline_budget=BUDGET) as server, Peer(server.address) as peer:
        server.publish(model.served)
        call, begun = asked(peer, path), time.monotonic()
        for _ in range(100):
            call()
        trials = (time.monotonic() - begun) / (PAUSE * model.seconds)
        assert LEARNS <= model.inline <= LEARNS + trials
        assert model.handed_out == 100 - model.inline * finite


@pytest.mark.slow
def test_an_estimate_that_is_too_long_is_corrected_by_a_trial(path):
    """Though the threads that get the rows wait for a core too, and so tell as much."""
    budget = SECOND // 1000
    model = Timed(guess=1.5 * budget)
    model.told = 2 * budget
    with LoopServer(model.unary, rows=model.rows, inline_budget=budget) as server, Peer(server.address) as peer:
        server.publish(model.served)
        call = asked(peer, path)
        peer.open()  # for any number of answers

        def two_are_computed_inline() -> bool:
            before = model.inline
            call()
            call()
            return model.inline == before + 2

        call()
        assert (model.inline, model.handed_out) == (0, 1)
        until(two_are_computed_inline)


def test_rows_that_are_handed_out_correct_an_estimate_that_is_too_long():
    model = Timed(guess=10.0 * BUDGET)
    model.told = BUDGET // 2
    with LoopServer(model.unary, rows=model.rows, inline_budget=BUDGET) as server, Peer(server.address) as peer:
        server.publish(model.served)
        call = asked(peer, INFER)
        for _ in range(5):
            call()
        assert (model.inline, model.handed_out) == (4, 1)
