"""SECURITY.md's tests 6, 7 and 8, for a few seconds; `python -m tests.soak.soak_models` takes longer."""

import sys
from pathlib import Path

import numpy as np
import pytest

from kanserve import repository
from kanserve.serve.models.loading_queue import return_memory
from kanserve.serve.settings import Settings
from tests.support.artifacts import small
from tests.support.faults import full_disks
from tests.support.servers import reload_checks, serving
from tests.support.servers.catalogs import loaded, publish


@pytest.mark.slow
@pytest.mark.extended
def test_reloads_under_load_lose_no_answer_and_mix_no_versions_and_hold_nothing(tmp_path: Path) -> None:
    found, before, after = reload_checks.reloads(tmp_path, 15, pause=0.003)
    print(f"{sum(sum(reading.answers.values()) for reading in found)} answers; before {before}, after {after}")
    assert [reading.errors for reading in found] == [[], []] and [reading.wrong for reading in found] == [0, 0]
    assert len(set().union(*(reading.answers for reading in found))) >= 8  # versions that answered
    # The pool keeps as many threads in reserve as answer at once, once a busy moment has made them.
    assert after.threads <= before.threads + Settings.threads and after.descriptors <= before.descriptors
    assert after.megabytes < before.megabytes + 4


@pytest.mark.slow
@pytest.mark.extended
def test_a_corrupt_version_that_is_published_under_load_changes_nothing(tmp_path: Path) -> None:
    found, reason = reload_checks.corrupted(tmp_path, 0.5)
    assert "differs from its checksum" in reason
    assert [reading.errors for reading in found] == [[], []]
    assert all(set(reading.answers) == {"1"} and reading.wrong == 0 for reading in found)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_of_a_model_comes_back_when_its_last_call_ends(tmp_path: Path) -> None:
    repository.publish(tmp_path, "large", serving.large(megabytes=64))
    with loaded(tmp_path, model_control="explicit") as models:
        return_memory(collect=True)  # what other tests left, which unloading would give back too
        before = reload_checks.Held.now().megabytes
        models.load("large")
        call = models.catalog.find("large")
        with_it = reload_checks.Held.now().megabytes
        models.unload("large")
        held = reload_checks.Held.now().megabytes
        assert call.backend.predict(np.zeros((1, 1))).shape == (1, 1)
        del call
        reload_checks.eventually(lambda: reload_checks.Held.now().megabytes < before + 8)
        print(f"{before:.0f} MB, with a model of 64 MB {with_it:.0f}, after {reload_checks.Held.now().megabytes:.0f}")
        assert with_it > before + 60 and held > before + 60


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_library_of_a_model_is_unloaded(tmp_path: Path) -> None:
    def libraries() -> int:
        return Path("/proc/self/maps").read_text().count("memfd:kanserve")

    publish(tmp_path, kind="raw")
    with loaded(tmp_path, backend="c_source") as models:
        there = libraries()
        models.unload("fox")
        reload_checks.eventually(lambda: libraries() < there)


@pytest.mark.slow
@pytest.mark.extended
def test_a_disk_that_is_full_at_any_moment_shows_no_partial_version(tmp_path: Path) -> None:
    points = full_disks.limited(tmp_path / "limited", small(), 30)
    try:
        points += full_disks.filled(tmp_path / "disk", small())
    except PermissionError:
        print("no disk could be mounted")
    print(f"full at {points} points")
    assert points >= 25
