"""The compiled kernels of least squares say what NumPy says, on every kind of network."""

import ctypes
import math
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve import native
from kanserve.network.evaluate import evaluate
from kanserve.network.functions import FUNCTIONS, finite_slope
from kanserve.network.kan import Kan, equal
from kanserve.network.training_range import finite_rows, sample
from kanserve.train import create, refine, score
from kanserve.train.lm import compiled_descent, jacobian
from kanserve.train.lm.compiled_descent import Compiled
from kanserve.train.lm.damped_solve import by_residuals, solve_damped
from kanserve.train.lm.levenberg_marquardt import FLOOR, FewResiduals, Point
from kanserve.train.lm.parameter_layout import function_number
from kanserve.train.lm.parameter_vector import free_parameters, gather, penalty
from tests.support.networks.kans import ZOO, rows
from tests.support.networks.powers import POWERS

Array = NDArray[np.float64]

SMALL = sorted(set(ZOO) - {"wide"})  # whose J'J has 89 million numbers
LARGE = ("one output", "products", "wide")


@pytest.fixture(params=["parameters", "residuals"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the systems of a step are as large as: one for each, whatever the problem would choose."""
    many = math.inf if request.param == "parameters" else 0
    monkeypatch.setattr("kanserve.train.lm.damped_solve.MANY_PARAMETERS", many)
    return str(request.param)


either_system = pytest.mark.usefixtures("system")


def _library() -> ctypes.CDLL:
    found = native.library()
    assert found is not None, "Build the kernels: python kanserve/native/build.py"
    return found


def _address(array: NDArray[Any] | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


def _pair(kan: Kan, x: Array, y: Array, row_weights: Array | None = None, **cost: float) -> tuple[Compiled, Point]:
    """The same descent twice: by the kernels and in NumPy."""
    free = free_parameters(kan)
    paid = penalty(kan, free, *(cost.get(name, 0.0) for name in ("ridge", "smooth", "proximal", "jumps")))
    problem = jacobian.problem(kan, x, y, row_weights)
    kind = FewResiduals if by_residuals(y.size, problem.size) else Point
    pure = kind(problem, paid, gather(kan, free))
    return Compiled(kan, free, paid, x, y, row_weights), pure


def _rows(kan: Kan) -> tuple[Array, Array, Array]:
    """Rows inside, on knots and outside on which the network is finite, random answers, and weights, some of them 0."""
    x = rows(kan, 100)
    x = x[np.isfinite(evaluate(kan, x)).all(axis=1)]
    generator = np.random.default_rng(0)
    y = generator.normal(size=(len(x), len(kan.outputs))) * kan.output_scale + kan.output_shift
    return x, y, generator.integers(0, 4, len(x)).astype(np.float64)


def _check_normal_equations(one: Compiled, problem: jacobian.LeastSquaresProblem, vector: Array) -> None:
    matrix, gradient = one.normal_equations()
    error, state = problem.loss(vector)
    wanted, slope = problem.normal_equations(vector, state)
    assert one.error == pytest.approx(error, rel=1e-12)
    np.testing.assert_allclose(matrix, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())
    np.testing.assert_allclose(gradient, slope, rtol=0, atol=1e-12 * np.abs(slope).max())


@pytest.mark.slow
@either_system
@pytest.mark.parametrize("name", SMALL)
def test_loss_and_normal_equations_are_those_of_numpy(name: str) -> None:
    kan = ZOO[name]()
    x, y, row_weights = _rows(kan)
    native_one, pure = _pair(kan, x, y, row_weights)
    _check_normal_equations(native_one, jacobian.problem(kan, x, y, row_weights), pure.vector)


@pytest.mark.slow
@pytest.mark.extended
@either_system
@pytest.mark.parametrize("name", SMALL)
def test_a_damped_step_with_all_penalties_is_that_of_numpy(name: str) -> None:
    kan = ZOO[name]()
    x = finite_rows(kan, 100)  # not at the edge of a domain, where a slope may be infinite
    y, row_weights = evaluate(kan, x) + 1, np.tile([0.0, 1.0, 2.0], len(x))[: len(x)]
    both = _pair(kan, x, y, row_weights, ridge=1e-3, smooth=1e-2, proximal=1e-3, jumps=1e-2)
    assert both[0].value == pytest.approx(both[1].value, rel=1e-12)
    for _ in range(2):  # the proximal ridge says something from the second step on only
        results = []
        for problem in both:
            assert problem.linearise(FLOOR)
            results.append(problem.attempt(1.0))
        # A condition number of about 1e3 of the damped system leaves that many of the 16 digits.
        assert results[0] == pytest.approx(results[1], rel=1e-9)
        for problem in both:
            problem.accept()
        np.testing.assert_allclose(both[0].vector, both[1].vector, rtol=1e-8, atol=1e-10)
        assert both[0].error == pytest.approx(both[1].error, rel=1e-9)


def _large(name: str) -> tuple[Kan, Array, Array]:
    """Networks and rows for several blocks of rows and several threads."""
    shapes: dict[str, Any] = {"one output": [3, 5, 1], "products": [2, (2, 2), 3, 2], "wide": [3, 20, 5]}
    kan = create(shapes[name], grid=3 if name == "wide" else 6, seed=1)
    x = sample(kan, 300 if name == "wide" else 2500)
    return kan, x, np.random.default_rng(0).normal(size=(len(x), len(kan.outputs)))


@either_system
@pytest.mark.parametrize("name", LARGE)
def test_rows_in_several_blocks_make_one_sum(name: str) -> None:
    kan, x, y = _large(name)
    native_one, pure = _pair(kan, x, y)
    _check_normal_equations(native_one, jacobian.problem(kan, x, y), pure.vector)


@pytest.mark.parametrize("name", LARGE)
def test_bases_that_are_not_kept_are_found_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kan, x, y = _large(name)
    kept = _pair(kan, x, y)[0]
    monkeypatch.setattr("kanserve.train.lm.compiled_descent.MEMORY", 0)
    found = _pair(kan, x, y)[0]
    assert found.error == kept.error
    np.testing.assert_array_equal(found.normal_equations()[0], kept.normal_equations()[0])


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", LARGE)
def test_any_number_of_threads_gives_the_same_bits(name: str, system: str) -> None:
    kan, x, y = _large(name)
    if system == "residuals":
        x, y = x[:300], y[:300]
    free = free_parameters(kan)
    ends = []
    for threads in (1, 2, 3, 7):
        one = Compiled(kan, free, penalty(kan, free, 1e-12, 0.0), x, y, None, threads=threads)
        matrix, gradient = one.normal_equations()
        assert one.linearise(FLOOR)
        ends.append((one.error, one.attempt(1e-2), matrix.tobytes(), gradient.tobytes()))
    assert all(end == ends[0] for end in ends)


def test_a_step_out_of_a_domain_has_an_infinite_value() -> None:
    kan = ZOO["domains"]()
    x, y, _ = _rows(kan)
    for problem in _pair(kan, x, y + 100 * np.arange(len(x))[:, None]):
        assert problem.linearise(FLOOR)
        assert math.isfinite(problem.value)
        assert problem.attempt(1e-9)[0] == math.inf


def test_overflow_on_the_way_has_no_finite_value_even_where_nobody_listens() -> None:
    # The second hidden node, whose only edge goes nowhere, is infinite on these rows.
    kan = ZOO["outside_linear"]()
    first, second = kan.layers
    coefficients, straight = first.coefficients.copy(), second.coefficients.copy()
    coefficients[1] *= 1e250
    straight[:, 1] = 0
    weights = second.base_weight.copy()
    weights[:, 1] = 0
    kan = replace(
        kan,
        layers=(replace(first, coefficients=coefficients), replace(second, coefficients=straight, base_weight=weights)),
    )
    assert np.isnan(evaluate(kan, np.full((1, 2), 1e100))).all()
    for problem in _pair(kan, np.full((1, 2), 1e100), np.zeros((1, 1))):
        assert not math.isfinite(problem.error)


@pytest.mark.parametrize("name", [*sorted(FUNCTIONS), *POWERS])
def test_a_named_function_and_its_slope_are_those_of_the_table(name: str) -> None:
    row = FUNCTIONS[name]
    special = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 800.0, -800.0]
    x = np.concatenate([np.linspace(-3, 3, 241), special])
    x = x[x != -math.inf] if row.domain.startswith("x >") else x  # C's pow(-inf, 2.5) is inf
    values, slopes = np.empty(len(x)), np.empty(len(x))
    number, exponent = function_number(name)
    _library().kanserve_named_function(
        ctypes.c_int64(number),
        ctypes.c_double(exponent),
        ctypes.c_int64(len(x)),
        *map(_address, (x, values, slopes)),
    )
    with np.errstate(all="ignore"):
        wanted, slope = row.numpy(x), finite_slope(name, x) + np.zeros_like(x)
    # Near its roots J0 is as good as numbers next to 1 are. Near a pole or a root an error of one unit in f is many
    # in f'.
    np.testing.assert_allclose(values, wanted, rtol=1e-15 * 8, atol=1e-15 if name == "j0" else 1e-300)
    finite = np.isfinite(x)
    np.testing.assert_allclose(slopes[finite], slope[finite], rtol=1e-11, atol=1e-15)


def test_silu_is_exact_to_its_last_digits_and_keeps_nan() -> None:
    x = np.concatenate([np.linspace(-40, 40, 4001), [-1e4, 1e4, 0.0, 1e300, -1e308, -745.0, math.nan]])
    values, slopes = np.empty(len(x)), np.empty(len(x))
    _library().kanserve_rows_silu(ctypes.c_int64(len(x)), *map(_address, (x, values, slopes)))
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(values, FUNCTIONS["silu"].numpy(x), rtol=2e-15, atol=1e-300)
        np.testing.assert_allclose(slopes, FUNCTIONS["silu"].derivative(x), rtol=1e-13, atol=1e-300)


class _Source(ctypes.Structure):
    """kanserve_source of native/lm/windows.h."""

    _fields_ = (
        ("values", ctypes.c_void_p),
        ("first", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("stride", "length", "step", "positions", "offset")),
    )


@pytest.mark.parametrize("count", [1, 57])
def test_products_of_windows_are_those_of_the_dense_jacobian(count: int) -> None:
    generator = np.random.default_rng(3)
    sources, kept, dense, columns = [], [], [], 0
    # Length, step (0: always at the same column), positions: narrow, wide, of odd lengths, dense, the residual.
    for length, step, positions in ((4, 1, 9), (20, 5, 4), (40, 10, 3), (6, 2, 1), (17, 0, 1), (33, 11, 2), (1, 0, 1)):
        stride = -(-length // 8) * 8
        values = np.zeros((count, stride))
        values[:, :length] = generator.normal(size=(count, length))
        first = generator.integers(0, positions, count).astype(np.int32) if step else None
        width = length + step * (positions - 1)
        part = np.zeros((count, width))
        for n in range(count):
            at = 0 if first is None else first[n] * step
            part[n, at : at + length] = values[n, :length]
        sources.append(
            _Source(_address(values), _address(first), stride, length, step, positions if step else 1, columns)
        )
        kept.append((values, first))
        dense.append(part)
        columns += width
    every = (_Source * len(sources))(*sources)
    library = _library()
    library.kanserve_window_scratch.restype = ctypes.c_int64
    sizes = ctypes.c_int64(count), ctypes.c_int64(len(sources))
    scratch = np.empty(library.kanserve_window_scratch(*sizes, every), np.int32)
    matrix = np.ones(columns**2 + 8)
    library.kanserve_window_products(*sizes, every, _address(matrix), ctypes.c_int64(columns), _address(scratch))
    whole = np.concatenate(dense, axis=1)
    found = np.tril(matrix[: columns**2].reshape(columns, columns))
    np.testing.assert_allclose(found, np.tril(1 + whole.T @ whole), atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 33, 64, 65, 130, 200])
def test_damped_systems_are_solved_the_same_everywhere(size: int) -> None:
    generator = np.random.default_rng(size)
    square = generator.normal(size=(size, size))
    matrix, added, right = square @ square.T, generator.uniform(0.5, 1, size), generator.normal(size=size)
    whole = matrix.copy()
    wanted = np.linalg.solve(matrix + np.diag(added), right)
    matrix[np.triu_indices(size, 1)] = np.nan  # what is above the diagonal is not read
    np.testing.assert_allclose(solve_damped(matrix, added, right), wanted, rtol=1e-9, atol=1e-11)
    with native.disable_kernels():
        np.testing.assert_allclose(solve_damped(whole, added, right), wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("size", [3, 160])
def test_a_matrix_that_is_not_positive_definite_gives_nan(size: int) -> None:
    matrix = np.eye(size)
    matrix[size // 2, size // 2] = -1
    assert np.isnan(solve_damped(matrix, np.zeros(size), np.ones(size))).all()
    matrix[size // 2, size // 2] = np.nan
    assert np.isnan(solve_damped(matrix, np.zeros(size), np.ones(size))).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_whole_fit_is_that_of_numpy(name: str) -> None:
    kan = ZOO[name]()
    x = finite_rows(kan, 60)
    noise = np.random.default_rng(2).normal(0, 0.1, (len(x), len(kan.outputs)))
    y = evaluate(kan, x) + noise * kan.output_scale

    def fitted() -> tuple[list[float], Array]:
        told: list[float] = []
        found = refine(kan, x, y, steps=10, ridge=1e-6, smooth=1e-4, progress=lambda event: told.append(event.loss))
        return told, evaluate(found, x)

    losses, values = fitted()
    with native.disable_kernels():
        wanted, others = fitted()
    # With ridge and smoothness no direction is left to rounding: ten steps lose two of the sixteen digits.
    np.testing.assert_allclose(losses, wanted, rtol=1e-12)
    np.testing.assert_allclose(values, others, rtol=1e-10, atol=1e-10 * np.abs(others).max())


def _target(x: Array) -> Array:
    result: Array = np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2)
    return result


def test_a_fit_has_the_same_bits_again_on_any_number_of_threads(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kan = create([2, 3, 1], grid=5, seed=4)
    x = sample(kan, 1500 if system == "parameters" else 200)
    ends = []
    for threads in (1, 1, 2, 5):
        monkeypatch.setattr(compiled_descent, "threads_worth", lambda work, threads=threads: threads)
        ends.append(refine(kan, x, _target(x), steps=15))
    assert all(equal(end, ends[0]) for end in ends)


def test_few_rows_take_no_memory_for_a_matrix_of_the_parameters() -> None:
    kan = create([30, 5, 1], grid=6, seed=1)
    whole = 8 * gather(kan, free_parameters(kan)).size ** 2
    x = sample(kan, 15)
    tracemalloc.start()
    found = refine(kan, x, x[:, 0])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < whole / 5
    assert score(found, (x, x[:, 0])).rmse[0] < 1e-6


def test_a_fit_is_as_good_without_the_kernels() -> None:
    kan = create([2, 1, 1], grid=5, seed=4)
    x = sample(kan, 400)
    found = refine(kan, x, _target(x))
    with native.disable_kernels():
        pure = refine(kan, x, _target(x))
    errors = [score(network, (x, _target(x))).rmse[0] for network in (found, pure)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-6)
    assert errors[0] < 0.01
