"""A file or folder that cannot be read makes one version unavailable and no other; it is read once that is possible."""

import errno
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from kanserve import repository
from kanserve.artifact import write
from kanserve.errors import UnreachableError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.repository.source import ALL_VERSIONS
from kanserve.serve.models.loader import Models
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from tests.support.faults.file_faults import IS_DIR, FileFaults, Operation
from tests.support.servers import server_process, serving
from tests.support.servers.catalogs import loaded, publish, versions

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

ERRORS = (errno.EACCES, errno.EIO, errno.ESTALE)
HARMLESS = (  # what is read next tells it too, and nobody reads a card
    *((IS_DIR, path) for path in ("fox", "fox/1", "fox/card-1.md", "fox/card-1.svg")),
    ("stat", "fox/1/manifest.json"),
)


def small() -> Any:
    return serving.artifact("mixed")


def fox_operations(root: Path, patch: pytest.MonkeyPatch) -> tuple[FileFaults, list[Operation]]:
    """What loading does with the files of the model fox."""
    faults = FileFaults(root, patch)
    with loaded(root):
        pass
    return faults, [operation for operation in faults.seen if operation[1].split("/")[0] == "fox"]


def named(models: Models) -> dict[tuple[str, int], str]:
    return dict(models.catalog.reasons)


@pytest.mark.slow
@pytest.mark.extended
def test_every_fault_of_a_file_at_the_start_is_named_stops_no_other_and_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ant", "fox", "owl"):
        publish(tmp_path, name)
    faults, operations = fox_operations(tmp_path, monkeypatch)
    assert {name for name, _ in operations} >= {"scandir", "stat", "open", "fstat", "read", IS_DIR}
    for operation in operations:
        for number in ERRORS:
            with Models(Settings(str(tmp_path))) as models:
                with faults.failing(operation.__eq__, number):
                    models.refresh()
                    assert versions(models, "ant") == versions(models, "owl") == [1], operation
                    if operation in HARMLESS:
                        assert versions(models, "fox") == [1]
                        continue
                    assert versions(models, "fox") == [], operation
                    (((model, _), why),) = named(models).items()
                    assert model == "fox" and os.strerror(number) in why and str(tmp_path) not in why
                models.refresh()
                assert versions(models, "fox") == [1] and not named(models)
    print(f"{len(operations)} operations, each with {len(ERRORS)} errors")


@pytest.mark.slow
@pytest.mark.extended
def test_every_fault_of_a_file_at_a_reload_leaves_what_is_served_and_refreshes_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("fox", "owl"):
        publish(tmp_path, name)
    faults, operations = fox_operations(tmp_path, monkeypatch)
    with loaded(tmp_path, poll_seconds=0.001) as models:
        for count, operation in enumerate(operations):
            for number in ERRORS:
                before = models.catalog.find("fox")
                manifest = tmp_path / "fox/1/manifest.json"
                os.utime(manifest, ns=(0, count * 10 + number))  # so that it is read again
                publish(tmp_path, "owl")
                with faults.failing(operation.__eq__, number):
                    models.refresh()
                    assert models.catalog.find("fox") is before, operation
                    assert models.catalog.find("owl").version == repository.versions(tmp_path, "owl")[-1]
                    if operation not in HARMLESS:
                        assert os.strerror(number) in models.catalog.reasons["fox", 1]
                        assert "goes on as it was" in models.catalog.reasons["fox", 1]
                models.refresh()
                assert not named(models) and models.catalog.find("fox") is before


def test_a_model_whose_folder_cannot_be_listed_is_in_the_index_without_a_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, "fox", times=2)
    publish(tmp_path, "owl")
    faults = FileFaults(tmp_path, monkeypatch)
    with (
        faults.failing(("scandir", "fox").__eq__, errno.EACCES),
        start(tmp_path, port=0) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = wire.stub(channel)
        entries = {entry.name: entry for entry in stub.RepositoryIndex(pb.RepositoryIndexRequest()).models}
        assert entries["owl"].state == "READY" and entries["fox"].state == "UNAVAILABLE"
        assert entries["fox"].version == str(ALL_VERSIONS)
        assert entries["fox"].reason.startswith("Its folder cannot be read: Permission denied. Its permissions")
        with pytest.raises(grpc.RpcError) as failed:
            stub.ModelInfer(serving.infer_request("fox", small().golden()[0]))
        assert failed.value.code() is grpc.StatusCode.NOT_FOUND and "Permission" in str(failed.value.details())
        with pytest.raises(UnreachableError, match=r"versions of 'fox' are not known: .*Permission denied"):
            server.models.load("fox")
        with faults.failing(lambda _: False, 0):
            server.models.load("fox")
        found = [
            (entry.name, entry.version, entry.state, entry.reason)
            for entry in stub.RepositoryIndex(pb.RepositoryIndexRequest()).models
        ]
        assert found == [("fox", "1", "READY", ""), ("fox", "2", "READY", ""), ("owl", "1", "READY", "")]


@pytest.mark.parametrize("control", ["signal", "explicit", "poll"])
def test_a_model_that_is_to_be_loaded_and_cannot_be_read_stops_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control: Any
) -> None:
    publish(tmp_path, "fox")
    publish(tmp_path, "owl")
    faults = FileFaults(tmp_path, monkeypatch)
    with (
        faults.failing(("scandir", "fox").__eq__, errno.EIO),
        loaded(tmp_path, model_control=control, load=("fox", "owl")) as models,
    ):
        assert versions(models, "owl") == [1] and list(models.catalog.reasons) == [("fox", ALL_VERSIONS)]
        with faults.failing(lambda _: False, 0):
            models.refresh()
        assert versions(models, "fox") == [1] and not models.catalog.reasons


