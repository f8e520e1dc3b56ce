"""Laws with products, and functions of functions: exact from the network that data have trained."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan, Symbolic, equal, make_layer
from kanserve.simplification import discover, prune, simplify, symbolify
from kanserve.simplification.activations import values
from kanserve.simplification.insert_composite import with_inner
from kanserve.simplification.product_powers import as_factor, may_take_powers, power_of, with_power
from kanserve.simplification.sensitivity import samples
from kanserve.simplification.symbolic_edges import name_edges, price, splines
from kanserve.train import create, fit
from tests.support.cases import one_in
from tests.support.networks import kans

Array = NDArray[np.float64]
Law = Callable[..., Array]
Ranges = Sequence[tuple[float, float]]
Shape = list[int | tuple[int, int]]


def _data(law: Law, ranges: Ranges, rows: int = 600, seed: int = 1) -> Dataset:
    low, high = np.array(ranges).T
    x = np.random.default_rng(seed).uniform(low, high, (rows, len(low)))
    return Dataset(x, law(*x.T))


def _error(kan: Kan, law: Law, ranges: Ranges) -> float:
    """Of the largest, on new rows."""
    data = _data(law, ranges, seed=2)
    worst = np.abs(evaluate(kan, data.x) - data.y).max(axis=0) / np.abs(data.y).max(axis=0)
    return float(worst.max())


def _template(shape: Shape, kept: Sequence[tuple[int, int, int]]) -> Kan:
    """A random network with only these edges, as one that was pruned by hand."""
    kan = create(shape, base="zero")
    layers = []
    for depth, layer in enumerate(kan.layers):
        mask = np.zeros((layer.subnodes, layer.inputs, 1), bool)
        for _, j, i in (index for index in kept if index[0] == depth):
            mask[j, i] = True
        layers.append(replace(layer, coefficients=np.where(mask, layer.coefficients, 0.0)))
    return replace(kan, layers=tuple(layers))


PRODUCTS: dict[str, tuple[Law, Ranges, Shape]] = {
    "xy": (lambda x, y: x * y, [(-1, 1)] * 2, [2, (1, 1), 1]),
    "x/y": (lambda x, y: x / y, [(-1, 2), (0.5, 2)], [2, (0, 1)]),
    "1 + a·sin t": (lambda a, t: 1 + a * np.sin(t), [(-1, 1), (-3, 3)], [2, (0, 1)]),
    "(1 - a)/sqrt(1 - b²)": (lambda a, b: (1 - a) / np.sqrt(1 - b * b), [(-0.5, 3), (-0.9, 0.9)], [2, (0, 1)]),
    "x³/(e^y - 1)": (lambda x, y: x**3 / (np.exp(y) - 1), [(0.5, 2), (0.5, 4)], [2, (0, 1)]),
    "y·sin(x)/x": (lambda x, y: y * np.sin(x) / x, [(0.3, 6), (-1, 1)], [2, (0, 1)]),
    "e^-xy": (lambda x, y: np.exp(-x * y), [(0.2, 2)] * 2, [2, (0, 1), 1]),
    "1/(1 + xy)": (lambda x, y: 1 / (1 + x * y), [(0.2, 2)] * 2, [2, (0, 1), 1]),
    "ab + cd": (lambda a, b, c, d: a * b + c * d, [(-1, 1)] * 4, [4, (0, 2), 1]),
    "two outputs": (
        lambda x, y: np.stack([x * y + 1, np.exp(-x) * np.sin(y)], axis=1),
        [(-1, 1), (-2, 2)],
        [2, (0, 2)],
    ),
    "x·e^-x + y": (lambda x, y: x * np.exp(-x) + y, [(0.1, 5), (-1, 1)], [2, 1]),
}


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", one_in(3, PRODUCTS))
def test_a_law_comes_out_exact_from_a_trained_network(name: str) -> None:
    law, ranges, shape = PRODUCTS[name]
    data = _data(law, ranges)
    kan = prune(fit(shape, data, grid=(3, 5, 10), starts=6, noise_free=True), data)
    found = symbolify(kan, data)
    assert found.symbolic and _error(found, law, ranges) < 1e-12


TRADED: dict[str, tuple[Law, Ranges]] = {
    "e^a + a²·sin t": (lambda a, t: np.exp(a) + a**2 * np.sin(t), [(-1, 1), (-3, 3)]),
    "a² + (1 + a)·sin t": (lambda a, t: a**2 + (1 + a) * np.sin(t), [(-0.8, 2), (-3, 3)]),
}


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", TRADED)
def test_a_constant_may_be_either_terms(name: str) -> None:
    law, ranges = TRADED[name]
    data = _data(law, ranges, 800)
    kan = _template([2, (1, 1), 1], [(0, 0, 0), (0, 1, 0), (0, 2, 1), (1, 0, 0), (1, 0, 1)])
    found = symbolify(fit(kan, data, grid=(3, 5, 10), starts=10, noise_free=True), data)
    assert found.symbolic and _error(found, law, ranges) < 1e-12


def test_three_factors_are_found_in_one_product() -> None:
    law: Law = lambda m, g, z: m * g * z  # noqa: E731  # as the laws above
    data = _data(law, [(-1, 3)] * 3)
    kan = prune(fit(create([3, (0, 1)], arity=3), data, grid=(3, 5), starts=4, noise_free=True), data)
    assert _error(symbolify(kan, data), law, [(-1, 3)] * 3) < 1e-12


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    ("law", "ranges"),
    [
        (lambda m, g, z: m * g * z, [(0.5, 3)] * 3),
        (lambda x, y: np.exp(np.sin(np.pi * x) + y**2), [(-1, 1)] * 2),
        (lambda x, y: 1 / (1 / x + 1 / y), [(0.5, 3)] * 2),
    ],
)
def test_what_discover_finds_comes_out_exact(law: Law, ranges: Ranges) -> None:
    data = _data(law, ranges)
    found = symbolify(discover(data), data)
    assert found.symbolic and _error(found, law, ranges) < 1e-12


@pytest.mark.slow
@pytest.mark.extended
def test_a_network_as_others_make_them_comes_out_exact() -> None:
    """With base functions, scales and biases on its sums, and splines that are 0 outside their grids."""
    law: Law = lambda x, y: 3 * np.exp(np.sin(np.pi * x) + y**2) - 2  # noqa: E731  # as the laws above
    data = _data(law, [(-1, 1)] * 2)
    kan = prune(fit([2, 5, 1], data, grid=(5, 10), starts=3), data)
    layers = []
    for layer in kan.layers:
        scale, bias = np.linspace(0.5, 2, layer.subnodes), np.linspace(-0.3, 0.4, layer.subnodes)
        layers.append(
            replace(
                layer,
                coefficients=layer.coefficients / scale[:, None, None],
                base_weight=layer.base_weight / scale[:, None],
                subnode_scale=layer.subnode_scale * scale,
                subnode_bias=layer.subnode_bias + bias,
                node_bias=layer.node_bias - bias * layer.node_scale,
                extrapolation="zero",
            )
        )
    found = symbolify(replace(kan, layers=tuple(layers)), data)
    assert found.symbolic and _error(found, law, [(-1, 1)] * 2) < 1e-12


@pytest.mark.slow
@pytest.mark.extended
def test_simplify_keeps_a_function_of_a_function() -> None:
    law, ranges, shape = PRODUCTS["(1 - a)/sqrt(1 - b²)"]
    data = _data(law, ranges)
    found = simplify(fit(shape, data, grid=(3, 5, 10), starts=6, noise_free=True), data)
    assert found.symbolic and _error(found, law, ranges) < 1e-12
    assert equal(found, simplify(fit(shape, data, grid=(3, 5, 10), starts=6, noise_free=True), data))


@pytest.mark.slow
def test_a_spline_of_a_spline_of_one_variable_is_named_with_it() -> None:
    law: Law = lambda x, y: np.exp(np.sin(2 * x)) + y**2  # noqa: E731  # as the laws above
    data = _data(law, [(-1, 1)] * 2)
    kan = _template([2, 2, 1], [(0, 0, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1)])
    found = symbolify(fit(kan, data, grid=(5, 10), starts=2, noise_free=True), data)
    assert found.symbolic and _error(found, law, [(-1, 1)] * 2) < 1e-12


@pytest.mark.slow
def test_a_product_under_a_curve_is_the_same_with_the_feature_as_a_factor() -> None:
    law, ranges, shape = PRODUCTS["e^-xy"]
    data = _data(law, ranges)
    kan = prune(fit(shape, data, grid=(3, 5, 10), starts=6, noise_free=True), data)
    factors = [place for place in splines(kan) if may_take_powers(kan, place)]
    assert len(factors) == 2
    place = factors[0]
    points = samples(kan, data.x, np.ones(1))[place]
    power = power_of(as_factor(kan, place, points))
    assert power is not None
    after = with_power(kan, place, points, *power[:2], values(kan, data.x))
    assert after is not None and after.layers[0].edge(*place[1:]) == Symbolic("x", 1.0, -points.natural, 1.0, 0.0)
    np.testing.assert_allclose(evaluate(after, data.x), evaluate(kan, data.x), atol=0.02)


def test_what_only_carries_a_value_costs_nothing() -> None:
    kan = kans.ZOO["deep"]()
    plain = name_edges(kan, {(0, 0, 0): Symbolic("x^4", 1.0, 0.2, 0.3, 0.0)})
    square = Symbolic("x^2", 1.0, 0.0, 0.3, 0.0)
    inside, _, _ = with_inner(kan, (0, 0, 0), square, (replace(square, b=0.2, c=1.0),))
    assert price(inside) - price(plain) == pytest.approx(2 * price(_alone("x^2")) - price(_alone("x^4")))


def _alone(function: str) -> Kan:
    return Kan((make_layer(functions=[[function]]),))


@pytest.mark.parametrize("name", ["multiplication", "deep", "raw_features", "mixed"])
def test_functions_of_functions_change_their_edges_only_and_share_a_layer(name: str) -> None:
    kan = kans.ZOO[name]()
    x = kans.rows(kan)[:40]
    squared, cubed = Symbolic("x^2", 1.0, 0.2, 1.0, 0.0), Symbolic("x^3", 1.0, 0.2, 1.5, -0.4)
    for depth, layer in enumerate(kan.layers):
        (j, i), (m, n) = np.argwhere(layer.alive)[[0, -1]].tolist()
        fourth, place, inserted = with_inner(kan, (depth, j, i), replace(squared, b=0.0, c=0.3), (squared,))
        wanted = name_edges(kan, {(depth, j, i): Symbolic("x^4", 1.0, 0.2, 0.3, 0.0)})
        assert inserted and place[0] == depth + 1
        np.testing.assert_allclose(evaluate(fourth, x), evaluate(wanted, x), rtol=1e-9, atol=1e-12)
        if (m, n) == (j, i):
            continue
        line = Symbolic("x", 1.0, 0.2, 1.0, 0.0)
        both, _, inserted = with_inner(fourth, (depth + 1, m, n), Symbolic("x", 1.0, 0.0, 1.5, -0.4), (line, squared))
        assert not inserted and len(both.layers) == len(kan.layers) + 1
        np.testing.assert_allclose(
            evaluate(both, x), evaluate(name_edges(wanted, {(depth, m, n): cubed}), x), rtol=1e-9, atol=1e-12
        )
