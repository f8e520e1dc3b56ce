"""A law with noise is tried with other forms of each part that depends on one input alone."""

import numpy as np
import pytest

import kanserve
from kanserve.data.dataset import Dataset
from kanserve.formula import evaluate_tree
from kanserve.formula.constants.nonlinear_fit import refit
from kanserve.search.findings.decision import description_length
from kanserve.search.findings.exchanged_parts import parts_of, with_other_parts
from kanserve.search.findings.postprocess import Finisher

GENERATOR = np.random.default_rng(8)
X = GENERATOR.uniform(0.5, 9, (400, 2))


def tree_of(text):
    return kanserve.from_formula(text, inputs=["a", "b"]).formula().tree


def part_values(tree):
    return {part.i: evaluate_tree(part.tree(tree), {}, X) for part in parts_of(tree)}


def test_parts_are_what_depends_on_one_input_alone():
    a = X[:, 0]
    values = part_values(tree_of("exp(a*b)*(2 + a)/(1 + a^2) - 3*b"))
    assert set(values) == {0}
    np.testing.assert_allclose(values[0] * (1 + a**2) / (2 + a), values[0][0] * (1 + a[0] ** 2) / (2 + a[0]))
    assert not parts_of(tree_of("2*a*b + a^2*b")) and not parts_of(tree_of("sin(a)^2/(1 + a)"))


@pytest.mark.extended
def test_a_part_that_only_looks_like_the_law_is_exchanged():
    a, b = X.T
    clean = 19.7 - 1.13 * a - 1.31 * a * b / (1 + 0.47 * a**2)
    y = clean + 0.01 * clean.std() * GENERATOR.normal(size=400)
    learn, held = Dataset(X, y, ("a", "b")).split(0.2, 0)
    finisher = Finisher(learn, held, learn, None, np.inf)
    wrong = tree_of("20.1 - 1.1*a - 2.3*b*(tanh(0.67*a) - 0.1)/(a + 0.7)")
    law = finisher.fit_tree(refit(wrong, learn.x, learn.y[:, 0]))
    assert law is not None
    found = with_other_parts(law, finisher)
    best = min(found, key=description_length)
    assert description_length(best) < description_length(law)
    exact = refit(best.formula.tree, X, clean)
    assert np.abs(evaluate_tree(exact, {}, X) - clean).max() < 1e-6
