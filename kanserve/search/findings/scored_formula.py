"""A formula found by a search, with its errors."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.frames import DataFrame, as_table, is_frame, select_columns
from kanserve.data.row_weights import weight_rows
from kanserve.errors import DataError
from kanserve.formula import evaluate_tree, formulas
from kanserve.formula.constants.recognised_numbers import uncertainty_beside_recognised
from kanserve.formula.constants.recognition import Constant, constants_of
from kanserve.formula.constants.robust_fit import FitLoss, pseudo_values
from kanserve.formula.constants.uncertainty import Uncertainty
from kanserve.formula.expressions.formula import Formula
from kanserve.network.evaluate import as_rows, evaluate
from kanserve.network.kan import Kan

Array = NDArray[np.float64]

_STORED: dict[str, Callable[[Any], Any]] = {
    "complexity": float,
    "error": float,
    "validation": float,
    "exact": bool,
    "defined": float,
    "refuted": bool,
    "loss": str,
}


@dataclass(frozen=True, eq=False)
class ScoredFormula:
    """One formula: its network, its complexity, its root mean square errors and whether it is exact.

    Errors are in units of the output, on the rows where the formula is finite. In the end the constants are fitted to
    all rows.

    Parameters
    ----------
    kan : Kan
        The network that computes it.
    complexity : float
        Its operations, inputs and constants, counted.
    error : float
        The error on the rows that it was fitted to, `data`.
    validation : float
        The error on the held-out fifth of the rows of the same formula fitted to the others; the list of formulas is
        ordered by it.
    exact : bool
        Finite on all rows, with both errors at rounding level: up to 1e-9 of the output's standard deviation.
    data : Dataset
        The samples.
    defined : float
        The share of the rows where it is finite.
    refuted : bool
        The residuals of all rows depend on the inputs, so the formula is not the law, and its constants have no
        standard errors.
    parts : mapping of str to str
        With a template, the formula of each unknown function, such as {"f(a)": "2*a^2"}.
    loss : {"squared", "huber", "student_t"}
        What its constants minimise. For "huber" and "student_t" the standard errors are those of robust estimates, and
        prediction intervals follow the errors of the samples, whose tails may be heavy.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.random.default_rng(0).uniform(1, 2, (100, 2))
    >>> best = kanserve.find_formulas((x, 3 * x[:, 0] / x[:, 1]), max_fits=1000).best
    >>> best.formula.text, best.complexity, best.exact
    ('3*x1/x2', 5.0, True)
    >>> [(constant.text, constant.standard_error) for constant in best.constants]
    [('3', 0.0)]
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
    loss: FitLoss = "squared"

    @cached_property
    def formula(self) -> Formula:
        """The formula with its texts and its tree."""
        return formulas(self.kan, strict=False, named=True)[0]

    @cached_property
    def constants(self) -> tuple[Constant, ...]:
        """The constants with their standard errors. A recognised constant has the error of its estimate, 0 if the
        samples are exact; all errors are NaN if the formula is refuted."""
        found = constants_of(self.formula.tree, *self._rows)
        return tuple(replace(constant, standard_error=math.nan) for constant in found) if self.refuted else found

    @cached_property
    def uncertainty(self) -> Uncertainty:
        """The uncertainty of the constants.

        Raises
        ------
        DataError
            There are no more rows than constants, or the residuals refute the formula.

        Examples
        --------
        >>> import kanserve, numpy as np
        >>> generator = np.random.default_rng(0)
        >>> x = generator.uniform(1, 2, (100, 1))
        >>> y = 1.234 * x[:, 0] + generator.normal(0, 0.1, 100)
        >>> best = kanserve.find_formulas((x, y), max_fits=100).best
        >>> 0.08 < best.uncertainty.sigma < 0.12
        True
        """
        if self.refuted:
            raise DataError("The residuals depend on the inputs: a formula that is refuted has no standard errors.")
        tree = self.formula.tree
        rows, (x, y, weights) = self._finite, self._rows
        errors = None
        if self.loss != "squared":
            errors = np.abs(weight_rows(rows.y[:, 0] - evaluate_tree(tree, {}, x), weights))
        return uncertainty_beside_recognised(tree, x, y, weights, errors)

    def predict(self, x: ArrayLike | DataFrame) -> Array:
        """The values of the formula at rows, or at a table's rows, whose columns go by name.

        Parameters
        ----------
        x : array_like of shape (n_samples, n_inputs) or DataFrame
            Samples in raw units.

        Returns
        -------
        ndarray of shape (n_samples,)
            The values; NaN where the formula is not finite.

        Raises
        ------
        DataError
            The rows have another width, or a column is missing.

        Examples
        --------
        >>> import kanserve, numpy as np
        >>> x = np.random.default_rng(0).uniform(1, 2, (100, 2))
        >>> best = kanserve.find_formulas((x, 3 * x[:, 0] / x[:, 1]), max_fits=1000).best
        >>> best.predict([[1.0, 2.0]]).tolist()
        [1.5]
        """
        return evaluate(self.kan, self._inputs_of(x))[:, 0]

    __call__ = predict

    def interval(self, x: ArrayLike | DataFrame, level: float = 0.95) -> tuple[Array, Array]:
        """The prediction interval for a new measurement at each row.

        Parameters
        ----------
        x : array_like of shape (n_samples, n_inputs) or DataFrame
            Samples in raw units; the columns of a DataFrame go by name.
        level : float, default=0.95
            The probability that the interval holds the measurement.

        Returns
        -------
        (ndarray, ndarray) of shape (n_samples,) each
            The lower and the upper ends.

        Raises
        ------
        DataError
            The rows have another width, or the data do not suffice or refute the formula, as for `uncertainty`.

        Examples
        --------
        >>> import kanserve, numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.uniform(1, 2, (100, 2))
        >>> y = 3 * x[:, 0] / x[:, 1] + rng.normal(0, 0.1, 100)
        >>> low, high = kanserve.find_formulas((x, y), max_fits=1000).best.interval([[1.0, 2.0]])
        >>> bool(low[0] < 1.5 < high[0])
        True
        """
        return self.uncertainty.interval(self._inputs_of(x), level)

    def _inputs_of(self, x: ArrayLike | DataFrame) -> Array:
        x = as_table(x)
        rows: Any = select_columns(x, [variable.name for variable in self.kan.inputs]) if is_frame(x) else x
        return as_rows(self.kan, rows)

    @cached_property
    def _finite(self) -> Dataset:
        """The rows of `data` where the formula is finite."""
        return self.data.take(np.flatnonzero(np.isfinite(evaluate_tree(self.formula.tree, {}, self.data.x))))

    @property
    def _rows(self) -> tuple[Array, Array, Array | None]:
        """Inputs, outputs (or pseudo-values for which least squares gives this formula) and weights."""
        rows = self._finite
        y = rows.y[:, 0]
        if self.loss != "squared":
            y = pseudo_values(self.formula.tree, rows.x, y, self.loss, rows.weights)
        return rows.x, y, rows.weights

    def facts(self) -> dict[str, Any]:
        """What a file holds of the formula, beside its network and its samples.

        Returns
        -------
        dict
            `parts`, `complexity`, `error`, `validation`, `exact`, `defined`, `refuted` and `loss`.

        Examples
        --------
        >>> import kanserve, numpy as np
        >>> x = np.random.default_rng(0).uniform(1, 2, (100, 2))
        >>> best = kanserve.find_formulas((x, 3 * x[:, 0] / x[:, 1]), max_fits=1000).best
        >>> best.facts()["complexity"]
        5.0
        """
        return {"parts": dict(self.parts), **{name: getattr(self, name) for name in _STORED}}

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any], kan: Kan, data: Dataset) -> "ScoredFormula":
        """The formula of what `facts` gave.

        Parameters
        ----------
        facts : mapping
            As `ScoredFormula.facts` gives them.
        kan : Kan
            The network.
        data : Dataset
            The samples that it was fitted to.

        Returns
        -------
        ScoredFormula
            The formula as it was.

        Raises
        ------
        KeyError, TypeError, ValueError
            The facts are incomplete, or of other types.

        Examples
        --------
        >>> import kanserve, numpy as np
        >>> x = np.random.default_rng(0).uniform(1, 2, (100, 2))
        >>> best = kanserve.find_formulas((x, 3 * x[:, 0] / x[:, 1]), max_fits=1000).best
        >>> kanserve.search.ScoredFormula.of_facts(best.facts(), best.kan, best.data).formula.text
        '3*x1/x2'
        """
        parts = {str(name): str(text) for name, text in dict(facts["parts"]).items()}
        known = {name: kind(facts[name]) for name, kind in _STORED.items()}
        if known["loss"] not in get_args(FitLoss):
            raise ValueError(f"loss is {known['loss']!r:.40}")
        return cls(kan=kan, data=data, parts=parts, **known)

    def __str__(self) -> str:
        notes = [f"complexity {self.complexity:g}", f"validation error {self.validation:.3g}"]
        notes += ["exact"] if self.exact else []
        notes += [f"{name} = {text}" for name, text in self.parts.items()]
        notes += ["refuted"] if self.refuted else []
        notes += [f"finite on {self.defined:.1%} of the rows"] if self.defined < 1 else []
        notes += [f"where {', '.join(self.formula.domain)}"] if self.formula.domain else []
        return f"{self.formula.text}   ({', '.join(notes)})"
