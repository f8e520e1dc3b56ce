"""Replace inputs of a network: several of them become one categorical input."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import InputError
from kanserve.network.evaluate import edges
from kanserve.network.kan import Kan, Layer, Variable
from kanserve.network.splines import design, uniform_knots
from kanserve.train.grids import with_interior_knots

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Merged:
    """An input of the new network, the old inputs that it replaces, and its shift and scale."""

    variable: Variable
    places: Sequence[int]
    shift: float = 0.0
    scale: float = 1.0
    sums: Array = field(default_factory=lambda: np.empty((0, 0)))
    """(K, O): of several inputs, the sums of their edges for each category, and last for what is missing."""

    @classmethod
    def categorical(
        cls, kan: Kan, name: str, categories: tuple[str, ...], places: list[int], values: Array
    ) -> "Merged":
        """A categorical input. `values` (K, places) are the old inputs' values for each category, the last row for
        missing."""
        count, missing = len(categories), len(values) > len(categories)
        if len(places) == 1:
            numbers = values[:, 0].tolist()
            fill = numbers[-1] if missing else None
            variable = Variable(name, "", 0.0, count - 1.0, fill, categories, tuple(numbers[:count]))
            return cls(variable, places, float(kan.input_shift[places[0]]), float(kan.input_scale[places[0]]))
        v = np.zeros((len(values), len(kan.inputs)))
        v[:, places] = (values - kan.input_shift[places]) / kan.input_scale[places]
        sums: Array = edges(kan.layers[0], v)[:, :, places].sum(axis=2)
        codes = tuple(map(float, range(count)))
        variable = Variable(name, "", 0.0, count - 1.0, float(count) if missing else None, categories, codes)
        return cls(variable, places, sums=sums)


def with_inputs(kan: Kan, inputs: Sequence[Merged]) -> Kan:
    """Replace all inputs of the network by these."""
    first = kan.layers[0]
    if any(len(merged.places) > 1 for merged in inputs) and first.extrapolation != "linear":
        raise InputError("Splines that fall to 0 outside their grid cannot take the place of a one-hot encoder.")
    intervals = max([first.intervals, *(len(merged.sums) - 1 for merged in inputs)])
    parts = [
        _own(first, merged.places[0], intervals) if not merged.sums.size else _through(first, merged.sums, intervals)
        for merged in inputs
    ]
    layer = replace(
        first,
        knots=np.concatenate([part.knots for part in parts]),
        coefficients=np.concatenate([part.coefficients for part in parts], axis=1),
        base_weight=np.concatenate([part.base_weight for part in parts], axis=1),
        functions=np.concatenate([part.functions for part in parts], axis=1),
        affine=np.concatenate([part.affine for part in parts], axis=1),
    )
    return replace(
        kan,
        layers=(layer, *kan.layers[1:]),
        inputs=tuple(merged.variable for merged in inputs),
        input_shift=np.array([merged.shift for merged in inputs]),
        input_scale=np.array([merged.scale for merged in inputs]),
    )


def _own(layer: Layer, i: int, intervals: int) -> Layer:
    """The edges of one input, on a grid of this many intervals that contains all of its knots."""
    part = replace(
        layer,
        knots=layer.knots[i : i + 1],
        coefficients=layer.coefficients[:, i : i + 1],
        base_weight=layer.base_weight[:, i : i + 1],
        functions=layer.functions[:, i : i + 1],
        affine=layer.affine[:, i : i + 1],
    )
    return with_interior_knots(part, [layer.knots[i][layer.order : -layer.order]], intervals)


def _through(layer: Layer, sums: Array, intervals: int) -> Layer:
    """Edges that have these values (K, O) at 0, 1, .., K - 1."""
    knots = uniform_knots(0.0, float(intervals), intervals, layer.order)
    matrix = design(np.arange(len(sums), dtype=np.float64), knots, layer.order, layer.extrapolation)
    coefficients = np.linalg.lstsq(matrix, sums, rcond=None)[0].T.astype(np.float64)
    count = len(coefficients)
    return replace(
        layer,
        knots=knots[None],
        coefficients=coefficients[:, None, :],
        base_weight=np.zeros((count, 1)),
        functions=np.full((count, 1), ""),
        affine=np.zeros((count, 1, 4)),
    )
