"""The bins of the training rows: how many rows they hold, where their edges are, and that networks keep them."""

from dataclasses import replace

import numpy as np
import pytest

import kanserve
from kanserve.errors import FormatError, NetworkError
from kanserve.network import serialization
from kanserve.network.kan import Variable
from kanserve.network.training_bins import (
    MOST_BINNED_ROWS,
    bin_edges,
    count_in_bins,
    draw_typical_rows,
    with_training_bins,
)

ROWS = np.random.default_rng(0).normal(size=(2000, 2))


@pytest.mark.parametrize(
    ("values", "edges", "counts"),
    [
        ([0] * 95 + [1, 2, 3, 4, 5], (0.5,), [95, 5, 0]),
        ([0] * 30 + [1] * 70, (0.5,), [30, 70, 0]),
        ([0, 1, 2, 3, 4] * 3, (0.5, 1.5, 2.5, 3.5), [3, 3, 3, 3, 3, 0]),
        ([np.nan] * 3 + [1, 2], (1.5,), [1, 1, 3]),
        ([7] * 10, (), [10, 0]),
        ([np.nan] * 4, (), [0, 4]),
    ],
)
def test_equal_values_are_in_one_bin_and_no_bin_is_empty(values, edges, counts):
    column = np.array(values, np.float64)
    found = bin_edges(np.sort(column[np.isfinite(column)]))
    assert found == edges and count_in_bins(found, column).tolist() == counts


def test_a_fit_knows_ten_bins_with_as_many_rows_each():
    kan = kanserve.fit([2, 1], (ROWS, ROWS[:, 0] ** 2 + ROWS[:, 1]), starts=1)
    assert [variable.bin_counts for variable in kan.inputs] == [(200,) * 10 + (0,)] * 2
    assert kan.inputs[0].bin_edges == pytest.approx(np.quantile(ROWS[:, 0], np.arange(1, 10) / 10), abs=0.02)
    simple = kanserve.simplify(kan, (ROWS, ROWS[:, 0] ** 2 + ROWS[:, 1]))
    assert [variable.bin_counts for variable in simple.inputs] == [variable.bin_counts for variable in kan.inputs]


def test_compile_gives_bins_to_inputs_without_them():
    kan = kanserve.from_formula("x + y", ranges={"x": (-4, 4), "y": (-4, 4)})
    half = replace(kan, inputs=(with_training_bins(kan, ROWS[:100]).inputs[0], kan.inputs[1]))
    compiled = kanserve.compile(half, ["numpy_source"], data=(ROWS, ROWS.sum(axis=1))).kan()
    assert [sum(variable.bin_counts) for variable in compiled.inputs] == [100, 2000]


def test_a_long_table_is_counted_in_part():
    kan = with_training_bins(kanserve.create([1, 1]), np.arange(3.0 * MOST_BINNED_ROWS)[:, None])
    assert sum(kan.inputs[0].bin_counts) == MOST_BINNED_ROWS


def test_bins_are_no_part_of_what_a_network_computes_and_travel_with_its_file():
    kan = kanserve.create([2, 1])
    binned = with_training_bins(kan, ROWS)
    assert kanserve.equal(kan, binned) and repr(kan.inputs) == repr(binned.inputs)
    again = serialization.loads(serialization.dumps(binned))
    assert [(v.bin_edges, v.bin_counts) for v in again.inputs] == [(v.bin_edges, v.bin_counts) for v in binned.inputs]
    assert serialization.dumps(again) == serialization.dumps(binned) != serialization.dumps(kan)


@pytest.mark.parametrize(
    ("edges", "counts"),
    [((1.0, 1.0), (1, 2, 3, 4)), ((np.inf,), (1, 2, 3)), ((1.0,), (1, 2)), ((), (-1, 0)), (range(10), (1,) * 12)],
)
def test_bins_that_do_not_fit_together_are_refused(edges, counts):
    kan = kanserve.create([1, 1])
    with pytest.raises(NetworkError, match="bin_"):
        replace(kan, inputs=(Variable("x", bin_edges=edges, bin_counts=counts),))
    with pytest.raises(NetworkError, match="only inputs"):
        replace(kan, outputs=(Variable("y", bin_counts=(1, 0)),))


def test_a_file_with_bins_of_another_type_is_refused():
    entry = serialization.variable_out(Variable("x"))
    for wrong in ({"bin_edges": "ab"}, {"bin_edges": [None]}, {"bin_counts": [0.5]}, {"bin_counts": 3}):
        with pytest.raises(FormatError, match="must be a list"):
            serialization.variable_in(entry | wrong)


def test_typical_rows_are_spread_as_the_training_rows():
    random = np.random.default_rng(0)
    x = np.column_stack(
        [
            random.uniform(size=4000) ** 6,
            random.random(4000) < 0.1,
            random.choice([2, 4, 7], 4000, p=[0.6, 0.25, 0.15]),
            np.where(random.random(4000) < 0.3, np.nan, random.normal(size=4000)),
            random.normal(size=4000),
        ]
    )
    low, high = np.nanmin(x, axis=0), np.nanmax(x, axis=0)
    names = ("skewed", "rare", "few", "missing", "unknown")
    inputs = [kanserve.Variable(names[i], "", low[i], high[i], 0.0 if i == 3 else None) for i in range(5)]
    kan = replace(kanserve.from_formula("a+b+c+d+f"), inputs=tuple(inputs))
    binned = with_training_bins(kan, x)
    kan = replace(binned, inputs=(*binned.inputs[:4], inputs[4]))
    rows = draw_typical_rows(kan, 1000)
    assert abs(rows[:, 0].mean() - 1 / 7) < 0.03 and rows[:, 0].max() <= high[0]
    assert set(rows[:, 1]) == {0, 1} and abs(rows[:, 1].mean() - 0.1) < 0.03
    assert set(rows[:, 2]) == {2, 4, 7} and abs((rows[:, 2] == 7).mean() - 0.15) < 0.03
    assert abs(np.isnan(rows[:, 3]).mean() - 0.3) < 0.05
    assert abs(rows[:, 4].mean() - (low[4] + high[4]) / 2) < 0.3
