"""Rows farther out than those of the data: they are the extremes of hidden values, and the network is unsure there."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.network.evaluate import activations, evaluate
from kanserve.network.kan import Kan
from kanserve.train import create, refine, score
from kanserve.train.grids import set_ranges
from kanserve.train.lm import extreme_rows as module
from kanserve.train.lm.extreme_rows import EXTREME_SHARE, excess, extreme_rows
from kanserve.train.lm.jacobian import jacobian, problem
from kanserve.train.lm.parameter_vector import free_parameters, gather
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


def test_the_excess_is_the_mean_of_the_leverages_of_the_extreme_rows() -> None:
    kan = create([2, 1, 1, 1], grid=3, seed=3)
    rows = Dataset(uniform(400, 3), uniform(400, 4, 1))
    free = free_parameters(kan)
    others = extreme_rows(kan, rows.x)

    def slopes(x: Array) -> Array:
        one = problem(kan, x, np.zeros((len(x), 1)), None, free)
        found: Array = jacobian(one, gather(kan, free)) * np.sqrt(len(x))
        return found

    known, new = slopes(rows.x), slopes(others)
    ridge = 1e-3
    strength = np.zeros(known.shape[1])
    start = 0
    for layer in free:
        strength[start : start + layer.splines + len(layer.base)] = ridge
        start += layer.size
    normal = known.T @ known + len(known) * np.diag(strength)
    leverages = np.einsum("np,pn->n", new, np.linalg.solve(normal, new.T))
    assert excess(kan, rows, ridge, 0.0) == pytest.approx(leverages.sum() / len(known), rel=1e-6)


def test_the_excess_is_larger_the_farther_out_the_extreme_rows_are() -> None:
    x = uniform(2000, 5)
    y = np.exp(x[:, :1] + x[:, 1:])
    corners = np.array([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    near = Dataset(np.concatenate([x, corners]), np.concatenate([y, np.exp(corners.sum(axis=1, keepdims=True))]))
    inside = (np.abs(x) < 0.7).any(axis=1)  # no corners
    kan = set_ranges(create([2, 1, 1, 1], grid=5, seed=0), near.x)
    full, cut = (refine(kan, rows.x, rows.y, steps=60, jumps=1e-7) for rows in (near, Dataset(x[inside], y[inside])))
    assert min(score(full, near).r2[0], score(cut, (x[inside], y[inside])).r2[0]) > 1 - 1e-4
    of_full, of_cut = excess(full, near, 1e-13, 1e-7), excess(cut, Dataset(x[inside], y[inside]), 1e-13, 1e-7)
    assert of_cut > 2 * of_full > 0
    wanted = np.exp(corners.sum(axis=1))
    errors = [np.abs(evaluate(one, corners)[:, 0] - wanted).max() for one in (full, cut)]
    assert errors[1] > errors[0]


def test_a_network_that_is_not_finite_is_never_expected_to_be_right() -> None:
    kan = create([2, 1, 1, 1], grid=3, seed=3)
    layers = tuple(replace(layer, coefficients=1e200 * layer.coefficients) for layer in kan.layers)
    rows = Dataset(uniform(50, 3), uniform(50, 4, 1))
    assert excess(kan, rows, 1e-9, 0.0) < np.inf
    assert excess(replace(kan, layers=layers), rows, 1e-9, 0.0) == np.inf
