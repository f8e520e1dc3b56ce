"""Rows farther out than those of the data: they are the extremes of hidden values."""

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.network.evaluate import activations
from kanserve.network.kan import Kan
from kanserve.train import create
from kanserve.train.lm import extreme_rows as module
from kanserve.train.lm.extreme_rows import EXTREME_SHARE, extreme_rows
from tests.support.networks.kans import deep

Array = NDArray[np.float64]


def hidden(kan: Kan, x: Array) -> Array:
    return np.concatenate(activations(kan, x)[1:-1], axis=1)


def uniform(rows: int, seed: int, inputs: int = 2) -> Array:
    return np.random.default_rng(seed).uniform(-1, 1, (rows, inputs))


def test_extreme_rows_are_where_hidden_values_are_highest_and_lowest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXTREME_SHARE", 100.0)
    kan = create([2, 2, 2, 1], grid=3, seed=1)
    x = uniform(300, 0)
    found = extreme_rows(kan, x)
    assert found.shape == (8, 2)
    assert (found >= x.min(axis=0)).all() and (found <= x.max(axis=0)).all()
    axis = np.linspace(x.min(axis=0), x.max(axis=0), 60)
    square = np.stack(np.meshgrid(axis[:, 0], axis[:, 1]), axis=-1).reshape(-1, 2)
    everywhere, own = hidden(kan, square), hidden(kan, found)
    width = np.ptp(hidden(kan, x), axis=0)
    first = slice(0, 2)  # sums of functions of one input: their highest value is found
    assert (own[:4].diagonal()[first] >= everywhere.max(axis=0)[first] - 0.02 * width[first]).all()
    assert (own[4:].diagonal()[first] <= everywhere.min(axis=0)[first] + 0.02 * width[first]).all()
    assert (own[:4].diagonal() >= hidden(kan, x).max(axis=0)).all()
    assert (own[4:].diagonal() <= hidden(kan, x).min(axis=0)).all()


def test_extreme_rows_leave_the_hidden_ranges_by_no_more_than_a_share() -> None:
    kan = create([6, 2, 1, 1], grid=3, seed=0)
    x = uniform(100, 1, 6)
    on_data, found = hidden(kan, x), hidden(kan, extreme_rows(kan, x))
    low, high, width = on_data.min(axis=0), on_data.max(axis=0), np.ptp(on_data, axis=0)
    share = EXTREME_SHARE
    assert (found[:3].diagonal() <= high + share * width + 1e-12).all()
    assert (found[3:].diagonal() >= low - share * width - 1e-12).all()
    assert (found[:3].diagonal() > high + share * width / 2)[:2].all()  # 6 inputs reach far beyond 100 rows


def test_rows_that_are_not_finite_are_left_out() -> None:
    kan = deep()
    inputs = len(kan.inputs)
    x = uniform(50, 2, inputs)
    x[::7, 0] = np.nan
    assert np.isfinite(extreme_rows(kan, x)).all()
    assert extreme_rows(kan, np.full((5, inputs), np.nan)).shape == (0, inputs)
