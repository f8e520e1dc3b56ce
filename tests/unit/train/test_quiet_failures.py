"""A fit that fails says so; grids, starts and inputs are chosen so that fewer fail."""

import logging
import re
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks._named_fits import CASES, measure
from kanserve.data.dataset import Dataset
from kanserve.network.evaluate import evaluate
from kanserve.train import TrainingWarning, create, fit, score
from kanserve.train.fit_warnings import Fitted, warning_texts
from kanserve.train.lm.telling_inputs import telling_inputs
from kanserve.train.losses import LossFunction
from kanserve.train.normalising import normalise

Array = NDArray[np.float64]
NAMES = ("sin(60 x)", "2 % outliers", "2 % outliers, huber", "noise alone", "one class", "Cauchy inputs, clip")


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", NAMES)
def test_no_case_is_bad_and_silent(name: str) -> None:
    found = measure(next(one for one in CASES if one.name == name))
    assert not found.silent, found


@pytest.mark.parametrize("seed", range(5))
def test_a_fine_wave_is_found_by_default(seed: int) -> None:
    x = np.random.default_rng(seed).uniform(-1, 1, (1500, 1))
    y = np.sin(60 * x[:, 0])
    assert score(fit([1, 1], (x, y), seed=seed), (x, y)).r2[0] > 0.999


def test_a_ladder_goes_on_after_grids_that_gain_nothing() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (1500, 1))
    found = fit([1, 1], (x, np.sin(60 * x[:, 0])), grid=(3, 4, 5, 100))
    assert found.layers[0].intervals == 100


def test_a_smooth_function_takes_no_finer_grid_than_the_default() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (1500, 1))
    assert fit([1, 1], (x, np.sin(3 * x[:, 0]))).layers[0].intervals <= 10


def test_noise_alone_is_called_no_better_than_a_constant() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.uniform(-1, 1, (300, 2)), generator.normal(size=300)
    with pytest.warns(TrainingWarning, match="no better than a constant"):
        fit([2, 1], (x, y), starts=2)


def test_what_may_be_chance_is_called_not_clearly_better() -> None:
    """The words agree with the figures beside them."""
    said = []
    for seed in range(6):
        generator = np.random.default_rng(seed)
        x = generator.uniform(-1, 1, (150, 1))
        y = 0.5 * x[:, 0] + generator.normal(size=150)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            fit([1, 1], (x, y), starts=1)
        text = " ".join(str(one.message) for one in heard)
        said += re.findall(r"predicts (.*) better than a constant: .* is ([\d.]+), that of a constant (\d+\.\d+)", text)
    assert {words for words, *_ in said} == {"no", "not clearly"}
    assert all((words == "not clearly") == (float(own) < float(constant)) for words, own, constant in said)


def test_heavy_tails_are_named_with_what_to_do() -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_cauchy((500, 2))
    y = np.tanh(x[:, 0])
    with pytest.warns(TrainingWarning, match="heavy tails: x1, x2.*extrapolation='clip'"):
        fit([2, 1], (x, y), starts=2)
    y[:5] = 1e3
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        fit([2, 1], (np.tanh(x), y), starts=2)
    assert "Answers with heavy tails: y. " in str(heard[0].message) and "loss='huber'" in str(heard[0].message)


def _product_of_noise(rows: int, columns: int) -> tuple[Array, Array]:
    generator = np.random.default_rng(rows)
    x = generator.normal(size=(rows, columns))
    return x, x[:, 0] * x[:, 1] + generator.normal(size=rows)


@pytest.mark.parametrize(
    ("rows", "columns", "hidden", "match"),
    [
        (2, 3, (5,), "^2 rows of 3 inputs cannot tell.*validation=.*no hidden nodes \\(.3, 1.\\)"),
        (5, 200, (), "cannot tell|5 rows, each left out in turn,.*that of a constant"),
        (8, 3, (5,), "8 rows, each left out in turn,.*that of a constant"),
        (24, 4, (5,), "5 held-out rows.*Rows that the fit has not seen can tell"),
    ],
)
def test_rows_that_cannot_tell_are_called_too_few(rows: int, columns: int, hidden: tuple[int, ...], match: str) -> None:
    with pytest.warns(TrainingWarning, match=match):
        fit([columns, *hidden, 1], _product_of_noise(rows, columns), starts=2)


