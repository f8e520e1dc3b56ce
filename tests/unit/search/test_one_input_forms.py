"""Forms of one input with free constants are written as they are computed, and fitted to noise."""

import numpy as np
import pytest

from kanserve.formula import evaluate_tree
from kanserve.formula.constants.nonlinear_fit import refit
from kanserve.formula.from_network.expression_trees import trees
from kanserve.network.evaluate import evaluate
from kanserve.search.fit.additive import additive
from kanserve.search.fit.one_input import SAMPLE_CONSTANTS, forms_of, library_forms, one_input_law
from kanserve.search.fit.problem import Search, SearchProblem, settles
from kanserve.search.regression.budget import Budget
from kanserve.search.regression.form_fits import Curve, _State, _step, fit_exactly, fit_forms, peaks
from kanserve.search.regression.noisy_polynomial import noisy_polynomial
from kanserve.search.regression.one_input_forms import NESTED, SINGLE, TERMS, beside_powers, one_input_forms
from kanserve.search.trees.to_network import network
from kanserve.search.trees.written import Written
from kanserve.simplification.edge_candidates import LIBRARY

GENERATOR = np.random.default_rng(5)
T = GENERATOR.uniform(0.1, 8, 300)
NOISE = GENERATOR.normal(size=300)
LAWS = {
    "exponential": 3.4 * np.exp(-0.47 * T) + 0.68,
    "hill": 6.1 / (1 + (T / 1.9) ** 2.3),
    "bell": 2.7 * np.exp(-(((T - 3.2) / 1.2) ** 2)) + 0.4,
    "damped wave": 2.3 * np.exp(-0.3 * T) * np.cos(2.9 * T + 0.5),
    "hinge": 0.73 * T + 1.3 * np.abs(T - 3.6),
    "wave": 12.7 + 4.3 * np.sin(2.4 * T - 0.8),
}


def noisy(y, share=0.02):
    return y + share * y.std() * NOISE


@pytest.mark.parametrize(
    "form", [*one_input_forms(), *map(beside_powers, NESTED.values())], ids=lambda form: form.name.replace(" ", "_")
)
def test_a_form_is_written_as_it_is_computed(form):
    x = np.linspace(0.5, 3, 20)
    constants = [SAMPLE_CONSTANTS[role] * (1 + 0.1 * place) for place, role in enumerate(form.roles)]
    for values, written in zip(form(x, constants), form(Written(0), constants), strict=True):
        got = evaluate(network(written.node, 1).kan, x[:, None])[:, 0]
        np.testing.assert_allclose(got, values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", LAWS)
def test_the_form_of_a_noisy_curve_is_found_with_its_constants(name):
    forms = [*TERMS.values(), *SINGLE.values()]
    found = fit_forms(forms, T, noisy(LAWS[name]))
    best = next(fit for fit in found if fit.form.name == name)
    assert best.criterion < found[0].criterion + 8  # others of more constants are little better before they pay
    assert np.sqrt(np.mean((best.values(T) - LAWS[name]) ** 2)) < 0.01 * LAWS[name].std()


def test_forms_with_weights_follow_the_heavy_rows():
    wrong = T > 5
    y = np.where(wrong, 0.0, LAWS["exponential"])
    (best, *_) = fit_forms([TERMS["exponential"]], T, y, np.where(wrong, 1e-9, 1.0))
    np.testing.assert_allclose(best.constants, [-0.47], rtol=1e-3)


def test_a_constant_that_changes_nothing_makes_no_step_singular():
    normal = np.array([[[[0.0, 3e-170], [3e-170, 2.0]]], [[[1.0, 1.0], [1.0, 1.0]]]])
    state = _State(np.ones((2, 1, 2)), np.ones((2, 1, 1)), np.ones((2, 1)), normal, np.ones((2, 1, 2)))
    step = _step(state, np.full((2, 1), 1e-12))
    assert np.isfinite(step).all() and step[0, 0].tolist() == [0.0, pytest.approx(0.5)]


def test_frequencies_start_from_the_peaks_that_noise_does_not_have():
    x = GENERATOR.uniform(0, 60, 400)
    y = np.sin(7.3 * x) + 0.4 * np.sin(4.1 * x + 1) + 0.3 * GENERATOR.normal(size=400)
    found = peaks(Curve(x, y, np.ones(400)))
    assert len(found) == 4 and np.abs(found[:2] - [7.3, 4.1]).max() < 0.05


@pytest.mark.extended
@pytest.mark.parametrize("name", ["hill", "damped wave"])
def test_the_law_of_a_noisy_curve_is_sure_and_has_the_right_form(name):
    one = SearchProblem(T[:, None], noisy(LAWS[name], 0.01))
    found = one_input_law(one, Search(Budget()))
    assert found is not None and settles(found, one)
    (tree,) = trees(found.net.kan).trees
    exact = evaluate_tree(refit(tree, T[:, None], LAWS[name]), {}, T[:, None])
    assert np.abs(exact - LAWS[name]).max() < 1e-6


def test_only_functions_of_the_library_are_in_forms():
    forms = library_forms(("exp",))
    assert {"exponential", "hyperbola"} <= {form.name for form in forms}
    assert not any("wave" in form.name or "step" in form.name for form in forms)
    for described in forms_of(T, noisy(LAWS["exponential"]), None, forms[:6])[:3]:
        assert evaluate(network(described.node, 1).kan, T[:, None]).shape == (300, 1)


def test_the_terms_of_a_noisy_polynomial_are_told():
    x = GENERATOR.uniform(-3, 3, (600, 2))
    a, b = x.T
    y = 2.5 * a**4 - 1.3 * a**3 + 0.5 * b**2 - 1.7 * b
    found = noisy_polynomial(x, y + 0.01 * y.std() * GENERATOR.normal(size=600))
    assert found is not None and set(found.powers) == {(4, 0), (3, 0), (0, 2), (0, 1)}
    np.testing.assert_allclose(found(x), y, atol=0.01 * y.std())


@pytest.mark.slow
@pytest.mark.extended
def test_each_input_of_an_additive_law_has_a_form_with_its_own_constants():
    x = GENERATOR.uniform(0.1, 4, (500, 2))
    y = 2.17 * np.exp(-1.83 * x[:, 0]) + 1.3 * x[:, 0] + 0.92 / (1 + (x[:, 1] / 1.9) ** 2.6)
    one = SearchProblem(x, y + 0.005 * y.std() * GENERATOR.normal(size=500))
    found = additive(one, Search(Budget()))
    assert found is not None and settles(found, one)
    (tree,) = trees(found.net.kan).trees
    exact = evaluate_tree(refit(tree, x, y), {}, x)
    assert np.abs(exact - y).max() < 1e-5


def test_a_power_of_a_ramp_is_fitted_where_the_ramp_is_0_too():
    x = np.linspace(0.0, 5.0, 200)
    best = fit_forms([SINGLE["power_of_a_ramp"]], x, 1.9 * np.maximum(x - 1.37, 0.0) ** 0.67)[0]
    assert best.error < 1e-6
    np.testing.assert_allclose(best.constants, (1.37, 0.67), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "x", "law"),
    [
        ("exponential", T, lambda x: (1 - x / 7.3) * (1 - np.exp(-0.03 * x))),
        ("exponential_of_the_size", T - 4, lambda x: 1.2 * x * np.exp(-np.abs(x))),
        ("wave_of_the_logarithm", T, lambda x: 0.23 * np.cos(np.log(x + 1)) + 0.1 * x),
    ],
)
def test_exact_values_are_a_function_times_a_line_beside_a_parabola(name, x, law):
    found = next(fit_exactly([NESTED["bell"], NESTED[name]], x, law(x), 1e-9))
    assert found.form.name.startswith(NESTED[name].name)
    np.testing.assert_allclose(found.values(x), law(x), atol=1e-8)


