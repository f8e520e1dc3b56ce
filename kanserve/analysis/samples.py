"""The rows on which a network is analysed, with its values and derivatives."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.data.dataset import Dataset
from kanserve.errors import DataError, InputError
from kanserve.network.derivatives import derivatives
from kanserve.network.encoding import encode, without_encoding
from kanserve.network.evaluate import as_rows, evaluate
from kanserve.network.kan import Kan
from kanserve.network.training_range import finite_rows

Array = NDArray[np.float64]
Data = Dataset | ArrayLike | None

ROWS = 1000
RELEVANT = 1e-6  # share of the squared slopes below which an output does not depend on an input
JUMPS = 1e-4  # share of the variance above which it does, even if its slopes are 0


@dataclass(frozen=True, eq=False)
class Asked:
    """An output at rows x (N, I): its values y (N,) and its derivatives, scaled by the inputs' standard deviations."""

    kan: Kan
    q: int
    x: Array

    @cached_property
    def y(self) -> Array:
        values: Array = evaluate(self.kan, self.x)[:, self.q]
        return values

    @cached_property
    def spreads(self) -> Array:
        """The standard deviation of each input."""
        deviations: Array = self.x.std(axis=0)
        return deviations

    @cached_property
    def slopes(self) -> Array:
        """The scaled derivatives dy/dx_i (N, I)."""
        return np.asarray(derivatives(self.kan, self.x, 1)[:, self.q] * self.spreads)

    @cached_property
    def bends(self) -> Array:
        """The scaled second derivatives d²y/dx_i dx_j (N, I, I)."""
        return np.asarray(derivatives(self.kan, self.x, 2)[:, self.q] * self.spreads * self.spreads[:, None])

    @cached_property
    def shares(self) -> Array:
        """The share of each input (I,) in the squared slopes; all 0 for a constant."""
        energy = (self.slopes**2).mean(axis=0)
        return np.asarray(energy / total if (total := energy.sum()) > 0 else energy)

    @property
    def used(self) -> NDArray[np.bool_]:
        """Mask (I,) of the inputs that the output depends on."""
        return np.asarray(self.shares > RELEVANT)

    @cached_property
    def piecewise(self) -> NDArray[np.bool_]:
        """Mask (I,) of the inputs that change the output although its derivatives are 0, like y in abs(x)*sign(y)."""
        return np.array([not used and self._moves(i) for i, used in enumerate(self.used)], dtype=np.bool_)

    def _moves(self, i: int) -> bool:
        """Whether the output changes when the values of an input are permuted between rows."""
        x = self.x.copy()
        x[:, i] = np.random.default_rng(0).permutation(x[:, i])
        change = evaluate(self.kan, x)[:, self.q] - self.y
        change = change[np.isfinite(change)]
        return bool(len(change)) and bool((change**2).mean() / 2 > JUMPS * self.y.var())


def ask(kan: Kan, data: Data, output: int | str = 0) -> Asked:
    """The output at the rows of the data, or at 1000 random rows of the training range, where its derivatives are
    finite. Raises InputError for an unknown output, DataError if fewer than 10 rows are left."""
    q = output_of(kan, output)
    x = encode(kan, rows_of(kan, data))
    kan = without_encoding(kan)  # a category has a slope only by its number
    fine = np.isfinite(derivatives(kan, x, 2)[:, q]).all(axis=(1, 2)) & np.isfinite(derivatives(kan, x, 1)[:, q]).all(
        axis=1
    )
    if fine.sum() < 10:
        raise DataError(f"Ten rows are needed on which the network and its derivatives are finite, got {fine.sum()}.")
    return Asked(kan, q, x[fine])


def rows_of(kan: Kan, data: Data, count: int = ROWS) -> Array:
    """The rows (N, inputs) of the data, or `count` rows of the training range, on which the network is finite. Raises
    DataError for rows of another width."""
    if data is None:
        return finite_rows(kan, count)
    given = data.x if isinstance(data, Dataset) else data
    if isinstance(given, np.ndarray) and given.ndim == 2 and given.shape[1] != len(kan.inputs):
        names = ", ".join(names_of(kan))
        raise DataError(f"Rows have the width of the inputs, {len(kan.inputs)}: {names}; got {given.shape[1]}.")
    x = as_rows(kan, given)
    return x[np.isfinite(evaluate(kan, x)).all(axis=1)]


def output_of(kan: Kan, output: int | str) -> int:
    """The index of an output, given by name or index."""
    names = [output.name for output in kan.outputs]
    if isinstance(output, str) and output in names:
        return names.index(output)
    if isinstance(output, str) or not 0 <= output < len(names):
        raise InputError(f"The network has the outputs {', '.join(names)} (0 to {len(names) - 1}), got {output!r}.")
    return output


def check_tolerance(tolerance: Any) -> float:
    """Return the tolerance. Raises InputError unless it is a number between 0 and 1."""
    if not isinstance(tolerance, int | float | np.number) or not 0 < tolerance < 1:
        raise InputError(f"A tolerance is a number between 0 and 1, got {tolerance!r}.")
    return float(tolerance)


def names_of(kan: Kan) -> tuple[str, ...]:
    return tuple(variable.name for variable in kan.inputs)
