"""What is asked again, when, and for how long; against a server that fails as it is told to."""

import asyncio
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from kanserve import repository
from kanserve.artifact_compiler import compile
from kanserve.client import AsyncClient, Client
from kanserve.client.retrying import delay
from kanserve.errors import BusyError, DeadlineError, DrainingError, KanserveError, UnreachableError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.serve.server import start
from tests.support.networks import kans
from tests.support.peers import scripted_server
from tests.support.peers.scripted_server import Failing
from tests.support.servers import server_process

Y = pb.ModelInferResponse(
    model_name="fox",
    model_version="3",
    outputs=[pb.ModelInferResponse.InferOutputTensor(name="y", datatype="FP64", shape=[1, 1])],
    raw_output_contents=[bytes(8)],
)


def draining(request: bytes, context: grpc.ServicerContext) -> pb.ModelInferResponse:
    context.set_trailing_metadata((("kanserve-error", "DrainingError"),))
    context.abort(grpc.StatusCode.UNAVAILABLE, "The server is stopping.")
    raise AssertionError


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_call_that_finds_no_server_is_made_again_under_the_same_name(asynchronous):
    failing = Failing(3, Y)
    with scripted_server.serving({"ModelInfer": failing}) as address:
        if asynchronous:

            async def ask() -> int:
                async with AsyncClient(address) as client:
                    assert (await client.predict("fox", [[1.0]])).shape == (1, 1)
                    return client.retried

            assert asyncio.run(ask()) == 3
        else:
            with Client(address) as client:
                assert client.predict("fox", [[1.0]]).shape == (1, 1)
                assert client.retried == 3
    assert len(failing.ids) == 4 and len(set(failing.ids)) == 1


@pytest.mark.slow
def test_each_attempt_has_what_is_left_of_the_time():
    failing = Failing(3, Y)
    with scripted_server.serving({"ModelInfer": failing}) as address, Client(address, timeout=6.0) as client:
        begun = time.monotonic()
        client.predict("fox", [[1.0]])
        took = time.monotonic() - begun
    assert max(failing.left) <= 6.1  # the server's clock, and grpc rounds up
    # After pauses of at least 0.05, 0.1 and 0.2 s; grpc sends a time again that is within 3 % of the one before.
    assert 0.97 * (6.0 - took) <= failing.left[-1] <= 0.97 * 6.0


@pytest.mark.slow
@pytest.mark.extended
def test_attempts_end_with_the_time_that_a_call_has():
    failing = Failing(1000, Y)
    with (
        scripted_server.serving({"ModelInfer": failing}) as address,
        Client(address, timeout=3.0, retries=9) as client,
        pytest.raises((UnreachableError, DeadlineError)) as caught,  # the latter if the time ends in an attempt
    ):
        client.predict("fox", [[1.0]])
    # The pauses are at least 0.05, 0.1, 0.2, 0.4 and 0.8 s long; another of 1.6 s would end after the time.
    assert 2 <= len(failing.ids) <= 6
    (note,) = caught.value.__notes__
    assert failing.ids[0] in note and re.search("tried [2-6] times", note) and address in note


def test_attempts_are_as_many_as_are_allowed_and_the_last_error_is_raised():
    failing = Failing(1000, Y)
    with (
        scripted_server.serving({"ModelInfer": failing}) as address,
        Client(address, retries=2) as client,
        pytest.raises(UnreachableError, match="not now"),
    ):
        client.predict("fox", [[1.0]])
    assert len(failing.ids) == 3
    with (
        scripted_server.serving({"ModelInfer": draining}) as address,
        Client(address, retries=0) as client,
        pytest.raises(DrainingError, match="stopping"),
    ):
        client.predict("fox", [[1.0]])


