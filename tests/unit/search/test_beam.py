"""Curves are named one after the other, each name judged by what the fit of all the rest makes of it."""

import numpy as np
import pytest

from kanserve.search.fit.beam import name_curves
from kanserve.search.fit.by_shape import by_shapes
from kanserve.search.fit.problem import Search, SearchProblem, settles
from kanserve.search.fit.training import finer, split, train_tree
from kanserve.search.regression.budget import Budget
from kanserve.search.trees.nodes import is_symbolic, price, text
from kanserve.search.trees.shapes import tree

X = np.random.default_rng(0).uniform(0.3, 2.0, (600, 3))
A, B, C = X.T
SUM = ("sum", ("in", 0), ("in", 1))
PRODUCT = ("mul", ("in", 0), ("in", 1))


def fitted(shape, y, count=2):
    rows = split(X[:, :count], y, 0)
    return finer(train_tree(tree(shape), rows, 5, 4, 1.0, np.random.default_rng(0)), rows, 12), rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "y", "functions"),
    [
        (SUM, np.sin(2 * A) + np.exp(-B), {"sin", "exp"}),
        (PRODUCT, np.sin(2 * A) * np.log(B + 1), {"sin", "log"}),
        (("curve", SUM), np.exp(-np.sqrt(A) + B**2 / 3), {"exp"}),
        (("sum", ("in", 0), PRODUCT), A**2 + A * np.cos(2 * B), {"x^2"}),
    ],
    ids=["a sum", "a product", "a curve of a sum", "an input twice"],
)
def test_the_splines_of_a_shape_that_is_right_get_their_names(shape, y, functions):
    spline, rows = fitted(shape, y)
    assert not is_symbolic(spline.tree) and spline.error < 1e-2
    found = name_curves(spline, rows)[0]
    assert is_symbolic(found.tree)
    assert max(found.error, found.held) < 1e-9
    assert all(function in text(found.tree) for function in functions)
    assert price(found.tree) < price(spline.tree)


def test_a_shape_that_is_wrong_gets_names_that_are_no_law():
    spline, rows = fitted(SUM, np.sin(2 * A) * np.exp(-B))
    assert all(network.error > 1e-3 for network in name_curves(spline, rows))


def test_only_functions_that_were_asked_for_become_names_of_edges():
    spline, rows = fitted(SUM, A**2 + B**3)
    assert text(name_curves(spline, rows, ("x", "x^2", "x^3"))[0].tree) == "x^2(0) + x^3(1)"


def test_the_same_rows_and_seed_give_the_same_names():
    texts = set()
    for _ in range(2):
        spline, rows = fitted(PRODUCT, np.sin(2 * A) * np.log(B + 1))
        texts.add(tuple((text(network.tree), network.error) for network in name_curves(spline, rows)))
    assert len(texts) == 1


def test_shapes_in_order_of_size_end_with_the_smallest_that_is_exact():
    search = Search(Budget())
    problem = SearchProblem(X[:, :2], A * B / (A + B))
    found = by_shapes(problem, search)
    assert found is not None and settles(found, problem) and found.error < 1e-9
    assert found.held == min(network.held for network in search.found)