def test_of_near_forms_those_that_are_shortest_are_fitted_to_all_rows(monkeypatch):
    monkeypatch.setattr("kanserve.search.regression.form_fits.MOST_KEPT", 1)
    y = 1.1 * T + 20 * T.std() * NOISE
    forms = [TERMS["line"], TERMS["exponential"], SINGLE["line_and_cube"], TERMS["power"]]
    named = {
        fit.form.name for fit in fit_forms(forms, T, y, price=lambda form, constant: 100.0 * (form.name != "line"))
    }
    assert "line" in named


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("x times line of |x|", lambda x: 0.7 * x * np.abs(x) + 0.2),
        ("exponential of |x|", lambda x: 0.8 * np.exp(-1.3 * np.abs(x))),
        ("x times exponential of |x|", lambda x: -1.2 * x * np.exp(-np.abs(x))),
        ("sine of |x|", lambda x: np.sin(2.1 * np.abs(x))),
        ("x times power of |x|", lambda x: np.sign(x) * np.abs(x) ** 0.6),
    ],
)
def test_curves_with_a_kink_at_0_are_forms_of_the_absolute_value(name, law):
    x = GENERATOR.uniform(-2, 2, 600)
    y = law(x) + 0.02 * law(x).std() * GENERATOR.normal(size=600)
    best = forms_of(x, y, None, library_forms(tuple(LIBRARY)))[0]
    assert best.fit.form.name == name
    assert np.sqrt(np.mean((best.values - law(x)) ** 2)) < 0.01 * y.std()


def test_forms_of_the_absolute_value_are_for_even_and_odd_curves_alone():
    x = GENERATOR.uniform(-2, 2, 600)
    noise = 0.02 * GENERATOR.normal(size=600)
    for y, parities in (
        (np.cos(x) + 3, ("even",)),
        (x**3 + 5, ("odd",)),
        (np.exp(x), ()),
        (np.abs(x - 0.3), ()),
    ):
        assert Curve(x, y + noise, np.ones(600)).parities == parities
    assert not Curve(np.abs(x), np.abs(x), np.ones(600)).parities