def test_a_call_that_a_server_cuts_off_when_it_ends_is_made_again():
    failing = Failing(1, Y, grpc.StatusCode.CANCELLED)
    with scripted_server.serving({"ModelInfer": failing}) as address, Client(address) as client:
        client.predict("fox", [[1.0]])
    forever = Failing(1000, Y, grpc.StatusCode.CANCELLED)
    with (
        scripted_server.serving({"ModelInfer": forever}) as address,
        Client(address, retries=1) as client,
        pytest.raises(UnreachableError, match="ended before it answered"),
    ):
        client.predict("fox", [[1.0]])
    assert (len(failing.ids), len(forever.ids)) == (2, 2)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_server_that_is_busy_is_not_asked_again(asynchronous):
    failing = Failing(1000, Y, grpc.StatusCode.RESOURCE_EXHAUSTED)
    with scripted_server.serving({"ModelInfer": failing}) as address:
        if asynchronous:

            async def ask() -> None:
                async with AsyncClient(address) as client:
                    await client.predict("fox", [[1.0]])

            with pytest.raises(BusyError, match="busy"):
                asyncio.run(ask())
        else:
            with Client(address) as client, pytest.raises(BusyError, match="busy"):
                client.predict("fox", [[1.0]])
    assert len(failing.ids) == 1


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS])
def test_another_failure_is_not_tried_again_and_names_the_request(code):
    failing = Failing(1000, Y, code)
    with (
        scripted_server.serving({"ModelInfer": failing}) as address,
        Client(address) as client,
        pytest.raises(KanserveError, match=f"{code.name}: not now") as caught,
    ):
        client.predict("fox", [[1.0]])
    assert len(failing.ids) == 1 and failing.ids[0] in str(caught.value)


def test_loading_and_unloading_are_asked_once():
    load, unload = (Failing(1000, pb.RepositoryModelLoadResponse()) for _ in range(2))
    with (
        scripted_server.serving({"RepositoryModelLoad": load, "RepositoryModelUnload": unload}) as address,
        Client(address) as client,
    ):
        with pytest.raises(UnreachableError):
            client.load("fox")
        with pytest.raises(UnreachableError):
            client.unload("fox")
    assert len(load.ids) == len(unload.ids) == 1


def test_who_asks_whether_a_server_is_ready_wants_to_know_now():
    failing = Failing(1000, pb.ServerReadyResponse())
    with scripted_server.serving({"ServerReady": failing}) as address, Client(address) as client:
        assert not client.ready()
    assert len(failing.ids) == 1


@pytest.mark.slow
@pytest.mark.extended
def test_a_server_that_comes_back_on_its_port_is_found_again():
    with Client("127.0.0.1:1", timeout=60.0) as nobody, pytest.raises(UnreachableError):
        nobody.predict("fox", [[1.0]])
    with scripted_server.serving({"ModelInfer": Failing(0, Y)}) as address, Client(address) as client:
        client.predict("fox", [[1.0]])
        port = address
    with Client(port, timeout=60.0) as client:
        with pytest.raises(UnreachableError):
            client.predict("fox", [[1.0]])
        with scripted_server.serving({"ModelInfer": Failing(0, Y)}, port):
            client.predict("fox", [[1.0]])


def test_a_restart_of_the_server_costs_no_answer(tmp_path):
    repository.publish(tmp_path, "fox", compile(kans.one_edge(), ("numpy_source",)))
    answers, over = [], threading.Event()

    def ask(client: Client) -> None:
        while not over.is_set():
            answers.append(client.predict("fox", [[0.5]])[0, 0])

    with ThreadPoolExecutor(3) as threads:
        with start(tmp_path, port=0) as server:
            client = Client(server.address, retries=20, channels=2)
            asking = [threads.submit(ask, client) for _ in range(3)]
            server_process.until(lambda: len(answers) >= 30)
        before = len(answers)
        with client, start(tmp_path, port=server.port):
            while len(answers) < before + 30 and not any(future.done() for future in asking):
                time.sleep(0.02)
            over.set()
            for future in asking:
                future.result(timeout=60)
    assert before and len(set(answers)) == 1 and client.retried > 0


def test_pauses_double_with_chance_in_them_and_have_an_end():
    assert all(0.05 <= delay(1) <= 0.1 for _ in range(50))
    assert all(0.1 <= delay(2) <= 0.2 for _ in range(50))
    assert all(2.5 <= delay(1000) <= 5.0 for _ in range(50))
    assert len({delay(3) for _ in range(20)}) > 1
