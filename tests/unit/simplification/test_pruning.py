"""Pruning: what may go is what new rows would not miss."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_wine

from kanserve.data.dataset import Dataset
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import equal
from kanserve.simplification import SimplifyStep, prune
from kanserve.simplification.merge_nodes import propose_merges
from kanserve.simplification.validation import judge_of, loo_factor
from kanserve.train import fit, refine, score

Array = NDArray[np.float64]


@pytest.mark.slow
@pytest.mark.extended
def test_a_classifier_of_few_rows_is_as_good_on_new_ones_with_fewer_edges() -> None:
    pytest.importorskip("torch")
    wine = load_wine()
    data = Dataset(wine.data, np.eye(3)[wine.target], classes=tuple(wine.target_names.tolist()))
    learn, new = data.split(0.4, seed=0)
    whole = fit([13, 3], learn, grid=(3,))
    pruned = prune(whole, learn)
    before, after = score(whole, new), score(pruned, new)
    assert before.accuracy is not None and after.accuracy is not None
    assert pruned.edges < whole.edges
    # One of the 71 new rows more or less is chance.
    assert after.accuracy >= before.accuracy - 0.02 and after.loss <= before.loss + 0.03


def test_a_row_left_out_errs_as_its_leverage_says() -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (40, 1))
    data = Dataset(x, np.sin(3 * x[:, 0]) + 0.1 * rng.normal(size=40))
    kan = fit([1, 1], data, grid=(3,), smooth=0.0, validation=0.0)
    kan = refine(kan, data.x, data.y, ridge=1e-6, patience=40)
    told = (evaluate(kan, x) - data.y) * loo_factor(kan, data, data.y, smooth=0.0, ridge=1e-6)
    for row in range(0, 40, 8):
        rest = data.take(np.delete(np.arange(40), row))
        without = refine(kan, rest.x, rest.y, ridge=1e-6, patience=40)
        left_out = (evaluate(without, x[row : row + 1]) - data.y[row])[0, 0]
        assert told[row, 0] == pytest.approx(left_out, rel=0.02, abs=1e-3)


def test_what_was_removed_is_listed_and_can_be_undone() -> None:
    x = np.random.default_rng(2).uniform(-1, 1, (400, 3))
    data, steps = Dataset(x, np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2)), list[SimplifyStep]()
    pruned = prune(fit([3, 4, 1], data, grid=(3, 5), starts=2, noise_free=True), data, progress=steps.append)
    assert pruned.shape == (3, 1, 1) and pruned.edges == 3
    assert steps[0].stage == "before pruning" and steps[0].kan.edges == 16
    assert all(step.stage.startswith(("removed ", "merged ", "put back ")) for step in steps[1:])
    assert any("input x3" in step.stage or "from x3" in step.stage for step in steps)
    back = prune(steps[-2].kan, data)
    assert back.edges == pruned.edges and not equal(steps[-2].kan, pruned)


def test_a_looser_tolerance_leaves_fewer_edges() -> None:
    x = np.random.default_rng(3).uniform(-1, 1, (300, 2))
    data = Dataset(x, np.sin(3 * x[:, 0]) + 0.03 * np.cos(4 * x[:, 1]))
    kan = fit([2, 1], data, grid=(5,), noise_free=True)
    assert prune(kan, data, tolerance=0.1).edges == 1 and prune(kan, data, tolerance=1e-3).edges == 2
    assert prune(kan, data).edges == 2


def test_two_nodes_that_share_a_pair_of_inputs_can_be_merged() -> None:
    x = np.random.default_rng(4).uniform(-1, 1, (300, 2))
    data = Dataset(x, np.sin(2 * (x[:, 0] + x[:, 1])))
    kan = fit([2, 2, 1], data, grid=(3,), starts=2, noise_free=True)
    one = judge_of(kan, data, "auto", seed=0)
    found = list(propose_merges(kan, one, seed=0))
    assert found and all(network.shape == (2, 1, 1) for network in found)
    assert list(propose_merges(fit([2, 1, 1], data, grid=(3,), starts=1), one, seed=0)) == []
