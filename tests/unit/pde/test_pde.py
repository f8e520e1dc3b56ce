import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kanserve import create, native
from kanserve.errors import DataError, NetworkError, TrainingError
from kanserve.network.derivatives import derivatives
from kanserve.network.encoding import encodes
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan, equal, make_layer
from kanserve.pde import Field, Residual, defects, refine, solve
from kanserve.pde.residual_problem import ResidualProblem, problem
from kanserve.train import Event
from kanserve.train.lm.parameter_vector import gather
from tests.support.networks.kans import ZOO, mixed, multiplication, outside_linear, rows

SMALL = {
    zoo_name: ZOO[zoo_name] for zoo_name in ZOO if zoo_name not in ("wide", "fine") and not encodes(ZOO[zoo_name]())
}  # those cost seconds and have nothing else


def _each(u) -> list[Any]:
    return [u] if isinstance(u, Field) else list(u)


def _everything(x, u):
    """For each output a residual of its value, first, second and mixed derivatives, and of another output."""
    every, last = _each(u), x.shape[1] - 1
    return [
        output * output.d(0) + 0.1 * output.dd(0, last) * output.d(last) - output.dd(0, 0) * x[:, 0] + every[-1] ** 2
        for output in every
    ]


def _finite_rows(kan, count=20):
    x = rows(kan)[:count]
    return x[np.isfinite(evaluate(kan, x)).all(axis=1)]


def _boundary(count, seed=0):
    """Points on the edge of the square [-1, 1]²."""
    points = np.random.default_rng(seed).uniform(-1, 1, (count, 2))
    side = np.arange(count) % 4
    points[side < 2, 0] = np.where(side[side < 2] == 0, -1, 1)
    points[side >= 2, 1] = np.where(side[side >= 2] == 2, -1, 1)
    return points


