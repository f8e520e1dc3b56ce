"""A killed fit goes on to the same network, an interrupted one gives its best; what cannot be trusted is refused."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kanserve.data.dataset import Dataset
from kanserve.errors import ConflictError, FormatError, NotFoundError
from kanserve.network import serialization
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan, equal
from kanserve.train import Progress, create, fit, stages
from kanserve.train.checkpoints import resume_or_begin
from tests.support.faults.killed_fits import KILLS, OPTIONS

METHODS = pytest.mark.parametrize("method", list(OPTIONS))


def rows() -> Dataset:
    x = np.random.default_rng(0).uniform(-1, 1, (60, 2))
    return Dataset(x, x[:, 0] * x[:, 1])


def short(data: Dataset | None = None, **options: Any) -> Kan:
    chosen: dict[str, Any] = {"grid": (3,), "starts": 2, "steps": 5}
    return fit([2, 1, 1], rows() if data is None else data, **(chosen | options))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    command = [sys.executable, "-m", "tests.support.faults.killed_fits", str(tmp_path_factory.mktemp("killed"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.extended
@METHODS
def test_a_fit_that_is_killed_ten_times_ends_with_the_same_network(killed: dict[str, Any], method: str) -> None:
    assert killed[method]["kills"] > KILLS / 2  # it may end before the last
    assert killed[method]["killed"]


@pytest.mark.extended
@METHODS
def test_an_interrupt_at_any_moment_gives_a_network_and_harms_no_checkpoint(
    killed: dict[str, Any], method: str
) -> None:
    assert set(killed[method]["moments"]) <= {"early", "whole", "none"}
    assert "early" in killed[method]["moments"]
    assert killed[method]["resumed"]


@pytest.mark.slow
@pytest.mark.extended
@METHODS
def test_a_signal_of_another_process_ends_a_fit_with_its_best_network(killed: dict[str, Any], method: str) -> None:
    assert killed[method]["finite"]


@pytest.mark.slow
@pytest.mark.extended
@METHODS
def test_nothing_is_left_half_written(killed: dict[str, Any], method: str) -> None:
    names = {"fit.checkpoint", "interrupted.checkpoint", "killed", "long.checkpoint", "short"}
    assert set(killed[method]["files"]) <= {*names, ".fit.checkpoint.part"}  # of a kill within a write


@METHODS
def test_a_finished_fit_gives_its_result_at_once(tmp_path: Path, method: str) -> None:
    path = tmp_path / "fit"
    told: list[Progress] = []
    first = short(checkpoint=path, optimizer=method)
    assert equal(first, short(optimizer=method))
    assert equal(first, short(checkpoint=path, optimizer=method, progress=told.append))
    assert not told
    assert [file.name for file in tmp_path.iterdir()] == ["fit"]


def test_what_a_kill_within_a_write_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".fit.part").write_bytes(b"half")
    short(checkpoint=tmp_path / "fit")
    assert [path.name for path in tmp_path.iterdir()] == ["fit"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "named"),
    [
        (lambda data: {"seed": 1}, "seed, the network"),
        (lambda data: {"smooth": 0.5}, "strengths"),
        (lambda data: {"optimizer": "adam", "batch": 7}, "batch, method, patience, strengths"),
        (lambda data: {"validation": data}, "validation"),
        (lambda data: {"data": replace(data, y=data.y + 1e-15)}, "the data"),
        (lambda data: {"data": replace(data, weights=np.ones(60))}, "the data"),
        (lambda data: {"data": replace(data, inputs=("a", "b"))}, "the data"),
    ],
)
def test_a_checkpoint_of_another_fit_is_refused(
    tmp_path: Path, other: Callable[[Dataset], dict[str, Any]], named: str
) -> None:
    short(checkpoint=tmp_path / "fit")
    before = (tmp_path / "fit").read_bytes()
    with pytest.raises(ConflictError, match=f"is of another fit: {named} differ"):
        short(checkpoint=tmp_path / "fit", **other(rows()))
    assert (tmp_path / "fit").read_bytes() == before


def test_a_checkpoint_of_another_network_or_version_is_refused(tmp_path: Path) -> None:
    short(checkpoint=tmp_path / "fit")
    with pytest.raises(ConflictError, match="the network differ"):
        fit([2, 2, 1], rows(), grid=(3,), starts=2, steps=5, checkpoint=tmp_path / "fit")
    known = resume_or_begin(tmp_path / "other", {"the version of kanserve": "0.0.1"}).fingerprint
    with pytest.raises(ConflictError, match="the version of kanserve differ"):
        resume_or_begin(tmp_path / "other", {**known, "the version of kanserve": "0.0.2"})


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.99])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "fit"
    short(checkpoint=path)
    whole = path.read_bytes()
    place = int(share * len(whole))
    for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]):
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match="damaged"):
            short(checkpoint=path)


def test_a_file_that_is_no_checkpoint_stays_as_it_is(tmp_path: Path) -> None:
    serialization.save(create([2, 1]), tmp_path / "kan")
    before = (tmp_path / "kan").read_bytes()
    with pytest.raises(FormatError, match="is not a checkpoint"):
        short(checkpoint=tmp_path / "kan")
    assert (tmp_path / "kan").read_bytes() == before


def test_a_place_that_cannot_be_written_to_is_refused_before_the_fit(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        short(checkpoint=tmp_path / "none" / "fit")
    with pytest.raises(ConflictError, match="is a folder"):
        short(checkpoint=tmp_path)


def test_no_file_is_written_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for method in OPTIONS:
        short(optimizer=method)
    assert not list(tmp_path.iterdir())


@METHODS
def test_an_interrupt_from_the_callback_gives_the_best_network_so_far(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Progress] = []

    def report(now: Progress) -> None:
        told.append(now)
        if len(told) == 3:
            raise KeyboardInterrupt

    data = rows()
    kan = short(data, optimizer=method, starts=100, steps=100, progress=report)
    assert np.isfinite(evaluate(kan, data.x)).all()
    assert len(told) == 3
    assert [record.message[:12] for record in caplog.records] == ["Interrupted:"]


@pytest.mark.parametrize("judge", ["no_worse_than_a_constant", "warning_texts", "with_training_bins"])
def test_an_interrupt_while_the_result_is_judged_loses_no_network(
    judge: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    want = short()
    monkeypatch.setattr(stages, judge, interrupt)
    kan = short()
    assert np.array_equal(evaluate(kan, rows().x), evaluate(want, rows().x))
    assert [record.message[:27] for record in caplog.records] == ["Interrupted after the train"]


def test_a_second_interrupt_goes_through(caplog: pytest.LogCaptureFixture) -> None:
    class Impatient(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise KeyboardInterrupt  # while the first is being answered

    def report(_: Progress) -> None:
        raise KeyboardInterrupt

    handler = Impatient()
    logging.getLogger("kanserve").addHandler(handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            short(progress=report)
    finally:
        logging.getLogger("kanserve").removeHandler(handler)
