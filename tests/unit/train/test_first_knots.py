"""Knots near the quantiles of inputs with most values in a small part of their range, and even ones elsewhere."""

import numpy as np
import pytest

import kanserve
from kanserve.data.dataset import Dataset
from kanserve.train import TrainingWarning, create, fit, grids
from kanserve.train.fit_arguments import hold_out
from kanserve.train.grids import is_crowded, with_first_knots
from kanserve.train.normalising import normalise


def test_incomes_are_crowded_and_usual_distributions_are_not():
    generator = np.random.default_rng(0)
    for rows in (1000, 20_000):
        assert not is_crowded(generator.uniform(size=rows)) and not is_crowded(generator.normal(size=rows))
        assert not is_crowded(generator.exponential(size=rows))
        assert is_crowded(np.exp(2 * generator.normal(size=rows)))


def test_knots_follow_the_values_of_crowded_inputs_alone():
    generator = np.random.default_rng(0)
    x = np.column_stack([np.exp(2 * generator.normal(size=500)), generator.uniform(size=500)])
    data = Dataset(x, x[:, 1])
    kan = with_first_knots(normalise(create([2, 3, 1]), data), data, 4, 0)
    first = kan.layers[0]
    assert first.coefficients.shape == (3, 2, 7) and (np.diff(first.knots, axis=1) > 0).all()
    assert np.allclose(np.diff(first.knots[1]), 0.5)
    assert first.knots[0, 3] == -1 and first.knots[0, 7] == 1 and first.knots[0, 5] < -0.8


@pytest.mark.filterwarnings("ignore:Inputs with heavy tails")
def test_a_curve_of_a_crowded_input_is_learnt(monkeypatch):
    generator = np.random.default_rng(0)
    x = np.exp(1.3 * generator.normal(size=(800, 1)))
    y = np.tanh(3 - 2 * x[:, 0])
    kan = fit([1, 1], (x, y), grid=10)
    monkeypatch.setattr(grids, "is_crowded", lambda values: False)
    with pytest.warns(TrainingWarning, match="misses structure"):
        even = fit([1, 1], (x, y), grid=10)
    assert kanserve.score(kan, (x, y)).rmse[0] < 0.5 * kanserve.score(even, (x, y)).rmse[0]


def test_rows_with_equal_inputs_are_held_out_together():
    x = np.repeat(np.random.default_rng(0).normal(size=(150, 3)), 4, axis=0)
    data = kanserve.Dataset(x, np.arange(600.0))
    out, held = hold_out(data, 0.2, 1000, 0)
    assert out is not None and held is not None and 100 <= len(held) <= 140 and (np.diff(out) > 0).all()
    left = data.without(out)
    assert not {row.tobytes() for row in held.x} & {row.tobytes() for row in left.x}


def test_few_kinds_of_rows_are_split_row_by_row():
    x = np.repeat(np.random.default_rng(0).normal(size=(20, 3)), 30, axis=0)
    _, held = hold_out(kanserve.Dataset(x, np.arange(600.0)), 0.2, 1000, 0)
    assert held is not None and len(held) == 120 and len(np.unique(held.x, axis=0)) > 15


def test_splines_stay_tame_in_a_gap_without_rows():
    """Noisy data, whose smoothness is never 0: what a gap holds is between its ends."""
    generator = np.random.default_rng(0)
    x = np.concatenate([generator.uniform(-1, -0.6, 300), generator.uniform(0.6, 1, 300)])[:, None]
    y = x[:, 0] + generator.normal(0, 0.5, 600)
    kan = fit([1, 1], (x, y), grid=(3, 5, 10))
    assert np.abs(kan(np.linspace(-0.6, 0.6, 50)[:, None])).max() < 3
