"""Levenberg-Marquardt: the Jacobian is the derivative, and a fit ends no worse than it began."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve import native
from kanserve.errors import DataError, TrainingError
from kanserve.network.evaluate import evaluate
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, equal, make_layer
from kanserve.network.training_range import finite_rows, sample
from kanserve.train import Event, create, refine, score
from kanserve.train.lm.blas_threads import threads_for
from kanserve.train.lm.jacobian import ROWS, LeastSquaresProblem, jacobian, loss, normal_equations, problem
from kanserve.train.lm.parameter_vector import bending, free_parameters, gather, scatter
from tests.support.blas_threads import two_threads
from tests.support.networks.kans import ZOO, mixed, multiplication, pruned, raw_features, symbolic, wide
from tests.support.networks.powers import POWERS

Array = NDArray[np.float64]


@pytest.fixture(params=["compiled", "numpy"])
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """A fit with the compiled kernels, where there are any, and without them."""
    with native.disable_kernels() if request.param == "numpy" else nullcontext():
        yield


either_way = pytest.mark.usefixtures("way")


def _posed(kan: Kan, count: int = 30) -> tuple[LeastSquaresProblem, Array, Array, Array]:
    x = finite_rows(kan, count)
    y = np.random.default_rng(0).normal(size=(len(x), len(kan.outputs)))
    one = problem(kan, x, y)
    return one, gather(kan, one.free), x, y


def _shaken(kan: Kan, seed: int, size: float = 0.1) -> Kan:
    free = free_parameters(kan)
    vector = gather(kan, free)
    return scatter(kan, free, vector + size * np.random.default_rng(seed).normal(size=len(vector)))


@pytest.mark.parametrize("name", ZOO)
def test_the_loss_is_half_the_mean_squared_error_of_the_reference(name: str) -> None:
    kan = ZOO[name]()
    one, vector, x, y = _posed(kan)
    wanted = 0.5 * (((evaluate(kan, x) - y) / kan.output_scale) ** 2).sum(axis=1).mean()
    assert loss(one, vector)[0] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", ZOO)
def test_the_jacobian_is_the_derivative_of_the_residuals(name: str) -> None:
    kan = ZOO[name]()
    one, vector, x, _ = _posed(kan, count=12)
    analytic = jacobian(one, vector)
    columns = np.random.default_rng(1).permutation(len(vector))[:60]
    for column in columns:
        step = np.zeros(len(vector))
        step[column] = 1e-5
        ahead, behind = (evaluate(scatter(kan, one.free, vector + s * step), x) for s in (1, -1))
        numeric = ((ahead - behind) / np.abs(kan.output_scale) / 2e-5 / np.sqrt(len(x))).ravel()
        # Central differences: an error of step² times the third derivative, and rounding of 1e-16/step.
        np.testing.assert_allclose(
            analytic[:, column], numeric, rtol=1e-6, atol=2e-9 * (1 + np.abs(evaluate(kan, x)).max())
        )


@pytest.mark.parametrize("name", sorted(set(ZOO) - {"wide"}))
def test_the_normal_equations_are_the_jacobian_times_itself(name: str) -> None:
    one, vector, *_ = _posed(ZOO[name]())
    matrix, gradient = normal_equations(one, vector, loss(one, vector)[1])
    dense = jacobian(one, vector)
    size = np.abs(matrix).max()
    np.testing.assert_allclose(matrix, dense.T @ dense, atol=1e-13 * size)
    step = 1e-6 * gradient / np.linalg.norm(gradient)
    slope = (loss(one, vector + step)[0] - loss(one, vector - step)[0]) / 2e-6
    assert slope == pytest.approx(float(np.linalg.norm(gradient)), rel=1e-5)


def test_rows_in_several_blocks_make_one_sum() -> None:
    kan = multiplication()
    x = sample(kan, ROWS + 100)
    y = evaluate(raw_features(), sample(raw_features(), len(x)))
    one = problem(kan, x, y)
    vector = gather(kan, one.free)
    error, state = loss(one, vector)
    assert error == pytest.approx(0.5 * ((evaluate(kan, x) - y) ** 2).sum(axis=1).mean(), rel=1e-12)
    matrix, _ = normal_equations(one, vector, state)
    dense = jacobian(one, vector)
    np.testing.assert_allclose(matrix, dense.T @ dense, atol=1e-12 * np.abs(matrix).max())
    # Without memory for the forward passes they are made again.
    again, _ = normal_equations(one, vector, [])
    np.testing.assert_array_equal(again, matrix)


@pytest.mark.parametrize("name", [*sorted(FUNCTIONS), *POWERS])
def test_free_parameters_of_a_named_edge_say_everything_once(name: str) -> None:
    a, b, c, d = (2.0 if name in ("abs", "sign") else 0.2), 0.5, 0.7, 0.1
    x = np.linspace(-0.9, 0.9, 50)[:, None]
    kan = Kan((make_layer(functions=[[name]], affine=[[[a, b, c, d]]]),))
    one = problem(kan, x, np.zeros_like(x))
    free = np.linalg.svd(jacobian(one, gather(kan, one.free)), compute_uv=False)
    assert free[-1] > 1e-6 * free[0]
    row = FUNCTIONS[name]
    inner = c * row.derivative(a * x + b)
    everything = np.hstack([inner * x, inner, row.numpy(a * x + b), np.ones_like(x)])
    assert np.linalg.matrix_rank(everything, tol=1e-7 * free[0]) == len(free)


@either_way
def test_constants_of_a_formula_are_found_to_the_last_digits() -> None:
    kan = symbolic()
    x = sample(kan, 300)
    y = evaluate(kan, x)
    found = refine(_shaken(kan, 5), x, y)
    assert score(_shaken(kan, 5), (x, y)).rmse[0] > 0.1
    assert score(found, (x, y)).rmse[0] < 1e-14
    assert abs(found.layers[0].affine[0, 0, 0]) == pytest.approx(np.pi, abs=1e-12)


@pytest.mark.slow
@pytest.mark.extended
@either_way
@pytest.mark.parametrize("name", sorted(set(ZOO) - {"wide", "constant", "deep"}))
def test_a_fit_is_finite_and_no_worse_than_its_beginning(name: str) -> None:
    kan = ZOO[name]()
    x = finite_rows(kan, 60)
    y = evaluate(kan, x) + np.random.default_rng(2).normal(0, 0.1, (len(x), len(kan.outputs))) * kan.output_scale
    begun = _shaken(kan, 3, 0.01)
    if not np.isfinite(evaluate(begun, x)).all():
        begun = kan
    found = refine(begun, x, y, steps=10)
    before = (((evaluate(begun, x) - y) / kan.output_scale) ** 2).mean()
    after = (((evaluate(found, x) - y) / kan.output_scale) ** 2).mean()
    assert after < before


@either_way
def test_a_step_out_of_a_domain_is_not_taken() -> None:
    # The best b is where the logarithm's argument just touches 0 at the first row, and steps there overshoot.
    x = np.linspace(0, 1, 40)[:, None]
    y = np.where(x < 0.05, -30.0, np.log(x + 1e-6))
    kan = Kan((make_layer(functions=[["log"]], affine=[[[1.0, 3.0, 1.0, 0.0]]]),))
    found = refine(kan, x, y)
    assert np.isfinite(evaluate(found, x)).all()
    assert score(found, (x, y)).rmse < score(kan, (x, y)).rmse


@either_way
def test_a_network_that_is_not_finite_comes_back_as_it_is() -> None:
    kan = Kan((make_layer(functions=[["log"]]),))
    x = np.linspace(-1, 1, 10)[:, None]
    assert refine(kan, x, x) is kan


@either_way
def test_pruned_edges_and_zero_base_weights_stay() -> None:
    kan = pruned()
    first = kan.layers[0]
    weights = first.base_weight.copy()
    weights[0, 0] = 0
    kan = replace(kan, layers=(replace(first, base_weight=weights), kan.layers[1]))
    x = sample(kan, 80)
    found = refine(kan, x, np.sin(3 * x[:, :1]))
    assert not equal(found, kan)
    np.testing.assert_array_equal(found.layers[0].alive, kan.layers[0].alive)
    assert found.layers[0].base_weight[0, 0] == 0


@either_way
def test_a_constant_network_learns_the_mean() -> None:
    kan = ZOO["constant"]()
    y = np.array([1.0, 2.0, 6.0])
    found = refine(kan, np.zeros((3, 2)), y)
    assert evaluate(found, np.ones((1, 2)))[0, 0] == pytest.approx(3.0, abs=1e-6)


@either_way
def test_a_row_of_weight_0_does_not_count() -> None:
    kan = mixed()
    x = sample(kan, 60)
    y = evaluate(kan, x) + 1
    y[:5] = 100
    weights = np.ones(60)
    weights[:5] = 0
    found = refine(kan, x, y, weights=weights)
    assert score(found, (x[5:], y[5:])).rmse[0] < 1e-5


@either_way
@pytest.mark.parametrize("ridge", [0.0, 1e-12])
def test_a_proximal_ridge_keeps_what_the_new_rows_say_nothing_about(ridge: float) -> None:
    start = create([1, 1], grid=20, seed=1, base="zero")
    x = np.linspace(-1, 1, 400)[:, None]
    y = np.sin(5 * x)
    left, right = x[:, 0] < 0, x[:, 0] >= 0
    first = refine(start, x[left], y[left], ridge=ridge, proximal=1e-8)
    both = refine(first, x[right], y[right], ridge=ridge, proximal=1e-8)
    # A row's basis reaches three intervals of the grid beyond it, and what the first rows said is only given up there.
    far = x[:, 0] < -3 * 2 / 20
    assert score(both, (x[right], y[right])).rmse[0] < 1e-4
    assert score(both, (x[far], y[far])).rmse[0] < 1e-4


@either_way
@pytest.mark.parametrize(("ridge", "proximal", "least", "most"), [(0.0, 1e-10, 0.0, 1e-5), (1e-10, 0.0, 0.1, 1.0)])
def test_five_phases_are_remembered_unless_a_ridge_pulls_to_0(
    ridge: float, proximal: float, least: float, most: float
) -> None:
    # A peak in each (KAN paper, 3.4): fine grid, no base function.
    centres = np.linspace(-0.8, 0.8, 5)
    phases = [(centre + np.linspace(-0.2, 0.2, 100))[:, None] for centre in centres]
    kan = create([1, 1], grid=200, base="zero")
    for x in phases:
        kan = refine(kan, x, np.exp(-300 * (x - centres) ** 2).sum(axis=1), ridge=ridge, proximal=proximal)
    x = np.concatenate(phases)
    error = score(kan, (x, np.exp(-300 * (x - centres) ** 2).sum(axis=1))).rmse[0]
    assert least <= error <= most


@either_way
def test_a_strong_proximal_ridge_holds_the_network_where_it_is() -> None:
    kan = create([2, 2, 1], seed=3)
    x = sample(kan, 50)
    moved = []
    for proximal in (0.0, 1.0, 1e6):
        found = refine(kan, x, np.sin(4 * x[:, 0]), steps=20, proximal=proximal)
        free = free_parameters(kan)
        moved.append(np.abs(gather(found, free) - gather(kan, free)).max())
    assert moved[2] < 1e-5 < 0.1 * moved[1] < moved[0]


@either_way
def test_smoothness_straightens_the_splines() -> None:
    kan = create([1, 1], grid=10, seed=1)
    x = np.linspace(-1, 1, 100)[:, None]
    y = np.sin(6 * x)
    bends = []
    for smooth in (0.0, 1e-2, 1e2):
        found = refine(kan, x, y, smooth=smooth)
        coefficients = found.layers[0].coefficients[0, 0]
        bends.append(coefficients @ bending(found.layers[0], 0) @ coefficients)
    assert bends[0] > 2 * bends[1] > 100 * bends[2]


@either_way
def test_a_spline_goes_on_as_a_cubic_where_few_rows_determine_it() -> None:
    kan = create([1, 1], grid=10, seed=1)
    x = np.linspace(-1, 1, 200)[:, None]
    seen = x[:, 0] < 0.81  # one row or two in the last interval
    y = x**3 - x
    errors = []
    for jumps in (0.0, 1e-7):
        found = refine(kan, x[seen], y[seen], ridge=1e-13, jumps=jumps)
        errors.append(np.abs(evaluate(found, x) - y).max())
    assert errors[1] < 1e-3 < 0.1 * errors[0]


@either_way
def test_few_rows_for_many_parameters_are_met_by_straight_lines() -> None:
    kan = create([8, 4, 1], grid=10, seed=2)
    x = sample(kan, 6)
    y = np.sin(4 * x[:, 0])
    bends = []
    for smooth in (0.0, 1e-3, 1.0):  # without a ridge the damping alone makes the penalty's matrix definite
        found = refine(kan, x, y, smooth=smooth, ridge=0.0, patience=40)
        assert np.isfinite(evaluate(found, sample(kan, 100))).all()
        assert score(found, (x, y)).rmse[0] < 0.01
        first = found.layers[0]
        bends.append(sum(c @ bending(first, i) @ c for row in first.coefficients for i, c in enumerate(row)))
    assert bends[0] > 1e10 * max(bends[1:])


@pytest.mark.parametrize("name", ["one_edge", "uneven_knots"])
def test_a_straight_line_does_not_bend_on_any_grid(name: str) -> None:
    one = ZOO[name]().layers[0]
    k = one.order
    for i in range(one.inputs):
        greville = np.array([one.knots[i, m + 1 : m + k + 1].mean() for m in range(one.coefficients.shape[2])])
        if (np.diff(greville) > 0.02).all():
            assert greville @ bending(one, i) @ greville < 1e-12


@either_way
def test_reports_and_stops_at_the_steps_it_is_given() -> None:
    told: list[Event] = []
    kan = create([2, 2, 1], seed=3)
    x = sample(kan, 50)
    refine(kan, x, np.sin(4 * x[:, 0]), steps=7, progress=told.append)
    assert 1 <= len(told) <= 7
    values = [event.loss for event in told]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(
    ("x", "y", "weights", "message"),
    [
        ([[0.0, np.nan]], [1.0], None, "finite numbers"),
        ([[0.0, 1.0]], [np.inf], None, "finite numbers"),
        ([[0.0, 1.0]], [1.0, 2.0], None, "answers of shape"),
        (np.empty((0, 2)), np.empty((0, 1)), None, "at least one row"),
        ([[0.0, 1.0]], ["a"], None, "must be numbers"),
        ([[0.0, 1.0]], [1.0], [-1.0], "none negative"),
        ([[0.0, 1.0]], [1.0], [0.0], "not all 0"),
    ],
)
def test_rows_that_cannot_be_fitted_are_refused(x: object, y: object, weights: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        refine(symbolic(), x, y, weights=weights)  # type: ignore[arg-type]  # wrong on purpose


def test_fits_in_two_threads_give_the_threads_of_linear_algebra_back() -> None:
    with two_threads() as threads:
        one, other = threads_for(0), threads_for(0)
        one.__enter__()
        other.__enter__()
        one.__exit__(None, None, None)
        assert threads() == {1}
        other.__exit__(None, None, None)
        assert threads() == {2}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": -1}, "steps ≥ 0"),
        ({"steps": "many"}, "steps ≥ 0"),
        ({"patience": 0}, "patience ≥ 1"),
        ({"smooth": -1.0}, "smooth is a finite number"),
        ({"ridge": np.nan}, "ridge is a finite number"),
        ({"proximal": "near"}, "proximal is a finite number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        refine(symbolic(), np.zeros((3, 2)), np.zeros((3, 1)), **settings)


def test_a_network_too_large_for_a_dense_system_is_refused() -> None:
    with pytest.raises(TrainingError, match="at most 8000 parameters, this network has 9432"):
        refine(wide(), np.zeros((2, 20)), np.zeros((2, 17)))


def test_least_squares_needs_no_torch() -> None:
    code = "import sys; import kanserve.train; sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
