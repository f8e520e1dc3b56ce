"""ExportSource: what is streamed is what was published, in parts, or it is refused."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kanserve import repository
from kanserve.artifact import format as artifact_format
from kanserve.artifact_compiler import compile
from kanserve.errors import InputError, IntegrityError, InvalidNameError, KanserveError, NotFoundError
from kanserve.serve.rpc import formula_service
from kanserve.serve.rpc.formula_service import export_source
from kanserve.serve.state import ServerState
from kanserve.v1 import formula_pb2 as pb
from tests.support.networks import kans
from tests.support.servers import server_states, serving


@pytest.fixture(scope="module")
def state() -> Iterator[ServerState]:
    with server_states.served(serving.folder()) as (made, _):
        yield made


def request(name: str, kind: str, version: str = "", libraries: bool = False) -> pb.ExportSourceRequest:
    return pb.ExportSourceRequest(model_name=name, model_version=version, format=kind, include_libraries=libraries)


def files(parts: Iterator[pb.ExportSourceResponse]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in parts:
        found[part.path] = found.get(part.path, b"") + part.data
        assert (len(found[part.path]) == part.size) == part.last
    return found


@pytest.mark.parametrize(("name", "kind"), [("raw", "c_source"), ("mixed", "numpy_source")])
def test_the_files_are_those_that_were_published_without_the_libraries_of_some_machine(state, name, kind):
    published = serving.artifact(name).part(kind)
    plain = {path: data for path, data in published.items() if not path.endswith(".so")}
    assert files(export_source(state, request(name, kind), server_states.call())) == plain
    assert files(export_source(state, request(name, kind, "1", libraries=True), server_states.call())) == published


def test_a_part_is_bounded_and_says_the_version_and_what_the_whole_file_is(state, monkeypatch):
    monkeypatch.setattr(formula_service, "PART_BYTES", 1000)
    entries = serving.artifact("raw").manifest.files
    parts = list(export_source(state, request("raw", "c_source"), server_states.call()))
    assert [part.path for part in parts] == sorted(part.path for part in parts)
    assert max(len(part.data) for part in parts) == 1000
    for part in parts:
        assert (part.model_name, part.model_version) == ("raw", "1")
        assert part.sha256 == entries[f"c_source/{part.path}"].sha256
    assert sum(part.last for part in parts) == len({part.path for part in parts})


@pytest.mark.parametrize(
    ("name", "kind", "version", "error"),
    [
        ("raw", "onnx_graph", "", InputError),
        ("raw", "../raw/1", "", InputError),
        ("raw", "", "", InputError),
        ("graph", "c_source", "", NotFoundError),
        ("fox", "c_source", "", NotFoundError),
        ("raw", "c_source", "2", NotFoundError),
        ("raw", "c_source", "../1", InvalidNameError),
    ],
)
def test_what_is_no_source_or_is_not_there_is_refused_before_a_stream_begins(state, name, kind, version, error):
    with pytest.raises(error):
        export_source(state, request(name, kind, version), server_states.call())


def test_a_client_that_left_is_sent_nothing_more(state, monkeypatch):
    monkeypatch.setattr(formula_service, "PART_BYTES", 1000)
    call = server_states.call()
    call.alive = iter([True, True, False]).__next__
    assert len(list(export_source(state, request("raw", "c_source"), call))) == 2
    assert (call.model, call.version) == ("raw", 1)


def test_a_repository_that_was_changed_behind_the_servers_back_gives_no_source(tmp_path):
    repository.publish(tmp_path, "fox", compile(kans.one_edge(), ("numpy_source",)))
    other = repository.read(serving.folder(), "mixed")
    with server_states.served(tmp_path) as (state, _):
        place = tmp_path / "fox" / "1"
        (path,) = place.glob("numpy_source/*.py")
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b"import", b"export", 1))
        with pytest.raises(IntegrityError):
            export_source(state, request("fox", "numpy_source"), server_states.call())
        shutil.rmtree(place)
        _write(place, {**other.files, "manifest.json": artifact_format.dumps(other.manifest)})
        with pytest.raises(IntegrityError, match="differs from the one that was loaded"):
            export_source(state, request("fox", "numpy_source"), server_states.call())
        shutil.rmtree(place)
        with pytest.raises(KanserveError):
            export_source(state, request("fox", "numpy_source"), server_states.call())


def _write(folder: Path, files: dict[str, bytes]) -> None:
    assert json.loads(files["manifest.json"])
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
