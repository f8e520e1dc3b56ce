"""The list of formulas is a front without gaps that a real formula can fill."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

import kanserve
from kanserve import find_formulas
from kanserve.data.dataset import Dataset
from kanserve.formula import evaluate_tree
from kanserve.formula.expressions.complexity import complexity
from kanserve.search.findings.baselines import baselines
from kanserve.search.findings.pareto_front import front, pareto_front
from kanserve.search.findings.postprocess import Finisher, tree_error
from kanserve.search.findings.preprocess import prepare
from kanserve.search.findings.shorter_formulas import shorter_formulas, without_gaps
from kanserve.search.trees.nodes import text

GENERATOR = np.random.default_rng(0)
X = GENERATOR.uniform(0.5, 2, (300, 3))
A, B, C = X.T
SUM = "5*exp(-a) + 3*b^2 + 2*sin(c) + 1"


def rows_of(y):
    return Dataset(X, y, ("a", "b", "c"))


def law(formula):
    """The tree of a formula and rows of its values."""
    tree = kanserve.from_formula(formula, inputs=["a", "b", "c"]).formula().tree
    return tree, rows_of(evaluate_tree(tree, {}, X))


@pytest.mark.parametrize("formula", [SUM, "a*exp(-b/c)", "(a + 2*b)/(c^2 + 1)", "a^3/(exp(a/b) - 1)"])
def test_shorter_forms_of_a_law_are_shorter_and_shorter_and_fitted(formula):
    tree, rows = law(formula)
    found = list(shorter_formulas(tree, rows, 1.0, 0.8))
    sizes = [complexity(one) for one in (tree, *found)]
    assert found and all(after < before for before, after in pairwise(sizes)) and sizes[-1] > 1
    for one in found:
        error, share = tree_error(one, rows)
        assert share == 1 and error < 0.9 * np.sqrt(np.mean(rows.y**2))


def test_the_terms_that_the_rows_need_least_are_left_out_first():
    tree, rows = law("5*exp(-a) + 3*b^2 + 0.1*sin(c) + 1")
    shorter = next(shorter_formulas(tree, rows, 1.0, 0.8))
    assert {step[1] for step in shorter if step[0] == "var"} == {0, 1}
    assert tree_error(shorter, rows)[0] < 0.1 * np.std(0.1 * np.sin(C)) + 0.1  # a term of that size is gone, no more


def test_no_form_is_shorter_than_asked_for():
    tree, rows = law(SUM)
    assert all(complexity(one) > 8 for one in shorter_formulas(tree, rows, 8.0, 0.8))
    tree, rows = law("a*b")
    assert list(shorter_formulas(tree, rows, 3.0, 0.8)) == []


@dataclass(frozen=True)
class Entry:
    size: float
    error: float


def listed(*entries, explains_more=lambda one, than: False):
    found = front(
        [Entry(*entry) for entry in entries], lambda one: one.size, lambda one: one.error, 0.95, explains_more
    )
    return [(one.size, one.error) for one in found]


def test_a_formula_that_is_a_little_better_is_listed_where_there_would_be_a_gap():
    assert listed((1, 10), (3, 9.8), (10, 2)) == [(1, 10), (3, 9.8), (10, 2)]
    assert listed((1, 10), (3, 9.95), (10, 2)) == [(1, 10), (10, 2)]
    assert listed((6, 10), (7, 9.8), (10, 2)) == [(6, 10), (10, 2)]


def test_of_several_the_one_that_leaves_the_smaller_gaps_is_listed():
    assert listed((4, 10), (5, 9.8), (8, 9.8), (15, 2)) == [(4, 10), (8, 9.8), (15, 2)]


def test_linear_bilinear_and_quadratic_models_and_additive_splines_are_always_candidates():
    y = 2 + A - 3 * B + 2 * A * C + 0.7 * B**2 + 0.01 * GENERATOR.normal(size=300)
    found = [text(one.tree) for one in baselines(prepare(rows_of(y)), 0, ("sin", "exp", "abs"))]
    assert found[0].count("x") == 0
    assert any("0 + 1 + 2" in one and "*" not in one.split("+", 3)[-1] for one in found)
    assert any("0*2" in one and "x^2" not in one for one in found)
    assert any("x^2(1)" in one for one in found)
    assert any("abs" in one for one in found)


@pytest.mark.slow
@pytest.mark.extended
def test_a_long_law_with_noise_has_formulas_before_it_of_at_most_twice_the_complexity_of_each_other():
    y = evaluate_tree(law(SUM)[0], {}, X)
    found = find_formulas(rows_of(y + 0.04 * y.std() * GENERATOR.normal(size=300)), max_fits=1000)
    sizes = [one.complexity for one in found]
    assert sizes[0] == 1 and len(sizes) > 4
    assert all(before is found[0] for before, _ in found.gaps)  # between the mean and c*x there is nothing
    assert all(after.validation < before.validation for before, after in pairwise(found))


def test_a_simpler_formula_that_is_no_worse_than_the_law_is_the_law():
    y = 2 * A * B + 0.05 * GENERATOR.normal(size=300)
    learn, held = rows_of(y).split(0.2, 0)
    finisher = Finisher(learn, held, learn, None, np.inf)
    short, long = (finisher.fit_tree(law(one)[0]) for one in ("2*a*b", "2*a*b + 0*sin(7*c)/(c + 0.3)"))
    assert short is not None and long is not None
    best = pareto_front([long, short], long).best
    assert best is short and not short.refuted
    wrong = finisher.fit_tree(law("3*a")[0])
    assert wrong is not None and pareto_front([wrong, short], short).best is short


@pytest.mark.slow
@pytest.mark.extended
def test_a_law_that_many_samples_refute_becomes_the_shorter_one_that_it_nearly_is():
    x = GENERATOR.uniform(1, 3, (200_000, 3))
    y = x[:, 0] * np.sin(2 * x[:, 1]) + x[:, 2] ** 2
    rows = Dataset(x, y + 0.026 * GENERATOR.normal(size=len(y)), ("a", "b", "c"))
    learn, held = rows.split(0.2, 0)
    finisher = Finisher(learn, held, learn.sample(1000, 0), None, np.inf)
    long = finisher.fit_tree(law("c^2 - 0.02*a*(b - 50*sin(2.005*b) - 1.86)")[0])
    assert long is not None and long.refuted
    found = without_gaps([long], long, "settled", finisher)
    assert found.best.formula.text == "c^2 + a*sin(2*b)" and found.status == "within noise"
