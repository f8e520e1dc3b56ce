"""Constants that are recognised: exactly where the data are exact, and with reserve where they are noisy."""

import math

import numpy as np
import pytest

from kanserve.data.datasets import load_equations
from kanserve.formula.constants.nonlinear_fit import Constants, refit
from kanserve.formula.constants.recognition import (
    Constant,
    constants_of,
    exact_form,
    find_named_constants,
    noisy_form,
    recognise_constants,
    recognise_noisy_constants,
)
from kanserve.formula.constants.uncertainty import uncertainty
from kanserve.formula.expressions.complexity import complexity
from kanserve.formula.expressions.numbers import name_number
from kanserve.formula.expressions.tree import evaluate_tree
from tests.support.networks.disguised_formulas import disguised, rows_of, tree_of

TABLES = ("feynman", "feynman_dimensional", "sciences")


def _data(text, ranges, noise, seed=0, rows=1000):
    """The tree of a law, rows on which it is finite, its values there, and the same with noise."""
    tree = tree_of(text, list(ranges))
    x = rows_of(ranges, rows, seed)
    y = evaluate_tree(tree, {}, x)
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    return tree, x, y, y + noise * np.std(y) * np.random.default_rng(seed).normal(size=len(y))


def _perturbed(tree, x, rng, part):
    constants = Constants(tree)
    moved = constants.with_values(constants.values * (1 + part * rng.normal(size=len(constants.values))))
    return moved if np.isfinite(evaluate_tree(moved, {}, x)).all() else tree


def _exact(tree, x, y):
    error = np.sqrt(np.mean((evaluate_tree(tree, {}, x) - y) ** 2)) / np.sqrt(np.mean(y**2))
    return error < 1e-12 and all(name_number(value) for value in Constants(tree).values.tolist())


def test_residues_that_cancel_are_0_and_small_constants_stay():
    x = np.random.default_rng(0).uniform(-2, 2, (300, 1))
    residues = tree_of("0.7*abs(x + 0.00000002)*(x - 0.00000002)", ["x"])
    found = exact_form(residues, x, 0.7 * x[:, 0] * np.abs(x[:, 0]))
    assert complexity(found) == complexity(tree_of("0.7*abs(x)*x", ["x"]))
    small = tree_of("3e-7*x^2", ["x"])
    assert 3e-7 in Constants(recognise_constants(small, x, 3e-7 * x[:, 0] ** 2)).values


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("table", TABLES)
def test_a_disguised_law_comes_back_as_simple_as_it_was_with_exact_constants(table):
    for law in load_equations(table):
        rng = np.random.default_rng(7)
        tree, x, y, _ = _data(law.formula, law.ranges, 0.0, rows=300)
        found = exact_form(_perturbed(disguised(tree, x, rng, 0.4), x, rng, 1e-4), x, y)
        assert _exact(found, x, y), law.formula
        assert complexity(found) <= complexity(tree), law.formula


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("table", TABLES)
def test_a_disguised_law_with_one_percent_of_noise_mostly_comes_back_with_exact_constants(table):
    exact = count = 0
    for law in load_equations(table):
        rng = np.random.default_rng(7)
        tree, x, y, noisy = _data(law.formula, law.ranges, 0.01)
        found = noisy_form(_perturbed(disguised(tree, x, rng, 0.3), x, rng, 1e-4), x, noisy)
        exact += _exact(found, x, y)
        count += 1
    assert exact >= 0.88 * count  # of estimates 2.5 standard errors off, some are no longer called by their name


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("pi/2", math.pi / 2),
        ("1/(4*pi)", 1 / (4 * math.pi)),
        ("1/sqrt(2*pi)", 1 / math.sqrt(2 * math.pi)),
        ("299.8", 299.8),
        ("1/18", 1 / 18),
        ("2/3", 2 / 3),
        ("log(2)", math.log(2)),
        ("sqrt(3)/2", math.sqrt(0.75)),
    ],
)
def test_an_exact_constant_is_recognised_and_known_by_its_name(text, value):
    tree, x, y, _ = _data(f"{value!r}*a*exp(-b)", {"a": (0.5, 2.0), "b": (0.0, 2.0)}, 0.0, rows=100)
    start = Constants(tree).with_values(Constants(tree).values * 1.2)
    found = recognise_constants(start, x, y)
    assert constants_of(found, x, y)[0] == Constant(value, 0.0, text)


def test_an_exact_constant_that_is_no_simple_number_keeps_its_digits():
    tree, x, y, _ = _data("1.2345678912345*a + 0.33333*b", {"a": (0.5, 2.0), "b": (0.0, 2.0)}, 0.0, rows=100)
    found = recognise_constants(Constants(tree).with_values([1.0, 1.0]), x, y)
    np.testing.assert_allclose(Constants(found).values, [1.2345678912345, 0.33333], rtol=1e-14)
    assert name_number(Constants(found).values[0]) is None
    assert Constants(found).values[1] == 0.33333  # to the last digit, and not 1/3, which is near


def test_the_rule_for_exact_data_replaces_nothing_where_they_are_not():
    tree, x, _, noisy = _data("2.5*a*exp(-b/3)", {"a": (0.5, 2.0), "b": (0.0, 2.0)}, 0.01)
    np.testing.assert_array_equal(
        Constants(recognise_constants(tree, x, noisy)).values, Constants(refit(tree, x, noisy)).values
    )


