"""Skewed inputs are taken on a logarithmic scale where that predicts unseen rows better, and only there."""

import numpy as np
import pytest

from kanserve.data.dataset import Dataset
from kanserve.estimator import KANClassifier, KANRegressor
from kanserve.estimator.hidden_choice import automatic_plan
from kanserve.estimator.skewed_inputs import log_scales
from kanserve.train.outer_layers import arcsinh_scales


def law(of_logarithm: bool, rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    z = generator.normal(size=(rows, 2))
    x = np.column_stack([np.exp(1.5 * z[:, 0] + 5), z[:, 1]])
    y = z[:, 0] if of_logarithm else x[:, 0] / x[:, 0].std()
    return x, y + 0.5 * z[:, 1] ** 2 + 0.2 * generator.normal(size=rows)


def test_skewed_numbers_have_a_scale_and_others_none():
    x, y = law(True)
    scales = log_scales(Dataset(x, y))
    assert scales[1] == 0 and scales[0] == pytest.approx(np.quantile(x[:, 0], 0.1))
    assert log_scales(Dataset(x[:, 1:], y)) == ()
    few = (x[:, :1] > np.quantile(x[:, 0], 0.97)) * 1.0
    assert log_scales(Dataset(few, y)) == ()
    codes = np.minimum(np.floor(x[:, :1] / 50), 40.0)
    names = tuple(map(str, range(41)))
    assert log_scales(Dataset(codes, y)) != () == log_scales(Dataset(codes, y, categories={"x1": names}))
    x[::3, 0] = np.nan
    assert log_scales(Dataset(x, y))[0] > 0


def test_a_repeated_row_counts_as_its_weight():
    x, y = law(True, 60)
    times = np.arange(60) % 3 + 1
    repeated = Dataset(np.repeat(x, times, axis=0), np.repeat(y, times))
    assert log_scales(repeated) == pytest.approx(log_scales(Dataset(x, y, weights=times.astype(float))), rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("of_logarithm", [True, False])
def test_unseen_rows_decide(of_logarithm: bool):
    assert any(automatic_plan(Dataset(*law(of_logarithm, 150)), 3, {}, 0).log_scales) is of_logarithm


@pytest.mark.slow
def test_the_plan_has_the_scales_and_the_network_the_layer():
    x, y = law(True, 150)
    model = KANRegressor(n_networks=1, random_state=0, starts=1, grid=3).fit(x, y)
    assert arcsinh_scales(model.kan_)[0] > 0
    assert model.kan_.shape == (2, 2, *KANRegressor.from_kan(model.kan_).hidden, 1)
    plain = KANRegressor((), n_networks=1, random_state=0, starts=1, grid=3).fit(x, y)
    assert arcsinh_scales(plain.kan_) == () and plain.score(x, y) < model.score(x, y)


@pytest.mark.slow
def test_classes_are_asked_too():
    x, y = law(True)
    labels = np.where(y > np.median(y), "high", "low")
    model = KANClassifier(n_networks=1, random_state=0, starts=1).fit(x, labels)
    assert arcsinh_scales(model.kan_)[0] > 0 and model.score(x, labels) > 0.85
