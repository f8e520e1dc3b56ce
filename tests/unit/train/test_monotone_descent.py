"""Fits that are monotone in some inputs: everywhere, also outside the grid, and clear errors for what cannot be."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

import kanserve
from kanserve import native
from kanserve.errors import TrainingError
from kanserve.network.evaluate import evaluate, softmax
from kanserve.train import TrainingWarning, create, fit
from kanserve.train.lm.levenberg_marquardt import refine
from kanserve.train.lm.monotone_descent import Steps, edge_signs
from kanserve.train.lm.parameter_vector import free_parameters, gather

ROUNDING = 1e-12  # of outputs of about 1: the slope between equal coefficients is rounding


def noisy(rows: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """y falls in x1 in places, and rises in x2 in places; both only by noise and a bump."""
    generator = np.random.default_rng(seed)
    x = generator.uniform(-1, 1, (rows, 3))
    y = x[:, 0] + 0.5 * np.sin(5 * x[:, 0]) - x[:, 1] ** 3 + np.cos(3 * x[:, 2]) * (1 + x[:, 0])
    return x, y + generator.normal(0, 0.3, rows)


def lowest_step(values: np.ndarray) -> float:
    return float(np.diff(values, axis=0).min())


def along(kan: kanserve.Kan, i: int, seed: int, reach: float = 4.0) -> np.ndarray:
    """The outputs (S, 40, Q) on lines along input i, from far outside the grid to far outside."""
    generator = np.random.default_rng(seed)
    ways = np.linspace(-reach, reach, 400)
    lines = []
    for _ in range(40):
        x = np.tile(generator.uniform(-2, 2, len(kan.inputs)), (len(ways), 1))
        x[:, i] = ways
        lines.append(evaluate(kan, x))
    return np.stack(lines, axis=1)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("shape", [[3, 1], [3, 4, 1], [3, 3, 2, 1]])
@pytest.mark.parametrize("loss", ["squared", "quantile"])
def test_predictions_are_monotone_everywhere(shape, loss):
    x, y = noisy()
    # The law is not additive, and a fit by squares says so.
    additive = pytest.warns(TrainingWarning, match="misses structure") if len(shape) == 2 else nullcontext()
    with additive if loss == "squared" else nullcontext():
        kan = fit(shape, (x, y), monotonic_cst=[1, -1, 0], loss=loss, grid=(3, 5), starts=2, steps=30)
    assert lowest_step(along(kan, 0, 1)) >= -ROUNDING
    assert lowest_step(-along(kan, 1, 2)) >= -ROUNDING
    assert lowest_step(along(kan, 2, 3)) < -0.01  # the free input turns
    assert kanserve.score(kan, (x, y)).r2[0] > 0.6


def test_a_monotone_law_is_learnt_as_well_as_without_the_constraint():
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (400, 2))
    y = np.exp(x[:, 0]) + np.tanh(3 * x[:, 1])
    kan = fit([2, 1], (x, y), monotonic_cst={"x1": 1, "x2": 1}, noise_free=True)
    assert kanserve.score(kan, (x, y)).rmse[0] < 1e-3 * y.std()


def test_the_logarithm_of_a_rate_is_monotone():
    x, _ = noisy()
    counts = np.random.default_rng(1).poisson(np.exp(1 + x[:, 0]))
    kan = fit([3, 2, 1], (x, counts), monotonic_cst=[1, 0, -1], loss="poisson", grid=3, starts=1, extrapolation="clip")
    assert lowest_step(along(kan, 0, 1)) >= -ROUNDING * counts.max()
    assert lowest_step(-along(kan, 2, 1)) >= -ROUNDING * counts.max()


@pytest.mark.slow
@pytest.mark.extended
def test_the_probability_of_the_second_class_follows_the_sign():
    x, y = noisy()
    kan = fit([3, 3, 2], (x, np.where(y > 0.5, "yes", "no")), monotonic_cst=[1, -1, 0], grid=3, starts=2)
    probability = np.apply_along_axis(lambda scores: softmax(scores[None])[0], 2, along(kan, 0, 1))[:, :, 1]
    assert lowest_step(probability) >= -ROUNDING and probability.max() > 0.6
    accuracy = kanserve.score(kan, (x, np.where(y > 0.5, "yes", "no"))).accuracy
    assert accuracy is not None and accuracy > 0.7


@pytest.mark.slow
def test_inputs_with_missing_values_may_be_monotone_and_categories_not():
    x, y = noisy()
    x[::7, 0] = np.nan
    kan = fit([3, 2, 1], (x, y), monotonic_cst=[1, 0, 0], grid=3, starts=1)
    assert lowest_step(along(kan, 0, 1)) >= -ROUNDING
    data = kanserve.Dataset(np.column_stack([x[:, 1], np.arange(300) % 2]), y, categories={"x2": ("a", "b")})
    with pytest.raises(TrainingError, match="'x2' has categories, which have no order"):
        fit([2, 1], data, monotonic_cst={"x2": 1})


def test_refining_keeps_the_signs_and_makes_them_first():
    x, y = noisy()
    kan = refine(create([3, 3, 1], seed=1), x, y[:, None], steps=5, monotonic_cst=(0, -1, 0))
    assert lowest_step(-along(kan, 1, 1)) >= -ROUNDING
    assert (kan.layers[0].base_weight[:, 1] == 0).all() and (kan.layers[0].base_weight[:, 0] != 0).all()


def test_the_compiled_and_the_plain_path_agree(monkeypatch):
    x, y = noisy(100)
    found = refine(create([3, 2, 1], seed=1), x, y[:, None], steps=5, monotonic_cst=(1, 0, 0))
    monkeypatch.setattr(native, "library", lambda: None)
    plain = refine(create([3, 2, 1], seed=1), x, y[:, None], steps=5, monotonic_cst=(1, 0, 0))
    assert np.abs(evaluate(found, x) - evaluate(plain, x)).max() < 1e-6


def test_slopes_by_steps_are_the_derivatives():
    kan = create([2, 2, 1], seed=3)
    free = free_parameters(kan)
    steps = Steps.of(free, edge_signs(kan, (1, -1)))
    vector = gather(kan, free)
    numbers = steps.numbers(vector)
    assert np.abs(steps.vector(numbers) - vector).max() < 1e-14
    weights = np.random.default_rng(0).normal(size=len(vector))
    change = 1e-3 * np.random.default_rng(1).normal(size=len(vector))
    moved = weights @ (steps.vector(numbers + change) - vector)
    assert moved == pytest.approx(steps.slopes(weights) @ change, rel=1e-9)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"z": 1}, "names 'z', not an input. Inputs: x1, x2, x3"),
        ([1, 0], "has 2 numbers for 3 inputs"),
        ([2, 0, 0], "1, 0 or -1 for each input, got 2"),
    ],
)
def test_signs_that_are_none_are_refused(given, message):
    with pytest.raises(TrainingError, match=message):
        fit([3, 1], noisy(), monotonic_cst=given)


def test_what_cannot_be_monotone_is_refused():
    x, y = noisy()
    with pytest.raises(TrainingError, match="product of nodes that depend on a monotone input"):
        fit([3, (1, 1), 1], (x, y), monotonic_cst=[1, 0, 0])
    with pytest.raises(TrainingError, match="for numbers and for 2 classes; these data have 3"):
        fit([3, 1, 3], (x, np.arange(300) % 3), monotonic_cst=[1, 0, 0], loss="cross_entropy")
    with pytest.raises(TrainingError, match="Levenberg-Marquardt alone"):
        fit([3, 1], (x, y), monotonic_cst=[1, 0, 0], optimizer="adam")
    named = kanserve.Kan((kanserve.make_layer(functions=[["sin", "x", "x"]]),))
    with pytest.raises(TrainingError, match="Edge 'x1->y' is a named function"):
        refine(named, x, y[:, None], monotonic_cst=(1, 0, 0))
    falling = kanserve.Kan(
        (kanserve.make_layer(np.zeros((1, 3, 6)), extrapolation="zero", base_weight=np.ones((1, 3))),)
    )
    with pytest.raises(TrainingError, match="fall to 0 outside their grid"):
        refine(falling, x, y[:, None], monotonic_cst=(1, 0, 0))


def test_a_product_of_free_inputs_beside_a_monotone_one_is_fitted():
    x, _ = noisy()
    y = x[:, 0] + x[:, 1] * x[:, 2]
    kan = create([3, (1, 1), 1], seed=0, base="zero")
    coefficients = kan.layers[0].coefficients.copy()
    coefficients[1:, 0] = 0.0  # the factors do not take x1
    kan = replace(kan, layers=(replace(kan.layers[0], coefficients=coefficients), kan.layers[1]))
    found = fit(kan, (x, y), monotonic_cst=[1, 0, 0], grid=3, noise_free=True, starts=4)
    assert lowest_step(along(found, 0, 1)) >= -ROUNDING
    assert kanserve.score(found, (x, y)).r2[0] > 0.99