@pytest.mark.parametrize("number", [*ERRORS, errno.ELOOP])
def test_a_repository_that_cannot_be_read_at_a_reload_changes_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    publish(tmp_path, "fox")
    faults = FileFaults(tmp_path, monkeypatch)
    with loaded(tmp_path) as models:
        before = models.catalog.find("fox")
        publish(tmp_path, "fox")
        with (
            faults.failing(("scandir", ".").__eq__, number),
            pytest.raises(UnreachableError, match=f"repository's folder cannot be read: {os.strerror(number)}"),
        ):
            models.refresh()
        assert models.catalog.find("fox") is before and not models.catalog.reasons
        models.refresh()
        assert versions(models) == [1, 2]


@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize("place", ["model", "version"])
def test_a_folder_of_one_model_goes_on_as_it_was_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, number: int
) -> None:
    if place == "model":
        publish(tmp_path, "fox")
    else:
        write(tmp_path / "fox", small())
    faults = FileFaults(tmp_path / "fox", monkeypatch)
    with loaded(tmp_path / "fox", model_name="fox") as models:
        before = models.catalog.find("fox")
        for operation in list(faults.seen):
            with faults.failing(operation.__eq__, number):
                try:
                    models.refresh()
                except UnreachableError as error:
                    assert os.strerror(number) in str(error)
                else:
                    assert operation[0] in (IS_DIR, "open", "fstat", "read", "scandir", "stat")
                assert models.catalog.find("fox") is before
            models.refresh()
            assert models.catalog.find("fox") is before and not models.catalog.reasons


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("workers", [1, 2])
def test_a_root_that_is_a_link_to_itself_for_a_while_changes_nothing_and_the_log_says_so(
    tmp_path: Path, workers: int
) -> None:
    publish(tmp_path / "there", "fox")
    root = tmp_path / "root"
    root.symlink_to(tmp_path / "there")
    with (
        server_process.served(Settings(str(root), port=0, workers=workers)) as (running, address),
        grpc.insecure_channel(address) as channel,
    ):
        stub = wire.stub(channel)
        root.unlink()
        root.symlink_to(root)
        running.send_signal(signal.SIGHUP)
        assert "levels of symbolic links" in server_process.said(running, "cannot be read")
        assert stub.ModelReady(pb.ModelReadyRequest(name="fox"), timeout=60).ready
        root.unlink()
        root.symlink_to(tmp_path / "there")
        publish(tmp_path / "there", "owl")
        running.send_signal(signal.SIGHUP)
        server_process.until(lambda: stub.ModelReady(pb.ModelReadyRequest(name="owl"), timeout=60).ready, 30.0)


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder for all, and afterwards the rights of root."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory(prefix="kanserve-test-") as folder:
        os.chmod(folder, 0o755)
        umask = os.umask(0o077)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)
            os.umask(umask)


def test_what_another_user_published_for_itself_only_is_named_and_no_other_model_is_missed(nobody: Path) -> None:
    small()  # compiled as root
    publish(nobody, "fox")
    publish(nobody, "owl")
    (nobody / "fox").chmod(0o700)
    os.seteuid(65534)
    with loaded(nobody) as models:
        assert versions(models, "owl") == [1] and "Permission denied" in models.catalog.reasons["fox", ALL_VERSIONS]
        os.seteuid(0)
        (nobody / "fox").chmod(0o711)
        (nobody / "fox/1").chmod(0o700)
        os.seteuid(65534)
        models.refresh()
        assert versions(models, "owl") == [1] and "Permission denied" in models.catalog.reasons["fox", ALL_VERSIONS]
        os.seteuid(0)
        (nobody / "fox").chmod(0o755)
        os.seteuid(65534)
        models.refresh()
        assert versions(models, "owl") == [1] and "Permission denied" in models.catalog.reasons["fox", 1]
        os.seteuid(0)
        (nobody / "fox/1").chmod(0o755)
        os.seteuid(65534)
        models.refresh()
        assert versions(models, "fox") == [1] and not models.catalog.reasons
