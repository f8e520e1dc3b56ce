"""Knots close together where answers jump: found in noise, not in smooth curves, and kept by finer grids."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan, equal
from kanserve.train import Progress, create, fit, score
from kanserve.train.checkpoints import Checkpoint
from kanserve.train.jumps import jumps_of, regrid_with_jumps, with_jumps
from kanserve.train.losses import LossFunction
from kanserve.train.normalising import normalise

Array = NDArray[np.float64]

SQUARED = LossFunction("squared")


def places(values: Array, residuals: NDArray[np.floating]) -> list[float]:
    return sorted(place for place, _ in jumps_of(values, residuals[:, None].astype(np.float64)))


def steps(rows: int, seed: int = 0) -> Dataset:
    """Two inputs in [0, 1] of which one jumps by 2 at 0.3, in noise of 0.3."""
    generator = np.random.default_rng(seed)
    x = generator.uniform(size=(rows, 2))
    return Dataset(x, 2.0 * (x[:, 0] > 0.3) + np.sin(3 * x[:, 1]) + 0.3 * generator.normal(size=rows))


@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0])
def test_jumps_are_found_where_they_are(noise: float) -> None:
    generator = np.random.default_rng(0)
    x = generator.uniform(size=20_000)
    found = places(x, (x > 0.3) * 1.0 - (x > 0.7) * 0.5 + noise * generator.normal(size=len(x)))
    np.testing.assert_allclose(found, [0.3, 0.7], atol=0.001 + 0.005 * noise)


@pytest.mark.parametrize("rows", [300, 2000, 20_000])
@pytest.mark.parametrize("tail", [1.5, 3.0, np.inf])
def test_noise_has_no_jumps_however_long_its_tails(rows: int, tail: float) -> None:
    for seed in range(10):
        generator = np.random.default_rng(seed)
        noise = generator.normal(size=rows) if np.isinf(tail) else generator.standard_t(tail, rows)
        assert not places(generator.uniform(size=rows), noise)


@pytest.mark.parametrize("curve", [lambda x: np.sin(20 * x), np.exp, np.sqrt, lambda x: np.abs(x - 0.5)])
def test_a_smooth_curve_that_the_grid_is_too_coarse_for_has_none(curve: Callable[[Array], Array]) -> None:
    x = np.random.default_rng(0).uniform(size=2000)
    assert not places(x, curve(x))


def test_a_jump_between_repeated_values_is_found_between_them() -> None:
    x = np.random.default_rng(0).integers(0, 10, 5000).astype(float)
    assert places(x, (x > 6) * 1.0) == [6.5]


@pytest.mark.parametrize("rows", [2, 99, 100])
def test_few_rows_have_none(rows: int) -> None:
    x = np.linspace(0, 1, rows)
    assert not places(x, (x > 0.5) * 1.0)


def network(data: Dataset) -> Kan:
    return normalise(create([2, 3, 1], grid=5), data)


def test_the_network_with_knots_at_jumps_is_the_same_function() -> None:
    data = steps(5000)
    kan = network(data)
    jumping = with_jumps(kan, data, SQUARED)
    assert jumping is not None
    assert jumping.layers[0].intervals == 9 and jumping.layers[1].intervals == 5
    close = (0.3 - kan.input_shift[0]) / kan.input_scale[0]
    assert (np.abs(jumping.layers[0].knots - close) < 0.002).sum(axis=1).tolist() == [4, 1]
    np.testing.assert_allclose(evaluate(jumping, data.x), evaluate(kan, data.x), rtol=0, atol=1e-12)
    finer = regrid_with_jumps(jumping, 10, 4)
    assert (finer.layers[0].intervals, finer.layers[1].intervals) == (14, 10)
    assert np.isin(jumping.layers[0].knots[0, 3:-3], finer.layers[0].knots[0]).all()
    np.testing.assert_allclose(evaluate(finer, data.x), evaluate(kan, data.x), rtol=0, atol=1e-12)


def test_without_jumps_or_with_infinite_residuals_there_is_no_such_network() -> None:
    data = steps(5000)
    kan = network(data)
    assert with_jumps(kan, Dataset(data.x, np.sin(3 * data.x[:, 1])), SQUARED) is None
    assert with_jumps(kan, Dataset(data.x, np.where(data.x[:, 0] > 0.3, 1e300, 0.0)), SQUARED) is not None
    last = kan.layers[-1]
    infinite = replace(kan, layers=(*kan.layers[:-1], replace(last, node_bias=np.full(1, 1e4))))
    assert with_jumps(infinite, data, LossFunction("poisson")) is None


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
def test_a_fit_learns_a_jump_nearly_without_error(optimizer: Literal["lm", "lbfgs"]) -> None:
    data, exact = steps(4000), steps(4000, 1)
    exact = Dataset(exact.x, np.where(exact.x[:, 0] > 0.3, 2.0, 0.0) + np.sin(3 * exact.x[:, 1]))
    jumping, even = (fit([2, 1], data, optimizer=optimizer, grid=grid) for grid in ("auto", (3, 5, 10)))
    assert score(jumping, exact).rmse[0] < 0.5 * score(even, exact).rmse[0]
    assert even.layers[0].intervals in (3, 5, 10)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("moment", [0.3, 0.6, 0.9])
def test_a_fit_with_jumps_goes_on_from_a_checkpoint_to_the_same_network(
    moment: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkpoint, "due", property(lambda self: self.path is not None))

    class Killed(Exception):
        pass

    def end(progress: Progress) -> None:
        if progress.share > moment:
            raise Killed

    data, path = steps(2000), tmp_path / "fit"
    with pytest.raises(Killed):
        fit([2, 1], data, optimizer="lbfgs", steps=60, starts=1, checkpoint=path, progress=end)
    resumed = fit([2, 1], data, optimizer="lbfgs", steps=60, starts=1, checkpoint=path)
    whole = fit([2, 1], data, optimizer="lbfgs", steps=60, starts=1)
    assert equal(resumed, whole) and whole.layers[0].intervals not in (3, 5, 10)
