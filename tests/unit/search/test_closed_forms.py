"""Laws that linear algebra finds at once: polynomials, rational functions, sums of known terms."""

import math

import numpy as np
import pytest

from kanserve import find_formulas
from kanserve.network.evaluate import evaluate
from kanserve.search.findings.decompose import solve
from kanserve.search.fit.problem import Search, SearchProblem
from kanserve.search.regression.budget import Budget
from kanserve.search.regression.scaled_terms import fit_scaled_sum
from kanserve.search.regression.sparse_polynomial import monomials, powers_of, rational_function, sparse_polynomial
from kanserve.search.regression.term_sums import term_sums

X = np.random.default_rng(0).uniform(-1, 1, (400, 1))
XY = np.random.default_rng(1).uniform(0.5, 2, (400, 2))
SMOOTH = {
    "exp": np.exp(X[:, 0]),
    "a flat exp": np.exp(X[:, 0] / 10),
    "sin": np.sin(2 * X[:, 0]),
    "cos": np.cos(X[:, 0] / 3),
    "log": np.log(X[:, 0] + 1.5),
    "root": np.sqrt(X[:, 0] + 1.1),
    "tanh": np.tanh(X[:, 0]),
    "a sum of logarithms": np.log(X[:, 0] + 2) + np.log(X[:, 0] ** 2 + 1),
}


def coefficients(found) -> dict[tuple[int, ...], float]:
    return {powers: round(value, 9) for powers, value in zip(found.powers, found.coefficients, strict=True)}


def test_monomials_are_all_up_to_a_degree():
    powers = powers_of(3, 4)
    assert len(powers) == math.comb(7, 3) == len(set(powers)) and max(map(sum, powers)) == 4
    assert np.allclose(monomials(XY, [(0, 0), (2, 1)]), np.stack([np.ones(400), XY[:, 0] ** 2 * XY[:, 1]], axis=1))


@pytest.mark.parametrize("degree", [2, 4, 6, 9])
def test_a_polynomial_has_its_terms_and_no_others(degree):
    y = np.sum([X[:, 0] ** k for k in range(1, degree + 1)], axis=0)
    assert coefficients(sparse_polynomial(X, y)) == {(k,): 1.0 for k in range(1, degree + 1)}


def test_a_polynomial_of_two_inputs_is_sparse():
    x, y = XY.T
    found = sparse_polynomial(XY, 2.5 * x**4 * y - 1.3 * y**3 + 7)
    assert coefficients(found) == {(0, 0): 7.0, (0, 3): -1.3, (4, 1): 2.5}


@pytest.mark.parametrize("name", SMOOTH)
def test_what_is_only_close_to_a_polynomial_or_a_quotient_is_none(name):
    assert sparse_polynomial(X, SMOOTH[name]) is None
    assert rational_function(X, SMOOTH[name]) is None


def test_noise_is_no_polynomial():
    noise = 1e-6 * np.random.default_rng(2).normal(size=400)
    assert (
        sparse_polynomial(X, X[:, 0] ** 3 + noise) is None and rational_function(X, 1 / (X[:, 0] + 2) + noise) is None
    )


def test_too_few_rows_tell_nothing():
    assert sparse_polynomial(X[:8], np.sin(X[:8, 0])) is None
    assert rational_function(X[:12], np.sin(5 * X[:12, 0])) is None


@pytest.mark.parametrize(
    ("law", "top", "bottom"),
    [
        (lambda x: (x + 1) ** 3 / (x**2 - x + 1), 4, 3),
        (lambda x: (x**6 + x**5) / (x**4 + x**3 + x**2 + x + 1), 2, 5),
        (lambda x: 1 / (1 + 25 * x**2), 1, 2),
    ],
)
def test_a_rational_function_has_its_terms_and_no_others(law, top, bottom):
    found = rational_function(X, law(X[:, 0]))
    assert found is not None
    assert (len(found.numerator.powers), len(found.denominator.powers)) == (top, bottom)
    assert np.allclose(found.numerator(X) / found.denominator(X), law(X[:, 0]), rtol=1e-9)


@pytest.mark.parametrize(
    "law",
    [
        lambda x: np.sin(x**2) * np.cos(x) - 1,
        lambda x: np.sin(x) + np.sin(x + x**2),
        lambda x: np.log1p(x) + np.log(x**2 + 1),
        lambda x: np.arcsinh(x),
        lambda x: 1 / 3 + x + np.sin(x**2),
        lambda x: np.sin(x**3) * np.cos(x**2) - 1,
        lambda x: x**3 + x**2 + x + np.sin(x) + np.exp(-x),
    ],
)
def test_a_sum_of_known_terms_is_found_and_is_a_network(law):
    x = XY[:, :1]
    found = find_formulas((x, law(x[:, 0])), max_fits=30)
    wide = np.linspace(0.2, 2.5, 100)[:, None]
    assert found.ended == "settled"
    assert np.allclose(evaluate(found.best.kan, wide)[:, 0], law(wide[:, 0]), rtol=1e-8, atol=1e-10)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    ("law", "inputs"),
    [
        (lambda a, b, *_: 2 - 2.1 * np.cos(9.8 * a) * np.sin(1.3 * b), 5),
        (lambda a, b: a * b + np.sin((a - 1) * (b - 1)), 2),
        pytest.param(lambda a, b: (a - 3) * (b - 3) + 2 * np.sin((a - 4) * (b - 4)), 2, marks=pytest.mark.extended),
    ],
    ids=["a product of waves", "a sine of a product", "another"],
)
def test_waves_are_found_by_their_frequencies(law, inputs):
    x = np.random.default_rng(3).uniform(0.1, 5, (600, inputs))
    found = find_formulas((x, law(*x.T)), max_fits=1000)
    assert found.status == "exact" and found.ended == "settled"
    wide = np.random.default_rng(4).uniform(-1, 6, (100, inputs))
    assert np.allclose(evaluate(found.best.kan, wide)[:, 0], law(*wide.T), atol=1e-8)


