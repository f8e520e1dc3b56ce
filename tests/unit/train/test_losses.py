"""Losses beside squares: their derivatives, every optimizer, links and clipped inputs in the network itself."""

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve import KANRegressor
from kanserve.data.dataset import Dataset
from kanserve.data.row_weights import mean_difference
from kanserve.errors import DataError, TrainingError
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from kanserve.train import create, fit, refine, score
from kanserve.train.fit_arguments import Loss
from kanserve.train.losses import LossFunction, loss_function
from kanserve.train.normalising import normalise
from kanserve.train.outer_layers import (
    with_clipped_inputs,
    with_exponential,
    without_clipped_inputs,
    without_exponential,
)
from kanserve.train.torch.batches import Batches
from kanserve.train.torch.objective import Goal, by_row, model

Array = NDArray[np.float64]

LOSSES = (
    loss_function("squared", 0.5, 1.5),
    loss_function("huber", 0.5, 1.5),
    loss_function("quantile", 0.9, 1.5),
    loss_function("poisson", 0.5, 1.5),
    loss_function("tweedie", 0.5, 1.3),
    LossFunction("tweedie", 2.0),
)
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: f"{loss.name} {loss.shape:g}")


def rows(count: int = 400, seed: int = 0) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    x = generator.uniform(-1, 1, (count, 2))
    return x, np.sin(3 * x[:, 0]) + x[:, 1] ** 2


def with_outliers(y: Array, share: float = 0.02) -> Array:
    generator = np.random.default_rng(1)
    where = generator.choice(len(y), round(share * len(y)), replace=False)
    wrong = y.copy()
    wrong[where] += 100 * y.std() * generator.choice([-1, 1], len(where))
    return wrong


@each_loss
def test_slopes_are_the_derivatives_and_curvatures_bound_a_step(loss: LossFunction) -> None:
    generator = np.random.default_rng(0)
    u, t, h = generator.normal(size=(300, 1)), np.abs(generator.normal(size=(300, 1))) + 0.1, 1e-6
    slope, curvature = loss.slopes(u, t)
    assert np.allclose(slope[:, 0], (loss.values(u + h, t) - loss.values(u - h, t)) / (2 * h), atol=1e-6)
    assert (curvature > 0).all()
    if not loss.log_link:  # a parabola that touches the loss from above
        for step in (-0.5, 0.01, 2.0):
            above = loss.values(u, t) + (slope * step + curvature * step**2 / 2)[:, 0]
            assert (loss.values(u + step, t) <= above + 1e-12).all()


@each_loss
def test_torch_computes_the_same_loss(loss: LossFunction) -> None:
    x, y = rows(50)
    data = Dataset(x, np.exp(y))
    kan = normalise(create([2, 3, 1]), data, loss)
    goal = Goal(loss.name, 0, 0, ridge=0, smooth=0, at_once=20, shape=loss.shape)
    one = model(kan, "cpu")
    found = by_row(goal, one, one.vector(), Batches(data, "cpu")).numpy()
    u = (evaluate(kan, x) - kan.output_shift) / kan.output_scale
    assert np.allclose(found, loss.values(u, loss.answers(kan, data.y)), rtol=1e-9, atol=1e-12)


