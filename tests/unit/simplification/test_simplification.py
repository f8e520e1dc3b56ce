"""Simplification: networks get smaller, then become the formula that the data come from."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.datasets import load_knots
from kanserve.errors import DataError, InputError, NotFoundError
from kanserve.network.evaluate import activations, evaluate
from kanserve.network.kan import Kan, Symbolic, equal, make_layer
from kanserve.network.signal_shares import signal_shares
from kanserve.simplification import SimplifyStep, prune, simplify, symbolify
from kanserve.simplification.edge_candidates import LIBRARY, Samples, candidates, within_domain
from kanserve.simplification.edge_removal import no_edges, without_dead_nodes, without_edges
from kanserve.simplification.gauge_fixing import without_base
from kanserve.simplification.symbolic_edges import name_edges
from kanserve.train import fit, score
from tests.support.cases import one_in
from tests.support.networks import kans

Array = NDArray[np.float64]

ROWS = 600
TARGETS: dict[str, tuple[Callable[[Array], Array], list[int | tuple[int, int]], float, float]] = {
    "exp(sin πx + y²)": (lambda x: np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2), [2, 5, 1], -1.0, 1.0),
    "xy": (lambda x: x[:, 0] * x[:, 1], [2, 4, 1], -1.0, 1.0),
    "x/y": (lambda x: x[:, 0] / x[:, 1], [2, 3, 1], 0.5, 2.0),
    "xy by multiplication": (lambda x: x[:, 0] * x[:, 1], [3, (1, 1), 1], -1.0, 1.0),
}


def _data(name: str, rows: int = ROWS, seed: int = 1) -> Dataset:
    function, (inputs, *_), low, high = TARGETS[name]
    x = np.random.default_rng(seed).uniform(low, high, (rows, int(inputs)))  # type: ignore[arg-type]  # no pair is first
    return Dataset(x, function(x))


@lru_cache
def _fitted(name: str) -> Kan:
    return fit(TARGETS[name][1], _data(name), grid=(3, 5), starts=4, smooth=0.0)


@lru_cache
def _pruned(name: str) -> Kan:
    return prune(_fitted(name), _data(name))


def _names(kan: Kan) -> list[list[str]]:
    return [sorted(layer.functions[layer.symbolic_mask].tolist()) for layer in kan.layers]


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    ("name", "shape", "edges"),
    [("exp(sin πx + y²)", (2, 1, 1), 3), ("xy", (2, 2, 1), 6), ("x/y", (2, 1, 1), 3)],
)
def test_a_network_shrinks_to_the_shape_of_its_function(name: str, shape: tuple[int, ...], edges: int) -> None:
    pruned = _pruned(name)
    assert pruned.shape == shape and pruned.edges == edges
    assert score(pruned, _data(name, seed=2)).r2[0] > 1 - 1e-3


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    ("name", "functions"),
    [
        ("exp(sin πx + y²)", [["sin", "x^2"], ["exp"]]),
        ("xy", [["x"] * 4, ["x^2"] * 2]),
        ("x/y", [["log", "log"], ["exp"]]),
    ],
)
def test_splines_become_the_exact_formula(name: str, functions: list[list[str]]) -> None:
    simple = symbolify(_pruned(name), _data(name))
    assert simple.symbolic and _names(simple) == functions
    assert score(simple, _data(name, seed=2)).r2[0] > 1 - 1e-12


@pytest.mark.slow
@pytest.mark.extended
def test_simplify_finds_a_product_and_drops_the_idle_input() -> None:
    name = "xy by multiplication"
    simple = simplify(_fitted(name), _data(name))
    assert simple.symbolic and simple.edges == 3 and simple.inputs == _fitted(name).inputs
    assert not simple.layers[0].alive[:, 2].any()
    assert score(simple, _data(name, seed=2)).r2[0] > 1 - 1e-12


@pytest.mark.slow
@pytest.mark.extended
def test_simplify_is_deterministic_and_reports_each_step() -> None:
    name = "xy by multiplication"
    steps: list[SimplifyStep] = []
    first = simplify(_fitted(name), _data(name), progress=steps.append)
    assert equal(first, simplify(_fitted(name), _data(name)))
    assert len(steps) > 3 and all(np.isfinite(step.loss) for step in steps)
    assert [step.edges for step in steps] == sorted((step.edges for step in steps), reverse=True)


@pytest.mark.parametrize("function", [prune, symbolify, simplify])
def test_networks_on_the_way_take_the_rows_of_a_table(function: Callable[..., Kan]) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, 200)
    table = pd.DataFrame(
        {"x": x, "kind": np.where(x > 0.3, "a", "b"), "y": x + np.random.default_rng(1).normal(size=200)}
    )
    kan = fit([2, 1], table, target="y", starts=1, steps=5)
    steps: list[SimplifyStep] = []
    simple = function(kan, table, target="y", progress=steps.append)
    assert {step.kan.inputs for step in steps} == {simple.inputs} == {kan.inputs}
    assert np.isfinite([score(step.kan, table, target="y").loss for step in steps]).all()


@pytest.mark.slow
def test_noise_is_not_taken_for_signal() -> None:
    rng = np.random.default_rng(3)
    x = rng.uniform(-1, 1, (400, 5))
    data = Dataset(x, np.sin(3 * x[:, 1]) + x[:, 3] ** 2 + 0.1 * rng.normal(size=400))
    simple = simplify(fit([5, 1], data, grid=(3, 5), starts=2), data)
    assert simple.edges == 2 and _names(simple) == [["sin", "x^2"]]
    assert simple.layers[0].alive[0].tolist() == [False, True, False, True, False]


@pytest.mark.slow
def test_a_classifier_loses_what_it_does_not_need() -> None:
    rng = np.random.default_rng(4)
    x = rng.uniform(-1, 1, (400, 4))
    inside = x[:, 0] ** 2 + x[:, 1] ** 2 < 0.6
    data = Dataset(x, np.stack([inside, ~inside], axis=1).astype(float), classes=("in", "out"))
    scores = make_layer(functions=[["x^2", "x^2", "x", "x"]] * 2, affine=_circle())
    simple = simplify(Kan((scores,), classes=("in", "out")), data)
    assert simple.classes == ("in", "out")
    assert not simple.layers[0].alive[:, 2:].any()
    assert score(simple, data).accuracy == score(Kan((scores,), classes=("in", "out")), data).accuracy == 1.0


def _circle() -> Array:
    """Scores 60·(0.3 - x²), 60·(0.3 - y²) and their opposites, and two inputs that hardly count."""
    affine = np.zeros((2, 4, 4))
    affine[:, :, 0] = 1.0
    affine[0, :2, 2:] = -60.0, 18.0
    affine[0, 2:, 2] = 1e-3
    affine[1] = affine[0]
    affine[1, :, 2:] *= -1
    return affine


@pytest.mark.filterwarnings("ignore::kanserve.train.TrainingWarning")
def test_nothing_is_left_of_a_network_that_knows_nothing() -> None:
    rng = np.random.default_rng(5)
    data = Dataset(rng.uniform(-1, 1, (200, 2)), rng.normal(size=200))
    simple = simplify(fit([2, 2, 1], data, grid=(3,), starts=1, smooth=1e-2), data)
    assert simple.edges == 0 and simple.shape == (2, 1, 1)
    assert np.isfinite(evaluate(simple, data.x)).all()


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    "name", one_in(3, ["on_a_knot", "outside_zero", "uneven_knots", "pruned", "constant", "mixed", "domains"])
)
def test_what_is_exact_stays_what_it_is(name: str) -> None:
    kan = kans.ZOO[name]()
    x = kans.rows(kan, 80)
    x = x[np.isfinite(evaluate(kan, x)).all(axis=1)]
    y = evaluate(kan, x)
    simple = simplify(kan, (x, y))
    assert simple.inputs == kan.inputs and simple.outputs == kan.outputs
    spread = np.where(y.std(axis=0) > 0, y.std(axis=0), 1.0)
    # A fifth of the rows may not say more than the tolerance, 1 % of the spread, and rows lie far outside the grids.
    assert np.sqrt((((evaluate(simple, x) - y) / spread) ** 2).mean()) < 0.02


@pytest.mark.parametrize("name", ["pruned", "multiplication", "mixed", "deep", "raw_features"])
def test_dead_nodes_go_without_a_trace(name: str) -> None:
    kan = kans.ZOO[name]()
    x = kans.rows(kan)[:40]
    gone = no_edges(kan)
    gone[0][0], gone[1][:, -1] = True, True
    emptied = without_edges(kan, gone, x)
    tidy = without_dead_nodes(emptied)
    assert tidy.shape[0] == kan.shape[0] and tidy.shape[-1] == kan.shape[-1]
    assert sum(tidy.shape) < sum(kan.shape)
    np.testing.assert_allclose(evaluate(tidy, x), evaluate(emptied, x), rtol=1e-9, atol=1e-9)


def test_a_removed_edge_leaves_its_mean() -> None:
    kan = kans.deep()
    x = kans.rows(kan)[:40]
    gone = no_edges(kan)
    gone[0][1, 2] = True
    before, after = activations(kan, x)[1], activations(without_edges(kan, gone, x), x)[1]
    np.testing.assert_allclose(before.mean(axis=0), after.mean(axis=0), atol=1e-12)


def test_shares_add_up_to_one() -> None:
    kan = kans.deep()
    shares = signal_shares(kan, kans.rows(kan)[:40])
    for part in (*shares.edges, *shares.nodes, *shares.subnodes):
        assert part.sum() == pytest.approx(1) and (part >= 0).all()


def test_splines_can_tell_the_base_too() -> None:
    kan = kans.one_edge()
    x = np.linspace(-1, 1, 50)[:, None]
    told = without_base(kan)
    assert (told.layers[0].base_weight == 0).all()
    np.testing.assert_allclose(evaluate(told, x), evaluate(kan, x), atol=1e-3)


def _samples(z: Array, values: Array, low: float | None = None) -> Samples:
    return Samples(z, values, np.ones(len(z)), z.min() if low is None else low, z.max(), 0.0)


@pytest.mark.parametrize(
    ("name", "a", "b"),
    [
        *(("x", 1, 0), ("x^2", 1, 0.3), ("x^3", 1, -0.2), ("x^4", 1, 0.1), ("1/x", 1, 2), ("1/x^2", 1, -1.4)),
        *(("sqrt", 1, 1.1), ("1/sqrt", -1, 1.3), ("exp", 1.7, 0), ("log", 1, 1.2), ("sin", 4.0, 0.5)),
        *(("tan", 1.1, 0.2), ("arcsin", 0.7, 0.2), ("arctan", 3.0, 0.4), ("arctanh", 0.8, -0.1)),
        ("arcsinh", 2.4, 0.3),
        *(("sinh", 1.9, 0.3), ("cosh", 1.5, 0.4), ("tanh", 2.5, -0.5), ("gaussian", 1.8, 0.4), ("abs", 1, 0.3)),
    ],
)
def test_each_function_is_recognised_with_its_constants(name: str, a: float, b: float) -> None:
    z = np.linspace(-1, 1, 160)
    kan = Kan((make_layer(functions=[[name]], affine=[[[a, b, 1.5, -0.5]]]),))
    best = candidates(_samples(z, evaluate(kan, z[:, None])[:, 0]), 1e-9)[0]
    assert best.symbolic.function == name and best.error < 1e-6
    found = name_edges(kan, {(0, 0, 0): best.symbolic})
    np.testing.assert_allclose(evaluate(found, z[:, None]), evaluate(kan, z[:, None]), atol=1e-5)


def test_every_function_of_the_library_is_tried_above() -> None:
    tried = test_each_function_is_recognised_with_its_constants.pytestmark[0].args[1]  # type: ignore[attr-defined]  # set by pytest
    assert {name for name, _, _ in tried} == set(LIBRARY)


def test_a_function_outside_its_domain_is_never_offered() -> None:
    z = np.linspace(0.1, 1, 160)
    close = candidates(_samples(z, np.log(z)), 1e-9)
    assert close[0].symbolic.function == "log" and close[0].error < 1e-6
    for offer in candidates(_samples(z, np.log(z), low=-1.0), 1e-9):
        a, b = offer.symbolic.a, offer.symbolic.b
        assert within_domain(offer.symbolic.function, np.array([b - a]), np.array([b + a])).all()


def test_a_pole_between_the_points_is_outside_the_domain() -> None:
    assert not within_domain("1/x", np.array([-1.0]), np.array([1.0]))[0]
    assert not within_domain("tan", np.array([1.0]), np.array([2.0]))[0]
    assert within_domain("tan", np.array([2.0]), np.array([4.0]))[0]


def test_a_spline_that_is_no_function_stays_one_unless_all_must_go() -> None:
    rng = np.random.default_rng(6)
    x = rng.uniform(-1, 1, (500, 1))
    data = Dataset(x, np.abs(np.sin(7 * x[:, 0])) + np.sign(x[:, 0]) * x[:, 0] ** 2)
    kan = fit([1, 1], data, grid=(20,), starts=1, smooth=0.0)
    assert not symbolify(kan, data).symbolic
    assert symbolify(kan, data, all_edges=True).symbolic


@pytest.mark.slow
@pytest.mark.extended
def test_only_functions_that_are_allowed_are_used() -> None:
    name = "exp(sin πx + y²)"
    simple = symbolify(_pruned(name), _data(name), functions=("x", "cosh"), all_edges=True)
    assert {edge_name for names in _names(simple) for edge_name in names} <= {"x", "cosh"}


def test_a_name_takes_the_place_of_all_that_the_edge_was() -> None:
    kan = kans.mixed()
    changed = name_edges(kan, {(0, 0, 0): Symbolic("exp", 0.5, 0.0, 2.0, 1.0)})
    assert changed.layers[0].edge(0, 0) == Symbolic("exp", 0.5, 0.0, 2.0, 1.0)
    assert equal(replace(kan, layers=changed.layers[1:] and (kan.layers[0], *changed.layers[1:])), kan)


def test_data_of_another_network_are_refused() -> None:
    with pytest.raises(DataError, match="2 inputs and 1 outputs needs data"):
        prune(_fitted("xy"), (np.zeros((20, 3)), np.zeros(20)))
    with pytest.raises(DataError, match="tolerance"):
        prune(_fitted("xy"), _data("xy"), tolerance=-1.0)
    with pytest.raises(DataError, match="tolerance is 'auto' or a number from 0 on, got 'none'"):
        prune(_fitted("xy"), _data("xy"), tolerance="none")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(DataError, match="seed is a whole number from 0 on, got -1"):
        prune(_fitted("xy"), _data("xy"), seed=-1)


@pytest.mark.extended
def test_the_signature_of_a_knot_has_a_short_formula_in_its_translations() -> None:
    learn, held = load_knots().split(0.2, seed=0)
    simple = simplify(fit([16, (0, 1)], learn), learn, all_edges=True)
    used = {name for name, alive in zip(learn.inputs, simple.layers[0].alive.T, strict=True) if alive.any()}
    assert simple.symbolic and simple.edges <= 8
    assert {"longitudinal_translation", "meridinal_translation_real"} <= used
    assert score(simple, held).r2[0] > 0.92


def test_an_unknown_function_is_refused_with_the_nearest_names_before_anything_is_fitted():
    steps: list[SimplifyStep] = []
    with pytest.raises(NotFoundError, match=r"No function is called 'sinn'\. Nearest: sin"):
        symbolify(kans.deep(), _data("xy"), functions=["sin", "sinn"], progress=steps.append)
    with pytest.raises(InputError, match=r"list of names"):
        symbolify(kans.deep(), _data("xy"), functions="sin", progress=steps.append)
    assert not steps
