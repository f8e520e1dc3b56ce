"""The constants of a closed form: exact derivatives, and a fit to the last digits."""

import numpy as np
import pytest

from kanserve.data.datasets import load_equations
from kanserve.errors import DataError, FormulaError
from kanserve.formula.constants.nonlinear_fit import Constants, refit
from kanserve.formula.expressions.tree import evaluate_tree
from tests.support.networks.disguised_formulas import rows_of, tree_of
from tests.support.work_costs import calls

TABLES = ("feynman", "feynman_dimensional", "sciences")


@pytest.mark.parametrize("table", TABLES)
def test_derivatives_by_the_constants_are_those_of_small_differences(table):
    for law in load_equations(table):
        x = rows_of(law.ranges, 50, 0)
        constants = Constants(tree_of(law.formula, list(law.ranges)))
        values = constants.values
        value, jacobian = constants.derivatives(values, x)
        np.testing.assert_allclose(value, evaluate_tree(constants.tree, {}, x), rtol=1e-13)
        for n in range(len(values)):
            step = np.zeros_like(values)
            step[n] = 1e-6 * max(abs(values[n]), 1.0)
            difference = (constants.value(values + step, x) - constants.value(values - step, x)) / (2 * step[n])
            fine = np.isfinite(difference) & np.isfinite(jacobian[:, n])
            size = np.abs(jacobian[fine, n]).max(initial=1e-3)
            np.testing.assert_allclose(jacobian[fine, n], difference[fine], atol=1e-5 * size, err_msg=law.formula)


def test_a_factor_that_is_zero_on_some_rows_has_its_derivative():
    tree = (("var", 0), ("const", 3.0), ("mul", 0, 1), ("var", 1), ("mul", 2, 3))
    _, jacobian = Constants(tree).derivatives(np.array([0.0]), np.array([[2.0, 5.0], [0.0, 1.0]]))
    assert jacobian.tolist() == [[10.0], [0.0]]


@pytest.mark.parametrize("table", TABLES)
def test_perturbed_constants_come_back_to_the_last_digits(table):
    rng = np.random.default_rng(0)
    for law in load_equations(table):
        x = rows_of(law.ranges, 300, 1)
        constants = Constants(tree_of(law.formula, list(law.ranges)))
        y = evaluate_tree(constants.tree, {}, x)
        x, y = x[np.isfinite(y)], y[np.isfinite(y)]
        start = constants.with_values(constants.values * (1 + 0.003 * rng.normal(size=len(constants.values))))
        if not np.isfinite(evaluate_tree(start, {}, x)).all():
            continue
        got = evaluate_tree(refit(start, x, y), {}, x)
        assert np.sqrt(np.mean((got - y) ** 2)) <= 3e-15 * np.sqrt(np.mean(y**2)), law.formula


def test_a_fit_with_constants_of_which_only_a_product_matters_moves_them_little():
    tree = (("const", 2.0), ("const", 3.0), ("var", 0), ("mul", 0, 1), ("mul", 3, 2))
    x = np.linspace(-1, 1, 30)[:, None]
    found = Constants(refit(tree, x, 6.6 * x[:, 0])).values
    assert found.prod() == pytest.approx(6.6, rel=1e-15)
    assert np.abs(found - [2, 3]).max() < 0.3


def test_numbers_that_are_fixed_stay_and_signs_are_no_constants():
    # c·x - d
    tree = (("const", 2.0), ("var", 0), ("mul", 0, 1), ("const", -1.0), ("const", 0.5), ("mul", 3, 4), ("add", 2, 5))
    x = np.linspace(-1, 1, 30)[:, None]
    assert Constants(tree).values.tolist() == [2.0, 0.5]
    found = Constants(refit(tree, x, 3 * x[:, 0] - 1, fixed={0})).values
    assert found.tolist() == [2.0, pytest.approx(1.0, rel=1e-14)]


def test_one_number_in_two_places_is_two_constants():
    tree = (("const", 2.0), ("var", 0), ("mul", 0, 1), ("add", 2, 0))
    x = np.linspace(-1, 1, 30)[:, None]
    np.testing.assert_allclose(Constants(refit(tree, x, 3 * x[:, 0] + 1)).values, [3, 1], rtol=1e-14)


def test_a_tree_that_is_not_finite_comes_back_and_steps_out_of_the_domain_are_not_taken():
    x = np.linspace(0.1, 1, 30)[:, None]
    broken = (("const", -1.0), ("var", 0), ("add", 0, 1), ("call", "log", 2))
    assert refit(broken, x, x[:, 0]) == Constants(broken).tree
    root = (("const", 0.01), ("var", 0), ("add", 0, 1), ("call", "sqrt", 2), ("const", 5.0), ("mul", 3, 4))
    found = refit(root, x, np.sqrt(x[:, 0] - 0.05))
    np.testing.assert_allclose(Constants(found).values, [-0.05, 1], rtol=1e-10)


def test_a_fit_on_exact_rows_needs_a_few_derivatives_each_in_one_pass_over_the_formula(monkeypatch):
    tree = tree_of("1.5*exp(-0.7*a*b) + 0.3*sin(2*a + 0.4)", ["a", "b"])
    x = rows_of({"a": (0.0, 2.0), "b": (0.0, 2.0)}, 1000, 0)
    constants, y = Constants(tree), evaluate_tree(tree, {}, x)
    derivatives, passes = Constants.derivatives, 0

    def counted(*given):
        nonlocal passes
        passes += 1
        return derivatives(*given)

    monkeypatch.setattr(Constants, "derivatives", counted)
    refit(constants.with_values(constants.values * 1.01), x, y)
    assert 2 <= passes <= 8
    assert calls(lambda: derivatives(constants, constants.values, x)) < 25 * len(constants.tree)


def test_splines_and_rows_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="finite"):
        refit((("var", 0), ("const", 1.0), ("mul", 0, 1)), [[np.nan]], [1.0])
    with pytest.raises(DataError, match=r"got \(2, 1\) and \(3,\)"):
        refit((("var", 0), ("const", 1.0), ("mul", 0, 1)), [[1.0], [2.0]], [1.0, 2.0, 3.0])
    with pytest.raises(FormulaError):
        refit((("var", 0), ("spline", "s_1_1_1", 0)), [[1.0]], [1.0])


def test_more_constants_than_rows_pass_through_the_rows():
    x = rows_of({"u": (0.5, 2.0)}, 3, 0)
    y = np.array([1.0, -2.0, 5.0])
    found = refit(tree_of("1.1*u^4 + 1.2*u^3 + 1.3*u^2 + 1.4*u + 1.5", ["u"]), x, y)
    np.testing.assert_allclose(evaluate_tree(found, {}, x), y, rtol=1e-9)