@pytest.mark.parametrize("name", SMALL)
def test_a_residual_sees_the_exact_derivatives_of_the_network(name):
    kan = SMALL[name]()
    x = np.concatenate([_finite_rows(kan), _finite_rows(kan, -4)[-8:]])  # inside and outside
    y, first, second = evaluate(kan, x), derivatives(kan, x), derivatives(kan, x, 2)
    last = x.shape[1] - 1
    want = [
        y[:, q] * first[:, q, 0]
        + 0.1 * second[:, q, 0, last] * first[:, q, last]
        - second[:, q, 0, 0] * x[:, 0]
        + y[:, -1] ** 2
        for q in range(len(kan.outputs))
    ]
    got = defects(kan, Residual(_everything, x))
    assert np.allclose(got, want, rtol=1e-11, atol=1e-12 * max(np.abs(np.array(want)[:, :20]).max(), 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_the_jacobian_agrees_with_differences_and_the_normal_equations_with_it(name):
    kan = SMALL[name]()
    x = _finite_rows(kan)
    one = problem(kan, (Residual(_everything, x, weight=0.3),))
    start = gather(kan, one.free)

    def residuals(vector):
        return one.values(vector)[0].ravel() * np.sqrt(0.3 / len(x))

    jacobian, values = one.jacobian(start)
    assert np.allclose(values, residuals(start), rtol=1e-14)
    scale = np.abs(jacobian).max()
    generator = np.random.default_rng(0)
    for _ in range(5):  # along random directions, which all parameters have a part in
        direction = generator.normal(size=len(start))
        # So small a step that few rows pass a knot of a hidden layer, where third derivatives jump.
        ahead, behind = residuals(start + 1e-7 * direction), residuals(start - 1e-7 * direction)
        assert np.abs(jacobian @ direction - (ahead - behind) / 2e-7).max() <= 1e-6 * scale * np.sqrt(len(start))
    state = one.loss(start)[1]
    with native.disable_kernels():
        plain = one.normal_equations(start, state)
    for matrix, gradient in (plain, one.normal_equations(start, state)):
        assert np.abs(matrix - jacobian.T @ jacobian).max() <= 1e-12 * len(values) * scale**2
        assert np.abs(gradient - jacobian.T @ values).max() <= 1e-12 * len(values) * scale * np.abs(values).max()


def test_without_memory_for_all_passes_the_normal_equations_are_the_same(monkeypatch):
    kan = multiplication()
    x = _finite_rows(kan)
    kept = problem(kan, (Residual(_everything, x),))
    monkeypatch.setattr("kanserve.pde.residual_problem.MEMORY", 0)
    monkeypatch.setattr("kanserve.pde.residual_problem.ROWS", 7)
    again = problem(kan, (Residual(_everything, x),))
    start = gather(kan, kept.free)

    def equations(one: ResidualProblem):
        loss, state = one.loss(start)
        return loss, *one.normal_equations(start, state)

    assert not again.keep
    for a, b in zip(equations(kept), equations(again), strict=True):
        assert np.allclose(a, b, rtol=1e-10, atol=1e-10 * np.abs(a).max())


def _poisson(count):
    def source(x):
        a, b = np.pi * x[:, 0], np.pi * x[:, 1] ** 2
        bent = np.pi**2 * (1 + 4 * x[:, 1] ** 2)
        return np.sin(a) * (2 * np.pi * np.cos(b) - bent * np.sin(b))

    interior = np.random.default_rng(0).uniform(-1, 1, (count, 2))
    inside = Residual(lambda x, u: u.dd(0, 0) + u.dd(1, 1) - source(x), interior, weight=0.01)
    return inside, Residual(lambda x, u: u.value - 0, _boundary(200))


@pytest.mark.slow
def test_poisson_is_solved_on_points_that_the_network_was_not_made_with():
    kan = solve([2, 5, 1], _poisson(1500), grid=(5, 10))
    x = np.random.default_rng(1).uniform(-1, 1, (2000, 2))
    wrong = evaluate(kan, x)[:, 0] - np.sin(np.pi * x[:, 0]) * np.sin(np.pi * x[:, 1] ** 2)
    assert np.mean(wrong**2) <= 1e-5


@pytest.mark.slow
@pytest.mark.extended
def test_a_nonlinear_equation_is_solved():
    viscosity = 0.05

    def wave(x):
        return 1 / (1 + np.exp((x[:, 0] - x[:, 1] / 2) / (2 * viscosity)))

    generator = np.random.default_rng(0)
    inside = np.stack([generator.uniform(-1, 1, 800), generator.uniform(0, 1, 800)], axis=1)
    edge = inside[:300].copy()
    edge[:100, 0], edge[100:200, 0], edge[200:, 1] = -1, 1, 0
    burgers = Residual(lambda x, u: u.d("t") + u * u.d("x") - viscosity * u.dd("x", "x"), inside, weight=0.1)
    kan = solve([2, 3, 1], [burgers, Residual(lambda x, u: u - wave(x), edge)], grid=(5, 10), inputs=["x", "t"])
    assert np.sqrt(np.mean((evaluate(kan, inside)[:, 0] - wave(inside)) ** 2)) <= 1e-3
    assert [variable.name for variable in kan.inputs] == ["x", "t"]
    assert kan.inputs[1].low == inside[:, 1].min() or kan.inputs[1].low == 0.0


def _pendulum():
    def motion(x, state):
        angle, speed = state
        return angle.d(0) - speed, speed.d(0) + np.sin(angle)

    times = np.linspace(0, 4, 150)[:, None]
    return Residual(motion, times), Residual(lambda x, state: (state[0] - 1.0, state[1]), [[0.0]])


@pytest.mark.slow
def test_a_system_of_equations_keeps_its_energy():
    kan = solve([1, 4, 2], _pendulum(), grid=(5, 10, 20), outputs=["angle", "speed"])
    angle, speed = evaluate(kan, np.linspace(0, 4, 500)[:, None]).T
    energy = speed**2 / 2 - np.cos(angle)
    assert np.abs(energy + np.cos(1.0)).max() <= 1e-4
    assert [output.name for output in kan.outputs] == ["angle", "speed"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_network_and_another_seed_another():
    first, again, other = (solve([1, 2, 2], _pendulum(), grid=(4, 8), steps=8, seed=n) for n in (0, 0, 1))
    assert equal(first, again)
    assert not equal(first, other)


def test_compiled_and_plain_kernels_lead_to_the_same_solution():
    kan = solve([1, 2, 2], _pendulum(), grid=(5,), steps=5)
    with native.disable_kernels():
        plain = solve([1, 2, 2], _pendulum(), grid=(5,), steps=5)
    x = np.linspace(0, 4, 50)[:, None]
    assert np.allclose(evaluate(kan, x), evaluate(plain, x), atol=1e-6)


def test_a_product_of_nodes_solves_an_equation_of_a_mixed_derivative():
    x = np.random.default_rng(0).uniform(-1, 1, (300, 2))
    law = Residual(lambda x, u: u.dd(0, 1) - 1, x, weight=0.1)
    axes = np.concatenate([x[:50] * [1, 0], x[50:100] * [0, 1]])
    kan = solve([2, (1, 1), 1], [law, Residual(lambda x, u: u.value, axes)], grid=(3, 5))
    assert kan.layers[0].arity.tolist() == [1, 2]
    assert np.abs(evaluate(kan, x)[:, 0] - x[:, 0] * x[:, 1]).max() <= 1e-3


def test_measurements_and_an_equation_go_together():
    times = np.linspace(0, 3, 60)[:, None]
    measured = np.exp(-times[:, 0]) + np.random.default_rng(0).normal(0, 0.05, 60)
    data = Residual(lambda x, u: u - measured, times)
    law = Residual(lambda x, u: u.d(0) + u, np.linspace(0, 3, 200)[:, None], weight=100.0)
    kan = solve([1, 1], [data, law], grid=(8,))
    assert np.abs(evaluate(kan, times)[:, 0] - np.exp(-times[:, 0])).max() <= 0.03  # of noise .05


def test_constants_of_a_formula_are_found_by_its_equation():
    guess = Kan((make_layer(functions=[["exp"]], affine=[[[1.5, 0.0, 2.0, 0.1]]]),))
    law = Residual(lambda x, u: u.d(0) - 2 * u, np.linspace(0, 1, 50)[:, None])
    begin = Residual(lambda x, u: u - 3, [[0.0]])
    kan = refine(guess, [law, begin])
    assert np.allclose(kan.layers[0].affine[0, 0], [2, 0, 3, 0], atol=1e-6)


def test_the_ends_of_the_domain_bend_as_much_as_what_is_next_to_them():
    bare = make_layer(outside_linear().layers[0].coefficients, base="zero")
    kan = Kan((bare,))
    bend = lambda x, u: (u[0].dd(0, 0), u[1].dd(1, 1))  # noqa: E731
    at_ends = defects(kan, Residual(bend, [[-1.0, 1.0], [1.0, -1.0]]))
    inside = defects(kan, Residual(bend, [[-1.0 + 1e-9, 1.0 - 1e-9], [1.0 - 1e-9, -1.0 + 1e-9]]))
    assert np.allclose(at_ends, inside, atol=1e-6)
    assert at_ends.all()
    assert not defects(kan, Residual(bend, [[-1.0 - 1e-9, 1.0 + 1e-9]])).any()


def test_the_first_grid_lies_on_the_box_of_the_points():
    points = np.random.default_rng(0).uniform([3.0, -7e5], [3.1, 2e5], (50, 2))
    kan = solve([2, 2, 1], Residual(lambda x, u: u - x[:, 0], points), grid=(3, 5), steps=3)
    v = (points - kan.input_shift) / kan.input_scale
    knots = kan.layers[0].knots[:, 3:-3]
    assert np.array_equal(knots[:, 0], v.min(axis=0))
    assert np.array_equal(knots[:, -1], v.max(axis=0))


def test_a_finer_grid_that_does_harm_is_not_taken(monkeypatch):
    coarse = solve([1, 2, 2], _pendulum(), grid=(5,), steps=8)
    monkeypatch.setattr("kanserve.pde.solver.regrid", lambda kan, _x, grid: create([1, 2, 2], grid=grid, seed=3))
    assert equal(solve([1, 2, 2], _pendulum(), grid=(5, 6), steps=8), coarse)


def test_a_weight_for_each_point_counts_it_so_often():
    kan = mixed()
    x = _finite_rows(kan, 6)
    often = np.array([0, 1, 1, 2, 2, 2, 3, 4, 5, 5])
    many = problem(kan, (Residual(_everything, x[often]),))
    weight = np.bincount(often) * 6 / 10
    few = problem(kan, (Residual(_everything, x, weight),))
    start = gather(kan, few.free)
    assert np.isclose(many.loss(start)[0], few.loss(start)[0], rtol=1e-12)


def test_starts_use_few_points_of_residuals_that_hold_data_for_all(monkeypatch):
    monkeypatch.setattr("kanserve.pde.solver.START_POINTS", 20)
    x = np.linspace(-1, 1, 200)[:, None]
    measured = np.sin(3 * x[:, 0])
    told: list[Event] = []
    kan = solve([1, 1], Residual(lambda x, u: u - measured, x), grid=(8,), progress=told.append)
    assert np.abs(evaluate(kan, x)[:, 0] - measured).max() <= 1e-2
    assert [*dict.fromkeys(event.stage for event in told)] == ["start 1 of 2", "start 2 of 2", "grid 8"]
    few = problem(kan, (Residual(lambda x, u: u - measured, x),), most=20)
    assert few.rows == 20


def test_an_input_that_never_changes_does_no_harm():
    points = np.stack([np.linspace(0, 1, 40), np.full(40, 5.0)], axis=1)
    kan = solve([2, 1], Residual(lambda x, u: u.d(0) - u + u.dd(1, 1), points), grid=(4, 6), steps=5)
    assert np.isfinite(evaluate(kan, points)).all()


def test_refining_never_ends_worse_and_keeps_what_nothing_depends_on():
    kan = solve([1, 2, 2], _pendulum(), grid=(5,), steps=3)

    def loss(one):
        return sum(np.mean(defects(one, residual) ** 2, axis=1).sum() for residual in _pendulum())

    better = refine(kan, _pendulum(), steps=5)
    assert loss(better) <= loss(kan)
    bare = Kan((make_layer(shape=(1, 1), node_bias=[0.5]),))
    assert np.isfinite(evaluate(refine(bare, Residual(lambda x, u: u.d(0), [[0.0]])), [[0.0]])).all()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, u: u - x[:, :1], r"shape \(4,\), got \(4, 4\).*Columns of x"),
        (lambda x, u: x[:, 0], "must depend on u"),
        (lambda x, u: [], "at least one equation"),
        (lambda x, u: u.d(2), "from 0 to 1 or a name: x1, x2"),
        (lambda x, u: u.dd("x1", "t"), "no input 't'"),
        (lambda x, u: np.floor(u), "derivative of NumPy's floor is not known"),
        (lambda x, u: u - np.mean(u), "mean is not known"),
    ],
)
def test_a_residual_that_cannot_be_used_says_why(function, message):
    with pytest.raises(DataError, match=message):
        solve([2, 1], Residual(function, np.zeros((4, 2)) + np.arange(4)[:, None]))