def test_rows_that_are_repeated_are_left_out_together() -> None:
    x, y = _product_of_noise(3, 2)
    with pytest.warns(TrainingWarning, match="9 rows, each left out in turn,"):
        fit([2, 1], (np.repeat(x, 3, axis=0), np.repeat(y, 3)), starts=2)
    with pytest.warns(TrainingWarning, match="^8 rows of 2 inputs cannot tell"):
        fit([2, 1], (np.repeat(x[:2], 4, axis=0), np.repeat(y[:2], 4)), starts=2)


def test_classes_of_few_rows_are_judged_too() -> None:
    x = np.random.default_rng(0).normal(size=(8, 3))
    with pytest.warns(TrainingWarning, match="Too few rows"):
        fit([3, 2, 2], (x, np.array(["a", "b"] * 4)), starts=2)


@pytest.mark.parametrize(
    ("rows", "columns", "hidden", "law"),
    [
        (60, 2, (5,), lambda x: np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2)),
        (30, 3, (), lambda x: x[:, 0] + x[:, 1] ** 2),
        (5, 1, (5,), lambda x: 2 * x[:, 0] + 1),
        (9, 1, (5,), lambda x: np.sin(3 * x[:, 0])),
    ],
)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.extended) for seed in (1, 2))])
def test_few_rows_that_generalise_say_nothing(
    rows: int, columns: int, hidden: tuple[int, ...], law: Callable[[Array], Array], seed: int
) -> None:
    x = np.random.default_rng(seed).uniform(-1, 1, (rows, columns))
    x[: min(rows, 2)] = np.array([[-1.0], [1.0]])  # the ends of the range: no other row is outside
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit([columns, *hidden, 1], (x, law(x)), seed=seed)


def test_without_validation_nobody_asks() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit([3, 1], _product_of_noise(8, 3), validation=0)


@pytest.mark.slow
def test_good_fits_say_nothing() -> None:
    x = np.random.default_rng(0).normal(size=(500, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit([2, 1], (x, x[:, 0] + np.sin(x[:, 1])), starts=2)
        fit([2, 2], (x, np.where(x[:, 0] > 0, "a", "b")), starts=4)


@pytest.mark.slow
def test_of_many_inputs_those_that_tell_nothing_are_pruned() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(600, 120))
    y = np.sin(x[:, 3]) + x[:, 7] * x[:, 11]
    found = fit([120, 5, 1], (x, y), starts=4)
    assert {3, 7, 11} <= set(np.flatnonzero(found.layers[0].alive.any(axis=0)).tolist())
    assert found.shape == (120, 5, 1) and found.layers[0].alive.any(axis=0).sum() < 30
    new = generator.normal(size=(600, 120))
    assert score(found, (new, np.sin(new[:, 3]) + new[:, 7] * new[:, 11])).r2[0] > 0.9


@pytest.mark.parametrize("alone", [0, 1])
def test_inputs_that_act_only_as_a_product_are_kept_and_the_log_names_those_left_out(
    alone: int, caplog: pytest.LogCaptureFixture
) -> None:
    generator = np.random.default_rng(1)
    x = generator.uniform(-1, 1, (400, 30))
    y = alone * x[:, 5] + x[:, 1] * x[:, 2]
    told: list[str] = []
    with caplog.at_level(logging.INFO, "kanserve"):
        found = fit([30, 5, 1], (x, y), starts=1, progress=lambda event: told.append(event.stage))
    kept = np.flatnonzero(found.layers[0].alive.any(axis=0)).tolist()
    assert {1, 2} | ({5} if alone else set()) <= set(kept) and len(kept) < 10
    assert told[0] == f"{len(kept)} of 30 inputs"
    text = "".join(caplog.messages)
    assert text.count("screen=False keeps all") == 1
    assert ", ".join(f"x{i + 1}" for i in kept) + ": the others are left out" in text
    assert ", ".join(f"x{i + 1}" for i in range(30) if i not in kept) + ")" in text


@pytest.mark.filterwarnings("ignore::kanserve.train.TrainingWarning")
def test_all_inputs_are_kept_on_request_and_where_none_tells_anything() -> None:
    generator = np.random.default_rng(1)
    x = generator.uniform(-1, 1, (100, 20))
    options = {"starts": 1, "steps": 5, "optimizer": "lm", "grid": 3}
    kan = fit([20, 1, 1], (x, x[:, 1] * x[:, 2]), screen=False, **options)  # type: ignore[arg-type]  # of several types
    assert kan.layers[0].alive.all()
    data = Dataset(x, generator.normal(size=100))
    template = normalise(create([20, 1, 1]), data)
    assert telling_inputs(template, data, LossFunction("squared"), 0).all()


@pytest.mark.parametrize("part", [np.square, np.cos, np.copy])
def test_no_input_of_a_sum_of_many_small_parts_is_left_out(part: Callable[[Array], Array]) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (800, 40))
    data = Dataset(x, part(x).sum(axis=1))
    template = normalise(create([40, 5, 1]), data)
    assert telling_inputs(template, data, LossFunction("squared"), 0).all()


