import os
import shutil
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from kanserve import repository
from kanserve.artifact.format import assemble
from kanserve.errors import (
    ArtifactError,
    DrainingError,
    FormatError,
    GoldenError,
    InputError,
    IntegrityError,
    InvalidNameError,
    NotFoundError,
)
from kanserve.serve.models.catalog import Catalog
from kanserve.serve.models.loader import Models
from kanserve.serve.settings import ModelSettings, Settings
from tests.support.servers import serving
from tests.support.servers.catalogs import Counted, damage, loaded, publish, versions
from tests.support.servers.reload_checks import eventually


def test_nothing_is_loaded_before_the_first_look(tmp_path: Path) -> None:
    publish(tmp_path)
    with Models(Settings(repository=str(tmp_path))) as models:
        assert models.catalog.models == {} and models.catalog.states == {}
        models.refresh()
        assert versions(models) == [1] and models.catalog.states == {("fox", 1): "READY"}


def test_a_repository_that_is_not_there_is_said_and_changes_nothing(tmp_path: Path) -> None:
    publish(tmp_path / "root")
    with loaded(tmp_path / "root") as models:
        before = models.catalog
        (tmp_path / "root").rename(tmp_path / "away")
        with pytest.raises(NotFoundError):
            models.refresh()
        assert models.catalog is before
    with pytest.raises(NotFoundError), loaded(tmp_path / "root"):
        pass


def test_new_versions_come_those_that_are_gone_go_and_the_rest_stays_as_it_is(tmp_path: Path) -> None:
    publish(tmp_path)
    counted = Counted()
    with loaded(tmp_path, counted) as models:
        first = models.catalog.find("fox", "1")
        publish(tmp_path)
        publish(tmp_path, "owl")
        models.refresh()
        assert versions(models) == [1, 2] and versions(models, "owl") == [1]
        assert models.catalog.find("fox", "1") is first
        shutil.rmtree(tmp_path / "fox" / "1")
        shutil.rmtree(tmp_path / "owl")
        models.refresh()
        assert {name: list(found) for name, found in models.catalog.models.items()} == {"fox": [2]}
        models.refresh()
    assert counted.loads == [("fox", 1, ""), ("fox", 2, ""), ("owl", 1, "")]


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("all", [1, 2, 3]),
        ("latest", [3]),
        ("latest:2", [2, 3]),
        ("1,3", [1, 3]),
        ("9", []),
        ("latest:9", [1, 2, 3]),
    ],
)
def test_the_versions_that_are_asked_for_are_served(tmp_path: Path, policy: str, served: list[int]) -> None:
    publish(tmp_path, times=3)
    publish(tmp_path, "owl", times=2)
    with loaded(tmp_path, versions=policy, models={"owl": ModelSettings(versions="1")}) as models:
        assert versions(models) == served
        assert versions(models, "owl") == [1]  # as is set for it alone


@pytest.mark.parametrize("policy", ["", "newest", "latest:0", "latest:", "0", "1,,2", "-1", "1-3", "latest:1x"])
def test_another_policy_is_refused(tmp_path: Path, policy: str) -> None:
    with pytest.raises(InputError, match="latest:N"):
        Models(Settings(repository=str(tmp_path), versions=policy))


def test_the_latest_is_the_newest_that_loads_and_the_old_one_is_let_go(tmp_path: Path) -> None:
    publish(tmp_path, times=2)
    damage(tmp_path, "fox", 2)
    with loaded(tmp_path, versions="latest") as models:
        assert versions(models) == [1]
        publish(tmp_path)
        old = weakref.ref(models.catalog.find("fox"))
        held = models.catalog.find("fox")  # a call under way
        models.refresh()
        assert versions(models) == [3]
        assert models.catalog.states["fox", 1] == "UNLOADING" and models.catalog.states["fox", 2] == "UNAVAILABLE"
        assert held.backend.predict(np.zeros((1, 2))).shape == (1, 1)
        del held
        eventually(lambda: old() is None and ("fox", 1) not in models.catalog.states)


def test_a_version_that_cannot_be_loaded_stops_no_other_and_the_reason_is_kept(tmp_path: Path) -> None:
    publish(tmp_path, times=3)
    damage(tmp_path, "fox", 2)
    counted = Counted()
    with loaded(tmp_path, counted) as models:
        assert versions(models) == [1, 3]
        reason = models.catalog.reasons["fox", 2]
        assert "checksum" in reason and counted.loads[1] == ("fox", 2, reason)
        with pytest.raises(NotFoundError, match="checksum"):
            models.catalog.find("fox", "2")
        with pytest.raises(IntegrityError, match=r"Version 2 of 'fox' is not loaded: .* checksum"):
            models.load("fox")
        assert versions(models) == [1, 3]
        shutil.rmtree(tmp_path / "fox" / "2")
        models.refresh()
        assert models.catalog.reasons == {}


