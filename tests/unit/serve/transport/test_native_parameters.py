"""Parameters that change nothing cost nothing: such requests are answered on the loop, and as grpcio answers them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest

from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.network.evaluate import evaluate
from kanserve.serve.rpc.message_limits import MAX_DESCRIPTION_BYTES
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from tests.support.servers import serving
from tests.support.servers.loop_server import needs_native
from tests.support.servers.request_parameters import IGNORED, REFUSED, Parameters, request

MODEL, X = "raw", np.array([[0.25, 0.5]])
PATH = f"/{wire.SERVICE_NAME}/ModelInfer"
TRIES = 30  # a request in whose computing another process was served makes the loop hand out the next ones


class Both(NamedTuple):
    native: Any
    grpcio: Any
    computed: Callable[[], int]  # when the loop last computed


@pytest.fixture(scope="module")
def both(repository):
    """ModelInfer of both transports, from bytes."""
    needs_native()
    with (
        start(Settings(str(repository), port=0, transport="native")) as native,
        start(Settings(str(repository), port=0, transport="grpcio")) as grpcio,
        grpc.insecure_channel(native.address) as one,
        grpc.insecure_channel(grpcio.address) as other,
    ):
        decode = pb.ModelInferResponse.FromString
        yield Both(
            one.unary_unary(PATH, None, decode), other.unary_unary(PATH, None, decode), native.state.threads._computed
        )


def on_the_loop(both: Both, message: bytes) -> bool:
    """Whether it is answered on the loop's thread, at least once in some tries."""
    for _ in range(TRIES):
        before = both.computed()
        both.native(message, timeout=60)
        if both.computed() != before:
            return True
    return False


def refusals(both: Both, message: bytes) -> list[tuple[grpc.StatusCode, str | None]]:
    found = []
    for ask in (both.native, both.grpcio):
        with pytest.raises(grpc.RpcError) as refused:
            ask(message, timeout=60)
        found.append((refused.value.code(), refused.value.details()))
    return found


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("case", IGNORED)
def test_what_changes_nothing_is_answered_on_the_loop_and_alike(both, case, raw):
    message = request(MODEL, X, raw, IGNORED[case]).SerializeToString()
    assert both.native(message, timeout=60) == both.grpcio(message, timeout=60)
    assert on_the_loop(both, message)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("case", REFUSED)
def test_what_would_change_the_answer_is_refused_alike(both, case, raw):
    one, other = refusals(both, request(MODEL, X, raw, REFUSED[case]).SerializeToString())
    assert one == other and one[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert "not supported" in (one[1] or "")


def with_parameter(entry: bytes) -> bytes:
    """A request with a parameter, as it is encoded."""
    return request(MODEL, X, True, ({}, {}, {})).SerializeToString() + bytes([4 << 3 | 2, len(entry)]) + entry


@pytest.mark.parametrize(
    ("entry", "on_loop"),
    [
        (b"", True),  # no name, no value
        (b"\x0a\1a", True),
        (b"\x0a\1a\x12\2\x28\1", True),  # uint64_param
        (b"\x0a\1a\x12\4\x08\1\x10\2", True),  # a bool, then an integer: the last one counts
        (b"\x0a\1a\x0a\1b", False),  # two names
        (b"\x0a\1a\x12\0\x12\0", False),  # two values
        (b"\x0a\1a\x18\1", False),  # a field that is not known
        (b"\x0a\1a\x12\2\x30\1", False),  # a kind of value that is not known
        (b"\x0a\1a\x12\3\x0a\1x", False),  # a bool as bytes
    ],
)
def test_an_unusual_parameter_is_left_to_the_general_path_and_answered_alike(both, entry, on_loop):
    message = with_parameter(entry)
    expected = evaluate(serving.kan(MODEL), X)[0]
    answer = both.native(message, timeout=60)
    assert answer == both.grpcio(message, timeout=60)
    np.testing.assert_allclose(np.frombuffer(answer.raw_output_contents[0]), expected, rtol=1e-9)
    assert on_the_loop(both, message) is on_loop


@pytest.mark.parametrize(
    "entry",
    [
        b"\x0a\2\xff\xfe",  # a name that is not text
        b"\x0a\1a\x12\4\x1a\2\xff\xfe",  # such a value
        b"\x0a\5a",  # cut off
        b"\x0a\1a\x12\2\x21\0",  # a double of one byte
    ],
)
def test_a_broken_parameter_is_refused_alike(both, entry):
    one, other = refusals(both, with_parameter(entry))
    assert one == other and one[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_parameters_may_be_as_long_as_the_rest_of_a_message_may(both):
    def message(length: int) -> bytes:
        given: Parameters = {"a": "x" * length}
        return request(MODEL, X, True, (given, {}, {})).SerializeToString()

    fits = MAX_DESCRIPTION_BYTES - 100
    fits += MAX_DESCRIPTION_BYTES - (len(message(fits)) - X.nbytes)
    assert on_the_loop(both, message(fits))
    assert both.grpcio(message(fits), timeout=60)
    one, other = refusals(both, message(fits + 1))
    assert one == other and str(MAX_DESCRIPTION_BYTES) in (one[1] or "")
