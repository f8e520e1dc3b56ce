"""Quotients of polynomials under links are told from noisy samples, with few terms, in rows of any weight."""

import numpy as np
import pytest

from kanserve import find_formulas
from kanserve.data.dataset import Dataset
from kanserve.formula.constants.nonlinear_fit import refit
from kanserve.formula.expressions.tree import evaluate_tree
from kanserve.search.fit.noisy_forms import fit_linked_quotient
from kanserve.search.fit.problem import Search, SearchProblem, settles
from kanserve.search.regression.budget import Budget
from kanserve.search.regression.noisy_quotients import best_first, noisy_quotient, possible_links

X = np.random.default_rng(0).uniform(0.5, 2, (800, 2))
NOISE = np.random.default_rng(1).normal(size=800)
A, B = X.T
LAWS = {
    "identity": (A + 2 * B) / (1 + A * B),
    "square": -np.sqrt(A**2 + 2 * B**2 + 1.5),
    "log": A**1.5 * np.exp(-A / (B + 1)),
    "sin": np.arcsin(0.5 * A / B / 2),
    "exp": np.log(1 + A * B),
}


def noisy_quotients(x, y, smooth, weights=None):
    return best_first(noisy_quotient(x, y, link, near, weights) for link, near in possible_links(smooth))


def best_of(y, weights=None):
    smooth = np.polynomial.chebyshev.chebvander2d(A / 2, B / 2, [6, 6])
    roots = np.ones(len(y)) if weights is None else np.sqrt(weights)
    coefficients = np.linalg.lstsq(smooth * roots[:, None], y * roots, rcond=1e-12)[0]
    return noisy_quotients(X, y, smooth @ coefficients, weights)[0]


def value(found, x):
    inside = found.quotient.numerator(x) / found.quotient.denominator(x)
    return found.link.inverse(inside) * np.prod(x ** np.array(found.exponents), axis=1)


@pytest.mark.parametrize("name", LAWS)
def test_the_link_and_the_terms_of_a_law_stand_out_from_a_tenth_of_noise(name):
    law = LAWS[name]
    found = best_of(law + 0.1 * law.std() * NOISE)
    assert found.link.name == name
    assert len(found.quotient.numerator.powers) + len(found.quotient.denominator.powers) <= 5
    # An estimate of P constants is off by the noise times the root of P/N, here 0.09 of it.
    assert np.std(value(found, X) - law) < 0.15 * 0.1 * law.std()


@pytest.mark.extended
def test_numbers_that_may_be_halves_are_and_others_are_not():
    halves = best_of(LAWS["identity"] + 0.1 * LAWS["identity"].std() * NOISE)
    assert set(np.abs(halves.quotient.numerator.coefficients)) == {1.0, 2.0}
    law = (A + 2.2 * B) / (1.7 + A * B)
    other = best_of(law + 0.03 * law.std() * NOISE)
    assert np.std(value(other, X) - law) < 0.15 * 0.03 * law.std()
    assert best_of(LAWS["log"] + 0.1 * LAWS["log"].std() * NOISE).exponents[0] == 1.5


def test_rows_of_little_weight_say_little():
    sizes = np.where(A > 1, 0.01, 1.0)
    law = LAWS["identity"]
    y = law + sizes * law.std() * NOISE
    errors = [np.std(value(best_of(y, weights), X) - law) for weights in (None, 1 / sizes**2)]
    assert errors[1] < 0.3 * errors[0]


def test_a_law_has_far_surer_numbers_than_what_comes_close_to_another():
    law = LAWS["identity"]
    near = A * np.sin(B)  # a quotient leaves only noise of it
    sure, unsure = (best_of(y + 0.1 * y.std() * NOISE).doubt for y in (law, near))
    assert sure < 0.03 < 0.05 < unsure


def test_the_simpler_quotients_have_fewer_terms_and_are_listed():
    law = LAWS["identity"]
    y = law + 0.1 * law.std() * NOISE
    found = best_of(y)
    sizes = [len(one.quotient.numerator.powers) + len(one.quotient.denominator.powers) for one in found.simpler]
    assert sizes and max(sizes) < len(found.quotient.numerator.powers) + len(found.quotient.denominator.powers)
    search = Search(Budget())
    fit_linked_quotient(SearchProblem(X, y), search)
    assert len(search.found) >= 1 + len(found.simpler)


@pytest.mark.slow
@pytest.mark.extended
def test_workers_change_no_quotient(monkeypatch):
    law = A * np.sin(B)
    y = law + 0.1 * law.std() * NOISE
    monkeypatch.setattr("kanserve.search.fit.workers.AFTER_SECONDS", 0.0)
    texts = [str(find_formulas((X, y), max_fits=200, n_jobs=jobs)).splitlines() for jobs in (1, 2)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("exact", [A * B**2 / (1 + A), np.exp(A) * np.sin(B)])
def test_nothing_is_tried_without_noise(exact):
    assert fit_linked_quotient(SearchProblem(X, exact), Search(Budget())) is None


def test_the_polynomials_that_show_noise_are_fitted_once_for_all_attempts():
    problem, search = SearchProblem(X, np.exp(A) * np.sin(B)), Search(Budget())
    spent = []
    for _ in range(2):
        with search.budget.enforce():
            fit_linked_quotient(problem, search)
        spent.append(search.budget.fits)
    assert spent[0] > 20 > spent[1] - spent[0]


@pytest.mark.slow
@pytest.mark.extended
def test_a_rival_with_surer_constants_beats_a_quotient_that_leaves_only_noise():
    law = np.arcsin(0.45 * A * np.sin(B))
    y = law + 0.1 * law.std() * NOISE
    problem = SearchProblem(X, y)
    quotient = fit_linked_quotient(problem, Search(Budget()))
    assert quotient is not None and settles(quotient, problem) and not quotient.sure
    tree = find_formulas((X, y), max_fits=4000).best.formula.tree
    assert np.abs(evaluate_tree(refit(tree, X, law), {}, X) - law).max() < 1e-9


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    ("law", "text"),
    [
        ((A - 1) ** 2 + (B - 1) ** 2, None),
        (np.sqrt((A - B) ** 2 + 1), "sqrt((x1 - x2)^2 + 1)"),
        ((1 + A * B) / (1 + A), "(x1*x2 + 1)/(x1 + 1)"),
    ],
)
def test_laws_are_found_in_a_tenth_of_noise(law, text):
    found = find_formulas(Dataset(X, law + 0.1 * law.std() * NOISE), max_fits=1500)
    assert found.status == "within noise"
    assert text is None or found.best.formula.text == text
    tree = refit(found.best.formula.tree, X, law)
    assert np.abs(evaluate_tree(tree, {}, X) - law).max() < 1e-9


@pytest.mark.slow
@pytest.mark.extended
def test_a_polynomial_is_not_taken_for_a_quotient_with_a_common_factor():
    """Left out one by one, the terms of (x + y)(1 - a*x)/(1 - a*x) do not become those of x + y."""
    for seed in range(6):
        generator = np.random.default_rng(seed)
        x = generator.uniform((3, 0, 0.2), (5, 2.5, 1), (600, 3))
        law = (x[:, 0] - x[:, 1]) * (x[:, 1] + x[:, 2]) / 2
        y = law + 0.13 * law.std() * generator.normal(size=600)
        found = noisy_quotients(x, y, law)[0]
        assert found.link.name == "identity" and found.quotient.denominator.powers == ((0, 0, 0),)
