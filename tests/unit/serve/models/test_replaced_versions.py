"""A version that is replaced in the repository under its own number is loaded anew, or goes on as it was."""

import os
import shutil
import signal
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from kanserve import repository
from kanserve.artifact.format import Artifact, assemble
from kanserve.artifact_compiler import compile
from kanserve.client import Client
from kanserve.errors import GoldenError, IntegrityError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.serve.observability.metrics import Metrics
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from kanserve.serve.state import Call
from kanserve.v1 import formula_pb2, formula_pb2_grpc
from tests.support.networks import kans
from tests.support.peers import s3_store
from tests.support.servers import server_process, serving
from tests.support.servers.catalogs import Counted, damage, loaded, publish, versions
from tests.support.servers.reload_checks import eventually


def shifted(by: float) -> Artifact:
    return compile(replace(kans.one_edge(), output_shift=np.array([by])), ("numpy_source",))


def put(root: Path, artifact: Artifact, name: str = "fox", version: int = 1) -> None:
    """Something in place of a version, moved there as a whole."""
    shutil.rmtree(root / name / str(version), ignore_errors=True)
    repository.publish(root, name, artifact, version)


def answer(models: Any, name: str = "fox") -> float:
    return float(models.catalog.find(name).backend.predict(np.zeros((1, 1)))[0, 0])


def test_what_replaced_a_version_is_served_once_it_is_loaded_and_the_old_one_ends(tmp_path: Path) -> None:
    put(tmp_path, shifted(1.0))
    publish(tmp_path, "owl")
    counted = Counted()
    with loaded(tmp_path, counted) as models:
        before, owl = answer(models), models.catalog.find("owl")
        call = models.catalog.find("fox")  # under way
        old = weakref.ref(call)
        put(tmp_path, shifted(3.0))
        models.refresh()
        assert answer(models) == pytest.approx(before + 2.0)
        assert models.catalog.reasons == {} and models.catalog.find("owl") is owl
        assert call.backend.predict(np.zeros((1, 1)))[0, 0] == before
        del call
        eventually(lambda: old() is None)
        models.refresh()
        models.refresh()
    assert counted.loads == [("fox", 1, ""), ("owl", 1, ""), ("fox", 1, "")]


def test_a_version_that_was_only_touched_stays_as_it_is(tmp_path: Path) -> None:
    publish(tmp_path)
    with loaded(tmp_path) as models:
        before = models.catalog.find("fox")
        os.utime(tmp_path / "fox" / "1" / "manifest.json", (1, 1))
        models.refresh()
        assert models.catalog.find("fox") is before
        shutil.copytree(tmp_path / "fox" / "1", tmp_path / "copy")
        shutil.rmtree(tmp_path / "fox" / "1")
        (tmp_path / "copy").rename(tmp_path / "fox" / "1")
        models.load("fox")
        assert models.catalog.find("fox") is before


def half(root: Path) -> None:
    """The manifest of another version is there, and its other files are not yet."""
    put(root / "other", shifted(7.0))
    (root / "fox/1/manifest.json").write_bytes((root / "other/fox/1/manifest.json").read_bytes())


def cut_off(root: Path) -> None:
    os.truncate(root / "fox/1/manifest.json", 100)


def lying(root: Path) -> None:
    made = shifted(3.0)
    x, y = made.golden()
    parts = {path: data for path, data in made.files.items() if "/" in path}
    put(root, assemble(made.kan(), parts, formulas=made.formulas, golden=(x, y + 1.0)))


@pytest.mark.parametrize(
    ("spoil", "says", "kind"),
    [(half, "checksum|bytes", IntegrityError), (cut_off, "damaged", IntegrityError), (lying, "golden", GoldenError)],
)
def test_what_cannot_be_loaded_replaces_nothing_and_it_is_said_why(
    tmp_path: Path, spoil: Any, says: str, kind: type[Exception]
) -> None:
    put(tmp_path, shifted(1.0))
    with loaded(tmp_path, poll_seconds=1000.0) as models:
        before, was = models.catalog.find("fox"), answer(models)
        spoil(tmp_path)
        models.refresh(retry=False)
        assert models.catalog.find("fox") is before and answer(models) == was
        assert models.catalog.states == {("fox", 1): "READY"}
        assert "goes on as it was" in models.catalog.reasons["fox", 1]
        with pytest.raises(kind, match=f"What replaced version 1 of 'fox' is not loaded: .*({says})"):
            models.load("fox")
        put(tmp_path, shifted(5.0))  # which is seen at once, however long the pause after a failure
        models.refresh(retry=False)
        assert answer(models) == pytest.approx(was + 4.0) and models.catalog.reasons == {}


def test_a_failure_is_forgotten_when_what_is_served_is_back(tmp_path: Path) -> None:
    put(tmp_path, shifted(1.0))
    shutil.copytree(tmp_path / "fox" / "1", tmp_path / "kept")
    with loaded(tmp_path, poll_seconds=1000.0) as models:
        before = models.catalog.find("fox")
        half(tmp_path)
        models.refresh(retry=False)
        assert models.catalog.reasons
        shutil.rmtree(tmp_path / "fox" / "1")
        shutil.copytree(tmp_path / "kept", tmp_path / "fox" / "1")
        models.refresh(retry=False)
        assert models.catalog.reasons == {} and models.catalog.find("fox") is before


