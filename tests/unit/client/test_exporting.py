"""Sources that are asked of a server, and what a server that means ill may send instead."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kanserve.client import AsyncClient, Client, exporting
from kanserve.errors import ConflictError, FormatError, IntegrityError, InvalidNameError, KanserveError, NotFoundError
from kanserve.serve.server import start
from kanserve.v1 import formula_pb2 as pb
from tests.support.peers import scripted_server
from tests.support.servers import serving


def part(path: str, data: bytes = b"x", last: bool = True, **other: Any) -> pb.ExportSourceResponse:
    fields: dict[str, Any] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} | other
    return pb.ExportSourceResponse(model_name="fox", model_version="1", path=path, data=data, last=last, **fields)


def sending(*parts: pb.ExportSourceResponse) -> Callable[[Any, Any], Iterator[pb.ExportSourceResponse]]:
    return lambda request, context: iter(parts)


def test_the_source_that_was_published_comes_back_and_is_written(tmp_path):
    wanted = serving.artifact("raw").part("c_source")
    plain = {path: data for path, data in wanted.items() if not path.endswith(".so")}
    with start(serving.folder(), port=0) as server:
        with Client(server.address) as client:
            assert client.export_source("raw", include_libraries=True) == wanted
            assert client.export_source("raw", tmp_path / "new" / "raw_c") == plain
            assert [*client.export_source("mixed", format="numpy_source")] == ["mixed.py"]
            with pytest.raises(NotFoundError):
                client.export_source("graph")

        async def ask() -> None:
            async with AsyncClient(server.address) as client:
                assert await client.export_source("raw", tmp_path / "again") == plain

        asyncio.run(ask())
    for folder in (tmp_path / "new" / "raw_c", tmp_path / "again"):
        assert {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*")} == plain
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"raw_c"}


def test_a_folder_with_something_in_it_stays_as_it_is(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    with scripted_server.serving({"ExportSource": sending(part("a.c"))}) as address, Client(address) as client:
        for taken in ("full", "file"):
            with pytest.raises(ConflictError, match="there already"):
                client.export_source("fox", tmp_path / taken)
        client.export_source("fox", tmp_path / "empty")
    assert {path.name for path in tmp_path.iterdir()} == {"full", "file", "empty"}
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]
    assert (tmp_path / "empty" / "a.c").read_bytes() == b"x"


HOSTILE = [
    *("../a.c", "/etc/passwd", "a/../../b.c", "a//b.c", "a/./b.c", ".", "..", "", "a\\..\\b.c", "C:\\a.c", "~/a.c"),
    *(".ssh", "-rf", "a\0.c", "a\n.c", "a/b/c/d/e.c", "a" * 200, "a b.c", "a;b.c", "é.c", "a/", "/"),
]


@pytest.mark.parametrize("path", HOSTILE, ids=ascii)
def test_a_path_that_leaves_the_folder_or_is_none_of_an_artifact_is_refused(path, tmp_path):
    with (
        scripted_server.serving({"ExportSource": sending(part("good.c"), part(path))}) as address,
        Client(address) as client,
        pytest.raises(InvalidNameError),
    ):
        client.export_source("fox", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ([part("a.c", sha256="0" * 64)], IntegrityError),
        ([part("a.c", size=2)], IntegrityError),
        ([part("a.c", sha256="")], IntegrityError),
        ([part("a.c", last=False)], IntegrityError),
        ([part("a.c", last=False), part("b.c")], IntegrityError),
        ([part("a.c", b"", last=False)], FormatError),
        ([part("a.c"), part("a.c")], FormatError),
        ([part("a.c"), part("A.c")], FormatError),
        ([part("a"), part("a/b.c")], FormatError),
        ([part("a/b.c"), part("a")], FormatError),
        ([part(f"a{n}.c") for n in range(257)], FormatError),
    ],
)
def test_files_that_are_not_whole_or_cannot_lie_together_are_refused(parts, error, tmp_path):
    with (
        scripted_server.serving({"ExportSource": sending(*parts)}) as address,
        Client(address) as client,
        pytest.raises(error),
    ):
        client.export_source("fox", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_server_that_never_stops_sending_is_stopped(asynchronous, monkeypatch):
    monkeypatch.setattr(exporting, "MOST_BYTES", 10_000)

    def endless(request: bytes, context: Any) -> Iterator[pb.ExportSourceResponse]:
        while context.is_active():
            yield part("a.c", bytes(1000), last=False)

    with scripted_server.serving({"ExportSource": endless}) as address:
        if asynchronous:

            async def ask() -> None:
                async with AsyncClient(address) as client:
                    await client.export_source("fox")

            with pytest.raises(FormatError, match="the server sends more"):
                asyncio.run(ask())
        else:
            with Client(address) as client, pytest.raises(FormatError, match="the server sends more"):
                client.export_source("fox")


def test_a_disk_that_is_full_leaves_nothing_half_written(tmp_path, monkeypatch):
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises((OSError, KanserveError)):
        exporting.write({"a.c": b"x"}, tmp_path / "out")
    assert not list(tmp_path.iterdir())