def test_several_outputs_must_be_taken_apart():
    points = np.linspace(0, 1, 5)[:, None]
    for wrong in (lambda x, u: u.value, lambda x, u: u.d(0), lambda x, u: u + 1, lambda x, u: x[:, 0] * u):
        with pytest.raises(DataError, match="2 outputs: a residual takes them apart"):
            solve([1, 2], Residual(wrong, points))


def test_a_residual_must_ask_for_the_same_derivatives_each_time():
    calls = []

    def fickle(x, u):
        calls.append(1)
        return u.d(0) if len(calls) > 1 else u.value

    with pytest.raises(DataError, match="same derivatives each time"):
        solve([1, 1], Residual(fickle, np.linspace(0, 1, 5)[:, None]))


@pytest.mark.parametrize(
    ("points", "weight"),
    [([1.0, 2.0], 1.0), ([[np.nan]], 1.0), (np.empty((0, 2)), 1.0), ([["a"]], 1.0), ([[1.0]], -1.0), ([[1.0]], [1, 2])],
)
def test_points_and_weights_that_cannot_be_used_are_refused(points, weight):
    with pytest.raises(DataError, match="residual"):
        Residual(lambda x, u: u, points, weight)


def test_what_does_not_fit_together_is_refused():
    line = Residual(lambda x, u: u.d(0), np.linspace(0, 1, 5)[:, None])
    with pytest.raises(DataError, match=r"points of shape \(N, 2\)"):
        solve([2, 1], line)
    with pytest.raises(DataError, match="at least one Residual"):
        solve([1, 1], [])
    with pytest.raises(NetworkError, match="1 inputs need as many names"):
        solve([1, 1], line, inputs=["x", "t"])
    with pytest.raises(NetworkError, match="scale"):
        solve([1, 1], line, scale=[1.0, 2.0])
    with pytest.raises(NetworkError, match="scale"):
        solve([1, 1], line, scale=0.0)
    for wrong in ({"grid": 0}, {"grid": (5, 3)}, {"starts": 1.5}, {"steps": "many"}, {"seed": -1}):
        with pytest.raises(TrainingError, match="grids that get finer, starts ≥ 1, steps ≥ 1 and a seed ≥ 0"):
            solve([1, 1], line, **wrong)
    with pytest.raises(TrainingError, match="starts ≥ 1"):
        solve([1, 1], line, starts=0)
    with pytest.raises(TrainingError, match="at most"):
        solve([1, 90, 90, 1], line, grid=(5,))


