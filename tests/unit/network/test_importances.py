import numpy as np
import pytest

import kanserve
from kanserve.errors import DataError
from kanserve.network.evaluate import edges, evaluate, softmax
from kanserve.network.importances import EDGE_VALUES, FEWEST_PAIRS, input_importances
from kanserve.network.kan import Kan, make_layer
from kanserve.train import create
from tests.support.networks.kans import ZOO, domains, rows


def by_shuffling(kan: Kan, x: np.ndarray) -> np.ndarray:
    """The importances, from all pairs of the rows x and the reference evaluation."""
    x = x[np.isfinite(evaluate(kan, x)).all(axis=1)]

    def answers(rows: np.ndarray) -> np.ndarray:
        values = evaluate(kan, rows)
        return softmax(values) if kan.classes else values

    before = answers(x)
    variances = before.var(axis=0)
    variances = np.full_like(variances, variances.sum()) if kan.classes else variances
    moved = np.zeros(x.shape[1])
    with np.errstate(all="ignore"):
        for i in range(x.shape[1]):
            receivers, donors = np.nonzero(~np.eye(len(x), dtype=bool))
            shuffled = x[receivers]
            shuffled[:, i] = x[donors, i]
            changes = (answers(shuffled) - before[receivers]) ** 2
            changes = changes[np.isfinite(changes).all(axis=1)]
            moved[i] = np.where(variances > 1e-28, changes / variances, 0.0).sum(axis=1).mean() if len(changes) else 0.0
    return moved / moved.sum() if moved.sum() > 0 else moved


@pytest.mark.parametrize("name", sorted(ZOO))
def test_importances_are_those_of_shuffling_each_input_in_the_reference(name):
    kan = ZOO[name]()
    x = rows(kan)[:40]
    assert input_importances(kan, x) == pytest.approx(by_shuffling(kan, x), rel=1e-6, abs=1e-9)


def test_a_factor_that_hardly_varies_has_little_importance_and_the_share_of_the_signal_is_another_number():
    x = np.random.default_rng(0).uniform([-1, 0.9], [1, 1.1], (400, 2))
    kan = kanserve.from_formula("a*b", ranges={"a": (-1, 1), "b": (0.9, 1.1)})
    # Var(a)·E[b²] is 0.334 and Var(b)·E[a²] is 0.0011.
    assert input_importances(kan, x) == pytest.approx([0.997, 0.003], abs=0.001)


def test_a_probability_has_importances_and_a_part_that_all_scores_share_has_none():
    kan = kanserve.from_formula({"no": "u", "yes": "u + 3*v"}, inputs=["u", "v"], ranges={"u": (-9, 9), "v": (-1, 1)})
    classifier = Kan(kan.layers, kan.inputs, kan.outputs, classes=("no", "yes"))
    x = np.random.default_rng(0).uniform([-9, -1], [9, 1], (300, 2))
    assert input_importances(classifier, x) == pytest.approx([0, 1], abs=1e-9)


def test_a_weight_is_the_same_as_repetitions():
    x = np.random.default_rng(0).normal(size=(50, 2))
    weights = np.random.default_rng(1).integers(0, 4, 50)
    kan = kanserve.from_formula("x*y + x", inputs=["x", "y"], ranges={"x": (-1, 1), "y": (-1, 1)})
    repeated = input_importances(kan, np.repeat(x, weights, axis=0))
    assert input_importances(kan, x, weights) == pytest.approx(repeated, abs=0.02)  # of 4000 pairs
    assert input_importances(kan, x) != pytest.approx(repeated, abs=0.02)


def test_a_column_without_spread_and_a_constant_network_have_no_importances():
    x = np.random.default_rng(0).normal(size=(50, 2))
    x[:, 1] = 0.1
    kan = kanserve.from_formula("x + y", inputs=["x", "y"], ranges={"x": (-1, 1), "y": (-1, 1)})
    assert input_importances(kan, x).tolist() == [1.0, 0.0]
    assert input_importances(kan, x[:1]).tolist() == [0.0, 0.0]
    assert input_importances(kan, np.tile(x[:1], (5, 1))).tolist() == [0.0, 0.0]


def test_several_outputs_count_equally_in_whatever_unit():
    kan = kanserve.from_formula(["x", "1e9*y"], inputs=["x", "y"], ranges={"x": (-1, 1), "y": (-1, 1)})
    x = np.random.default_rng(0).uniform(-1, 1, (100, 2))
    assert input_importances(kan, x) == pytest.approx([0.5, 0.5], abs=0.01)  # of 4000 pairs


def test_values_whose_squares_overflow_have_importances():
    kan = Kan((make_layer(functions=[["x", "x"]], affine=[[[1.0, 0.0, 3.0, 0.0], [1.0, 0.0, 1.0, 0.0]]]),))
    x = 1e300 * np.random.default_rng(0).uniform(-1, 1, (100, 2))
    assert input_importances(kan, x) == pytest.approx(input_importances(kan, x / 1e300))


def test_rows_on_which_nothing_is_finite_are_refused():
    with pytest.raises(DataError, match="not finite on any"):
        input_importances(domains(), [[np.nan], [-3.0]])


def test_a_large_network_is_evaluated_on_fewer_rows(monkeypatch):
    seen = []

    def counted(layer, v):
        seen.append(len(v) * layer.inputs * layer.subnodes)
        return edges(layer, v)

    monkeypatch.setattr("kanserve.network.importances.edges", counted)
    kan = create([60, 40, 30, 1])
    input_importances(kan, np.random.default_rng(0).uniform(-1, 1, (3000, 60)))
    assert sum(seen) < 1.2 * EDGE_VALUES + FEWEST_PAIRS * 60 * 40