@each_loss
def test_numpy_finds_what_the_kernels_find(loss: LossFunction, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = rows(200)
    data = Dataset(x, np.exp(y), weights=np.arange(1.0, 201))
    kan = normalise(create([2, 2, 1]), data, loss)

    def fitted() -> Array:
        return evaluate(refine(kan, x, data.y, steps=8, weights=data.weights, loss=loss), x)

    fast = fitted()
    monkeypatch.setattr("kanserve.native.library", lambda: None)
    assert np.allclose(fast, fitted(), rtol=1e-5, atol=1e-7)


def test_huber_finds_the_function_behind_outliers() -> None:
    x, y = rows(1000)
    found = fit([2, 3, 1], (x, with_outliers(y)), loss="huber", starts=4)
    assert score(found, (x, y)).r2[0] > 0.99


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
def test_a_quantile_has_its_share_of_the_answers_below(optimizer: str) -> None:
    x, y = rows(1500)
    noisy = y + np.random.default_rng(2).normal(size=len(y)) * (0.2 + 0.1 * x[:, 0])
    found = fit([2, 1], (x, noisy), loss="quantile", quantile=0.9, optimizer=optimizer, steps=80)  # type: ignore[arg-type]  # names of the parameter set
    assert 0.87 < float((noisy < evaluate(found, x)[:, 0]).mean()) < 0.93


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
@pytest.mark.parametrize("loss", ["poisson", "tweedie"])
def test_a_log_link_predicts_positive_means_on_the_scale_of_y(loss: Loss, optimizer: str) -> None:
    x, y = rows(1500)
    counts = np.random.default_rng(3).poisson(5 * np.exp(y)).astype(float)
    found = fit([2, 1], (x, counts), loss=loss, optimizer=optimizer, steps=80)  # type: ignore[arg-type]  # names of the parameter set
    assert score(found, (x, 5 * np.exp(y))).r2[0] > 0.97
    assert (evaluate(found, 10 * x) > 0).all()
    assert found.layers[-1].functions[0, 0] == "exp"


def test_a_log_link_and_clipped_inputs_are_layers_that_can_be_taken_off_again() -> None:
    x, y = rows(100)
    kan = normalise(create([2, 3, 1]), Dataset(x, y))
    assert np.allclose(evaluate(with_exponential(kan), x), np.exp(evaluate(kan, x)))
    low, high = x.min(axis=0), x.max(axis=0)
    far = 3 * x
    assert np.allclose(evaluate(with_clipped_inputs(kan), far), evaluate(kan, np.clip(far, low, high)))
    assert without_exponential(with_exponential(kan)).layers == kan.layers
    assert without_clipped_inputs(with_clipped_inputs(kan)).layers == kan.layers
    assert without_clipped_inputs(kan) is kan and without_exponential(kan) is kan


def test_a_fit_again_of_what_was_fitted_adds_no_second_link() -> None:
    x, y = rows(200)
    options = {"loss": "poisson", "extrapolation": "clip", "starts": 1, "grid": 3}
    first: Kan = fit([2, 1], (x, np.exp(y)), **options)  # type: ignore[arg-type]  # of several types
    assert len(fit(first, (x, np.exp(y)), **options).layers) == len(first.layers) == 4  # type: ignore[arg-type]  # the same


def test_clipped_inputs_bound_predictions_far_outside() -> None:
    x, y = rows(300)
    bounded = fit([2, 1], (x, y), extrapolation="clip", starts=2)
    assert np.abs(evaluate(bounded, 1e6 * x)).max() < 1.5 * np.abs(y).max()
    assert np.abs(evaluate(fit([2, 1], (x, y), starts=2), 1e6 * x)).max() > 1e3


def test_negative_answers_are_refused_by_a_log_link() -> None:
    x, y = rows(50)
    with pytest.raises(DataError, match="log link and needs answers of 0 or more"):
        fit([2, 1], (x, y), loss="poisson")


@pytest.mark.parametrize("option", [{"quantile": 1.0}, {"power": 1.0}, {"power": 3}, {"extrapolation": "flat"}])
def test_parameters_of_losses_are_checked(option: dict[str, object]) -> None:
    x, y = rows(50)
    with pytest.raises(TrainingError, match=next(iter(option))):
        fit([2, 1], (x, y), **option)  # type: ignore[arg-type]  # wrong on purpose


def test_the_estimator_takes_the_losses() -> None:
    x, y = rows(600)
    found = KANRegressor(hidden=(), loss="poisson", random_state=0).fit(x, np.exp(y))
    assert found.score(x, np.exp(y)) > 0.99 and (found.predict(x) > 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        robust = KANRegressor(hidden=(), loss="huber", random_state=0).fit(x, with_outliers(y))
    assert robust.score(x, y) > 0.99


def test_a_paired_difference_has_the_standard_error_of_the_mean() -> None:
    losses, others = np.random.default_rng(0).normal(size=(2, 50))
    worse, error = mean_difference(losses, others)
    assert worse == pytest.approx((losses - others).mean())
    assert error == pytest.approx((losses - others).std() / np.sqrt(50))
    assert mean_difference(losses, others, np.full(50, 0.02)) == pytest.approx((worse, error))
