"""Watch: first what there is, then what changes; the latest, and nothing kept for who is slow."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kanserve import repository
from kanserve.artifact.format import Artifact
from kanserve.artifact_compiler import compile
from kanserve.errors import DrainingError, InvalidNameError
from kanserve.serve.models.catalog import Catalog
from kanserve.serve.rpc.formula_service import LOOK, watch
from kanserve.serve.state import Call, ServerState
from kanserve.v1 import formula_pb2 as pb
from tests.support.networks import kans
from tests.support.servers import server_states

READY, UNAVAILABLE, REMOVED = pb.MODEL_STATE_READY, pb.MODEL_STATE_UNAVAILABLE, pb.MODEL_STATE_REMOVED
SETTLED = (READY, UNAVAILABLE, REMOVED)


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return compile(kans.one_edge(), ("numpy_source",))


class Listened(server_states.Fixed):
    """An empty table of models that counts who is told of its changes."""

    def __init__(self) -> None:
        super().__init__(Catalog({}, {}))
        self.listeners = 0

    def subscribe(self, changed: Callable[[Catalog], None]) -> Callable[[], None]:
        self.listeners += 1

        def end() -> None:
            self.listeners -= 1

        return end


class Stream:
    """A client that reads what it is told."""

    def __init__(self, state: ServerState, name: str = "") -> None:
        self.call: Call = server_states.call("Watch")
        self.listens = True
        self.call.alive = lambda: self.listens
        self.responses: Iterator[pb.WatchResponse] = watch(state, pb.WatchRequest(model_name=name), self.call)

    def next(self) -> list[tuple[str, str, int, bool]]:
        return [
            (version.model_name, version.model_version, version.state, version.newest)
            for version in next(self.responses).versions
        ]

    def until(self, *wanted: tuple[str, str, int, bool]) -> None:
        """Read until each of these is the last that was said of its version."""
        said: dict[tuple[str, str], tuple[str, str, int, bool]] = {}
        while any(said.get(event[:2]) != event for event in wanted):
            said |= {event[:2]: event for event in self.next()}


def test_the_first_response_has_every_version_and_says_so(tmp_path, artifact):
    for name in ("fox", "fox", "owl"):
        repository.publish(tmp_path, name, artifact)
    (tmp_path / "owl" / "1" / "golden.safetensors").write_bytes(b"")
    with server_states.served(tmp_path) as (state, _):
        first = next(Stream(state).responses)
        assert first.whole
        assert [
            (version.model_name, version.model_version, version.state, version.newest) for version in first.versions
        ] == [
            ("fox", "1", READY, False),
            ("fox", "2", READY, True),
            ("owl", "1", UNAVAILABLE, False),
        ]
        assert first.versions[2].reason == state.catalog.reasons["owl", 1]
        assert [event[0] for event in Stream(state, "owl").next()] == ["owl"]
        nothing = next(Stream(state, "hare").responses)
        assert nothing.whole and not nothing.versions


def test_what_changes_is_said_and_nothing_else(tmp_path, artifact):
    repository.publish(tmp_path, "fox", artifact)
    with server_states.served(tmp_path) as (state, models):
        everything, owls = Stream(state), Stream(state, "owl")
        assert everything.next() == [("fox", "1", READY, True)] and owls.next() == []
        repository.publish(tmp_path, "fox", artifact)
        models.refresh()
        everything.until(("fox", "1", READY, False), ("fox", "2", READY, True))
        repository.publish(tmp_path, "owl", artifact)
        models.refresh()
        everything.until(("owl", "1", READY, True))
        owls.until(("owl", "1", READY, True))
        models.unload("fox")
        gc.collect()
        everything.until(("fox", "1", UNAVAILABLE, False), ("fox", "2", UNAVAILABLE, False))
        models.load("fox")
        everything.until(("fox", "2", READY, True))


def test_a_version_that_is_gone_is_removed(tmp_path, artifact):
    repository.publish(tmp_path, "fox", artifact)
    with server_states.served(tmp_path) as (state, models):
        stream = Stream(state)
        stream.next()
        (tmp_path / "fox").rename(tmp_path / ".fox")
        models.refresh()
        gc.collect()
        stream.until(("fox", "1", REMOVED, False))


def test_a_slow_reader_is_told_the_latest_and_nothing_is_kept_for_it(tmp_path, artifact):
    repository.publish(tmp_path, "fox", artifact)
    with server_states.served(tmp_path) as (state, models):
        stream = Stream(state)
        stream.next()
        for _ in range(20):
            models.unload("fox")
            models.load("fox")
        repository.publish(tmp_path, "fox", artifact)
        models.refresh()
        gc.collect()
        while set(models.catalog.states.values()) != {"READY"}:  # until what was let go has ended
            time.sleep(0.01)
        told = stream.next()
        assert [event for event in told if event[2] in SETTLED][-2:] == [
            ("fox", "1", READY, False),
            ("fox", "2", READY, True),
        ]
        assert len(told) == 2


def test_a_stream_ends_within_a_second_of_its_client():
    table = Listened()
    with server_states.state(table) as state:
        stream = Stream(state)
        stream.next()
        rest: list[pb.WatchResponse] = []
        reader = threading.Thread(target=lambda: rest.extend(stream.responses))
        reader.start()
        stream.listens = False
        assert LOOK <= 1.0  # seconds between looks whether the client is there
        reader.join(60)
        assert not reader.is_alive() and not rest
        assert table.listeners == 0


def test_a_stream_that_is_closed_is_no_longer_told():
    table = Listened()
    with server_states.state(table) as state:
        stream = Stream(state)
        stream.next()
        assert table.listeners == 1
        stream.responses.close()  # type: ignore[attr-defined]  # it is a generator
        assert table.listeners == 0


def test_a_server_that_stops_ends_the_stream_so_that_the_client_asks_another():
    with server_states.state(server_states.Fixed(Catalog({}, {}))) as state:
        stream = Stream(state)
        stream.next()
        state.threads.close()
        with pytest.raises(DrainingError, match="Watch another"):
            stream.next()


@pytest.mark.parametrize("name", ["../fox", "Fox", "a" * 64, "fox\n"])
def test_what_can_be_no_model_is_refused_before_a_stream_begins(name):
    with server_states.state(server_states.Fixed(Catalog({}, {}))) as state, pytest.raises(InvalidNameError):
        watch(state, pb.WatchRequest(model_name=name), server_states.call())


def test_a_thousand_changes_leave_nothing_behind(tmp_path: Path):
    class Changing(server_states.Fixed):
        def subscribe(self, changed):
            self.changed = changed
            return lambda: None

    table = Changing(Catalog({}, {}))
    with server_states.state(table) as state:
        stream = Stream(state)
        stream.next()
        for number in range(1, 1001):
            table.catalog = Catalog({}, {("fox", number): "broken"})
            table.changed(table.catalog)
        assert stream.next() == [("fox", "1000", UNAVAILABLE, False)]
