"""The random networks are what the tests of agreement rely on: everything a network can hold is among them."""

from functools import cache

import numpy as np
import pytest

from kanserve.network.evaluate import evaluate
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, equal
from kanserve.network.layer import Layer
from kanserve.network.rounding_error import rounding
from tests.support.networks.kans import ZOO
from tests.support.networks.kans import rows as zoo_rows
from tests.support.networks.random_networks import network, networks, portion, rows
from tests.support.row_agreement import TYPES, Truth, in_type


@cache
def kans() -> list[Kan]:
    return list(networks(200))


@cache
def layers() -> list[Layer]:
    return [layer for kan in kans() for layer in kan.layers]


@pytest.mark.extended
def test_equal_numbers_make_equal_networks():
    assert all(equal(kans()[number], network(number)) for number in (0, 7, 199))
    assert not equal(kans()[0], network(0, seed=1))


@pytest.mark.slow
@pytest.mark.extended
def test_the_portions_are_all_of_them():
    assert sorted(name for which in range(4) for name in portion(which)) == sorted(f"n{n}" for n in range(200))
    assert len(portion("zoo")) == len(ZOO)


@pytest.mark.extended
def test_every_kind_of_network_is_there_more_than_once():
    found = {
        "depth": {len(kan.layers) for kan in kans()} == {1, 2, 3, 4, 5},
        "wide": max(max(kan.shape) for kan in kans()) >= 60,
        "single": sum(max(kan.shape) == 1 for kan in kans()) > 1,
        "classes": sum(bool(kan.classes) for kan in kans()) > 9,
        "named": sum(kan.symbolic for kan in kans()) > 20,
        "ranges": sum(np.isfinite(variable.low) for kan in kans() for variable in kan.inputs) > 20,
        "affine": sum(bool((kan.input_scale < 0).any() and kan.output_shift.any()) for kan in kans()) > 20,
        "pruned input": sum(bool((~kan.layers[0].alive.any(axis=0)).any()) for kan in kans()) > 9,
        "pruned node": sum(bool((~layer.alive.any(axis=1)).any()) for layer in layers()) > 9,
        "both": sum(bool((layer.spline_mask & layer.symbolic_mask).any()) for layer in layers()) > 20,
        "large": sum(bool((np.abs(layer.subnode_scale * layer.node_scale.max()) > 1e5).any()) for layer in layers())
        > 3,
        "small": sum(bool((np.abs(layer.node_scale) < 1e-3).any()) for layer in layers()) > 3,
    }
    assert all(found.values()), found


def test_every_kind_of_layer_is_there_more_than_once():
    for order in range(1, 6):
        for outer in ("linear", "zero"):
            for base in ("silu", "identity", "zero"):
                alike = [o for o in layers() if (o.order, o.extrapolation, o.base) == (order, outer, base)]
                assert any(one.spline_mask.any() for one in alike), (order, outer, base)
    assert {size for layer in layers() for size in layer.arity.tolist()} == {1, 2, 3}
    assert {1, 2, 5} <= {layer.intervals for layer in layers()} and max(layer.intervals for layer in layers()) > 50
    steps = [np.diff(layer.knots[:, layer.order : -layer.order]) for layer in layers() if layer.spline_mask.any()]
    assert sum(bool((step == 0).any()) for step in steps) > 3
    assert sum(bool(np.ptp(step) > 0.1 * step.mean()) for step in steps) > 20
    clamped = [
        layer for layer in layers() if (layer.knots[:, 1] == layer.knots[:, layer.order]).any() and layer.order > 1
    ]
    assert {one.extrapolation for one in clamped} == {"linear", "zero"}
    used = [name for layer in layers() for name in layer.functions.ravel().tolist()]
    assert all(used.count(name) > 9 for name in FUNCTIONS)


def test_the_rows_try_the_grid_its_knots_and_what_is_no_number():
    on_knots = far = 0
    for kan in kans():
        x = rows(kan)
        assert 60 <= len(x) <= 100
        assert np.isnan(x).sum() == 1 and np.isinf(x).sum() >= 2
        v = (x - kan.input_shift) / kan.input_scale
        on_knots += sum(int(np.isin(v[:, i], kan.layers[0].knots[i]).sum()) for i in range(len(kan.inputs)))
        far += int((np.abs(v) > 1e20).any(axis=1).sum())
    assert on_knots > 2000 and far > 900


@pytest.mark.slow
@pytest.mark.extended
def test_most_rows_are_finite_and_rounding_leaves_most_of_their_digits():
    every = broken = loose = fine = 0
    for kan in kans():
        x = rows(kan)
        y, change = evaluate(kan, x), rounding(kan, x, "double")
        finite = np.isfinite(y).all(axis=1)
        every, fine = every + len(x), fine + int(finite.sum())
        broken += int((finite & ~np.isfinite(change).all(axis=1)).sum())
        with np.errstate(all="ignore"):
            loose += int((finite & (64 * change > 1e-6 * np.abs(y)).any(axis=1)).sum())
    assert every >= 10_000 and 0.7 < fine / every < 0.95
    assert broken < 0.003 * fine and loose < 0.03 * fine


@pytest.mark.slow
@pytest.mark.parametrize("precision", TYPES)
def test_the_verdict_sees_an_error_a_missing_nan_and_a_row_too_much(precision):
    kan = ZOO["deep"]()
    x = in_type(zoo_rows(kan), precision)
    truth = Truth(kan, x, precision)
    want = truth.want
    got = want.astype(TYPES[precision])
    assert not truth.wrong(got).any()
    size, bad = np.median(np.abs(want[:40])), int(np.flatnonzero(np.isnan(want[:, 0]))[0])
    for row, value in ((3, want[3, 0] + (1e-9 if precision == "double" else 1e-3) * size), (5, np.nan), (bad, 1.0)):
        spoiled = got.copy()
        spoiled[row, 0] = value
        assert np.flatnonzero(truth.wrong(spoiled)).tolist() == [row]
    infinite = got.copy()
    infinite[4, 0] = np.inf
    assert truth.wrong(infinite)[4]
