"""The rows outside a model's training range, and the features concerned. Usually none, which is checked fast."""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from kanserve.network.encoding import is_encoded, is_outside
from kanserve.network.kan import Variable
from kanserve.serve.models.catalog import Model
from kanserve.serve.rpc import tensors
from kanserve.serve.rpc.tensors import FLOATS

_FEW = 32  # numbers; comparing up to this many in a Python loop is faster than NumPy's overhead for four arrays


@dataclass(frozen=True, eq=False)
class RangeViolations:
    """The rows outside, in ascending order, and for each feature the number of rows outside; see `is_outside`."""

    rows: NDArray[np.intp]
    features: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Bounds:
    """The ends of each feature's training range, in the type of the rows that the model gets."""

    low: NDArray[Any]
    high: NDArray[Any]
    pairs: list[tuple[float, float]]
    encoded: tuple[tuple[int, Variable], ...] = ()  # the features with a fill value or categories

    def find_violations(self, x: NDArray[Any]) -> RangeViolations | None:
        """The violations by rows (N, inputs); None if all are inside."""
        if not self.encoded and x.size <= _FEW and _all_inside(x.tolist(), self.pairs):
            return None
        within = (x >= self.low) & (x <= self.high)
        for i, variable in self.encoded:
            within[:, i] = ~is_outside(variable, x[:, i], self.low[i], self.high[i])
        if within.all():
            return None
        return RangeViolations(np.flatnonzero(~within.all(axis=1)), len(x) - within.sum(axis=0))


_bounds: WeakKeyDictionary[Model, dict[str, Bounds]] = WeakKeyDictionary()


def bounds(model: Model, datatype: str) -> Bounds:
    """The bounds of a model's training range, for rows of a datatype."""
    by_type = _bounds.get(model)
    if by_type is None:
        by_type = _bounds.setdefault(model, {})
    known = by_type.get(datatype)
    if known is None:
        known = by_type[datatype] = _round(model, datatype)
    return known


def _all_inside(rows: list[list[float]], bounds: list[tuple[float, float]]) -> bool:
    for row in rows:
        for value, (low, high) in zip(row, bounds, strict=True):
            if not low <= value <= high:
                return False
    return True


def _round(model: Model, datatype: str) -> Bounds:
    """Round the bounds to the type of the rows, so that the smallest training value, rounded too, is not outside."""
    from kanserve.network.training_range import ranges  # imported at the first request

    low, high = (_in(end[None], datatype)[0] for end in ranges(model.kan).T)
    encoded = tuple((i, variable) for i, variable in enumerate(model.kan.inputs) if is_encoded(variable))
    return Bounds(low, high, list(zip(low.tolist(), high.tolist(), strict=True)), encoded)


def encodings(model: Model) -> bytes | None:
    """For the server in C: a byte per feature, 1 if it may be missing plus 2 if categorical; None if all are 0."""
    inputs = model.kan.inputs
    known = bytes((variable.fill_value is not None) + 2 * bool(variable.categories) for variable in inputs)
    return known if any(known) else None


def _in(values: NDArray[np.float64], datatype: str) -> NDArray[Any]:
    """Values as rows of that type reach the model. Those that overflow become infinite, so nothing is outside."""
    if datatype == "BF16":
        with np.errstate(all="ignore"):
            whole = tensors.to_float32(tensors.to_bfloat16(values.T).T)
            return np.where(np.isnan(whole), np.copysign(np.inf, values), whole).astype(np.float32)
    with np.errstate(over="ignore"):
        made = values.astype(FLOATS[datatype])
    return made if made.dtype.itemsize > 2 else tensors.to_float32(made)
