"""Settings and data that no fit can do anything with are refused, and said why."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.errors import DataError, NetworkError, TrainingError
from kanserve.network.evaluate import evaluate
from kanserve.train import create, fit, score
from tests.support.networks.training_rows import hello


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"grid": (5, 3)}, TrainingError, "increasing numbers of intervals"),
        ({"grid": ()}, TrainingError, "increasing numbers of intervals"),
        ({"starts": 0}, TrainingError, "at least one start"),
        ({"validation": 1.0}, TrainingError, "share of rows"),
        ({"validation": Dataset(np.zeros((2, 3)), np.zeros(2))}, DataError, "same columns"),
        ({"smooth": -1.0}, TrainingError, "smooth is"),
        ({"loss": "cross_entropy"}, DataError, "must be class labels"),
        ({"optimizer": "lm", "l1": 0.1}, TrainingError, "no l1 or entropy penalty"),
        ({"grid": "5"}, TrainingError, "increasing numbers of intervals, .* got .5"),
        ({"grid": (3.5,)}, TrainingError, "increasing numbers of intervals"),
        ({"seed": -1}, TrainingError, "whole number from 0 on, got -1"),
        ({"seed": 1.5}, TrainingError, "whole number from 0 on, got 1.5"),
        ({"validation": "some"}, TrainingError, "share of rows"),
        ({"starts": 1.5}, TrainingError, "at least one start"),
        ({"loss": "mse"}, TrainingError, "loss is one of .* got 'mse'"),
        ({"optimizer": "sgd"}, TrainingError, "optimizer is one of .* got 'sgd'"),
        ({"steps": -1}, TrainingError, "steps ≥ 0"),
        ({"steps": "many"}, TrainingError, "steps ≥ 0"),
        ({"patience": 0}, TrainingError, "patience ≥ 1"),
        ({"l1": -1.0}, TrainingError, "not negative, got -1"),
        ({"entropy": np.nan}, TrainingError, "not negative"),
        ({"learning_rate": "fast"}, TrainingError, "learning_rate must be positive"),
        ({"optimizer": "adam", "device": "nowhere"}, TrainingError, "cannot compute on the device 'nowhere'"),
    ],
)
def test_wrong_settings_say_what_to_do(options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fit([2, 1, 1], hello(20, 0), **options)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("optimizer", ["lm", "lbfgs"])
@pytest.mark.parametrize("weight", [1e308, 1e-320])
@pytest.mark.filterwarnings("error")
def test_only_the_ratios_of_weights_matter_however_huge_they_are(optimizer: str, weight: float) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (40, 1))
    given = {"optimizer": optimizer, "grid": (3,), "starts": 1, "steps": 10}
    alike = fit([1, 1], Dataset(x, x**2, weights=np.ones(40)), **given)  # type: ignore[arg-type]
    found = fit([1, 1], Dataset(x, x**2, weights=np.full(40, weight)), **given)  # type: ignore[arg-type]
    assert score(alike, (x, x**2)).r2[0] > 0.99
    assert np.abs(evaluate(found, x) - evaluate(alike, x)).max() < 1e-3


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((1, 2)), np.zeros(1), "at least 2 rows"),
        (np.array([[0.0, np.inf], [1, 1]]), np.zeros(2), "'x2' is inf in row 1"),
        (np.zeros((3, 2)), np.array([0, 1, np.inf]), "'y' is inf in row 3"),
        (np.zeros((3, 3)), np.zeros(3), "cannot learn data with 3"),
    ],
)
def test_data_that_cannot_be_learnt_say_why(x: NDArray[np.float64], y: NDArray[np.float64], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit([2, 1, 1], (x, y))


@pytest.mark.parametrize("shape", [[2], [2, 0, 1], [2, (1,), 1], [(1, 1), 2], [2, 1.5], 5, None])
def test_a_shape_that_is_none_is_refused(shape: list[int]) -> None:
    with pytest.raises(NetworkError, match="nodes"):
        create(shape)


@pytest.mark.parametrize(
    ("options", "got"),
    [
        ({"grid": 0}, "got 0, 3 and 2"),
        ({"order": "cubic"}, "got 3, 'cubic' and 2"),
        ({"order": 2.5}, "got 3, 2.5 and 2"),
        ({"arity": 1}, "got 3, 3 and 1"),
        ({"seed": -1}, "whole number from 0 on, got -1"),
    ],
)
def test_a_network_of_numbers_that_make_no_sense_is_refused(options: dict[str, Any], got: str) -> None:
    with pytest.raises(NetworkError, match=got):
        create([2, 1], **options)
