"""Evidence for a formula: standard errors of its constants, and the alternatives that a search found.

evidence(formula, x, y)                   # constants with standard errors, from rows
to_json(evidence), from_json(data)        # to save and to load, validated
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import DataError, FormatError, InputError
from kanserve.formula.expressions import storage
from kanserve.formula.expressions.formula import Constant, Formula
from kanserve.formula.expressions.tree import TREE_MAX_STEPS, evaluate_tree

Array = NDArray[np.float64]

MOST_CONSTANTS = 300  # beyond, nobody reads the errors, and their covariance takes long
MOST_ALTERNATIVES = 1000  # formulas that are listed beside the chosen one
MOST_DERIVATIVES = 50_000_000  # constants × rows, 400 MB
LONGEST_CONSTANT = 100  # characters
AGREEMENT = 1e-6  # relative to the outputs: far above rounding, far below the difference of two alternatives


@runtime_checkable
class Candidate(Protocol):
    """A formula that a search found, its complexity, and its errors (RMSE) on training and validation rows."""

    @property
    def formula(self) -> Formula: ...
    @property
    def complexity(self) -> float: ...
    @property
    def error(self) -> float: ...
    @property
    def validation(self) -> float: ...


@runtime_checkable
class Candidates(Protocol):
    """The result of a search."""

    @property
    def candidates(self) -> Sequence[Candidate]: ...


@dataclass(frozen=True)
class Alternative:
    """Another formula for the same output, its complexity, and its RMSE on training and validation rows, or None."""

    formula: Formula
    complexity: float
    rmse: float
    validation_rmse: float | None = None


@dataclass(frozen=True)
class Evidence:
    """The evidence for the formula of one output; empty without data.

    `constants` are in the order of the tree's steps. `sigma` is the standard deviation of the data's errors, and
    `degrees` the number of rows minus the number of estimated constants. `alternatives` are the simplest first.
    """

    constants: tuple[Constant, ...] = ()
    sigma: float | None = None
    degrees: int | None = None
    alternatives: tuple[Alternative, ...] = ()


def evidence(
    formula: Formula,
    x: ArrayLike | None = None,
    y: ArrayLike | None = None,
    candidates: Sequence[Candidate] = (),
    weights: ArrayLike | None = None,
) -> Evidence:
    """The evidence from rows x (N, inputs), y (N,) for a formula that was fitted to them, and its alternatives.

    Nothing is said of the constants if there are no rows, if they are too few or the formula is not finite on one of
    them, if there are splines (whose coefficients are not constants of a formula), or if there are more than
    MOST_CONSTANTS constants or, times the rows, MOST_DERIVATIVES.
    """
    from kanserve.formula.constants.nonlinear_fit import Constants
    from kanserve.formula.constants.recognised_numbers import find_named_constants
    from kanserve.formula.constants.recognition import constants_of  # lazy: a server only reads evidence
    from kanserve.formula.constants.uncertainty import uncertainty

    others = tuple(
        Alternative(
            candidate.formula,
            float(candidate.complexity),
            float(candidate.error),
            _finite_or_none(candidate.validation),
        )
        for candidate in candidates
    )
    if x is None or y is None or not formula.closed_form:
        return Evidence(alternatives=others)
    numbers = Constants(formula.tree)
    if len(numbers.places) > MOST_CONSTANTS or len(numbers.places) * len(np.asarray(y)) > MOST_DERIVATIVES:
        return Evidence(alternatives=others)
    try:
        constants = constants_of(formula.tree, x, y, weights)
        known = [numbers.sources[place] for place in find_named_constants(numbers.tree)]
        found = uncertainty(formula, x, y, known, weights)
    except DataError:
        return Evidence(alternatives=others)
    return Evidence(constants, found.sigma, found.degrees, others)


def list_candidates(candidates: object) -> tuple[Candidate, ...]:
    """The candidates of a search result or a list. Raises InputError for anything else."""
    found = candidates.candidates if isinstance(candidates, Candidates) else candidates
    if not isinstance(found, Sequence) or not all(isinstance(candidate, Candidate) for candidate in found):
        raise InputError(
            f"Candidates are what find_formulas gives, or a list of them; got {type(candidates).__name__}."
        )
    return tuple(found)


def agrees(formula: Formula, x: Array, y: Array) -> bool:
    """Whether a formula equals y (N,) at rows x (N, inputs) wherever both are finite; False if they nowhere are."""
    if any(step[0] == "var" and step[1] >= x.shape[1] for step in formula.tree):
        return False
    with np.errstate(all="ignore"):
        got = evaluate_tree(formula.tree, formula.tables, x)
    both = np.isfinite(got) & np.isfinite(y)
    return bool(both.any()) and bool((np.abs(got - y)[both] <= AGREEMENT * np.abs(y[both]).max()).all())


def to_json(evidence: Evidence) -> dict[str, Any]:
    """The evidence as data for `json.dumps`. The infinite standard error of an undetermined constant becomes null."""
    return {
        "constants": [
            {"value": constant.value, "standard_error": _finite_or_none(constant.standard_error), "text": constant.text}
            for constant in evidence.constants
        ],
        "sigma": evidence.sigma,
        "degrees": evidence.degrees,
        "alternatives": [
            {
                "formula": storage.to_json([alternative.formula]),
                "complexity": alternative.complexity,
                "rmse": alternative.rmse,
                "validation_rmse": alternative.validation_rmse,
            }
            for alternative in evidence.alternatives
        ],
    }


def from_json(data: Any) -> Evidence:
    """Read evidence from parsed JSON. Raises FormatError if it is invalid; unknown entries are ignored."""
    try:
        constants = _list(data["constants"], TREE_MAX_STEPS)
        alternatives = _list(data["alternatives"], MOST_ALTERNATIVES)
        degrees = data["degrees"]
        if degrees is not None and (type(degrees) is not int or not 1 <= degrees < 2**63):
            raise FormatError("Degrees of freedom must be an integer of at least 1.")
        return Evidence(
            tuple(_constant_in(constant) for constant in constants),
            None if data["sigma"] is None else _size(data["sigma"]),
            degrees,
            tuple(_alternative_in(alternative) for alternative in alternatives),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise FormatError(f"This is not evidence for a kanserve formula: {type(error).__name__}.") from None


def _constant_in(entry: Any) -> Constant:
    error, text = entry["standard_error"], entry["text"]
    if not isinstance(text, str) or len(text) > LONGEST_CONSTANT:
        raise FormatError(f"The text of a constant may have at most {LONGEST_CONSTANT} characters.")
    return Constant(_number(entry["value"]), math.inf if error is None else _size(error), text)


def _alternative_in(entry: Any) -> Alternative:
    (formula,) = storage.from_json(entry["formula"])
    validation = entry["validation_rmse"]
    return Alternative(
        formula, _number(entry["complexity"]), _size(entry["rmse"]), None if validation is None else _size(validation)
    )


def _list(entry: Any, most: int) -> list[Any]:
    if not isinstance(entry, list) or len(entry) > most:
        raise FormatError(f"Expected a list of at most {most} entries in the evidence for a formula.")
    return entry


def _number(entry: Any) -> float:
    # float() would silently convert bool and text.
    if type(entry) not in (int, float) or not math.isfinite(entry):
        raise FormatError("Expected a finite number.")
    return float(entry)


def _size(entry: Any) -> float:
    if (value := _number(entry)) < 0:
        raise FormatError("An error must be at least 0.")
    return value


def _finite_or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
