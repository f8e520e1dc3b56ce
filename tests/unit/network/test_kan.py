import dataclasses

import numpy as np
import pytest

from kanserve.errors import NetworkError
from kanserve.network.kan import Kan, Spline, Sum, Symbolic, Variable, Zero, equal, make_layer
from kanserve.network.splines import uniform_knots
from tests.support.networks.kans import ZOO, mixed, multiplication, raw_features


def test_arrays_are_read_only_copies_of_what_was_given():
    coefficients = np.ones((1, 1, 4))
    one = make_layer(coefficients)
    coefficients[:] = 7
    assert (one.coefficients == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        one.coefficients[0, 0, 0] = 2


def test_names_and_ranges_are_pythons_own_even_if_numpys_were_given():
    given = Variable(np.str_("t"), np.str_("s"), np.float64(-1.5), np.float32(2.25))  # type: ignore[arg-type]  # whose type NumPy says is none of Python's
    assert repr(given) == repr(Variable("t", "s", -1.5, 2.25))
    labels = np.array(["no", "yes"])
    kan = Kan((make_layer(functions=[["sin"], ["exp"]]),), inputs=(given,), classes=tuple(labels))
    assert repr(kan.classes) == "('no', 'yes')" and repr(kan.outputs[1].name) == "'yes'"


def test_an_edge_is_a_spline_a_function_their_sum_or_nothing():
    first = mixed().layers[0]
    assert isinstance(first.edge(0, 0), Sum)
    assert first.edge(0, 1) == Symbolic("x^2", 1.2, -0.4, -0.6, 0.2)
    assert isinstance(first.edge(1, 0), Spline)
    assert first.edge(1, 1) == Zero()


def test_a_base_weight_alone_makes_an_edge_unless_the_base_is_zero():
    weights = [[1.0]]
    assert make_layer(shape=(1, 1), base_weight=weights).alive.all()
    assert not make_layer(shape=(1, 1), base_weight=weights, base="zero").alive.any()


def test_groups_hold_consecutive_subnodes():
    first = multiplication().layers[0]
    assert first.groups == (range(0, 1), range(1, 3), range(3, 6))
    assert (first.subnodes, first.nodes) == (6, 3)


@pytest.mark.parametrize("name", ZOO)
def test_a_network_equals_its_copy_and_nothing_else(name):
    kan = ZOO[name]()
    assert equal(kan, dataclasses.replace(kan))
    shifted = dataclasses.replace(kan, output_shift=kan.output_shift + 1e-9)
    assert not equal(kan, shifted)
    assert not equal(kan, dataclasses.replace(kan, inputs=(Variable("other"), *kan.inputs[1:])))


def test_equality_tells_a_changed_order_of_the_same_numbers():
    kan = raw_features()
    swapped = dataclasses.replace(kan.layers[0], base="identity")
    assert not equal(kan, dataclasses.replace(kan, layers=(swapped, kan.layers[1])))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"knots": np.zeros(9)}, "range of a spline"),
        ({"knots": uniform_knots(-1, 1, 4, 3)}, "knots must have shape"),
        ({"knots": uniform_knots(1, -1, 2, 3)}, "must not decrease"),
        ({"base_weight": [[np.nan]]}, "finite"),
        ({"functions": [["sinus"]]}, "No function is called 'sinus'"),
        ({"arity": [2]}, "add up to the 1 subnodes"),
        ({"arity": [0, 1]}, "positive"),
        ({"arity": [2**62] * 4 + [1]}, "add up to the 1 subnodes"),  # which they do, modulo 2^64
        ({"base": "relu"}, "base is one of"),
        ({"subnode_scale": [1.0, 2.0]}, "subnode_scale must have shape"),
        ({"knots": [-3.0, -2.0, -1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0], "order": 1}, "at most 1 times"),
    ],
)
def test_arrays_that_make_no_layer_are_refused_with_what_was_wanted(options, message):
    count = 7 if options.get("order") == 1 else 5
    with pytest.raises(NetworkError, match=message):
        make_layer(np.ones((1, 1, count)), **options)


@pytest.mark.parametrize("coefficients", [np.ones((1, 1)), np.ones((0, 1, 4)), np.ones((1, 1, 3)), [[["a"] * 4]]])
def test_coefficients_of_a_wrong_shape_are_refused(coefficients):
    with pytest.raises(NetworkError):
        make_layer(coefficients)


def test_layers_that_do_not_fit_together_are_refused():
    one = make_layer(shape=(2, 1))
    with pytest.raises(NetworkError, match="2 nodes is followed by one of 1 inputs"):
        Kan((one, one))
    with pytest.raises(NetworkError, match="at least one layer"):
        Kan(())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": (Variable("a"), Variable("b"))}, "1 inputs need as many names"),
        ({"inputs": (Variable(""),)}, "not be empty"),
        ({"inputs": (Variable("a", low=2, high=1),)}, "low ≤ high"),
        ({"outputs": (Variable("a"), Variable("a"))}, "must differ"),
        ({"classes": ("a",)}, "1 classes need as many outputs"),
        ({"classes": ("a", "a")}, "must differ"),
        ({"input_scale": [0.0]}, "must not be 0"),
        ({"output_shift": [np.inf, 0]}, "finite"),
        ({"input_shift": [0.0, 1.0]}, "shape"),
    ],
)
def test_what_surrounds_the_layers_is_checked(options, message):
    with pytest.raises(NetworkError, match=message):
        Kan((make_layer(shape=(2, 1)),), **options)