def test_constants_of_which_only_the_product_matters_become_one_and_the_rest():
    tree = (("const", 2.0), ("const", 3.3), ("var", 0), ("mul", 0, 1), ("mul", 3, 2))
    x = np.linspace(-1, 1, 30)[:, None]
    assert sorted(Constants(recognise_constants(tree, x, 6.5 * x[:, 0])).values.tolist()) == [1.0, 6.5]


def test_noise_leaves_no_term_that_is_not_there():
    """a·sin(b) fitted with a constant added, a factor of b and a phase."""
    tree = tree_of("0.01 + 1.02*a*sin(0.99*b + 0.02)", ["a", "b"])
    ranges = {"a": (0.5, 2.0), "b": (0.0, 6.0)}
    _, x, _, noisy = _data("a*sin(b)", ranges, 0.05)
    assert complexity(noisy_form(tree, x, noisy)) == complexity(tree_of("a*sin(b)", ["a", "b"]))


def test_a_noisy_constant_far_from_all_simple_numbers_stays_an_estimate_with_its_error():
    tree, x, _, noisy = _data("1.4567*a*exp(-0.8123*b)", {"a": (0.5, 2.0), "b": (0.0, 2.0)}, 0.001)
    found = constants_of(recognise_noisy_constants(tree, x, noisy), x, noisy)
    for constant, true in zip(found, (0.8123, 1.4567), strict=True):
        assert 0 < constant.standard_error < 0.001
        assert abs(abs(constant.value) - true) < 4 * constant.standard_error


def test_what_is_known_by_name_is_not_estimated_and_makes_no_interval_wider():
    tree, x, _, noisy = _data("0.5*a*exp(-0.812345678912*b)", {"a": (0.5, 2.0), "b": (0.0, 2.0)}, 0.01)
    fitted = refit(tree, x, noisy, fixed=find_named_constants(tree))
    found = uncertainty(fitted, x, noisy, find_named_constants(fitted))
    assert len(found.values) == 1


def test_few_noisy_constants_are_called_by_a_name_that_they_do_not_have():
    rng = np.random.default_rng(0)
    wrong = 0
    for seed in range(100):
        value = rng.uniform(0.5, 5.0)
        tree, x, _, noisy = _data(f"{value!r}*a*b", {"a": (0.5, 2.0), "b": (0.0, 2.0)}, 0.02, seed, rows=300)
        wrong += bool(find_named_constants(recognise_noisy_constants(tree, x, noisy)))
    assert wrong < 8


@pytest.mark.parametrize(("value", "error"), [("0.26195", 0.0003), ("1.73", 0.001), ("0.13298", 0.0004)])
def test_a_number_is_not_called_by_a_name_where_others_as_simple_are_as_near(value, error):
    """pi/12, sqrt(3) and 1/(3*sqrt(2*pi)) are within a standard error or two of such estimates."""
    x = np.random.default_rng(1).uniform(0.5, 2, (400, 1))
    noise = np.random.default_rng(2).normal(size=400)
    noise -= x[:, 0] * (x[:, 0] @ noise) / (x[:, 0] @ x[:, 0])  # so that the estimate is the value
    noisy = float(value) * x[:, 0] + noise * error * np.sqrt(np.sum(x**2))
    (found,) = constants_of(recognise_noisy_constants(tree_of(f"{value}1234567*x", ["x"]), x, noisy), x, noisy)
    assert found.standard_error == pytest.approx(error, rel=0.2)
    assert found.text == f"{found.value:.6g}" and "pi" not in found.text and "sqrt" not in found.text


@pytest.mark.parametrize("text", ["2", "0.5", "pi"])
def test_a_recognised_number_keeps_the_standard_error_of_its_estimate(text):
    tree, x, _, noisy = _data(f"({text})*a*exp(-b)", {"a": (0.5, 2.0), "b": (0.0, 2.0)}, 0.01)
    for form in (recognise_noisy_constants(tree, x, noisy), tree):
        constant = max(constants_of(form, x, noisy), key=lambda one: one.standard_error)
        assert constant.text == text
        assert constant.standard_error == pytest.approx(0.01 / math.sqrt(len(x)) * constant.value, rel=0.5)


def test_a_constant_that_the_data_cannot_tell_has_an_infinite_error():
    tree = (("const", 2.00123456789), ("const", 3.30123456789), ("var", 0), ("mul", 0, 1), ("mul", 3, 2))
    x = np.linspace(-1, 1, 30)[:, None]
    noisy = 6.5 * x[:, 0] + 0.1 * np.random.default_rng(0).normal(size=30)
    assert all(math.isinf(constant.standard_error) for constant in constants_of(tree, x, noisy))


def test_an_offset_that_no_row_can_tell_goes():
    x = rows_of({"m": (1.0, 3.0), "c": (3e8, 3e8)}, 200, 0)
    found = exact_form(tree_of("2*m*(c + 0.73)^2", ["m", "c"]), x, 2 * x[:, 0] * x[:, 1] ** 2)
    assert sum(step[0] == "const" for step in found) == 1 and complexity(found) == 6


def test_a_noisy_decimal_is_not_called_a_logarithm():
    for seed in range(12):
        random = np.random.default_rng(seed)
        x = random.uniform(0.5, 2, (300, 2))
        y = 2.3 * x[:, 0] * np.exp(-1.7 * x[:, 1])
        tree = noisy_form(tree_of("2.3*a*exp(-1.7*b)", ["a", "b"]), x, y + 0.02 * y.std() * random.normal(size=300))
        assert not any("log" in constant.text or "pi" in constant.text for constant in constants_of(tree, x, y))