@pytest.mark.parametrize("inputs", [30, 120])
def test_a_sign_of_a_product_is_found_among_many_inputs(inputs: int) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (600, inputs))
    data = Dataset(x, x[:, 0] + np.sign(x[:, 1] * x[:, 2]))
    kept = np.flatnonzero(
        telling_inputs(normalise(create([inputs, 5, 1]), data), data, LossFunction("squared"), 0)
    ).tolist()
    assert {0, 1, 2} <= set(kept) and len(kept) < 10


@pytest.mark.slow
def test_a_classifier_of_one_hidden_node_is_fitted_by_least_squares_and_starts() -> None:
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (500, 2))
    labels = np.array(["low", "middle", "high"])[np.digitize(np.sin(3 * x[:, 0]) + x[:, 1] ** 2, [-0.3, 0.6])]
    found = fit([2, 1, 3], (x, labels))
    accuracy = score(found, (x, labels)).accuracy
    assert accuracy is not None and accuracy > 0.97


@pytest.mark.slow
@pytest.mark.extended
def test_starts_of_lbfgs_are_repeatable_and_gain() -> None:
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (300, 2))
    y = np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2)
    options = {"optimizer": "lbfgs", "steps": 40, "grid": 3}
    with pytest.warns(TrainingWarning, match="misses structure"):
        one = fit([2, 1, 1], (x, y), starts=1, **options)  # type: ignore[arg-type]  # of several types
    several, again = (fit([2, 1, 1], (x, y), starts=4, **options) for _ in range(2))  # type: ignore[arg-type]
    assert np.array_equal(evaluate(several, x), evaluate(again, x))
    assert score(several, (x, y)).loss <= score(one, (x, y)).loss


def test_a_fit_that_misses_waves_says_so_and_noise_is_none() -> None:
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (400, 1))
    with pytest.warns(TrainingWarning, match=r"misses structure: the errors of 4 near rows explain \d\d%"):
        fit([1, 1], (x, x + np.sin(20 * x)), grid=3)
    fit([1, 1], (x, x + 0.5 * generator.normal(size=x.shape)))  # warnings are errors


def test_a_time_in_nanoseconds_is_named_with_its_remedy() -> None:
    generator = np.random.default_rng(0)
    days = 19_000 + generator.uniform(0, 730, (300, 1))
    with pytest.warns(TrainingWarning, match=r"'x1' is a time in nanoseconds: give what repeats as columns"):
        fit([1, 1], (days * 86400e9, np.sin(2 * np.pi * days / 7)), starts=1)


def test_a_network_that_does_not_fit_its_own_rows_is_told() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (300, 1))
    rows = Dataset(x, x**2)
    judged = fit([1, 1], rows)
    final = replace(judged, layers=(replace(judged.layers[0], node_bias=np.ones(1)),))
    loss = LossFunction("squared")
    good, bad = (warning_texts(Fitted(judged, rows, rows, rows, loss, False, final=one)) for one in (judged, final))
    assert not good and "does not fit its own rows" in bad[0]