@pytest.mark.slow
@pytest.mark.extended
def test_sums_of_scaled_functions_are_found_and_have_no_idle_terms():
    x = 2 * X
    for law, text in (
        (lambda u: np.tanh(3 * u) + u / 2, "0.5*x1 + tanh(3*x1)"),
        (lambda u: np.sin(3 * u) + u**2, "x1^2 + sin(3*x1)"),
        (lambda u: np.exp(-u) + np.sin(4 * u), "exp(-x1) + sin(4*x1)"),
        (lambda u: np.exp(0.3 * u) + np.exp(-2 * u), "exp(-2*x1) + exp(0.3*x1)"),
        (lambda u: np.exp(-u / 2) * np.cos(5 * u), "cos(5*x1)*exp(-0.5*x1)"),
    ):
        assert find_formulas((x, law(x[:, 0])), max_fits=200).best.formula.text == text


def test_close_functions_with_large_opposite_factors_are_no_sum():
    x = 2 * X
    assert fit_scaled_sum(x, x[:, 0] * np.sin(5 * x[:, 0]), 2, 0) is None


@pytest.mark.parametrize(
    ("law", "text"),
    [
        pytest.param(lambda x: np.exp(np.sin(x)), "exp(sin(x1))", marks=pytest.mark.extended),
        pytest.param(lambda x: np.log(1 + np.exp(x)), "log(exp(x1) + 1)", marks=pytest.mark.extended),
        (lambda x: np.sqrt(1 + x**2), "sqrt(x1^2 + 1)"),
        pytest.param(lambda x: 1 / (np.exp(3 * x) + np.exp(-3 * x)), "0.5/cosh(3*x1)", marks=pytest.mark.extended),
        pytest.param(lambda x: 1 / (np.exp(6 * x) + 5), "1/(exp(6*x1) + 5)", marks=pytest.mark.extended),
    ],
)
def test_a_function_of_a_closed_form_needs_no_network(law, text):
    log: list[str] = []
    search = Search(Budget(max_fits=200), log=log.append)
    found = solve(SearchProblem(2 * X, law(2 * X[:, 0])), search)
    assert found is not None and found.error < 1e-12 and "shapes" not in log
    assert find_formulas((2 * X, law(2 * X[:, 0])), max_fits=100).best.formula.text == text


def test_the_simplest_sum_comes_first_and_constants_stay_constants():
    (first, *_) = term_sums(XY, 3 * np.sin(XY[:, 0]) + 2)
    assert first.constant == pytest.approx(2) and not first.powers
    ((coefficient, term),) = first.terms
    assert coefficient == pytest.approx(3) and [factor.outer for factor in term.factors] == ["sin"]
    assert list(term_sums(XY, np.ones(400))) == []


@pytest.mark.extended
def test_values_of_a_part_that_are_not_exact_are_not_asked():
    for exact, asked in ((1e-9, True), (1e-5, False)):
        log: list[str] = []
        search = Search(Budget(max_fits=200), log=log.append)
        solve(SearchProblem(X, X[:, 0] ** 3 + np.cos(X[:, 0]), exact), search)
        assert ("polynomial" in log) is asked


@pytest.mark.slow
@pytest.mark.extended
def test_only_the_functions_that_are_given_are_used():
    x = XY[:, :1]
    for law in (np.sin(x[:, 0]) + np.sin(x[:, 0] + x[:, 0] ** 2), np.tanh(3 * x[:, 0]) + x[:, 0] / 2):
        found = find_formulas((x, law), max_fits=60, functions=["x", "x^2", "exp"])
        assert not any(name in found.best.formula.text for name in ("sin", "tanh")) and not found.best.exact


@pytest.mark.parametrize(
    ("law", "text"),
    [
        (lambda a, b: a**b, "exp(x2*log(x1))"),
        (lambda a, b: np.exp(-(a**b)), "exp(-exp(x2*log(x1)))"),
        (lambda a, b: -2 * b**a, "-2*exp(x1*log(x2))"),
    ],
)
def test_an_input_may_be_an_exponent(law, text):
    log: list[str] = []
    y = law(*XY.T)
    found = solve(SearchProblem(XY, y), Search(Budget(max_fits=200), log=log.append))
    assert found is not None and found.error < 1e-12 and "shapes" not in log
    assert find_formulas((XY, y), max_fits=100).best.formula.text == text


def test_a_bell_of_a_ratio_needs_no_network():
    a, b = XY.T
    log: list[str] = []
    y = np.exp(-((a - b) ** 2) / (2 * b**2)) / b
    found = solve(SearchProblem(XY, y), Search(Budget(max_fits=300), log=log.append))
    assert found is not None and found.error < 1e-12 and "shapes" not in log


@pytest.mark.extended
def test_a_bell_of_the_reciprocal_needs_no_network():
    x = XY[:, :1]
    log: list[str] = []
    found = solve(SearchProblem(x, 1 / (np.exp(3 / x[:, 0]) - 1)), Search(Budget(max_fits=300), log=log.append))
    assert found is not None and found.error < 1e-12 and "shapes" not in log
