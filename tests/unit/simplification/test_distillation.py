"""A mean of networks is replaced by one narrow network that learns its outputs, where that predicts as well."""

import numpy as np
import pytest

import kanserve
from kanserve.network.evaluate import evaluate
from kanserve.simplification import distillation
from kanserve.simplification.distillation import distil
from kanserve.train.outer_layers import arcsinh_scales, with_arcsinh_inputs

X = np.random.default_rng(0).uniform(-1, 1, (300, 3))
LAWS = {"sum": lambda x: x[:, 0] ** 2 + np.sin(2 * x[:, 1]), "product": lambda x: x[:, 0] * x[:, 1]}


def rows_of(law, classes=None, x=X, seed=1):
    """Rows of a law: numbers with little noise, or classes with much."""
    y = LAWS[law](x) + (0.5 if classes else 0.05) * np.random.default_rng(seed).normal(size=len(x))
    return kanserve.Dataset(x, np.where(y > 0.3, "yes", "no") if classes else y)


def mean_of(law, classes=None, scales=()):
    """The mean of three networks of five nodes, and its rows."""
    rows = rows_of(law, classes)
    begin = kanserve.create([3, 5, rows.y.shape[1]])
    begin = with_arcsinh_inputs(begin, scales) if scales else begin
    return kanserve.average([kanserve.fit(begin, rows, starts=1, steps=20, seed=n) for n in range(3)]), rows


@pytest.mark.parametrize("scales", [(), (0.2, 0.0, 0.0)], ids=["as they are", "one logarithmic"])
@pytest.mark.parametrize("classes", [None, True], ids=["numbers", "classes"])
def test_a_mean_becomes_one_narrow_network(classes, scales):
    kan, rows = mean_of("sum", classes, scales)
    narrow = distil(kan, rows, "auto", 0)
    assert kan.shape[-2] == 15
    assert narrow.shape[-2] <= (5 if classes else 3)
    assert bool(arcsinh_scales(narrow)) == bool(scales)
    assert (narrow.classes, narrow.inputs, narrow.outputs) == (kan.classes, kan.inputs, kan.outputs)
    # The mean has learnt its rows' noise, the narrow network less of it: only rows that neither has seen are fair.
    unseen = rows_of("sum", classes, np.random.default_rng(5).uniform(-1, 1, (4000, 3)), seed=7)
    assert kanserve.score(narrow, unseen).loss <= 1.05 * kanserve.score(kan, unseen).loss


def test_nodes_are_added_until_the_narrow_network_predicts_as_well():
    kan, rows = mean_of("product")
    narrow = distil(kan, rows, "auto", 0)
    assert narrow.shape == (3, 2, 1)
    assert np.std(evaluate(narrow, X)[:, 0] - LAWS["product"](X)) < 0.1 * LAWS["product"](X).std()


def test_a_mean_that_no_narrow_network_matches_stays(monkeypatch):
    kan, rows = mean_of("product")
    monkeypatch.setattr(distillation, "HIDDEN_NODES", ((),))
    assert distil(kan, rows, "auto", 0) is kan


def test_one_network_stays():
    kan = kanserve.fit([3, 1], (X, LAWS["sum"](X)), starts=1)
    assert distil(kan, kanserve.Dataset(X, LAWS["sum"](X)), "auto", 0) is kan


def test_simplify_names_the_few_edges_of_a_mean():
    kan, rows = mean_of("sum")
    simple = kanserve.simplify(kan, rows)
    assert simple.edges == 2
    assert kanserve.score(simple, rows).r2[0] > kanserve.score(kan, rows).r2[0] - 0.01