def test_residuals_that_are_not_finite_are_told_where():
    points = np.array([[0.0], [0.5], [1.0]])
    with pytest.raises(TrainingError, match=r"Residual 2 is not finite at 3 of its 3 points, the first of them \[0\.0"):
        solve([1, 1], [Residual(lambda x, u: u, points), Residual(lambda x, u: np.log(u - 50), points)])
    kan = create([1, 1])
    with pytest.raises(TrainingError, match="Residual 1 is not finite at 1 of its 3"):
        refine(kan, Residual(lambda x, u: u / x[:, 0], points))


def test_the_size_of_u_may_be_given():
    x = np.linspace(0, 1, 60)[:, None]
    law, begin = Residual(lambda x, u: (u.d(0) + u) / 1e6, x), Residual(lambda x, u: u / 1e6 - 1, [[0.0]])
    kan = solve([1, 1], [law, begin], grid=(8,), scale=1e6)
    assert np.allclose(evaluate(kan, x)[:, 0], 1e6 * np.exp(-x[:, 0]), rtol=1e-4)
    assert kan.output_scale.tolist() == [1e6]


def test_it_needs_no_torch():
    script = (
        "import sys; sys.modules['torch'] = None; import numpy as np; from kanserve.pde import Residual, solve; "
        "solve([1, 1], Residual(lambda x, u: u.d(0) - u, np.linspace(0, 1, 9)[:, None]), grid=(3,), steps=2)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_network_is_not_changed_by_looking_at_its_defects():
    kan = replace(mixed())
    before = evaluate(kan, _finite_rows(kan))
    defects(kan, Residual(_everything, _finite_rows(kan)))
    assert np.array_equal(evaluate(kan, _finite_rows(kan)), before)
