import warnings

import numpy as np
import pytest

from kanserve.errors import DataError
from kanserve.network.encoding import encode, encodes
from kanserve.network.evaluate import edge, edges, evaluate, jacobian, probabilities
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, make_layer
from kanserve.network.splines import design
from kanserve.train import create
from tests.support.networks.kans import (
    ZOO,
    classifier,
    constant,
    domains,
    multiplication,
    outside_zero,
    raw_features,
    rows,
    small_steps,
    symbolic,
)


def test_a_symbolic_network_is_its_formula():
    x = np.random.default_rng(0).uniform(-1, 1, (100, 2))
    want = np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2)
    assert np.allclose(evaluate(symbolic(), x)[:, 0], want, rtol=1e-14)


def test_a_multiplication_node_is_the_product_of_its_subnodes():
    identity = make_layer(
        functions=[["x", ""], ["", "x"]],
        arity=[2],
        node_scale=[3.0],
        node_bias=[1.0],
        subnode_bias=[0.0, 2.0],
    )
    assert evaluate(Kan((identity,)), [[2.0, 5.0]]).tolist() == [[3 * 2 * (5 + 2) + 1]]


def test_affines_take_and_give_raw_features():
    kan = raw_features()
    bare = Kan(kan.layers)
    u = np.random.default_rng(1).uniform(-1, 1, (20, 2))
    got = evaluate(kan, u * kan.input_scale + kan.input_shift)
    assert np.allclose(got, evaluate(bare, u) * kan.output_scale + kan.output_shift, rtol=1e-10)


@pytest.mark.parametrize("name", ZOO)
def test_rows_that_are_not_finite_are_nan_and_leave_the_others_alone(name):
    kan = ZOO[name]()
    x = rows(kan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = evaluate(kan, x)
    broken = ~np.isfinite(encode(kan, x)).all(axis=1)
    assert broken.sum() == 3 or encodes(kan)
    assert np.isnan(y[broken]).all()
    assert (np.isnan(y).all(axis=1) == np.isnan(y).any(axis=1)).all()
    # Not bit for bit: a matrix product of fewer rows may add in another order.
    alone, scale = evaluate(kan, x[~broken]), np.nanmax(np.abs(y))
    assert np.allclose(alone, y[~broken], rtol=0, atol=1e-14 * scale, equal_nan=True)


def test_a_row_outside_one_functions_domain_is_nan_in_every_output():
    x = np.array([[0.25], [-0.7], [0.0], [0.3]])
    assert np.isnan(evaluate(domains(), x)).all(axis=1).tolist() == [False, True, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_the_derivative_agrees_with_differences(name):
    kan = ZOO[name]()
    x = rows(kan)[:40]  # inside the range and off the knots, where the second derivative is bounded
    steps = small_steps(kan, x)
    differences = np.stack([(evaluate(kan, x + s) - evaluate(kan, x - s)) / (2 * size) for s, size in steps], axis=2)
    got = jacobian(kan, x)
    # Central differences are good to h² ≈ 1e-12 of the third derivative and 1e-16/h = 1e-10 of the value.
    scale = np.nanmax(np.abs(got)) if got.any() else 1.0
    assert np.array_equal(np.isnan(got).any(axis=(1, 2)), np.isnan(evaluate(kan, x)).any(axis=1))
    assert np.nanmax(np.abs(got - differences)) <= 1e-5 * scale


def test_zero_extrapolation_leaves_only_the_base_far_away():
    kan = Kan(outside_zero().layers[:1])
    weights = kan.layers[0].base_weight
    for far in np.array([[50.0, 60.0]]), np.array([[1e307, 1e307]]), np.array([[-1.5e308, -9.0]]):
        expected = FUNCTIONS["silu"].numpy(far) @ weights.T
        assert np.allclose(evaluate(kan, far), expected, rtol=1e-12)


def test_a_network_without_edges_is_a_constant():
    assert evaluate(constant(), [[1.0, 2.0], [3.0, 4.0]]).tolist() == [[2.5], [2.5]]


def test_probabilities_add_up_to_one_and_do_not_overflow():
    x = rows(classifier())[:40]
    assert np.allclose(probabilities(classifier(), x).sum(axis=1), 1, rtol=1e-14)
    huge = Kan(
        (make_layer(functions=[["x"], ["x"]], affine=[[[1e3, 0, 1, 0]], [[-1e3, 0, 1, 0]]]),), classes=("a", "b")
    )
    assert probabilities(huge, [[5.0]]).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("x", [[1.0, 2.0], [[1.0]], np.ones((1, 2, 1)), [["a", "b"]]])
def test_rows_of_a_wrong_shape_or_type_are_refused(x):
    with pytest.raises(DataError):
        evaluate(multiplication(), x)


@pytest.mark.parametrize("name", ZOO)
def test_inputs_that_are_computed_together_give_the_bits_of_each_alone(name, monkeypatch):
    kan = ZOO[name]()
    x = rows(kan)
    together, slopes = evaluate(kan, x), jacobian(kan, x)
    monkeypatch.setattr("kanserve.network.evaluate._VALUES_AT_ONCE", 1)
    assert evaluate(kan, x).tobytes() == together.tobytes()
    assert jacobian(kan, x).tobytes() == slopes.tobytes()
    assert evaluate(kan, x[:0]).shape == (0, together.shape[1])


@pytest.mark.parametrize("name", sorted(set(ZOO) - {"wide"}))
def test_an_edge_has_the_bits_that_it_has_among_all_edges_of_its_layer(name):
    u = np.linspace(-1.7, 1.3, 23)
    for layer in ZOO[name]().layers:
        for j, i in np.ndindex(layer.subnodes, layer.inputs):
            v = np.zeros((len(u), layer.inputs))
            v[:, i] = u
            assert np.array_equal(edge(layer, j, i, u), edges(layer, v)[:, j, i], equal_nan=True)


def test_the_basis_of_other_inputs_is_not_computed_for_an_edge(monkeypatch):
    computed: list[int] = []

    def counted(v, *given):
        computed.append(len(v))
        return design(v, *given)

    monkeypatch.setattr("kanserve.network.evaluate.design", counted)
    edge(create([50, 3], seed=0).layers[0], 2, 7, np.zeros(11))
    assert computed == [11]
