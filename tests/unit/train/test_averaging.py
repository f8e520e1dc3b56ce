"""The mean of networks is a network that computes their mean, everywhere."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import kanserve
from kanserve.errors import NetworkError
from kanserve.network import serialization
from kanserve.network.fitted_rows import record_rows
from kanserve.network.kan import Kan
from kanserve.network.layer import make_layer
from kanserve.train.averaging import members_of_mean
from kanserve.train.grids import regrid

# Five steps on 80 rows are no good fit, and it says so.
pytestmark = pytest.mark.filterwarnings("ignore::kanserve.train.TrainingWarning")


def fits(shape: list[int | tuple[int, int]], *, count: int = 3, positive: bool = False, **options: Any) -> list[Kan]:
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (80, 3))
    y = np.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2] + generator.normal(0, 0.1, 80)
    data = x, np.exp(y) if positive else y
    return [kanserve.fit(shape, data, seed=n, starts=1, steps=5, grid=(3, 5)[: n + 1], **options) for n in range(count)]


def rows() -> np.ndarray:
    """Within the training range, far outside, on the knots, missing and infinite."""
    generator = np.random.default_rng(1)
    special = [[np.nan, 0, 0], [0, np.inf, 0], [0, 0, -np.inf], [0, 0, 0], [1, -1, 1]]
    return np.concatenate([generator.uniform(-1, 1, (50, 3)), generator.normal(0, 9, (30, 3)), special])


@pytest.mark.parametrize("shape", [[3, 1], [3, 2, 1], [3, 2, 2, 1], [3, (1, 1), 1]], ids=str)
@pytest.mark.parametrize("extrapolation", ["linear", "clip"])
def test_the_outputs_are_the_means(shape, extrapolation):
    every = fits(shape, extrapolation=extrapolation)
    wanted = np.mean([kan(rows()) for kan in every], axis=0)
    np.testing.assert_allclose(kanserve.average(every)(rows()), wanted, rtol=1e-10, atol=1e-12)


def test_a_fit_ends_on_the_range_of_all_rows_whatever_was_held_out():
    x = np.random.default_rng(0).uniform(-1, 1, (100, 2))
    for seed in range(3):  # the held-out rows of some have the least or the largest value of an input
        kan = kanserve.fit([2, 1], (x, np.sin(5 * x[:, 0]) + x[:, 1]), seed=seed, starts=1, steps=5, grid=(3, 5, 10))
        assert kan.layers[0].intervals > 3
        np.testing.assert_array_equal(kan.layers[0].knots[:, [3, -4]], [[-1, 1], [-1, 1]])


def test_networks_without_hidden_nodes_keep_their_shape():
    assert kanserve.average(fits([3, 1])).shape == (3, 1)
    assert kanserve.average(fits([3, 2, 2, 1])).shape == (3, 6, 6, 1)


def test_grids_that_differ_are_united():
    every = fits([3, 1])
    every[1:] = [regrid(kan, None, n) for kan, n in zip(every[1:], (5, 7), strict=True)]
    both = kanserve.average(every)
    wanted = {round(knot, 9) for kan in every for knot in kan.layers[0].knots[0][3:-3].tolist()}
    assert {round(knot, 9) for knot in both.layers[0].knots[0][3:-3].tolist()} == wanted
    np.testing.assert_allclose(both(rows()), np.mean([kan(rows()) for kan in every], axis=0), rtol=1e-10, atol=1e-12)


def test_with_a_log_link_the_logarithms_are_averaged():
    every = fits([3, 1], positive=True, loss="poisson")
    x = rows()[:50]
    wanted = np.exp(np.mean([np.log(kan(x)) for kan in every], axis=0))
    np.testing.assert_allclose(kanserve.average(every)(x), wanted, rtol=1e-10)


def test_pruned_edges_stay_pruned_and_named_ones_named():
    every = fits([3, 2, 1], count=2)
    alive = np.array([[True, True, False], [False, True, True]])
    layers = [
        replace(
            kan.layers[0],
            coefficients=np.where(alive[:, :, None], kan.layers[0].coefficients, 0.0),
            base_weight=np.where(alive, kan.layers[0].base_weight, 0.0),
            functions=np.array([["", "", "sin"], ["", "", ""]]),
        )
        for kan in every
    ]
    every = [replace(kan, layers=(layer, *kan.layers[1:])) for kan, layer in zip(every, layers, strict=True)]
    both = kanserve.average(every)
    assert both.layers[0].functions.tolist() == [["", "", "sin"], ["", "", ""]] * 2
    assert both.edges == sum(kan.edges for kan in every)
    np.testing.assert_allclose(both(rows()), np.mean([kan(rows()) for kan in every], axis=0), rtol=1e-10, atol=1e-12)


def test_equal_named_functions_on_one_edge_are_added():
    one, other = (
        Kan((make_layer(functions=[["sin", "x^2"]], affine=np.array([[[2, 1, scale, 0.5], [1, 0, 3, 0]]])),))
        for scale in (1, 4)
    )
    both = kanserve.average([one, other])
    assert both.layers[0].functions.tolist() == [["sin", "x^2"]]
    x = rows()[:, :2]
    np.testing.assert_allclose(both(x), (one(x) + other(x)) / 2, rtol=1e-12)


def test_training_ranges_span_those_of_all():
    one, other = fits([3, 1], count=2)
    wider = replace(other, inputs=(replace(other.inputs[0], low=-7.0), *other.inputs[1:]))
    assert kanserve.average([one, wider]).inputs[0].low == -7.0


def test_one_network_is_its_own_mean():
    (kan,) = fits([3, 1], count=1)
    assert kanserve.average([kan]) is kan


def test_what_cannot_be_averaged_is_refused():
    one, other = fits([3, 1], count=2)
    with pytest.raises(NetworkError, match="at least one network"):
        kanserve.average([])
    with pytest.raises(NetworkError, match="equal depth"):
        kanserve.average([one, *fits([3, 2, 1], count=1)])
    with pytest.raises(NetworkError, match="equal depth"):
        kanserve.average([one, replace(other, input_shift=other.input_shift + 1)])
    with pytest.raises(NetworkError, match="equal depth"):
        kanserve.average([one, replace(other, inputs=(replace(other.inputs[0], name="z"), *other.inputs[1:]))])
    with pytest.raises(NetworkError, match="clip"):
        kanserve.average([one, *fits([3, 1], count=1, extrapolation="clip")])
    with pytest.raises(NetworkError, match="products"):
        kanserve.average([kanserve.create([2, (0, 1)], seed=n) for n in range(2)])
    with pytest.raises(NetworkError, match="different named functions"):
        kanserve.average([Kan((make_layer(functions=[[name]]),)) for name in ("sin", "exp")])
    shifted = replace(other.layers[0], knots=other.layers[0].knots * 2)
    with pytest.raises(NetworkError, match="different ranges"):
        kanserve.average([one, replace(other, layers=(shifted,))])


def test_a_mean_keeps_its_members_in_its_file_until_it_is_changed():
    every = fits([3, 1])
    mean = kanserve.average(every)
    stored = serialization.loads(serialization.dumps(mean))
    assert len(stored.members) == 3 and all(map(kanserve.equal, stored.members, every))
    assert len(members_of_mean(stored, rows()[:50])) == 3
    assert members_of_mean(every[0], rows()[:50]) == ()
    changed = replace(stored, output_scale=2 * stored.output_scale)
    assert members_of_mean(changed, rows()[:50]) == ()
    assert members_of_mean(replace(stored, members=(every[0], fits([3, 2, 1])[0])), rows()[:50]) == ()
    assert record_rows(stored, stored.fitted_rows).members == () and kanserve.equal(mean, replace(mean, members=()))
