"""Trees of curves and the networks that they are: both say the same, and each leads back to the other."""

from dataclasses import replace

import numpy as np
import pytest

from kanserve.formula import evaluate_tree
from kanserve.formula.from_network.expression_trees import trees
from kanserve.network.evaluate import evaluate
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Symbolic
from kanserve.network.splines import design, uniform_knots
from kanserve.search.fit.training import refine_network, split
from kanserve.search.trees import compose
from kanserve.search.trees.nodes import (
    IDENTITY,
    Curve,
    Node,
    Product,
    Sum,
    curves,
    exchange,
    inputs,
    is_symbolic,
    map_curves,
    price,
    rename_inputs,
    text,
)
from kanserve.search.trees.shapes import shapes, tree
from kanserve.search.trees.to_network import ORDER, network, take_back
from tests.support.networks.curve_names import name_of

X = np.random.default_rng(0).uniform(0.3, 1.7, (40, 3))


def named(of, function, a=1.0, b=0.0, c=1.0, d=0.0):
    return Curve(of, Symbolic(function, a, b, c, d))


def value(node, x):
    """What a tree means, said once more."""
    if isinstance(node, Product):
        return np.prod([value(factor, x) for factor in node.factors], axis=0) + node.bias
    total = np.zeros(len(x))
    for curve in node.parts:
        z = x[:, curve.of] if isinstance(curve.of, int) else value(curve.of, x)
        symbolic = name_of(curve)
        total += symbolic.c * FUNCTIONS[symbolic.function].numpy(symbolic.a * z + symbolic.b) + symbolic.d
    return total


SUM = Sum((named(0, "sin", 2.0, 0.1, 3.0, 0.4), named(1, "x^2", c=-1.0)))
PRODUCT = Product((Sum((named(2, "exp", -1.0),)), SUM), 0.7)
TREES: dict[str, Node] = {
    "a sum": SUM,
    "a product with a bias": PRODUCT,
    "a curve of a product": Sum((named(PRODUCT, "tanh"), named(0, "x"))),
    "an input that is needed three layers later": Sum(
        (named(Sum((named(PRODUCT, "exp", 0.1),)), "x^2"), named(2, "sqrt"))
    ),
    "one node in two places": Product((Sum((named(SUM, "x"),)), Sum((named(SUM, "cos"), named(1, "log"))))),
    "two curves of one input in a sum": Sum((named(0, "sin"), named(0, "x", c=2.0), named(1, "exp"), named(0, "log"))),
    "two curves of one node in a sum": Sum((named(SUM, "sin"), named(SUM, "x", c=2.0))),
}


@pytest.mark.parametrize("node", TREES.values(), ids=TREES)
def test_a_tree_its_network_and_its_formula_have_the_same_values(node):
    kan = network(node, 3).kan
    wanted = value(node, X)
    assert np.allclose(evaluate(kan, X)[:, 0], wanted, rtol=1e-13)
    assert np.allclose(evaluate_tree(trees(kan).trees[0], {}, X), wanted, rtol=1e-13)


@pytest.mark.parametrize("node", TREES.values(), ids=TREES)
def test_the_numbers_of_a_network_come_back_to_the_curves_that_they_belong_to(node):
    net = network(node, 3)
    back = take_back(net, net.kan)
    assert np.array_equal(value(back.tree, X), value(net.tree, X))
    assert set(back.places) <= set(curves(back.tree)) and sorted(back.places.values()) == sorted(net.places.values())


def test_a_fit_moves_the_numbers_of_the_tree_but_no_constant_that_is_to_stay_zero():
    y = 2 * np.exp(-X[:, 0]) + 3 * X[:, 1] ** 2 + 1
    for without in (False, True):
        square = Curve(1, Symbolic("x^2", 1.0, 0.0, 2.0, 0.0), without_constant=without)
        net = refine_network(network(Sum((named(0, "exp", -0.7, c=1.5), square)), 3), split(X, y, 0), 80)
        assert np.array_equal(value(net.tree, X), evaluate(net.kan, X)[:, 0])
        assert any(name_of(curve).d for curve in curves(net.tree)) != without
        assert np.allclose(value(net.tree, X), y, atol=1e-8) != without


def test_a_spline_of_a_network_is_the_spline_of_its_curve():
    generator = np.random.default_rng(0)
    knots = uniform_knots(0.2, 1.8, 6, ORDER)
    coefficients = {i: generator.normal(size=6 + ORDER) for i in (0, 2)}
    splines = [Curve(i, None, knots, coefficient) for i, coefficient in coefficients.items()]
    net = network(Sum((*splines, named(1, "exp"))), 3, scale=2.5)
    given = np.exp(X[:, 1])
    for i, coefficient in coefficients.items():
        given += design(X[:, i], knots, ORDER, "linear") @ coefficient
    assert np.allclose(evaluate(net.kan, X)[:, 0], 2.5 * given, rtol=1e-12)
    again = network(take_back(net, net.kan).tree, 3, scale=2.5)
    assert np.array_equal(evaluate(again.kan, X), evaluate(net.kan, X))


def test_each_shape_becomes_a_network_with_as_many_splines_as_it_has_curves():
    for shape in shapes((0, 1, 2)):
        net = network(tree(shape), 3, 4)
        splines = [curve for curve in curves(net.tree) if curve.symbolic is None]
        assert sum(int(layer.spline_mask.sum()) for layer in net.kan.layers) == len(splines)
        assert evaluate(net.kan, X).shape == (len(X), 1)


def test_a_tree_is_changed_curve_by_curve():
    node = TREES["a curve of a product"]
    assert map_curves(node, lambda curve: curve) is not node and text(map_curves(node, lambda curve: curve)) == text(
        node
    )
    old = next(leaf for leaf in curves(node) if name_of(leaf).function == "sin")
    new = exchange(node, old, Curve(old.of))
    assert text(new) == text(node).replace("sin(0)", "s(0)") and is_symbolic(node) and not is_symbolic(new)
    assert inputs(rename_inputs(node, (5, 3, 4))) == {3, 4, 5}
    assert price(new) > price(node)


@pytest.mark.parametrize("exponent", [1, 2, 3, 4, 5, 6, -1, -2, -3, 0.5, -0.5, 1.5, -2.5, 0.3, -1 / 3])
def test_a_power_is_a_product_of_the_functions_there_are(exponent):
    node = compose.monomial([1], [exponent], 2.5)
    assert np.allclose(value(node, X), 2.5 * X[:, 1] ** exponent, rtol=1e-12)


def test_trees_are_joined_to_the_sums_and_products_that_they_stand_for():
    v = value(SUM, X)
    assert np.allclose(value(compose.product([SUM, PRODUCT, SUM]), X), v * value(PRODUCT, X) * v)
    assert np.allclose(value(compose.total([SUM, PRODUCT]), X), v + value(PRODUCT, X))
    assert np.allclose(value(compose.scale(PRODUCT, -3.0), X), -3 * value(PRODUCT, X))
    assert np.allclose(value(compose.linear([0, 2], [2.0, -1.0]), X), 2 * X[:, 0] - X[:, 2])
    assert np.allclose(value(compose.constant(4.5, 1), X), 4.5)
    inside = compose.substitute(Sum((named(3, "exp"), named(0, "x"))), 3, SUM)
    assert np.allclose(value(inside, X), np.exp(v) + X[:, 0])
    assert text(compose.product([Sum((Curve(replace(PRODUCT, bias=0.0), IDENTITY),)), SUM])).count("*") == 2
