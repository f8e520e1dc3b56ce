"""Preprocess rows for a search: distinct columns, scaled so that squares and cubes neither overflow nor vanish."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.search.fit.training import SearchSamples
from kanserve.search.structure.screening import independent_columns, influential
from kanserve.search.trees import compose
from kanserve.search.trees.nodes import Curve, Node, map_curves

Array = NDArray[np.float64]

LARGEST_SCALE = 1e4  # largest root mean square of a column, and 1 over it the smallest: beyond, the column is scaled


@dataclass(frozen=True, eq=False)
class Prepared:
    """x (N, inputs) and y (N,), scaled exactly by powers of two, and the informative columns. `every` leaves out
    constant and dependent columns; `columns` are those of them that the outputs depend on, by a screening."""

    x: Array
    y: Array
    columns: tuple[int, ...]
    every: tuple[int, ...]
    scales: tuple[float, ...]
    scale: float
    more: Dataset | None = None
    """Further samples, in the user's units."""
    weights: Array | None = None

    def more_in(self, columns: tuple[int, ...]) -> SearchSamples | None:
        """The further samples, restricted to these columns and scaled."""
        if self.more is None:
            return None
        x, y = self.more.x[:, columns] / np.array(self.scales)[list(columns)], self.more.y[:, 0] / self.scale
        return SearchSamples(x, y, x[:0], y[:0], self.more.weights)

    @property
    def given(self) -> tuple[Array, Array]:
        """x and y in the user's units."""
        return self.x * np.array(self.scales), self.y * self.scale

    def raw(self, node: Node, columns: tuple[int, ...]) -> Node:
        """Convert a tree over these columns of the scaled `x` to one over the user's inputs, in the user's units."""

        def change(curve: Curve) -> Curve:
            if not isinstance(curve.of, int):
                return curve
            column = columns[curve.of]
            assert curve.symbolic is not None
            symbolic = replace(curve.symbolic, a=curve.symbolic.a / self.scales[column])
            return replace(curve, of=column, symbolic=symbolic)

        return compose.scale(map_curves(node, change), self.scale)


def prepare(rows: Dataset, more: Dataset | None = None) -> Prepared:
    x, y = rows.x, rows.y[:, 0]
    scales = tuple(_unit(column) for column in x.T)
    scale = _unit(y)
    small = x / np.array(scales)
    every = independent_columns(small)
    chosen = influential(small[:, every], y / scale) if every else ()
    return Prepared(small, y / scale, tuple(every[k] for k in chosen), every, scales, scale, more, rows.weights)


def _unit(values: Array) -> float:
    largest = float(np.abs(values).max())
    if largest == 0:
        return 1.0
    size = largest * float(np.sqrt(np.mean((values / largest) ** 2)))
    return 1.0 if 1 / LARGEST_SCALE <= size <= LARGEST_SCALE else float(2.0 ** np.round(np.log2(size)))
