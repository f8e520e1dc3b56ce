"""The last step of a search: only a law has named constants, and other formulas take little work."""

import numpy as np
import pytest

from kanserve.data.dataset import Dataset
from kanserve.formula.constants.recognition import find_named_constants
from kanserve.search.findings.postprocess import Finisher
from kanserve.search.trees import compose

GENERATOR = np.random.default_rng(0)
X = GENERATOR.uniform(0.5, 2.5, (500, 3))
A, B, C = X.T
NOISE = 0.01 * GENERATOR.normal(size=500)


def finisher(y):
    learn, held = Dataset(X, y, ("a", "b", "c"), ("y",)).split(0.2, 0)
    return Finisher(learn, held, learn, None, np.inf)


def linear(level, *slopes):
    return compose.total([compose.linear(range(3), slopes), compose.constant(level, 0)])


def test_constants_of_a_refuted_formula_have_no_names_unless_it_is_the_law_that_settled_the_search():
    step = finisher(100 * B + np.sin(2 * A) + NOISE)
    other, law = (step.finish(linear(0.1, -0.5, 1.1, -0.8), law=law) for law in (False, True))
    assert other is not None and law is not None and other.refuted and law.refuted
    assert not find_named_constants(other.formula.tree)
    assert find_named_constants(law.formula.tree)


def test_constants_of_a_formula_that_only_noise_separates_from_the_samples_have_names():
    found = finisher(np.pi * B / 3 - 5 * C / 6 + NOISE).finish(linear(0.01, 0.01, 1.1, -0.8))
    assert found is not None and not found.refuted and found.formula.text == "pi*b/3 - 5*c/6"


def test_a_refuted_formula_has_no_terms_that_the_samples_do_not_need():
    found = finisher(np.sin(2 * A) + B + NOISE).finish(linear(0.1, -0.5, 1.1, 0.1))
    assert found is not None and found.refuted and "c" not in found.formula.text


def test_a_fit_that_becomes_exact_is_no_refuted_formula():
    found = finisher(5 * B / 6 + A).finish(linear(0.1, 0.9, 0.8, 0.1))
    assert found is not None and found.exact and found.formula.text == "a + 5*b/6"


@pytest.mark.parametrize(("terms", "brackets"), [(3, True), (8, False)])
def test_a_long_refuted_sum_stays_as_it_was_fitted(terms, brackets):
    powers = [(0, 0, 0), (1, 0, 0), (2, 0, 0), (0, 1, 0), (0, 2, 0), (0, 0, 1), (0, 0, 2), (3, 0, 0)][:terms]
    design = np.prod(X[:, None, :] ** np.array(powers), axis=2)
    y = np.exp(A) - 4 * A + np.sin(3 * B) + 0.3 * np.exp(C)
    coefficients = np.linalg.lstsq(design, y, rcond=None)[0]
    found = finisher(y).finish(
        compose.total([compose.monomial(range(3), row, c) for row, c in zip(powers, coefficients, strict=True)])
    )
    assert found is not None and found.refuted and ("(" in found.formula.text) is brackets
