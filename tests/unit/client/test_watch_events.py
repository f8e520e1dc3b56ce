"""Watching a server from a client, over connections that end."""

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from kanserve import repository
from kanserve.artifact.format import Artifact
from kanserve.artifact_compiler import compile
from kanserve.client import AsyncClient, Client, ModelEvent
from kanserve.errors import InvalidNameError, KanserveError, UnreachableError
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from kanserve.v1 import formula_pb2 as pb
from tests.support.networks import kans
from tests.support.peers import scripted_server
from tests.support.servers import server_process

GRACE = 60.0  # seconds that a server takes to stop if something keeps it
READY, UNAVAILABLE = pb.MODEL_STATE_READY, pb.MODEL_STATE_UNAVAILABLE


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return compile(kans.one_edge(), ("numpy_source",))


def managed(folder: Path, port: int = 0) -> Settings:
    return Settings(repository=str(folder), port=port, anonymous=("predict", "read", "manage"), grace_seconds=GRACE)


def until(events: Iterator[ModelEvent], *wanted: ModelEvent) -> None:
    left = set(wanted)
    for event in events:
        left.discard(event)
        if not left:
            return
    raise AssertionError(f"the stream ended without {left}")


def test_who_watches_hears_of_what_is_published_and_let_go(tmp_path, artifact):
    repository.publish(tmp_path, "fox", artifact)
    with start(managed(tmp_path)) as server, Client(server.address) as client:
        events = client.watch()
        assert next(events) == ModelEvent("fox", 1, "ready", newest=True)
        repository.publish(tmp_path, "fox", artifact)
        client.load("fox")
        until(events, ModelEvent("fox", 1, "ready"), ModelEvent("fox", 2, "ready", newest=True))
        client.unload("fox")
        until(events, ModelEvent("fox", 2, "unavailable", "It is unloaded. Load it to use it."))
        assert not client.ready("fox")


def test_a_server_that_comes_back_is_watched_again_and_only_what_changed_is_told(tmp_path, artifact):
    for name in ("fox", "fox", "owl"):
        repository.publish(tmp_path, name, artifact)
    with start(managed(tmp_path)) as server:
        port = server.port
        client = Client(server.address)
        events = client.watch()
        assert len([next(events) for _ in range(3)]) == 3
        came: list[ModelEvent] = []

        def read() -> None:
            for event in itertools.islice(events, 4):
                came.append(event)

        reader = threading.Thread(target=read)
        reader.start()
        begun = time.monotonic()
    assert time.monotonic() - begun < GRACE  # a stream does not keep a server from stopping
    (tmp_path / "fox" / "2").rename(tmp_path / "fox" / ".2")
    repository.publish(tmp_path, "hare", artifact)
    with start(managed(tmp_path, port)), client:
        while len(came) < 3 and reader.is_alive():
            time.sleep(0.01)
        repository.publish(tmp_path, "hare", artifact)
        client.load("hare")
        reader.join(60)
    assert not reader.is_alive()
    assert came[:3] == [
        ModelEvent("fox", 2, "removed"),
        ModelEvent("fox", 1, "ready", newest=True),
        ModelEvent("hare", 1, "ready", newest=True),
    ]
    assert came[3].name == "hare"


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_stream_that_breaks_is_made_again_with_longer_and_longer_pauses(asynchronous):
    times: list[float] = []

    def watch(request: bytes, context: grpc.ServicerContext) -> Iterator[pb.WatchResponse]:
        times.append(time.monotonic())
        if len(times) == 1 or len(times) > 4:
            state = pb.VersionState(model_name="fox", model_version=str(len(times)), state=READY, newest=True)
            yield pb.WatchResponse(versions=[state], whole=True)
        context.abort(grpc.StatusCode.UNAVAILABLE, "not now")

    wanted = [ModelEvent("fox", 1, "ready", newest=True), ModelEvent("fox", 1, "removed")]
    wanted.append(ModelEvent("fox", 5, "ready", newest=True))
    with scripted_server.serving({"Watch": watch}) as address:
        if asynchronous:

            async def ask() -> list[ModelEvent]:
                async with AsyncClient(address) as client:
                    found: list[ModelEvent] = []
                    async for event in client.watch("fox"):
                        found.append(event)
                        if len(found) == 3:
                            break
                    return found

            assert asyncio.run(ask()) == wanted
        else:
            with Client(address) as client:
                assert list(itertools.islice(client.watch("fox"), 3)) == wanted
    pauses = [after - before for before, after in itertools.pairwise(times[:5])]
    assert all(pause >= 0.05 * 2**number for number, pause in enumerate(pauses))


def test_what_cannot_be_watched_is_said_at_once(tmp_path, artifact):
    repository.publish(tmp_path, "fox", artifact)
    with start(managed(tmp_path)) as server, Client(server.address) as client, pytest.raises(InvalidNameError):
        next(client.watch("../fox"))
    with Client("127.0.0.1:1", retries=1) as nobody, pytest.raises(UnreachableError):
        next(nobody.watch())

    def refuse(request: bytes, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")

    with (
        scripted_server.serving({"Watch": refuse}) as address,
        Client(address) as client,
        pytest.raises(KanserveError, match="UNIMPLEMENTED"),
    ):
        next(client.watch())


def test_who_listens_no_longer_is_noticed_by_the_server(tmp_path, artifact):
    repository.publish(tmp_path, "fox", artifact)
    with start(managed(tmp_path)) as server, Client(server.address) as client:
        watching = [client.watch() for _ in range(3)]
        for watch in watching:
            next(watch)
        assert server.state.threads.gauges()["streams_open"] == 3
        for watch in watching:
            watch.close()  # type: ignore[attr-defined]  # it is a generator
        server_process.until(lambda: server.state.threads.gauges()["streams_open"] == 0)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_client_that_is_closed_ends_what_it_watches(asynchronous, tmp_path, artifact):
    repository.publish(tmp_path, "fox", artifact)
    with start(managed(tmp_path)) as server:
        if asynchronous:

            async def ask() -> list[ModelEvent]:
                client, found = AsyncClient(server.address), []

                async def listen() -> None:
                    async for event in client.watch():
                        found.append(event)

                listening = asyncio.create_task(listen())
                while not found:
                    await asyncio.sleep(0.01)
                await client.close()
                await asyncio.wait_for(listening, 60)
                return found

            assert len(asyncio.run(ask())) == 1
        else:
            client = Client(server.address)
            came: list[ModelEvent] = []

            def read() -> None:
                for event in client.watch():
                    came.append(event)

            reader = threading.Thread(target=read)
            reader.start()
            server_process.until(lambda: came)
            client.close()
            reader.join(60)
            assert not reader.is_alive()


def test_a_watcher_that_is_cancelled_in_asyncio_is_cancelled(tmp_path, artifact):
    repository.publish(tmp_path, "fox", artifact)

    async def ask(address: str) -> None:
        async with AsyncClient(address) as client:

            async def listen() -> None:
                async for _ in client.watch():
                    pass

            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(listen(), 0.3)
            assert await client.live()

    with start(managed(tmp_path)) as server:
        asyncio.run(ask(server.address))
