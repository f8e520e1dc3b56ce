import warnings
from typing import Any

import numpy as np
import pytest
import sympy
import torch

from kanserve.errors import DataError, InputError
from kanserve.formula import formulas
from kanserve.formula.printing.symbolic import as_sympy
from kanserve.network import dual_numbers
from kanserve.network.derivatives import derivatives
from kanserve.network.evaluate import evaluate, jacobian
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, make_layer
from kanserve.train.torch.modules import to_module
from tests.support.networks.kans import (
    ZOO,
    multiplication,
    on_a_knot,
    outside_linear,
    raw_features,
    rows,
    small_steps,
    symbolic,
)
from tests.support.networks.powers import POWERS

POINTS = np.array([-3.0, -0.9, -0.3, 0.0, 0.2, 0.5, 0.8, 4.0])


def _smooth_rows(kan, count=12):
    """Rows inside the first range, off its knots, and six outside."""
    x = rows(kan)
    return np.concatenate([x[:count], x[-10:-4]])


def _dual(values, seed) -> Any:  # NumPy's types know no dual numbers
    return dual_numbers.Dual(np.asarray(values), {seed: np.ones(np.shape(values))})


def _wrong_rows(got, want, tolerance):
    """How many rows differ by more than this share of their greatest entry."""
    got, want = got.reshape(len(got), -1), want.reshape(len(want), -1)
    return int((np.abs(got - want).max(axis=1) > tolerance * (1 + np.abs(want).max(axis=1))).sum())


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FUNCTIONS, *POWERS])
def test_higher_derivatives_of_named_functions_are_those_of_sympy(name):
    points = POINTS[POINTS != 0] if name in ("abs", "sign") else POINTS  # neither has a slope at 0
    points = points[points > 0] if name == "gamma" else points  # sympy's goes on beyond the poles
    with np.errstate(all="ignore"):
        got = dual_numbers.derivatives(FUNCTIONS[name], points, 3)
    x = sympy.Symbol("x", real=True)
    expression = as_sympy(sympy, FUNCTIONS[name].expression, x)
    for order, values in enumerate(got):
        exact = sympy.diff(expression, x, order)
        for point, value in zip(points, values, strict=True):
            want = complex(exact.subs(x, sympy.Rational(str(point))).evalf(20))
            if np.isfinite(want) and want.imag == 0:
                assert abs(value - want.real) <= 1e-13 * (1 + abs(want.real)), (order, point)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("order", [2, 3])
def test_derivatives_agree_with_differences_of_those_one_order_lower(name, order):
    kan = ZOO[name]()
    x = _smooth_rows(kan, 3 if name == "wide" else 12)
    differences = [
        (derivatives(kan, x + step, order - 1) - derivatives(kan, x - step, order - 1)) / (2 * size)
        for step, size in small_steps(kan, x)
    ]
    want = np.stack(differences, axis=-1)
    got = derivatives(kan, x, order)
    assert np.array_equal(np.isnan(got).any(axis=tuple(range(1, got.ndim))), np.isnan(evaluate(kan, x)).any(axis=1))
    # A difference over a knot at which the derivative jumps says nothing: such rows are left out, and few.
    assert _wrong_rows(got, want, 2e-5) <= (1 if order == 3 or name == "orders" else 0)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", [zoo_name for zoo_name in ZOO if zoo_name != "wide"])
def test_second_derivatives_are_those_of_torch(name):
    kan = ZOO[name]()
    x = _smooth_rows(kan, 6)
    x = x[np.isfinite(evaluate(kan, x)).all(axis=1)]
    module = to_module(kan)

    def hessians(q):
        return torch.stack([torch.autograd.functional.hessian(lambda r: module(r)[q], row) for row in torch.tensor(x)])

    want = np.stack([hessians(q).numpy() for q in range(len(kan.outputs))], axis=1)
    tolerance = 1e-8 if name in ("every_function", "special") else 1e-11  # torch's trigamma is right to 4e-9
    assert _wrong_rows(derivatives(kan, x, 2), want, tolerance) == 0


def test_derivatives_of_a_closed_formula_are_those_of_sympy():
    kan = symbolic()
    x, y = sympy.symbols("x y")
    exact = sympy.exp(sympy.sin(sympy.pi * x) + y**2)
    points = np.random.default_rng(0).uniform(-1, 1, (20, 2))
    for order, variables in ((1, (x,)), (1, (y,)), (2, (x, y)), (2, (y, y)), (3, (x, y, y)), (3, (x, x, x))):
        want = sympy.lambdify((x, y), sympy.diff(exact, *variables))(*points.T)
        got = derivatives(kan, points, order)
        for variable in variables:
            got = np.take(got, "xy".index(str(variable)), axis=2)
        assert np.allclose(got[:, 0], want, rtol=1e-12, atol=1e-11)
    assert formulas(kan)[0].closed_form


