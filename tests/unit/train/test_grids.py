"""Grids follow the data and keep the function; affines take raw features in and give raw answers out."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.errors import DataError, NetworkError
from kanserve.network.evaluate import activations, evaluate
from kanserve.network.kan import Kan, make_layer
from kanserve.network.splines import extend_knots, span
from kanserve.network.training_range import finite_rows
from kanserve.train import create, grids
from kanserve.train.grids import regrid, set_ranges
from kanserve.train.normalising import normalise, without_edges
from tests.support.networks.kans import ZOO, deep, mixed, multiplication, pruned, raw_features, uneven_knots

Array = NDArray[np.float64]

SMOOTH = sorted(set(ZOO) - {"outside_zero", "wide", "orders", "on_a_knot", "uneven_knots", "uneven_zero"})


def _spans(kan: Kan, index: int) -> Array:
    one = kan.layers[index]
    return np.array([span(row, one.order) for row in one.knots])


@pytest.mark.slow
@pytest.mark.parametrize("name", SMOOTH)
def test_a_grid_twice_as_fine_holds_the_same_function(name: str) -> None:
    kan = ZOO[name]()
    x = finite_rows(kan, 100)
    wanted = evaluate(kan, x)
    for factor in (2, 3):
        layers = [regrid(Kan((layer,)), None, factor * layer.intervals).layers[0] for layer in kan.layers]
        finer = replace(kan, layers=tuple(layers))
        assert finer.layers[0].intervals == factor * kan.layers[0].intervals
        np.testing.assert_allclose(evaluate(finer, x), wanted, rtol=1e-12, atol=1e-12 * np.abs(wanted).max())


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("factor", [2, 3, 10])
def test_a_refined_spline_is_the_same_on_its_whole_range_and_outside(order: int, factor: int) -> None:
    generator = np.random.default_rng(order)
    knots = extend_knots(np.sort(generator.uniform(-1, 1, 8)), order)
    kan = Kan((make_layer(generator.normal(size=(2, 1, 7 + order)), knots=knots, order=order),))
    finer = regrid(kan, None, 7 * factor)
    low, high = span(knots, order)
    x = np.concatenate([np.linspace(low - 1, high + 1, 1000), knots])[:, None]
    assert set(knots[order:-order]) <= set(finer.layers[0].knots[0])
    wanted = evaluate(kan, x)
    assert np.abs(evaluate(finer, x) - wanted).max() <= 1e-12 * np.abs(wanted).max()


def test_a_finer_grid_without_the_old_knots_is_as_close_as_it_can_be() -> None:
    x = np.linspace(-1, 1, 500)[:, None]
    kan = Kan((make_layer(np.random.default_rng(0).normal(size=(1, 1, 8))),))
    errors = [np.abs(evaluate(regrid(kan, None, g), x) - evaluate(kan, x)).max() for g in (7, 14, 49, 98)]
    assert errors[0] < 0.2 and all(after < before / 2 for before, after in pairwise(errors))


def test_a_cubic_is_the_same_on_every_grid() -> None:
    grid = create([1, 1], grid=4, base="zero").layers[0]
    greville = np.convolve(grid.knots[0][1:-1], np.full(3, 1 / 3), mode="valid")
    kan = Kan((replace(grid, coefficients=greville[None, None] * 2 - 1),))
    x = np.linspace(-2, 2, 100)[:, None]
    for intervals in (1, 3, 5, 50):
        np.testing.assert_allclose(evaluate(regrid(kan, None, intervals), x), 2 * x - 1, atol=1e-12)
        np.testing.assert_allclose(evaluate(regrid(kan, 3 * x, intervals), x), 2 * x - 1, atol=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_no_data_make_a_grid_fail(seed: int) -> None:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(int(generator.integers(1, 6)), 3))  # fewer rows than knots
    x[:, 0] = [3.0, 1e300, -1e-300, 0.0][seed % 4]  # a constant
    x[:, 1] = x[:, 2]  # twice the same
    x = np.repeat(x, 2, axis=0)
    kan = regrid(set_ranges(deep(), x), x, 30)
    assert all(np.isfinite(layer.coefficients).all() and np.isfinite(layer.knots).all() for layer in kan.layers)
    assert np.isfinite(evaluate(set_ranges(kan, x), x[:, :])).all()


def test_ranges_are_what_the_data_make_of_each_input() -> None:
    kan = deep()
    x = np.random.default_rng(0).uniform(-0.6, 0.9, (200, 3))
    moved = set_ranges(kan, x)
    np.testing.assert_allclose(_spans(moved, 0), np.stack([x.min(axis=0), x.max(axis=0)], axis=1), atol=1e-12)
    values = activations(moved, x)
    for index in range(1, 6):
        spans = _spans(moved, index)
        low, high = values[index].min(axis=0), values[index].max(axis=0)
        assert (spans[:, 0] < low).all() and (high < spans[:, 1]).all()
        assert (high - low > 0.9 * (spans[:, 1] - spans[:, 0])).all()


def test_new_ranges_keep_the_function_as_well_as_the_grid_can() -> None:
    kan = multiplication()
    x = finite_rows(kan, 300)
    wanted = evaluate(kan, x)
    errors = [float((evaluate(regrid(kan, x, g), x) - wanted).std() / wanted.std()) for g in (5, 20, 80)]
    assert errors[0] < 0.1
    assert errors[2] < errors[1] / 4 < errors[0] / 16


def test_ranges_that_are_right_already_change_nothing() -> None:
    kan = set_ranges(mixed(), finite_rows(mixed(), 100))
    again = set_ranges(kan, finite_rows(mixed(), 100))
    assert again.layers[0] is kan.layers[0]


def test_an_uneven_grid_stays_uneven() -> None:
    kan = uneven_knots()
    x = 3 * finite_rows(kan, 100) + 1
    moved = set_ranges(kan, x)
    for i in range(3):
        before, after = (np.diff(network.layers[0].knots[i][3:-3]) for network in (kan, moved))
        np.testing.assert_allclose(after / after.sum(), before / before.sum(), atol=1e-12)


def test_pruned_edges_stay_pruned() -> None:
    kan = pruned()
    finer = regrid(kan, finite_rows(kan, 50), 11)
    for before, after in zip(kan.layers, finer.layers, strict=True):
        np.testing.assert_array_equal(after.alive, before.alive)


def test_a_constant_input_gets_a_range_with_a_width() -> None:
    x = np.column_stack([np.full(20, 3.0), np.linspace(0, 1, 20)])
    moved = set_ranges(create([2, 1]), x)
    np.testing.assert_allclose(_spans(moved, 0), [[2, 4], [0, 1]])


def test_rows_without_an_answer_do_not_count() -> None:
    kan = Kan((make_layer(functions=[["log"]]), create([1, 1]).layers[0]))
    moved = set_ranges(kan, np.array([[-1.0], [1.0], [np.e]]))
    np.testing.assert_allclose(_spans(moved, 1), [[-0.02, 1.02]])
    with pytest.raises(DataError, match="at least one row"):
        set_ranges(kan, np.array([[-1.0]]))


def test_a_grid_needs_an_interval() -> None:
    with pytest.raises(NetworkError, match="at least one interval, got 0"):
        regrid(mixed(), None, 0)


def test_normalised_inputs_fill_the_grid_and_answers_have_spread_1() -> None:
    generator = np.random.default_rng(4)
    data = Dataset(generator.uniform([1e6, -1e-6], [3e6, 1e-6], (50, 2)), generator.normal(7, 1e-3, 50), ("p", "q"))
    kan = normalise(create([2, 1]), data)
    u = (data.x - kan.input_shift) / kan.input_scale
    np.testing.assert_allclose([u.min(axis=0), u.max(axis=0)], [[-1, -1], [1, 1]])
    z = (data.y - kan.output_shift) / kan.output_scale
    assert z.mean() == pytest.approx(0, abs=1e-9) and z.std() == pytest.approx(1)
    assert [variable.name for variable in kan.inputs] == ["p", "q"]
    assert (kan.inputs[0].low, kan.inputs[0].high) == (data.x[:, 0].min(), data.x[:, 0].max())


def test_units_stay_with_the_names_they_belong_to() -> None:
    template = raw_features()
    generator = np.random.default_rng(5)
    data = Dataset(
        generator.normal(size=(9, 2)), generator.normal(size=(9, 2)), ("pressure", "speed"), ("cost", "size")
    )
    kan = normalise(template, data)
    assert [variable.unit for variable in kan.inputs] == ["Pa", ""]
    assert [output.unit for output in kan.outputs] == ["EUR", ""]


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_normalisation_neither_overflows_nor_divides_by_zero(size: float) -> None:
    x = np.array([[-1.0, 5.0], [0.5, 5.0], [1.0, 5.0]]) * size
    kan = normalise(create([2, 2]), Dataset(x, np.stack([x[:, 0], np.full(3, size)], axis=1)))
    np.testing.assert_array_equal(kan.input_scale[1], 1.0)
    assert kan.output_scale[0] == pytest.approx(size * np.std([-1, 0.5, 1]))
    np.testing.assert_array_equal(evaluate(kan, x)[:, 1], size)


def test_an_output_without_edges_is_its_shift() -> None:
    kan = without_edges(raw_features(), np.array([False, True]))
    x = finite_rows(kan, 10)
    np.testing.assert_array_equal(evaluate(kan, x)[:, 0], evaluate(raw_features(), x)[:, 0])
    np.testing.assert_array_equal(evaluate(kan, x)[:, 1], -4.0e4)


def test_data_of_another_shape_are_refused() -> None:
    with pytest.raises(DataError, match="2 inputs to 1 outputs cannot learn data with 3 and 1"):
        normalise(create([2, 1]), Dataset(np.zeros((4, 3)), np.zeros(4)))


def test_many_rows_are_taken_in_parts_with_the_same_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (100, 2))
    kan = create([2, 3, 1], seed=0)
    whole = regrid(kan, x, 5)
    monkeypatch.setattr(grids, "AT_ONCE", 7)
    np.testing.assert_allclose(regrid(kan, x, 5).layers[1].knots, whole.layers[1].knots, rtol=1e-12)