@pytest.mark.slow
@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "SystemExit", "GeneratorExit", "BaseException"])
def test_whatever_the_code_of_a_version_raises_stops_no_other(tmp_path: Path, raised: str) -> None:
    publish(tmp_path)
    repository.publish(tmp_path, "hen", serving.doing(f"raise {raised}\n"))
    with loaded(tmp_path) as models:
        assert versions(models) == [1]
        assert ("hen", 1) in models.catalog.reasons


def test_a_version_that_was_refused_is_seldom_tried_again_unless_somebody_asks(
    tmp_path: Path,
) -> None:
    publish(tmp_path)
    damage(tmp_path, "fox", 1)
    counted = Counted()
    with loaded(tmp_path, counted, poll_seconds=1000.0) as models:
        models.refresh(retry=False)
        assert len(counted.loads) == 1 and "checksum" in models.catalog.reasons["fox", 1]
        shutil.rmtree(tmp_path / "fox")
        publish(tmp_path)
        models.load("fox")
        assert versions(models) == [1] and models.catalog.reasons == {}


def test_what_differs_from_its_golden_rows_or_its_formulas_is_not_served(tmp_path: Path) -> None:
    good = serving.artifact("mixed")
    x, y = good.golden()
    parts = {path: data for path, data in good.files.items() if "/" in path}
    kan, said = good.kan(), good.formulas
    repository.publish(tmp_path, "golden", assemble(kan, parts, formulas=said, golden=(x, y + 1e-6)))
    other = {**said, "formulas": [{**formula, "name": "another"} for formula in said["formulas"]]}
    repository.publish(tmp_path, "named", assemble(kan, parts, formulas=other, golden=(x, y)))
    repository.publish(tmp_path, "none", assemble(kan, parts, formulas=["y"], golden=(x, y)))
    many = assemble(kan, parts, formulas=said, golden=(x, y), evidence=[{}] * (len(y[0]) + 1))
    repository.publish(tmp_path, "many", many)
    with loaded(tmp_path) as models:
        assert models.catalog.models == {}
        for name, kind in (
            ("golden", GoldenError),
            ("named", FormatError),
            ("none", FormatError),
            ("many", FormatError),
        ):
            with pytest.raises(kind):
                models.load(name)


def test_no_reason_has_a_path_of_this_machine_or_the_words_of_a_models_code(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo" / "deep"
    repository.publish(tmp_path / "root", "fox", serving.loading(fifo))  # which opens a file that is not there
    publish(tmp_path / "root", "owl")
    os.chmod(tmp_path / "root" / "owl" / "1" / "kan.safetensors", 0)
    with loaded(tmp_path / "root") as models:
        for reason in models.catalog.reasons.values():
            assert str(tmp_path) not in reason and "Errno" not in reason and "Traceback" not in reason
        with pytest.raises(ArtifactError) as caught:
            models.load("fox")
        assert str(tmp_path) not in str(caught.value)


def test_a_missing_package_is_named_with_the_extra_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path, kind="graph")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with loaded(tmp_path) as models:
        assert "kanserve[onnx]" in models.catalog.reasons["fox", 1]
        with pytest.raises(ArtifactError, match=r"kanserve\[onnx\]"):
            models.load("fox")


def test_with_explicit_control_nothing_is_loaded_but_what_is_named(tmp_path: Path) -> None:
    publish(tmp_path)
    publish(tmp_path, "owl")
    with loaded(tmp_path, model_control="explicit", load=("owl",)) as models:
        assert list(models.catalog.models) == ["owl"]
        assert "until it is asked for" in models.catalog.reasons["fox", 1]
        models.load("fox")
        models.refresh()
        assert list(models.catalog.models) == ["fox", "owl"] and models.catalog.reasons == {}
    with pytest.raises(NotFoundError, match="'elk'"), loaded(tmp_path, model_control="explicit", load=("elk",)):
        pass


def test_what_is_unloaded_stays_so_until_it_is_loaded(tmp_path: Path) -> None:
    publish(tmp_path)
    with loaded(tmp_path) as models:
        models.unload("fox")
        publish(tmp_path)
        models.refresh()
        assert models.catalog.models == {}
        assert set(models.catalog.states.values()) <= {"UNAVAILABLE", "UNLOADING"}
        with pytest.raises(NotFoundError, match="unloaded"):
            models.catalog.find("fox")
        models.unload("fox")  # is not there twice
        models.load("fox")
        assert versions(models) == [1, 2]


def test_what_there_is_not_can_be_neither_loaded_nor_unloaded(tmp_path: Path) -> None:
    publish(tmp_path)
    with loaded(tmp_path) as models:
        for act in (models.load, models.unload):
            with pytest.raises(NotFoundError, match="'elk'"):
                act("elk")
            with pytest.raises(InvalidNameError):
                act("../fox")


def test_a_version_that_ended_a_process_is_not_loaded_and_others_are_announced(tmp_path: Path) -> None:
    publish(tmp_path, times=2)
    told: list[tuple[str, int]] = []
    with loaded(tmp_path, None, {("fox", 2): "It ended the process."}, lambda *key: told.append(key)) as models:
        assert versions(models) == [1] and told == [("fox", 1)]
        assert models.catalog.reasons["fox", 2] == "It ended the process."
        with pytest.raises(ArtifactError, match="ended the process"):
            models.load("fox")


