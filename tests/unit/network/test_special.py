"""erf, J0 and gamma: to the last digits on all of their branches, and in every language."""

import numpy as np
import pytest
import scipy.special
import sympy

from kanserve.data.dataset import Dataset
from kanserve.errors import InputError
from kanserve.formula import evaluate_tree, formulas, from_formula
from kanserve.formula.printing.symbolic import as_sympy
from kanserve.network import dual_numbers, special
from kanserve.network.evaluate import evaluate, jacobian
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, make_layer
from kanserve.network.spellings import SPECIAL
from kanserve.network.splines import fit_coefficients, uniform_knots
from kanserve.network.training_range import finite_rows
from kanserve.simplification import symbolify
from kanserve.simplification.edge_candidates import LIBRARY


def points(*spans):
    rng = np.random.default_rng(0)
    uniform = [rng.uniform(low, high, 4000) for low, high in spans]
    small = 10.0 ** rng.uniform(-12, 0, 2000)
    return np.concatenate([*uniform, small, [0.0, 1.0, 6.0, 8.0, 10.0]])


def test_erf_is_right_to_a_few_units_in_the_last_place():
    x = points((-7, 7), (-1.2, 1.2), (-100, 100))
    np.testing.assert_allclose(special.erf(x), scipy.special.erf(x), rtol=1e-15, atol=0)


def test_bessel_functions_are_right_to_1e_14_of_1():
    x = np.concatenate([points((-12, 12), (-100, 100)), -points((0, 1e4))])
    np.testing.assert_allclose(special.j0(x), scipy.special.j0(x), rtol=0, atol=1e-14)
    np.testing.assert_allclose(special.j1(x), scipy.special.j1(x), rtol=0, atol=1e-14)


def test_gamma_is_right_to_1e_14_of_itself_and_none_but_for_positive_numbers():
    x = points((0, 171.6), (0, 12))[:-5]
    np.testing.assert_allclose(special.gamma(x), scipy.special.gamma(x), rtol=1e-14, atol=0)
    np.testing.assert_allclose(special.digamma(x), scipy.special.digamma(x), rtol=1e-14, atol=1e-14)
    with np.errstate(all="ignore"):
        assert np.isnan(special.gamma(np.array([0.0, -0.5, -1.0, -1e300, -np.inf]))).all()


@pytest.mark.parametrize("name", SPECIAL)
def test_nan_stays_nan_and_nothing_raises(name):
    with np.errstate(all="ignore"):
        values = FUNCTIONS[name].numpy(np.array([np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324]))
        assert np.isnan(values[0])
        assert np.isfinite(values[3:5]).all() if name != "gamma" else np.isinf(values[3])
        single = FUNCTIONS[name].numpy(np.array([0.5, 12.0], np.float32))
    assert single.dtype == np.float32


@pytest.mark.parametrize("name", SPECIAL)
def test_derivatives_are_exact_on_every_branch(name):
    x = np.concatenate([np.linspace(0.1, 30, 60), [] if name == "gamma" else np.linspace(-30, -0.1, 60)])
    symbol = sympy.Symbol("x")
    exact = as_sympy(sympy, FUNCTIONS[name].expression, symbol)
    with np.errstate(all="ignore"):
        got = dual_numbers.derivatives(FUNCTIONS[name], x, 2)
    for order, values in enumerate(got):
        function = sympy.lambdify(symbol, sympy.diff(exact, symbol, order), "mpmath")
        wanted = np.array([float(function(value)) for value in x])
        np.testing.assert_allclose(values, wanted, rtol=1e-12, atol=1e-14)


def test_they_are_written_and_read_in_every_dialect():
    kan = from_formula("2*erf(x) + j0(3*x) - gamma(x + 1)/2", ranges={"x": (0, 4)})
    (found,) = formulas(kan)
    assert found.text == "2*erf(x) + j0(3*x) - 0.5*gamma(x + 1)"
    assert found.python == "2.0*erf(x) + j0(3.0*x) - 0.5*gamma(x + 1.0)"
    assert r"J_{0}\left(3 x\right)" in found.latex and r"\Gamma\left(x + 1\right)" in found.latex
    assert found.c == "2.0*erf(x) + j0(3.0*x) - 0.5*((x + 1.0) > 0 ? tgamma(x + 1.0) : (double)NAN)"
    x = np.linspace(0, 4, 50)
    wanted = 2 * scipy.special.erf(x) + scipy.special.j0(3 * x) - scipy.special.gamma(x + 1) / 2
    functions = {"erf": scipy.special.erf, "j0": scipy.special.j0, "gamma": scipy.special.gamma}
    for got in (
        evaluate(kan, x[:, None])[:, 0],
        evaluate_tree(found.tree, {}, x[:, None]),
        eval(found.python, functions | {"x": x}),
        evaluate(from_formula(found.text), x[:, None])[:, 0],
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-13)


def test_they_are_read_from_sympy():
    x = sympy.Symbol("x")
    kan = from_formula(sympy.erf(x) + sympy.besselj(0, 2 * x) + sympy.gamma(x + 3))
    wanted = scipy.special.erf(0.7) + scipy.special.j0(1.4) + scipy.special.gamma(3.7)
    assert evaluate(kan, [[0.7]])[0, 0] == pytest.approx(wanted, rel=1e-14)
    with pytest.raises(InputError, match="besselj"):
        from_formula(sympy.besselj(1, x))


def test_a_variable_may_still_be_called_gamma():
    kan = from_formula("p*V/(gamma - 1) + gamma(gamma)", ranges={name: (2, 5) for name in ("p", "V", "gamma")})
    (found,) = formulas(kan)
    assert found.text.count("gamma") == 3 and '"' not in found.text and r"\gamma" in found.latex
    assert set(found.identifiers) == {"p", "V", "gamma_"}
    x = finite_rows(kan, 50)
    again = from_formula(found.text, inputs=["p", "V", "gamma"])
    np.testing.assert_allclose(evaluate(again, x), evaluate(kan, x), rtol=1e-5)


@pytest.mark.parametrize("name", SPECIAL)
def test_symbolify_finds_them_where_asked_for(name):
    assert name not in LIBRARY
    law = Kan((make_layer(functions=[[name]], affine=[[[2.0, 2.5, 1.5, -0.3]]]),))
    x = np.linspace(-1, 1, 300)[:, None]
    grid = uniform_knots(-1, 1, 20, 3)
    spline = make_layer(fit_coefficients(x[:, 0], evaluate(law, x)[:, 0], grid, 3)[None, None], knots=grid, base="zero")
    found = symbolify(Kan((spline,)), Dataset(x, evaluate(law, x)), functions=(name, "x", "x^2"))
    assert found.layers[0].functions.tolist() == [[name]]
    np.testing.assert_allclose(evaluate(found, x), evaluate(law, x), atol=1e-6)
    np.testing.assert_allclose(jacobian(found, x), jacobian(law, x), atol=1e-5)
