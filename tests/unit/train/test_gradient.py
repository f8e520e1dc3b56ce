"""LBFGS and Adam on networks: they learn, they never end in NaN, and they do the same thing twice."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_iris

from kanserve.data.dataset import Dataset
from kanserve.errors import DataError, TrainingError
from kanserve.network.evaluate import activations, evaluate
from kanserve.network.kan import Kan, equal, make_layer
from kanserve.network.signal_shares import signal_shares
from kanserve.network.splines import span
from kanserve.train import fit
from kanserve.train.creation import create
from kanserve.train.fit_progress import FitReport, Watch
from kanserve.train.fit_settings import Method, Settings
from kanserve.train.lm.parameter_vector import free_parameters, gather, penalty
from kanserve.train.normalising import normalise
from kanserve.train.scoring import score
from kanserve.train.torch.gradient_fit import descend
from kanserve.train.torch.objective import Goal, model, shrinkage
from tests.support.networks import kans

Array = NDArray[np.float64]
BOTH = pytest.mark.parametrize("method", ["lbfgs", "adam"])


def toy(seed: int, count: int = 1000) -> Dataset:
    x = np.random.default_rng(seed).uniform(-1, 1, (count, 2))
    return Dataset(x, np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2))


def iris() -> Dataset:
    x, labels = load_iris(return_X_y=True)
    return Dataset(x, np.eye(3)[labels], classes=("setosa", "versicolor", "virginica"))


def start(data: Dataset, shape: list[int], grid: int = 5, seed: int = 0) -> Kan:
    return normalise(create(shape, grid=grid, seed=seed), data)


def trained(
    kan: Kan,
    train: Dataset,
    held: Dataset | None,
    method: Method = "lbfgs",
    report: FitReport | None = None,
    **given: Any,
) -> Kan:
    chosen: dict[str, Any] = {"loss": "squared", "steps": 100, "patience": 20}
    return descend(kan, train, held, Settings(method, **(chosen | given)), watch=Watch(report=report))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(("method", "steps"), [("lbfgs", 200), ("adam", 1000)])
def test_it_learns_a_composition_to_a_hundredth(method: Method, steps: int):
    train, held = toy(0).split(0.2)
    kan = start(train, [2, 5, 1])
    assert score(kan, toy(1)).rmse[0] > 1
    assert score(trained(kan, train, held, method, steps=steps), toy(1)).rmse[0] < 1e-2


@BOTH
def test_a_classifier_learns_irises(method: Method):
    rest, test = iris().split(0.3, seed=2)
    train, held = rest.split(0.2)
    kan = trained(start(rest, [4, 3], grid=3), train, held, method, loss="cross_entropy", steps=300)
    assert kan.classes == iris().classes
    found = score(kan, test)
    assert found.accuracy is not None and found.accuracy >= 0.93
    assert found.loss < 0.3


def test_classes_that_can_be_told_apart_do_not_drive_the_weights_to_infinity():
    data = iris()
    kan = trained(start(data, [4, 4, 3], grid=3), data, None, loss="cross_entropy", steps=300)
    assert all(np.abs(layer.coefficients).max() < 30 for layer in kan.layers)


@pytest.mark.slow
@pytest.mark.extended
@BOTH
def test_equal_seeds_give_equal_networks_and_no_global_seed_is_touched(method: Method):
    train, held = toy(0, 700).split(0.2)
    kan = start(train, [2, 2, 1])
    before = torch.random.get_rng_state()
    once = trained(kan, train, held, method, steps=60)
    torch.manual_seed(7)
    assert equal(once, trained(kan, train, held, method, steps=60))
    torch.random.set_rng_state(before)
    if method == "adam":  # 560 rows: its batches are drawn
        assert not equal(once, trained(kan, train, held, method, steps=60, seed=1))


@pytest.mark.slow
@pytest.mark.extended
@BOTH
@pytest.mark.parametrize(
    "answers",
    [
        lambda x: np.log(np.abs(x[:, 0]) + 1e-300),
        lambda x: 1 / np.abs(x[:, 0] + 1e-12),
        lambda x: np.sign(x[:, 0]),
        lambda x: np.full(len(x), 5e21),
        lambda x: np.where(np.arange(len(x)) == 3, 1e6, x[:, 1]),
    ],
    ids=["log", "reciprocal", "sign", "constant", "outlier"],
)
def test_nasty_data_give_finite_networks(answers: Callable[[Array], Array], method: Method):
    x = np.random.default_rng(0).normal(size=(60, 3)) * [1e-6, 1.0, 1e6]
    x[:, 2] = 4.0
    x[0] = 0
    data = Dataset(x, answers(x))
    kan = start(data, [3, 3, 1], grid=10)
    # Ten times what an optimizer would choose itself: the first steps go wrong.
    found = trained(kan, data, None, method, steps=50, learning_rate=10.0)
    assert np.isfinite(evaluate(found, x)).all()
    assert np.isfinite(evaluate(found, 1e3 * x)).all()
    assert score(found, data).loss <= score(kan, data).loss


@pytest.mark.slow
@pytest.mark.extended
@BOTH
def test_a_logarithm_that_could_leave_its_domain_does_not(method: Method):
    x = np.linspace(0.01, 1, 80)[:, None]
    data = Dataset(x, np.log(x[:, 0]))
    kan = normalise(Kan((make_layer(functions=[["log"]], affine=[[[1.0, 1.2, 0.4, 0.0]]]),)), data)
    found = trained(kan, data, None, method, steps=400)
    assert np.isfinite(evaluate(found, x)).all()
    assert score(found, data).loss < 0.2 * score(kan, data).loss


@pytest.mark.slow
@pytest.mark.extended
def test_l1_and_entropy_leave_fewer_edges_that_matter():
    train, held = toy(0, 600).split(0.2)
    kan = start(train, [2, 4, 1])

    def spread(one: Kan) -> float:
        shares = np.concatenate([edges.ravel() for edges in signal_shares(one, train.x).edges]) / 2
        return float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())

    free = trained(kan, train, held, "adam", steps=600)
    sparse = trained(kan, train, held, "adam", steps=600, l1=1e-2, entropy=1e-2)
    assert spread(sparse) < 0.6 * spread(free)
    assert score(sparse, toy(1)).r2[0] > 0.95


def test_the_best_network_on_held_out_rows_is_the_result():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (150, 2))
    data = Dataset(x, x[:, 0] + rng.normal(0, 0.3, 150))
    train, held = data.split(0.4)
    told = []
    kan = start(data, [2, 5, 1], grid=10)
    found = trained(kan, train, held, patience=1000, report=lambda now: told.append(now.error))
    loss = 0.5 * score(found, held).loss / float(kan.output_scale[0]) ** 2
    np.testing.assert_allclose(loss, min(told), rtol=1e-9)
    assert told[-1] > 1.5 * min(told)  # noise was learnt after that


def test_patience_ends_a_fit_that_gains_nothing():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (60, 2))
    train, held = Dataset(x, rng.normal(size=60)).split(0.4)
    told: list[float] = []
    trained(start(train, [2, 3, 1]), train, held, patience=5, report=lambda now: told.append(now.share))
    assert told[-1] < 0.6
    np.testing.assert_allclose(told, np.arange(1, len(told) + 1) / 100)


def test_hidden_grids_follow_their_data():
    train = toy(0, 400)
    kan = start(train, [2, 3, 1], grid=5)
    found = trained(kan, train, None, steps=100)
    hidden = activations(found, train.x)[1]
    low, high = np.array([span(knots, 3) for knots in found.layers[1].knots]).T
    used = (hidden.max(axis=0) - hidden.min(axis=0)) / (high - low)
    assert not np.array_equal(found.layers[1].knots, kan.layers[1].knots)
    assert ((used > 0.5) & (used < 1.5)).all()
    np.testing.assert_array_equal(found.layers[0].knots, kan.layers[0].knots)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(("method", "steps"), [("lbfgs", 200), ("adam", 1000)])
def test_finer_grids_are_better_than_the_first_one_alone(method: Method, steps: int):
    train, held = toy(0).split(0.2)
    kan = start(train, [2, 2, 1], grid=3)
    coarse, fine = (trained(kan, train, held, method, steps=steps, grids=grids) for grids in ((3,), (3, 5, 10)))
    assert (coarse.layers[0].intervals, fine.layers[0].intervals) == (3, 10)
    assert score(fine, toy(1)).rmse[0] < 0.5 * score(coarse, toy(1)).rmse[0]


def test_finer_grids_that_gain_nothing_are_not_taken():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (60, 2))
    train, held = Dataset(x, rng.normal(size=60)).split(0.4)
    told: list[str] = []
    kan = start(train, [2, 3, 1], grid=3)
    options: dict[str, Any] = {"grids": (3, 5, 10, 20, 50), "patience": 5}
    assert trained(kan, train, held, report=lambda now: told.append(now.stage), **options).layers[0].intervals == 3
    assert "lbfgs, grid 20" in told, "two more are tried than the first that gained nothing"
    assert "lbfgs, grid 50" not in told


def test_splines_are_penalised_as_in_least_squares():
    kan = start(toy(0), [2, 1])
    free = free_parameters(kan)
    vector = gather(kan, free)
    want = penalty(kan, free, ridge=0.1, smooth=2.0)
    gradient = np.zeros_like(vector)
    want.add_to(np.zeros((len(vector), len(vector))), gradient, vector)
    one = model(kan, "cpu")
    value, slopes = shrinkage(Goal("squared", 0, 0, ridge=0.1, smooth=2.0, at_once=1), one, one.vector())
    np.testing.assert_allclose(value, want.value(vector))
    np.testing.assert_allclose(np.sort(slopes.numpy()), np.sort(gradient), atol=1e-12)  # in another order


@BOTH
def test_structure_names_and_affines_stay(method: Method):
    rng = np.random.default_rng(0)
    x = rng.uniform([290, 1e5], [310, 1.02e5], (100, 2))
    data = Dataset(x, np.stack([x[:, 0] / 300, np.sin(x[:, 1] / 500)], axis=1), inputs=("temperature", "pressure"))
    second = make_layer(functions=[["x", "tanh"], ["", "sin"]], subnode_scale=[2.0, 0.5])
    kan = normalise(Kan((kans.mixed().layers[0], second)), data)
    found = trained(kan, data, None, method, steps=20)
    assert not equal(found, kan)
    assert equal(replace(found, layers=kan.layers), kan)
    for before, after in zip(kan.layers, found.layers, strict=True):
        np.testing.assert_array_equal(before.spline_mask, after.spline_mask)
        np.testing.assert_array_equal(before.functions, after.functions)
        np.testing.assert_array_equal(before.base_weight == 0, after.base_weight == 0)
        np.testing.assert_array_equal(before.subnode_scale, after.subnode_scale)


def test_rows_in_parts_make_the_same_step_as_all_at_once():
    train = toy(0, 300)
    kan = start(train, [2, 3, 1])
    whole = trained(kan, train, None, steps=3)
    parts = trained(kan, train, None, steps=3, batch=77)
    np.testing.assert_allclose(evaluate(parts, train.x), evaluate(whole, train.x), rtol=1e-8)


def test_a_network_that_is_not_finite_on_its_rows_comes_back_as_it_is():
    kan = Kan((make_layer(functions=[["log"]], affine=[[[1.0, 0.0, 1.0, 0.0]]]),))
    data = Dataset(np.array([[-1.0], [1.0]]), np.array([0.0, 0.0]))
    for method in ("lbfgs", "adam"):
        assert equal(trained(kan, data, None, method), kan)


def test_it_says_nothing_unasked(capfd: pytest.CaptureFixture[str]):
    train = toy(0, 100)
    trained(start(train, [2, 1, 1]), train, None, steps=5)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patience": 0}, "patience ≥ 1"),
        ({"batch": 0}, "batch ≥ 1"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"l1": -1.0}, "not negative, got -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str):
    train = toy(0, 20)
    with pytest.raises(TrainingError, match=message):
        trained(start(train, [2, 1]), train, None, **settings)


def test_data_of_another_shape_are_refused():
    with pytest.raises(DataError, match="from 3 inputs to 1 outputs cannot learn data with 2 and 1"):
        trained(create([3, 1]), toy(0, 20), None)


@pytest.mark.parametrize("method", ["adam", "lbfgs"])
@pytest.mark.filterwarnings("ignore::kanserve.train.TrainingWarning")  # after so few steps
def test_a_fit_trains_where_gradients_are_turned_off(method):
    """As a Ctrl-C leaves them that comes at an unlucky moment of an earlier fit."""
    x = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    options = {"grid": (3,), "starts": 2, "steps": 5, "optimizer": method}
    wanted = fit([2, 1], (x, np.sin(3 * x[:, 0])), **options)
    with torch.no_grad():
        assert equal(fit([2, 1], (x, np.sin(3 * x[:, 0])), **options), wanted)
