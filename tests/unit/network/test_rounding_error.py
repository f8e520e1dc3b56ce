"""What rounding does to a network, measured."""

from dataclasses import replace

import numpy as np
import pytest

from kanserve.formula import from_formula
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan, make_layer
from kanserve.network.rounding_error import allow, rounding, scale, steady_rows, unsteadiness
from kanserve.network.training_range import finite_rows
from tests.support.agreement import eager_float32
from tests.support.networks.kans import ZOO, mixed


def edge(name, a=1.0, b=0.0):
    return make_layer(functions=[[name]], affine=[[[a, b, 1.0, 0.0]]])


@pytest.mark.slow
@pytest.mark.extended
def test_a_float_evaluation_is_as_near_as_allowed_on_every_row():
    for make in ZOO.values():
        kan = make()
        x = steady_rows(kan, 200)
        y = evaluate(kan, x)
        assert (np.abs(eager_float32(kan, x) - y) <= allow(kan, x, y, "float", 1e-5)).all(), make.__name__


def test_double_is_two_to_the_29_finer_than_float():
    x = finite_rows(mixed(), 500)
    ratio = np.median(rounding(mixed(), x, "float")) / np.median(rounding(mixed(), x, "double"))
    assert 2**27 < ratio < 2**31


@pytest.mark.slow
def test_the_change_of_a_row_does_not_depend_on_the_other_rows():
    x = finite_rows(mixed(), 50)
    alone = np.concatenate([rounding(mixed(), row[None], "float") for row in x])
    np.testing.assert_allclose(rounding(mixed(), x, "float"), alone, rtol=1e-6, atol=1e-15)


def test_next_to_a_pole_more_is_allowed_than_elsewhere():
    kan = Kan((edge("1/x", 1.0, -0.5),))
    x = np.array([[0.5 + 1e-6], [0.0], [0.9]])
    y = evaluate(kan, x)
    part = allow(kan, x, y, "double", 1e-12) / np.abs(y)
    assert part[0] > 1e-10 and (part[1:] < 1e-11).all()


def test_a_row_that_rounding_pushes_out_of_a_domain_is_not_steady():
    kan = Kan((edge("arcsin", 1.0),))
    on_the_edge, inside = np.array([[1.0]]), np.array([[0.5]])
    assert np.isinf(unsteadiness(kan, on_the_edge)).all() and np.isfinite(unsteadiness(kan, inside)).all()


def test_a_value_near_zero_is_measured_by_the_median_of_its_output():
    y = np.array([[1e-9, 5.0], [2.0, np.nan], [3.0, 7.0], [100.0, 6.0]])
    np.testing.assert_array_equal(scale(y)[:, 0], [3.0, 3.0, 3.0, 100.0])


def test_where_rounding_leaves_no_digit_anything_is_allowed():
    kan = Kan((edge("sin", 1e18),))
    x = finite_rows(kan, 200)
    y = evaluate(kan, x)
    assert (allow(kan, x, y, "double", 1e-9) >= scale(y)).mean() > 0.95


def test_the_two_parts_of_an_edge_are_rounded_each():
    relu = Kan((replace(edge("abs"), base="identity", base_weight=[[0.5]], affine=[[[1.0, 0.0, 0.5, 0.0]]]),))
    at = np.array([[-1000.0]])
    assert evaluate(relu, at) == 0
    assert allow(relu, at, evaluate(relu, at), "float", 1e-5) >= np.spacing(np.float32(500))


def test_where_rounding_may_leave_the_domain_what_it_does_inside_is_allowed():
    kan = from_formula("arccos(x)", ranges={"x": (-1, 1)})
    x = np.array([[1 - 2.0**-53]])
    y = evaluate(kan, x)
    assert np.isnan(rounding(kan, x, "double")).all()
    assert y[0, 0] < allow(kan, x, y, "double", 1e-9)[0, 0] < 100 * y[0, 0]
