import numpy as np
import pytest
from scipy.interpolate import BSpline

from kanserve.network import evaluate
from kanserve.network.splines import about, basis, design, extend_knots, fit_coefficients, pieces, span, uniform_knots
from tests.support.networks.kans import ZOO, rows

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("derivative", [0, 1])
def test_the_basis_agrees_with_scipy(order, derivative):
    knots = extend_knots(np.sort(RNG.uniform(-1, 1, 8)), order)
    x = RNG.uniform(*span(knots, order), 200)
    coefficients = RNG.normal(size=len(knots) - order - 1)
    want = BSpline(knots, coefficients, order)(x, nu=derivative)
    got = basis(x, knots, order, derivative) @ coefficients
    assert np.abs(got - want).max() <= 1e-12 * np.abs(want).max()


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_a_point_on_a_knot_belongs_to_one_piece(order):
    knots = uniform_knots(0, 4, 4, order)
    interior = knots[order : -order or None]
    values = basis(interior, knots, order)
    assert np.abs(values.sum(axis=1) - 1).max() <= 1e-15 * len(knots)
    assert ((values > 0).sum(axis=1) <= order + 1).all()


def test_the_end_of_a_clamped_range_belongs_to_its_last_interval():
    knots = np.array([0.0, 0, 0, 0, 1, 2, 2, 2, 2])
    assert basis(np.array([2.0]), knots, 3)[0, -1] == 1.0


def test_coinciding_knots_divide_nothing_by_zero():
    knots = np.array([-3.0, -2, -1, 0, 0.5, 0.5, 1, 2, 3, 4])
    values = basis(np.linspace(0, 1, 50), knots, 3)
    assert np.isfinite(values).all()
    assert np.abs(values.sum(axis=1) - 1).max() <= 1e-14


def test_outside_its_range_a_spline_goes_on_with_the_slope_at_the_end():
    knots = uniform_knots(-1, 1, 5, 3)
    coefficients = RNG.normal(size=8)
    end = design(np.array([1.0]), knots, 3, "linear") @ coefficients
    slope = design(np.array([1.0]), knots, 3, "linear", derivative=1) @ coefficients
    far = design(np.array([4.0]), knots, 3, "linear") @ coefficients
    assert np.allclose(far, end + 3 * slope, rtol=1e-14, atol=0)


def test_zero_extrapolation_runs_out_on_the_extended_knots():
    knots = uniform_knots(-1, 1, 5, 3)
    beyond = np.array([knots[0] - 1e-9, knots[-1] + 1e-9])
    assert (design(beyond, knots, 3, "zero") == 0).all()
    assert (design(np.array([1.2]), knots, 3, "zero") > 0).any()


def test_a_refit_gives_back_the_spline_it_was_made_from():
    knots = uniform_knots(-1, 1, 7, 3)
    coefficients = RNG.normal(size=(10, 2))
    x = np.linspace(-1, 1, 60)
    got = fit_coefficients(x, design(x, knots, 3, "linear") @ coefficients, knots, 3)
    assert np.abs(got - coefficients).max() <= 1e-8


def test_a_refit_on_one_repeated_point_is_finite_and_meets_it():
    knots = uniform_knots(-1, 1, 20, 3)
    x = np.full(30, 0.3)
    got = fit_coefficients(x, np.full(30, 2.0), knots, 3)
    assert np.isfinite(got).all()
    assert np.allclose(design(x, knots, 3, "linear") @ got, 2.0, rtol=1e-6)


def test_polynomials_about_moved_origins_are_the_same_polynomials():
    polynomials, by = RNG.normal(size=(2, 3, 4, 6)), RNG.normal(size=(3, 4))
    t = RNG.normal(size=(7, 1, 3, 4))
    powers = np.arange(6)
    want = np.einsum("noipr,oipr->noip", t[..., None] ** powers + 0 * polynomials, polynomials)
    got = np.einsum("noipr,oipr->noip", (t - by)[..., None] ** powers + 0 * polynomials, about(polynomials, by))
    assert np.abs(got - want).max() <= 1e-12 * np.abs(want).max()


@pytest.mark.parametrize("name", ZOO)
def test_local_polynomials_are_the_spline_inside_on_knots_and_outside(name):
    kan = ZOO[name]()
    for layer, v in zip(kan.layers, evaluate.activations(kan, rows(kan)), strict=False):
        v = v[np.isfinite(v).all(axis=1)]
        local = pieces(layer.knots, layer.coefficients, layer.order, layer.extrapolation)
        for i in range(layer.inputs):
            piece = np.searchsorted(local.breaks[i], v[:, i], side="right")
            powers = (v[:, i] - local.origins[i, piece])[:, None] ** np.arange(layer.order + 1)
            got = (local.coefficients[:, i, piece] * powers).sum(axis=2)
            want = layer.coefficients[:, i] @ design(v[:, i], layer.knots[i], layer.order, layer.extrapolation).T
            # Far outside, two nearly equal slopes times a large distance: relative to the largest value.
            assert np.abs(got - want).max() <= 1e-13 * max(1.0, np.abs(want).max())