def test_a_version_that_was_refused_is_tried_at_once_when_it_was_replaced(tmp_path: Path) -> None:
    publish(tmp_path)
    damage(tmp_path, "fox", 1)
    with loaded(tmp_path, poll_seconds=1000.0) as models:
        assert versions(models) == []
        put(tmp_path, shifted(1.0))
        models.refresh(retry=False)
        assert versions(models) == [1] and models.catalog.reasons == {}


@pytest.mark.parametrize("place", ["fox", "fox/1"])
def test_a_folder_that_is_mounted_is_looked_at_too(tmp_path: Path, place: str) -> None:
    put(tmp_path, shifted(1.0))
    with loaded(tmp_path / place, model_name="fox") as models:
        was = answer(models)
        put(tmp_path, shifted(3.0))
        models.refresh()
        assert answer(models) == pytest.approx(was + 2.0)


@pytest.mark.slow
@pytest.mark.extended
def test_in_a_store_too() -> None:
    with s3_store.s3() as address, s3_store.environment(address):
        for url in ("s3://bucket/replaced", "memory://replaced/models"):
            repository.publish(url, "fox", shifted(1.0), 1)
            repository.publish(f"{url}-other", "fox", shifted(3.0), 1)
            with loaded(url, trust_remote_code=True) as models:
                was, before = answer(models), models.catalog.find("fox")
                models.refresh()
                assert models.catalog.find("fox") is before
                files = s3_store.files(url.split("://")[0])
                files.copy(f"{url}-other/fox/1/manifest.json", f"{url}/fox/1/manifest.json")
                models.refresh()
                assert answer(models) == was and "goes on as it was" in models.catalog.reasons["fox", 1]
                for path in files.find(f"{url}-other/fox/1"):
                    files.copy(path, path.replace("-other", ""))
                models.load("fox")
                assert answer(models) == pytest.approx(was + 2.0) and models.catalog.reasons == {}


def test_who_watches_is_told_and_the_index_says_why_not(tmp_path: Path) -> None:
    put(tmp_path, shifted(1.0))
    with start(tmp_path, port=0) as server, grpc.insecure_channel(server.address) as channel:
        stub, formulas = wire.stub(channel), formula_pb2_grpc.FormulaServiceStub(channel)
        events: Any = formulas.Watch(formula_pb2.WatchRequest(model_name="fox"), timeout=60)
        assert [version.state for version in next(events).versions] == [formula_pb2.MODEL_STATE_READY]
        put(tmp_path, shifted(3.0))
        server.models.refresh()
        (told,) = next(events).versions
        assert told.state == formula_pb2.MODEL_STATE_READY and told.newest and not told.reason
        half(tmp_path)
        server.models.refresh()
        (told,) = next(events).versions
        assert told.state == formula_pb2.MODEL_STATE_READY and "goes on as it was" in told.reason
        (entry,) = stub.RepositoryIndex(pb.RepositoryIndexRequest()).models
        assert entry.state == "READY" and "goes on as it was" in entry.reason
        events.cancel()


def test_rows_outside_the_range_are_those_of_what_is_there_now(tmp_path: Path) -> None:
    put(tmp_path, shifted(1.0))
    meters = Metrics()

    def answered(*outside: int) -> None:
        call = Call("inference.GRPCInferenceService", "ModelInfer", 0)
        call.model, call.version, call.outside = "fox", 1, np.array(outside)
        meters.ended(call)

    with loaded(tmp_path, meters) as models:
        models.subscribe(meters.changed)
        meters.changed(models.catalog)
        answered(3)
        assert [entry["rows"] for entry in meters.snapshot()["outside"]] == [[3]]
        put(tmp_path, serving.artifact("mixed"))  # of two features
        models.refresh()
        assert meters.snapshot()["outside"] == []
        answered(1)  # a call that took long
        assert meters.snapshot()["outside"] == [{"of": ["fox", 1], "features": [], "rows": [1]}]
        answered(0, 2)
        answered(0, 2)
        names = [variable.name for variable in serving.kan("mixed").inputs]
        assert meters.snapshot()["outside"] == [{"of": ["fox", 1], "features": names, "rows": [0, 4]}]


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_polls_serves_what_replaced_a_version(tmp_path: Path, workers: int) -> None:
    put(tmp_path, shifted(1.0))
    settings = Settings(str(tmp_path), port=0, workers=workers, poll_seconds=0.1)
    with server_process.served(settings) as (running, address), Client(address, channels=2) as client:
        was = client.predict("fox", [[0.0]])[0, 0]
        put(tmp_path / "other", shifted(3.0))
        for path in (tmp_path / "other/fox/1").rglob("*"):
            if path.is_file():  # one file after the other, as a tool that copies does
                (tmp_path / "fox/1" / path.relative_to(tmp_path / "other/fox/1")).write_bytes(path.read_bytes())
        server_process.until(
            lambda: all(client.predict("fox", [[0.0]])[0, 0] == pytest.approx(was + 2.0) for _ in range(4)), 30.0
        )
        assert running.poll() is None


@pytest.mark.slow
def test_what_ends_the_processes_that_load_it_in_place_of_a_good_version_is_not_loaded_again(tmp_path: Path) -> None:
    root, flag = tmp_path / "models", tmp_path / "flag"
    put(root, shifted(1.0))
    publish(root, "owl")
    flag.touch()
    with server_process.served(Settings(str(root), port=0, workers=2)) as (running, address):
        put(root, serving.fatal(flag))
        running.send_signal(signal.SIGHUP)
        assert "version 1 of 'fox' is not loaded again" in server_process.said(running, "not loaded again")
        server_process.said(running, "serving")
        with Client(address) as client:
            server_process.until(lambda: client.ready("owl"), 20.0)
        assert running.poll() is None
