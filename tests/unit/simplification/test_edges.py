"""Candidates for one edge: whatever the samples are, there is no warning and nothing is offered that is not finite."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Symbolic
from kanserve.simplification.composites import Composite, composites
from kanserve.simplification.edge_candidates import LIBRARY, Samples, candidates, candidates_of_each

Array = NDArray[np.float64]
Z = np.linspace(0.5, 2.5, 80)

pytestmark = pytest.mark.filterwarnings("error")


def _samples(values: Array, z: Array = Z, natural: float = 0.0) -> Samples:
    return Samples(z, values, np.ones(len(z)), float(z.min()), float(z.max()), natural)


def _value(one: Symbolic, z: Array) -> Array:
    result: Array = one.c * FUNCTIONS[one.function].numpy(one.a * z + one.b) + one.d
    return result


def test_nothing_is_offered_where_nothing_can_be_told() -> None:
    one = _samples(np.exp(Z))
    for empty in (
        replace(one, z=np.ones(80), low=1.0, high=1.0),
        replace(one, z=np.ones(1), values=np.ones(1), weights=np.ones(1), low=1.0, high=1.0),
        replace(one, z=np.empty(0), values=np.empty(0), weights=np.empty(0), low=0.0, high=0.0),
        replace(one, weights=np.zeros(80)),
        replace(one, weights=np.full(80, np.nan)),
        replace(one, values=np.where(Z > 1, np.nan, Z)),
        replace(one, values=np.full(80, np.inf)),
        replace(one, low=-np.inf),
    ):
        assert candidates(empty, 1e-9) == ()
        assert composites(empty, 1e-9, LIBRARY) == []


@pytest.mark.parametrize("level", [0.0, 3.0, -1e200])
def test_a_constant_curve_is_a_line_without_slope(level: float) -> None:
    best = candidates(_samples(np.full(80, level)), 1e-9)[0]
    assert best.symbolic.function == "x" and best.error <= 1e-12 * abs(level)
    np.testing.assert_allclose(_value(best.symbolic, Z), level, rtol=1e-12)


@pytest.mark.parametrize("height", [1e-160, 1e-12, 1e12, 1e160])
@pytest.mark.parametrize("weight", [1e-200, 1.0, 1e200])
def test_the_scale_of_a_curve_and_of_its_weights_does_not_matter(height: float, weight: float) -> None:
    one = _samples(height * np.exp(-1.3 * Z))
    best = candidates(replace(one, weights=np.full(80, weight)), 1e-12 * height * np.sqrt(weight))[0]
    assert best.symbolic.function == "exp" and best.symbolic.a == pytest.approx(-1.3)
    assert best.error < 1e-9 * height * np.sqrt(weight)


@pytest.mark.parametrize("width", [1e-100, 1e-6, 1e6, 1e100])
def test_the_scale_of_the_input_does_not_matter(width: float) -> None:
    one = _samples(np.sin(2 * Z), width * Z)
    best = candidates(one, 1e-9)[0]
    assert best.symbolic.function == "sin" and best.symbolic.a * width == pytest.approx(2.0)


def test_a_curve_that_cannot_be_told_does_not_spoil_the_others() -> None:
    one = _samples(Z)
    values = np.stack([np.log(Z), np.full(80, np.nan), Z**2])
    found = candidates_of_each(one, values, np.ones((3, 80)), 1e-9)
    assert [offers[0].symbolic.function if offers else "" for offers in found] == ["log", "", "x^2"]


def test_a_parabola_is_found_wherever_its_centre_is() -> None:
    for centre in (-30.0, -1.7, 0.3, 1.501, 2.4, 40.0):
        best = candidates(_samples(0.3 * (Z - centre) ** 2 - 1), 1e-9)[0]
        assert best.symbolic.function == "x^2" and best.symbolic.b == pytest.approx(-centre)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "values", "level"),
    [
        ("1/sqrt(9 - z²)", 1 / np.sqrt(9 - Z**2), 0.0),
        ("1/(e^z - 1)", 1 / (np.exp(Z) - 1), 0.0),
        ("2 - 1/cosh(z)", 2 - 1 / np.cosh(Z), 2.0),
        ("z^1.7", Z**1.7, 0.0),
        ("tanh(z²)", np.tanh(0.3 * Z**2), 0.0),
        ("z·e^-z", 3 * Z * np.exp(-Z), 0.0),
        ("sin(3z)/z - 1", np.sin(3 * Z) / Z - 1, -1.0),
    ],
)
def test_a_function_of_functions_is_recognised(name: str, values: Array, level: float) -> None:
    best = min(composites(_samples(values), 1e-9, LIBRARY, level=level), key=lambda one: one.error)
    assert best.error < 1e-6, name
    np.testing.assert_allclose(_composed(best, Z), values, atol=1e-5)


def test_a_power_under_a_logarithm_is_told_by_its_rate() -> None:
    z = -0.5 * np.log(Z)
    order = np.argsort(z)
    one = _samples(np.tanh(0.4 * Z)[order], z[order])
    assert min(composite.error for composite in composites(one, 1e-9, LIBRARY)) > 1e-5
    best = composites(one, 1e-9, LIBRARY, rates=(-2.0, 2.0))[0]
    assert best.outer.function == "tanh" and best.inner[0].function == "exp" and best.error < 1e-6


def test_functions_of_functions_are_made_of_what_is_allowed() -> None:
    allowed = ("x", "exp", "1/x")
    for composite in composites(_samples(1 / (np.exp(Z) - 1)), 1e-9, allowed):
        assert {composite.outer.function, *(curve.function for curve in composite.inner)} <= set(allowed)


def _composed(one: Composite, z: Array) -> Array:
    return _value(one.outer, np.prod([_value(curve, z) for curve in one.inner], axis=0))