def test_limits_are_those_of_the_model_or_of_the_server(tmp_path: Path) -> None:
    publish(tmp_path)
    publish(tmp_path, "owl", kind="raw")
    own = {"owl": ModelSettings(max_rows=7, concurrency=2, backend="onnx_graph", warm_up=(1, 1000))}
    with loaded(tmp_path, models=own, max_rows=100, concurrency=5, max_message_bytes=2**17) as models:
        fox, owl = models.catalog.find("fox"), models.catalog.find("owl")
        assert (fox.max_rows, fox.concurrency, fox.kind) == (100, 5, "numpy_source")
        assert (owl.max_rows, owl.concurrency, owl.kind) == (7, 2, "onnx_graph")
        assert owl.max_differentiated_rows == 7
    with loaded(tmp_path, max_message_bytes=2**16 + 2**10) as models:
        assert models.catalog.find("fox").max_rows == 64


def test_who_subscribed_is_told_of_each_change_until_it_ends(tmp_path: Path) -> None:
    publish(tmp_path)
    with loaded(tmp_path) as models:
        told: list[Catalog] = []

        def broken(catalog: Catalog) -> None:
            raise RuntimeError

        ends = [models.subscribe(broken), models.subscribe(told.append)]
        models.unload("fox")
        assert told[-1] is models.catalog or told[-1].models == {}
        models.load("fox")
        assert any(status.states.get(("fox", 1)) == "LOADING" for status in told)
        assert told[-1].states["fox", 1] == "READY"
        for end in ends:
            end()
        count = len(told)
        models.unload("fox")
        assert len(told) == count


def test_who_asks_reads_on_while_another_model_is_loaded(tmp_path: Path) -> None:
    publish(tmp_path / "root")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with loaded(tmp_path / "root") as models:
        repository.publish(tmp_path / "root", "slow", serving.loading(fifo))
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(models.load, "slow") for _ in range(3)]
            eventually(lambda: models.catalog.states.get(("slow", 1)) == "LOADING")
            assert models.catalog.find("fox").backend.predict(np.zeros((1, 2))).shape == (1, 1)
            fifo.write_text("")
            for future in waiting:
                future.result(60)  # a second load, which there should not be, would wait for ever
        assert versions(models, "slow") == [1]


@pytest.mark.slow
def test_loads_of_one_model_at_the_same_time_are_one_also_where_they_fail(tmp_path: Path) -> None:
    publish(tmp_path)
    publish(tmp_path, "owl")
    damage(tmp_path, "owl", 1)
    counted = Counted()
    with loaded(tmp_path, counted, model_control="explicit") as models:
        held, gate, come = threading.Event(), threading.Event(), threading.Barrier(11)

        def hold(catalog: Catalog) -> None:
            held.set()
            gate.wait(60)  # on the thread that loads

        def load(name: str) -> None:
            come.wait(60)
            models.load(name)

        end = models.subscribe(hold)
        with ThreadPoolExecutor(12) as pool:
            first = pool.submit(models.refresh)
            good = [pool.submit(load, "fox") for _ in range(5)]
            bad = [pool.submit(load, "owl") for _ in range(5)]
            assert held.wait(60)
            come.wait(60)
            time.sleep(0.5)  # in which they ask; who comes later asks for a load of its own
            gate.set()
            first.result(60)
            for future in good:
                future.result(60)
            for future in bad:
                with pytest.raises(IntegrityError):
                    future.result(60)
        end()
    assert [name for name, _, _ in counted.loads].count("fox") == 1
    assert [name for name, _, _ in counted.loads].count("owl") <= 2


@pytest.mark.slow
def test_many_threads_may_load_unload_and_look_at_once(tmp_path: Path) -> None:
    for name in ("fox", "owl", "elk"):
        publish(tmp_path, name)
    with loaded(tmp_path) as models:

        def work(number: int) -> None:
            name = ("fox", "owl", "elk")[number % 3]
            (models.load, models.unload, lambda _: models.refresh())[number // 3 % 3](name)
            for found in models.catalog.models.values():
                for model in found.values():
                    model.backend.predict(np.zeros((1, 2)))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(90)))
        for name in ("fox", "owl", "elk"):
            models.load(name)
        assert all(versions(models, name) == [1] for name in ("fox", "owl", "elk"))
        eventually(lambda: set(models.catalog.states.values()) == {"READY"})


def test_after_the_end_nothing_is_loaded_and_what_is_there_serves(tmp_path: Path) -> None:
    publish(tmp_path)
    with loaded(tmp_path) as models:
        pass
    for act in (models.refresh, lambda: models.load("fox"), lambda: models.unload("fox")):
        with pytest.raises(DrainingError):
            act()
    assert models.catalog.find("fox").backend.predict(np.zeros((1, 2))).shape == (1, 1)
