"""A formula that a search found, with its errors."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.frames import DataFrame, is_frame, named_columns
from kanserve.errors import DataError
from kanserve.formula import evaluate_tree, formulas
from kanserve.formula.constants.constants import Constant, constants_of, known_constants
from kanserve.formula.constants.uncertainty import Uncertainty, uncertainty
from kanserve.formula.expressions.formula import Formula
from kanserve.network.evaluate import as_rows, evaluate
from kanserve.network.kan import Kan

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ScoredFormula:
    """One formula: its network, its complexity, its root mean square errors and whether it is exact.

    `error` is on the rows that it was fitted to, `data`. `validation` is on the held-out fifth of the rows, which were
    used neither to fit constants nor to choose shapes; the list of formulas is ordered by it. Both are in units of the
    output, on the rows where the formula is finite, whose share is `defined`.

    `refuted`: the residuals of all rows depend on the inputs, so the formula is not the law, and its constants have no
    standard errors.

    `parts`: with a template, the formula of each unknown function, such as {"f(a)": "2*a^2"}.

    `exact`: finite on all rows, with both errors at rounding level: up to 1e-9 of the output's standard deviation.
    """

    kan: Kan
    complexity: float
    error: float
    validation: float
    exact: bool
    data: Dataset
    defined: float = 1.0
    refuted: bool = False
    parts: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def formula(self) -> Formula:
        return formulas(self.kan, strict=False, named=True)[0]

    @cached_property
    def constants(self) -> tuple[Constant, ...]:
        """The constants of the formula with their standard errors: 0 for recognised ones, NaN if it is refuted."""
        found = constants_of(self.formula.tree, *self._rows)
        return tuple(replace(constant, standard_error=math.nan) for constant in found) if self.refuted else found

    @cached_property
    def uncertainty(self) -> Uncertainty:
        """The uncertainty of the constants; DataError if the rows do not suffice, as with no more than constants, or if
        they refute the formula."""
        if self.refuted:
            raise DataError("The residuals depend on the inputs: a formula that is refuted has no standard errors.")
        tree = self.formula.tree
        x, y, weights = self._rows
        return uncertainty(tree, x, y, known_constants(tree), weights)

    def predict(self, x: ArrayLike | DataFrame) -> Array:
        """The values (N,) of the formula at rows x (N, inputs), or at a table's rows, whose columns go by name.

        NaN where the formula is not finite. DataError for rows of another width and for a missing column.
        """
        return evaluate(self.kan, self._inputs_of(x))[:, 0]

    __call__ = predict

    def interval(self, x: ArrayLike | DataFrame, level: float = 0.95) -> tuple[Array, Array]:
        """Prediction interval (low, high), (N,) each: for a new measurement at rows x (N, inputs).

        DataError for rows of another width, and if the data do not suffice, as for `uncertainty`.
        """
        return self.uncertainty.interval(self._inputs_of(x), level)

    def _inputs_of(self, x: ArrayLike | DataFrame) -> Array:
        rows: Any = named_columns(x, [variable.name for variable in self.kan.inputs]) if is_frame(x) else x
        return as_rows(self.kan, rows)

    @cached_property
    def _rows(self) -> tuple[Array, Array, Array | None]:
        """The rows that the formula was fitted to, where it is finite, and their weights."""
        rows = self.data.take(np.flatnonzero(np.isfinite(evaluate_tree(self.formula.tree, {}, self.data.x))))
        return rows.x, rows.y[:, 0], rows.weights

    def __str__(self) -> str:
        notes = [f"complexity {self.complexity:g}", f"validation error {self.validation:.3g}"]
        notes += ["exact"] if self.exact else []
        notes += [f"{name} = {text}" for name, text in self.parts.items()]
        notes += ["refuted"] if self.refuted else []
        notes += [f"finite on {self.defined:.1%} of the rows"] if self.defined < 1 else []
        notes += [f"where {', '.join(self.formula.domain)}"] if self.formula.domain else []
        return f"{self.formula.text}   ({', '.join(notes)})"
