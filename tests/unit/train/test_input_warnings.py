"""Inputs that tell nothing new, and arguments without effect, are named."""

import warnings

import numpy as np
import pytest

from kanserve.data.dataset import Dataset
from kanserve.estimator import KANRegressor
from kanserve.train import TrainingWarning, fit
from kanserve.train.input_warnings import FEWEST_ROWS, describe_inputs, missing_codes

X = np.random.default_rng(0).uniform(-1, 1, (60, 2))
Y = X[:, 0] + X[:, 1] ** 2


def test_a_copy_of_an_input_is_named_with_what_to_do():
    data = Dataset(np.column_stack([X, X[:, 1]]), Y, ("a", "b", "again"))
    with pytest.warns(TrainingWarning, match=r"'again' is 'b'.*Leave out one of each"):
        fit([3, 1], data, starts=1)


def test_a_copy_of_the_answers_is_named():
    data = Dataset(np.column_stack([X, Y]), Y, ("a", "b", "c"), ("price",))
    with pytest.warns(TrainingWarning, match="'c' is 'price'"):
        fit([3, 1], data, starts=1)
    labels = np.where(Y > 0, "up", "down")
    leaked = Dataset(np.column_stack([X, Y > 0]), labels)
    assert describe_inputs(leaked)[0].startswith("Inputs that are the answers: 'x3' is the class.")


@pytest.mark.parametrize("order", [np.arange(60), np.random.default_rng(1).permutation(60) + 1000])
def test_an_input_that_numbers_the_rows_is_named(order):
    with pytest.warns(TrainingWarning, match=r"number the rows: 'x1'.*identifier"):
        KANRegressor(hidden=(), starts=1).fit(np.column_stack([order, X]), Y)


@pytest.mark.parametrize(("code", "rows"), [(-9999.0, 5), (999.0, 30), (-9.0, 8)])
def test_a_code_for_missing_values_is_named_with_the_remedy_and_not_as_a_heavy_tail(code, rows):
    coded = X.copy()
    coded[:rows, 1] = code
    data = Dataset(coded, Y, ("a", "age"))
    with pytest.warns(TrainingWarning, match=f"'age' is {code:g} in .*Replace it by NaN") as said:
        fit([2, 1], data, starts=1)
    assert not any("Inputs with heavy tails" in str(one.message) for one in said)


def test_values_of_nines_within_a_range_once_or_of_two_values_are_no_codes():
    generator = np.random.default_rng(0)
    within = generator.integers(90, 120, 60).astype(float)
    once = np.where(np.arange(60) == 3, 9999.0, X[:, 0])
    two = np.where(X[:, 0] > 0, 99.0, 1.0)
    steep = np.where(np.arange(60) < 5, 999.0, generator.uniform(0, 900, 60))
    assert missing_codes(Dataset(np.column_stack([within, once, two, steep]), Y)) == {}


def test_inputs_that_are_only_alike_and_whole_numbers_with_gaps_say_nothing():
    generator = np.random.default_rng(0)
    near = X[:, 0] + 1e-4 * generator.normal(size=60)
    whole = generator.permutation(1000)[:60]
    small = generator.integers(0, 9, 60)
    columns = np.column_stack([X, near, 2 * X[:, 1], whole, small, np.ones((60, 2))])
    assert describe_inputs(Dataset(columns, Y)) == []
    assert describe_inputs(Dataset(columns, np.where(Y > 0, "up", "down"))) == []
    few = np.column_stack([np.arange(FEWEST_ROWS - 1.0)] * 2)
    assert describe_inputs(Dataset(few, few[:, 0])) == []


def test_arguments_that_the_fit_does_not_use_are_named_with_the_optimizer_that_does():
    with pytest.warns(TrainingWarning, match=r"Not used: device='cuda', batch=10.*optimizer='adam'"):
        fit([2, 1], (X, Y), starts=1, device="cuda", batch=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit([2, 1], (X, Y), starts=1)
