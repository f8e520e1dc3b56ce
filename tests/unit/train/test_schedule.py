"""Deep networks on exact data: which starts are continued, and what new rows far out cost."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.network.evaluate import evaluate
from kanserve.train import Progress, fit

Array = NDArray[np.float64]


def stages(shape: list[int], data: tuple[Array, Array], **options: Any) -> list[str]:
    found: list[str] = []

    def report(progress: Progress) -> None:
        found.append(progress.stage)

    fit(shape, data, noise_free=True, grid=(3, 5, 10), progress=report, **options)
    return found


def test_further_starts_are_tried_where_the_error_falls_too_slowly() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (600, 2))
    kink = x.sum(axis=1) + 0.2 * np.abs(x[:, 0] - 0.123)
    told = stages([2, 1, 1, 1], (x, kink), starts=3)
    assert "start 3 of 3" in told and "start 4 of 6" in told and "start 9 of 9" in told
    assert "start 10 of 12" not in told


def test_no_further_starts_are_tried_where_the_error_falls_as_theory_says() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (600, 2))
    told = stages([2, 1, 1, 1], (x, np.exp(np.sin(2 * x[:, 0]) + x[:, 1] ** 2)), starts=3)
    assert "start 3 of 3" in told and not any(stage.startswith("start 4") for stage in told)


@pytest.mark.parametrize("options", [{"starts": 2}, {"starts": 3, "smooth": 1e-6}])
def test_few_starts_and_smoothed_ones_are_all_that_there_are(options: dict[str, Any]) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (300, 2))
    told = stages([2, 1, 1, 1], (x, x.sum(axis=1) + 0.2 * np.abs(x[:, 0] - 0.123)), **options)
    assert sum(stage.startswith("start") for stage in told) == options["starts"]


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(("validation", "seed"), [(0.0, 5), (0.2, 3)])
def test_new_rows_in_corners_are_as_exact_as_all_others(validation: float, seed: int) -> None:
    def squares(rows: int, of: int) -> Dataset:
        x = np.random.default_rng(of).uniform(-1, 1, (rows, 4))
        waves = np.sin(np.pi * (x[:, 0] ** 2 + x[:, 1] ** 2)) + np.sin(np.pi * (x[:, 2] ** 2 + x[:, 3] ** 2))
        return Dataset(x, np.exp(waves / 2))

    kan = fit([4, 4, 2, 1], squares(3000, 0), grid=20, validation=validation, noise_free=True, seed=seed)
    new = squares(10_000, 1)
    errors = evaluate(kan, new.x) - new.y
    assert np.sqrt((errors**2).mean()) < 1e-5
    assert np.abs(errors).max() < 1e-3