def test_mixed_derivatives_are_symmetric_and_products_obey_leibniz():
    kan = multiplication()
    x = _smooth_rows(kan)
    second, third = derivatives(kan, x, 2), derivatives(kan, x, 3)
    assert np.allclose(second, second.transpose(0, 1, 3, 2), rtol=1e-12, atol=1e-12)
    assert np.allclose(third, third.transpose(0, 1, 4, 2, 3), rtol=1e-11, atol=1e-10)
    product = make_layer(functions=[["x^2", ""], ["", "exp"]], arity=[2])
    a, b = np.array([0.3, -0.7]), np.array([0.2, 0.5])
    got = derivatives(Kan((product,)), np.stack([a, b], axis=1), 3)[:, 0]
    assert np.allclose(got[:, 0, 0, 1], 2 * np.exp(b), rtol=1e-14)
    assert np.allclose(got[:, 1, 0, 1], 2 * a * np.exp(b), rtol=1e-14)
    assert np.allclose(got[:, 0, 0, 0], 0, atol=1e-15)


def test_order_1_is_the_reference_and_raw_units_are_kept():
    kan = raw_features()
    x = rows(kan)
    assert np.array_equal(derivatives(kan, x, 1), jacobian(kan, x), equal_nan=True)
    bare = derivatives(Kan(kan.layers), (_smooth_rows(kan) - kan.input_shift) / kan.input_scale, 2)
    units = kan.output_scale[:, None, None] / np.outer(kan.input_scale, kan.input_scale)
    assert np.allclose(derivatives(kan, _smooth_rows(kan), 2), bare * units, rtol=1e-9)


def test_a_line_goes_on_from_a_linear_spline_without_bending():
    bare = make_layer(outside_linear().layers[0].coefficients, base="zero")
    kan = Kan((bare,))
    x = np.array([[-1.0 - 1e-9, 1.5], [-4.0, 1.0 + 1e-9]])
    assert not derivatives(kan, x, 2).any()
    assert derivatives(kan, x, 1).any()
    ends = derivatives(kan, [[-1.0, 1.0]], 2)[0]
    near = derivatives(kan, [[-1.0 + 1e-9, 1.0 - 1e-9]], 2)[0]
    assert np.allclose(ends, near, atol=1e-6)
    assert ends.any()


def test_derivatives_beyond_the_order_of_a_spline_are_those_of_the_base_alone():
    assert not derivatives(on_a_knot(), [[0.3], [0.5]], 2).any()


@pytest.mark.parametrize("order", [1, 2, 3])
def test_rows_that_are_not_finite_are_nan_and_quiet(order):
    kan = multiplication()
    x = rows(kan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = derivatives(kan, x, order).reshape(len(x), -1)
    assert np.array_equal(np.isnan(got).all(axis=1), ~np.isfinite(x).all(axis=1))
    assert np.array_equal(np.isnan(got).any(axis=1), np.isnan(got).all(axis=1))


def test_many_rows_are_worked_off_in_parts(monkeypatch):
    kan = multiplication()
    x = _smooth_rows(kan)
    want = derivatives(kan, x, 2)
    monkeypatch.setattr("kanserve.network.derivatives.NUMBERS", 100)
    assert np.allclose(derivatives(kan, x, 2), want, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("order", [0, 4, 1.5, "2"])
def test_an_order_that_is_not_there_is_refused(order):
    with pytest.raises(InputError, match="order 1, 2 or 3"):
        derivatives(symbolic(), [[0.0, 0.0]], order)


def test_dual_numbers_carry_the_derivatives_of_arithmetic():
    a, b = np.array([0.7, 1.3]), np.array([0.4, -0.2])
    u, w = _dual(a, "u"), _dual(b, "w")
    cases = {
        "product": (u * w + 3 * u - w / u, b + 3 + b / a**2, a - 1 / a),
        "power": (u**3 + u**0 + 2.0**w, 3 * a**2, np.log(2) * 2**b),
        "ufuncs": (np.exp(u) * np.arctan2(w, u), None, None),
        "where": (np.where(a > 1, u * u, w), np.where(a > 1, 2 * a, 0), np.where(a > 1, 0, 1)),
        "most": (np.maximum(u, w) + np.minimum(u, 1.0), 1.0 + (a <= 1), np.zeros(2)),
    }
    for name, (got, by_u, by_w) in cases.items():
        if by_u is None:
            by_u = np.exp(a) * (np.arctan2(b, a) - b / (a * a + b * b))
            by_w = np.exp(a) * a / (a * a + b * b)
        assert np.allclose(got.partials.get("u", 0), by_u, rtol=1e-14), name
        assert np.allclose(got.partials.get("w", 0), by_w, rtol=1e-14), name
    assert (u > w).tolist() == [True, True]


def test_what_has_no_known_derivative_is_refused_with_what_there_is():
    u = _dual(np.ones(2), 0)
    for wrong in (lambda: np.floor(u), lambda: np.add.reduce(u), lambda: np.sort(u), lambda: np.mean(u)):
        with pytest.raises(DataError, match=r"is not known here\. There are: .*arctanh"):
            wrong()


@pytest.mark.parametrize("ufunc", [rule for rule in dual_numbers._RULES if rule.nin == 1], ids=lambda one: one.__name__)
def test_each_rule_is_the_derivative_of_its_function(ufunc):
    x = np.array([1.2, 1.9]) if ufunc is np.arccosh else np.array([0.3, 0.6])
    got = ufunc(_dual(x, 0)).partials[0]
    assert np.allclose(got, (ufunc(x + 1e-6) - ufunc(x - 1e-6)) / 2e-6, rtol=1e-8)
